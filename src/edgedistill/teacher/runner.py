"""Sends requests until each has an answer that parses: rate limiter, retry policy, cached answers first.

The first request goes alone, so that a wrong key, model or parameter costs one request. Once the endpoint has answered,
the limit moves between 1 and the project's ``concurrency``: one more after as many answers as it allows, half after a
refusal (additive increase, multiplicative decrease), at most once for the requests that were in flight together.
Refusals are HTTP 429, 503 and 529. A lone refusal makes only its own request wait; a second one with no answer in
between makes every request wait as long as its Retry-After says. Where the headers say how much room is left, no more
requests are sent than that until it is due to be refilled.

With one fsync for each answer, a run goes at the disk's pace. While one transaction is synced to disk, the next answers
gather; each counts only when its own transaction is on disk.

Question    one request, and what is done with its answer
Recalled    an answer that the cache holds, read
Round       questions that no cache has answered, and all that is needed to ask them
Way         what is done about a round before its questions are asked one by one
"""

import asyncio
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from edgedistill.errors import CacheDamaged, EdgeDistillError
from edgedistill.project.schema import TeacherSection
from edgedistill.teacher import endpoint
from edgedistill.teacher.cache import AnswerCache, TeacherRequest
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.endpoint import Answered, Busy, Endpoint, FormatRefused, Known, Rejected, Room
from edgedistill.teacher.logs import FailureLog
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.spending import Amount, Budget, Usage

_LONGEST = 600.0  # seconds; no header makes a run stand still for longer
_SMOOTHING = 0.1  # weight of the newest request in the mean of tokens


