"""The models that a server scores with, the queue in front of them, and whether they take requests."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from edgedistill_serve.errors import DataError, DeadlinePassed, EdgeDistillError, NotReady, WrongShape
from edgedistill_serve.scoring.scorer import Score, Scorer, deduplicate
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.model_catalogue import ModelCatalogue
from edgedistill_serve.server.queue.awaiting import ResultWaiter
from edgedistill_serve.server.queue.scoring_queue import ScoringQueue
from edgedistill_serve.server.queue.work_item import Lane, Observer, Pending, Timing
from edgedistill_serve.server.request.body_reader import BodyMemory
from edgedistill_serve.server.request.v1_request import ParsedRequest

State: TypeAlias = Literal["starting", "ready", "draining"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back.

    Attributes:
        scorer: The model that scored.
        results: A score or an error for every response.
        timings: Where the time went, for every distinct response that was scored.
    """

    scorer: Scorer
    results: list[Score | EdgeDistillError]
    timings: tuple[Timing, ...] = ()


class Service:
    """Scores requests from the moment that the models are there until the server drains.

    Args:
        limits: What it takes.
        threads: How many responses are scored at a time.
        observe: Told of every piece of work that was done.

    Attributes:
        limits: The same.
        threads: The same.
        state: ``starting``, then ``ready``, then ``draining``.
        draining: Set when the drain begins, for what waits for a client.
        bodies: The memory that the bodies of all requests have.
        models: The scorers, none while starting. A request that was taken keeps the one that it began with.
        queue: What waits to be scored.
    """

    def __init__(self, limits: Limits, *, threads: int, observe: Observer = lambda _: None) -> None:
        self.limits = limits
        self.threads = threads
        self.state: State = "starting"
        self.draining = asyncio.Event()
        self.bodies = BodyMemory(limits.body_memory)
        self.models = ModelCatalogue()
        self.queue = ScoringQueue(limit=limits.queue, threads=threads, observe=observe)

    def open(self, scorers: Iterable[Scorer], default: str | None = None) -> None:
        """Take requests for these models from now on; a server that drains already goes on draining.

        Args:
            scorers: CheckedGraph and warm.
            default: The name of the model that a request means that names none.
        """
        self.swap(ModelCatalogue(tuple(scorers), default))
        if self.state == "starting":
            self.state = "ready"

    def swap(self, models: ModelCatalogue) -> None:
        """Let other models take the requests that come from now on."""
        self.models = models

    def drain(self) -> None:
        """Refuse requests from now on; what was taken is scored."""
        self.state = "draining"
        self.draining.set()

    @property
    def idle(self) -> bool:
        """Whether no response waits or is being scored."""
        return self.queue.taken == 0

    def close(self) -> None:
        """End the threads."""
        self.queue.close()

    def check_ready(self) -> None:
        """Check that requests are taken.

        Raises:
            NotReady: The server is starting or draining.
        """
        if self.state != "ready":
            raise NotReady(f"the server is {self.state}", hint="Try again later.")

    async def score(
        self, request: ParsedRequest, *, lane: Lane = "interactive", deadline: float | None = None
    ) -> Answer:
        """Score a request off the event loop. A response that fails takes no other with it.

        Args:
            request: What to score, and with which model.
            lane: How urgent it is.
            deadline: When it is wanted no more, on the clock of `time.monotonic`.

        Raises:
            NotReady: The server is starting or draining.
            UnknownModel: The model is not served.
            WrongShape: A response is no text, or lacks an input of the model's task; then none is scored.
            QueueFull: There is no room for all of them; then none is scored.
            DeadlinePassed: The turn of one of them did not come in time.
        """
        self.check_ready()
        scorer = self.models.find(request.model)
        readable = [_readable(scorer, request, index) for index in range(len(request.responses))]
        rows, places = deduplicate(readable)
        pending = self.queue.submit(scorer, rows, lane=lane, deadline=deadline)
        # A task for each of several; most requests have one response and do without.
        waits = [self.outcome(each) for each in pending]
        found = await asyncio.gather(*waits) if len(waits) > 1 else [await wait for wait in waits]
        late = next((each for each in found if isinstance(each, DeadlinePassed)), None)
        if late is not None:
            raise late.unraised_copy()
        timings = tuple(row.timing for row in pending if row.timing is not None)
        return Answer(scorer, [found[place] for place in places], timings)

    def submit(self, scorer: Scorer, row: dict[str, str], *, lane: Lane) -> Pending:
        """Queue one response, as `Scorer.read_inputs` returns it.

        Raises:
            NotReady: The server is draining.
            QueueFull: There is no room.
        """
        self.check_ready()
        (pending,) = self.queue.submit(scorer, [row], lane=lane)
        return pending

    async def outcome(self, pending: Pending) -> Score | EdgeDistillError:
        """Wait for a score; the error of a response that could not be scored, or not in time, takes its place."""
        await self._waiter.wait(pending)
        # Raised here, it would hold this frame, which holds it.
        error = pending.exception()
        return error if isinstance(error, EdgeDistillError) else pending.result()

    @cached_property
    def _waiter(self) -> ResultWaiter[Score]:
        return ResultWaiter(asyncio.get_running_loop())


def _readable(scorer: Scorer, request: ParsedRequest, index: int) -> dict[str, str]:
    try:
        return scorer.read_inputs(request.responses[index])
    except DataError as error:
        raise WrongShape(error.what, where=request.place(index), hint=error.hint) from None
