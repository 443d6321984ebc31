"""The teacher's answers on disk: requests and their keys, the cache, JSON Lines export and import, repair.

Voice    answers that name the same model and fingerprint

A provider may put another model behind a name at any time; answers from before and after are then not of one teacher.

diskcache 5.6.3 unpickles any row that is marked so (CVE-2025-69872), also under its own JSONDisk; a cache that
somebody else wrote could run code. `AnswerDisk` knows one form and refuses all others, on reading and on writing.

AnswerCache       keeps raw answers by the request's key; never loses one, never evicts one
├── Entry         one answer with its request
├── CacheStats    how many, how large, of which models
└── Verified      what a check of every entry found

One SQLite database (``cache.db``, write-ahead log) in the cache's folder. Every answer is one transaction with
``synchronous = FULL``: when `AnswerCache.put` returns, the answer has been fsynced, so neither kill -9 nor a power
cut takes it back. It costs 0.2 ms an answer on an idle SSD and about 4 ms on a busy one; a teacher thinks for seconds.
"""

import hashlib
import json
import os
import sqlite3
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, Self, TypeAlias

from diskcache import Cache, Timeout
from diskcache.core import MODE_RAW, Disk

from edgedistill.errors import CacheDamaged, DataError

KEY_VERSION = 1
"""Rises when the content of a key changes; answers under an older version are then asked for again."""


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """Everything that the answer depends on, and nothing else.

    Attributes:
        base_url: The endpoint's address, without a slash at its end.
        model: The model's name at that endpoint.
        messages: The chat messages.
        response_format: The wanted form of the answer, or None.
        sampling: Every sampling parameter by its name on the wire: ``temperature``, ``seed`` and the like.
        max_output_tokens: The token limit of the answer.
        vote: Which of the votes on the same messages this is, from 0.
    """

    base_url: str
    model: str
    messages: tuple[Mapping[str, str], ...]
    response_format: Mapping[str, Any] | None
    sampling: Mapping[str, float]
    max_output_tokens: int
    vote: int

    def content(self) -> dict[str, Any]:
        """Return what the key is made from, as JSON values."""
        return {
            "key_version": KEY_VERSION,
            "base_url": self.base_url,
            "model": self.model,
            "messages": [dict(message) for message in self.messages],
            "response_format": self.response_format,
            "sampling": dict(self.sampling),
            "max_output_tokens": self.max_output_tokens,
            "vote": self.vote,
        }

    def key(self) -> str:
        """Return the key: 64 hexadecimal digits."""
        return key_of(self.content())


def is_request(content: Mapping[str, Any]) -> bool:
    """Whether this has what is read of every request's content: messages with text, the vote, address and model."""
    messages = content.get("messages")
    return (
        isinstance(messages, list)
        and len(messages) > 0
        and all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages)
        and isinstance(content.get("vote"), int)
        and all(isinstance(content.get(name), str) for name in ("base_url", "model"))
    )


def key_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content's canonical JSON: sorted names, no white space, ASCII only."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Voice:
    """Answers of a cache that come from the same model as far as the endpoint says.

    Attributes:
        base_url: The endpoint's address.
        model: The model that was asked for.
        answered_as: The model that the answers name; None where they name none.
        fingerprint: Their ``system_fingerprint``; None likewise.
        answers: How many.
        first: The day of the first of them, such as 2025-01-31; the day it was kept where the answer has no date.
        last: The day of the last.
    """

    base_url: str
    model: str
    answered_as: str | None
    fingerprint: str | None
    answers: int
    first: str
    last: str

    @property
    def told(self) -> str:
        """The voice in one line."""
        name = self.answered_as or "no name"
        fingerprint = f", {self.fingerprint}" if self.fingerprint else ""
        days = self.first if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.answers:,} by {name}{fingerprint} ({days})"


