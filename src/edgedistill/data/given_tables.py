"""A table that a person gives to a command, read as it is; what was assumed is in its notes.

read_given_table    the reader of `evaluate --on`, `compare --on`, `estimate`, `monitor` and of coding sheets
rename_columns      rows with the keys of their columns, HTML removed (`remove_html`), labels in one spelling
                    (`fold_labels`): what the reader of a project's files does, too
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgedistill.data.spreadsheet_cells import cells_hint
from edgedistill.errors import DataError
from edgedistill.task import fold_label
from edgedistill_serve.grading.column_names import (
    closest_columns,
    describe_column,
    find_column,
    has_column,
    list_columns,
    matching_columns,
)
from edgedistill_serve.grading.detected_table import DetectedTable, first_rows, read_detected, table_sheets
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows
from edgedistill_serve.grading.sources import Reading
from edgedistill_serve.grading.spreadsheets import describe_choice
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.task.html_text import has_html, html_to_text
from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL, Task, list_some

_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)[.,]0+")
_SEARCHED_ROWS = 10
"""Rows in which the header is looked for, to name it in a message."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How a table is read.

    Attributes:
        columns: By key, such as ``response`` or ``label``, the name of its column as a person gives it; others have
            the name of their key.
        usual_columns: By key, names that its column has in some tables, such as those of a project; the first that is
            there counts, or else the name of the key.
        header: Where the header is in CSV, TSV and xlsx files, and the sheet.
        delimiter: That of CSV and TSV files; None to detect it.
        encoding: That of text files; None to detect it.
        html: Whether texts are HTML, of which what it shows is read.
        fold_labels: Whether labels that differ in case, white space, Unicode composition or typography, and ``1.0``
            and ``1``, are one label.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    usual_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    header: HeaderRows = HEADER_FIRST
    delimiter: str | None = None
    encoding: str | None = None
    html: bool = False
    fold_labels: bool = False

    def of_keys(self, *keys: str) -> "ReadingOptions":
        """Return the options without the columns of other keys."""
        return replace(self, columns={key: name for key, name in self.columns.items() if key in keys})

    def of_another_file(self) -> "ReadingOptions":
        """Return the options for a second table: it may have the same names, and has a header of its own."""
        usual = {**self.usual_columns, **{key: (name,) for key, name in self.columns.items()}}
        header = HeaderRows(sheet_option=self.header.sheet_option)
        return ReadingOptions(usual_columns=usual, header=header, html=self.html, fold_labels=self.fold_labels)


AS_IT_IS = ReadingOptions()
"""All is detected."""


@dataclass(frozen=True, slots=True)
class GivenTable:
    """A table that a person gave.

    Attributes:
        path: The file.
        columns: Its columns.
        named: By key, the column of the file that has it, where that has another name.
        rows: Its rows. Their values have the keys besides the columns of the file.
        notes: What was assumed, a sentence each.
        faults: By column of a spreadsheet, why its cells cannot be used.
    """

    path: Path
    columns: tuple[str, ...]
    named: Mapping[str, str]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]
    faults: Mapping[str, DataError] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def find(self, name: str, option: str) -> str:
        """Return the column that a name stands for, as an option gives it.

        Raises:
            DataError: No column has the name, or several can be meant; the message has the closest names. Or its name
                is that of a key, which another column has.
        """
        found = find_column(name, self.columns, where=self.name, key=option, letters=True)
        if (other := self.named.get(found, found)) != found:
            raise DataError(
                f"{option}: {found!r} stands for the column {other!r} here, and cannot stand for another one",
                where=self.name,
                hint=f"Rename the column {found!r} in the file.",
            )
        if found in self.faults:
            raise self.faults[found]
        return found

    def without_empty_rows(self) -> "GivenTable":
        """Return the table without the rows that have no text at all, as below a table in a spreadsheet, and a note."""
        rows = tuple(row for row in self.rows if any(text.strip() for text in row.values.values()))
        if not (empty := len(self.rows) - len(rows)):
            return self
        if not rows:
            raise DataError("has no rows", where=self.name)
        note = f"{self.name}: {empty} empty {'row is' if empty == 1 else 'rows are'} not read"
        return replace(self, rows=rows, notes=(*self.notes, note))

    def describe(self, key: str) -> str:
        """Return a key's column as messages name it, such as ``D ('Code (AM)')``."""
        return describe_column(self.named.get(key, key), self.columns)


