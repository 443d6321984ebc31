"""The teacher's answers on disk: requests and their keys, the cache, JSON Lines export and import, repair.

AnswerCache          stores raw answers by the key of their request; never deletes one
├── CacheEntry       one answer with its request
├── CacheStats       number, size and models of the answers
└── VerificationResult   the result of checking every entry
ModelVersion         answers with the same model name and fingerprint

A provider may change the model behind a name at any time; answers from before and after then come from different
models.

One SQLite database (``cache.db``, write-ahead log) is in the cache's folder. Every write is one transaction with
``synchronous = FULL``: when `AnswerCache.put` returns, the answer has been fsynced, so neither kill -9 nor a power cut
loses it. This takes 0.2 ms an answer on an idle SSD and about 4 ms on a busy one; a teacher takes seconds.

diskcache 5.6.3 unpickles any row that is marked as pickled (CVE-2025-69872), even with its own JSONDisk, so a cache
from someone else could run code. `AnswerDisk` allows one format and refuses all others, on reading and on writing.
"""

import dataclasses
import hashlib
import json
import os
import sqlite3
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Self, TypeAlias
from urllib.parse import parse_qs, urlsplit

from diskcache import Cache, Timeout
from diskcache.core import MODE_RAW, Disk

from edgedistill.errors import CacheDamaged, DataError
from edgedistill.teacher.parsing import ended_by_itself
from edgedistill.teacher.strict_json import read_json

KEY_VERSION = 1
"""Increases when the content of keys changes; answers with an older version are then requested again."""


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """Everything that an answer depends on.

    Attributes:
        base_url: The endpoint's address, without a trailing slash.
        model: The model's name at that endpoint.
        messages: The chat messages.
        response_format: The requested format of the answer, or None.
        sampling: The sampling parameters by their API names: ``temperature``, ``seed`` and so on.
        max_output_tokens: The token limit of the answer.
        vote: The number of the vote on the same messages, from 0.
    """

    base_url: str
    model: str
    messages: tuple[Mapping[str, str], ...] = field(repr=False)
    response_format: Mapping[str, Any] | None
    sampling: Mapping[str, float]
    max_output_tokens: int
    vote: int

    def content(self) -> dict[str, Any]:
        """Return the content of the key, as JSON values."""
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
        return compute_key(self.content())


def is_valid_request(content: Mapping[str, Any]) -> bool:
    """Whether a request's content has messages with text, a vote, an address and a model."""
    messages = content.get("messages")
    return (
        isinstance(messages, list)
        and len(messages) > 0
        and all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages)
        and isinstance(content.get("vote"), int)
        and all(isinstance(content.get(name), str) for name in ("base_url", "model"))
    )


