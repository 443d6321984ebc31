"""Rows of xlsx files: of their first sheet.

Needs the optional dependency openpyxl. Cells have the values that the spreadsheet showed last, not formulas; a formula
that no program has computed, and merged cells, are errors in the columns that are needed, and notes elsewhere.
"""

import datetime as dt
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.column_names import column_letters, has_column, matching_columns
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows, read_header
from edgedistill_serve.grading.text_rows import TableRow, value_text

_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_CHUNK = 2**20
_FORMULA = re.compile(
    rb"<(?:\w+:)?c\b([^>]*)>\s*<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)\s*(<(?:\w+:)?v>[^<])?"
)
_MERGED = re.compile(rb"""<(?:\w+:)?mergeCell\b[^>]*\bref\s*=\s*["']([A-Z]+)(\d+):([A-Z]+)(\d+)["']""")
_REFERENCE = re.compile(rb"""\br\s*=\s*["']([A-Z]+)(\d+)["']""")
_TEXT_RESULT = re.compile(rb"""\bt\s*=\s*["']str["']""")
_SHOWN = 5
_MOST_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class _Range:
    """Merged cells: places of columns from 0, numbers of rows from 1."""

    left: int
    top: int
    right: int
    bottom: int

    def __str__(self) -> str:
        return f"{column_letters(self.left)}{self.top}:{column_letters(self.right)}{self.bottom}"


@dataclass(slots=True)
class SheetFacts:
    """What a sheet has beside values."""

    merged: list[_Range] = field(default_factory=list)
    formulas: int = 0
    not_computed: list[tuple[int, int]] = field(default_factory=list)


