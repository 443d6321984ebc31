"""Atomic writing of CSV, TSV, JSONL and Parquet files."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.columns import MISSING, arrow_field
from edgedistill_serve.grading.part_writers import part_writer
from edgedistill_serve.grading.storage import TEMPORARY, LocalFolder, lock
from edgedistill_serve.grading.table_formats import table_format
from edgedistill_serve.grading.table_reader import SUFFIXES, TableRow

SourceColumns: TypeAlias = Mapping[str, Any]
AddedColumns: TypeAlias = Mapping[str, type[str] | type[float] | type[int] | type[bool]]
"""New columns and the types of their values; any value may be None."""
WriteRow: TypeAlias = Callable[[TableRow, Mapping[str, Any]], None]

_ROWS = 1024
"""Rows that are written in one step."""
_LEFTOVER = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}", re.DOTALL)


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
    form = table_format(path.name)
    kinds = {name: str if kind is None else arrow_field(name, kind) for name, kind in columns.items()}
    # Texts are written as they are read; values, where the format has types.
    typed = {name for name, kind in columns.items() if form.kind == "jsonl" or (form.kind == "parquet" and kind)}
    waiting: dict[str, list[Any]] = {name: [] for name in {**columns, **added}}
    with LocalFolder(path.parent).create(path.name) as file:
        writer = part_writer(file, form, kinds, added)

        def flush() -> None:
            writer.write(waiting)
            for column in waiting.values():
                column.clear()

        def write(row: TableRow, values: Mapping[str, Any]) -> None:
            for name in columns:
                waiting[name].append((row.raw if name in typed else row.values).get(name, MISSING))
            for name in added:
                waiting[name].append(values[name])
            if len(next(iter(waiting.values()))) >= _ROWS:
                flush()

        yield write
        flush()
        writer.finish()


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of writers in the folder of ``path`` that were killed: they contain learners' texts.

    A living writer holds a lock on its file. Windows does not delete files that are open.
    """
    with suppress(OSError):
        for file in [each for each in path.parent.iterdir() if _LEFTOVER.fullmatch(each.name)]:
            with suppress(OSError):
                with file.open("rb") as opened:
                    lock(opened)
                file.unlink()


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check that a table can be written to a path.

    Raises:
        DataError: The file exists, its suffix is unknown, its name is too long, or its folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
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
