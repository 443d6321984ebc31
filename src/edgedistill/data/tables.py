"""From the rows of a file to responses, coded or not; each row is used, set aside with a reason, or an error."""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from edgedistill.data.types import CodedResponse, Response, SetAside, canonical_code, counted_names
from edgedistill.errors import DataError
from edgedistill_serve.grading.table_reader import Row
from edgedistill_serve.task.task import LABEL_SEPARATOR, Task, inputs_of

SPLITS = ("train", "validation", "test")
_SHOWN = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a file mean what.

    Attributes:
        task: Its inputs are columns of their own names; its labels are what the column ``label`` may hold.
        group_by: The column whose rows stay together, or None.
        max_characters: A response with more is set aside.
        coders: Columns of the human file with the codes of single coders.
        traits: Columns of the human file with what subgroups have in common.
    """

    task: Task
    group_by: str | None = None
    max_characters: int = 10_000
    coders: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What became of a file's rows: ``read == len(rows) + len(set_aside)``."""

    file: str
    read: int
    rows: tuple[T, ...]
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True, slots=True)
class SplitCode:
    """A coded response and the split that the file's own column names, if it has that column."""

    coded: CodedResponse
    split: str | None


@dataclass
class _Problems:
    """Every row of a file that makes it unusable, told in one error."""

    file: str
    found: list[str] = field(default_factory=list)

    def add(self, row: int, what: str) -> None:
        self.found.append(f"row {row}: {what}")

    def settle(self, hint: str) -> None:
        if self.found:
            more = f"; and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
            raise DataError("; ".join(self.found[:_SHOWN]) + more, where=self.file, hint=hint)


def folded(text: str) -> str:
    """A text with case, white space and Unicode composition folded: two texts that fold alike count as one."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def unusable(response: Response, max_characters: int) -> str:
    """Return why a response is set aside before anybody reads it; empty where it is not."""
    for name, text in response.inputs.items():
        if not text.strip():
            return f"blank {name}"
    if len(response.text) > max_characters:
        return f"response longer than {max_characters} characters"
    return ""


def read_coded(file: str, rows: Iterable[Row], columns: Columns) -> Reading[SplitCode]:
    """Read human-coded rows: columns ``id``, the task's inputs, ``label``, and ``split`` where there is one.

    Raises:
        DataError: A column is missing, an id is empty or stands twice, a label or a split is unknown, no row is coded.
    """
    reading = _read_labelled(file, rows, columns)
    if len(labels := {row.coded.label for row in reading.rows}) < 2:
        raise DataError(
            f"every coded row has the label {labels.pop()!r}" if labels else "no row is coded",
            where=file,
            hint="A student needs human codes of at least two labels.",
        )
    return reading


def read_reviewed(file: str, rows: Iterable[Row], columns: Columns) -> Reading[CodedResponse]:
    """Read rows that people coded at review: columns ``id``, the task's inputs and ``label``.

    Raises:
        DataError: A column is missing, an id is empty or stands twice, a label is unknown.
    """
    reading = _read_labelled(file, rows, replace(columns, coders=(), traits=()))
    return Reading(file, reading.read, tuple(row.coded for row in reading.rows), reading.set_aside)


def _read_labelled(file: str, rows: Iterable[Row], columns: Columns) -> Reading[SplitCode]:
    problems, used, aside, read = _Problems(file), [], [], 0
    places: dict[str, int] = {}
    names = ["id", *columns.task.inputs, "label", *columns.coders, *columns.traits, *filter(None, [columns.group_by])]
    for row in rows:
        if not read and "split" in row.values:
            names.append("split")
        read += 1
        _require(file, row, names)
        response = _response(file, row, columns, places, problems)
        split = row.values.get("split")
        uncoded = "" if row.values["label"].strip() else "no human code"
        if reason := unusable(response, columns.max_characters) or uncoded:
            aside.append(SetAside(file, row.row, response.id, reason))
            continue
        label = _code(row, "label", "label", columns.task, problems)
        if split is not None and split not in SPLITS:
            problems.add(row.row, _unknown("split", split, SPLITS))
        codes = {
            coder: _code(row, coder, f"code of {coder}", columns.task, problems)
            for coder in columns.coders
            if row.values[coder].strip()
        }
        traits = {trait: row.values[trait].strip() for trait in columns.traits}
        used.append(SplitCode(CodedResponse(response, label, codes, traits), split))
    between = f", with a {LABEL_SEPARATOR!r} between those of one row" if columns.task.kind == "multilabel" else ""
    problems.settle(f"Fix these rows; labels stand in the project file{between}.")
    return Reading(file, read, tuple(used), tuple(aside))


def read_uncoded(file: str, rows: Iterable[Row], columns: Columns) -> Reading[Response]:
    """Read responses that nobody coded: columns ``id`` and the task's inputs.

    Raises:
        DataError: A column is missing, an id is empty or stands twice, or there is no row.
    """
    problems, used, aside, read = _Problems(file), [], [], 0
    places: dict[str, int] = {}
    for row in rows:
        read += 1
        _require(file, row, ("id", *columns.task.inputs, *filter(None, [columns.group_by])))
        response = _response(file, row, columns, places, problems)
        if reason := unusable(response, columns.max_characters):
            aside.append(SetAside(file, row.row, response.id, reason))
        else:
            used.append(response)
    problems.settle("Give every row an id of its own.")
    if not read:
        raise DataError("holds no rows", where=file)
    return Reading(file, read, tuple(used), tuple(aside))


def _code(row: Row, column: str, what: str, task: Task, problems: _Problems) -> str:
    """The code in a column; a text that is none is noted, and returned as it stands."""
    text = row.values[column].strip()
    try:
        return canonical_code(text, task)
    except DataError as error:
        named = [part.strip() for part in text.split(LABEL_SEPARATOR)] if task.kind == "multilabel" else [text]
        unknown = next((name for name in named if name and name not in counted_names(task)), None)
        told = _unknown(what, unknown, counted_names(task)) if unknown else f"the {what} {text[:60]!r}: {error.what}"
        problems.add(row.row, told)
        return text


def _require(file: str, row: Row, names: Iterable[str]) -> None:
    for name in names:
        if name not in row.values:
            near = difflib.get_close_matches(name, list(row.values), n=1)
            raise DataError(
                f"there is no column {name!r}; its columns are {', '.join(row.values)}",
                where=f"{file}, row {row.row}",
                hint=f"Is {near[0]!r} meant? Rename it to {name!r}." if near else f"Add the column {name!r}.",
            )


def _response(file: str, row: Row, columns: Columns, places: dict[str, int], problems: _Problems) -> Response:
    values: Mapping[str, str] = row.values
    ident = values["id"].strip()
    if not ident:
        problems.add(row.row, "the id is empty")
    elif (earlier := places.setdefault(ident, row.row)) != row.row:
        problems.add(row.row, f"the id {ident!r} stands in row {earlier} already")
    group = (values[columns.group_by].strip() or None) if columns.group_by else None
    return Response(ident, inputs_of(values, columns.task), file, row.row, group)


def _unknown(what: str, found: str, known: Iterable[str]) -> str:
    spellings = {folded(name): name for name in known}
    if twin := spellings.get(folded(found)):
        return f"the {what} {found!r} is another spelling of {twin!r}"
    near = difflib.get_close_matches(folded(found), list(spellings), n=1)
    meant = f"; did you mean {spellings[near[0]]!r}?" if near else f"; known are {', '.join(spellings.values())}"
    return f"unknown {what} {found[:60]!r}{meant}"
