"""Grading of tables: in order, in constant memory, and in parts that a fault does not lose.

One thread reads and writes; each of the others scores a batch at a time. Some batches are read ahead, so that no thread
waits for another one's batch.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.errors import DataError, EdgeDistillError
from edgedistill_serve.grading.columns import Batch, Kind, Rejection, check_columns
from edgedistill_serve.grading.grade_batch import GradeBatch
from edgedistill_serve.grading.graded_journal import GradedJournal, check_journal_columns
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows
from edgedistill_serve.grading.part_writers import part_writer
from edgedistill_serve.grading.parts import (
    GradingCounts,
    Part,
    Parts,
    total,
    write_rejected,
)
from edgedistill_serve.grading.sources import Reading, Source
from edgedistill_serve.grading.storage import InputFile, find_inputs
from edgedistill_serve.grading.table_formats import TableFormat, suffixes
from edgedistill_serve.grading.targets import Target, check_different, find_target
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
    columns: Mapping[str, str] | None = None,
    header: HeaderRows = HEADER_FIRST,
    html: bool = False,
    part_rows: int = PART_ROWS,
    journal: GradedJournal | None = None,
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
        columns: By input of the task, its column, if the column has another name: the whole name, or its beginning with
            an ellipsis.
        header: Where the header is in CSV, TSV and xlsx files, and the sheet. More header rows are recognised.
        html: Whether the texts are HTML, of which the student reads what it shows. The table that is written has them
            unchanged.
        part_rows: Rows of a part.
        journal: Counts the rows for `edgedistill monitor`; None for no journal.
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
        where = find_target(str(target), write_format, opened, overwrite=overwrite)
        files = find_inputs(str(source), suffixes())
        check_different(files, str(target), where)
        inputs = scorer.bundle.task.inputs
        if unknown := [name for name in columns or {} if name not in inputs]:
            raise DataError(f"the task has no input {unknown[0]!r}", hint=f"Its inputs are {', '.join(inputs)}.")
        read = Source(files, Reading(inputs, delimiter, encoding, read_format, columns or {}, header))
        batches = GradeBatch(scorer, prefix=prefix, columns=read.columns, html=html)
        check_columns(tuple(read.kinds), scorer.bundle.task, batches.added, files[0].name, read.columns)
        for text in [*read.notes, *([_HTML] if html else [])]:
            note(text)
        described = manifest(
            scorer.bundle,
            {"precision": scorer.precision, "device": scorer.device},
            {file: file.fingerprint() for file in files},
            read.kinds,
            [*read.dialects, *_read_as(read.columns, header, html=html)],
            form=where.form,
            prefix=prefix,
            part_rows=part_rows,
            journal=journal,
        )
        if journal is not None:
            check_journal_columns(journal, tuple(read.kinds), files[0].name)
        parts = Parts(where.work, where.form, described, journal, scorer.bundle.manifest.known_verdict.status)
        return finish_grading(
            _Here(read, batches, parts, strict, part_rows, progress, note, stop), where, restart=restart
        )


_HTML = "the texts are read as HTML: tags are removed, and references such as &nbsp; are characters"


def _read_as(columns: Mapping[str, str], header: HeaderRows, *, html: bool) -> Iterator[str]:
    """Yield what the scores depend on besides dialects, if it is not the default."""
    yield from (f"{name} from the column {column!r}" for name, column in sorted(columns.items()))
    if header != HEADER_FIRST:
        sheet = "" if header.sheet is None else f", sheet {header.sheet!r}"
        yield f"header in row {header.header_row}, first row {header.first_row}{sheet}"
    if html:
        yield "HTML"


class Engine(Protocol):
    """Makes the parts of a grading: this process, or the workers of a cluster."""

    @property
    def parts(self) -> Parts:
        """The parts."""

    @property
    def note(self) -> Callable[[str], None]:
        """Called with messages for the user."""

    def resume(self, *, restart: bool) -> list[Part]:
        """Return the whole parts of an earlier grading, from the first one on; with ``restart``, delete all parts."""

    def finish(self, whole: list[Part]) -> None:
        """Make the parts that are missing, append each one to ``whole``, and leave them there in order."""


def finish_grading(engine: Engine, where: Target, *, restart: bool) -> GradingCounts:
    """Make the parts of a grading, and its output of them; see `grade`."""
    parts = engine.parts
    where.work.make()
    with where.work.lock():
        whole = engine.resume(restart=restart)
        try:
            engine.finish(whole)
            _report_rejected(engine, whole, where)
            if parts.journal is not None:
                parts.journal.write(parts.manifest, [part.journal for part in whole], engine.note)
            if where.name is None:
                parts.complete(whole)
            else:
                parts.put_together(whole, where.folder, where.name)
                parts.delete()
        except (DataError, GradingStopped) as error:
            hint = " ".join(part for part in (error.hint, _kept(parts, whole, where)) if part)
            raise type(error)(error.what, where=error.where, hint=hint or None) from None
        except BaseException:
            engine.note(_kept(parts, whole, where))
            raise
    return total(whole)


def _report_rejected(engine: Engine, whole: list[Part], where: Target) -> None:
    if where.is_temporary:
        for file, row, reason in [each for part in whole for each in part.rejected]:
            engine.note(f"{file}, row {row}: {reason}")
    elif write_rejected(where.folder, where.rejected, whole):
        engine.note(f"the rows that could not be read are in {where.rejected}, with their reasons")


def _kept(parts: Parts, whole: list[Part], where: Target) -> str:
    """Return what a grading that ends early leaves; without a whole part, nothing."""
    rows = total(whole).read
    try:
        kept = () if where.is_temporary else parts.numbers()
    except DataError:  # the storage failed, which ended the grading
        return f"{where.work.address} cannot be reached; the same command goes on after the whole parts that it has."
    if kept:
        what = f"{rows} rows are in whole parts" if len(kept) == len(whole) else f"{len(kept)} whole parts are"
        return f"{what} in {where.work.address}; the same command goes on after them."
    with suppress(DataError):  # which would hide the error that ended the grading
        parts.delete()
    return (
        f"{where.shown[:300]} was not written; {rows} graded rows are lost."
        if rows
        else f"{where.shown[:300]} was not written."
    )


@dataclass(frozen=True, slots=True)
class _Here:
    """This process: reads ahead, scores on all threads, and writes part by part."""

    source: Source
    batches: GradeBatch
    parts: Parts
    strict: bool
    part_rows: int
    progress: Callable[[GradingCounts, float | None], None]
    note: Callable[[str], None]
    stop: Callable[[], bool]

    def resume(self, *, restart: bool) -> list[Part]:
        whole = self.parts.resume(restart=restart)
        if whole:
            self.note(f"{total(whole).read} rows are in whole parts of an earlier grading; it goes on after them")
        return whole

    def finish(self, whole: list[Part]) -> None:
        before = total(whole)
        html = 0

        def count(batch: Batch) -> None:
            nonlocal html
            html += self.batches.count_html(batch.columns) if batch.rows and not self.batches.html else 0

        with scored_batches(self.source.batches(before.read, self.part_rows), self.batches) as scored:
            while (first := next(scored, None)) is not None:
                whole.append(self._write_part(len(whole), _until_end(first, scored), before, count))
                before += whole[-1].counts
                if self.stop():
                    raise GradingStopped("stopped")
        if not whole:
            whole.append(self._write_part(0, [], before, count))
        if html:
            self.note(
                f"{html} rows have HTML, such as <p> or &nbsp;, which was read as text; --html reads what it shows"
            )

    def _write_part(
        self, number: int, scored: "Iterable[_ScoredBatch]", before: GradingCounts, count: Callable[[Batch], None]
    ) -> Part:
        def on_batch(batch: Batch, counts: GradingCounts) -> None:
            if self.strict and batch.rejected:
                raise _as_error(batch.rejected[0])
            count(batch)
            self.progress(before + counts, self.source.share_read)

        return write_part(self.parts, number, scored, self.source.kinds, self.batches, on_batch)


def write_part(
    parts: Parts,
    number: int,
    scored: "Iterable[_ScoredBatch]",
    kinds: Mapping[str, Kind],
    grade: GradeBatch,
    on_batch: Callable[[Batch, GradingCounts], None] = lambda _batch, _counts: None,
) -> Part:
    """Write a part and declare it whole.

    Args:
        parts: Where.
        number: Its number.
        scored: Its rows, with the columns of their scores.
        kinds: The columns of the source, with their types.
        grade: What scored them.
        on_batch: Called with each batch, and with the counts of the part so far.
    """
    counts = GradingCounts()
    rejected: list[tuple[str, int, str]] = []
    journal = parts.journal
    tally = None if journal is None else journal.new_tally()
    with parts.folder.create(parts.name(number)) as file:
        writer = part_writer(file, parts.form, kinds, grade.added)
        for batch, scores in scored:
            if batch.rows:
                writer.write({**batch.columns, **scores})
                if journal is not None and tally is not None:
                    journal.count(tally, batch, scores, grade)
            rejected += [(each.file, each.row, each.reason) for each in batch.rejected]
            counts += _counts(batch, scores, grade)
            on_batch(batch, counts)
        writer.finish()
        file.seek(0)
        digest = hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
        lines = [] if tally is None else list(tally.lines())
        part = Part(counts, file.tell(), digest, writer.header_bytes, rejected, lines)
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
def scored_batches(batches: Iterator[Batch], grade: GradeBatch) -> Iterator[_Scored]:
    """Score batches in order, several at the same time, and read some ahead."""
    threads = grade.scorer.threads

    def score(batch: Batch) -> Mapping[str, list[Any]]:
        return grade.columns(batch.columns)

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


def manifest(
    bundle: Bundle,
    graph: Mapping[str, str],
    inputs: Mapping[InputFile, str],
    columns: Mapping[str, Kind],
    read_as: Sequence[str],
    *,
    form: TableFormat,
    prefix: str,
    part_rows: int,
    journal: GradedJournal | None = None,
) -> dict[str, Any]:
    """Return what the bytes of the output depend on.

    Args:
        bundle: The bundle.
        graph: The precision and the device of its graph.
        inputs: The files, with the SHA-256 of each one.
        columns: Their columns, with their types.
        read_as: How each text file is read.
        form: The format of the parts.
        prefix: Prefix of every added column name.
        part_rows: Rows of a part.
        journal: Counts the rows; None for no journal.
    """
    kinds = {name: kind.__name__ if isinstance(kind, type) else str(kind.type) for name, kind in columns.items()}
    return {
        "manifest_version": 1,
        "bundle": {"name": bundle.manifest.name, "version": bundle.manifest.version},
        "graph": graph,
        "input": [{"name": file.name, "bytes": file.size, "sha256": sha256} for file, sha256 in inputs.items()],
        "read_as": read_as,
        "columns": kinds,
        "added_columns": list(score_columns(bundle.task, prefix)),
        "format": form.suffix,
        "part_rows": part_rows,
        **(journal.described if journal else {}),
    }
