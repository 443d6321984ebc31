"""Rows of xlsx files: of the sheet that is stated, or of the first one that has the needed columns.

Needs the optional dependency openpyxl. Cells have the values that the spreadsheet showed last, not formulas; a formula
that no program has computed, and merged cells, are errors in the columns that are needed, and notes elsewhere.
"""

import datetime as dt
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.column_names import column_letters, fold_name, matching_columns
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows, read_header
from edgedistill_serve.grading.text_rows import TableRow, value_text
from edgedistill_serve.task.task import list_some

_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_CHUNK = 2**20
_FORMULA = re.compile(
    rb"<(?:\w+:)?c\b([^>]*)>\s*<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)\s*(<(?:\w+:)?v>[^<])?"
)
_MERGED = re.compile(rb"""<(?:\w+:)?mergeCell\b[^>]*\bref\s*=\s*["']([A-Z]+)(\d+):([A-Z]+)(\d+)["']""")
_REFERENCE = re.compile(rb"""\br\s*=\s*["']([A-Z]+)(\d+)["']""")
_TEXT_RESULT = re.compile(rb"""\bt\s*=\s*["']str["']""")
_MOST_HEADER_ROWS = 3
"""Below the names."""
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
    """A sheet of a workbook.

    Args:
        file: The xlsx file.
        name: Its name, for messages.
        inputs: Columns that are needed: their cells are texts, also if they look like numbers, and an empty one is an
            empty text.
        rows: The sheet, and where its header is. Without a sheet, it is the first one whose header has the needed
            columns, or else the first one.

    Attributes:
        header: The names of the columns.
        question_texts: By column, the texts of Qualtrics' second header row; empty for other sheets.
        first_row: The first row after header rows that were recognised by their cells, or None.
        notes: What was assumed, such as that the last results of formulas are read.
        faults: By column, why its cells cannot be used: merged cells, formulas that no program has computed.
        where: The file, for messages; with the sheet, if there are several.

    Raises:
        DataError: The file is not a workbook or has a password, there is no such sheet or no header, a needed column
            has merged cells or formulas without a result, or openpyxl is not installed.
    """

    def __init__(self, file: BinaryIO, name: str, inputs: Collection[str], rows: HeaderRows = HEADER_FIRST) -> None:
        workbook = _open_workbook(file, name)
        try:
            titles = [each.title for each in workbook.worksheets]
            chosen, fitting = _choose_sheet(workbook, inputs, rows) if rows.sheet is None else (None, [])
            sheet = workbook.worksheets[find_sheet(rows.sheet, titles, name) if chosen is None else chosen]
            facts = read_facts(file, sheet._worksheet_path)
            cells = sheet.iter_rows(values_only=True)
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001  # a damaged file can raise any
            raise DataError(f"the file is not a valid workbook ({type(error).__name__})", where=name) from None
        self._name = self.where = name if len(titles) == 1 else f"{name}, sheet {sheet.title!r}"
        rows, of_names = _below_merged_names(facts.merged, rows, self.where)
        found = read_header(enumerate(self._read(cells), start=1), rows, self.where, _texts, inputs)
        self.header, self.question_texts, self._records = found.names, found.texts, found.records
        self.first_row = rows.first_row if of_names else found.first_row
        matching = [matching_columns(each, self.header, letters=True) for each in inputs]
        self._inputs = [each[0] for each in matching if len(each) == 1]
        missing = [each for each, there in zip(inputs, matching, strict=True) if len(there) != 1]
        others = [title for title in titles if title != sheet.title]
        self.notes = (
            *of_names,
            *found.notes,
            *(
                [describe_choice(name, sheet.title, others, fitting, rows.sheet_option)]
                if others and rows.sheet is None
                else []
            ),
            *self._check_merged(facts.merged, rows, missing),
            *self._describe_formulas(facts),
        )
        self.faults: dict[str, DataError] = {}
        for cells_of, fault in (
            (self._merged_columns(facts.merged, rows), _MERGED_CELLS),
            (self._columns_not_computed(facts, rows), _NOT_COMPUTED),
        ):
            named = {self.header[place]: each for place, each in cells_of.items() if place < len(self.header)}
            if wrong := [cell for column in self._inputs for cell in named.get(column, ())]:
                raise self._fault(list(dict.fromkeys(wrong)), fault)
            self.faults |= {column: self._fault(each, fault) for column, each in named.items()}

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
                f"row {rows.header_row} has merged cells ({list_some(in_header)}), and no column {missing[0]!r}",
                where=self._name,
                hint=f"If the names of the columns are in row {rows.header_row + 1}, say so: header_row: "
                f"{rows.header_row + 1} in the section data, or --header-row {rows.header_row + 1}.",
            )
        if body := [each for each in merged if each.bottom >= (rows.first_row or rows.header_row + 1)]:
            yield f"{self._name}: the cells {list_some(body)} are merged; only the first of them has a value"

    def _merged_columns(self, merged: Sequence[_Range], rows: HeaderRows) -> dict[int, list[str]]:
        """Return, by the place of a column, the merged cells below the header that leave some of its cells empty."""
        found: dict[int, list[str]] = {}
        for each in merged:
            if each.bottom >= (rows.first_row or rows.header_row + 1):
                for place in range(each.left, min(each.right + 1, len(self.header))):
                    if each.bottom > each.top or place > each.left:
                        found.setdefault(place, []).append(str(each))
        return found

    @staticmethod
    def _columns_not_computed(facts: SheetFacts, rows: HeaderRows) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for column, row in facts.not_computed:
            if row >= rows.header_row:
                found.setdefault(column, []).append(f"{column_letters(column)}{row}")
        return found

    def _fault(self, cells: Sequence[str], fault: tuple[str, str]) -> DataError:
        return DataError(f"the cells {list_some(cells)} {fault[0]}", where=self._name, hint=fault[1])

    def _describe_formulas(self, facts: SheetFacts) -> Iterator[str]:
        if facts.formulas:
            without = len(facts.not_computed)
            rest = f"; {without} were never computed and are empty" if without else ""
            read = f"the last results of {facts.formulas - without} are read"
            yield f"{self._name}: {facts.formulas} cells are formulas; {read}{rest}"


