"""The teacher's answers on disk, each with the request that it answers.

AnswerCache       keeps raw answers by the request's key; never loses one, never evicts one
├── Entry         one answer with its request
├── CacheStats    how many, how large, of which models
└── Verified      what a check of every entry found

One SQLite database (``cache.db``, write-ahead log) in the cache's folder. Every answer is one transaction with
``synchronous = FULL``: when `AnswerCache.put` returns, the answer has been fsynced, so neither kill -9 nor a power
cut takes it back. It costs 0.2 ms an answer on an idle SSD and about 4 ms on a busy one; a teacher thinks for seconds.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from diskcache import Cache, Timeout

from edgedistill.errors import CacheDamaged
from edgedistill.teacher.disk import AnswerDisk
from edgedistill.teacher.request import TeacherRequest, is_request, key_of
from edgedistill.teacher.voices import Voice

DATABASE = "cache.db"
Columns: TypeAlias = tuple[object, ...]
"""raw, mode, filename and value of one row of the database."""

_SETTINGS = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "statistics": 0,
    "tag_index": 0,
    "sqlite_journal_mode": "wal",
    "sqlite_synchronous": 2,  # FULL
    "sqlite_mmap_size": 0,  # a damaged file is then an error, not a SIGBUS
    "disk_min_file_size": 2**30,
}
_VOICES = """
WITH answers AS (
    SELECT CAST(value AS TEXT) AS entry, store_time FROM Cache
    WHERE typeof(value) = 'blob' AND json_valid(CAST(value AS TEXT)) AND (:model IS NULL OR tag = :model)
), named AS (
    SELECT json_extract(entry, '$.request.base_url') AS base_url, json_extract(entry, '$.request.model') AS model,
        json_extract(entry, '$.answer.model') AS answered_as,
        json_extract(entry, '$.answer.system_fingerprint') AS fingerprint,
        date(CASE WHEN json_type(entry, '$.answer.created') = 'integer' AND created > 1e9 THEN created
            ELSE store_time END, 'unixepoch') AS day
    FROM (SELECT *, json_extract(entry, '$.answer.created') AS created FROM answers)
)
SELECT CAST(base_url AS TEXT), CAST(model AS TEXT), CAST(answered_as AS TEXT), CAST(fingerprint AS TEXT), COUNT(*),
    MIN(day), MAX(day)
FROM named WHERE base_url IS NOT NULL AND model IS NOT NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 6, 3, 4
"""
_SALVAGE = "Run `edgedistill cache verify --repair`: it keeps what can still be read; what is lost is asked for again."


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer of the cache.

    Attributes:
        key: The key it is kept under.
        request: `TeacherRequest.content` of the request that it answers.
        answer: The whole chat completion.
    """

    key: str
    request: Mapping[str, Any]
    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How much a cache holds.

    Attributes:
        entries: Number of answers.
        bytes: Size of the database's files on disk.
        models: Answers by the model's name.
        addresses: Answers by the endpoint's address.
        voices: Answers by the model that really gave them; damaged entries are in none.
    """

    entries: int
    bytes: int
    models: Mapping[str, int]
    addresses: Mapping[str, int]
    voices: tuple[Voice, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of every entry found.

    Attributes:
        entries: Number of sound entries.
        damaged: Key and fault of every entry that is none.
    """

    entries: int
    damaged: tuple[tuple[str, str], ...]


