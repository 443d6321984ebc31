"""Strict reading of CSV, TSV, JSONL and Parquet files, row by row.

Parquet files need the optional dependency pyarrow.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.delimited import parse_records
from edgedistill_serve.grading.formula_cells import unescape_cell

PARQUET_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table file.

    Attributes:
        row: Row number. In CSV and TSV the header is row 1 and a record counts once, also if its cells contain line
            breaks, as in a spreadsheet. In JSONL it is the line number; in Parquet the first row is 1.
        values: All values as text, by column. Null is ``""``; values of other types are JSON text.
        raw: The values with their types in the file: text in CSV and TSV, any JSON value in JSONL, any type in Parquet.
    """

    row: int
    values: dict[str, str] = field(repr=False)
    raw: Mapping[str, Any] = field(repr=False)


def read_rows(path: Path) -> Iterator[TableRow]:
    """Read a table file row by row, in constant memory.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file. Text is UTF-8, with or without a byte
            order mark. CSV and TSV have a header row and the quoting of RFC 4180; `unescape_cell` is applied to their
            cells.

    Yields:
        The rows in file order. Empty lines are skipped, except in a CSV or TSV table of one column, where an empty line
        is an empty cell.

    Raises:
        DataError: The file does not exist, is empty, has an unknown suffix, or contains a malformed row; the message
            names the row.
    """
    with _open_table(path) as table:
        yield from table.rows


def read_columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a table file in file order.

    The keys of a JSONL file can differ between lines: the complete file is read, and keys are listed in order of their
    first occurrence.

    Raises:
        DataError: As `read_rows`; only JSONL files are read beyond the header.
    """
    with _open_table(path) as table:
        if table.columns is not None:
            return table.columns
        return tuple(dict.fromkeys(key for row in table.rows for key in row.values))


def import_pyarrow(name: str) -> Any:
    """Import pyarrow and pyarrow.parquet.

    Args:
        name: Name of the Parquet file, for the error message.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet  # makes it an attribute of `pa`
    except ImportError:
        raise DataError(
            "Parquet files require pyarrow", where=name, hint='Install it: pip install "edgedistill-serve[parquet]".'
        ) from None
    return pa


def read_parquet_types(path: Path) -> dict[str, Any]:
    """Return the Arrow type of every column of a Parquet file; empty for other formats."""
    if path.suffix.lower() != PARQUET_SUFFIX:
        return {}
    schema = import_pyarrow(path.name).parquet.read_schema(path)
    return dict(zip(schema.names, schema.types, strict=True))


@dataclass(frozen=True, slots=True)
class _Table:
    columns: tuple[str, ...] | None
    rows: Iterator[TableRow]


@contextmanager
def _open_table(path: Path) -> Iterator[_Table]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"the suffix {path.suffix!r} is not supported for tables",
            where=path.name,
            hint=f"Use a {', '.join(SUFFIXES)} file.",
        )
    try:
        with path.open("rb") as file:
            if not file.peek(1):
                raise DataError("the file is empty", where=path.name)
            yield reader(file, path.name)
    except FileNotFoundError:
        raise DataError("the file does not exist", where=str(path)) from None
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error})", where=str(path)) from None


def _delimited(file: BinaryIO, name: str, *, delimiter: str) -> _Table:
    _skip_separator_line(file, name, delimiter)
    records = _records(file, name, delimiter)
    header = tuple(next(records, []))
    if not any(header):
        raise DataError("the file is empty: there is no header row", where=name)
    _check_header(header, name, delimiter)
    return _Table(header, _delimited_rows(records, header, name))


def _skip_separator_line(file: BinaryIO, name: str, delimiter: str) -> None:
    """Skip the line ``sep=,`` before the header, which Excel reads as the separator of the file and does not show."""
    line = re.match(rb'(\xef\xbb\xbf)?"?[sS][eE][pP]=([^\r\n"])?"?(?:\r\n|\r|\n)', file.peek(16))  # type: ignore[attr-defined]
    if line is None:
        return
    if line[2] != delimiter.encode():
        raise DataError(
            f"the first line says that the separator is {(line[2] or b'').decode(errors='replace')!r}, but a "
            f"{Path(name).suffix} file uses {delimiter!r}",
            where=name,
            hint="Save it as comma-separated CSV, or as tab-separated TSV.",
        )
    file.read(len(line[0]))