def compute_key(content: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of the content's canonical JSON: sorted names, no white space, ASCII only."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """The answers in a cache that name the same model and fingerprint.

    Attributes:
        base_url: The endpoint's address.
        model: The requested model.
        served_model: The model that the answers name, or None.
        fingerprint: Their ``system_fingerprint``, or None.
        answers: Number of answers.
        first: The date of the first one, such as 2025-01-31; the date it was stored if the answer has none.
        last: The date of the last one.
    """

    base_url: str
    model: str
    served_model: str | None
    fingerprint: str | None
    answers: int
    first: str
    last: str

    @property
    def summary(self) -> str:
        """The model version in one line."""
        name = self.served_model or "an unnamed model"
        fingerprint = f", {self.fingerprint}" if self.fingerprint else ""
        days = self.first if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.answers:,} by {name}{fingerprint} ({days})"


def describe_model_changes(versions: Sequence[ModelVersion]) -> list[str]:
    """Return a line for each model at an address whose answers come from several versions."""
    by_model: defaultdict[tuple[str, str], list[ModelVersion]] = defaultdict(list)
    for version in versions:
        by_model[version.base_url, version.model].append(version)
    return [
        f"note: the answers of {model} at {base_url} come from several model versions: "
        + "; ".join(version.summary for version in sorted(group, key=lambda each: each.first))
        for (base_url, model), group in by_model.items()
        if len(group) > 1
    ]


class AnswerDisk(Disk):  # type: ignore[misc]  # diskcache carries no types
    """Stores keys as strings and values as JSON objects, all in the database."""

    def put(self, key: object) -> tuple[str, bool]:
        """Return the database form of a key."""
        if not isinstance(key, str):
            raise CacheDamaged(f"a key is {type(key).__name__}, not a string")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return the key of a row; refuse a pickled one."""
        if not raw or not isinstance(key, str):
            raise CacheDamaged("a key is pickled")
        return key

    def store(self, value: object, read: bool, **_: object) -> tuple[int, int, None, memoryview]:
        """Return the columns size, mode, filename, value of a row."""
        if read or not isinstance(value, dict):
            raise CacheDamaged(f"a value is {type(value).__name__}, not a JSON object")
        return 0, MODE_RAW, None, sqlite3.Binary(encode_value(value))

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> dict[str, Any]:
        """Return the value of a row that `store` wrote; refuse any other row."""
        if read or mode != MODE_RAW or filename is not None or not isinstance(value, bytes):
            raise CacheDamaged("it is not in the format of answers (it is pickled, or in a file)")
        return decode_value(value)

    def filename(self, *_: object) -> NoReturn:
        """Refuse: values are in the database, where commits are atomic."""
        raise CacheDamaged("a value would be written outside the database")

    def remove(self, file_path: object) -> None:
        """Do nothing: this cache writes no files, so a row that names one is not its own."""


def encode_value(value: dict[str, Any]) -> bytes:
    """Return the JSON bytes of a value."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def decode_value(data: bytes) -> dict[str, Any]:
    """Return the value in JSON bytes.

    Raises:
        CacheDamaged: They are not a JSON object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise CacheDamaged("it is not valid JSON") from None
    if not isinstance(value, dict):
        raise CacheDamaged("it is not a JSON object")
    return value


DATABASE = "cache.db"
Row: TypeAlias = tuple[object, ...]
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
_MODEL_VERSIONS = """
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
_LIMITS_QUERY = """
SELECT DISTINCT json_extract(CAST(value AS TEXT), '$.request.max_output_tokens') FROM Cache
WHERE typeof(value) = 'blob' AND json_valid(CAST(value AS TEXT))
"""
_REPAIR_HINT = (
    "Run `edgedistill cache verify PROJECT --repair`: it recovers all readable answers; lost ones are requested again."
)

_SMALLEST_DATABASE = 512  # bytes; SQLite reads less as a new database
_EMPTY_HINT = (
    "Restore it from a backup, or run `edgedistill cache verify PROJECT --repair`: it starts an empty cache, and all "
    "answers are requested again."
)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One answer in the cache.

    Attributes:
        key: The key of the request.
        request: The request's `TeacherRequest.content`.
        answer: The whole chat completion.
    """

    key: str
    request: Mapping[str, Any] = field(repr=False)
    answer: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The content of a cache.

    Attributes:
        entries: Number of answers.
        bytes: Size of the database on disk.
        models: Number of answers by requested model.
        addresses: Number of answers by the endpoint's address.
        model_versions: Answers by the model that the endpoint reported; damaged entries are left out.
    """

    entries: int
    bytes: int
    models: Mapping[str, int]
    addresses: Mapping[str, int]
    model_versions: tuple[ModelVersion, ...]


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The result of checking every entry.

    Attributes:
        entries: Number of intact entries.
        damaged: Key and fault of every damaged entry.
    """

    entries: int
    damaged: tuple[tuple[str, str], ...]


class AnswerCache:
    """The answers in one folder, shared by any number of processes.

    Args:
        folder: The cache's folder; created if it does not exist.

    Raises:
        CacheDamaged: The folder cannot be used, or its database is not valid.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._token_limits: set[int] | None = None
        with self._translated_errors():
            _require_database(folder)
            self._cache = Cache(str(folder), disk=AnswerDisk, **_SETTINGS)

    @property
    def file(self) -> Path:
        """The database file."""
        return self.folder / DATABASE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this thread's connection; later calls open another one."""
        self._cache.close()

    def get(self, request: TeacherRequest) -> Mapping[str, Any] | None:
        """Return the raw answer to this request, or None.

        Raises:
            CacheDamaged: The entry is damaged.
        """
        key = request.key()
        with self._translated_errors(key):
            value = self._cache.get(key, retry=True)
            return None if value is None else _validate_entry(key, value, request.content()).answer

    def find(self, request: TeacherRequest) -> CacheEntry | None:
        """Return the entry that answers this request, or None.

        An answer that ended by itself stands for every larger token limit: with more room the teacher would have
        stopped at the same place. So a limit that was raised because some answers were cut short requests only those
        again. The request's own entry comes first, then the one with the largest lower limit.

        Raises:
            CacheDamaged: The entry is damaged.
        """
        answer = self.get(request)
        if answer is not None:
            return CacheEntry(request.key(), request.content(), answer)
        for limit in sorted(self._lower_limits(request.max_output_tokens), reverse=True):
            shorter = dataclasses.replace(request, max_output_tokens=limit)
            answer = self.get(shorter)
            if answer is not None and ended_by_itself(answer):
                return CacheEntry(shorter.key(), shorter.content(), answer)
        return None

    def _lower_limits(self, limit: int) -> list[int]:
        """Return the token limits below this one that occur in the cache; they are read once."""
        if self._token_limits is None:
            with self._translated_errors(), self._connect() as connection:
                limits = {value for (value,) in connection.execute(_LIMITS_QUERY)}
            self._token_limits = {value for value in limits if isinstance(value, int)}
        return [lower for lower in self._token_limits if lower < limit]

    def _remember_limits(self, contents: Iterable[Mapping[str, Any]]) -> None:
        if self._token_limits is not None:
            limits = (content.get("max_output_tokens") for content in contents)
            self._token_limits.update(limit for limit in limits if isinstance(limit, int))

    def put(self, request: TeacherRequest, answer: Mapping[str, Any], *, replace: bool = False) -> Mapping[str, Any]:
        """Write an answer to disk and return the stored one.

        If another process has stored an answer first, that one is kept and returned, so that all processes agree.

        Args:
            request: The request.
            answer: The whole chat completion.
            replace: Overwrite a stored answer.

        Raises:
            CacheDamaged: It could not be written, or the stored entry is damaged.
        """
        key = request.key()
        self._remember_limits([request.content()])
        with self._translated_errors(key):
            value = {"request": request.content(), "answer": dict(answer)}
            if replace:
                self._cache.set(key, value, tag=request.model)
            elif not self._cache.add(key, value, tag=request.model):
                return self.get(request) or answer
        return answer

    def put_all(self, answers: Sequence[tuple[TeacherRequest, Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
        """Write answers to disk in one transaction; return the stored ones, like `put`.

        Raises:
            CacheDamaged: None of them was written, or a stored entry is damaged.
        """
        self._remember_limits(request.content() for request, _ in answers)
        with self._translated_errors():
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

    def add_entries(self, entries: Sequence[CacheEntry]) -> int:
        """Add the entries whose keys are new, in one transaction; return how many were added."""
        self._remember_limits(entry.request for entry in entries)
        with self._translated_errors(), self._cache.transact():
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
        with self._translated_errors(), self._connect() as connection:
            return {str(key) for (key,) in connection.execute("SELECT key FROM Cache")}

    def entries(self) -> Iterator[CacheEntry]:
        """Yield all entries in the order of their keys.

        Raises:
            CacheDamaged: An entry is damaged.
        """
        for _, key, row in self._rows():
            with self._translated_errors(key):
                yield decode_entry(key, row)

    def verify(self, *, drop_damaged: bool = False) -> VerificationResult:
        """Read every entry and recompute its key.

        Args:
            drop_damaged: Delete damaged entries, so that they are requested again.

        Raises:
            CacheDamaged: The database itself cannot be read.
        """
        intact, damaged = 0, []
        for rowid, key, row in self._rows():
            try:
                decode_entry(key, row)
                intact += 1
            except CacheDamaged as error:
                damaged.append((rowid, key, error.what))
        if drop_damaged:
            with self._translated_errors(), self._connect() as connection, connection:
                connection.executemany("DELETE FROM Cache WHERE rowid = ?", [(rowid,) for rowid, _, _ in damaged])
        return VerificationResult(intact, tuple((key, fault) for _, key, fault in damaged))

    def stats(self) -> CacheStats:
        """Count the answers and their size."""
        with self._translated_errors(), self._connect() as connection:
            models = dict(connection.execute("SELECT tag, COUNT(*) FROM Cache GROUP BY tag ORDER BY tag"))
        size = sum(file.stat().st_size for file in self.folder.glob(DATABASE + "*"))
        versions = self.model_versions()
        addresses: Counter[str] = Counter()
        for version in versions:
            addresses[version.base_url] += version.answers
        models = {str(model): count for model, count in models.items()}
        return CacheStats(sum(models.values()), size, models, dict(sorted(addresses.items())), versions)

    def model_versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """Return the versions that the answers of one requested model, or of all, name."""
        with self._translated_errors(), self._connect() as connection:
            rows = connection.execute(_MODEL_VERSIONS, {"model": model}).fetchall()
        return tuple(ModelVersion(clean_address(base_url), *rest) for base_url, *rest in rows)

    def _rows(self) -> Iterator[tuple[int, str, Row]]:
        with self._translated_errors(), self._connect() as connection:
            rows = connection.execute("SELECT rowid, key, raw, mode, filename, value FROM Cache ORDER BY key")
            for rowid, key, *columns in rows:
                yield rowid, key if isinstance(key, str) else repr(key), tuple(columns)

    def _connect(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self.file, timeout=60))

    @contextmanager
    def _translated_errors(self, key: str | None = None) -> Iterator[None]:
        """Translate errors of SQLite, diskcache and the file system to `CacheDamaged`."""
        try:
            yield
        except CacheDamaged as error:
            if error.where:
                raise
            hint = "Run `edgedistill cache verify PROJECT --repair`: damaged entries are dropped, and requested again."
            raise CacheDamaged(f"the entry {key} is damaged: {error.what}", where=str(self.file), hint=hint) from None
        except sqlite3.OperationalError as error:
            hint = "Check write permission and free space, and that no other process blocks the cache."
            raise CacheDamaged(f"the cache cannot be used: {error}", where=str(self.file), hint=hint) from error
        except sqlite3.DatabaseError as error:
            raise CacheDamaged(f"the database is damaged ({error})", where=str(self.file), hint=_REPAIR_HINT) from error
        except (OSError, Timeout) as error:
            hint = "Set teacher.cache to a folder with write permission."
            raise CacheDamaged(f"the cache cannot be used: {error}", where=str(self.folder), hint=hint) from error


def _require_database(folder: Path) -> None:
    """Create the database if there is none; refuse one that is empty, incomplete, or another program's.

    SQLite takes an empty file for a new database, and a log without its database for nothing: paid answers would be
    lost without a word. A new database therefore gets its name once it is complete.

    Raises:
        CacheDamaged: There is a file, and it is not a cache.
        OSError: The folder cannot be used.
    """
    file = folder / DATABASE
    if not file.exists():
        if (log := folder / f"{DATABASE}-wal").exists() and log.stat().st_size:
            raise CacheDamaged(
                f"the database is missing, but {log.name}, which belongs to it, is there",
                where=str(file),
                hint=f"Restore {DATABASE} from a backup, or remove {log.name} to start an empty cache.",
            )
        _create_database(file)
    if (size := file.stat().st_size) < _SMALLEST_DATABASE:
        raise CacheDamaged(
            f"the file has only {size} bytes, so its answers are lost", where=str(file), hint=_EMPTY_HINT
        )
    _refuse_other_program(file)


def _refuse_other_program(file: Path) -> None:
    with closing(sqlite3.connect(file, timeout=60)) as connection:
        tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not {"Settings", "Cache"} <= tables:
        raise CacheDamaged(
            "the database is not a cache of answers", where=str(file), hint="Set teacher.cache to another folder."
        )


def _create_database(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=file.parent, ignore_cleanup_errors=True) as temporary:
        Cache(temporary, disk=AnswerDisk, **_SETTINGS).close()
        new = Path(temporary) / DATABASE
        try:
            os.link(new, file)  # unlike a rename, this never replaces the database of a simultaneous run
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if not file.exists():
                new.rename(file)


def decode_entry(key: str, row: Row) -> CacheEntry:
    """Return the entry in a row of the database.

    Raises:
        CacheDamaged: It is not the entry that was written with this key.
    """
    raw, mode, filename, value = row
    disk = AnswerDisk("")
    disk.get(key, raw)
    fetched = disk.fetch(mode, filename, value, False)
    return _validate_entry(key, fetched, None)


def _validate_entry(key: str, value: Mapping[str, Any], content: Mapping[str, Any] | None) -> CacheEntry:
    request, answer = value.get("request"), value.get("answer")
    if not isinstance(request, dict) or not isinstance(answer, dict):
        raise CacheDamaged("its request or answer is missing")
    try:
        same = request == content if content is not None else is_valid_request(request) and compute_key(request) == key
    except ValueError:
        same = False
    if not same:
        raise CacheDamaged("its request has another key")
    return CacheEntry(key, request, answer)


_WRITE_SIZE = 500  # entries in one transaction


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A line that is not a valid entry.

    Attributes:
        line: Its number in the file, from 1.
        fault: What is wrong.
    """

    line: int
    fault: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of an import; the three add up to the lines of the file that are not blank.

    Attributes:
        added: Entries with new keys.
        present: Entries whose keys the cache had already; they are unchanged.
        invalid: Lines that are not valid entries.
    """

    added: int
    present: int
    invalid: tuple[InvalidLine, ...]


def export_jsonl(cache: AnswerCache, file: Path) -> int:
    """Write all entries to a file, in the order of their keys; return how many.

    Raises:
        CacheDamaged: An entry is damaged.
        DataError: The file cannot be written.
    """
    count = 0
    try:
        with open_atomically(file) as out:
            for entry in cache.entries():
                request = _without_secrets(entry.request)
                key = entry.key if request is entry.request else compute_key(request)
                line = {"key": key, "request": request, "answer": entry.answer}
                out.write(json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n")
                count += 1
    except OSError as error:
        raise DataError(f"the file cannot be written: {error.strerror}", where=str(file)) from error
    return count


@contextmanager
def open_atomically(file: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that gets the name once it is complete and synced; after an error nothing is left.

    Raises:
        OSError: It cannot be written.
    """
    temporary = file.with_name(file.name + ".part")
    try:
        with temporary.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise


def _without_secrets(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a request whose address has no password and no key."""
    address = clean_address(request["base_url"])
    return request if address == request["base_url"] else {**request, "base_url": address}


def clean_address(base_url: str) -> str:
    """Return an address without user name, password and query, unless that is only a version.

    Project files could hold such addresses once, and the entries of a cache keep them.
    """
    address = urlsplit(base_url)
    if "@" not in address.netloc and set(parse_qs(address.query)) <= {"api-version"}:
        return base_url
    return address._replace(netloc=address.netloc.rpartition("@")[2], query="").geturl()


def import_jsonl(cache: AnswerCache, file: Path) -> ImportResult:
    """Add the entries of a file whose keys are new to the cache.

    Raises:
        DataError: The file cannot be read.
        CacheDamaged: The cache cannot be written.
    """
    added, valid, invalid = 0, 0, []
    lines = _read_lines(file)
    while batch := list(islice(lines, _WRITE_SIZE)):
        entries = [entry for entry in batch if isinstance(entry, CacheEntry)]
        invalid += [line for line in batch if isinstance(line, InvalidLine)]
        added += cache.add_entries(entries)
        valid += len(entries)
    return ImportResult(added, valid - added, tuple(invalid))


def _read_lines(file: Path) -> Iterator[CacheEntry | InvalidLine]:
    try:
        with file.open("rb") as source:
            for number, line in enumerate(source, 1):
                if line.strip():
                    try:
                        yield _parse_line(line)
                    except CacheDamaged as error:
                        yield InvalidLine(number, error.what)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(file)) from error


def _parse_line(line: bytes) -> CacheEntry:
    try:
        value = read_json(line)
        key, request, answer = value["key"], value["request"], value["answer"]
        recomputed = compute_key(request)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CacheDamaged("it is not a JSON object with key, request and answer") from None
    if key != recomputed:
        raise CacheDamaged("its key does not match its request")
    if not isinstance(request, dict) or not is_valid_request(request):
        raise CacheDamaged("its request is not valid")
    if not isinstance(answer, dict) or not answer.get("choices"):
        raise CacheDamaged("its answer is not a chat completion")
    return CacheEntry(key, request, answer)


_MIN_ROW_BYTES = 512  # every row with a request and an answer is larger


@dataclass(frozen=True, slots=True)
class RepairResult:
    """The result of repairing a damaged cache.

    Attributes:
        kept: Number of answers in the new database.
        damaged_file: The old database.
    """

    kept: int
    damaged_file: Path


_NOT_DAMAGE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
}
"""Results of SQLite that say nothing about the content of the file."""


def repair_database(folder: Path) -> RepairResult:
    """Replace a damaged database by a new one with every answer that SQLite can still read.

    The damaged database is kept in the same folder. No other process may use the cache during the repair.

    Raises:
        CacheDamaged: There is no database, it is in use or cannot be written, or the new one cannot be written.
    """
    old = folder / DATABASE
    if not old.is_file():
        raise CacheDamaged("there is no cache", where=str(old), hint="Check the folder in teacher.cache.")
    if old.stat().st_size >= _SMALLEST_DATABASE:
        with suppress(sqlite3.DatabaseError):  # damaged: that is what is repaired
            _refuse_other_program(old)
    _check_writable(old)
    damaged_file = folder / f"{DATABASE}.damaged-{time.time_ns()}"
    try:
        with tempfile.TemporaryDirectory(prefix="repair-", dir=folder, ignore_cleanup_errors=True) as temporary:
            entries, kept = _read_intact_entries(old), 0
            with AnswerCache(Path(temporary)) as new:
                while batch := list(islice(entries, _WRITE_SIZE)):
                    kept += new.add_entries(batch)
            _exchange(old, Path(temporary) / DATABASE, damaged_file)
    except OSError as error:
        hint = "Check free space and write permission; the damaged database is unchanged."
        raise CacheDamaged(f"the database cannot be repaired: {error}", where=str(old), hint=hint) from error
    return RepairResult(kept, damaged_file)


def _exchange(old: Path, new: Path, moved: Path) -> None:
    """Rename a database with its log, and give its name to another; if that fails, undo it."""
    renamed: list[tuple[Path, Path]] = []
    try:
        for suffix in ("-wal", "-shm", ""):
            part, aside = old.with_name(old.name + suffix), moved.with_name(moved.name + suffix)
            if part.exists():
                part.rename(aside)
                renamed.append((part, aside))
        new.rename(old)
    except OSError:
        for part, aside in renamed:
            with suppress(OSError):
                aside.rename(part)
        raise


def _check_writable(file: Path) -> None:
    """Refuse a database that fails for another reason than damage: repairing it would move paid answers aside."""
    with closing(sqlite3.connect(file, timeout=1)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            # The low byte is the primary result code; the others say more about it.
            if error.sqlite_errorcode & 0xFF in _NOT_DAMAGE:
                raise CacheDamaged(
                    f"the database cannot be repaired now ({error})",
                    where=str(file),
                    hint="Stop other processes that use the cache, and check write permission and disk space.",
                ) from None


def _read_intact_entries(file: Path) -> Iterator[CacheEntry]:
    # One query per row: a damaged page then loses only the rows on it.
    query = "SELECT key, raw, mode, filename, value FROM Cache WHERE rowid = ?"
    with closing(sqlite3.connect(file)) as connection, suppress(sqlite3.DatabaseError):
        connection.execute("PRAGMA writable_schema = ON")  # otherwise SQLite does not open a truncated file
        connection.execute("SELECT rowid FROM Cache LIMIT 0")
        for rowid in range(1, _find_last_row(connection, file) + 1):
            try:
                row = connection.execute(query, (rowid,)).fetchone()
                if row:
                    yield decode_entry(str(row[0]), tuple(row[1:]))
            except (sqlite3.DatabaseError, CacheDamaged):
                continue


def _find_last_row(connection: sqlite3.Connection, file: Path) -> int:
    try:
        return int(connection.execute("SELECT MAX(rowid) FROM Cache").fetchone()[0] or 0)
    except sqlite3.DatabaseError:
        return file.stat().st_size // _MIN_ROW_BYTES
