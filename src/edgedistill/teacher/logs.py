"""Append-only JSON Lines files, and the log of failed requests.

A failure is not an answer: the next run sends the request again. The log shows what the endpoint replied, and makes an
offline run set the same rows aside.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedistill.errors import CacheDamaged
from edgedistill.teacher.parsing import Failure, FailureCause


def append(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Append lines and sync them to disk.

    Raises:
        CacheDamaged: The file cannot be written.
    """
    text = "".join(json.dumps(line) + "\n" for line in lines)
    try:
        with file.open("ab") as out:
            out.write(b"\n" * _has_incomplete_line(file) + text.encode("ascii"))
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise CacheDamaged(
            f"the file cannot be written: {error.strerror}",
            where=str(file),
            hint="Check free space and write permission of the folder in teacher.cache.",
        ) from error


def _has_incomplete_line(file: Path) -> bool:
    try:
        with file.open("rb") as lines:
            lines.seek(-1, os.SEEK_END)
            return lines.read(1) != b"\n"
    except OSError:
        return False


def is_cut_short(line: bytes) -> bool:
    """Whether a line that is not valid JSON is the beginning of one, as a kill or a full disk leaves it.

    Zero bytes, which a power cut leaves in place of what was not synced, hold nothing.
    """
    text = line.strip(b"\0 \t\r\n")
    return not text or (text.startswith(b"{") and not text.endswith(b"}") and text.isascii() and b"\0" not in text)


FAILURES = "failures.jsonl"
_MAX_RAW = 100_000  # characters of the endpoint's reply that are saved


class FailureLog:
    """The failed requests of a cache; the last line of each request counts.

    Args:
        folder: The cache's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FAILURES

    def add(self, *failures: Failure) -> None:
        """Append failures with their keys; they are on disk when this returns.

        Raises:
            CacheDamaged: The file cannot be written.
        """
        append(
            self.file,
            [
                {"key": failure.key, "cause": failure.cause, "code": failure.code, "raw": failure.raw[:_MAX_RAW]}
                for failure in failures
            ],
        )

    def read(self) -> dict[str, Failure]:
        """Return the last failure of each request by its key; incomplete lines are skipped.

        Raises:
            CacheDamaged: The file cannot be read.
        """
        failures: dict[str, Failure] = {}
        try:
            with self.file.open("rb") as lines:
                for line in lines:
                    try:
                        value = json.loads(line)
                        failure = Failure(FailureCause(value["cause"]), value["raw"], value["code"], value["key"])
                        failures[failure.key] = failure
                    except (ValueError, TypeError, KeyError, RecursionError):
                        continue
        except FileNotFoundError:
            return failures
        except OSError as error:
            raise CacheDamaged(
                f"the failure log cannot be read: {error.strerror}",
                where=str(self.file),
                hint="Check its permissions, or remove it: it holds no answers.",
            ) from error
        return failures


def describe_failure(failure: Failure) -> str:
    """Return the endpoint's code, and where its reply can be read."""
    place = f"see {FAILURES} in the cache's folder, key {failure.key[:16]}"
    return "; ".join(filter(None, [failure.code, place]))
