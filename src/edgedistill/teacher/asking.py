"""Asks for one answer until there is one that can be read, or until the tries are used up."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from edgedistill.teacher.endpoint import Endpoint
from edgedistill.teacher.formats import AnswerFormat
from edgedistill.teacher.ledger import Amount
from edgedistill.teacher.outcomes import Answered, Busy, FormatRefused, Rejected
from edgedistill.teacher.pace import Pace
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.spending import Budget, Usage
from edgedistill.teacher.writing import Writer

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
