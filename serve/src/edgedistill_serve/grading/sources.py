"""Tables to grade as batches of columns: one file or several with the same columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, BinaryIO

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.column_names import check_distinct, find_column
from edgedistill_serve.grading.columns import MISSING, Batch, Kind, KindOfColumn, Rejection
from edgedistill_serve.grading.dialects import Dialect, detect_delimiter, detect_encoding
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows
from edgedistill_serve.grading.spreadsheets import Sheet
from edgedistill_serve.grading.storage import InputFile
from edgedistill_serve.grading.table_formats import DELIMITERS, TableFormat, table_format
from edgedistill_serve.grading.table_reader import import_pyarrow
from edgedistill_serve.grading.text_rows import (
    DelimitedText,
    ReadRow,
    RejectedRow,
    TableRow,
    check_header,
    json_rows,
)
from edgedistill_serve.task.task import quote_columns

BATCH_ROWS = 2048
"""Rows that one thread scores in one step."""
_BATCH_CHARACTERS = 2**21


@dataclass(frozen=True, slots=True)
class Reading:
    """How tables are to be read.

    Attributes:
        inputs: What they must have; the delimiter is detected by it.
        delimiter: That of CSV and TSV files; None to detect it.
        encoding: That of text files; None to detect it.
        stated: The format of all files; None for that of their suffixes.
        columns: By input, the name of its column as a person gives it; others have a column of their own name.
        header: Where the header is in CSV, TSV and xlsx files.
    """

    inputs: tuple[str, ...]
    delimiter: str | None = None
    encoding: str | None = None
    stated: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    header: HeaderRows = HEADER_FIRST

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of the inputs, as a person gives their names."""
        return tuple(self.columns.get(name, name) for name in self.inputs)


@dataclass(frozen=True, slots=True)
class _Table:
    """One file.

    Attributes:
        file: The file.
        form: Its format.
        dialect: How its text is read; None for other formats.
        kinds: The types of its columns.
        detected: Whether the dialect was detected and is not what the suffix stands for.
        notes: What was assumed about its header, and about the cells of a spreadsheet.
    """

    file: InputFile
    form: TableFormat
    kinds: Mapping[str, Kind]
    dialect: Dialect | None = None
    detected: bool = False
    notes: tuple[str, ...] = ()


