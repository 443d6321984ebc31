"""Claims: which requests of a cache some run is sending now, so that simultaneous runs do not pay for them twice.

A run claims a request's key before it sends the request, and releases it once the answer is on disk. Another run waits
for the answer meanwhile, or goes on with other requests. A claim of a run that was killed counts for nothing: the
system releases the run's lock file when its process ends, however it ends. A claim also ends after a stated time, for
file systems without such locks and for processes that were suspended.

``claims.db`` holds nothing that must last: no write waits for the disk, and the file can be removed when no run uses
it.
"""

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from edgedistill.errors import CacheDamaged

CLAIMS = "claims.db"
_SCHEMA = "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, ends REAL NOT NULL)"


class Claims:
    """The claims of one run; use it in a ``with`` block, whose end releases all of them.

    Args:
        folder: The cache's folder.
        clock: Returns the time in seconds since 1970, which all runs share.

    Raises:
        CacheDamaged: The file cannot be used.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = folder, clock
        with self._translated_errors():
            self._owner, self._lock = self._hold_lock()
            try:
                self._database = self._open()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # damaged, as a power cut may leave it
                if self._other_runs():
                    raise
                for file in folder.glob(CLAIMS + "*"):
                    file.unlink(missing_ok=True)
                self._database = self._open()
            self._forget_ended_runs()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What cannot be released now ends with the lock, and must not hide the error that ends the run.
        with suppress(sqlite3.Error):
            self._database.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))
        with suppress(sqlite3.Error):
            self._database.close()
        with suppress(OSError):
            self._lock.release()
            self._lock_file(self._owner).unlink(missing_ok=True)

    def acquire(self, key: str, seconds: float) -> bool:
        """Claim a key for so many seconds; return False if it is claimed already, by this run or another one.

        Raises:
            CacheDamaged: The file cannot be used.
        """
        now = self._clock()
        with self._transaction() as database:
            row = database.execute("SELECT owner, ends FROM claims WHERE key = ?", (key,)).fetchone()
            if row and row[1] > now and (row[0] == self._owner or self._is_alive(str(row[0]))):
                return False
            database.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (key, self._owner, now + seconds))
        return True

    def extend(self, key: str, seconds: float) -> bool:
        """Let a claim of this run last for so many seconds from now; return False if another run has taken it over.

        Raises:
            CacheDamaged: The file cannot be used.
        """
        with self._translated_errors():
            updated = self._database.execute(
                "UPDATE claims SET ends = ? WHERE key = ? AND owner = ?", (self._clock() + seconds, key, self._owner)
            )
        return updated.rowcount == 1

    def release(self, key: str) -> None:
        """End a claim of this run.

        Raises:
            CacheDamaged: The file cannot be used.
        """
        with self._translated_errors():
            self._database.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._owner))

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._folder / CLAIMS, timeout=60, isolation_level=None)
        try:
            for statement in ("PRAGMA journal_mode = PERSIST", "PRAGMA synchronous = OFF", _SCHEMA):
                database.execute(statement)
            database.execute("SELECT COUNT(*) FROM claims")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _hold_lock(self) -> tuple[str, FileLock]:
        """Lock a new file; another run that looks at it in this moment may lock it for an instant, or remove it."""
        while True:
            owner = secrets.token_hex(8)
            lock = FileLock(self._lock_file(owner))
            lock.acquire(timeout=10)
            if self._lock_file(owner).exists():
                return owner, lock
            lock.release()

    def _forget_ended_runs(self) -> None:
        alive = self._other_runs()
        for file in self._folder.glob("claims-*.lock"):
            owner = file.stem.removeprefix("claims-")
            if owner not in (self._owner, *alive):
                self._database.execute("DELETE FROM claims WHERE owner = ?", (owner,))
                with suppress(OSError):
                    file.unlink(missing_ok=True)

    def _other_runs(self) -> list[str]:
        owners = [file.stem.removeprefix("claims-") for file in self._folder.glob("claims-*.lock")]
        return [owner for owner in owners if owner != self._owner and self._is_alive(owner)]

    def _is_alive(self, owner: str) -> bool:
        """Whether the run still holds its lock."""
        file = self._lock_file(owner)
        if not file.exists():
            return False
        try:
            with FileLock(file, timeout=0):
                return False
        except Timeout:
            return True

    def _lock_file(self, owner: str) -> Path:
        return self._folder / f"claims-{owner}.lock"

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CacheDamaged(
                f"the claims of simultaneous runs cannot be used: {error}",
                where=str(self._folder / CLAIMS),
                hint="Check free space and write permission of the folder; if no other run uses the cache, remove the "
                "file, which holds no answers.",
            ) from error
