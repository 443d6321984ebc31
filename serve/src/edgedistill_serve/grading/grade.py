"""Grading of tables: in order, in constant memory, and in parts that a fault does not lose.

One thread reads and writes; each of the others scores a batch at a time. Some batches are read ahead, so that no thread
waits for another one's batch.
"""

import hashlib
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from edgedistill_serve.errors import DataError, EdgeDistillError
from edgedistill_serve.grading.columns import Batch, Rejection, check_columns
from edgedistill_serve.grading.grade_batch import GradeBatch
from edgedistill_serve.grading.part_writers import part_writer
from edgedistill_serve.grading.parts import (
    GradingCounts,
    Part,
    Parts,
    check_folder,
    total,
    write_rejected,
)
from edgedistill_serve.grading.sources import Reading, Source
from edgedistill_serve.grading.storage import STANDARD, Folder, InputFile, LocalFolder, find_inputs, is_address, locate
from edgedistill_serve.grading.table_formats import WRITTEN, TableFormat, suffixes, table_format
from edgedistill_serve.grading.table_reader import import_pyarrow
from edgedistill_serve.grading.table_writer import check_path, remove_leftovers
from edgedistill_serve.scoring.score import score_columns
from edgedistill_serve.scoring.scorer import Scorer

__all__ = ["PART_ROWS", "GradingCounts", "GradingStopped", "grade"]

PART_ROWS = 2**14
"""Default number of rows of a part."""
_AHEAD = 3
"""Batches that are read, or scored and not yet written, besides one for each thread."""


class GradingStopped(EdgeDistillError):
    """A grading was asked to stop, and has finished its part in hand."""

    exit_code = 1


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


def grade(
    scorer: Scorer,
    source: Path | str,
    target: Path | str,
    *,
    overwrite: bool = False,
    restart: bool = False,
    prefix: str = "",
    strict: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
    read_format: str | None = None,
    write_format: str | None = None,
    part_rows: int = PART_ROWS,
    progress: Callable[[GradingCounts, float | None], None] = lambda _counts, _share: None,
    note: Callable[[str], None] = lambda _text: None,
    stop: Callable[[], bool] = lambda: False,
) -> GradingCounts:
    """Score every row of a table.

    A grading that ended early goes on after its last whole part if it is called again with the same arguments.

    Args:
        scorer: The scorer.
        source: A file, a folder, a pattern such as ``terms/*.csv``, an fsspec address, or ``-`` for stdin: CSV, TSV,
            JSONL or Parquet with a column for each input of the task. Names may end in ``.gz`` or ``.zst``.
        target: The table to write; its suffix selects the format. It has the columns of ``source``, in order and with
            their types, and those of `score_columns`. A path that ends in a slash is a folder of parts. ``-`` is
            stdout.
        overwrite: Whether to replace an existing ``target``.
        restart: Whether to delete the parts of an earlier grading and begin again.
        prefix: Prefix of every added column name.
        strict: Whether a row that cannot be read is an error. Otherwise it is in ``TARGET.rejected.csv``.
        delimiter: That of CSV and TSV input; by default, it is detected.
        encoding: That of text input; by default, it is detected.
        read_format: Format of the input, if its suffix does not name it.
        write_format: Format of the output, if its suffix does not name it.
        part_rows: Rows of a part.
        progress: Called after every batch with the counts and with the share of the input that has been read, which is
            None if it is unknown.
        note: Called with messages for the user.
        stop: Asked after every part whether to stop.

    Returns:
        The counts. Rows that cannot be scored are written with their error.

    Raises:
        DataError: ``source`` cannot be read or lacks an input, or ``target`` cannot be written. ``target`` is then
            unchanged; whole parts are kept, and the hint says where.
        GradingStopped: ``stop`` returned true.
    """
    with ExitStack() as opened:
        where = _target(str(target), write_format, opened, overwrite=overwrite)
        files = find_inputs(str(source), suffixes())
        _check_different(files, str(target), where)
        read = Source(files, Reading(scorer.bundle.task.inputs, delimiter, encoding, read_format))
        batches = GradeBatch(scorer, prefix=prefix)
        check_columns(tuple(read.kinds), scorer.bundle.task, batches.added, files[0].name)
        for text in read.notes:
            note(text)
        parts = Parts(where.work, where.form, _manifest(scorer, read, where.form, prefix, part_rows))
        run = _Run(read, batches, parts, strict, part_rows, progress, note, stop)
        return _graded(run, where, restart=restart)


def _graded(run: "_Run", where: Target, *, restart: bool) -> GradingCounts:
    where.work.make()
    with where.work.lock():
        whole = run.parts.resume(restart=restart)
        if whole:
            run.note(f"{total(whole).read} rows are in whole parts of an earlier grading; it goes on after them")
        try:
            run.finish(whole)
            _report_rejected(run, whole, where)
            if where.name is None:
                run.parts.complete(whole)
            else:
                run.parts.put_together(whole, where.folder, where.name)
                run.parts.delete()
        except (DataError, GradingStopped) as error:
            hint = " ".join(part for part in (error.hint, _kept(run.parts, whole, where)) if part)
            raise type(error)(error.what, where=error.where, hint=hint or None) from None
        except BaseException:
            run.note(_kept(run.parts, whole, where))
            raise
    return total(whole)