class Sheet:
    """The first sheet of a workbook.

    Args:
        file: The xlsx file.
        name: Its name, for messages.
        inputs: Columns that are needed: their cells are texts, also if they look like numbers, and an empty one is an
            empty text.
        rows: Where the header is.

    Attributes:
        header: The names of the columns.
        question_texts: By column, the texts of Qualtrics' second header row; empty for other sheets.
        notes: What was assumed, such as that the last results of formulas are read.

    Raises:
        DataError: The file is not a workbook or has a password, there is no header, a needed column has merged cells or
            formulas without a result, or openpyxl is not installed.
    """

    def __init__(self, file: BinaryIO, name: str, inputs: Collection[str], rows: HeaderRows = HEADER_FIRST) -> None:
        self._name = name
        workbook = _open_workbook(file, name)
        try:
            sheet = workbook.worksheets[0]
            facts = read_facts(file, sheet._worksheet_path)
            cells = sheet.iter_rows(values_only=True)
        except Exception as error:  # noqa: BLE001  # a damaged file can raise any
            raise DataError(f"the file is not a valid workbook ({type(error).__name__})", where=name) from None
        found = read_header(enumerate(self._read(cells), start=1), rows, name, _texts, inputs)
        self.header, self.question_texts, self._records = found.names, found.texts, found.records
        self._inputs = [matching_columns(each, self.header)[0] for each in inputs if has_column(each, self.header)]
        others = [each.title for each in workbook.worksheets[1:]]
        sheets = f"{name}: the sheet {sheet.title!r} is read, not {', '.join(map(repr, others[:_SHOWN]))}"
        self.notes = (
            *found.notes,
            *([sheets] if others else []),
            *self._check_merged(facts.merged, rows, [each for each in inputs if not has_column(each, self.header)]),
            *self._check_formulas(facts, rows),
        )

    def rows(self) -> Iterator[TableRow]:
        """Yield the rows with a value."""
        for number, cells in self._records:
            if any(value is not None for value in cells):
                raw = dict(zip(self.header, [*cells, *([None] * len(self.header))], strict=False))
                values = {name: cell_text(value) for name, value in raw.items()}
                yield TableRow(number, values, {**raw, **{name: values[name] for name in self._inputs}})

    def _read(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        try:
            yield from rows
        except Exception as error:  # noqa: BLE001
            raise DataError(f"the file cannot be read further ({type(error).__name__})", where=self._name) from None

    def _check_merged(self, merged: Sequence[_Range], rows: HeaderRows, missing: Sequence[str]) -> Iterator[str]:
        in_header = [each for each in merged if each.top <= rows.header_row <= each.bottom and each.right > each.left]
        if in_header and missing:
            raise DataError(
                f"row {rows.header_row} has merged cells ({_listed(in_header)}), and no column {missing[0]!r}",
                where=self._name,
                hint=f"If the names of the columns are in row {rows.header_row + 1}, say so: header_row: "
                f"{rows.header_row + 1} in the section data, or --header-row {rows.header_row + 1}.",
            )
        body = [each for each in merged if each.bottom > rows.header_row]
        needed = {self.header.index(name) for name in self._inputs}
        wrong = [
            each
            for each in body
            for place in needed
            if each.left <= place <= each.right and (each.bottom > each.top or place > each.left)
        ]
        if wrong:
            raise DataError(
                f"the cells {_listed(wrong)} are merged, so that only the first of them has a value",
                where=self._name,
                hint="Unmerge them in the spreadsheet, and fill in every row.",
            )
        if body:
            yield f"{self._name}: the cells {_listed(body)} are merged; only the first of them has a value"

    def _check_formulas(self, facts: SheetFacts, rows: HeaderRows) -> Iterator[str]:
        body = [(column, row) for column, row in facts.not_computed if row >= rows.header_row]
        needed = {self.header.index(name) for name in self._inputs}
        if wrong := [f"{column_letters(column)}{row}" for column, row in body if column in needed]:
            raise DataError(
                f"the cells {_listed(wrong)} are formulas that no program has computed",
                where=self._name,
                hint="Open the file in a spreadsheet program, and save it; or replace the formulas by their values.",
            )
        if facts.formulas:
            computed = facts.formulas - len(facts.not_computed)
            rest = f"; {len(facts.not_computed)} were never computed and are empty" if facts.not_computed else ""
            yield f"{self._name}: {facts.formulas} cells are formulas; the last results of {computed} are read{rest}"


def _open_workbook(file: BinaryIO, name: str) -> Any:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise DataError(
            "xlsx files require openpyxl", where=name, hint='Install it: pip install "edgedistill-serve[xlsx]".'
        ) from None
    _refuse_other_formats(file, name)
    try:
        return load_workbook(file, read_only=True, data_only=True, keep_links=False)
    except Exception as error:  # noqa: BLE001  # a damaged file can raise any
        raise DataError(f"the file is not a valid workbook ({type(error).__name__})", where=name) from None


def first_cells(file: BinaryIO, name: str, count: int) -> list[list[str]]:
    """Return the first rows of the first sheet as texts, header rows included.

    Raises:
        DataError: As `Sheet`.
    """
    workbook = _open_workbook(file, name)
    try:
        return [_texts(cells) for cells in workbook.worksheets[0].iter_rows(max_row=count, values_only=True)]
    except Exception as error:  # noqa: BLE001
        raise DataError(f"the file cannot be read ({type(error).__name__})", where=name) from None


def cell_text(value: Any) -> str:
    """Return the value of a cell as the spreadsheet shows it: 1.0 is ``1``, and a date without a time has none."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        value = value.date()
    return value_text(value)


def _texts(cells: Iterable[Any]) -> list[str]:
    return [cell_text(value) for value in cells]


def _listed(ranges: Sequence[object]) -> str:
    more = f" and {len(ranges) - _SHOWN} more" if len(ranges) > _SHOWN else ""
    return ", ".join(map(str, ranges[:_SHOWN])) + more


def _refuse_other_formats(file: BinaryIO, name: str) -> None:
    start = file.read(len(_COMPOUND_FILE))
    rest = file.read(2**22) if start == _COMPOUND_FILE else b""
    file.seek(0)
    if start != _COMPOUND_FILE:
        return
    if _ENCRYPTED in rest:
        raise DataError(
            "the workbook has a password",
            where=name,
            hint="Save a copy without one: in Excel by File > Info > Protect Workbook > Encrypt with Password, and an "
            "empty password.",
        )
    raise DataError(
        "the file is a workbook of the old format xls", where=name, hint="Save it as xlsx, or as CSV UTF-8."
    )


def read_facts(file: BinaryIO, path: str) -> SheetFacts:
    """Return the merged cells and the formulas of a sheet, whose XML is read once, in constant memory."""
    facts = SheetFacts()
    with zipfile.ZipFile(file) as archive, archive.open(path.lstrip("/")) as xml:
        rest = b""
        while block := xml.read(_CHUNK):
            text = rest + block
            # A cell is not cut: what follows the beginning of the last one is kept for the next block.
            cut = max(text.rfind(b"<c "), text.rfind(b":c "), text.rfind(b"mergeCell "))
            cut = len(text) if cut < 0 or len(text) - cut > _CHUNK else max(0, text.rfind(b"<", 0, cut + 1))
            _add_facts(text[:cut], facts)
            rest = text[cut:]
        _add_facts(rest, facts)
    return facts


def _add_facts(xml: bytes, facts: SheetFacts) -> None:
    for cell in _FORMULA.finditer(xml) if b"<f" in xml or b":f" in xml else ():
        facts.formulas += 1
        place = _REFERENCE.search(cell[1])
        # A formula with the result "" has no value either, and says that its result is a text.
        if cell[2] is None and place and not _TEXT_RESULT.search(cell[1]) and len(facts.not_computed) < _MOST_KEPT:
            facts.not_computed.append((_place(place[1]), int(place[2])))
    for found in _MERGED.finditer(xml) if b"mergeCell" in xml else ():
        if len(facts.merged) < _MOST_KEPT:
            facts.merged.append(_Range(_place(found[1]), int(found[2]), _place(found[3]), int(found[4])))


def _place(letters: bytes) -> int:
    """Return the place of a column from its letters; A is 0."""
    place = 0
    for letter in letters:
        place = place * 26 + letter - ord("A") + 1
    return place - 1
