"""The data that passes through the queue.

Lane            urgency: interactive requests, or bulk requests for whole files
PendingScore    future of the score of one response
Timing          times of one response
WaitingRow      a response in the planner
QueuedRow       a waiting row with its scorer, its inputs and its callers
WorkItem        rows that one thread scores together
CompletedWork   a summary of a completed work item, for metrics
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

from edgedistill_serve.bundle.manifest import Manifest
from edgedistill_serve.scoring.batching import Batching
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.scorer import Score, ScoredBatch, Scorer

Lane: TypeAlias = Literal["interactive", "bulk"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one response, in seconds.

    Attributes:
        queue_seconds: Waiting time in the queue.
        tokenize_seconds: Tokenization time of its batch.
        model_seconds: Time of its batch in the graph.
        cached: Whether the score came from the cache; the times are then 0.
    """

    queue_seconds: float
    tokenize_seconds: float
    model_seconds: float
    cached: bool = False


TIMINGS = "timings"
"""Key of the ASGI scope of a traced request: a list with the start (nanoseconds since 1970) and the times of each call
of the queue."""


class PendingScore(Future[Score]):
    """The future score of one response. Cancelling it before its turn removes the response from the queue.

    Attributes:
        timing: Times of the response; None before there is a score.
    """

    timing: Timing | None = None


@dataclass(slots=True, eq=False)
class WaitingRow:
    """One response in the planner.

    Attributes:
        model: The model that scores it. The rows of a work item have one model.
        batching: Size of the batches of its model; None if it must be scored alone.
        deadline: Latest start of scoring, on the planner's clock; None for no limit.
        length: Sequence length in tokens; None before tokenization.
        lane: The lane in which it waits.
        state: ``waiting``, then ``taken``, or ``dropped`` after its deadline or when nobody needs it any more.
    """

    model: object
    batching: Batching | None
    deadline: float | None = None
    length: int | None = None
    lane: Lane = "interactive"
    state: Literal["waiting", "taken", "dropped"] = "waiting"


class Caller(NamedTuple):
    """A request that waits for a row.

    Attributes:
        since: Time of the request.
        deadline: Latest start of scoring; None for no limit.
    """

    since: float
    deadline: float | None


@dataclass(slots=True, eq=False)
class QueuedRow(WaitingRow):
    """A response in the queue, and the callers that wait for its score.

    Attributes:
        scorer: Scores the response.
        inputs: The task's inputs.
        key: Key in the score cache, equal for equal texts.
        since: Time of the first request for it.
        callers: The futures to complete; several if equal texts were requested. The row's deadline is the earliest of
            their deadlines.
        thread: Id of the thread that scores it now.
        taken: Time at which this thread took it.
        encoded: The encoded response; None before tokenization.
        tokenize_seconds: Tokenization time.
    """

    scorer: Scorer = field(kw_only=True)
    inputs: dict[str, str] = field(repr=False, kw_only=True)
    key: bytes = field(kw_only=True)
    since: float = field(kw_only=True)
    callers: dict[PendingScore, Caller] = field(default_factory=dict, kw_only=True)
    thread: int | None = field(default=None, kw_only=True)
    taken: float = field(default=0.0, kw_only=True)
    encoded: Encoded | None = field(default=None, kw_only=True)
    tokenize_seconds: float = field(default=0.0, kw_only=True)

    def earliest_deadline(self) -> float | None:
        """Return the earliest deadline of the callers, or None."""
        return min((caller.deadline for caller in self.callers.values() if caller.deadline is not None), default=None)


RowT = TypeVar("RowT", bound=WaitingRow)


@dataclass(frozen=True, slots=True)
class WorkItem(Generic[RowT]):
    """Rows that one thread scores together.

    Attributes:
        rows: At least one row, all of one model.
        lane: Lane of the rows.
        measured: Whether the rows fit into one batch. If not, they must be tokenized and passed to
            `Planner.requeue_by_length`.
    """

    rows: tuple[RowT, ...]
    lane: Lane
    measured: bool


@dataclass(frozen=True, slots=True)
class CompletedWork:
    """A completed work item, for metrics.

    Attributes:
        model: Name of the model.
        version: Version of the model.
        lane: Lane of the rows.
        scores: The scores.
        failed: Number of responses that could not be scored.
        queue_seconds: Waiting time of each response.
        tokens: Number of tokens, including special tokens.
        padded_tokens: Number of tokens that the graph computed, including padding.
        tokenize_seconds: Time for tokenization.
        model_seconds: Time in the graph.
        cached: Whether the scores came from the cache, so that nothing was computed.
    """

    model: str
    version: str
    lane: Lane
    scores: tuple[Score, ...]
    failed: int
    queue_seconds: tuple[float, ...]
    tokens: int
    padded_tokens: int
    tokenize_seconds: float
    model_seconds: float
    cached: bool = False

    @property
    def rows(self) -> int:
        """Number of responses."""
        return len(self.queue_seconds)

    @classmethod
    def from_result(cls, work: WorkItem[QueuedRow], result: ScoredBatch, tokenize_seconds: float) -> "CompletedWork":
        """Summarize a scored work item.

        Args:
            work: The work item.
            result: The scores of its rows.
            tokenize_seconds: Time for the tokenization of its rows, also if it was done in an earlier step.
        """
        manifest = work.rows[0].scorer.bundle.manifest
        scores = tuple(each for each in result.results if isinstance(each, Score))
        return cls(
            manifest.name,
            manifest.version,
            work.lane,
            scores,
            len(result.results) - len(scores),
            tuple(row.taken - row.since for row in work.rows),
            result.tokens,
            result.padded_tokens,
            tokenize_seconds,
            result.model_seconds,
        )

    @classmethod
    def from_cache(cls, manifest: Manifest, lane: Lane, scores: Sequence[Score]) -> "CompletedWork":
        """Summarize responses whose scores came from the cache."""
        queue_seconds = (0.0,) * len(scores)
        return cls(manifest.name, manifest.version, lane, tuple(scores), 0, queue_seconds, 0, 0, 0.0, 0.0, cached=True)


Observer: TypeAlias = Callable[[CompletedWork], None]
"""Called after each work item, by the thread that completed it. It must be fast; its exceptions are only logged."""