def _report_rejected(run: "_Run", whole: list[Part], where: Target) -> None:
    if where.is_temporary:
        for file, row, reason in [each for part in whole for each in part.rejected]:
            run.note(f"{file}, row {row}: {reason}")
    elif write_rejected(where.folder, where.rejected, whole):
        run.note(f"the rows that could not be read are in {where.rejected}, with their reasons")


def _kept(parts: Parts, whole: list[Part], where: Target) -> str:
    """Return what a grading that ends early leaves; without a whole part, nothing."""
    rows = total(whole).read
    if whole and not where.is_temporary:
        return f"{rows} rows are in whole parts in {where.work.address}; the same command goes on after them."
    with suppress(DataError):  # which would hide the error that ended the grading
        parts.delete()
    return (
        f"{where.shown[:300]} was not written; {rows} graded rows are lost."
        if rows
        else f"{where.shown[:300]} was not written."
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """One grading: reads ahead, scores on all threads, and writes part by part."""

    source: Source
    batches: GradeBatch
    parts: Parts
    strict: bool
    part_rows: int
    progress: Callable[[GradingCounts, float | None], None]
    note: Callable[[str], None]
    stop: Callable[[], bool]

    def finish(self, whole: list[Part]) -> None:
        """Write the parts that are missing, and append them to ``whole``."""
        before = total(whole)
        with _scored(self.source.batches(before.read, self.part_rows), self.batches) as scored:
            while (part := self._next_part(scored, len(whole), before)) is not None:
                whole.append(part)
                before += part.counts
                if self.stop():
                    raise GradingStopped("stopped")
        if not whole:
            whole.append(self._write_part([], 0, before))

    def _next_part(self, scored: "_Scored", number: int, before: GradingCounts) -> Part | None:
        first = next(scored, None)
        return None if first is None else self._write_part(_until_end(first, scored), number, before)

    def _write_part(self, scored: "Iterable[_ScoredBatch]", number: int, before: GradingCounts) -> Part:
        parts, counts = self.parts, GradingCounts()
        rejected: list[tuple[str, int, str]] = []
        with parts.folder.create(parts.name(number)) as file:
            writer = part_writer(file, parts.form, self.source.kinds, self.batches.added)
            for batch, scores in scored:
                if self.strict and batch.rejected:
                    raise _as_error(batch.rejected[0])
                if batch.rows:
                    writer.write({**batch.columns, **scores})
                rejected += [(each.file, each.row, each.reason) for each in batch.rejected]
                counts += _counts(batch, scores, self.batches)
                self.progress(before + counts, self.source.share_read)
            writer.finish()
            file.seek(0)
            digest = hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
            part = Part(counts, file.tell(), digest, writer.header_bytes, rejected)
        parts.write_account(number, part)
        return part


_ScoredBatch: TypeAlias = tuple[Batch, Mapping[str, list[Any]]]
_Scored: TypeAlias = Iterator[_ScoredBatch]


def _until_end(first: _ScoredBatch, scored: _Scored) -> _Scored:
    """Yield the batches of one part."""
    yield first
    if not first[0].ends_part:
        for each in scored:
            yield each
            if each[0].ends_part:
                return


@contextmanager
def _scored(batches: Iterator[Batch], grade: GradeBatch) -> Iterator[_Scored]:
    """Score batches in order, several at the same time, and read some ahead."""
    threads = grade.scorer.threads
    inputs = grade.scorer.bundle.task.inputs

    def score(batch: Batch) -> Mapping[str, list[Any]]:
        return grade.columns({name: batch.columns[name] for name in inputs})

    def in_order() -> _Scored:
        waiting: deque[tuple[Batch, Future[Mapping[str, list[Any]]]]] = deque()
        for batch in batches:
            waiting.append((batch, pool.submit(score, batch)))
            while len(waiting) > threads + _AHEAD or (waiting and waiting[0][1].done()):
                ready, future = waiting.popleft()
                yield ready, future.result()
        for ready, future in waiting:
            yield ready, future.result()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="grade")
    try:
        yield in_order()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _as_error(rejection: Rejection) -> DataError:
    return DataError(rejection.reason.rstrip("."), where=f"{rejection.file}, row {rejection.row}")


def _counts(batch: Batch, scores: Mapping[str, list[Any]], grade: GradeBatch) -> GradingCounts:
    errors, review = scores[f"{grade.prefix}error"], scores[f"{grade.prefix}decision"]
    failed = len(errors) - errors.count(None)
    read, rejected = batch.rows + len(batch.rejected), len(batch.rejected)
    return GradingCounts(read, batch.rows - failed, failed, review.count("review"), rejected)


def _target(target: str, stated: str | None, opened: ExitStack, *, overwrite: bool) -> Target:
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


def _check_different(sources: Sequence[InputFile], target: str, where: Target) -> None:
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


def _manifest(scorer: Scorer, source: Source, form: TableFormat, prefix: str, part_rows: int) -> dict[str, Any]:
    """Return what the bytes of the output depend on."""
    bundle = scorer.bundle.manifest
    kinds = {name: kind.__name__ if isinstance(kind, type) else str(kind.type) for name, kind in source.kinds.items()}
    return {
        "manifest_version": 1,
        "bundle": {"name": bundle.name, "version": bundle.version},
        "graph": {"precision": scorer.precision, "device": scorer.device},
        "input": [{"name": file.name, "bytes": file.size, "sha256": file.fingerprint()} for file in source.files],
        "read_as": source.dialects,
        "columns": kinds,
        "added_columns": list(score_columns(scorer.bundle.task, prefix)),
        "format": form.suffix,
        "part_rows": part_rows,
    }


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
