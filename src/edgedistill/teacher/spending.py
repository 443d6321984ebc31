"""What a run asked, used and cost, and the cap that it cannot pass.

Usage    the figures of a run
Price    what a token costs, exactly, in nano-dollars
Budget   holds the worst case of a request before it is sent, and settles it after
"""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Self

from edgedistill.errors import BudgetReached
from edgedistill.project.sections import PricesSection, TeacherSection
from edgedistill.teacher.ledger import Amount, Ledger
from edgedistill.teacher.request import TeacherRequest

_TOKENS_PER_MESSAGE = 16  # a chat template's marks around one message; the largest known need about 10


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run asked, used and cost.

    Attributes:
        asked: Requests sent, every try counted.
        cached: Votes that came from the cache.
        input_tokens: As the endpoint counted them, failed answers included.
        output_tokens: Likewise.
        nano_dollars: Their cost, 1e-9 dollars; None without prices.
        unmetered: Requests that may have cost something which the endpoint never told: lost connections, timeouts,
            answers without usage. They are in no other figure, but the budget holds their worst case.
        retries: Tries that failed and were made again, by cause.
    """

    asked: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_dollars: int | None = None
    unmetered: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Usage") -> "Usage":
        """What both took together; the cost is None where either has none."""
        unknown = self.nano_dollars is None or other.nano_dollars is None
        return Usage(
            self.asked + other.asked,
            self.cached + other.cached,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            None if unknown else (self.nano_dollars or 0) + (other.nano_dollars or 0),
            self.unmetered + other.unmetered,
            dict(Counter(self.retries) + Counter(other.retries)),
        )


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars per token, as exact fractions."""

    input: Fraction
    output: Fraction

    @classmethod
    def of(cls, section: PricesSection) -> Self:
        """Return the price that the project file states; dollars a million are thousands of nano-dollars each."""
        return cls(
            Fraction(str(section.input_usd_per_million)) * 1000, Fraction(str(section.output_usd_per_million)) * 1000
        )

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """Return the cost in nano-dollars, rounded up."""
        given, made = self.input, self.output
        total = given.numerator * made.denominator * input_tokens + made.numerator * given.denominator * output_tokens
        return -(-total // (given.denominator * made.denominator))  # whole numbers, ten times as fast as fractions


@dataclass(frozen=True, slots=True)
class Held:
    """What was set aside for one request.

    Attributes:
        name: Its name in the ledger.
        worst: The most that it can cost.
    """

    name: str
    worst: Amount


class Budget:
    """A hard cap in nano-dollars or tokens on what a project spends, in all its runs; without a cap, everything passes.

    Args:
        cap: Nano-dollars where there is a price, else tokens; None for no cap.
        price: What tokens cost; None for a cap in tokens.
        ledger: What was spent before, and where spending is written down; None starts from nothing, in memory.
        stage: The stage that spends.
        capped_in_tokens: Whether the cap is one in tokens although there is a price.
    """

    def __init__(
        self,
        cap: int | None,
        price: Price | None,
        ledger: Ledger | None = None,
        stage: str = "",
        *,
        capped_in_tokens: bool = False,
    ) -> None:
        self.cap, self.price, self.ledger, self.stage = cap, price, ledger or Ledger(), stage
        self._in_dollars = price is not None and not capped_in_tokens
        self._in_flight = 0
        self._settled = asyncio.Event()
        self._settled.set()

    @classmethod
    def of(cls, section: TeacherSection, ledger: Ledger | None = None, stage: str = "") -> Self:
        """Return the budget that the project file states."""
        price = Price.of(section.prices) if section.prices else None
        if section.budget is None:
            return cls(None, price, ledger, stage)
        if section.budget.usd is None:
            return cls(section.budget.tokens, price, ledger, stage, capped_in_tokens=True)
        return cls(int(Fraction(str(section.budget.usd)) * 10**9), price, ledger, stage)

    @property
    def taken(self) -> int:
        """What is spent or held so far, in the unit of the cap."""
        total = 0
        for spent in self.ledger.stages().values():
            for part in (spent.known, spent.held):
                if self._in_dollars and self.price:
                    unpriced = self.price.cost(part.unpriced_input_tokens, part.unpriced_output_tokens)
                    total += part.nano_dollars + unpriced
                else:
                    total += part.input_tokens + part.output_tokens
        return total

    async def reserve(self, request: TeacherRequest) -> Held:
        """Set aside the most that the request can cost; wait where requests in flight may free enough.

        Raises:
            BudgetReached: It does not fit, and nothing of this process is in flight.
            CacheDamaged: The ledger cannot be written.
        """
        worst = self.worst(request)
        while not (held := self._held(request.model, worst)):
            if not self._in_flight:
                raise self._reached(self._counted(worst), "the next request")
            if self._settled.is_set():  # a new event, since the budget may outlive an event loop
                self._settled = asyncio.Event()
            await self._settled.wait()
        self._in_flight += 1
        return held

    def settle(self, held: Held, cost: Amount | None) -> None:
        """Replace what was held for a request by what it cost; None leaves the worst case standing.

        Raises:
            CacheDamaged: The ledger cannot be written.
        """
        self._in_flight -= 1
        self._settled.set()
        if cost is not None:
            self.ledger.settle(held.name, cost)

    def reserve_batch(self, name: str, requests: Sequence[TeacherRequest]) -> None:
        """Set aside the most that the requests of a batch can cost together; once, however often it is called.

        Raises:
            BudgetReached: They do not fit.
            CacheDamaged: The ledger cannot be written.
        """
        self.ledger.catch_up()
        if self.ledger.holds(name) or not requests:
            return
        all_worst = [self.worst(request) for request in requests]
        worst = Amount(
            sum(each.input for each in all_worst),
            sum(each.output for each in all_worst),
            None if self.price is None else sum(each.nano or 0 for each in all_worst),
        )
        if not self._held(requests[0].model, worst, requests=len(requests), name=name):
            raise self._reached(self._counted(worst), f"the batch of {len(requests):,} requests")

    def worst(self, request: TeacherRequest) -> Amount:
        """Return the most that a request can cost."""
        return self.amount(most_input_tokens(request), request.max_output_tokens)

    def amount(self, input_tokens: int, output_tokens: int) -> Amount:
        """Return these tokens with what they cost."""
        nano = None if self.price is None else self.price.cost(input_tokens, output_tokens)
        return Amount(input_tokens, output_tokens, nano)

    def told(self, amount: int) -> str:
        """Return an amount in the unit of the cap, in words."""
        return f"${amount / 1e9:.6f}" if self._in_dollars else f"{amount:,} tokens"

    def _held(self, model: str, worst: Amount, *, requests: int = 1, name: str | None = None) -> Held | None:
        """Write down the worst case, unless it does not fit; None where it does not."""
        self.ledger.catch_up()
        if self.cap is not None and self.taken + self._counted(worst) > self.cap:
            return None
        held = Held(self.ledger.hold(self.stage, model, worst, requests=requests, name=name), worst)
        if self.cap is not None and self.taken > self.cap:  # another process's request stands before it in the ledger
            self.ledger.settle(held.name, Amount(0, 0, 0))
            return None
        return held

    def _counted(self, amount: Amount) -> int:
        return (amount.nano or 0) if self._in_dollars else amount.input + amount.output

    def _reached(self, worst: int, what: str) -> BudgetReached:
        cap, taken = self.cap or 0, self.taken
        if worst > cap:
            return BudgetReached(
                f"{what} could cost {self.told(worst)}, more than the whole budget of {self.told(cap)}",
                where="teacher.budget",
                mend="Raise the budget, or lower teacher.max_output_tokens.",
            )
        before = "" if taken == 0 else f", since {self.told(taken)} are spent or held, earlier runs among them"
        return BudgetReached(
            f"{what} could cost {self.told(worst)}, and {self.told(cap - taken)} of {self.told(cap)} are left{before}",
            where="teacher.budget",
            mend="Every answer so far is kept; raise the budget and run again to go on.",
        )


def most_input_tokens(request: TeacherRequest) -> int:
    """Return an upper bound on the prompt's tokens: a byte-level BPE makes at most one token of each UTF-8 byte.

    A JSON schema is counted as text, since endpoints put it into the prompt. Half a surrogate pair counts as three
    bytes, as the replacement character that an endpoint reads in its place has.
    """
    texts = [message["content"] for message in request.messages] + [json.dumps(request.response_format)]
    return sum(len(text.encode("utf-8", "surrogatepass")) + _TOKENS_PER_MESSAGE for text in texts)
