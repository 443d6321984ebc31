"""What passes between those who want responses scored, the threads that score them, and those who count.

Lane       interactive: somebody waits for the answer; bulk: a file is worked off
Pending    the score of one response, to come
Timing     where the time of one response went
CompletedWork   one piece of work that a thread finished, for metrics
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgedistill_serve.bundle.manifest import Manifest
from edgedistill_serve.scoring.score import Score

Lane: TypeAlias = Literal["interactive", "bulk"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one response went, in seconds.

    Attributes:
        queue_seconds: In the queue.
        tokenize_seconds: From its text to token ids; that of its whole batch.
        model_seconds: In the graph; that of its whole batch.
        recalled: Whether the score was known from an equal response before; then the others are 0.
    """

    queue_seconds: float
    tokenize_seconds: float
    model_seconds: float
    cached: bool = False


class Pending(Future[Score]):
    """The score of one response, to come; cancelled before its turn, it leaves the queue.

    Attributes:
        timing: Where the time went; None until there is a score.
    """

    timing: Timing | None = None


@dataclass(frozen=True, slots=True)
class CompletedWork:
    """One piece of work that a thread finished, for metrics.

    Attributes:
        model: The model's name.
        version: Its version.
        lane: Of its most urgent response.
        scores: What was found.
        failed: How many of its responses could not be scored.
        queue_seconds: Seconds in the queue, of each of its responses.
        tokens: Sum of the sequences' lengths, special tokens counted.
        padded_tokens: Tokens that the graph computed, padding counted; never less than ``tokens``.
        tokenize_seconds: Seconds from texts to token ids.
        model_seconds: Seconds in the graph.
        recalled: Whether the scores were known from equal responses before; then nothing was computed.
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
        """How many responses it held."""
        return len(self.queue_seconds)


def cached_work(model: Manifest, lane: Lane, scores: Sequence[Score]) -> CompletedWork:
    """Return the work of answering with scores that were known."""
    queue_seconds = (0.0,) * len(scores)
    return CompletedWork(model.name, model.version, lane, tuple(scores), 0, queue_seconds, 0, 0, 0.0, 0.0, cached=True)


Observer: TypeAlias = Callable[[CompletedWork], None]
"""Called after each piece of work by the thread that did it, or that asked for scores that were known; it must be
quick, and what it raises is logged and forgotten."""
