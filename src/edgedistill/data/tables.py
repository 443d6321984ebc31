"""From table rows to responses, coded or not. Each row is used, set aside with a reason, or an error."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from edgedistill.data.spreadsheet_cells import cells_hint
from edgedistill.data.twins import fold_text, same_group, same_text
from edgedistill.data.types import CodedResponse, Response, SetAside, canonical_code, countable_labels
from edgedistill.errors import DataError
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.task.task import LABEL_SEPARATOR, Task, quote_columns, quote_label, task_inputs
from edgedistill_serve.task.visible_text import is_blank

SPLITS = ("train", "validation", "test")
PURPOSES = ("train", "validation")
"""What rows coded at review may be for."""
_SHOWN = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Columns:
    """The meaning of a file's columns.

    Attributes:
        task: Its inputs are column names; its labels are the values allowed in the column ``label``.
        group_by: The column of groups that no split divides, or None.
        max_characters: Longer responses are set aside.
        coders: Columns of the human file with individual coders' codes.
        subgroups: Columns of the human file that define subgroups.
        question_by: The column that names each row's question, or None.
    """

    task: Task
    group_by: str | None = None
    max_characters: int = 10_000
    coders: tuple[str, ...] = ()
    subgroups: tuple[str, ...] = ()
    question_by: str | None = None


@dataclass(frozen=True, slots=True)
class FileRows(Generic[T]):
    """The rows of a file: ``read == len(rows) + len(set_aside)``."""

    file: str
    read: int
    rows: tuple[T, ...]
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True, slots=True)
class CodedRow:
    """A coded response, and its split where the file has the column ``split``."""

    coded: CodedResponse
    split: str | None


@dataclass
class _RowErrors:
    """Collects the errors of a file's rows and raises them as one."""

    file: str
    errors: list[str] = field(default_factory=list)

    def add(self, row: int, what: str) -> None:
        self.errors.append(f"row {row}: {what}")

    def raise_if_any(self, hint: str) -> None:
        if self.errors:
            more = f"; and {len(self.errors) - _SHOWN} more" if len(self.errors) > _SHOWN else ""
            raise DataError("; ".join(self.errors[:_SHOWN]) + more, where=self.file, hint=hint)


def unusable(response: Response, max_characters: int) -> str:
    """Return the reason to set a response aside unread, or an empty string."""
    for name, text in response.inputs.items():
        if is_blank(text) or not same_text(text):
            return f"blank {name}"
    if len(response.text) > max_characters:
        return f"response longer than {max_characters} characters"
    return ""


def read_coded(file: str, rows: Iterable[TableRow], columns: Columns) -> FileRows[CodedRow]:
    """Read human-coded rows: columns ``id``, the task's inputs, ``label``, and optionally ``split``.

    Raises:
        DataError: A column is missing, an id is empty or a duplicate, a label or split is unknown, or no row is coded.
    """
    table = read_labelled(file, rows, columns)
    reasons = Counter(row.reason for row in table.set_aside)
    why = f" ({'; '.join(f'{count} {reason}' for reason, count in reasons.most_common())})" if reasons else ""
    if len(labels := {row.coded.label for row in table.rows}) < 2:
        raise DataError(
            f"every coded row has the label {labels.pop()!r}" if labels else f"no row is coded{why}",
            where=file,
            hint="A student needs human codes of at least two labels.",
        )
    return table


def read_reviewed(file: str, rows: Iterable[TableRow], columns: Columns) -> FileRows[CodedRow]:
    """Read rows coded at review: columns ``id``, the task's inputs, ``label``, and optionally ``purpose``.

    The purpose is the split of a row: ``train``, also where it is empty or the column is missing, or ``validation``. It
    is never ``test``: test rows are chosen before anything is trained.

    Raises:
        DataError: A column is missing, an id is empty or a duplicate, or a label or a purpose is unknown.
    """
    lines, errors = list(rows), _RowErrors(file)
    table = read_labelled(file, lines, replace(columns, coders=(), subgroups=()))
    purposes = {line.row: line.values.get("purpose", "").strip() or "train" for line in lines}
    for row, purpose in purposes.items():
        if purpose not in PURPOSES:
            errors.add(row, _unknown("purpose", purpose, PURPOSES))
    errors.raise_if_any("Codes of review are train or validation rows.")
    used = tuple(replace(row, split=purposes[row.coded.response.row]) for row in table.rows)
    return FileRows(file, table.read, used, table.set_aside)


