"""A whole table as people have it: encoding, delimiter and header rows are detected, and what was assumed is listed.

`edgedistill_serve.grading.table_reader` reads strictly instead, in constant memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.dialects import Dialect
from edgedistill_serve.grading.sources import OpenRows, Reading, find_dialect, open_rows
from edgedistill_serve.grading.spreadsheets import first_cells, sheet_names
from edgedistill_serve.grading.storage import local_file, readable_name
from edgedistill_serve.grading.table_formats import DELIMITERS, table_format
from edgedistill_serve.grading.table_reader import read_columns, read_rows
from edgedistill_serve.grading.text_rows import RejectedRow, TableRow, check_header, read_first_records


@dataclass(frozen=True, slots=True)
class DetectedTable:
    """A table, with everything that was assumed.

    Attributes:
        name: The file's name.
        columns: Its columns, in order.
        rows: Its rows.
        notes: What was assumed, a sentence each; empty for a UTF-8 file with the delimiter of its suffix.
        question_texts: By column, the question texts of an export of Qualtrics; empty for other tables.
        dialect: How its text is read; None for xlsx and Parquet.
        first_row: The first row after header rows that were recognised by their cells, or None.
        faults: By column of a spreadsheet, why its cells cannot be used: merged cells, formulas without a result.
        where: The file, for messages; with the sheet, if there are several.
        header_row: The row with the names of the columns.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    question_texts: tuple[str, ...] = ()
    dialect: Dialect | None = None
    first_row: int | None = None
    faults: Mapping[str, DataError] = field(default_factory=dict)
    where: str = ""
    header_row: int = 1

    def __post_init__(self) -> None:
        if not self.where:
            object.__setattr__(self, "where", self.name)

    def check(self, column: str) -> None:
        """Raise the error about cells of a column that cannot be used, if there are any."""
        if column in self.faults:
            raise self.faults[column]


def read_detected(path: Path, reading: Reading) -> DetectedTable:
    """Read a CSV, TSV, JSONL, Parquet or xlsx file.

    Args:
        path: The file.
        reading: The columns that are needed, and what is stated about the file.

    Raises:
        DataError: The file does not exist or cannot be read, or a row is malformed; the message names the row.
    """
    if not path.exists():
        raise DataError("the file does not exist", where=str(path))
    if path.is_dir():
        raise DataError("the file cannot be read (it is a folder)", where=str(path))
    form = table_format(path.name, reading.stated)
    if reading.header.sheet is not None and form.kind != "xlsx":
        raise DataError(
            "only xlsx files have sheets", where=path.name, hint=f"Leave out {reading.header.sheet_option}."
        )
    if form.kind == "parquet":
        return DetectedTable(readable_name(path), read_columns(path), tuple(read_rows(path)))
    usual = DELIMITERS.get(form.kind, "")
    file = local_file(path)
    dialect = None if form.kind == "xlsx" else find_dialect(file, usual, reading)
    with open_rows(file, dialect, reading) as opened:
        if opened.header is not None:
            check_header(opened.header, f"{readable_name(path)}, row {reading.header.header_row}")
        rows = tuple(_accepted(opened))
        columns = opened.header or tuple(dict.fromkeys(name for row in rows for name in row.values))
        detected = dialect is not None and (dialect.encoding, dialect.delimiter) != ("utf-8", usual)
        notes = (*([f"{readable_name(path)} is read as {dialect}"] if detected else []), *opened.notes)
        return DetectedTable(
            readable_name(path),
            columns,
            rows,
            notes,
            opened.question_texts,
            dialect,
            opened.first_row,
            opened.faults,
            opened.where,
            reading.header.header_row,
        )


def _accepted(opened: OpenRows) -> Iterator[TableRow]:
    for row in opened.rows:
        if isinstance(row, RejectedRow):
            raise row.error
        yield row


def table_sheets(path: Path) -> list[str]:
    """Return the names of the sheets of an xlsx file; none for other files.

    Raises:
        DataError: The file does not exist or cannot be read.
    """
    if not path.is_file():
        raise DataError("the file does not exist", where=str(path))
    if table_format(path.name).kind != "xlsx":
        return []
    with path.open("rb") as file:
        return sheet_names(file, path.name)


def first_rows(path: Path, reading: Reading, count: int = 5) -> list[list[str]]:
    """Return the first rows of a CSV, TSV or xlsx file as they stand, header rows included; none for other formats.

    Without a sheet in ``reading``, they are those of the first one.

    Args:
        path: The file.
        reading: What is stated about it.
        count: Number of rows, if there are as many.

    Raises:
        DataError: The file does not exist or cannot be read.
    """
    if not path.is_file():
        raise DataError("the file does not exist", where=str(path))
    form = table_format(path.name, reading.stated)
    if form.kind == "xlsx":
        with path.open("rb") as file:
            return first_cells(file, path.name, count, reading.header.sheet)
    if form.kind not in DELIMITERS:
        return []
    stored = local_file(path)
    dialect = find_dialect(stored, DELIMITERS[form.kind], reading)
    with stored.open() as opened, dialect.open(opened) as text:
        return read_first_records(text.read(2**17), dialect.delimiter, count)