def _check_repeated(header: tuple[str, ...], where: str) -> None:
    repeated = next((column for column in header if header.count(column) > 1), None)
    if repeated == "":
        letters = [_column_letters(place) for place, column in enumerate(header) if not column]
        raise DataError(
            f"the columns {', '.join(letters[:-1])} and {letters[-1]} have no name",
            where=where,
            hint="Name them, or delete them if they are empty.",
        )
    if repeated is not None:
        raise DataError(f"two columns have the name {repeated!r}", where=where, hint="Rename or delete one of them.")


def _column_letters(place: int) -> str:
    """Return the letters of a column in a spreadsheet; A is the first one."""
    before, last = divmod(place, 26)
    return (_column_letters(before - 1) if before else "") + chr(ord("A") + last)


def _check_header(header: tuple[str, ...], name: str, delimiter: str) -> None:
    _check_repeated(header, f"{name}, row 1")
    other = next((char for char in ",;\t" if char != delimiter and char in header[0]), None)
    if len(header) == 1 and other is not None:
        raise DataError(
            f"the columns seem to be separated by {other!r}, but a {Path(name).suffix} file uses {delimiter!r}",
            where=f"{name}, row 1",
            hint="Save it as comma-separated CSV, or as tab-separated TSV.",
        )


def _delimited_rows(records: Iterator[list[str]], header: tuple[str, ...], name: str) -> Iterator[TableRow]:
    empty = None
    for number, record in enumerate(records, start=2):
        if not record and len(header) > 1:
            empty = empty or number
            continue
        if empty is not None:
            raise DataError("the row is empty", where=f"{name}, row {empty}", hint="Delete the empty line.")
        cells = record or [""]
        if len(cells) != len(header):
            raise DataError(
                f"the number of fields is {len(cells)}, the header has {len(header)}",
                where=f"{name}, row {number}",
                hint="Put fields that contain a separator or a line break between double quotes.",
            )
        values = dict(zip(header, cells, strict=True))
        yield TableRow(number, values, values)


def _records(file: BinaryIO, name: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the fields of every record; an empty line has no fields."""
    # Invalid UTF-8 becomes surrogates, which valid UTF-8 never contains, so that the error can name the record.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        source: list[str] = []
        lines = (source.append(line) or line for line in text)  # type: ignore[func-returns-value]  # append returns None
        reader = parse_records(lines, delimiter)
        well_quoted = re.compile(_FIELDS.replace(",", delimiter))
        number = 0
        while True:
            number += 1
            source.clear()
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                _check_utf8(source, name, number)
                if "field larger" in str(error):
                    raise _field_size_error(name, number) from None
                raise _quoting_error(name, number, str(error)) from None
            _check_utf8(source, name, number)
            if any('"' in field for field in record) and not well_quoted.fullmatch("".join(source)):
                raise _quoting_error(name, number, "a double quote inside a field that is not quoted")
            yield list(map(unescape_cell, record))


_FIELD = r'(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)'
_FIELDS = rf"{_FIELD}(?:,{_FIELD})*+[\r\n]*+"


def _quoting_error(name: str, number: int, reason: str) -> DataError:
    return DataError(
        f"the double quotes of the row that starts here do not match ({reason})",
        where=f"{name}, row {number}",
        hint='Put the field between double quotes, and double each quote inside it: "he said ""yes""".',
    )


def _field_size_error(name: str, number: int) -> DataError:
    return DataError(
        f"a field of the row that starts here is longer than {csv.field_size_limit()} characters",
        where=f"{name}, row {number}",
        hint="Check for a double quote that is not closed.",
    )


def _check_utf8(lines: list[str], name: str, number: int) -> None:
    try:
        "".join(lines).encode()
    except UnicodeEncodeError:
        raise _utf8_error(name, number) from None


