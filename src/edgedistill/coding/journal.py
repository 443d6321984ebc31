"""The journal of a coding: every event as one line of JSON, on disk before it counts.

An event is appended, flushed and synced before `Journal.append` returns. A process that is killed leaves whole lines,
and at most a part of the line that it was writing, which no coder saw as saved; the next process removes it. A line
that cannot be written (a full disk) is taken back, so that the journal always ends with a whole line.

Opened        the codebook and the settings with which a coding began or continued
Planned       which coders code which rows
CoderJoined, CoderLeft
Coded         a coder's code of a row; an empty one withdraws it
Drafted       labels of a multilabel row that the coder has not confirmed
Noted, Flagged, Skipped
Memo          a decision about a label, shown to all coders
Revealed      rows whose codes were shown for adjudication; they no longer change
Finalized     the label of a row after adjudication
Written       cells that were written to the table
"""

import datetime as dt
import errno
import os
from pathlib import Path
from typing import TypeAlias

import msgspec

from edgedistill.errors import DataError

_NEW_FILE = 0o600  # notes may name learners
_BINARY = getattr(os, "O_BINARY", 0)
"""On Windows, a file that is opened without it gets a carriage return before each line break."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="event"):
    """An event.

    Attributes:
        by: The coder's name; empty for events of the program.
        n: Its number in the journal, from 1; set by `Journal.append`.
        time: When it was appended (UTC, ISO 8601); set by `Journal.append`.
    """

    by: str
    n: int = 0
    time: str = ""


class Opened(Event, frozen=True, tag="opened"):
    """The codebook and the settings; ``labels`` are definitions by name, ``instructions`` a SHA-256."""

    file: str = ""
    kind: str = ""
    labels: dict[str, str] = {}
    instructions: str = ""
    seed: int = 0
    double_share: float = 0.0


class Planned(Event, frozen=True, tag="planned"):
    """The coders of each row by id, and the SHA-256 of its response (first 16 hexadecimal digits)."""

    rows: dict[str, tuple[str, ...]] = {}
    texts: dict[str, str] = {}


class CoderJoined(Event, frozen=True, tag="coder joined"):
    """``by`` codes from now on."""


class CoderLeft(Event, frozen=True, tag="coder left"):
    """``coder`` gives the rows that they have not coded to the others."""

    coder: str = ""


class Coded(Event, frozen=True, tag="coded"):
    """A code; ``source`` is ``page``, ``undo``, ``file`` (found in the table) or ``recode`` (withdrawn)."""

    id: str = ""
    code: str = ""
    source: str = "page"


class Drafted(Event, frozen=True, tag="drafted"):
    """Labels of a multilabel row that are selected but not confirmed."""

    id: str = ""
    code: str = ""


class Noted(Event, frozen=True, tag="noted"):
    """A coder's note on a row; an empty text removes it."""

    id: str = ""
    text: str = ""

    def __repr__(self) -> str:
        """Without the text, which can quote a response."""
        return f"Noted(by={self.by!r}, id={self.id!r})"


class Flagged(Event, frozen=True, tag="flagged"):
    """A coder wants a row to be discussed, or no longer."""

    id: str = ""
    on: bool = True


class Skipped(Event, frozen=True, tag="skipped"):
    """A coder leaves a row for later."""

    id: str = ""


class Memo(Event, frozen=True, tag="memo"):
    """A decision about a label (empty: about the codebook)."""

    label: str = ""
    text: str = ""

    def __repr__(self) -> str:
        """Without the text, which can quote a response."""
        return f"Memo(by={self.by!r}, label={self.label!r})"


class Revealed(Event, frozen=True, tag="revealed"):
    """Rows whose codes are shown for adjudication."""

    ids: tuple[str, ...] = ()


class Finalized(Event, frozen=True, tag="final"):
    """The label of a row after adjudication; an empty one reopens it. ``source`` is as in `Coded`."""

    id: str = ""
    label: str = ""
    note: str = ""
    source: str = "page"


class Written(Event, frozen=True, tag="written"):
    """Cells written to the table, by column and id, and the copy of the table as it was before."""

    cells: dict[str, dict[str, str]] = {}
    version: str = ""


AnyEvent: TypeAlias = (
    Opened
    | Planned
    | CoderJoined
    | CoderLeft
    | Coded
    | Drafted
    | Noted
    | Flagged
    | Skipped
    | Memo
    | Revealed
    | Finalized
    | Written
)
_DECODER = msgspec.json.Decoder(AnyEvent)
_ENCODER = msgspec.json.Encoder()


class NotSaved(DataError):
    """An event could not be written to the disk; nothing of it counts."""


def read_journal(path: Path) -> tuple[list[AnyEvent], int]:
    """Read a journal.

    Returns:
        The events, and the bytes of their lines; the file may end with a part of another line.

    Raises:
        DataError: A whole line is not an event, or a line is missing.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise DataError(f"the journal cannot be read ({error.strerror})", where=str(path)) from None
    end = data.rfind(b"\n") + 1
    events: list[AnyEvent] = []
    for number, line in enumerate(data[:end].splitlines(), start=1):
        try:
            event = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _damaged(path, number, f"the line is damaged ({error})") from None
        if event.n != number:
            raise _damaged(path, number, f"the line has the number {event.n}")
        events.append(event)
    return events, end


def _damaged(path: Path, number: int, what: str) -> DataError:
    return DataError(
        what,
        where=f"{path}, line {number}",
        hint="The program writes only whole lines, in order: restore the file from a backup.",
    )


class Journal:
    """An open journal, to which one process appends.

    Args:
        path: The file; it is created if it does not exist.

    Attributes:
        path: The file.
        events: The events that it held when it was opened.

    Raises:
        DataError: The file cannot be opened, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events, self._end = read_journal(path)
        self._count = len(self.events)
        self._ends_whole = False
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, _NEW_FILE)
            self._cut()
            _sync_folder(path.parent)
        except OSError as error:
            raise DataError(f"the journal cannot be opened ({error.strerror})", where=str(path)) from None

    def append(self, *events: AnyEvent) -> tuple[AnyEvent, ...]:
        """Append events and return them, with number and time, once they are on the disk.

        Raises:
            NotSaved: They cannot be written, for example because the disk is full; none of them is in the journal.
        """
        time = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        numbered = tuple(
            msgspec.structs.replace(event, n=self._count + place, time=time)
            for place, event in enumerate(events, start=1)
        )
        data = b"".join(_ENCODER.encode(event) + b"\n" for event in numbered)
        try:
            if not self._ends_whole:
                self._cut()
            self._ends_whole = False
            os.lseek(self._file, self._end, os.SEEK_SET)  # Windows has no pwrite
            left = data
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            self._take_back()
            raise NotSaved(
                _reason(error),
                where=str(self.path),
                hint="Free space on the disk, then save again."
                if error.errno in _FULL
                else "Check the disk and the permissions of the folder, then save again.",
            ) from None
        self._ends_whole = True
        self._end += len(data)
        self._count += len(numbered)
        return numbered

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _cut(self) -> None:
        os.ftruncate(self._file, self._end)
        os.fsync(self._file)
        self._ends_whole = True

    def _take_back(self) -> None:
        try:
            self._cut()
        except OSError:  # tried again before the next event
            self._ends_whole = False


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space on the disk, none in the quota of the user, and none in the limit of the process."""


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno in _FULL else error.strerror or str(error)


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new file in it survives a power failure."""
    if os.name != "posix":  # other systems cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
