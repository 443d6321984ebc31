"""Asks for one answer until there is one that can be read, or until the tries are used up."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from edgedistill.teacher.cache import AnswerCache
from edgedistill.teacher.endpoint import Endpoint
from edgedistill.teacher.failures import FailureLog
from edgedistill.teacher.formats import AnswerFormat
from edgedistill.teacher.outcomes import Answered, Busy, FormatRefused, Rejected
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.spending import Budget, Price, Usage

Answer = TypeVar("Answer")
Result = TypeVar("Result")

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
        cache: Where answers are kept.
        failures: Where the last failure of a request is kept.
        budget: What may be spent.
        price: What tokens cost, or None.
        read: Reads a whole chat completion: what it says, or why it cannot be used.
        tries: How often one answer is asked for: so often after busy replies, and so often after unusable answers.
        patience: How long to wait in between.
        cached: Answers that came from the cache, for the figures.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: AnswerCache,
        failures: FailureLog,
        budget: Budget,
        price: Price | None,
        read: Callable[[Mapping[str, Any]], Answer | Failure],
        tries: int,
        patience: Patience,
        cached: int,
    ) -> None:
        self._endpoint, self._cache, self._failures, self._budget = endpoint, cache, failures, budget
        self._read, self._tries, self._patience = read, tries, patience
        self._price, self._cached = price, cached
        self._in_vain = 0
        self._asked = self._unmetered = self._input_tokens = self._output_tokens = 0
        self._retries: Counter[str] = Counter()
        self._disk = ThreadPoolExecutor(1, "answers")  # an fsync must not hold up the connections

    def close(self) -> None:
        """Finish the writes under way."""
        self._disk.submit(self._cache.close)
        self._disk.shutdown()

    @property
    def usage(self) -> Usage:
        """What was asked and used so far."""
        cost = None if self._price is None else self._price.cost(self._input_tokens, self._output_tokens)
        return Usage(
            self._asked,
            self._cached,
            self._input_tokens,
            self._output_tokens,
            cost,
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
            form = self._endpoint.form
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
        reserved = await self._budget.reserve(request)
        spent = reserved  # until it is known to be less: a try that is cancelled may have cost its worst case
        try:
            self._asked += 1
            outcome = await self._endpoint.send(request)
            spent = self._spent(outcome, reserved)
        finally:
            self._budget.settle(reserved, spent)
        if isinstance(outcome, Rejected):
            return outcome.failure
        if not isinstance(outcome, Answered):
            return outcome
        found = self._read(outcome.answer)
        return found if isinstance(found, Failure) else await self._keep(request, outcome.answer, found)

    def _spent(self, outcome: Answered | Busy | Rejected | FormatRefused, reserved: int) -> int:
        tokens = outcome.tokens if isinstance(outcome, Answered) else None
        if tokens:
            self._input_tokens += tokens[0]
            self._output_tokens += tokens[1]
            return self._budget.amount(*tokens)
        if isinstance(outcome, Answered) or (isinstance(outcome, Busy) and outcome.unheard):
            self._unmetered += 1
            return reserved
        return 0

    async def _keep(self, request: TeacherRequest, answer: Mapping[str, Any], found: Answer) -> Answer:
        kept = await self._written(lambda: self._cache.put(request, answer))
        if kept is answer:
            return found
        first = self._read(kept)
        if not isinstance(first, Failure):
            return first
        await self._written(lambda: self._cache.put(request, answer, replace=True))
        return found

    async def _give_up(self, request: TeacherRequest, busy: Busy) -> Failure:
        self._in_vain += 1
        if busy.deaf or self._in_vain >= _GIVE_UP_AFTER:
            raise self._endpoint.unreachable(busy)
        return await self._set_aside(request, busy.failure)

    async def _set_aside(self, request: TeacherRequest, failure: Failure) -> Failure:
        kept = replace(failure, key=request.key())
        await self._written(lambda: self._failures.add(kept))
        return kept

    async def _written(self, write: Callable[[], Result]) -> Result:
        # Shielded: a run that stops cancels its workers, and a write that still waits for its turn must not go with
        # them, since its answer has been paid for. `close` waits for it.
        return await asyncio.shield(asyncio.wrap_future(self._disk.submit(write)))