class Pace:
    """The limit of one run and the requests in flight.

    Args:
        most: The project's concurrency.
        clock: Tells seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = 1.0
        self.in_flight = 0
        self._most, self._clock = most, clock
        self._not_before = self._cut_at = 0.0
        self._left: int | None = None
        self._left_until = 0.0
        self._heard = False
        self._refused = 0
        self._tokens = 0.0
        self._changed = asyncio.Event()

    async def enter(self) -> float:
        """Wait until a request may be sent, and count it as in flight; return the time at which it was let through."""
        while (wait := self._wait()) is not None:
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), wait)
            except TimeoutError:
                continue
        self.in_flight += 1
        if self._left is not None:
            self._left -= 1
        return self._clock()

    def leave(self) -> None:
        """Count a request as no longer in flight."""
        self.in_flight -= 1
        self._tell()

    def heard(self) -> None:
        """Learn that the endpoint knows what it is asked, whether it answered or refused one text."""
        if not self._heard:
            self._heard, self.limit = True, float(self._most)

    def answered(self, room: Room | None, tokens: int) -> None:
        """Learn from an answer.

        Args:
            room: What its headers say.
            tokens: What it used.
        """
        self.heard()
        self._refused = 0
        self.limit = min(float(self._most), self.limit + 1 / self.limit)
        self._tokens += (_SMOOTHING if self._tokens else 1.0) * (tokens - self._tokens)
        self._heed(room)

    def refused(self, sent: float, wait: float | None) -> None:
        """Learn from a refusal.

        Args:
            sent: When the request was let through.
            wait: Seconds that the endpoint asks to wait, or None.
        """
        self._refused += 1
        now = self._clock()
        if sent >= self._cut_at:
            self.limit, self._cut_at = max(1.0, self.limit / 2), now
        if wait and self._refused > 1:
            self._not_before = max(self._not_before, now + min(wait, _LONGEST))

    def _heed(self, room: Room | None) -> None:
        if room is None:
            return
        lefts = [] if room.requests is None else [room.requests]
        if room.tokens is not None and self._tokens:
            lefts.append(replace(room.tokens, count=int(room.tokens.count / self._tokens)))
        if lefts:
            least = min(lefts, key=lambda left: (left.count, -left.seconds))
            self._left = least.count - self.in_flight  # the endpoint may not have counted what is in flight
            self._left_until = self._clock() + min(least.seconds, _LONGEST)

    def _wait(self) -> float | None:
        """Return None where a request may be sent now, else after how many seconds to look again."""
        now = self._clock()
        if now < self._not_before:
            return self._not_before - now
        if self._left is not None and now >= self._left_until:
            self._left = None
        if self._left is not None and self._left <= 0:
            return self._left_until - now
        return None if self.in_flight < int(self.limit) else _LONGEST

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


_TOGETHER = 200  # answers in one transaction
Kept: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    request: TeacherRequest
    answer: Kept
    done: asyncio.Future[Kept]


class Writer:
    """The thread that writes.

    After a write has failed, as on a full disk, every later one fails at once with the same error: none of them counts
    as kept.

    Args:
        cache: Takes the answers.
        failures: Takes the failures.
    """

    def __init__(self, cache: AnswerCache, failures: FailureLog) -> None:
        self._cache, self._failures = cache, failures
        self._disk = ThreadPoolExecutor(1, "answers")
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Answer] = deque()
        self._broken: CacheDamaged | None = None

    async def keep(self, request: TeacherRequest, answer: Kept) -> Kept:
        """Write an answer; return the one that counts, on disk: another process may have been first.

        It is written even where the caller is cancelled meanwhile, since it has been paid for; `close` waits for it.

        Raises:
            CacheDamaged: It could not be written.
        """
        done: asyncio.Future[Kept] = self._loop.create_future()
        self._waiting.append(_Answer(request, answer, done))
        self._disk.submit(self._write_waiting)
        return await done

    async def replace(self, request: TeacherRequest, answer: Kept) -> None:
        """Write an answer over one that cannot be used.

        Raises:
            CacheDamaged: It could not be written.
        """
        await self._do(lambda: self._cache.put(request, answer, replace=True))

    async def set_aside(self, failure: Failure) -> None:
        """Write down a failure.

        Raises:
            CacheDamaged: It could not be written.
        """
        await self._do(lambda: self._failures.add(failure))

    def close(self) -> None:
        """Finish the writes under way."""
        self._disk.submit(self._cache.close)
        self._disk.shutdown()

    async def _do(self, work: Callable[[], object]) -> None:
        await asyncio.shield(asyncio.wrap_future(self._disk.submit(work)))

    def _write_waiting(self) -> None:
        together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
        if not together:
            return
        try:
            if self._broken:
                raise self._broken
            kept = self._cache.put_all([(each.request, each.answer) for each in together])
        except CacheDamaged as error:
            self._broken = error
            self._loop.call_soon_threadsafe(_fail, together, error)
        else:
            self._loop.call_soon_threadsafe(_tell, together, kept)


def _tell(written: Sequence[_Answer], kept: Sequence[Kept]) -> None:
    for each, answer in zip(written, kept, strict=True):
        if not each.done.done():
            each.done.set_result(answer)


def _fail(unwritten: Sequence[_Answer], error: CacheDamaged) -> None:
    for each in unwritten:
        if not each.done.done():
            each.done.set_exception(error)


Answer = TypeVar("Answer")

_GIVE_UP_AFTER = 20  # requests in a row that used up their tries while nothing else succeeded


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait before another try.

    The wait before try *n* + 1 is drawn evenly from 0 to ``first * 2**(n - 1)`` seconds, at most ``most``: exponential
    backoff with full jitter. A Retry-After header is waited for on top, up to ``longest``.

    Attributes:
        first: Seconds.
        most: Seconds.
        longest: Seconds.
    """

    first: float = 0.5
    most: float = 30.0
    longest: float = 600.0

    def wait(self, tries: int, asked: float | None) -> float:
        """Return the seconds to wait after so many failed tries, the endpoint having asked for ``asked`` or nothing."""
        jitter = random.uniform(0, min(self.most, self.first * 2 ** (tries - 1)))  # noqa: S311  # no secret
        return min(asked or 0.0, self.longest) + jitter


