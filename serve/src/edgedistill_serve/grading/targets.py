"""Where a graded table is written, and what is checked before anything is."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.parts import check_folder
from edgedistill_serve.grading.storage import STANDARD, Folder, InputFile, LocalFolder, is_address, locate
from edgedistill_serve.grading.table_formats import WRITTEN, TableFormat, suffixes, table_format
from edgedistill_serve.grading.table_reader import import_pyarrow
from edgedistill_serve.grading.table_writer import check_path, remove_leftovers


@dataclass(frozen=True, slots=True)
class Target:
    """Where a graded table is written.

    Attributes:
        shown: The path or address, for messages.
        form: The format of the parts and of the table.
        work: The folder of the parts.
        folder: The folder of the table and of ``rejected``.
        name: Name of the table in ``folder``; None if the parts are the output.
        rejected: Name of the file of rows that could not be read.
        is_temporary: Whether the parts are deleted after a fault, because the output is stdout.
    """

    shown: str
    form: TableFormat
    work: Folder
    folder: Folder
    name: str | None
    rejected: str
    is_temporary: bool = False


def find_target(target: str, stated: str | None, opened: ExitStack, *, overwrite: bool) -> Target:
    """Check the target, and return where its parts are."""
    if target == STANDARD:
        work: Folder = LocalFolder(Path(opened.enter_context(tempfile.TemporaryDirectory())) / "parts")
        return Target(
            "stdout", _written(f"stdout.{stated or 'csv'}", stated), work, _StandardOutput(), "stdout", "", True
        )
    is_folder = target.endswith(("/", "\\")) or (
        not is_address(target) and Path(target).is_dir() and not target.lower().endswith(suffixes())
    )
    target = target.rstrip("/\\") if is_folder else target
    folder, name = locate(target)
    form = _written(f"{name}.{stated or 'parquet'}" if is_folder else name, stated)
    if isinstance(folder, LocalFolder):
        _check_local(folder.path / name, is_folder=is_folder, overwrite=overwrite)
    elif not is_folder and name in folder.names() and not overwrite:
        raise DataError("the file exists already", where=target[:300], hint="Use --force to replace it.")
    if is_folder:
        check_folder(folder.inner(name), overwrite=overwrite)
    work = folder.inner(name if is_folder else f"{name}.parts")
    return Target(target, form, work, folder, None if is_folder else name, f"{name}.rejected.csv")


def _written(name: str, stated: str | None) -> TableFormat:
    form = table_format(name, stated)
    if form.kind not in WRITTEN:
        raise DataError(
            f"tables cannot be written as {form.suffix}", where=name[:300], hint=f"Write {', '.join(WRITTEN)}."
        )
    if form.kind == "parquet":
        import_pyarrow(name)
    return form


def _check_local(path: Path, *, is_folder: bool, overwrite: bool) -> None:
    if is_folder:
        if not path.parent.is_dir():
            raise DataError("the folder does not exist", where=str(path.parent))
        return
    check_path(path, overwrite=overwrite)
    remove_leftovers(path)


def check_different(sources: Sequence[InputFile], target: str, where: Target) -> None:
    """Refuse a table that is graded into itself: after a fault, neither would be there."""
    if where.is_temporary:
        return
    local = None if is_address(target) else Path(target)
    for source in sources:
        same = source.address == target or (
            local is not None and local.exists() and Path(source.address).exists() and local.samefile(source.address)
        )
        if same:
            raise DataError("IN and OUT are the same file", where=target[:300], hint="Write to another file.")


class _StandardOutput(LocalFolder):
    """Writes to stdout."""

    def __init__(self) -> None:
        super().__init__(Path())

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        if name != "stdout":
            raise DataError("only the table is written to stdout", where=name)
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
