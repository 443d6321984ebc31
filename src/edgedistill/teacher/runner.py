"""Sends requests until each has a usable answer: rate limiter, retry policy, durable writes.

The first request goes alone, so that a wrong key, model or parameter costs one request. After it, at most
``concurrency`` requests are in flight. The limit adapts by additive increase and multiplicative decrease: it grows by
one after as many answers as it allows, and is halved by a refusal (HTTP 429, 503 or 529), once for all requests that
were in flight together. A single refusal delays only its own request; a second one without an answer in between delays
all requests for as long as its Retry-After says. If the headers state the remaining quota, no more requests are sent
than it allows until it resets.

Answers are written by one thread. While one transaction is synced to disk, the next answers are queued and written
together, so that the disk does not limit the rate; an answer counts only once its own transaction is on disk.

RateLimiter       how many requests may be in flight
RetryPolicy       how long to wait before another try
AnswerWriter      writes answers and failures in a thread
RequestRunner     sends one request, with retries, and stores the answer
PendingRequest    a request to be answered, and what to do with the result
RequestJob        pending requests and what is needed to send them
DispatchMode      what happens to a job before its requests are sent one by one
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
from edgedistill.teacher.cache import AnswerCache, TeacherRequest
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.endpoint import (
    Capabilities,
    ChatAnswer,
    Endpoint,
    FormatUnsupported,
    RateLimits,
    Rejected,
    Retryable,
    read_api_key,
)
from edgedistill.teacher.logs import FailureLog
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.spending import Amount, Budget, Usage

_MAX_WAIT = 600.0  # seconds; limits what a header can make a run wait
_SMOOTHING = 0.1  # weight of the newest request in the moving average of tokens


class RateLimiter:
    """Limits the requests in flight of one run.

    Args:
        max_in_flight: The project's ``concurrency``, 1 or more.
        clock: Returns the time in seconds.
    """

    def __init__(self, max_in_flight: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = 1.0
        self.in_flight = 0
        self._max, self._clock = max_in_flight, clock
        self._not_before = self._reduced_at = 0.0
        self._quota: int | None = None
        self._quota_resets_at = 0.0
        self._probing = True
        self._refusals = 0
        self._mean_tokens = 0.0
        self._released = asyncio.Event()

    async def acquire(self) -> float:
        """Wait until a request may be sent and count it as in flight; return the current time of the clock."""
        while (wait := self._seconds_to_wait()) is not None:
            released = self._released
            try:
                await asyncio.wait_for(released.wait(), wait)
            except TimeoutError:
                continue
        self.in_flight += 1
        if self._quota is not None:
            self._quota -= 1
        return self._clock()

    def release(self) -> None:
        """Count a request as finished."""
        self.in_flight -= 1
        released, self._released = self._released, asyncio.Event()
        released.set()

    def end_probing(self) -> None:
        """Allow more than one request: the endpoint has accepted key, model and parameters."""
        if self._probing:
            self._probing, self.limit = False, float(self._max)

    def record_answer(self, limits: RateLimits | None, tokens: int) -> None:
        """Raise the limit after an answer.

        Args:
            limits: The remaining quota from its headers.
            tokens: Its input and output tokens.
        """
        self.end_probing()
        self._refusals = 0
        self.limit = min(float(self._max), self.limit + 1 / self.limit)
        self._mean_tokens += (_SMOOTHING if self._mean_tokens else 1.0) * (tokens - self._mean_tokens)
        self._apply_quota(limits)

    def record_refusal(self, sent_at: float, retry_after: float | None) -> None:
        """Lower the limit after a refusal.

        Args:
            sent_at: What `acquire` returned for the request.
            retry_after: Seconds to wait according to the endpoint, or None.
        """
        self._refusals += 1
        now = self._clock()
        if sent_at >= self._reduced_at:
            self.limit, self._reduced_at = max(1.0, self.limit / 2), now
        if retry_after and self._refusals > 1:
            self._not_before = max(self._not_before, now + min(retry_after, _MAX_WAIT))

    def _apply_quota(self, limits: RateLimits | None) -> None:
        if limits is None:
            return
        quotas = [] if limits.requests is None else [limits.requests]
        if limits.tokens is not None and self._mean_tokens:
            quotas.append(replace(limits.tokens, remaining=int(limits.tokens.remaining / self._mean_tokens)))
        if quotas:
            smallest = min(quotas, key=lambda quota: (quota.remaining, -quota.reset_seconds))
            self._quota = smallest.remaining - self.in_flight  # the endpoint may not have counted those in flight
            self._quota_resets_at = self._clock() + min(smallest.reset_seconds, _MAX_WAIT)

    def _seconds_to_wait(self) -> float | None:
        """Return None if a request may be sent now, else after how many seconds to check again."""
        now = self._clock()
        if now < self._not_before:
            return self._not_before - now
        if self._quota is not None and now >= self._quota_resets_at:
            self._quota = None
        if self._quota is not None and self._quota <= 0:
            return self._quota_resets_at - now
        return None if self.in_flight < int(self.limit) else _MAX_WAIT


_WRITE_SIZE = 200  # answers in one transaction
ChatCompletion: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _QueuedAnswer:
    request: TeacherRequest
    answer: ChatCompletion
    written: asyncio.Future[ChatCompletion]


class AnswerWriter:
    """Writes answers and failures in a thread.

    After a write has failed, for example because the disk is full, every later write fails at once with the same error.

    Args:
        cache: Where answers are written.
        failures: Where failures are written.
    """

    def __init__(self, cache: AnswerCache, failures: FailureLog) -> None:
        self._cache, self._failures = cache, failures
        self._thread = ThreadPoolExecutor(1, "answers")
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_QueuedAnswer] = deque()
        self._error: CacheDamaged | None = None

    async def write(self, request: TeacherRequest, answer: ChatCompletion) -> ChatCompletion:
        """Write an answer; return the one that is on disk, which may be an earlier one of another process.

        A cancelled caller's answer is written too, since it is paid for; `close` waits for it.

        Raises:
            CacheDamaged: It could not be written.
        """
        written: asyncio.Future[ChatCompletion] = self._loop.create_future()
        self._queue.append(_QueuedAnswer(request, answer, written))
        self._thread.submit(self._write_queued)
        return await written

    async def replace(self, request: TeacherRequest, answer: ChatCompletion) -> None:
        """Overwrite an unusable answer.

        Raises:
            CacheDamaged: It could not be written.
        """
        await self._run(lambda: self._cache.put(request, answer, replace=True))

    async def log_failure(self, failure: Failure) -> None:
        """Append a failure to the failure log.

        Raises:
            CacheDamaged: It could not be written.
        """
        await self._run(lambda: self._failures.add(failure))

    def close(self) -> None:
        """Finish all writes."""
        self._thread.submit(self._cache.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], object]) -> None:
        await asyncio.shield(asyncio.wrap_future(self._thread.submit(work)))

    def _write_queued(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), _WRITE_SIZE))]
        if not batch:
            return
        try:
            if self._error:
                raise self._error
            stored = self._cache.put_all([(each.request, each.answer) for each in batch])
        except CacheDamaged as error:
            self._error = error
            self._loop.call_soon_threadsafe(_reject, batch, error)
        else:
            self._loop.call_soon_threadsafe(_resolve, batch, stored)


def _resolve(batch: Sequence[_QueuedAnswer], stored: Sequence[ChatCompletion]) -> None:
    for each, answer in zip(batch, stored, strict=True):
        if not each.written.done():
            each.written.set_result(answer)


def _reject(batch: Sequence[_QueuedAnswer], error: CacheDamaged) -> None:
    for each in batch:
        if not each.written.done():
            each.written.set_exception(error)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before another try.

    The wait before try *n* + 1 is drawn uniformly from 0 to ``first * 2**(n - 1)`` seconds, at most ``longest``:
    exponential backoff with full jitter. A Retry-After header is waited for in addition, up to ``longest_retry_after``.

    Attributes:
        first: Seconds.
        longest: Seconds.
        longest_retry_after: Seconds.
    """

    first: float = 0.5
    longest: float = 30.0
    longest_retry_after: float = 600.0

    def wait(self, tries: int, retry_after: float | None) -> float:
        """Return the seconds to wait after so many failed tries.

        Args:
            tries: Failed tries, 1 or more.
            retry_after: Seconds to wait according to the endpoint, or None.
        """
        jitter = random.uniform(0, min(self.longest, self.first * 2 ** (tries - 1)))  # noqa: S311  # no secret
        return min(retry_after or 0.0, self.longest_retry_after) + jitter