class Asking(Generic[Answer]):
    """Asks for the answers of one run.

    Args:
        endpoint: Whom.
        writer: Writes answers and failures to disk.
        budget: What may be spent, and at what price.
        pace: How many requests may be in flight.
        read: Reads a whole chat completion: what it says, or why it cannot be used.
        tries: How often one answer is asked for: so often after busy replies, and so often after unusable answers.
        patience: How long to wait in between.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        writer: Writer,
        budget: Budget,
        pace: Pace,
        read: Callable[[Mapping[str, Any]], Answer | Failure],
        tries: int,
        patience: Patience,
    ) -> None:
        self._endpoint, self._writer, self._budget, self._pace = endpoint, writer, budget, pace
        self._read, self._tries, self._patience = read, tries, patience
        self._in_vain = 0
        self._asked = self._unmetered = self._input_tokens = self._output_tokens = self._nano = 0
        self._retries: Counter[str] = Counter()

    @property
    def usage(self) -> Usage:
        """What was asked and used so far."""
        return Usage(
            self._asked,
            0,
            self._input_tokens,
            self._output_tokens,
            None if self._budget.price is None else self._nano,
            self._unmetered,
            dict(self._retries),
        )

    async def ask(self, request_in: Callable[[AnswerFormat], TeacherRequest]) -> Answer | Failure:
        """Return what was read from the answer to one request, or why there is none; both are on disk by then.

        Args:
            request_in: Makes the request in an answer format.

        Raises:
            TeacherError: No request can succeed.
            BudgetReached: The next try could cost more than is left.
            CacheDamaged: The answer could not be written.
        """
        busy = unusable = 0
        while True:
            form = self._endpoint.known.form
            request = request_in(form)
            outcome = await self._try(request)
            if isinstance(outcome, FormatRefused):
                self._endpoint.step_down(form)
                continue
            if isinstance(outcome, Busy):
                busy += 1
                failure = outcome.failure
                if busy >= self._tries:
                    return await self._give_up(request, outcome)
            elif isinstance(outcome, Failure):
                unusable += 1
                failure = outcome
                if unusable >= self._tries:
                    return await self._set_aside(request, failure)
            else:
                self._in_vain = 0
                return outcome
            self._retries[failure.cause.value] += 1
            if isinstance(outcome, Busy):
                await asyncio.sleep(self._patience.wait(busy, outcome.wait))

    async def _try(self, request: TeacherRequest) -> Answer | Failure | Busy | FormatRefused:
        outcome = await self._outcome(request)
        if isinstance(outcome, Rejected):
            return outcome.failure
        if not isinstance(outcome, Answered):
            return outcome
        found = self._read(outcome.answer)
        return found if isinstance(found, Failure) else await self._keep(request, outcome.answer, found)

    async def _outcome(self, request: TeacherRequest) -> Answered | Busy | Rejected | FormatRefused:
        """Send a request once the pace and the budget let it through, and write down what it cost."""
        sent = await self._pace.enter()
        try:
            held = await self._budget.reserve(request)
            cost = None  # until it is known: a try that is cancelled may have cost its worst case
            try:
                self._asked += 1
                outcome = await self._endpoint.send(request)
                cost = self._cost(outcome)
            finally:
                self._budget.settle(held, cost)
        finally:
            self._pace.leave()
        if isinstance(outcome, Answered):
            self._pace.answered(outcome.room, sum(outcome.tokens or ()))
        elif isinstance(outcome, Rejected):
            self._pace.heard()
        elif isinstance(outcome, Busy) and outcome.crowded:
            self._pace.refused(sent, outcome.wait)
        return outcome

    def _cost(self, outcome: Answered | Busy | Rejected | FormatRefused) -> Amount | None:
        tokens = outcome.tokens if isinstance(outcome, Answered) else None
        if tokens:
            cost = self._budget.amount(*tokens)
            self._input_tokens += cost.input
            self._output_tokens += cost.output
            self._nano += cost.nano or 0
            return cost
        if isinstance(outcome, Answered) or (isinstance(outcome, Busy) and outcome.unheard):
            self._unmetered += 1
            return None
        return self._budget.amount(0, 0)

    async def _keep(self, request: TeacherRequest, answer: Mapping[str, Any], found: Answer) -> Answer:
        kept = await self._writer.keep(request, answer)
        if kept is answer:
            return found
        first = self._read(kept)
        if not isinstance(first, Failure):
            return first
        await self._writer.replace(request, answer)
        return found

    async def _give_up(self, request: TeacherRequest, busy: Busy) -> Failure:
        self._in_vain += 1
        if busy.deaf or self._in_vain >= _GIVE_UP_AFTER:
            raise self._endpoint.unreachable(busy)
        return await self._set_aside(request, busy.failure)

    async def _set_aside(self, request: TeacherRequest, failure: Failure) -> Failure:
        kept = replace(failure, key=request.key())
        await self._writer.set_aside(kept)
        return kept


Result = TypeVar("Result")
RequestIn: TypeAlias = Callable[[AnswerFormat], TeacherRequest]
"""Makes one request in an answer format."""
Reader: TypeAlias = Callable[[Mapping[str, Any]], Answer | Failure]
"""Reads a whole chat completion."""


@dataclass(frozen=True, slots=True)
class Question(Generic[Answer]):
    """One request that is to be answered.

    Attributes:
        request_in: The request.
        take: Called with what was read from the answer, or with why there is none; both are on disk by then.
        needless: Asked before the request is sent: whether its answer is no longer wanted.
    """

    request_in: RequestIn
    take: Callable[[Answer | Failure], None]
    needless: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Recalled(Generic[Answer]):
    """An answer that the cache holds.

    Attributes:
        key: The key of the request, in the answer format in which it was answered.
        answer: What was read from it.
    """

    key: str
    answer: Answer


def recalled(cache: AnswerCache, request_in: RequestIn, read: Reader[Answer]) -> Recalled[Answer] | None:
    """Return what the cache holds in answer to a request, in whichever answer format it was given; None for nothing."""
    for form in AnswerFormat:
        request = request_in(form)
        answer = cache.get(request)
        found = None if answer is None else read(answer)
        if found is not None and not isinstance(found, Failure):
            return Recalled(request.key(), found)
    return None


def recalled_failure(failures: Mapping[str, Failure], request_in: RequestIn) -> Failure | None:
    """Return why a request was not answered in an earlier run; None where no failure of it is kept."""
    endpoint = [request_in(form).key() for form in AnswerFormat] if failures else []
    return next((failures[key] for key in endpoint if key in failures), None)


@dataclass(frozen=True, slots=True)
class Round(Generic[Answer]):
    """Questions that no cache has answered, and all that is needed to ask them.

    Attributes:
        questions: The questions.
        read: Reads an answer; one that gives a failure is asked for again, `section.tries` times in all.
        section: Whom to ask and how.
        cache: Takes the answers.
        budget: What may be spent.
        patience: How long to wait between tries.
        api_key: The key; None reads the environment variable that the section names.
        told: Called after every question.
    """

    questions: Sequence[Question[Answer]]
    read: Reader[Answer]
    section: TeacherSection
    cache: AnswerCache
    budget: Budget
    patience: Patience = field(default_factory=Patience)
    api_key: str | None = None
    told: Callable[[Usage], None] | None = None

    @property
    def key(self) -> str:
        """The API key.

        Raises:
            TeacherRefusedKey: The environment variable is not set.
        """
        return endpoint.api_key(self.section, os.environ) if self.api_key is None else self.api_key

    @property
    def nothing(self) -> Usage:
        """The usage of a round that asked nothing."""
        return Usage(nano_dollars=None if self.budget.price is None else 0)


class Way(Protocol):
    """Something that is done about a round's questions before they are asked one by one."""

    def prepare(self, round: Round[Any]) -> Usage | None:  # noqa: A002  # nothing else says it
        """Fill the cache, tell something, or stop the stage.

        Returns:
            What it took, where the cache may hold answers now; None where nothing was asked.

        Raises:
            Paused: The stage is to stop here.
        """


