"""The coding sheet: responses that a person should code leave as a table, and come back with codes.

A sheet has the columns id, the one that ``group_by`` names, the task's inputs, with suggestions what the student says,
and an empty `human_code`. Spreadsheets run a cell that begins with ``=``, so texts that begin as a formula does get an
apostrophe before them, which is taken away again when the sheet comes back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgedistill.errors import DataError
from edgedistill.records.codes import canonical_code
from edgedistill.records.coding import folded
from edgedistill.records.types import Response
from edgedistill_serve.score import Score
from edgedistill_serve.tables import Row
from edgedistill_serve.task import Task

CODE = "human_code"
SUGGESTIONS = ("suggested_label", "probability", "reason")

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True, slots=True)
class HumanCode:
    """A code that a person gave at review."""

    response: Response
    label: str


@dataclass(frozen=True, slots=True)
class SheetFault:
    """A row of a sheet that cannot be merged, and why."""

    row: int
    id: str
    fault: str


@dataclass(frozen=True, slots=True)
class Merging:
    """What a sheet brings: every row of it is in one of the four.

    Attributes:
        codes: New codes.
        known: Ids that were merged before with the same code.
        uncoded: Ids whose code is missing.
        faults: Rows that cannot be merged.
    """

    codes: tuple[HumanCode, ...]
    known: tuple[str, ...]
    uncoded: tuple[str, ...]
    faults: tuple[SheetFault, ...]


def sheet(
    rows: Sequence[tuple[Response, Score]], task: Task, *, group_by: str | None = None, suggestions: bool = False
) -> list[list[str]]:
    """Return the lines of a coding sheet, the header first, rows in the order given.

    Args:
        rows: What is to be coded, with what the student says of it.
        task: Names the inputs.
        group_by: The column that groups stand in, or none.
        suggestions: Whether the student's label, its probability and the reason for review are shown. People who see
            a suggestion lean towards it, so that their codes say less about the student.
    """
    groups = [group_by] if group_by else []
    lines = [["id", *groups, *task.inputs, *(SUGGESTIONS if suggestions else ()), CODE]]
    for response, score in rows:
        said = (score.label, f"{score.probability:.3f}", score.reason or "") if suggestions else ()
        texts = [response.id, *([response.group or ""] if group_by else []), *response.inputs.values(), *said]
        lines.append([*map(_guarded, texts), ""])
    return lines


def read_sheet(
    name: str,
    rows: Iterable[Row],
    known: Mapping[str, Response],
    coded: Mapping[str, str],
    task: Task,
) -> Merging:
    """Read the codes of a sheet that came back.

    Args:
        name: Of the file, for messages.
        rows: Its rows.
        known: By id the responses that could be on a sheet.
        coded: By id the human codes that there are already.
        task: Its labels are the only codes allowed.

    Raises:
        DataError: The sheet has no rows, or lacks the column ``id`` or ``human_code``.
    """
    codes: list[HumanCode] = []
    before: list[str] = []
    uncoded: list[str] = []
    faults: list[SheetFault] = []
    places: dict[str, int] = {}
    for row in rows:
        _require(name, row)
        ident, label = _plain(row.values["id"].strip()), _plain(row.values[CODE].strip())
        first = places.setdefault(ident, row.row)
        if fault := f"the id stands in row {first} already" if first != row.row else _fault(row, ident, known, coded):
            faults.append(SheetFault(row.row, ident, fault))
        elif not label:
            uncoded.append(ident)
        elif told := _no_code(label, task):
            faults.append(SheetFault(row.row, ident, told))
        elif ident not in coded:
            codes.append(HumanCode(known[ident], canonical_code(label, task)))
        elif coded[ident] == canonical_code(label, task):
            before.append(ident)
        else:
            told = f"the human code {coded[ident]!r} is there already, and the sheet says {label!r}"
            faults.append(SheetFault(row.row, ident, told))
    if not places:
        raise DataError("holds no rows", where=name)
    return Merging(tuple(codes), tuple(before), tuple(uncoded), tuple(faults))


def _fault(row: Row, ident: str, known: Mapping[str, Response], coded: Mapping[str, str]) -> str:
    if ident not in known:
        there = "it is coded in the human file" if ident in coded else "no response that can be reviewed has it"
        return f"unknown id: {there}" if ident else "the id is empty"
    for name, text in known[ident].inputs.items():
        if name in row.values and folded(_plain(row.values[name])) != folded(text):
            return f"the {name} is not the one that this id has"
    return ""


def _no_code(label: str, task: Task) -> str:
    """Why a text is no code of the task; empty where it is one."""
    try:
        canonical_code(label, task)
    except DataError as error:
        if task.kind == "multilabel":
            return f"{label[:60]!r} is no code: {error.what}; labels are {', '.join(task.names)}"
        return f"unknown label {label[:60]!r}; labels are {', '.join(task.names)}"
    return ""


def _require(name: str, row: Row) -> None:
    for column in ("id", CODE):
        if column not in row.values:
            raise DataError(
                f"there is no column {column!r}; its columns are {', '.join(row.values)}",
                where=f"{name}, row {row.row}",
                mend="`edgedistill review sheet` writes a sheet; code it without changing its columns.",
            )


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
