"""What a run uses and costs: token estimates, the spending log, the budget, the estimate before the first request.

Ledger      ``spending.jsonl`` in the cache's folder: append-only, shared by any number of processes and runs
├── Amount  tokens, and nano-dollars where there is a price
└── Spent   what one stage of the project has spent in all its runs: two of Sum, known and held

A request that kill -9 caught in flight has a first line and no second: its worst case counts as spent, since the
endpoint may ask money for it. The order of the lines is the same for all processes, so they agree on which request
still fitted the budget. The lines are not fsynced: a kill loses none, a power cut may lose the last seconds of them.

Usage    the figures of a run
Price    what a token costs, exactly, in nano-dollars
Budget   holds the worst case of a request before it is sent, and settles it after

Estimate    requests, tokens and dollars, from a few of the prompts themselves
"""

import asyncio
import json
import math
import os
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any, Self

from edgedistill.errors import BudgetReached, CacheDamaged
from edgedistill.project.schema import PricesSection, TeacherSection
from edgedistill.teacher.cache import TeacherRequest

SPENDING = "spending.jsonl"


@dataclass(frozen=True, slots=True)
class Amount:
    """Some tokens and what they cost.

    Attributes:
        input: Input tokens.
        output: Output tokens.
        nano: Nano-dollars (1e-9 dollars); None where no price was known.
    """

    input: int = 0
    output: int = 0
    nano: int | None = None