def read_given_table(
    path: Path,
    options: ReadingOptions = AS_IT_IS,
    *,
    needed: Sequence[str] = (),
    optional: Sequence[str] = (),
    texts: Sequence[str] = (),
    codes: Sequence[str] = (),
    coders: Sequence[str] = (),
    task: Task | None = None,
) -> GivenTable:
    """Read a CSV, TSV, JSONL, Parquet or xlsx file.

    Args:
        path: The file.
        options: What a person says about it.
        needed: Keys whose columns it must have.
        optional: Keys whose columns it may have.
        texts: Keys of texts, which may be HTML.
        codes: Keys of labels.
        coders: Other columns of labels, as a person gives their names; those that are not there are ignored.
        task: The labels.

    Raises:
        DataError: The file cannot be read, or has no column of a needed key, or a key is not read here; the message
            has the fix.
    """
    keys = tuple(dict.fromkeys((*needed, *optional)))
    if unknown := next((key for key in options.columns if key not in keys), None):
        raise DataError(
            f"--column {unknown}: this key is not read here", where=path.name, hint=f"The keys are {', '.join(keys)}."
        )
    header, of_sheet = _with_sheet(path, options, needed)
    options = replace(options, header=header)
    given = {key: name for key, name in options.columns.items() if key in keys}
    usual = {key: names for key, names in options.usual_columns.items() if key in keys and key not in given}
    inputs = (*needed, *(key for key in given if key not in needed))
    stated = Reading(inputs, options.delimiter, options.encoding, columns=given, header=options.header)
    columns = {**given, **_names_there(path, stated, usual)}
    reading = replace(stated, columns=columns)
    table: DetectedTable | None = None
    try:
        table = read_detected(path, reading)
        columns = find_columns(table, columns, "--column ", letters=True)
        named = {key: column for key, column in columns.items() if key != column}
        if missing := next((key for key in needed if key not in named and key not in table.columns), None):
            raise _no_column(missing, table, reading.header)
    except DataError as error:
        raise _with_place(error, path, reading, table) from None
    require_distinct(named, table.name, "--column")
    if not table.rows:
        raise DataError("has no rows", where=table.where)
    for key in (*optional, *codes):
        table.check(named.get(key, key))
    rows, notes = rename_columns(table, named)
    rows, of_html = remove_html(table.name, rows, texts, remove=options.html, setting="--html")
    notes += [*of_sheet, *of_html]
    if options.fold_labels and task is not None:
        found = (matching_columns(name, table.columns) for name in coders)
        others = [names[0] for names in found if len(names) == 1]
        rows, of_labels = fold_labels(table.name, rows, [*codes, *others], task)
        notes += of_labels
    return GivenTable(path, table.columns, named, tuple(rows), tuple(notes), table.faults)


def _with_sheet(path: Path, options: ReadingOptions, needed: Sequence[str]) -> tuple[HeaderRows, list[str]]:
    """Return where a table is, and a note if its sheet was chosen: the first one of those with most of the columns."""
    header = options.header
    if header.sheet is not None or not path.is_file() or len(sheets := table_sheets(path)) < 2:
        return header, []
    wanted = {**{key: (key,) for key in needed}, **options.usual_columns}
    wanted |= {key: (name,) for key, name in options.columns.items()}
    number = header.header_row

    def columns_of(sheet: str) -> int:
        rows = first_rows(path, Reading((), header=replace(header, sheet=sheet)), number)
        names = rows[number - 1] if len(rows) >= number else []
        return sum(
            any(matching_columns(each, names, letters=True) for each in (key, *given)) for key, given in wanted.items()
        )

    counts = {sheet: columns_of(sheet) for sheet in sheets}
    best = max(sheets, key=lambda sheet: counts[sheet])  # the first of those with as many
    if best == sheets[0]:  # the note is that of the reader
        return header, []
    others = [sheet for sheet in sheets if sheet != best]
    fitting = [sheet for sheet in sheets if counts[sheet] == counts[best]]
    return replace(header, sheet=best), [describe_choice(path.name, best, others, fitting, header.sheet_option)]