class AnswerCache:
    """The answers in one folder, shared by any number of processes.

    Args:
        folder: Where the cache lies; made if absent.

    Raises:
        CacheDamaged: The folder cannot be used, or its database is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._named():
            self._cache = Cache(str(folder), disk=AnswerDisk, **_SETTINGS)

    @property
    def file(self) -> Path:
        """The database."""
        return self.folder / DATABASE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this thread's connection; a later call opens another."""
        self._cache.close()

    def get(self, request: TeacherRequest) -> Mapping[str, Any] | None:
        """Return the raw answer to this request, or None where there is none.

        Raises:
            CacheDamaged: The entry is not what was written.
        """
        key = request.key()
        with self._named(key):
            value = self._cache.get(key, retry=True)
            return None if value is None else _entry(key, value, request.content()).answer

    def put(self, request: TeacherRequest, answer: Mapping[str, Any], *, replace: bool = False) -> Mapping[str, Any]:
        """Write an answer to disk and return the one that now counts.

        Where another process was first, its answer stays and is returned, so that all processes agree.

        Args:
            request: What was asked.
            answer: The whole chat completion.
            replace: Write over an answer that is there.

        Raises:
            CacheDamaged: It could not be written, or the entry that is there is not what was written.
        """
        key = request.key()
        with self._named(key):
            value = {"request": request.content(), "answer": dict(answer)}
            if replace:
                self._cache.set(key, value, tag=request.model)
            elif not self._cache.add(key, value, tag=request.model):
                return self.get(request) or answer
        return answer

    def put_all(self, answers: Sequence[tuple[TeacherRequest, Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
        """Write answers to disk in one transaction; return for each the one that now counts, as `put` does.

        Raises:
            CacheDamaged: None of them was written, or an entry that is there is not what was written.
        """
        with self._named():
            with self._cache.transact():
                added = [
                    self._cache.add(
                        request.key(), {"request": request.content(), "answer": dict(answer)}, tag=request.model
                    )
                    for request, answer in answers
                ]
            return [
                answer if new else self.get(request) or answer
                for (request, answer), new in zip(answers, added, strict=True)
            ]

    def keep(self, entries: Sequence[Entry]) -> int:
        """Write entries that are not there yet, in one transaction; return how many were added."""
        with self._named(), self._cache.transact():
            return sum(
                self._cache.add(
                    entry.key,
                    {"request": entry.request, "answer": entry.answer},
                    tag=str(entry.request.get("model")),
                )
                for entry in entries
            )

    def keys(self) -> set[str]:
        """Return the keys of all answers."""
        with self._named(), self._connected() as connection:
            return {str(key) for (key,) in connection.execute("SELECT key FROM Cache")}

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in the order of their keys.

        Raises:
            CacheDamaged: An entry is not what was written.
        """
        for _, key, row in self._rows():
            with self._named(key):
                yield checked(key, row)

    def verify(self, *, drop_damaged: bool = False) -> Verified:
        """Read every entry and recompute its key.

        Args:
            drop_damaged: Delete what is found damaged, so that it is asked for again.

        Raises:
            CacheDamaged: The database itself cannot be read through.
        """
        sound, damaged = 0, []
        for rowid, key, row in self._rows():
            try:
                checked(key, row)
                sound += 1
            except CacheDamaged as error:
                damaged.append((rowid, key, error.what))
        if drop_damaged:
            with self._named(), self._connected() as connection, connection:
                connection.executemany("DELETE FROM Cache WHERE rowid = ?", [(rowid,) for rowid, _, _ in damaged])
        return Verified(sound, tuple((key, fault) for _, key, fault in damaged))

    def stats(self) -> CacheStats:
        """Return how much the cache holds."""
        with self._named(), self._connected() as connection:
            models = dict(connection.execute("SELECT tag, COUNT(*) FROM Cache GROUP BY tag ORDER BY tag"))
        size = sum(file.stat().st_size for file in self.folder.glob(DATABASE + "*"))
        voices = self.voices()
        addresses: Counter[str] = Counter()
        for voice in voices:
            addresses[voice.base_url] += voice.answers
        models = {str(model): count for model, count in models.items()}
        return CacheStats(sum(models.values()), size, models, dict(sorted(addresses.items())), voices)

    def voices(self, model: str | None = None) -> tuple[Voice, ...]:
        """Return who really gave the answers of one model, or of all."""
        with self._named(), self._connected() as connection:
            return tuple(Voice(*row) for row in connection.execute(_VOICES, {"model": model}))

    def _rows(self) -> Iterator[tuple[int, str, Columns]]:
        with self._named(), self._connected() as connection:
            rows = connection.execute("SELECT rowid, key, raw, mode, filename, value FROM Cache ORDER BY key")
            for rowid, key, *columns in rows:
                yield rowid, key if isinstance(key, str) else repr(key), tuple(columns)

    def _connected(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self.file, timeout=60))

    @contextmanager
    def _named(self, key: str | None = None) -> Iterator[None]:
        """Turn what sqlite, diskcache and the file system raise into an error that names file and entry."""
        try:
            yield
        except CacheDamaged as error:
            if error.where:
                raise
            mend = "Run `edgedistill cache verify --repair`: it drops damaged entries, which are then asked for again."
            raise CacheDamaged(f"the entry {key} is damaged: {error.what}", where=str(self.file), mend=mend) from None
        except sqlite3.OperationalError as error:
            mend = "Check that the folder can be written, that the disk is not full and that no other process hangs."
            raise CacheDamaged(f"the cache cannot be used: {error}", where=str(self.file), mend=mend) from error
        except sqlite3.DatabaseError as error:
            raise CacheDamaged(f"the database is damaged ({error})", where=str(self.file), mend=_SALVAGE) from error
        except (OSError, Timeout) as error:
            mend = "Name a folder that can be written, in teacher.cache."
            raise CacheDamaged(f"the cache cannot be used: {error}", where=str(self.folder), mend=mend) from error


def checked(key: str, row: Columns) -> Entry:
    """Return the entry in a row's columns raw, mode, filename and value.

    Raises:
        CacheDamaged: It is not what was written under this key.
    """
    raw, mode, filename, value = row
    disk = AnswerDisk("")
    disk.get(key, raw)
    fetched = disk.fetch(mode, filename, value, False)
    return _entry(key, fetched, None)


def _entry(key: str, value: Mapping[str, Any], content: Mapping[str, Any] | None) -> Entry:
    request, answer = value.get("request"), value.get("answer")
    if not isinstance(request, dict) or not isinstance(answer, dict):
        raise CacheDamaged("it lacks the request or the answer")
    try:
        same = request == content if content is not None else is_request(request) and key_of(request) == key
    except ValueError:
        same = False
    if not same:
        raise CacheDamaged("its request does not have this key")
    return Entry(key, request, answer)
