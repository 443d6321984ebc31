"""The service: the models, the queue in front of them, and whether requests are accepted."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Thread, current_thread
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from edgedistill_serve.errors import DataError, DeadlinePassed, EdgeDistillError, NotReady, WrongShape
from edgedistill_serve.journal.records import Entry
from edgedistill_serve.journal.writer import Journal
from edgedistill_serve.scoring.scorer import Score, Scorer, deduplicate, result_or_error
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.log_lines import lost_log_lines
from edgedistill_serve.server.model_catalogue import ModelCatalogue
from edgedistill_serve.server.queue.scoring_queue import ScoringQueue
from edgedistill_serve.server.queue.work_item import Lane, Observer, PendingScore, Timing
from edgedistill_serve.server.request.body_reader import BodyMemory

State: TypeAlias = Literal["starting", "ready", "draining"]
_log = logging.getLogger(__name__)
_A = TypeVar("_A")
_T = TypeVar("_T")
_INLINE_SIZE = 8 * 1024
"""Longer texts are parsed and redacted in a thread, so that the event loop answers other requests in the meantime."""


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The responses of a request, independent of its protocol.

    Attributes:
        responses: Texts or objects, not validated for a task yet.
        is_list: Whether they came as a list, so that the answer is a list too.
        model: Name of the requested model; None for the default.
    """

    responses: tuple[Any, ...] = field(repr=False)
    is_list: bool
    model: str | None

    def location(self, index: int) -> str | None:
        """Return the location of a response in the body, for error messages."""
        return f"responses[{index}]" if self.is_list else None


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request.

    Attributes:
        scorer: The model that scored it.
        results: A score or an error for every response.
        timings: Times of every distinct response that has a score.
    """

    scorer: Scorer
    results: list[Score | EdgeDistillError]
    timings: tuple[Timing, ...] = ()


class Service:
    """Scores requests, from the time that the models are loaded until the server drains.

    Args:
        limits: The server's limits.
        threads: Number of scoring threads.
        observe: Called after every work item.

    Attributes:
        limits: The server's limits.
        threads: Number of scoring threads.
        state: ``starting``, then ``ready``, then ``draining``.
        draining: Set when the drain begins.
        bodies: The shared memory of all request bodies.
        models: The served models; empty at the start. An accepted request keeps the model that it began with.
        queue: The scoring queue.
        journal: Counts the scored responses for `edgedistill monitor`; None for no journal.
        faults: Parts that run in the background and failed the last time, such as the watcher of the bundle folders,
            with the reason.
        failures: Number of failures of these parts since the start.
    """

    def __init__(self, limits: Limits, *, threads: int, observe: Observer = lambda _: None) -> None:
        self.limits = limits
        self.threads = threads
        self.state: State = "starting"
        self.draining = asyncio.Event()
        self.bodies = BodyMemory(limits.body_memory)
        self._models = ModelCatalogue()
        self._prepared: tuple[ModelCatalogue, Callable[[], bool]] | None = None
        self.queue = ScoringQueue(limit=limits.queue, threads=threads, observe=observe)
        self.journal: Journal | None = None
        self.faults: dict[str, str] = {}
        self.failures: dict[str, int] = {}
        self._checks: dict[str, Callable[[], str | None]] = {
            "scoring threads": lambda: self.queue.fault,
            "log": lambda: f"{lines} lines could not be written" if (lines := lost_log_lines()) else None,
        }
        # One thread: parsing holds the interpreter's lock, so that more of them would only delay the event loop.
        self._parsing = ThreadPoolExecutor(
            1, thread_name_prefix="parsing", initializer=lambda: self.watch_thread("parsing thread", current_thread())
        )

    def open(self, scorers: Iterable[Scorer], default: str | None = None) -> None:
        """Accept requests for these models; a server that is draining stays in that state.

        Args:
            scorers: Checked and warmed up.
            default: Name of the model for requests that name none.
        """
        self.swap(ModelCatalogue(tuple(scorers), default))
        if self.state == "starting":
            self.state = "ready"

    @property
    def models(self) -> ModelCatalogue:
        """The served models."""
        if self._prepared is not None and self._prepared[1]():
            self.swap(self._prepared[0])
        return self._models

    def swap(self, models: ModelCatalogue) -> None:
        """Use other models for new requests."""
        self._models, self._prepared = models, None

    def prepare(self, models: ModelCatalogue, is_due: Callable[[], bool]) -> None:
        """Use other models for new requests as soon as a function returns true, which is called at each request."""
        self._prepared = models, is_due

    def discard_prepared(self) -> None:
        """Keep the current models after `prepare`."""
        self._prepared = None

    def drain(self) -> None:
        """Refuse new requests; accepted ones are scored."""
        self.state = "draining"
        self.draining.set()

    async def compute(self, function: Callable[[_A], _T], argument: _A) -> _T:
        """Call a function in a thread, for texts that are not short; see `is_short`.

        Raises:
            EdgeDistillError: As the function.
        """
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._parsing, result_or_error, function, argument)
        if isinstance(result, EdgeDistillError):
            raise result
        return result

    @property
    def idle(self) -> bool:
        """Whether no response waits or is being scored."""
        return self.queue.pending == 0

    def close(self, seconds: float | None = None) -> bool:
        """End the threads within a time limit, and return whether they have ended."""
        parsing = Thread(target=partial(self._parsing.shutdown, cancel_futures=True), daemon=True)
        parsing.start()
        has_ended = self.queue.close(seconds)
        parsing.join(seconds)
        return has_ended and not parsing.is_alive()

    def current_faults(self) -> dict[str, str]:
        """Return `faults`, and what the checks of other parts find: the threads, the log, the certificate."""
        found = {part: fault for part, check in tuple(self._checks.items()) if (fault := check()) is not None}
        return {**found, **self.faults}

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that can be in `current_faults`."""
        return tuple(dict.fromkeys([*tuple(self._checks), *tuple(self.failures)]))

    def add_check(self, part: str, check: Callable[[], str | None]) -> None:
        """Check a part whenever the faults are asked for.

        Args:
            part: The part.
            check: Returns its fault, or None.
        """
        self._checks[part] = check

    def watch_thread(self, part: str, thread: Thread) -> None:
        """Report a thread that should run as long as the server, and has ended."""
        self.add_check(part, lambda: None if thread.is_alive() or self.state == "draining" else "its thread has ended")

    def report(self, part: str, error: BaseException | None) -> None:
        """Log the failure of a part that runs in the background, and keep it in `faults` until the part works again.

        Args:
            part: The part.
            error: Its exception; None if it works.
        """
        self.failures[part] = self.failures.get(part, 0) + (error is not None)
        if error is None:
            if self.faults.pop(part, None) is not None:
                _log.info("the %s works again", part, extra={"event": "recovered", "fields": {"part": part}})
            return
        # Without the message of a foreign exception, which may contain texts.
        reason = str(error) if isinstance(error, EdgeDistillError) else type(error).__name__
        self.faults[part] = reason
        fields = {"part": part, "error": type(error).__name__}
        _log.error("the %s failed: %s", part, reason, extra={"event": "fault", "fields": fields})

    def check_ready(self) -> None:
        """Check that requests are accepted.

        Raises:
            NotReady: The server is starting or draining.
        """
        if self.state != "ready":
            raise NotReady(f"the server is {self.state}", hint="Try again later.")

    async def score(
        self,
        request: ParsedRequest,
        *,
        lane: Lane = "interactive",
        deadline: float | None = None,
        recorded: bool = True,
    ) -> Answer:
        """Score a request on the scoring threads. The failure of one response does not affect the others.

        Args:
            request: The request.
            lane: Its lane.
            deadline: Latest start of scoring, on the clock of `time.monotonic`; None for no limit.
            recorded: Whether the responses belong into the journal.

        Raises:
            NotReady: The server is starting or draining.
            UnknownModel: The model is not served.
            WrongShape: A response is not valid for the model's task; no response is scored.
            QueueFull: The queue has no room for all responses; no response is scored.
            DeadlinePassed: The turn of a response did not come in time.
        """
        self.check_ready()
        scorer = self.models.find(request.model)
        if is_short(sum(map(_text_size, request.responses))):
            rows, indices = _read_rows(scorer, request)
        else:
            rows, indices = await self.compute(partial(_read_rows, scorer), request)
        pending = self.queue.submit(scorer, rows, lane=lane, deadline=deadline)
        # Most requests have one response, which needs no task of its own.
        waits = [self.result(each) for each in pending]
        results = await asyncio.gather(*waits) if len(waits) > 1 else [await wait for wait in waits]
        late = next((each for each in results if isinstance(each, DeadlinePassed)), None)
        if late is not None:
            raise late.unraised_copy()
        timings = tuple(each.timing for each in pending if each.timing is not None)
        if recorded and self.journal is not None:
            for response, index in zip(request.responses, indices, strict=True):
                self.record(scorer, Entry.of(scorer.bundle.task, rows[index], response), results[index])
        return Answer(scorer, [results[index] for index in indices], timings)

    def record(self, scorer: Scorer, entry: Entry, result: Score | EdgeDistillError) -> None:
        """Record a response in the journal, if there is one and the response has a score."""
        if self.journal is not None and isinstance(result, Score):
            self.journal.add(scorer, entry, result)

    def submit(self, scorer: Scorer, inputs: dict[str, str], *, lane: Lane) -> PendingScore:
        """Add one response, as `Scorer.read_inputs` returns it, to the queue.

        Raises:
            NotReady: The server is draining.
            QueueFull: The queue is full.
        """
        self.check_ready()
        (pending,) = self.queue.submit(scorer, [inputs], lane=lane)
        return pending

    async def result(self, pending: PendingScore) -> Score | EdgeDistillError:
        """Wait for a score, and return it or its error."""
        await self._waiter.wait(pending)
        # Raising the error here would create a reference cycle with this frame.
        error = pending.exception()
        return error if isinstance(error, EdgeDistillError) else pending.result()

    @cached_property
    def _waiter(self) -> "FutureWaiter[Score]":
        return FutureWaiter(asyncio.get_running_loop())


