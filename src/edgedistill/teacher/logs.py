"""Append-only files of JSON lines, and the log of requests that gave no label.

A failure is never an answer: it is asked again by the next run. It is kept so that a person can read what was said,
and so that an offline run sets the same rows aside.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedistill.errors import CacheDamaged
from edgedistill.teacher.parsing import Cause, Failure


def append(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Append lines and sync them to disk.

    Raises:
        CacheDamaged: The file cannot be written.
    """
    text = "".join(json.dumps(line) + "\n" for line in lines)
    try:
        with file.open("ab") as out:
            out.write(b"\n" * _torn(file) + text.encode("ascii"))
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise CacheDamaged(
            f"the file cannot be written: {error.strerror}",
            where=str(file),
            hint="Give the folder in teacher.cache room and write permission.",
        ) from error


def _torn(file: Path) -> bool:
    """Whether the last line was never finished."""
    try:
        with file.open("rb") as lines:
            lines.seek(-1, os.SEEK_END)
            return lines.read(1) != b"\n"
    except OSError:
        return False


FAILURES = "failures.jsonl"
_MOST_RAW = 100_000  # characters of an endpoint's text that are kept


class FailureLog:
    """The file of failures in a cache's folder; the last line about a request counts.

    Args:
        folder: The cache's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FAILURES

    def add(self, *failures: Failure) -> None:
        """Append failures that carry their keys; they are on disk when this returns.

        Raises:
            CacheDamaged: The file cannot be written.
        """
        append(
            self.file,
            [
                {"key": failure.key, "cause": failure.cause, "code": failure.code, "raw": failure.raw[:_MOST_RAW]}
                for failure in failures
            ],
        )

    def read(self) -> dict[str, Failure]:
        """Return the last failure of each request; lines that kill -9 tore are passed over."""
        found: dict[str, Failure] = {}
        if not self.file.exists():
            return found
        with self.file.open("rb") as lines:
            for line in lines:
                try:
                    value = json.loads(line)
                    failure = Failure(Cause(value["cause"]), value["raw"], value["code"], value["key"])
                    found[failure.key] = failure
                except (ValueError, TypeError, KeyError):
                    continue
        return found