def changed(voices: Sequence[Voice]) -> list[str]:
    """Return a line for every model at an address whose answers do not all come from one voice."""
    by_model: defaultdict[tuple[str, str], list[Voice]] = defaultdict(list)
    for voice in voices:
        by_model[voice.base_url, voice.model].append(voice)
    return [
        f"note: the answers of {model} at {base_url} are not all of one model: "
        + "; ".join(voice.told for voice in sorted(heard, key=lambda each: each.first))
        for (base_url, model), heard in by_model.items()
        if len(heard) > 1
    ]


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
            hint = "Run `edgedistill cache verify --repair`: it drops damaged entries, which are then asked for again."
            raise CacheDamaged(f"the entry {key} is damaged: {error.what}", where=str(self.file), hint=hint) from None
        except sqlite3.OperationalError as error:
            hint = "Check that the folder can be written, that the disk is not full and that no other process hangs."
            raise CacheDamaged(f"the cache cannot be used: {error}", where=str(self.file), hint=hint) from error
        except sqlite3.DatabaseError as error:
            raise CacheDamaged(f"the database is damaged ({error})", where=str(self.file), hint=_SALVAGE) from error
        except (OSError, Timeout) as error:
            hint = "Name a folder that can be written, in teacher.cache."
            raise CacheDamaged(f"the cache cannot be used: {error}", where=str(self.folder), hint=hint) from error


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


_TOGETHER = 500  # entries in one transaction


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no entry.

    Attributes:
        line: Its number in the file, from 1.
        fault: What is wrong with it.
    """

    line: int
    fault: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the lines of a file; the three add up to its lines that are not blank.

    Attributes:
        added: Entries that the cache did not have.
        present: Entries whose key it had; they stay as they were.
        bad: Lines that are no entry.
    """

    added: int
    present: int
    bad: tuple[BadLine, ...]


def export_jsonl(cache: AnswerCache, file: Path) -> int:
    """Write every entry to a file, in the order of the keys; return how many.

    Raises:
        CacheDamaged: An entry is not what was written.
        DataError: The file cannot be written.
    """
    aside = file.with_name(file.name + ".part")
    count = 0
    try:
        with aside.open("w", encoding="ascii", newline="\n") as out:
            for entry in cache.entries():
                line = {"key": entry.key, "request": entry.request, "answer": entry.answer}
                out.write(json.dumps(line, separators=(",", ":")) + "\n")
                count += 1
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
    except OSError as error:
        raise DataError(f"the file cannot be written: {error.strerror}", where=str(file)) from error
    return count


def import_jsonl(cache: AnswerCache, file: Path) -> Imported:
    """Add the entries of a file that the cache does not have yet; what it has stays.

    Raises:
        DataError: The file cannot be read.
        CacheDamaged: The cache cannot be written.
    """
    added, seen, bad = 0, 0, []
    lines = _lines(file)
    while batch := list(islice(lines, _TOGETHER)):
        entries = [entry for entry in batch if isinstance(entry, Entry)]
        bad += [line for line in batch if isinstance(line, BadLine)]
        added += cache.keep(entries)
        seen += len(entries)
    return Imported(added, seen - added, tuple(bad))


def _lines(file: Path) -> Iterator[Entry | BadLine]:
    try:
        with file.open("rb") as source:
            for number, line in enumerate(source, 1):
                if line.strip():
                    try:
                        yield _entry_of_line(line)
                    except CacheDamaged as error:
                        yield BadLine(number, error.what)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(file)) from error


def _entry_of_line(line: bytes) -> Entry:
    try:
        value = json.loads(line)
        key, request, answer = value["key"], value["request"], value["answer"]
        recomputed = key_of(request)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CacheDamaged("it is no JSON object with key, request and answer") from None
    if key != recomputed:
        raise CacheDamaged("its key is not that of its request")
    if not isinstance(request, dict) or not is_request(request):
        raise CacheDamaged("its request is none")
    if not isinstance(answer, dict) or not answer.get("choices"):
        raise CacheDamaged("its answer is no chat completion")
    return Entry(key, request, answer)


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
        raise CacheDamaged("there is no cache", where=str(old), hint="Check the folder in teacher.cache.")
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