def ask_all(
    questions: Sequence[Question[Answer]],
    read: Reader[Answer],
    section: TeacherSection,
    cache: AnswerCache,
    *,
    cached: int = 0,
    api_key: str | None = None,
    told: Callable[[Usage], None] | None = None,
    budget: Budget | None = None,
    patience: Patience | None = None,
    way: Way | None = None,
) -> Usage:
    """Ask every question, at most `section.concurrency` of them at a time.

    Args:
        questions: What is asked; the order is kept, but answers come as they come.
        read: Reads an answer; one that gives a failure is asked for again, `section.tries` times in all.
        section: Whom to ask and how.
        cache: Takes the answers.
        cached: Answers that needed no asking, for the figures.
        api_key: The key; None reads the environment variable that the section names.
        told: Called after every question.
        budget: A budget that earlier calls have drawn on; None takes a fresh one from the section.
        patience: How long to wait between tries.
        way: What is done before: an estimate is told, or a batch is asked; None asks right away.

    Returns:
        What it took.

    Raises:
        TeacherError: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be written.
        Paused: The way stops the stage before it is done.
    """
    given = Round(questions, read, section, cache, budget or Budget.of(section), patience or Patience(), api_key, told)
    usage = Usage(cached=cached, nano_dollars=given.nothing.nano_dollars)
    before = way.prepare(given) if way else None
    if before:
        given = replace(given, questions=_taken(given))
        usage += before
    return usage + ask_live(given, so_far=usage)[0] if given.questions else usage


