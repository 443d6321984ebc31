"""Writing of a journal: each process appends to files of its own."""

import calendar
import os
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event, Lock, Thread

import msgspec

from edgedistill_serve.errors import DataError
from edgedistill_serve.journal.records import (
    JOURNAL_VERSION,
    AuditDraw,
    Entry,
    JournalHeader,
    JournalLine,
    ScoredBy,
    ScoreValues,
    Tally,
    clean_id,
    hour_of,
    item_of,
)
from edgedistill_serve.scoring.scorer import Score, Scorer

FLUSH_SECONDS = 60.0
"""Time between two writes; a process that is killed loses the counts of this time."""
FILE_BYTES = 16 * 2**20
"""A file that is larger is followed by another one."""
KEEP_DAYS = 400
_MAX_WAITING = 100_000
_FILE = re.compile(r"(\d{4}-\d{2}-\d{2})-[0-9a-f]{8}-\d{4}\.jsonl")
_DRAIN_SECONDS = 1.0
_BINARY: int = getattr(os, "O_BINARY", 0)
"""On Windows, files opened without it get a carriage return before each line break."""


class Journal:
    """Counts the responses of a server. A thread of its own does all work; a fault of the disk stops no scoring.

    Args:
        folder: The folder of the journal; several processes can share it.
        audit_share: Share of the ids that are recorded, in [0, 1].
        keep_days: Older files of the folder are deleted.
        on_fault: Called with an exception when a write fails, and with None when writing works again.
        clock: Seconds since 1970.
        start: Whether to start the thread; without it, `flush` writes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        audit_share: float = 0.0,
        keep_days: int = KEEP_DAYS,
        on_fault: Callable[[BaseException | None], object] = lambda _: None,
        clock: Callable[[], float] = time.time,
        start: bool = True,
    ) -> None:
        self._folder, self._keep_days, self._on_fault, self._clock = folder, keep_days, on_fault, clock
        self._tally = Tally(AuditDraw.in_folder(folder, audit_share))
        self._waiting: deque[tuple[float, Scorer, Entry, ScoreValues]] = deque()
        self._dropped = 0
        self._file, self._number, self._day = "", 0, ""
        self._name = os.urandom(4).hex()
        self._lock, self._ended = Lock(), Event()
        check_folder(folder)
        self._thread = Thread(target=self._run, name="journal", daemon=True)
        if start:
            self._thread.start()

    @property
    def lost(self) -> int:
        """Number of responses and drawn ids that were not recorded, because too many wait to be written."""
        return self._dropped + self._tally.lost

    def add(self, scorer: Scorer, entry: Entry, score: Score) -> None:
        """Record a response. It takes a microsecond: the rest is done by the thread of the journal."""
        if len(self._waiting) >= _MAX_WAITING:
            self._dropped += 1
            return
        values = (score.label, score.probability, score.reason, score.tokens, score.novelty)
        self._waiting.append((self._clock(), scorer, entry, values))

    def flush(self) -> bool:
        """Write what waits, and return whether that worked."""
        with self._lock:
            self._count()
            lines: list[JournalLine] = list(self._tally.lines())
            if not lines:
                return True
            try:
                self._append(lines)
            except OSError as error:
                self._on_fault(not_written(self._folder, error))
                return False
            self._tally.clear()
            self._on_fault(None)
            return True

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_DRAIN_SECONDS * 5)
        self.flush()

    def _run(self) -> None:
        written = time.monotonic()
        while not self._ended.wait(_DRAIN_SECONDS):
            try:
                with self._lock:
                    self._count()
                if time.monotonic() - written >= FLUSH_SECONDS:
                    written = time.monotonic()
                    self.flush()
            except Exception as error:  # noqa: BLE001  # whatever happens, the journal goes on
                self._on_fault(error)

    def _count(self) -> None:
        for _ in range(len(self._waiting)):
            seconds, scorer, entry, score = self._waiting.popleft()
            manifest = scorer.bundle.manifest
            by = ScoredBy(manifest.name, manifest.version, scorer.precision)
            item = item_of(manifest.task, entry.context, entry.item)
            self._tally.count(hour_of(seconds), by, item, clean_id(entry.id), score)

    def _append(self, lines: list[JournalLine]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        day = hour_of(self._clock())[:10]
        if day != self._day:
            self._day, self._number = day, 0
            delete_old_files(self._folder, day, self._keep_days)
        path = self._path()
        if path.exists() and path.stat().st_size > FILE_BYTES:
            self._number += 1
            path = self._path()
        append_lines(path, lines)

    def _path(self) -> Path:
        return self._folder / f"{self._day}-{self._name}-{self._number:04}.jsonl"


def append_lines(path: Path, lines: list[JournalLine]) -> None:
    """Append lines to a file that no other process writes, all or none, and sync it to disk.

    Raises:
        OSError: They cannot be written; the file is as before, if it can be cut.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        # After a write that failed and could not be cut off, the next line begins on a line of its own.
        torn = b"\n" if before and _last_byte(path) != b"\n" else b""
        header = [] if before else [JournalHeader(JOURNAL_VERSION, written_by())]
        content = torn + b"".join(msgspec.json.encode(line) + b"\n" for line in [*header, *lines])
        try:
            while content:
                content = content[os.write(descriptor, content) :]
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read()


def check_folder(folder: Path) -> None:
    """Make the folder of a journal, and check that it can be written.

    Raises:
        DataError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission to write")
    except OSError as error:
        raise not_written(folder, error) from None


def not_written(folder: Path, error: OSError) -> DataError:
    """Return the error for a journal that cannot be written."""
    return DataError(
        f"the journal cannot be written ({error.strerror})", where=str(folder), hint="Name another folder, or free it."
    )


def delete_old_files(folder: Path, today: str, days: int) -> None:
    """Delete the files that journals wrote more than some days ago; a file that cannot be deleted stays."""
    oldest = hour_of(_seconds(today) - days * 86400)[:10]
    for path in folder.iterdir():
        found = _FILE.fullmatch(path.name)
        if found and found[1] < oldest:
            with suppress(OSError):
                path.unlink()


def _seconds(day: str) -> float:
    return float(calendar.timegm(time.strptime(day, "%Y-%m-%d")))


def written_by() -> str:
    """Return name and version of this program."""
    try:
        return f"edgedistill-serve {version('edgedistill-serve')}"
    except PackageNotFoundError:
        return ""