_MERGED_CELLS = (
    "are merged, so that only the first of them has a value",
    "Unmerge them in the spreadsheet, and fill in every row.",
)
_NOT_COMPUTED = (
    "are formulas that no program has computed",
    "Open the file in a spreadsheet program, and save it; or replace the formulas by their values.",
)
"""What is wrong with cells, and the fix."""


def _below_merged_names(merged: Sequence[_Range], rows: HeaderRows, where: str) -> tuple[HeaderRows, list[str]]:
    """Return where the header is, and a note if names are merged with cells below, which are a second header row."""
    names = [
        each
        for each in merged
        if each.top <= rows.header_row < each.bottom <= rows.header_row + _MOST_HEADER_ROWS and each.left == each.right
    ]
    if not names or rows.first_row is not None:
        return rows, []
    names.sort(key=lambda each: (each.left, each.top))
    first = max(each.bottom for each in names) + 1
    note = (
        f"{where}: names of columns are merged with cells below ({list_some(names)}), so that the responses begin in "
        f"row {first}: --first-row {first}"
    )
    return replace(rows, first_row=first), [note]


def find_sheet(wanted: str | None, titles: Sequence[str], name: str) -> int:
    """Return the place of a sheet.

    Args:
        wanted: Its name as a person gives it; None for the first one.
        titles: The names of the sheets.
        name: The file, for messages.

    Raises:
        DataError: There is no such sheet; the message has the names.
    """
    if wanted is None:
        return 0
    folded = [fold_name(title) for title in titles]
    if wanted in titles:
        return titles.index(wanted)
    if folded.count(fold_name(wanted)) == 1:
        return folded.index(fold_name(wanted))
    raise DataError(f"there is no sheet {wanted!r}", where=name, hint=f"The sheets are {list_some(map(repr, titles))}.")


def _choose_sheet(workbook: Any, inputs: Collection[str], rows: HeaderRows) -> tuple[int, list[str]]:
    """Return the place of the first sheet whose header has the needed columns, or 0, and the names of all of these."""
    sheets = workbook.worksheets
    if len(sheets) == 1 or not inputs:
        return 0, []
    headers = [_header_of(sheet, rows) for sheet in sheets]
    found = [
        place
        for place, names in enumerate(headers)
        if all(len(matching_columns(each, names, letters=True)) == 1 for each in inputs)
    ]
    return (found[0] if found else 0), [sheets[place].title for place in found]


def _header_of(sheet: Any, rows: HeaderRows) -> list[str]:
    number = rows.header_row
    return next((_texts(cells) for cells in sheet.iter_rows(number, number, values_only=True)), [])


def describe_choice(
    name: str, title: str, others: Sequence[str], fitting: Sequence[str] = (), option: str = "--sheet"
) -> str:
    """Return the note on the sheet that is read.

    Args:
        name: The file.
        title: The sheet.
        others: The other sheets.
        fitting: The sheets that have the needed columns.
        option: The option that says which sheet.
    """
    also = [repr(each) for each in fitting if each != title]
    more = f"; {list_some(also)} {'has' if len(also) == 1 else 'have'} its columns, too" if also else ""
    return f"{name}: the sheet {title!r} is read, not {list_some(map(repr, others))}{more}; {option} takes another"


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


def sheet_names(file: BinaryIO, name: str) -> list[str]:
    """Return the names of the sheets of a workbook, those of charts left out.

    Raises:
        DataError: As `Sheet`.
    """
    return [sheet.title for sheet in _open_workbook(file, name).worksheets]


def first_cells(file: BinaryIO, name: str, count: int, sheet: str | None = None) -> list[list[str]]:
    """Return the first rows of a sheet, or of the first one, as texts, header rows included.

    Raises:
        DataError: As `Sheet`.
    """
    workbook = _open_workbook(file, name)
    found = find_sheet(sheet, [each.title for each in workbook.worksheets], name)
    try:
        return [_texts(cells) for cells in workbook.worksheets[found].iter_rows(max_row=count, values_only=True)]
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