def _no_column(key: str, table: DetectedTable, header: HeaderRows) -> DataError:
    """Return the error about a column that a table does not have, with the likely fix."""
    near = closest_columns(key, table.columns, 1)
    return DataError(
        f"there is no column {key!r}; the columns are {list_columns(table.columns)}",
        where=f"{table.where}, row {header.header_row}",
        hint=f"Did you mean {describe_column(near[0], table.columns)}? --column {key}={near[0].strip()!r}."
        if near
        else f'Say which it is: --column {key}="NAME".',
    )


def _with_place(error: DataError, path: Path, reading: Reading, table: DetectedTable | None) -> DataError:
    """Return an error with the row, or the sheet, where the columns may be instead."""
    sheets = table_sheets(path) if path.is_file() and table else []
    for sheet in sheets if reading.header.sheet is None else [reading.header.sheet]:
        if row := _header_elsewhere(path, replace(reading, header=replace(reading.header, sheet=sheet))):
            option = f" {reading.header.sheet_option} {sheet!r}" if len(sheets) > 1 else ""
            return DataError(
                "the names of the columns are not in this row",
                where=f"{table.where if table else path.name}, row {reading.header.header_row}",
                hint=f"Row {row}{f' of the sheet {sheet!r}' if option else ''} has them: --header-row {row}{option}.",
            )
    if not sheets and (row := _header_elsewhere(path, reading)):
        return DataError(
            "the names of the columns are not in this row",
            where=f"{path.name}, row {reading.header.header_row}",
            hint=f"Row {row} has them: --header-row {row}.",
        )
    if len(sheets) < 2:
        return error
    fix = f"The sheets are {', '.join(map(repr, sheets))}: {reading.header.sheet_option} says which is read."
    return DataError(error.what, where=error.where, hint=f"{error.hint} {fix}" if error.hint else fix)


def _header_elsewhere(path: Path, reading: Reading) -> int | None:
    """Return the first row that has all needed columns, if it is not the row that is read as the header."""
    rows = enumerate(first_rows(path, reading, _SEARCHED_ROWS) if path.is_file() else (), start=1)
    row = next((number for number, cells in rows if _is_header(cells, reading.needed)), None)
    return None if row == reading.header.header_row else row


def _is_header(cells: Sequence[str], needed: Collection[str]) -> bool:
    return all(has_column(name, cells) for name in needed)


