"""Strict reading of CSV, TSV, JSONL and Parquet files, row by row.

Parquet files need the optional dependency pyarrow.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.text_rows import (
    DelimitedText,
    ReadRow,
    RejectedRow,
    TableRow,
    check_header,
    json_rows,
    open_text,
    typed_row,
)

__all__ = [
    "PARQUET_SUFFIX",
    "SUFFIXES",
    "ExactTime",
    "TableRow",
    "import_pyarrow",
    "read_columns",
    "read_parquet_types",
    "read_rows",
]

PARQUET_SUFFIX = ".parquet"


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


def import_pyarrow(name: str, what: str = "Parquet files") -> Any:
    """Import pyarrow and pyarrow.parquet.

    Args:
        name: Name of the file, for the error message.
        what: What requires pyarrow, for the error message.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet  # makes it an attribute of `pa`
    except ImportError:
        raise DataError(
            f"{what} require pyarrow", where=name, hint='Install it: pip install "edgedistill-serve[parquet]".'
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
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb"))
            if not file.peek(1):
                raise DataError("the file is empty", where=path.name)
            yield reader(file, path.name, opened)
    except FileNotFoundError:
        raise DataError("the file does not exist", where=str(path)) from None
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error})", where=str(path)) from None


def _delimited(file: BinaryIO, name: str, opened: ExitStack, *, delimiter: str) -> _Table:
    _skip_separator_line(file, name, delimiter)
    text = DelimitedText(opened.enter_context(open_text(file, "utf-8-sig")), name, delimiter)
    _check_columns(text.header, name, delimiter)
    return _Table(text.header, _accepted(text.rows()))


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


def _check_columns(header: tuple[str, ...], name: str, delimiter: str) -> None:
    check_header(header, f"{name}, row 1")
    other = next((char for char in ",;\t" if char != delimiter and char in header[0]), None)
    if len(header) == 1 and other is not None:
        raise DataError(
            f"the columns seem to be separated by {other!r}, but a {Path(name).suffix} file uses {delimiter!r}",
            where=f"{name}, row 1",
            hint="Save it as comma-separated CSV, or as tab-separated TSV.",
        )


def _json_lines(file: BinaryIO, name: str, opened: ExitStack) -> _Table:
    text = opened.enter_context(open_text(file, "utf-8-sig", newline="\n"))
    return _Table(None, _accepted(json_rows(text, name)))


def _accepted(rows: Iterator[ReadRow]) -> Iterator[TableRow]:
    """Yield rows up to the first one that is malformed, which is an error."""
    for row in rows:
        if isinstance(row, RejectedRow):
            raise row.error
        yield row


def _parquet(file: BinaryIO, name: str, _opened: ExitStack) -> _Table:
    pa = import_pyarrow(name)
    try:
        table = pa.parquet.ParquetFile(file)
    except pa.ArrowException as error:
        raise DataError(f"the file is not valid Parquet ({error})", where=name) from None
    header = tuple(table.schema_arrow.names)
    check_header(header, name)
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
                yield typed_row(
                    number, {column: times[column] if column in times else values[column] for column in schema.names}
                )
    except (pa.ArrowException, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise DataError(f"the file cannot be read beyond row {number} ({error})", where=name) from None


def _exact_times(column: Any, pa: Any) -> list[ExactTime | None]:
    pairs = zip(column.cast(pa.int64()).to_pylist(), column.cast(pa.string()).to_pylist(), strict=True)
    return [None if number is None else ExactTime(number, text) for number, text in pairs]


_Reader: TypeAlias = Callable[[BinaryIO, str, ExitStack], _Table]
_READERS: dict[str, _Reader] = {
    ".csv": partial(_delimited, delimiter=","),
    ".tsv": partial(_delimited, delimiter="\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    PARQUET_SUFFIX: _parquet,
}
SUFFIXES = tuple(_READERS)
"""The supported suffixes."""