Result = TypeVar("Result")
Answer = TypeVar("Answer")
RequestBuilder: TypeAlias = Callable[[AnswerFormat], TeacherRequest]
"""Builds one request in an answer format."""
AnswerParser: TypeAlias = Callable[[Mapping[str, Any]], Answer | Failure]
"""Parses a whole chat completion."""


@dataclass(frozen=True, slots=True)
class PendingRequest(Generic[Answer]):
    """A request to be answered.

    Attributes:
        build_request: Builds it.
        on_result: Called with the parsed answer, or with the failure; either is on disk by then.
        is_obsolete: Called before it is sent; if it returns True, the answer is no longer needed.
    """

    build_request: RequestBuilder
    on_result: Callable[[Answer | Failure], None]
    is_obsolete: Callable[[], bool] = lambda: False

    def keys(self) -> set[str]:
        """Return the keys under which its answer may be cached: one per answer format."""
        return {self.build_request(answer_format).key() for answer_format in AnswerFormat}


@dataclass(frozen=True, slots=True)
class CachedAnswer(Generic[Answer]):
    """An answer from the cache.

    Attributes:
        key: The key of its entry: in the answer format that was answered, perhaps with a lower token limit.
        answer: The parsed answer.
    """

    key: str
    answer: Answer


def find_cached_answer(
    cache: AnswerCache, build_request: RequestBuilder, parse: AnswerParser[Answer]
) -> CachedAnswer[Answer] | None:
    """Return the usable cached answer to a request in any answer format, or None."""
    for answer_format in AnswerFormat:
        entry = cache.find(build_request(answer_format))
        parsed = None if entry is None else parse(entry.answer)
        if entry is not None and parsed is not None and not isinstance(parsed, Failure):
            return CachedAnswer(entry.key, parsed)
    return None


