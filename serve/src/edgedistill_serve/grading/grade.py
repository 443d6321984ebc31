"""Scores a file of responses into another file, in flat memory and in order."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from edgedistill_serve.errors import DataError, EdgeDistillError
from edgedistill_serve.grading.parquet import column_types
from edgedistill_serve.grading.table_reader import TableRow, read_columns, read_rows
from edgedistill_serve.grading.table_writer import AddedColumns, check_target, table_writer
from edgedistill_serve.scoring.score import Score, score_columns, score_values
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.task.task import Task

_ROWS_AT_ONCE = 256
"""How many rows are held in memory; those among them that are equal are scored once."""


@dataclass(frozen=True, slots=True)
class GradingCounts:
    """What became of the rows: ``read == scored + errors``.

    Attributes:
        read: Rows of the input file, and of the output file.
        scored: Rows with a score.
        errors: Rows that could not be scored; their ``error`` column says why.
        review: Scored rows that a person should look at.
    """

    read: int = 0
    scored: int = 0
    errors: int = 0
    review: int = 0

    def with_row(self, result: Score | EdgeDistillError) -> "GradingCounts":
        """Count one more row."""
        scored = isinstance(result, Score)
        to_review = isinstance(result, Score) and result.decision == "review"
        return GradingCounts(self.read + 1, self.scored + scored, self.errors + (not scored), self.review + to_review)

    def as_dict(self) -> dict[str, int]:
        """Return the counts for JSON."""
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
        scorer: What to score with.
        source: A table with a column per input of the task; see `tables.read_rows`.
        target: The table to write, by its suffix: every column of ``source``, then those of `score.score_columns`.
        overwrite: Whether ``target`` is replaced where it is there.
        prefix: Begins the name of every added column.
        progress: Called with the counts so far, every few hundred rows.

    Returns:
        The counts. A row that cannot be scored is written with its error; none is left out.

    Raises:
        DataError: ``source`` cannot be read or lacks an input, or ``target`` cannot be written; then ``target`` is as
            it was.
    """
    check_target(target, overwrite=overwrite)
    task = scorer.bundle.task
    added = score_columns(task, prefix)
    given = read_columns(source)
    _check_columns(given, task, added, source)
    counts = GradingCounts()
    types = column_types(source)
    with table_writer(target, {name: types.get(name) for name in given}, added, overwrite=overwrite) as write:
        for rows in _chunks(read_rows(source)):
            # Not their text: a number, a list or a null in the place of a response is no response.
            results = scorer.score_each([row.given for row in rows])
            for row, result in zip(rows, results, strict=True):
                write(row, score_values(result, added))
                counts = counts.with_row(result)
            if progress is not None:
                progress(counts)
    return counts


def _check_columns(given: tuple[str, ...], task: Task, added: AddedColumns, source: Path) -> None:
    for name in task.inputs:
        if name not in given:
            raise DataError(
                f"there is no column {name!r}",
                where=source.name,
                hint=f"This task's inputs are {', '.join(task.inputs)}; the file has {', '.join(given) or 'none'}.",
            )
    taken = [name for name in added if name in given]
    if taken:
        raise DataError(
            f"the file already has the column {taken[0]!r}, which grading would add",
            where=source.name,
            hint="Give the added columns a prefix, such as --prefix scored_.",
        )


def _chunks(rows: Iterator[TableRow]) -> Iterator[list[TableRow]]:
    while chunk := list(islice(rows, _ROWS_AT_ONCE)):
        yield chunk
