"""How an answer lies in the cache's database: JSON bytes in the row itself, and nothing that could be unpickled.

diskcache 5.6.3 unpickles any row that is marked so (CVE-2025-69872), also under its own JSONDisk; a cache that
somebody else wrote could run code. `AnswerDisk` knows one form and refuses all others, on reading and on writing.
"""

import json
import sqlite3
from typing import Any, NoReturn

from diskcache.core import MODE_RAW, Disk

from edgedistill.errors import CacheDamaged


class AnswerDisk(Disk):  # type: ignore[misc]  # diskcache carries no types
    """Keys are strings, values are JSON objects; no files beside the database."""

    def put(self, key: object) -> tuple[str, bool]:
        """Return the database form of a key."""
        if not isinstance(key, str):
            raise CacheDamaged(f"a key is no string but {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return the key of a row; a pickled one is refused."""
        if not raw or not isinstance(key, str):
            raise CacheDamaged("a key is pickled")
        return key

    def store(self, value: object, read: bool, **_: object) -> tuple[int, int, None, memoryview]:
        """Return the columns size, mode, filename, value of a row."""
        if read or not isinstance(value, dict):
            raise CacheDamaged(f"a value is no JSON object but {type(value).__name__}")
        return 0, MODE_RAW, None, sqlite3.Binary(as_bytes(value))

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> dict[str, Any]:
        """Return the value of a row that `store` wrote; any other row is refused."""
        if read or mode != MODE_RAW or filename is not None or not isinstance(value, bytes):
            raise CacheDamaged("it is not in the form in which answers are written (pickled, or in a file)")
        return from_bytes(value)

    def filename(self, *_: object) -> NoReturn:
        """Refuse: values lie in the database, where a commit makes them whole."""
        raise CacheDamaged("a value would be written beside the database")

    def remove(self, file_path: object) -> None:
        """Leave the file alone: none is ours, and a row that names one was not written by us."""


def as_bytes(value: dict[str, Any]) -> bytes:
    """Return the JSON bytes of a value."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def from_bytes(data: bytes) -> dict[str, Any]:
    """Return the value that these bytes hold.

    Raises:
        CacheDamaged: They are no JSON object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise CacheDamaged("it is no JSON") from None
    if not isinstance(value, dict):
        raise CacheDamaged("it is no JSON object")
    return value
