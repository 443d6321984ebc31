"""What SQLite can still read of a damaged cache, row by row, written into a fresh one; the rest is asked for again."""

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgedistill.errors import CacheDamaged
from edgedistill.teacher.cache import DATABASE, AnswerCache, Entry, checked

_TOGETHER = 500  # entries in one transaction
_LEAST_ROW = 512  # bytes; no row that holds a request and an answer is smaller


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of a damaged cache.

    Attributes:
        kept: Number of answers in the fresh database.
        damaged_file: Where the old database was put.
    """

    kept: int
    damaged_file: Path


def salvage(folder: Path) -> Salvaged:
    """Replace a damaged database by a fresh one that has every answer SQLite can still read.

    The damaged database is kept beside it. No other process may use the cache meanwhile.

    Raises:
        CacheDamaged: There is no database, or the fresh one cannot be written.
    """
    old = folder / DATABASE
    if not old.is_file():
        raise CacheDamaged("there is no cache", where=str(old), mend="Check the folder in teacher.cache.")
    with tempfile.TemporaryDirectory(prefix="salvage-", dir=folder) as aside:
        readable, kept = _readable(old), 0
        with AnswerCache(Path(aside)) as fresh:
            while batch := list(islice(readable, _TOGETHER)):
                kept += fresh.keep(batch)
        damaged_file = folder / f"{DATABASE}.damaged-{time.time_ns()}"
        for suffix in ("-wal", "-shm", ""):
            if (part := folder / (DATABASE + suffix)).exists():
                part.rename(damaged_file.with_name(damaged_file.name + suffix))
        (Path(aside) / DATABASE).rename(old)
    return Salvaged(kept, damaged_file)


def _readable(file: Path) -> Iterator[Entry]:
    # One look-up per row: a damaged page then costs the rows that lie on it, and no others.
    query = "SELECT key, raw, mode, filename, value FROM Cache WHERE rowid = ?"
    with closing(sqlite3.connect(file)) as connection, suppress(sqlite3.DatabaseError):
        connection.execute("PRAGMA writable_schema = ON")  # else SQLite opens no file that lost its last pages
        connection.execute("SELECT rowid FROM Cache LIMIT 0")
        for rowid in range(1, _last_row(connection, file) + 1):
            try:
                found = connection.execute(query, (rowid,)).fetchone()
                if found:
                    yield checked(str(found[0]), tuple(found[1:]))
            except (sqlite3.DatabaseError, CacheDamaged):
                continue


def _last_row(connection: sqlite3.Connection, file: Path) -> int:
    try:
        return int(connection.execute("SELECT MAX(rowid) FROM Cache").fetchone()[0] or 0)
    except sqlite3.DatabaseError:
        return file.stat().st_size // _LEAST_ROW