class Source:
    """The tables of a grading.

    Args:
        files: The files, in order.
        reading: How they are read.

    Attributes:
        kinds: The type of every column, in order: an Arrow field, or a type of Python.
        columns: By input, its column.
        notes: For each file that is not UTF-8 with the delimiter of its suffix, how it is read; and what was assumed
            about headers, spreadsheets and columns.

    Raises:
        DataError: A file cannot be read, or files differ in their columns.
    """

    def __init__(self, files: Sequence[InputFile], reading: Reading) -> None:
        self.files, self._reading = tuple(files), reading
        self._tables = [_open_table(file, reading) for file in files]
        self.kinds = self._tables[0].kinds
        for table in self._tables[1:]:
            _check_same(self._tables[0], table)
        if any(set(table.kinds.values()) != set(self.kinds.values()) for table in self._tables[1:]):
            self.kinds = _joined([table.kinds for table in self._tables])
        self.columns = {
            name: find_column(given, tuple(self.kinds), where=files[0].name, key=f"--column {name}", letters=True)
            for name, given in reading.columns.items()
        }
        check_distinct(self.columns, f"{files[0].name}, --column")
        self.notes = [f"{table.file.name} is read as {table.dialect}" for table in self._tables if table.detected]
        self.notes += [note for table in self._tables for note in table.notes]
        self.notes += [f"the column {column!r} is the {name}" for name, column in self.columns.items()]
        self._read = 0

    @property
    def dialects(self) -> list[str]:
        """How each text file is read."""
        return [str(table.dialect) for table in self._tables if table.dialect is not None]

    @property
    def share_read(self) -> float | None:
        """The share of the bytes that has been read, in [0, 1]; None if it is unknown."""
        sizes = [file.size for file in self.files]
        total = sum(size for size in sizes if size is not None)
        return min(1.0, self._read / total) if total and None not in sizes else None

    def batches(self, skip: int, part_rows: int) -> Iterator[Batch]:
        """Yield the rows in batches, none of which belongs to two parts.

        Args:
            skip: Number of rows at the beginning that are left out, those that cannot be read included.
            part_rows: Largest number of rows of a part; the rows before ``skip`` are whole parts.

        Raises:
            DataError: A file cannot be read further.
        """
        self._read = 0
        room = part_rows
        for batch in self._all(skip, part_rows):
            room -= batch.rows + len(batch.rejected)
            yield replace(batch, ends_part=room == 0)
            room = room or part_rows

    def _all(self, skip: int, part_rows: int) -> Iterator[Batch]:
        if self._tables[0].form.kind == "parquet":
            yield from _cut_arrow(
                chain.from_iterable(map(self._arrow, self._tables)), tuple(self.kinds), skip, part_rows
            )
        else:
            rows = chain.from_iterable(map(self._rows, self._tables))
            yield from _cut_rows(islice(rows, skip, None), tuple(self.kinds), part_rows)

    def _count(self, number: int) -> None:
        self._read += number

    def _rows(self, table: _Table) -> Iterator[tuple[str, ReadRow]]:
        with open_rows(table.file, table.dialect, self._reading, self._count) as opened:
            yield from ((table.file.name, row) for row in opened.rows)

    def _arrow(self, table: _Table) -> Iterator[Any]:
        pa, number = import_pyarrow(table.file.name), 0
        with table.file.open(self._count) as file, _parquet_file(file, table.file.name, pa) as opened:
            try:
                for batch in opened.iter_batches(batch_size=BATCH_ROWS):
                    number += len(batch)
                    yield batch
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DataError(
                    f"the file cannot be read beyond row {number} ({error})", where=table.file.name
                ) from None


def _open_table(file: InputFile, reading: Reading) -> _Table:
    form = table_format(file.name, reading.stated)
    if form.kind == "parquet":
        return _Table(file, form, _parquet_kinds(file))
    usual = DELIMITERS.get(form.kind, "")
    dialect = None
    if form.kind != "xlsx":
        dialect = find_dialect(file, usual, reading)
    with open_rows(file, dialect, reading) as opened:
        header = opened.header
        if header is not None:
            check_header(header, f"{file.name}, row {reading.header.header_row}")
        is_text = header is not None and form.kind != "xlsx"
        kinds = dict.fromkeys(header or (), str) if is_text else _found_kinds(opened.rows, header)
    detected = dialect is not None and (dialect.encoding, dialect.delimiter) != ("utf-8", usual)
    return _Table(file, form, kinds, dialect, detected, opened.notes)


def find_dialect(file: InputFile, usual: str, reading: Reading) -> Dialect:
    """Return how a text file is read.

    Args:
        file: The file.
        usual: The delimiter that its suffix stands for; empty for JSONL.
        reading: What is stated, and the columns by which the delimiter is detected.

    Raises:
        DataError: The file is empty, or cannot be read.
    """
    with file.open() as opened:
        if not opened.peek(1):  # type: ignore[attr-defined]
            raise DataError("the file is empty", where=file.name)
        encoding = reading.encoding or detect_encoding(opened)
    if not usual:
        return Dialect(encoding, "")
    row = reading.header.header_row
    with file.open() as opened:
        delimiter, named = detect_delimiter(opened, encoding, reading.delimiter or usual, reading.needed, row)
    return Dialect(encoding, reading.delimiter or delimiter, separator_line=named)