def find_logged_failure(failures: Mapping[str, Failure], build_request: RequestBuilder) -> Failure | None:
    """Return a request's failure from an earlier run, or None."""
    keys = [build_request(answer_format).key() for answer_format in AnswerFormat] if failures else []
    return next((failures[key] for key in keys if key in failures), None)


@dataclass(frozen=True, slots=True)
class RequestJob(Generic[Answer]):
    """Pending requests and what is needed to send them.

    Attributes:
        requests: Requests without a cached answer.
        parse: Parses an answer; one that gives a failure is requested again, `section.tries` times in all.
        section: The teacher's endpoint and settings.
        cache: Where answers are written.
        budget: Limits spending.
        retry_policy: How long to wait between tries.
        api_key: The key; None reads the environment variable that the section names.
        on_progress: Called with the usage so far after every request.
    """

    requests: Sequence[PendingRequest[Answer]]
    parse: AnswerParser[Answer]
    section: TeacherSection
    cache: AnswerCache
    budget: Budget
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    api_key: str | None = None
    on_progress: Callable[[Usage], None] | None = None

    @property
    def key(self) -> str:
        """The API key.

        Raises:
            TeacherRefusedKey: The environment variable is not set.
        """
        return read_api_key(self.section, os.environ) if self.api_key is None else self.api_key

    @property
    def no_usage(self) -> Usage:
        """The usage before any request is sent."""
        return Usage(nano_dollars=None if self.budget.price is None else 0)

    def keys(self) -> set[str]:
        """Return the keys under which the answers may be cached."""
        return set().union(*(request.keys() for request in self.requests))

    def unanswered(self) -> list[PendingRequest[Answer]]:
        """Return the requests without a usable cached answer."""
        return [
            each for each in self.requests if find_cached_answer(self.cache, each.build_request, self.parse) is None
        ]


_GIVE_UP_AFTER = 20  # requests in a row that used up their tries while none succeeded