def is_short(size: int) -> bool:
    """Return whether texts of this many bytes or characters can be parsed and redacted on the event loop."""
    return size <= _INLINE_SIZE


def _text_size(response: Any) -> int:
    texts = response.values() if isinstance(response, dict) else (response,)
    return sum([len(text) for text in texts if isinstance(text, str)])


def _read_rows(scorer: Scorer, request: ParsedRequest) -> tuple[list[dict[str, str]], list[int]]:
    return deduplicate([_read_inputs(scorer, request, index) for index in range(len(request.responses))])


def _read_inputs(scorer: Scorer, request: ParsedRequest, index: int) -> dict[str, str]:
    try:
        return scorer.read_inputs(request.responses[index])
    except DataError as error:
        raise WrongShape(error.what, where=request.location(index), hint=error.hint) from None


class FutureWaiter(Generic[_T]):
    """Lets coroutines wait for futures of threads; futures that complete together wake the event loop once.

    `asyncio.wrap_future` wakes it for each future, with a write to a socket and an iteration of the loop.

    Args:
        loop: The event loop of the coroutines.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: dict[Future[_T], asyncio.Future[None]] = {}
        self._completed: deque[Future[_T]] = deque()
        self._is_scheduled = False

    async def wait(self, future: Future[_T]) -> None:
        """Wait until a future is done. Cancelling the coroutine cancels the future.

        Args:
            future: A future for which no other coroutine waits here.
        """
        if not future.done():
            self._waiters[future] = waiter = self._loop.create_future()
            future.add_done_callback(self._on_done)
            try:
                await waiter
            except asyncio.CancelledError:
                future.cancel()
                raise
            finally:
                del self._waiters[future]

    def _on_done(self, future: Future[_T]) -> None:
        # A future that is appended after `_deliver` has reset the flag schedules it again; one that is appended before
        # is seen by it.
        self._completed.append(future)
        if not self._is_scheduled and not self._loop.is_closed():
            self._is_scheduled = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_scheduled = False
        while self._completed:
            waiter = self._waiters.get(self._completed.popleft())
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
