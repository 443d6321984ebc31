"""What a run asked, used and cost, and the cap that it cannot pass.

Usage    the figures of a run
Price    what a token costs, exactly, in nano-dollars
Budget   reserves the worst case of a request before it is sent, and settles it after
"""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Self

from edgedistill.errors import BudgetReached
from edgedistill.project.sections import PricesSection, TeacherSection
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
        return math.ceil(self.input * input_tokens + self.output * output_tokens)


class Budget:
    """A hard cap in nano-dollars or tokens; without a cap, everything passes.

    It holds for every call of `label_responses` that is given the same budget.

    Args:
        cap: Nano-dollars where there is a price, else tokens; None for no cap.
        price: What tokens cost; None for a cap in tokens.
    """

    def __init__(self, cap: int | None, price: Price | None) -> None:
        self.cap, self._price = cap, price
        self.spent = 0
        self._reserved = 0
        self._settled = asyncio.Event()
        self._settled.set()

    @classmethod
    def of(cls, section: TeacherSection) -> Self:
        """Return a fresh budget as the project file states it."""
        if section.budget is None:
            return cls(None, None)
        if section.budget.usd is None or section.prices is None:
            return cls(section.budget.tokens, None)
        return cls(int(Fraction(str(section.budget.usd)) * 10**9), Price.of(section.prices))

    async def reserve(self, request: TeacherRequest) -> int:
        """Set aside the most that the request can cost and return it; wait where requests in flight may free enough.

        Raises:
            BudgetReached: It does not fit, and nothing is in flight.
        """
        worst = self.amount(most_input_tokens(request), request.max_output_tokens)
        while self.cap is not None and self.spent + self._reserved + worst > self.cap:
            if not self._reserved:
                raise BudgetReached(
                    f"the next request could cost {self._told(worst)}, and {self._told(self.cap - self.spent)} of "
                    f"{self._told(self.cap)} are left",
                    where="teacher.budget",
                    mend="Every answer so far is kept; raise the budget and run again to go on.",
                )
            if self._settled.is_set():  # a new event, since the budget may outlive an event loop
                self._settled = asyncio.Event()
            await self._settled.wait()
        self._reserved += worst
        return worst

    def settle(self, reserved: int, spent: int) -> None:
        """Replace what was reserved for a request by what it cost."""
        self._reserved -= reserved
        self.spent += spent
        self._settled.set()

    def amount(self, input_tokens: int, output_tokens: int) -> int:
        """Return these tokens in the unit of the cap."""
        return self._price.cost(input_tokens, output_tokens) if self._price else input_tokens + output_tokens

    def _told(self, amount: int) -> str:
        return f"${amount / 1e9:.6f}" if self._price else f"{amount:,} tokens"


def most_input_tokens(request: TeacherRequest) -> int:
    """Return a bound on the prompt's tokens: no tokenizer makes more tokens of a text than it has UTF-8 bytes.

    A JSON schema is counted as text, since endpoints put it into the prompt.
    """
    texts = [message["content"] for message in request.messages] + [json.dumps(request.response_format)]
    return sum(len(text.encode("utf-8", "replace")) + _TOKENS_PER_MESSAGE for text in texts)