class RequestRunner(Generic[Answer]):
    """Sends the requests of one job.

    Args:
        job: Gives the parser, budget, retry policy and number of tries. A request may fail ``tries`` times because the
            endpoint is busy, and ``tries`` times because its answer is unusable.
        endpoint: The open connection.
        writer: Writes answers and failures to disk.
        limiter: Limits the requests in flight.
    """

    def __init__(self, job: RequestJob[Answer], endpoint: Endpoint, writer: AnswerWriter, limiter: RateLimiter) -> None:
        self._job, self._endpoint, self._writer, self._limiter = job, endpoint, writer, limiter
        self._exhausted = 0
        self._sent = self._unmetered = self._input_tokens = self._output_tokens = self._nano = 0
        self._retries: Counter[str] = Counter()

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        return Usage(
            self._sent,
            0,
            self._input_tokens,
            self._output_tokens,
            None if self._job.budget.price is None else self._nano,
            self._unmetered,
            dict(self._retries),
        )

    async def run(self, build_request: RequestBuilder) -> Answer | Failure:
        """Send one request until it is answered or out of tries; return the parsed answer or the failure.

        Raises:
            TeacherError: No request can succeed.
            BudgetReached: The next try could cost more than is left.
            CacheDamaged: The answer could not be written.
        """
        busy = unusable = 0
        while True:
            answer_format = self._endpoint.capabilities.answer_format
            request = build_request(answer_format)
            outcome = await self._try(request)
            if isinstance(outcome, FormatUnsupported):
                self._endpoint.fall_back(answer_format)
                continue
            if isinstance(outcome, Retryable):
                busy += 1
                failure = outcome.failure
                if busy >= self._job.section.tries:
                    return await self._give_up(request, outcome)
            elif isinstance(outcome, Failure):
                unusable += 1
                failure = outcome
                if unusable >= self._job.section.tries:
                    return await self._log_failure(request, failure)
            else:
                self._exhausted = 0
                return outcome
            self._retries[failure.cause.value] += 1
            if isinstance(outcome, Retryable):
                await asyncio.sleep(self._job.retry_policy.wait(busy, outcome.retry_after))

    async def _try(self, request: TeacherRequest) -> Answer | Failure | Retryable | FormatUnsupported:
        outcome = await self._send(request)
        if isinstance(outcome, Rejected):
            return outcome.failure
        if not isinstance(outcome, ChatAnswer):
            return outcome
        parsed = self._job.parse(outcome.answer)
        return parsed if isinstance(parsed, Failure) else await self._store(request, outcome.answer, parsed)

    async def _send(self, request: TeacherRequest) -> ChatAnswer | Retryable | Rejected | FormatUnsupported:
        """Send a request once rate limiter and budget allow it, and log its cost."""
        budget = self._job.budget
        sent_at = await self._limiter.acquire()
        try:
            reservation = await budget.reserve(request)
            cost = None  # until it is known: a cancelled try may have cost its maximum
            try:
                self._sent += 1
                outcome = await self._endpoint.send(request)
                cost = self._cost(outcome)
            finally:
                budget.settle(reservation, cost)
        finally:
            self._limiter.release()
        if isinstance(outcome, ChatAnswer):
            self._limiter.record_answer(outcome.rate_limits, sum(outcome.tokens or ()))
        elif isinstance(outcome, Rejected):
            self._limiter.end_probing()
        elif isinstance(outcome, Retryable) and outcome.overloaded:
            self._limiter.record_refusal(sent_at, outcome.retry_after)
        return outcome

    def _cost(self, outcome: ChatAnswer | Retryable | Rejected | FormatUnsupported) -> Amount | None:
        tokens = outcome.tokens if isinstance(outcome, ChatAnswer) else None
        if tokens:
            cost = self._job.budget.amount(*tokens)
            self._input_tokens += cost.input
            self._output_tokens += cost.output
            self._nano += cost.nano or 0
            return cost
        if isinstance(outcome, ChatAnswer) or (isinstance(outcome, Retryable) and outcome.maybe_billed):
            self._unmetered += 1
            return None
        return self._job.budget.amount(0, 0)

    async def _store(self, request: TeacherRequest, answer: ChatCompletion, parsed: Answer) -> Answer:
        stored = await self._writer.write(request, answer)
        if stored is answer:
            return parsed
        earlier = self._job.parse(stored)
        if not isinstance(earlier, Failure):
            return earlier
        await self._writer.replace(request, answer)
        return parsed

    async def _give_up(self, request: TeacherRequest, outcome: Retryable) -> Failure:
        self._exhausted += 1
        if outcome.unreachable or self._exhausted >= _GIVE_UP_AFTER:
            raise self._endpoint.unreachable_error(outcome)
        return await self._log_failure(request, outcome.failure)

    async def _log_failure(self, request: TeacherRequest, failure: Failure) -> Failure:
        logged = replace(failure, key=request.key())
        await self._writer.log_failure(logged)
        return logged