def unanswered(given: Round[Answer]) -> list[Question[Answer]]:
    """Return the questions that the cache does not answer."""
    return [each for each in given.questions if recalled(given.cache, each.request_in, given.read) is None]


def ask_live(given: Round[Answer], known: Known | None = None, so_far: Usage | None = None) -> tuple[Usage, Known]:
    """Ask a round's questions one by one.

    Args:
        given: The round.
        known: What the endpoint has been found to take before.
        so_far: What was asked before, for those who are told.

    Returns:
        What it took, and what the endpoint has been found to take.
    """
    section, key, told = given.section, given.key, given.told

    def tell(usage: Usage) -> None:
        if told:
            told(so_far + usage if so_far else usage)

    async def ask() -> tuple[Usage, Known]:
        async with Endpoint(section, key, known) as endpoint:
            writer = Writer(given.cache, FailureLog(given.cache.folder))
            pace = Pace(section.concurrency)
            asking = Asking(
                endpoint=endpoint,
                writer=writer,
                budget=given.budget,
                pace=pace,
                read=given.read,
                tries=section.tries,
                patience=given.patience,
            )
            try:
                await _share(given.questions, asking, section.concurrency, tell)
            finally:
                writer.close()
                given.budget.ledger.close()
            return asking.usage, endpoint.known

    return _run(ask())


def _taken(given: Round[Answer]) -> list[Question[Answer]]:
    """Give the questions that the cache answers their answers; return the others."""
    left = []
    for question in given.questions:
        found = recalled(given.cache, question.request_in, given.read)
        if found:
            question.take(found.answer)
        else:
            left.append(question)
    return left


async def _share(
    questions: Sequence[Question[Answer]],
    asking: Asking[Answer],
    concurrency: int,
    told: Callable[[Usage], None],
) -> None:
    """Ask the questions by a fixed number of workers that share one queue."""
    queue = iter(questions)

    async def work() -> None:
        for question in queue:
            if not question.needless():
                question.take(await asking.ask(question.request_in))
            told(asking.usage)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, len(questions))):
                workers.create_task(work())
    except BaseExceptionGroup as group:
        ours = next((error for error in group.exceptions if isinstance(error, EdgeDistillError)), None)
        raise ours or group.exceptions[0] from None


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "teacher") as thread:
        return thread.submit(asyncio.run, work).result()
