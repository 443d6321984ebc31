"""Rows into CSV, TSV, JSONL and Parquet files, which appear whole or not at all."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, TypeAlias

import msgspec

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.parquet import SUFFIX, import_pyarrow
from edgedistill_serve.grading.table_reader import SUFFIXES, TableRow

Columns: TypeAlias = Mapping[str, Any]
AddedColumns: TypeAlias = Mapping[str, type[str] | type[float] | type[int] | type[bool]]
"""The columns to be added, and what their values are; any value may also be None."""
Write: TypeAlias = Callable[[TableRow, Mapping[str, Any]], None]

_PARQUET_ROWS = 1024


@contextmanager
def table_writer(path: Path, columns: Columns, added: AddedColumns, *, overwrite: bool = False) -> Iterator[Write]:
    """Open a table for writing, by its suffix.

    Yields:
        A function that writes a row and its added values. CSV and TSV get text, JSONL the values as they were given,
        Parquet either, as ``columns`` says.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file. What is written lies beside it under
            another name and is moved there when the block ends without an error.
        columns: The columns that were read, in order, with their Arrow types where they come from a Parquet file and
            None elsewhere; a row may lack some of them.
        added: The columns to be added.
        overwrite: Whether a file that is there is replaced.

    Raises:
        DataError: The file is there, is of another kind, or cannot be written.
    """
    check_target(path, overwrite=overwrite)
    aside = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        with aside.open("xb") as file:
            with _FORMATS[path.suffix.lower()](file, columns, added) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise DataError(f"the file cannot be written ({error.strerror or error})", where=str(path)) from None
    finally:
        aside.unlink(missing_ok=True)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check that a table can be written to a path.

    Raises:
        DataError: It is there, is of another kind, or its folder is not there.
    """
    if path.suffix.lower() not in _FORMATS:
        raise DataError(
            f"the suffix {path.suffix!r} names no kind of table",
            where=path.name,
            hint=f"Tables are written to {', '.join(SUFFIXES)} files.",
        )
    if path.is_dir():
        raise DataError("this is a folder, no file", where=str(path))
    if path.exists() and not overwrite:
        raise DataError("the file is there already", where=str(path), hint="Use --force to replace it.")
    if not path.parent.is_dir():
        raise DataError("there is no such folder", where=str(path.parent))


_Format: TypeAlias = Callable[[BinaryIO, Columns, AddedColumns], Any]


def _delimited(delimiter: str) -> _Format:
    @contextmanager
    def opened(file: BinaryIO, columns: Columns, added: AddedColumns) -> Iterator[Write]:
        writer = csv.writer(_Encoded(file), delimiter=delimiter, lineterminator="\r\n")
        writer.writerow([*columns, *added])

        def write(row: TableRow, values: Mapping[str, Any]) -> None:
            writer.writerow([*(row.values.get(name, "") for name in columns), *(_cell(values[name]) for name in added)])

        yield write

    return opened


class _Encoded:
    """What `csv.writer` writes to: text in, UTF-8 out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _cell(value: object) -> object:
    """Booleans are written as JSON and most languages write them; `csv` writes None as an empty cell."""
    return str(value).lower() if isinstance(value, bool) else value


@contextmanager
def _json_lines(file: BinaryIO, _columns: Columns, added: AddedColumns) -> Iterator[Write]:
    encoder = msgspec.json.Encoder(enc_hook=str)

    def write(row: TableRow, values: Mapping[str, Any]) -> None:
        file.write(encoder.encode({**row.given, **{name: values[name] for name in added}}) + b"\n")

    yield write


@contextmanager
def _parquet(file: BinaryIO, columns: Columns, added: AddedColumns) -> Iterator[Write]:
    pa = import_pyarrow("the output")
    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    typed = {name: kind for name, kind in columns.items() if kind is not None}
    schema = pa.schema(
        [(name, typed.get(name, pa.string())) for name in columns] + [(name, kinds[added[name]]) for name in added]
    )
    waiting: list[dict[str, Any]] = []
    with pa.parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        def write(row: TableRow, values: Mapping[str, Any]) -> None:
            waiting.append({**row.values, **{name: row.given[name] for name in typed}, **values})
            if len(waiting) >= _PARQUET_ROWS:
                flush()

        yield write
        if waiting:
            flush()


_FORMATS: dict[str, _Format] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    SUFFIX: _parquet,
}