class DispatchMode(Protocol):
    """What happens to a job before its requests are sent one by one."""

    def prepare(self, job: RequestJob[Any]) -> Usage | None:
        """Report an estimate, fill the cache, or stop the stage.

        Returns:
            The usage, if the cache may hold answers now; None if nothing was sent.

        Raises:
            Paused: The stage stops here.
        """


def run_requests(
    requests: Sequence[PendingRequest[Answer]],
    parse: AnswerParser[Answer],
    section: TeacherSection,
    cache: AnswerCache,
    *,
    cached: int = 0,
    api_key: str | None = None,
    on_progress: Callable[[Usage], None] | None = None,
    budget: Budget | None = None,
    retry_policy: RetryPolicy | None = None,
    dispatch: DispatchMode | None = None,
) -> Usage:
    """Send all requests, at most `section.concurrency` at a time.

    Args:
        requests: The requests, which are sent in this order; answers arrive in any order.
        parse: Parses an answer; one that gives a failure is requested again, `section.tries` times in all.
        section: The teacher's endpoint and settings.
        cache: Where answers are written.
        cached: Answers found in the cache before, which the returned usage includes.
        api_key: The key; None reads the environment variable that the section names.
        on_progress: Called with the usage so far after every request.
        budget: A budget shared with earlier calls; None creates one from the section.
        retry_policy: How long to wait between tries.
        dispatch: What happens before; None sends the requests at once.

    Returns:
        The usage.

    Raises:
        TeacherError: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be written.
        Paused: The dispatch mode stops the stage before it is complete.
    """
    budget, retry_policy = budget or Budget.from_section(section), retry_policy or RetryPolicy()
    job = RequestJob(requests, parse, section, cache, budget, retry_policy, api_key, on_progress)
    usage = Usage(cached=cached, nano_dollars=job.no_usage.nano_dollars)
    before = dispatch.prepare(job) if dispatch else None
    if before:
        job = replace(job, requests=_apply_cached(job))
        usage += before
    return usage + send_requests(job, usage_before=usage)[0] if job.requests else usage


def send_requests(
    job: RequestJob[Answer], capabilities: Capabilities | None = None, usage_before: Usage | None = None
) -> tuple[Usage, Capabilities]:
    """Send a job's requests one by one.

    Args:
        job: The job.
        capabilities: What the endpoint is known to support.
        usage_before: Earlier usage, which `on_progress` includes.

    Returns:
        The usage, and what the endpoint supports.
    """
    key = job.key

    def report(usage: Usage) -> None:
        if job.on_progress:
            job.on_progress(usage_before + usage if usage_before else usage)

    async def run() -> tuple[Usage, Capabilities]:
        async with Endpoint(job.section, key, capabilities) as endpoint:
            writer = AnswerWriter(job.cache, FailureLog(job.cache.folder))
            runner = RequestRunner(job, endpoint, writer, RateLimiter(job.section.concurrency))
            try:
                await _run_workers(job, runner, report)
            finally:
                writer.close()
                job.budget.spending_log.close()
            return runner.usage, endpoint.capabilities

    return _run(run())


def _apply_cached(job: RequestJob[Answer]) -> list[PendingRequest[Answer]]:
    """Pass cached answers to their requests; return the other requests."""
    unanswered = []
    for request in job.requests:
        cached = find_cached_answer(job.cache, request.build_request, job.parse)
        if cached:
            request.on_result(cached.answer)
        else:
            unanswered.append(request)
    return unanswered


async def _run_workers(job: RequestJob[Answer], runner: RequestRunner[Answer], report: Callable[[Usage], None]) -> None:
    """Send the requests with a fixed number of workers that share one queue."""
    queue = iter(job.requests)

    async def work() -> None:
        for request in queue:
            if not request.is_obsolete():
                request.on_result(await runner.run(request.build_request))
            report(runner.usage)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(job.section.concurrency, len(job.requests))):
                workers.create_task(work())
    except BaseExceptionGroup as group:
        ours = next((error for error in group.exceptions if isinstance(error, EdgeDistillError)), None)
        raise ours or group.exceptions[0] from None


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, also if an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "teacher") as thread:
        return thread.submit(asyncio.run, work).result()
