"""Grading of a table file into another one, in order and in constant memory."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from edgedistill_serve.errors import DataError, EdgeDistillError
from edgedistill_serve.grading.table_reader import TableRow, read_columns, read_parquet_types, read_rows
from edgedistill_serve.grading.table_writer import AddedColumns, check_target, table_writer
from edgedistill_serve.scoring.score import Score, score_columns, score_values
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.task.task import Task, quote_columns

_CHUNK_ROWS = 256
"""Number of rows in memory; equal rows within a chunk are scored once."""


@dataclass(frozen=True, slots=True)
class GradingCounts:
    """Row counts of a graded table: ``read == scored + errors``.

    Attributes:
        read: Rows of the input file, and of the output file.
        scored: Rows with a score.
        errors: Rows that could not be scored; their ``error`` column has the reason.
        review: Scored rows with the decision ``review``.
    """

    read: int = 0
    scored: int = 0
    errors: int = 0
    review: int = 0

    def with_row(self, result: Score | EdgeDistillError) -> "GradingCounts":
        """Return the counts with one more row."""
        scored = isinstance(result, Score)
        to_review = isinstance(result, Score) and result.decision == "review"
        return GradingCounts(self.read + 1, self.scored + scored, self.errors + (not scored), self.review + to_review)

    def as_dict(self) -> dict[str, int]:
        """Return the counts as a dictionary, for JSON."""
        return asdict(self)


def grade(
    scorer: Scorer,
    source: Path,
    target: Path,
    *,
    overwrite: bool = False,
    prefix: str = "",
    progress: Callable[[GradingCounts], None] | None = None,
) -> GradingCounts:
    """Score every row of a table.

    Args:
        scorer: The scorer.
        source: A table with a column for each input of the task; see `read_rows`.
        target: The table to write; its suffix selects the format. It has the columns of ``source`` and of
            `score_columns`.
        overwrite: Whether to replace an existing ``target``.
        prefix: Prefix of every added column name.
        progress: Called with the current counts after every few hundred rows.

    Returns:
        The counts. Rows that cannot be scored are written with their error.

    Raises:
        DataError: ``source`` cannot be read or lacks an input, or ``target`` cannot be written. ``target`` is then
            unchanged, and the hint has the number of graded rows that are lost.
    """
    check_target(target, overwrite=overwrite)
    task = scorer.bundle.task
    added = score_columns(task, prefix)
    names = read_columns(source)
    _check_columns(names, task, added, source)
    counts = GradingCounts()
    types = read_parquet_types(source)
    try:
        with table_writer(target, {name: types.get(name) for name in names}, added, overwrite=overwrite) as write:
            for rows in _chunks(read_rows(source)):
                # Raw values and not texts: a number, a list or null is not a valid response.
                results = scorer.score_each([row.raw for row in rows])
                for row, result in zip(rows, results, strict=True):
                    write(row, score_values(result, added))
                    counts = counts.with_row(result)
                if progress is not None:
                    progress(counts)
    except DataError as error:
        lost = f"{target.name[:60]} was not written; {counts.read} graded rows are lost." if counts.read else None
        hint = " ".join(part for part in (error.hint, lost) if part) or None
        raise DataError(error.what, where=error.where, hint=hint) from None
    return counts


def _check_columns(names: tuple[str, ...], task: Task, added: AddedColumns, source: Path) -> None:
    for name in task.inputs:
        if name not in names:
            raise DataError(
                f"there is no column {name!r}",
                where=source.name,
                hint=f"The task's inputs are {', '.join(task.inputs)}; the file has {quote_columns(names)}.",
            )
    duplicates = [name for name in added if name in names]
    if duplicates:
        raise DataError(
            f"the file already has the column {duplicates[0]!r}, which grading would add",
            where=source.name,
            hint="Add a prefix to the new columns, such as --prefix scored_.",
        )


def _chunks(rows: Iterator[TableRow]) -> Iterator[list[TableRow]]:
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        yield chunk
