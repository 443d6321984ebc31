"""The models that a server scores with, the queue in front of them, and whether they take requests."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgedistill_serve.errors import DataError, EdgeDistillError, NotReady, ScoringFailed, UnknownModel, WrongShape
from edgedistill_serve.http.forms import ScoreRequest
from edgedistill_serve.scorer import Score, Scorer, distinct
from edgedistill_serve.scoring_queue import ScoringQueue
from edgedistill_serve.work import Lane, Observer

State: TypeAlias = Literal["starting", "ready", "draining"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes.

    Attributes:
        body_bytes: The longest body of a request.
        items: The most responses in one request.
        queue: The most responses that wait or are scored at a time, over all requests; at least ``items``.
    """

    body_bytes: int = 4 * 1024 * 1024
    items: int = 1000
    queue: int = 4000


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: the model that scored, and a score or an error for every response."""

    scorer: Scorer
    results: list[Score | EdgeDistillError]


class Service:
    """Scores requests from the moment that the models are there until the server drains.

    Args:
        limits: What it takes.
        threads: How many responses are scored at a time.
        observe: Told of every piece of work that was done.

    Attributes:
        state: ``starting``, then ``ready``, then ``draining``.
        models: The scorers by name, empty while starting.
    """

    def __init__(self, limits: Limits, *, threads: int, observe: Observer = lambda _: None) -> None:
        self.limits = limits
        self.state: State = "starting"
        self.models: dict[str, Scorer] = {}
        self._queue = ScoringQueue(limit=limits.queue, threads=threads, observe=observe)

    def open(self, scorers: Iterable[Scorer]) -> None:
        """Take requests for these models from now on; a server that drains already goes on draining."""
        self.models = {scorer.bundle.manifest.name: scorer for scorer in scorers}
        if self.state == "starting":
            self.state = "ready"

    def drain(self) -> None:
        """Refuse requests from now on; what was taken is scored."""
        self.state = "draining"

    @property
    def idle(self) -> bool:
        """Whether no response waits or is being scored."""
        return self._queue.taken == 0

    def close(self) -> None:
        """End the threads."""
        self._queue.close()

    def check_ready(self) -> None:
        """Check that requests are taken.

        Raises:
            NotReady: The server is starting or draining.
        """
        if self.state != "ready":
            raise NotReady(f"the server is {self.state}", mend="Try again later.")

    async def score(
        self, request: ScoreRequest, *, lane: Lane = "interactive", deadline: float | None = None
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
        scorer = self._scorer(request.model)
        readable = [_readable(scorer, request, index) for index in range(len(request.responses))]
        rows, places = distinct(readable)
        found = await asyncio.gather(*map(_outcome, self._queue.submit(scorer, rows, lane=lane, deadline=deadline)))
        return Answer(scorer, [found[place] for place in places])

    def _scorer(self, model: str | None) -> Scorer:
        served = ", ".join(self.models)
        if model is None and len(self.models) > 1:
            raise WrongShape("several models are served and none is named", where="model", mend=f"Name one: {served}.")
        name = next(iter(self.models)) if model is None else model
        if name not in self.models:
            raise UnknownModel("no model of this name is served", where="model", mend=f"There is {served}.")
        return self.models[name]


def _readable(scorer: Scorer, request: ScoreRequest, index: int) -> dict[str, str]:
    try:
        return scorer.readable(request.responses[index])
    except DataError as error:
        raise WrongShape(error.what, where=request.place(index), mend=error.mend) from None


async def _outcome(future: Future[Score]) -> Score | EdgeDistillError:
    try:
        return await asyncio.wrap_future(future)
    except ScoringFailed as error:
        return error
