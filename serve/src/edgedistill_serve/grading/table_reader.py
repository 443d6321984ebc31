"""Rows of text from CSV, TSV, JSONL and Parquet files, read strictly and one at a time."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.parquet import SUFFIX, import_pyarrow


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a file.

    Attributes:
        row: Its number. In CSV and TSV the header is row 1 and a record counts once however many lines its cells
            have, so that a spreadsheet shows the same number; in JSONL it is the line; in Parquet the first row is 1.
        values: Every value as text, by column: null is ``""``, and what is no text is its JSON text.
        given: The values as the file holds them: text in CSV and TSV, any JSON value in JSONL, any type in Parquet.
    """

    row: int
    values: dict[str, str]
    given: Mapping[str, Any]


def read_rows(path: Path) -> Iterator[TableRow]:
    """Read a table, by its suffix, in flat memory.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file. Text is UTF-8, with or without a byte
            order mark. CSV and TSV have a header row and are quoted as RFC 4180 says.

    Yields:
        The rows in file order; none where there is only a header. Empty lines hold no row, except in a table of one
        column, where an empty line is an empty cell.

    Raises:
        DataError: The file is absent, empty or of another kind, or a row is malformed: the message names it.
    """
    with _opened(path) as table:
        yield from table.rows


def read_columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a table in file order.

    The keys of a JSONL file may differ from line to line: the whole file is read for them, and a key stands where it
    came up first.

    Raises:
        DataError: As `read_rows`; but only a JSONL file is read beyond its header.
    """
    with _opened(path) as table:
        if table.columns is not None:
            return table.columns
        return tuple(dict.fromkeys(key for row in table.rows for key in row.values))


@dataclass(frozen=True, slots=True)
class _Table:
    columns: tuple[str, ...] | None
    rows: Iterator[TableRow]


@contextmanager
def _opened(path: Path) -> Iterator[_Table]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"the suffix {path.suffix!r} names no kind of table",
            where=path.name,
            hint=f"Tables are read from {', '.join(SUFFIXES)} files.",
        )
    try:
        with path.open("rb") as file:
            if not file.peek(1):
                raise DataError("the file is empty", where=path.name)
            yield reader(file, path.name)
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path)) from None
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error})", where=str(path)) from None


def _delimited(file: BinaryIO, name: str, *, delimiter: str) -> _Table:
    records = _records(file, name, delimiter)
    header = tuple(next(records, []))
    if not any(header):
        raise DataError("the file is empty: there is no header row", where=name)
    _check_header(header, name, delimiter)
    return _Table(header, _delimited_rows(records, header, name))


def _check_header(header: tuple[str, ...], name: str, delimiter: str) -> None:
    repeated = next((column for column in header if header.count(column) > 1), None)
    if repeated is not None:
        raise DataError(
            f"two columns have the name {repeated!r}", where=f"{name}, row 1", hint="Rename or delete one of them."
        )
    other = next((mark for mark in ",;\t" if mark != delimiter and mark in header[0]), None)
    if len(header) == 1 and other is not None:
        raise DataError(
            f"the columns seem to be separated by {other!r}, where a {Path(name).suffix} file has {delimiter!r}",
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
                hint="A field that holds a separator or a line break stands between double quotes.",
            )
        values = dict(zip(header, cells, strict=True))
        yield TableRow(number, values, values)


def _records(file: BinaryIO, name: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the fields of every record; an empty line has none."""
    # Bytes that are no UTF-8 become surrogates, which no valid UTF-8 decodes to: so the record at fault is known.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        source: list[str] = []
        lines = (source.append(line) or line for line in text)  # type: ignore[func-returns-value]  # append gives None
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
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
                    raise _too_long(name, number) from None
                raise _badly_quoted(name, number, str(error)) from None
            _check_utf8(source, name, number)
            if any('"' in field for field in record) and not well_quoted.fullmatch("".join(source)):
                raise _badly_quoted(name, number, "a double quote inside a field that is not quoted")
            yield record


_FIELD = r'(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)'
_FIELDS = rf"{_FIELD}(?:,{_FIELD})*+[\r\n]*+"


def _badly_quoted(name: str, number: int, why: str) -> DataError:
    return DataError(
        f"the double quotes of the row that begins here do not match ({why})",
        where=f"{name}, row {number}",
        hint='Put the field between double quotes and write a quote inside it twice: "he said ""yes""".',
    )


def _too_long(name: str, number: int) -> DataError:
    return DataError(
        f"a field of the row that begins here is longer than {csv.field_size_limit()} characters",
        where=f"{name}, row {number}",
        hint="A double quote that nothing closes does this; texts that are so long can be read from JSONL.",
    )


def _check_utf8(lines: list[str], name: str, number: int) -> None:
    try:
        "".join(lines).encode()
    except UnicodeEncodeError:
        raise _no_utf8(name, number) from None


def _no_utf8(name: str, number: int) -> DataError:
    return DataError("the text is no UTF-8", where=f"{name}, row {number}", hint="Save the file as UTF-8.")


def _json_lines(file: BinaryIO, name: str) -> _Table:
    return _Table(None, _json_rows(file, name))


def _json_rows(file: BinaryIO, name: str) -> Iterator[TableRow]:
    any_line = False
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not text.strip():
            continue
        any_line = True
        yield _row(number, _json_object(text, name, number))
    if not any_line:
        raise DataError("the file is empty", where=name)


def _json_object(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(line)
    except UnicodeDecodeError:
        raise _no_utf8(name, number) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"the line is no JSON ({error})", where=f"{name}, row {number}", hint="Every line is one JSON object."
        ) from None
    if not isinstance(given, dict):
        raise DataError(
            "the line is no JSON object", where=f"{name}, row {number}", hint="Every line is one JSON object."
        )
    return given


def _parquet(file: BinaryIO, name: str) -> _Table:
    pa = import_pyarrow(name)
    try:
        table = pa.parquet.ParquetFile(file)
    except pa.ArrowException as error:
        raise DataError(f"the file is no Parquet ({error})", where=name) from None
    header = tuple(table.schema_arrow.names)
    repeated = next((column for column in header if header.count(column) > 1), None)
    if repeated is not None:
        raise DataError(f"two columns have the name {repeated!r}", where=name, hint="Rename or delete one of them.")
    return _Table(header, _parquet_rows(table, name, pa.ArrowException))


def _parquet_rows(table: Any, name: str, failure: type[Exception]) -> Iterator[TableRow]:
    number = 0
    try:
        for batch in table.iter_batches(batch_size=1024):
            for given in batch.to_pylist():
                number += 1
                yield _row(number, given)
    except (failure, UnicodeDecodeError) as error:
        raise DataError(f"the file cannot be read beyond row {number} ({error})", where=name) from None


def _row(number: int, given: dict[str, Any]) -> TableRow:
    return TableRow(number, {column: _text(value) for column, value in given.items()}, given)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    encoded = msgspec.json.encode(value, enc_hook=str)
    # A date or a decimal is a string in JSON, NaN a null.
    return str(msgspec.json.decode(encoded) or "") if encoded[:1] in b'"n' else encoded.decode()


_Reader: TypeAlias = Callable[[BinaryIO, str], _Table]
_READERS: dict[str, _Reader] = {
    ".csv": partial(_delimited, delimiter=","),
    ".tsv": partial(_delimited, delimiter="\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    SUFFIX: _parquet,
}
SUFFIXES = tuple(_READERS)
"""The suffixes of the tables that can be read."""