@dataclass(frozen=True, slots=True)
class OpenRows:
    """The header of an open file, or None for JSONL, and its rows.

    Attributes:
        header: The columns.
        rows: The rows.
        notes: What was assumed about the header, and about the cells of a spreadsheet.
        question_texts: By column, the texts of Qualtrics' second header row; empty for other tables.
        first_row: The first row after header rows that were recognised by their cells, or None.
        faults: By column of a spreadsheet, why its cells cannot be used.
        where: The file, for messages; with the sheet, if there are several. Empty: its name.
    """

    header: tuple[str, ...] | None
    rows: Iterable[ReadRow]
    notes: tuple[str, ...] = ()
    question_texts: tuple[str, ...] = ()
    first_row: int | None = None
    faults: Mapping[str, DataError] = field(default_factory=dict)
    where: str = ""


@contextmanager
def open_rows(
    file: InputFile, dialect: Dialect | None, reading: Reading, on_read: Callable[[int], None] = lambda _: None
) -> Iterator[OpenRows]:
    """Open a CSV, TSV, JSONL or xlsx file.

    Args:
        file: The file.
        dialect: How its text is read; None for xlsx.
        reading: The columns that are needed, and where the header is.
        on_read: As for `InputFile.open`.
    """
    with file.open(on_read) as opened:
        if dialect is None:
            sheet = Sheet(opened, file.name, reading.needed, reading.header)
            yield OpenRows(
                sheet.header,
                sheet.rows(),
                sheet.notes,
                sheet.question_texts,
                sheet.first_row,
                sheet.faults,
                sheet.where,
            )
            return
        if reading.header.sheet is not None:
            raise DataError(
                "only xlsx files have sheets", where=file.name, hint=f"Leave out {reading.header.sheet_option}."
            )
        with dialect.open(opened, "" if dialect.delimiter else "\n") as text:
            if dialect.delimiter:
                table = DelimitedText(
                    text,
                    file.name,
                    dialect.delimiter,
                    dialect.encoding_name,
                    rows=reading.header,
                    needed=reading.needed,
                )
                yield OpenRows(table.header, table.rows(), table.notes, table.question_texts, table.first_row)
            else:
                yield OpenRows(None, json_rows(text, file.name, dialect.encoding_name))


def _found_kinds(rows: Iterable[ReadRow], header: tuple[str, ...] | None) -> dict[str, Kind]:
    """Return the types of the columns of rows, which are read to their end.

    Raises:
        DataError: There are neither columns nor rows that can be read; it is the reason of the first one.
    """
    found: dict[str, KindOfColumn] = {name: KindOfColumn() for name in header or ()}
    fault: DataError | None = None
    for row in rows:
        if isinstance(row, RejectedRow):
            fault = fault or row.error
        else:
            for name, value in row.raw.items():
                if name not in found:
                    found[name] = KindOfColumn()
                found[name].add(value)
    if not found and fault is not None:  # no row can be read, so that no column is known
        raise fault
    return {name: column.kind for name, column in found.items()}


@contextmanager
def _parquet_file(file: BinaryIO, name: str, pa: Any) -> Iterator[Any]:
    try:
        opened = pa.parquet.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the file is not valid Parquet ({error})", where=name) from None
    with opened:
        yield opened


def _parquet_kinds(file: InputFile) -> dict[str, Kind]:
    return describe_parquet(file)[0]


def describe_parquet(file: InputFile) -> tuple[dict[str, Kind], int]:
    """Return the columns of a Parquet file, and its number of rows.

    Raises:
        DataError: It cannot be read, or two columns have one name.
    """
    pa = import_pyarrow(file.name)
    with file.open() as stored, _parquet_file(stored, file.name, pa) as opened:
        schema = opened.schema_arrow
        check_header(tuple(schema.names), file.name)
        return {field.name: field for field in schema}, opened.metadata.num_rows


def check_same_parquet(files: Sequence[InputFile], kinds: Sequence[Mapping[str, Kind]]) -> None:
    """Check that Parquet files have the same columns, given those of each file.

    Raises:
        DataError: They do not.
    """
    form = table_format("in.parquet")
    first, *others = (_Table(file, form, columns) for file, columns in zip(files, kinds, strict=True))
    for other in others:
        _check_same(first, other)


