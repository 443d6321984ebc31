"""Atomic writing of CSV, TSV, JSONL and Parquet files."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, TypeAlias

import msgspec

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.delimited import write_records
from edgedistill_serve.grading.table_reader import PARQUET_SUFFIX, SUFFIXES, ExactTime, TableRow, import_pyarrow

SourceColumns: TypeAlias = Mapping[str, Any]
AddedColumns: TypeAlias = Mapping[str, type[str] | type[float] | type[int] | type[bool]]
"""New columns and the types of their values; any value may be None."""
WriteRow: TypeAlias = Callable[[TableRow, Mapping[str, Any]], None]

_PARQUET_ROWS = 1024
_TEMPORARY = ".edgedistill-part"
_LEFTOVER = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(_TEMPORARY)}", re.DOTALL)


@contextmanager
def table_writer(
    path: Path, columns: SourceColumns, added: AddedColumns, *, overwrite: bool = False
) -> Iterator[WriteRow]:
    """Open a table file for writing.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file. The rows are written to a temporary
            file, which replaces ``path`` when the block ends without an error.
        columns: The source columns in order, with their Arrow types if they come from a Parquet file, else None. A row
            may lack some of them.
        added: The new columns.
        overwrite: Whether to replace an existing file.

    Yields:
        A function that writes one row and its new values. CSV and TSV get texts, with `escape_cell`; JSONL the raw
        values, and Parquet raw values for columns with an Arrow type and texts for the others.

    Raises:
        DataError: The file exists, has an unknown suffix, or cannot be written.
    """
    check_target(path, overwrite=overwrite)
    remove_leftovers(path)
    # The name of the target may be as long as the file system allows.
    temporary = path.with_name(f".{path.name[:40]}.{token_hex(4)}{_TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            _lock(file)
            with _FORMATS[path.suffix.lower()](file, columns, added) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_be_written(path, error) from None
    finally:
        with suppress(OSError):  # which would hide the error that ended the block
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of writers in the folder of ``path`` that were killed: they contain learners' texts.

    A living writer holds a lock on its file. Windows does not delete files that are open.
    """
    with suppress(OSError):
        for file in [each for each in path.parent.iterdir() if _LEFTOVER.fullmatch(each.name)]:
            with suppress(OSError):
                with file.open("rb") as opened:
                    _lock(opened)
                file.unlink()


def _lock(file: BinaryIO) -> None:
    """Lock a file for as long as it is open.

    Raises:
        OSError: Another process has locked it.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check that a table can be written to a path.

    Raises:
        DataError: The file exists, its suffix is unknown, its name is too long, or its folder does not exist.
    """
    if path.suffix.lower() not in _FORMATS:
        raise DataError(
            f"the suffix {path.suffix!r} is not supported for tables",
            where=path.name,
            hint=f"Use a {', '.join(SUFFIXES)} file.",
        )
    check_path(path, overwrite=overwrite)


def check_path(path: Path, *, overwrite: bool) -> None:
    """Check that a file can be written to a path; see `check_target`."""
    try:
        is_folder, is_file, has_folder = path.is_dir(), path.exists(), path.parent.is_dir()
    except OSError as error:
        raise _cannot_be_written(path, error) from None
    if is_folder:
        raise DataError("the path is a folder and not a file", where=str(path))
    if is_file and not overwrite:
        raise DataError("the file exists already", where=str(path), hint="Use --force to replace it.")
    if not has_folder:
        raise DataError("the folder does not exist", where=str(path.parent))


def _cannot_be_written(path: Path, error: OSError) -> DataError:
    return DataError(f"the file cannot be written ({error.strerror or error})", where=str(path)[:300])


_Format: TypeAlias = Callable[[BinaryIO, SourceColumns, AddedColumns], Any]


def _delimited(delimiter: str) -> _Format:
    @contextmanager
    def opened(file: BinaryIO, columns: SourceColumns, added: AddedColumns) -> Iterator[WriteRow]:
        text = _Utf8File(file)
        write_records(text, [[*columns, *added]], delimiter)

        def write(row: TableRow, values: Mapping[str, Any]) -> None:
            cells = [*(row.values.get(name, "") for name in columns), *(_cell(values[name]) for name in added)]
            write_records(text, [cells], delimiter)

        yield write

    return opened


class _Utf8File:
    """A file for `csv.writer` that encodes texts as UTF-8."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _cell(value: object) -> object:
    """Return booleans in the spelling of JSON; `csv` writes None as an empty cell."""
    return str(value).lower() if isinstance(value, bool) else value


@contextmanager
def _json_lines(file: BinaryIO, _columns: SourceColumns, added: AddedColumns) -> Iterator[WriteRow]:
    encoder = msgspec.json.Encoder(enc_hook=str)

    def write(row: TableRow, values: Mapping[str, Any]) -> None:
        file.write(encoder.encode({**row.raw, **{name: values[name] for name in added}}) + b"\n")

    yield write


@contextmanager
def _parquet(file: BinaryIO, columns: SourceColumns, added: AddedColumns) -> Iterator[WriteRow]:
    pa = import_pyarrow("the output")
    types = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    typed = {name: arrow_type for name, arrow_type in columns.items() if arrow_type is not None}
    schema = pa.schema(
        [(name, typed.get(name, pa.string())) for name in columns] + [(name, types[added[name]]) for name in added]
    )
    buffer: list[dict[str, Any]] = []
    with pa.parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(buffer, schema=schema))
            buffer.clear()

        def write(row: TableRow, values: Mapping[str, Any]) -> None:
            buffer.append({**row.values, **{name: _arrow_value(row.raw[name]) for name in typed}, **values})
            if len(buffer) >= _PARQUET_ROWS:
                flush()

        yield write
        if buffer:
            flush()


def _arrow_value(value: object) -> object:
    return value.number if isinstance(value, ExactTime) else value


_FORMATS: dict[str, _Format] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    PARQUET_SUFFIX: _parquet,
}
