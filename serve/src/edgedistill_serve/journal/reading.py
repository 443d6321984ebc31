"""Reading of journals: every line is counted, and damaged ones are set aside."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgedistill_serve.bundle.response_counts import ResponseCounts
from edgedistill_serve.errors import DataError
from edgedistill_serve.journal.records import (
    HOUR_FORMAT,
    JOURNAL_VERSION,
    AuditedResponse,
    JournalHeader,
    JournalLine,
    ScoredCell,
)

_LONGEST_LINE = 16 * 2**20
_HOUR = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}", re.ASCII)
_HEADER = b'{"type":"journal"'
_DECODER = msgspec.json.Decoder(JournalLine)


class _AnyHeader(msgspec.Struct, tag="journal", tag_field="type"):
    journal_version: int


@dataclass(slots=True)
class JournalContent:
    """What journals say of one model version.

    Attributes:
        cells: Counts by period and item.
        audited: The drawn responses by id, each as it was scored last.
        with_id: Number of responses with an id.
        precisions: Number of responses by graph in use.
        other_versions: Number of responses by other model and version, as ``NAME@VERSION``.
        files: Number of files.
        lines: Number of lines.
        torn: Number of last lines that were not written completely.
        damaged: File and number of other lines that cannot be read.
        backwards: Number of times that the clock went backwards within a file.
    """

    cells: dict[tuple[str, str], ResponseCounts] = field(default_factory=dict)
    audited: dict[str, AuditedResponse] = field(default_factory=dict)
    with_id: int = 0
    precisions: dict[str, int] = field(default_factory=dict)
    other_versions: dict[str, int] = field(default_factory=dict)
    files: int = 0
    lines: int = 0
    torn: int = 0
    damaged: list[tuple[str, int]] = field(default_factory=list)
    backwards: int = 0

    @property
    def rows(self) -> int:
        """Number of responses of this model version."""
        return sum(counts.rows for counts in self.cells.values())


def journal_files(paths: Sequence[Path | str]) -> list[Path]:
    """Return the files of journals: each path is a file, or a folder of ``*.jsonl`` files.

    Raises:
        DataError: A path does not exist.
    """
    files: dict[Path, None] = {}
    for each in map(Path, paths):
        if each.is_dir():
            files |= dict.fromkeys(sorted(path.resolve() for path in each.glob("*.jsonl")))
        elif each.is_file():
            files[each.resolve()] = None
        else:
            raise DataError("the journal does not exist", where=str(each), hint="Name a file, or the folder.")
    return list(files)


def read_journal(
    paths: Sequence[Path | str], model: str, version: str, *, period: Callable[[str], str] = lambda hour: hour
) -> JournalContent:
    """Read what journals say of a model version.

    Args:
        paths: Files and folders; a file that is named twice is read once.
        model: Name of the model.
        version: Its version.
        period: Returns the period of an hour; the counts of its hours are added, so that they need little memory.

    Raises:
        DataError: A path does not exist or cannot be read, or a file is no journal, or one of a newer version.
    """
    found = JournalContent()
    for path in journal_files(paths):
        try:
            with path.open("rb") as file:
                _read_file(path, file, found, (model, version), period)
        except OSError as error:
            raise DataError(f"the journal cannot be read ({error.strerror})", where=str(path)) from None
        found.files += 1
    return found


def _read_file(
    path: Path,
    file: Iterable[bytes],
    found: JournalContent,
    model: tuple[str, str],
    period: Callable[[str], str],
) -> None:
    latest = ""
    for number, (content, is_whole) in enumerate(_lines(file), start=1):
        found.lines += 1
        line = _decoded(content, path) if is_whole else None
        if number == 1 and not isinstance(line, JournalHeader) and (is_whole or not content.startswith(_HEADER)):
            raise _no_journal(path)
        if line is None:
            if is_whole:
                found.damaged.append((path.name, number))
            else:
                found.torn += 1
        elif not isinstance(line, JournalHeader):
            if line.hour < latest:
                found.backwards += 1
            latest = line.hour
            _count(line, found, model, period)


def _lines(file: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for line in file:
        if line.strip():
            yield line, line.endswith(b"\n") and len(line) <= _LONGEST_LINE


def _decoded(content: bytes, path: Path) -> JournalLine | None:
    try:
        line = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        line = None
        try:
            header = msgspec.json.decode(content, type=_AnyHeader)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        _check_version(header.journal_version, path)
    if isinstance(line, JournalHeader):
        _check_version(line.journal_version, path)
    if isinstance(line, ScoredCell) and line.counts.fault() is not None:
        return None
    if isinstance(line, AuditedResponse) and not 0 < line.inclusion_probability <= 1:
        return None
    return None if isinstance(line, (ScoredCell, AuditedResponse)) and not is_hour(line.hour) else line


def is_hour(text: str) -> bool:
    """Return whether a text is an hour as in ``2026-11-30T11``."""
    if not _HOUR.fullmatch(text):
        return False
    try:
        time.strptime(text, HOUR_FORMAT)
    except ValueError:
        return False
    return True


def _check_version(found: int, path: Path) -> None:
    if found != JOURNAL_VERSION:
        raise DataError(
            f"the journal has version {found}, this program reads version {JOURNAL_VERSION}",
            where=str(path),
            hint="Install the edgedistill version of the server that wrote it.",
        )


def _no_journal(path: Path) -> DataError:
    return DataError(
        "the file is not a journal: its first line is not a journal header",
        where=str(path),
        hint="Name the folder of `serve --journal` or `grade --journal`.",
    )


def _count(
    line: ScoredCell | AuditedResponse, found: JournalContent, model: tuple[str, str], period: Callable[[str], str]
) -> None:
    if (line.model, line.version) != model:
        if isinstance(line, ScoredCell):
            other = f"{line.model}@{line.version}"
            found.other_versions[other] = found.other_versions.get(other, 0) + line.counts.rows
        return
    if isinstance(line, AuditedResponse):
        earlier = found.audited.get(line.id)
        if earlier is None or earlier.hour <= line.hour:
            found.audited[line.id] = line
        return
    found.cells.setdefault((period(line.hour), line.item), ResponseCounts()).add(line.counts)
    found.with_id += line.with_id
    found.precisions[line.precision] = found.precisions.get(line.precision, 0) + line.counts.rows