@dataclass(slots=True)
class Sum:
    """Requests added up.

    Attributes:
        requests: How many.
        input_tokens: Their input tokens.
        output_tokens: Their output tokens.
        nano_dollars: The cost of those that had a price.
        unpriced_input_tokens: The input tokens of those that had none.
        unpriced_output_tokens: Likewise.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_dollars: int = 0
    unpriced_input_tokens: int = 0
    unpriced_output_tokens: int = 0

    def __add__(self, other: "Sum") -> "Sum":
        """Return both added up."""
        return Sum(*(getattr(self, name) + getattr(other, name) for name in Sum.__slots__))

    def add(self, requests: int, amount: Amount, sign: int = 1) -> None:
        """Add requests, or with -1 take them away."""
        self.requests += sign * requests
        self.input_tokens += sign * amount.input
        self.output_tokens += sign * amount.output
        if amount.nano is None:
            self.unpriced_input_tokens += sign * amount.input
            self.unpriced_output_tokens += sign * amount.output
        else:
            self.nano_dollars += sign * amount.nano


@dataclass(frozen=True, slots=True)
class Spent:
    """What one stage has spent in all runs of the project.

    Attributes:
        known: What the endpoint told, failed tries among it.
        held: The worst case of requests whose cost is not known: in flight, lost connections, killed runs.
    """

    known: Sum = field(default_factory=Sum)
    held: Sum = field(default_factory=Sum)

    def __add__(self, other: "Spent") -> "Spent":
        """Return what both stages have spent."""
        return Spent(self.known + other.known, self.held + other.held)


@dataclass(frozen=True, slots=True)
class _Open:
    stage: str
    requests: int
    worst: Amount


class Ledger:
    """What one project has spent and holds.

    Args:
        folder: The cache's folder; None keeps the ledger in memory, for as long as it is used.
        project: Only lines of this project count.
    """

    def __init__(self, folder: Path | None = None, project: str = "") -> None:
        self.file = None if folder is None else folder / SPENDING
        self.unreadable = 0
        self._project = project
        self._stream: FileIO | None = None
        self._read_to = 0
        self._run, self._count = secrets.token_hex(6), 0
        self._open: dict[str, _Open] = {}
        self._stages: defaultdict[str, Spent] = defaultdict(Spent)

    def hold(self, stage: str, model: str, worst: Amount, *, requests: int = 1, name: str | None = None) -> str:
        """Write down what requests may cost at most, before they are sent; return the name to settle them by.

        Other processes' lines are read up to this one and no further.

        Args:
            stage: The stage that asks.
            model: The model asked.
            worst: The most that the requests can cost.
            requests: How many there are.
            name: A name of the caller's own, as a batch has; a name that is held already is not held twice.

        Raises:
            CacheDamaged: The file cannot be written.
        """
        self._count += 1
        name = name or f"{self._run}-{self._count}"
        line = {
            "id": name,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "project": self._project,
            "stage": stage,
            "model": model,
            "requests": requests,
            "worst": _fields(worst),
        }
        self._append(line, until=name)
        return name

    def settle(self, name: str, cost: Amount) -> None:
        """Write down what held requests cost; requests that are never settled count with their worst case.

        Raises:
            CacheDamaged: The file cannot be written.
        """
        self._append({"id": name, "cost": _fields(cost)})

    def stages(self) -> Mapping[str, Spent]:
        """Return what each stage has spent, by its name, as far as the ledger was read."""
        return self._stages

    def holds(self, name: str) -> bool:
        """Whether these requests are held and not settled."""
        return name in self._open

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _append(self, line: Mapping[str, Any], until: str | None = None) -> None:
        if self.file is None:
            self._apply(line)
            return
        data = json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
        try:
            if self._stream is None:
                self._stream = self.file.open("a+b", buffering=0)
                data = b"\n" * self._torn(self._stream) + data
                self.catch_up()
            written, end = self._stream.write(data), self._stream.tell()
        except OSError as error:
            raise self._unusable(str(error.strerror)) from error
        if written != len(data):
            raise self._unusable("the disk is full")
        if end == self._read_to + len(data):  # no other process wrote in between
            self._read_to = end
            self._apply(line)
        else:
            self.catch_up(until)

    def catch_up(self, until: str | None = None) -> None:
        """Read the complete lines that were added since the last call, up to the one that holds ``until``.

        Raises:
            CacheDamaged: The file cannot be read.
        """
        if self.file is None or (self._stream is None and not self.file.exists()):
            return
        try:
            if self._stream and os.fstat(self._stream.fileno()).st_size == self._read_to:
                return
            with nullcontext(self._stream) if self._stream else self.file.open("rb") as stream:
                stream.seek(self._read_to)
                data = stream.read()
        except OSError as error:
            raise self._unusable(str(error.strerror)) from error
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            self._read_to += len(line)
            if line.strip() and self._read(line) == until is not None:
                return

    def _read(self, line: bytes) -> str | None:
        """Apply a line of the file; return the name that it holds, if it holds one."""
        try:
            value = json.loads(line)
            self._apply(value)
            return str(value["id"]) if "worst" in value else None
        except (ValueError, TypeError, KeyError):  # torn by a full disk, or no line of ours
            self.unreadable += 1
            return None

    def _apply(self, line: Mapping[str, Any]) -> None:
        name = line["id"]
        if "worst" in line:
            if line["project"] == self._project and name not in self._open:
                opened = _Open(line["stage"], line["requests"], Amount(**line["worst"]))
                self._open[name] = opened
                self._stages[opened.stage].held.add(opened.requests, opened.worst)
        elif name in self._open:
            cost, opened = Amount(**line["cost"]), self._open.pop(name)
            self._stages[opened.stage].held.add(opened.requests, opened.worst, -1)
            self._stages[opened.stage].known.add(opened.requests, cost)

    def _torn(self, stream: FileIO) -> bool:
        end = stream.seek(0, os.SEEK_END)
        if end:
            stream.seek(end - 1)
        return end > 0 and stream.read(1) != b"\n"

    def _unusable(self, fault: str) -> CacheDamaged:
        return CacheDamaged(
            f"what is spent cannot be written down: {fault}",
            where=str(self.file),
            hint="Give the folder in teacher.cache room and write permission; every answer so far is kept.",
        )


def _fields(amount: Amount) -> dict[str, int | None]:
    return {"input": amount.input, "output": amount.output, "nano": amount.nano}


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
                hint="Raise the budget, or lower teacher.max_output_tokens.",
            )
        before = "" if taken == 0 else f", since {self.told(taken)} are spent or held, earlier runs among them"
        return BudgetReached(
            f"{what} could cost {self.told(worst)}, and {self.told(cap - taken)} of {self.told(cap)} are left{before}",
            where="teacher.budget",
            hint="Every answer so far is kept; raise the budget and run again to go on.",
        )


def most_input_tokens(request: TeacherRequest) -> int:
    """Return an upper bound on the prompt's tokens: a byte-level BPE makes at most one token of each UTF-8 byte.

    A JSON schema is counted as text, since endpoints put it into the prompt. Half a surrogate pair counts as three
    bytes, as the replacement character that an endpoint reads in its place has.
    """
    texts = [message["content"] for message in request.messages] + [json.dumps(request.response_format)]
    return sum(len(text.encode("utf-8", "surrogatepass")) + _TOKENS_PER_MESSAGE for text in texts)


SAMPLE = 20  # prompts that are rendered and counted
_BYTES_PER_TOKEN = 3.5  # English prose has about 4 bytes a token; JSON, code and other languages have fewer


@dataclass(frozen=True, slots=True)
class Estimate:
    """What some requests will take if each is answered at the first try.

    Attributes:
        requests: How many.
        input_tokens: Of all prompts, from the mean of the sampled ones.
        rule: How input tokens were estimated.
        sampled: Prompts that were counted.
        most_output_tokens: With every answer at its token limit.
        likely_output_tokens: At the mean of this stage's answers so far; None before there are any.
        input_nano_dollars: Cost of the input tokens; None where the price is unknown.
        most_nano_dollars: Cost with every answer at its token limit; None likewise.
        likely_nano_dollars: Cost at the mean of this stage's answers so far; None likewise.
    """

    requests: int
    input_tokens: int
    rule: str
    sampled: int
    most_output_tokens: int
    likely_output_tokens: int | None
    input_nano_dollars: int | None
    most_nano_dollars: int | None
    likely_nano_dollars: int | None

    def __str__(self) -> str:
        return self.told

    @property
    def told(self) -> str:
        """The estimate in one line."""
        if not self.requests:
            return "estimate: every answer is in the cache; nothing will be asked"
        likely, dollars = "", "price unknown: tokens only"
        if self.likely_output_tokens is not None:
            likely = f" (about {self.likely_output_tokens:,}, going by the answers so far)"
        if self.input_nano_dollars is not None and self.most_nano_dollars is not None:
            dollars = f"${self.input_nano_dollars / 1e9:.4f} for the input, at most ${self.most_nano_dollars / 1e9:.4f}"
            if self.likely_nano_dollars is not None:
                dollars += f", about ${self.likely_nano_dollars / 1e9:.4f}"
        return (
            f"estimate: {self.requests:,} requests, about {self.input_tokens:,} input tokens ({self.rule}, from "
            f"{self.sampled} prompts), at most {self.most_output_tokens:,} output tokens{likely}; {dollars}"
        )


def estimate(requests: Sequence[TeacherRequest], total: int, budget: Budget) -> Estimate:
    """Return what ``total`` requests will take, going by some of them.

    Args:
        requests: The sample.
        total: How many requests there are.
        budget: Knows the price, the stage, and what the stage's answers took so far.
    """
    if not requests:
        return Estimate(0, 0, "", 0, 0, None, *([None] * 3) if budget.price is None else [0, 0, None])
    counted = sum(estimated_tokens(text) for request in requests for text in _texts(request))
    input_tokens = -(-counted * total // len(requests))
    most = -(-sum(request.max_output_tokens for request in requests) * total // len(requests))
    budget.ledger.catch_up()
    so_far = budget.ledger.stages().get(budget.stage)
    likely = None
    if so_far and so_far.known.requests and so_far.known.output_tokens:
        likely = -(-so_far.known.output_tokens * total // so_far.known.requests)
    return Estimate(
        total,
        input_tokens,
        f"estimated as UTF-8 bytes / {_BYTES_PER_TOKEN}",
        len(requests),
        most,
        likely,
        budget.amount(input_tokens, 0).nano,
        budget.amount(input_tokens, most).nano,
        None if likely is None else budget.amount(input_tokens, likely).nano,
    )


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has, by its length in UTF-8; no model's own tokenizer is asked.

    The budget does not rely on this figure: it reserves one token for each byte (`spending.most_input_tokens`).
    """
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)


def sample_places(count: int) -> list[int]:
    """Return the places of the prompts to be counted among so many, evenly spread."""
    return sorted({place * count // SAMPLE for place in range(SAMPLE)}) if count else []


def _texts(request: TeacherRequest) -> list[str]:
    schema = [] if request.response_format is None else [json.dumps(request.response_format)]
    return [message["content"] for message in request.messages] + schema