def _utf8_error(name: str, number: int) -> DataError:
    return DataError("the text is not valid UTF-8", where=f"{name}, row {number}", hint="Save the file as UTF-8.")


def _json_lines(file: BinaryIO, name: str) -> _Table:
    return _Table(None, _json_rows(file, name))


def _json_rows(file: BinaryIO, name: str) -> Iterator[TableRow]:
    is_empty = True
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not text.strip():
            continue
        is_empty = False
        yield _row(number, _json_object(text, name, number))
    if is_empty:
        raise DataError("the file is empty", where=name)


def _json_object(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(line)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        if "utf-8" in str(error).lower():  # msgspec before 0.23 raises a UnicodeDecodeError, later ones their own
            raise _utf8_error(name, number) from None
        if _has_lone_surrogate(line):
            raise DataError(
                "the line is not valid JSON: an escape stands for half a character (a lone surrogate)",
                where=f"{name}, row {number}",
                hint="Decode the text again from its source.",
            ) from None
        raise DataError(
            f"the line is not valid JSON ({error})",
            where=f"{name}, row {number}",
            hint="Write one JSON object per line.",
        ) from None
    if not isinstance(value, dict):
        raise DataError(
            "the line is not a JSON object", where=f"{name}, row {number}", hint="Write one JSON object per line."
        )
    return value


def _has_lone_surrogate(line: bytes) -> bool:
    """Return whether a line of JSON has the escape of a surrogate that is not half of a pair."""
    try:
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def _parquet(file: BinaryIO, name: str) -> _Table:
    pa = import_pyarrow(name)
    try:
        table = pa.parquet.ParquetFile(file)
    except pa.ArrowException as error:
        raise DataError(f"the file is not valid Parquet ({error})", where=name) from None
    header = tuple(table.schema_arrow.names)
    _check_repeated(header, name)
    return _Table(header, _parquet_rows(table, name, pa))


class ExactTime:
    """A time in nanoseconds of a Parquet file, which no type of Python holds; in JSON it is a string.

    Args:
        number: The number that the file contains.
        text: The time as text; the number for a duration.
    """

    __slots__ = ("number", "text")

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text

    def __str__(self) -> str:
        return self.text


def _parquet_rows(table: Any, name: str, pa: Any) -> Iterator[TableRow]:
    schema = table.schema_arrow
    exact = [field.name for field in schema if getattr(field.type, "unit", None) == "ns"]
    rest = [field for field in schema.names if field not in exact]
    number = 0
    try:
        for batch in table.iter_batches(batch_size=1024):
            columns = {column: _exact_times(batch.column(column), pa) for column in exact}
            for place, values in enumerate(batch.select(rest).to_pylist() if rest else [{} for _ in range(len(batch))]):
                number += 1
                times = {column: times[place] for column, times in columns.items()}
                yield _row(
                    number, {column: times[column] if column in times else values[column] for column in schema.names}
                )
    except (pa.ArrowException, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise DataError(f"the file cannot be read beyond row {number} ({error})", where=name) from None


def _exact_times(column: Any, pa: Any) -> list[ExactTime | None]:
    pairs = zip(column.cast(pa.int64()).to_pylist(), column.cast(pa.string()).to_pylist(), strict=True)
    return [None if number is None else ExactTime(number, text) for number, text in pairs]


def _row(number: int, raw: dict[str, Any]) -> TableRow:
    return TableRow(number, {column: _text(value) for column, value in raw.items()}, raw)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str | ExactTime):
        return str(value or "")
    encoded = msgspec.json.encode(value, enc_hook=str)
    # In JSON, dates and decimals are strings, and NaN is null.
    return str(msgspec.json.decode(encoded) or "") if encoded[:1] in b'"n' else encoded.decode()


_Reader: TypeAlias = Callable[[BinaryIO, str], _Table]
_READERS: dict[str, _Reader] = {
    ".csv": partial(_delimited, delimiter=","),
    ".tsv": partial(_delimited, delimiter="\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    PARQUET_SUFFIX: _parquet,
}
SUFFIXES = tuple(_READERS)
"""The supported suffixes."""
