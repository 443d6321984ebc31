"""A response that was asked for, once or several times, and is on its way through the queue."""

from dataclasses import dataclass, field
from typing import NamedTuple

from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.scorer import BatchResult, Score, Scorer
from edgedistill_serve.server.queue.planner import WaitingRow, WorkItem
from edgedistill_serve.server.queue.work_item import CompletedWork, Pending


class Caller(NamedTuple):
    """One who waits for a row.

    Attributes:
        since: When it was asked for.
        deadline: When it is wanted no more; None is never.
    """

    since: float
    deadline: float | None


@dataclass(slots=True, eq=False)
class QueuedRow(WaitingRow):
    """A row, and those who wait for its score.

    Attributes:
        scorer: Scores it.
        inputs: What is scored.
        key: Tells its texts from others.
        since: When it was first asked for.
        callers: Who waits; more than one where equal texts were asked for. The row's deadline is their earliest.
        thread: Scores it now.
        taken: When that began.
        encoded: As the graph reads it, where that is known before it is scored.
        tokenize_seconds: Seconds that this took.
    """

    scorer: Scorer = field(kw_only=True)
    inputs: dict[str, str] = field(kw_only=True)
    key: bytes = field(kw_only=True)
    since: float = field(kw_only=True)
    callers: dict[Pending, Caller] = field(default_factory=dict, kw_only=True)
    thread: int | None = field(default=None, kw_only=True)
    taken: float = field(default=0.0, kw_only=True)
    encoded: Encoded | None = field(default=None, kw_only=True)
    tokenize_seconds: float = field(default=0.0, kw_only=True)

    def earliest(self) -> float | None:
        """Return the earliest deadline of those who wait."""
        return min((caller.deadline for caller in self.callers.values() if caller.deadline is not None), default=None)


def completed_work(work: WorkItem[QueuedRow], scored: BatchResult, tokenize_seconds: float) -> CompletedWork:
    """Return what is counted of a piece of work.

    Args:
        work: What was done.
        scored: What came of its rows.
        tokenize_seconds: Seconds from their texts to token ids.
    """
    model = work.rows[0].scorer.bundle.manifest
    scores = tuple(result for result in scored.results if isinstance(result, Score))
    return CompletedWork(
        model.name,
        model.version,
        work.lane,
        scores,
        len(scored.results) - len(scores),
        tuple(asked.taken - asked.since for asked in work.rows),
        scored.tokens,
        scored.padded_tokens,
        tokenize_seconds,
        scored.model_seconds,
    )