def _names_there(path: Path, reading: Reading, usual: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return, by key, the first of its usual names that a table has; a key of which it has none is left out."""
    if not usual:
        return {}
    number = reading.header.header_row
    rows = first_rows(path, reading, number)
    names: Sequence[str] = rows[number - 1] if len(rows) >= number else ()
    if not rows:  # neither CSV, TSV nor xlsx
        names = read_detected(path, reading).columns
    found = {key: [name for name in wanted if matching_columns(name, names)] for key, wanted in usual.items()}
    return {key: there[0] for key, there in found.items() if there}


def find_columns(
    table: DetectedTable, columns: Mapping[str, str], prefix: str, *, letters: bool = False
) -> dict[str, str]:
    """Return the column of each key.

    Args:
        table: The table.
        columns: By key, the name of its column as a person gives it.
        prefix: What stands before a key in messages.
        letters: Whether ``B`` stands for the second column, if no column has this name.

    Raises:
        DataError: No column has the name, or several can be meant.
    """
    return {
        key: find_column(name, table.columns, where=table.where, key=f"{prefix}{key}", letters=letters)
        for key, name in columns.items()
    }


def require_distinct(named: Mapping[str, str], where: str, what: str) -> None:
    """Raise a `DataError` if two keys have one column."""
    of_column: dict[str, str] = {}
    for key, column in named.items():
        if (other := of_column.setdefault(column, key)) != key:
            raise DataError(
                f"{what} maps the column {column!r} twice, to {other} and to {key}",
                where=where,
                hint="Name another column for one of them, or leave one out.",
            )


def rename_columns(table: DetectedTable, named: Mapping[str, str]) -> tuple[list[TableRow], list[str]]:
    """Return the rows with the values of the keys, which take precedence over columns of the same name, and the notes.

    Args:
        table: The table.
        named: By key, its column.
    """
    if not named:
        return list(table.rows), [*table.notes]
    rows = [
        replace(
            row,
            values={**row.values, **{key: row.values[column] for key, column in named.items() if column in row.values}},
        )
        for row in table.rows
    ]
    note = f"{table.name}: {', '.join(f'{key} is the column {column!r}' for key, column in named.items())}"
    return rows, [*table.notes, note]


def remove_html(
    name: str, rows: list[TableRow], texts: Sequence[str], *, remove: bool, setting: str
) -> tuple[list[TableRow], list[str]]:
    """Return rows whose texts are without HTML, if it is to be removed, and a note if there is any.

    Args:
        name: The file, for the note.
        rows: The rows.
        texts: The keys of the texts.
        remove: Whether it is to be removed.
        setting: What removes it, for the note.
    """
    having = [any(has_html(row.values.get(key, "")) for key in texts) for row in rows]
    if not any(having):
        return rows, []
    count = f"{sum(having)} of {len(rows)} rows have HTML, such as <p> or &nbsp;"
    if not remove:
        return rows, [f"{name}: {count}, which is read as text; {setting} reads what it shows"]
    cleaned = [
        replace(
            row, values={**row.values, **{key: html_to_text(row.values[key]) for key in texts if key in row.values}}
        )
        if has
        else row
        for row, has in zip(rows, having, strict=True)
    ]
    return cleaned, [f"{name}: {count}, which was removed"]


def fold_code(text: str) -> str:
    """Return a label as it is compared with others: as `fold_label`, and ``1.0`` is ``1``."""
    folded = fold_label(text)
    number = _WHOLE_NUMBER.fullmatch(folded)
    return number[1] if number else folded


class _Spellings:
    """The labels of a task by their folded forms; two labels that only an exact comparison tells apart have none."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._of_fold: dict[str, str | None] = {}
        for label in (*task.names, *([NO_LABEL] if task.kind == "multilabel" else [])):
            fold = fold_code(label)
            self._of_fold[fold] = None if fold in self._of_fold else label
        self.respelled: Counter[tuple[str, str]] = Counter()

    def fold(self, code: str) -> str:
        """Return a code with the labels of the task; what is none of them is unchanged."""
        parts = code.split(LABEL_SEPARATOR) if self._task.kind == "multilabel" else [code]
        return LABEL_SEPARATOR.join(map(self._fold_one, parts))

    def _fold_one(self, text: str) -> str:
        given = text.strip()
        label = self._of_fold.get(fold_code(given)) if given and given not in self._task.names else None
        if label is None or label == given:
            return text
        self.respelled[given, label] += 1
        return label


def fold_labels(
    name: str, rows: list[TableRow], columns: Sequence[str], task: Task
) -> tuple[list[TableRow], list[str]]:
    """Return rows whose labels are spelled as in the codebook, and a note for every other spelling.

    Args:
        name: The file, for the notes.
        rows: The rows.
        columns: Keys or columns of labels.
        task: The labels.
    """
    spellings = _Spellings(task)
    read = [
        replace(
            row,
            values={**row.values, **{each: spellings.fold(row.values[each]) for each in columns if each in row.values}},
        )
        for row in rows
    ]
    return read, [f"{name}: {line}" for line in _respellings(spellings.respelled)]


def spelling_hint(codes: Iterable[str], task: Task) -> str:
    """Return what to say about codes that are no labels: other spellings, which are errors by default, or dates."""
    spellings, codes = _Spellings(task), list(codes)
    for code in codes:
        spellings.fold(code)
    hint = cells_hint(codes)
    if not spellings.respelled:
        return hint
    (given, label), _ = spellings.respelled.most_common(1)[0]
    return f" --label-spelling folded reads {_spelling(given, label)}.{hint}"


def _respellings(respelled: Counter[tuple[str, str]]) -> Iterator[str]:
    if respelled:
        shown = list_some(f"{_spelling(given, label)} ({count})" for (given, label), count in respelled.most_common())
        yield f"labels in another spelling are read as those of the codebook: {shown}"


def _spelling(given: str, label: str) -> str:
    """Return both spellings of a label, or that they look the same."""
    if unicodedata.normalize("NFC", given) == unicodedata.normalize("NFC", label):
        return f"{label!r} in another Unicode form"
    return f"{given!r} as {label!r}"
