"""Sends requests until each has a usable answer: rate limiter, retry policy, durable writes.

The first request goes alone, so that a wrong key, model or parameter costs one request; until the endpoint has answered
one, the others go alone, too. Then at most ``concurrency`` requests are in flight. The limit adapts by additive
increase and multiplicative decrease: it grows by one after as many answers as it allows, and is halved by a refusal
(HTTP 429, 503 or 529), once for all requests that were in flight together. A single refusal delays only its own
request; a second one without an answer in between delays all requests for as long as its Retry-After says. If the
headers state the remaining quota, no more requests are sent than it allows until it resets.

Answers are written by one thread. While one transaction is synced to disk, the next answers are queued and written
together, so that the disk does not limit the rate; an answer counts only once its own transaction is on disk.

A refused request is not sent again unchanged. If the endpoint refuses one response after the other, the run stops: it
is the same refusal for `REFUSED_ALIKE` responses before any answer, or any for `REFUSED` responses in a row. What a
content filter refuses is a response's own matter once the endpoint has answered another one. So is what failed in an
earlier run, too: it is sent last, and does not stop this run again.

When a run stops because of an error, no further request is sent, and answers of requests in flight are waited for and
stored, since they are paid for.

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
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from edgedistill.errors import CacheDamaged, EdgeDistillError
from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher.cache import AnswerCache, TeacherRequest
from edgedistill.teacher.claims import Claims
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.endpoint import Capabilities, Endpoint, read_api_key
from edgedistill.teacher.http_client import run_to_end
from edgedistill.teacher.logs import FailureLog
from edgedistill.teacher.parsing import Failure, FailureCause
from edgedistill.teacher.replies import ChatAnswer, Fatal, FormatUnsupported, Outcome, RateLimits, Rejected, Retryable
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
    answer: ChatCompletion = field(repr=False)
    written: Future[ChatCompletion] = field(default_factory=Future)


class AnswerWriter:
    """Writes answers and failures in a thread.

    Every call returns or raises, whatever happens in the thread. After a write has failed, for example because the disk
    is full, every later write fails at once with the same error. Where one answer cannot be written, the others are.

    Args:
        cache: Where answers are written.
        failures: Where failures are written.
    """

    def __init__(self, cache: AnswerCache, failures: FailureLog) -> None:
        self._cache, self._failures = cache, failures
        self._thread = ThreadPoolExecutor(1, "answers")
        self._queue: deque[_QueuedAnswer] = deque()
        self._error: CacheDamaged | None = None

    async def write(self, request: TeacherRequest, answer: ChatCompletion) -> ChatCompletion:
        """Write an answer; return the one that is on disk, which may be an earlier one of another process.

        A cancelled caller's answer is written too, since it is paid for; `close` waits for it.

        Raises:
            CacheDamaged: It could not be written.
        """
        queued = _QueuedAnswer(request, answer)
        self._queue.append(queued)
        self._thread.submit(self._write_queued)
        return await asyncio.shield(asyncio.wrap_future(queued.written))

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
        try:
            await asyncio.shield(asyncio.wrap_future(self._thread.submit(work)))
        except EdgeDistillError:
            raise
        except Exception as error:
            raise self._cannot_write(error) from error

    def _write_queued(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), _WRITE_SIZE))]
        try:
            self._write(batch)
        except BaseException as error:  # noqa: BLE001  # whatever it is, nobody may wait for ever
            raised = error if isinstance(error, CacheDamaged) else self._cannot_write(error)
            self._error = self._error or raised
            for each in batch:
                if not each.written.done():
                    each.written.set_exception(raised)

    def _write(self, batch: Sequence[_QueuedAnswer]) -> None:
        if self._error:
            raise self._error
        try:
            stored = self._cache.put_all([(each.request, each.answer) for each in batch])
        except CacheDamaged:
            raise
        except Exception as error:  # noqa: BLE001
            if len(batch) == 1:
                batch[0].written.set_exception(self._cannot_write(error))
            else:  # one of them cannot be written; the others are paid for
                for each in batch:
                    self._write([each])
        else:
            for each, answer in zip(batch, stored, strict=True):
                each.written.set_result(answer)

    def _cannot_write(self, error: BaseException) -> CacheDamaged:
        return CacheDamaged(
            f"an answer cannot be written ({type(error).__name__})",
            where=str(self._cache.file),
            hint="All other answers are saved. This is a fault of EdgeDistill: please report it.",
        )


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

    @property
    def name(self) -> str:
        """The key of the strictest answer format, by which runs and batches identify the request."""
        return self.build_request(AnswerFormat.SCHEMA).key()


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
        proven: Whether the endpoint has answered requests with these settings in an earlier run.
        refused: Names of requests that the endpoint refused; they are not sent again unchanged.
        failed_before: Keys of requests that failed in earlier runs.
    """

    requests: Sequence[PendingRequest[Answer]]
    parse: AnswerParser[Answer]
    section: TeacherSection
    cache: AnswerCache
    budget: Budget
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    api_key: str | None = None
    on_progress: Callable[[Usage], None] | None = None
    proven: bool = False
    refused: set[str] = field(default_factory=set)
    failed_before: Collection[str] = frozenset()

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
        """Return the requests without a usable cached answer, but not the refused ones."""
        return [
            each
            for each in self.requests
            if find_cached_answer(self.cache, each.build_request, self.parse) is None
            and not (self.refused and each.name in self.refused)
        ]