def read_parquet(file: InputFile, names: Sequence[str], first: int, rows: int) -> Iterator[Batch]:
    """Yield consecutive rows of a Parquet file; only the row groups that have them are read.

    Args:
        file: The file.
        names: The columns, in order.
        first: The first row, from 0.
        rows: Number of rows.

    Raises:
        DataError: The file cannot be read.
    """
    pa = import_pyarrow(file.name)
    with file.open() as stored, _parquet_file(stored, file.name, pa) as opened:
        groups: list[int] = []
        start = skip = 0
        for group in range(opened.num_row_groups):
            size = opened.metadata.row_group(group).num_rows
            if start < first + rows and start + size > first:
                skip = skip if groups else first - start
                groups.append(group)
            start += size
        try:
            for batch in opened.iter_batches(batch_size=BATCH_ROWS, row_groups=groups):
                piece = batch.slice(min(skip, len(batch)), rows)
                skip, rows = max(0, skip - len(batch)), rows - len(piece)
                if len(piece):
                    yield Batch({name: piece.column(name) for name in names}, len(piece))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"rows {first + 1} and on cannot be read ({error})", where=file.name) from None


def _check_same(first: _Table, other: _Table) -> None:
    if (first.form.kind == "parquet") != (other.form.kind == "parquet"):
        raise DataError(
            f"Parquet files cannot be graded together with others, such as {first.file.name}", where=other.file.name
        )
    if set(first.kinds) != set(other.kinds) and "jsonl" not in (first.form.kind, other.form.kind):
        raise DataError(
            f"the columns differ from those of {first.file.name}",
            where=other.file.name,
            hint=f"They are {quote_columns(other.kinds)}, and not {quote_columns(first.kinds)}.",
        )
    if first.form.kind == "parquet":
        for name, kind in first.kinds.items():
            if other.kinds[name].type != kind.type:
                raise DataError(
                    f"the column {name!r} has the type {other.kinds[name].type}, in {first.file.name} {kind.type}",
                    where=other.file.name,
                    hint="Convert one of the files.",
                )


def _joined(tables: Sequence[Mapping[str, Kind]]) -> dict[str, Kind]:
    """Return the types that hold the values of all tables."""
    joined: dict[str, Kind] = {}
    for kinds in tables:
        for name, kind in kinds.items():
            before = joined.setdefault(name, kind)
            if before != kind and isinstance(kind, type):
                joined[name] = float if {before, kind} == {int, float} else str
    return joined


def _cut_rows(rows: Iterator[tuple[str, ReadRow]], names: tuple[str, ...], part_rows: int) -> Iterator[Batch]:
    room = part_rows
    while found := list(_few(rows, min(BATCH_ROWS, room))):
        good = [row for _, row in found if isinstance(row, TableRow)]
        bad = tuple(
            Rejection(file, row.row, f"{row.error.what}. {row.error.hint}" if row.error.hint else row.error.what)
            for file, row in found
            if isinstance(row, RejectedRow)
        )
        columns = {name: [row.raw.get(name, MISSING) for row in good] for name in names}
        yield Batch(columns, len(good), bad)
        room = room - len(found) or part_rows


def _few(rows: Iterator[tuple[str, ReadRow]], most: int) -> Iterator[tuple[str, ReadRow]]:
    """Yield the next rows: at least one, and not many more characters than a batch should have."""
    characters = 0
    for named in islice(rows, most):
        yield named
        if isinstance(named[1], TableRow):
            characters += sum(map(len, named[1].values.values()))
        if characters > _BATCH_CHARACTERS:
            return


def _cut_arrow(batches: Iterator[Any], names: tuple[str, ...], skip: int, part_rows: int) -> Iterator[Batch]:
    room = part_rows
    for batch in batches:
        start = min(skip, len(batch))
        skip -= start
        while start < len(batch):
            piece = batch.slice(start, min(room, len(batch) - start))
            yield Batch({name: piece.column(name) for name in names}, len(piece))
            start += len(piece)
            room = room - len(piece) or part_rows
