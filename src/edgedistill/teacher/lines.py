"""Files of JSON lines that grow: a line is on disk when it is appended, and a line that kill -9 tore harms no other."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedistill.errors import CacheDamaged


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
            mend="Give the folder in teacher.cache room and write permission.",
        ) from error


def _torn(file: Path) -> bool:
    """Whether the last line was never finished."""
    try:
        with file.open("rb") as lines:
            lines.seek(-1, os.SEEK_END)
            return lines.read(1) != b"\n"
    except OSError:
        return False