_GIVE_UP_AFTER = 20  # requests in a row that used up their tries while none succeeded
_GIVE_UP_BEFORE_ANSWER = 3  # likewise, while the endpoint has not answered any
REFUSED_ALIKE = 3  # responses that are refused alike before any answer
REFUSED = 20  # responses that are refused in a row
_CLAIM_SECONDS = 60.0  # that a claim outlasts what a request may take
_CLAIM_POLL = 0.2  # seconds between two looks at a request that another run sends


class _Stopped(Exception):
    """Another request has ended the run."""


class _ClaimLost(Exception):
    """The claim ended before the request was sent, and another run may send it."""


_IGNORED_ANSWERS = 2  # unusable first answers after which the requested format counts as ignored
_OTHER_FORM = frozenset({FailureCause.UNREADABLE, FailureCause.NO_SUCH_LABEL})


class RequestRunner(Generic[Answer]):
    """Sends the requests of one job.

    Args:
        job: Gives the parser, budget, retry policy and number of tries. A request may fail ``tries`` times because the
            endpoint is busy, and ``tries`` times because its answer is unusable.
        endpoint: The open connection.
        writer: Writes answers and failures to disk.
        limiter: Limits the requests in flight.
        claims: What other runs send.
    """

    def __init__(
        self,
        job: RequestJob[Answer],
        endpoint: Endpoint,
        writer: AnswerWriter,
        limiter: RateLimiter,
        claims: Claims,
    ) -> None:
        self._job, self._endpoint, self._writer, self._limiter = job, endpoint, writer, limiter
        self._claims = claims
        self._error: BaseException | None = None
        self._in_flight: set[asyncio.Task[Any] | None] = set()
        self._exhausted = 0
        self._followed: set[AnswerFormat] = set()
        self._ignored: Counter[AnswerFormat] = Counter()
        self._refused: Counter[str] = Counter()
        self._refused_texts: set[str] = set()
        self._sent = self._found = self._unmetered = self._input_tokens = self._output_tokens = self._nano = 0
        self._retries: Counter[str] = Counter()

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        return Usage(
            self._sent,
            self._found,
            self._input_tokens,
            self._output_tokens,
            None if self._job.budget.price is None else self._nano,
            self._unmetered,
            dict(self._retries),
        )

    @property
    def proven(self) -> bool:
        """Whether the endpoint has answered, so that several requests may be in flight."""
        return self._sent > 0 and self._endpoint.verified

    @property
    def error(self) -> BaseException | None:
        """The first error, which ends the run."""
        return self._error

    def stop(self, error: BaseException) -> None:
        """Send no further request because of an error; only the first one counts."""
        self._error = self._error or error

    def is_sending(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task has a request in flight."""
        return task in self._in_flight

    async def handle(self, pending: PendingRequest[Answer]) -> bool:
        """Send a request and pass on its result, unless that is not needed; return False if another run sends it.

        Raises:
            EdgeDistillError: As `run`.
        """
        self._check_stopped()
        if pending.is_obsolete():
            return True
        name = pending.name
        if name in self._job.refused:
            return True
        if not self._claims.acquire(name, self._claim_seconds()):
            return False
        try:
            result = self._find(pending.build_request) or await self._run(pending.build_request, name)
        except _ClaimLost:
            return False
        except BaseException:
            with suppress(CacheDamaged):  # the first error is the one to report
                self._claims.release(name)
            raise
        self._claims.release(name)
        pending.on_result(result)
        return True

    def _find(self, build_request: RequestBuilder) -> Answer | None:
        """Return the answer that another run has stored meanwhile, or None."""
        cached = find_cached_answer(self._job.cache, build_request, self._job.parse)
        self._found += cached is not None
        return cached.answer if cached else None

    def _check_stopped(self) -> None:
        if self._error:
            raise _Stopped

    async def _run(self, build_request: RequestBuilder, name: str) -> Answer | Failure:
        """Send one request until it is answered, refused or out of tries; return the parsed answer or the failure.

        Raises:
            TeacherError: No request can succeed.
            BudgetReached: The next try could cost more than is left.
            CacheDamaged: The answer could not be written.
        """
        busy = unusable = 0
        while True:
            answer_format = self._endpoint.capabilities.answer_format
            request = build_request(answer_format)
            outcome = await self._try(request, name)
            if isinstance(outcome, FormatUnsupported):
                self._endpoint.fall_back(answer_format)
                continue
            if isinstance(outcome, Rejected):
                self._job.refused.add(name)
                return await self._refuse(request, outcome)
            if isinstance(outcome, Retryable):
                busy += 1
                failure = outcome.failure
                if busy >= self._job.section.tries:
                    return await self._give_up(request, outcome)
            elif isinstance(outcome, Failure):
                unusable += 1
                failure = outcome
                self._count_ignored(answer_format, failure)
                if unusable >= self._job.section.tries:
                    return await self._log_failure(request, failure)
            else:
                self._exhausted = 0
                self._followed.add(answer_format)
                return outcome
            self._retries[failure.cause.value] += 1
            self._check_stopped()
            wait = self._job.retry_policy.wait(busy, outcome.retry_after) if isinstance(outcome, Retryable) else 0.0
            self._extend_claim(name, wait)
            await asyncio.sleep(wait)

    def _count_ignored(self, answer_format: AnswerFormat, failure: Failure) -> None:
        """Fall back if the first answers are not in the requested format: the endpoint ignores it, as if it refused it.

        An endpoint that enforces a schema cannot answer in another form, so asking again in the same way is in vain.
        """
        if failure.cause in _OTHER_FORM and answer_format not in self._followed:
            self._ignored[answer_format] += 1
            if self._ignored[answer_format] == _IGNORED_ANSWERS:
                self._endpoint.fall_back(answer_format)

    def _extend_claim(self, name: str, wait: float = 0.0) -> None:
        if not self._claims.extend(name, self._claim_seconds(wait)):
            raise _ClaimLost

    def _claim_seconds(self, wait: float = 0.0) -> float:
        return wait + self._job.section.timeout_seconds + _CLAIM_SECONDS

    async def _try(
        self, request: TeacherRequest, name: str
    ) -> Answer | Failure | Retryable | Rejected | FormatUnsupported:
        task = asyncio.current_task()
        try:
            outcome = await self._send(request, name)
            if not isinstance(outcome, ChatAnswer):
                return outcome
            self._refused.clear()
            self._refused_texts.clear()
            parsed = self._job.parse(outcome.answer)
            if not isinstance(parsed, Failure):
                return await self._store(request, outcome.answer, parsed)
            return Rejected(parsed, filtered=True) if outcome.is_filtered else parsed
        finally:
            self._in_flight.discard(task)

    async def _send(self, request: TeacherRequest, name: str) -> ChatAnswer | Retryable | Rejected | FormatUnsupported:
        """Send a request once rate limiter and budget allow it, and log its cost."""
        budget = self._job.budget
        sent_at = await self._limiter.acquire()
        try:
            self._check_stopped()
            reservation = await budget.reserve(request)
            cost: Amount | None = budget.amount(0, 0)
            try:
                self._check_stopped()
                self._extend_claim(name)  # it may have waited for long
                self._in_flight.add(asyncio.current_task())
                self._sent += 1
                cost = None  # until it is known: a cancelled try may have cost its maximum
                outcome = await self._endpoint.send(request)
                cost = self._cost(outcome)
            finally:
                budget.settle(reservation, cost)
            if isinstance(outcome, Fatal):
                error = self._endpoint.fatal_error(outcome, request)
                self.stop(error)  # before the limiter lets the next request through
                raise error
        finally:
            self._limiter.release()
        if isinstance(outcome, ChatAnswer):
            self._limiter.record_answer(outcome.rate_limits, sum(outcome.tokens or ()))
        elif isinstance(outcome, Rejected) and self._endpoint.verified:
            self._limiter.end_probing()
        elif isinstance(outcome, Retryable) and outcome.overloaded:
            self._limiter.record_refusal(sent_at, outcome.retry_after)
        return outcome

    def _cost(self, outcome: Outcome) -> Amount | None:
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

    async def _refuse(self, request: TeacherRequest, outcome: Rejected) -> Failure:
        """Set a refused response aside, unless one response after the other is refused."""
        failure = await self._log_failure(request, outcome.failure)
        own = outcome.filtered or request.key() in self._job.failed_before
        if not (own and self._endpoint.verified):
            text = request.messages[-1]["content"]
            self._refused[outcome.kind] += text not in self._refused_texts
            self._refused_texts.add(text)
            alike = not (self._endpoint.verified or outcome.filtered) and self._refused[outcome.kind] >= REFUSED_ALIKE
            if alike or len(self._refused_texts) >= REFUSED:
                raise self._endpoint.refusal_error(outcome, request, len(self._refused_texts))
        return failure

    async def _give_up(self, request: TeacherRequest, outcome: Retryable) -> Failure:
        self._exhausted += not (self._endpoint.verified and request.key() in self._job.failed_before)
        limit = _GIVE_UP_AFTER if self._endpoint.verified else _GIVE_UP_BEFORE_ANSWER
        if outcome.unreachable or self._exhausted >= limit:
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
    proven: bool = False,
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
        proven: Whether the endpoint has answered requests with these settings before; ``cached`` answers say so, too.

    Returns:
        The usage.

    Raises:
        TeacherError: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be written.
        Paused: The dispatch mode stops the stage before it is complete.
    """
    budget, retry_policy = budget or Budget.from_section(section), retry_policy or RetryPolicy()
    job = RequestJob(
        requests,
        parse,
        section,
        cache,
        budget,
        retry_policy,
        api_key,
        on_progress,
        proven or cached > 0,
        failed_before=FailureLog(cache.folder).read().keys(),
    )
    usage = Usage(cached=cached, nano_dollars=job.no_usage.nano_dollars)
    before = dispatch.prepare(job) if dispatch else None
    if before:
        job = replace(job, requests=_apply_cached(job))
        usage += before
    return usage + send_requests(job, usage_before=usage)[0] if job.requests else usage


def send_requests(
    job: RequestJob[Answer],
    usage_before: Usage | None = None,
    *,
    only_first: bool = False,
) -> tuple[Usage, Capabilities]:
    """Send a job's requests one by one.

    Args:
        job: The job.
        usage_before: Earlier usage, which `on_progress` includes.
        only_first: Stop after the first answer.

    Returns:
        The usage, and what the endpoint supports.
    """
    key = job.key

    def report(usage: Usage) -> None:
        if job.on_progress:
            job.on_progress(usage_before + usage if usage_before else usage)

    async def run() -> tuple[Usage, Capabilities]:
        async with Endpoint(job.section, key, verified=job.proven) as endpoint:
            with Claims(job.cache.folder) as claims:
                writer = AnswerWriter(job.cache, FailureLog(job.cache.folder))
                runner = RequestRunner(job, endpoint, writer, RateLimiter(job.section.concurrency), claims)
                try:
                    await _send_all(job, runner, report, only_first=only_first)
                finally:
                    writer.close()
                    job.budget.spending_log.close()
            return runner.usage, endpoint.capabilities

    return run_to_end(run())


def _apply_cached(job: RequestJob[Answer]) -> list[PendingRequest[Answer]]:
    """Pass cached answers to their requests; return the other requests that were not refused."""
    unanswered = []
    for request in job.requests:
        cached = find_cached_answer(job.cache, request.build_request, job.parse)
        if cached:
            request.on_result(cached.answer)
        elif not (job.refused and request.name in job.refused):
            unanswered.append(request)
    return unanswered


def _separate_failed(job: RequestJob[Answer]) -> tuple[list[PendingRequest[Answer]], list[PendingRequest[Answer]]]:
    """Return the requests that have not failed before, and those that have."""
    new: list[PendingRequest[Answer]] = []
    failed: list[PendingRequest[Answer]] = []
    for request in job.requests:
        (failed if job.failed_before and not request.keys().isdisjoint(job.failed_before) else new).append(request)
    return new, failed


async def _send_all(
    job: RequestJob[Answer], runner: RequestRunner[Answer], report: Callable[[Usage], None], *, only_first: bool
) -> None:
    """Send the first requests one after the other until one is answered, then the others with several workers."""
    new, failed = _separate_failed(job)
    queue, failed_before = deque(new), deque(failed)
    elsewhere = deque[PendingRequest[Answer]]()

    async def handle(request: PendingRequest[Answer]) -> None:
        if await runner.handle(request):
            report(runner.usage)
        else:
            elsewhere.append(request)

    from_end = False  # a refused response may be like those next to it
    while (queue or failed_before) and not runner.proven:
        rows = queue or failed_before
        await handle(rows.pop() if from_end else rows.popleft())
        from_end = not from_end
    if only_first:
        return
    queue += failed_before

    async def work() -> None:
        while queue or elsewhere:
            if queue:
                await handle(queue.popleft())
            else:
                request = elsewhere.popleft()
                await asyncio.sleep(_CLAIM_POLL)
                await handle(request)

    await _work_together([work() for _ in range(min(job.section.concurrency, len(queue) + len(elsewhere)))], runner)


async def _work_together(workers: Sequence[Coroutine[Any, Any, None]], runner: RequestRunner[Any]) -> None:
    """Run workers; after an error, let those finish that have a request in flight, and raise the first error."""
    tasks = [asyncio.create_task(_record_error(worker, runner)) for worker in workers]
    try:
        pending: set[asyncio.Task[None]] = set(tasks)
        while pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            for task in pending if runner.error else ():
                if not runner.is_sending(task):
                    task.cancel()
    finally:  # an interrupt
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if runner.error:
        raise runner.error


async def _record_error(worker: Coroutine[Any, Any, None], runner: RequestRunner[Any]) -> None:
    try:
        await worker
    except _Stopped:
        pass
    except Exception as error:
        runner.stop(error)
        raise