def read_labelled(file: str, rows: Iterable[TableRow], columns: Columns) -> FileRows[CodedRow]:
    """Read coded rows as `read_coded` does, also if none is coded, or all have the same label."""
    errors, used, aside = _RowErrors(file), [], []
    places: dict[str, int] = {}
    table = list(rows)
    # The keys of a JSONL file can differ between lines: a column that one row has, every row must have.
    present = {name: None for row in table for name in row.values}
    _check_spelling_of_split(file, present)
    names = [
        "id",
        *columns.task.inputs,
        "label",
        *columns.coders,
        *columns.subgroups,
        *filter(None, [columns.group_by, columns.question_by]),
        *(["split"] if "split" in present else []),
    ]
    for row in table:
        _require(file, row, names, present)
        if is_empty_row(row):
            aside.append(SetAside(file, row.row, "", "empty row"))
            continue
        response = _response(file, row, columns, places, errors)
        split = row.values.get("split")
        uncoded = "" if row.values["label"].strip() else "no human code"
        if reason := unusable(response, columns.max_characters) or uncoded:
            aside.append(SetAside(file, row.row, response.id, reason))
            continue
        label = _code(row, "label", "label", columns.task, errors)
        if split is not None and not split.strip():
            errors.add(row.row, f"the split is missing; use one of {', '.join(SPLITS)}")
        elif split is not None and split not in SPLITS:
            errors.add(row.row, _unknown("split", split, SPLITS))
        codes = {
            coder: _code(row, coder, f"code of {coder}", columns.task, errors)
            for coder in columns.coders
            if row.values[coder].strip()
        }
        subgroups = {name: row.values[name].strip() for name in columns.subgroups}
        used.append(CodedRow(CodedResponse(response, label, codes, subgroups), split))
    separated = f", separated by {LABEL_SEPARATOR!r}" if columns.task.kind == "multilabel" else ""
    coded = (row.values[name] for row in table for name in ("label", *columns.coders)) if errors.errors else ()
    errors.raise_if_any(f"Fix these rows; use the labels of the project file{separated}.{cells_hint(coded)}")
    return FileRows(file, len(table), tuple(used), tuple(aside))


def read_uncoded(file: str, rows: Iterable[TableRow], columns: Columns) -> FileRows[Response]:
    """Read uncoded responses: columns ``id`` and the task's inputs.

    Raises:
        DataError: A column is missing, an id is empty or a duplicate, or the file has no rows.
    """
    errors, used, aside, read = _RowErrors(file), [], [], 0
    places: dict[str, int] = {}
    for row in rows:
        read += 1
        _require(file, row, ("id", *columns.task.inputs, *filter(None, [columns.group_by, columns.question_by])))
        if is_empty_row(row):
            aside.append(SetAside(file, row.row, "", "empty row"))
            continue
        response = _response(file, row, columns, places, errors)
        if reason := unusable(response, columns.max_characters):
            aside.append(SetAside(file, row.row, response.id, reason))
        else:
            used.append(response)
    errors.raise_if_any(f"Give every row a unique id{' and a question' if columns.question_by else ''}.")
    if not read:
        raise DataError("has no rows", where=file)
    return FileRows(file, read, tuple(used), tuple(aside))


def _code(row: TableRow, column: str, what: str, task: Task, errors: _RowErrors) -> str:
    """The code in a column. An invalid one is added to the errors and returned unchanged."""
    text = row.values[column].strip()
    try:
        return canonical_code(text, task)
    except DataError as error:
        named = [part.strip() for part in text.split(LABEL_SEPARATOR)] if task.kind == "multilabel" else [text]
        unknown = next((name for name in named if name and name not in countable_labels(task)), None)
        known = countable_labels(task)
        errors.add(
            row.row, _unknown(what, unknown, known) if unknown else f"the {what} {quote_label(text)}: {error.what}"
        )
        return text


def _require(file: str, row: TableRow, names: Iterable[str], present: Iterable[str] = ()) -> None:
    for name in names:
        if name not in row.values:
            same = [column for column in row.values if fold_text(column) == fold_text(name)]
            near = same or difflib.get_close_matches(name, list(row.values), n=1)
            others = "; other rows have it" if name in present else ""
            raise DataError(
                f"there is no column {name!r}; the columns are {quote_columns(row.values)}{others}",
                where=f"{file}, row {row.row}",
                hint=f"Did you mean {near[0]!r}? Rename it to {name!r}." if near else f"Add the column {name!r}.",
            )


def is_empty_row(row: TableRow) -> bool:
    """Return whether a row has no text at all, such as the rows below a table in a spreadsheet."""
    return not any(text.strip() for text in row.values.values())


def _check_spelling_of_split(file: str, columns: Iterable[str]) -> None:
    """Raise where a column would be taken for the splits by a person, and ignored here: locked rows would train."""
    if other := next((name for name in columns if name != "split" and same_text(name) == "split"), None):
        raise DataError(
            f"the column {other!r} is another spelling of 'split'",
            where=file,
            hint="Rename it to 'split' if it names the splits, or to something else if it does not.",
        )


def _response(file: str, row: TableRow, columns: Columns, places: dict[str, int], errors: _RowErrors) -> Response:
    values: Mapping[str, str] = row.values
    ident = values["id"].strip()
    if not ident:
        errors.add(row.row, "the id is empty")
    elif (earlier := places.setdefault(ident, row.row)) != row.row:
        errors.add(row.row, f"the id {ident!r} is already used in row {earlier}")
    group = (values[columns.group_by].strip() or None) if columns.group_by else None
    question = None
    if (column := columns.question_by) is not None:
        question = values[column].strip()
        if same_group(question) is None:
            errors.add(row.row, f"the question is missing in the column {column!r} (data.question_by)")
    return Response(ident, task_inputs(values, columns.task), file, row.row, group, question)


def _unknown(what: str, found: str, known: Iterable[str]) -> str:
    spellings = {fold_text(name): name for name in known}
    if twin := spellings.get(fold_text(found)):
        return f"the {what} {found!r} is another spelling of {twin!r}"
    near = difflib.get_close_matches(fold_text(found), list(spellings), n=1)
    meant = f"; did you mean {spellings[near[0]]!r}?" if near else f"; use one of {', '.join(spellings.values())}"
    return f"unknown {what} {quote_label(found)}{meant}"
