"""What a run uses and costs: the spending log, the budget, and the estimate before the first request.

SpendingLog      ``spending.jsonl`` in the cache's folder: append-only, shared by any number of processes and runs
├── Amount       tokens, and nano-dollars if there is a price
└── StageSpending   what one stage has spent in all runs of the project, known and reserved
Usage            requests, tokens and cost of one run
Price            the exact price of a token in nano-dollars
Budget           reserves the maximum cost of a request before it is sent, and settles it afterwards
CostEstimate     requests, tokens and dollars, estimated from a sample of the prompts

A request in flight when the process is killed has a first line in the log and no second one: its maximum cost counts as
spent, since the endpoint may charge for it. All processes read the lines in the same order, so they agree on which
request still fitted the budget. The lines are not fsynced: a kill loses none, a power cut may lose the last seconds.
"""

import asyncio
import json
import math
import os
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any, Self

from edgedistill.errors import BudgetReached, CacheDamaged
from edgedistill.project.teacher import PricesSection, TeacherSection
from edgedistill.teacher.cache import TeacherRequest
from edgedistill.teacher.logs import is_cut_short

SPENDING = "spending.jsonl"


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens and their cost.

    Attributes:
        input: Input tokens.
        output: Output tokens.
        nano: Nano-dollars (1e-9 dollars); None without a price.
    """

    input: int = 0
    output: int = 0
    nano: int | None = None


@dataclass(slots=True)
class SpendingTotal:
    """The total of some requests.

    Attributes:
        requests: Number of requests.
        input_tokens: Their input tokens.
        output_tokens: Their output tokens.
        nano_dollars: The cost of the requests with a price.
        unpriced_input_tokens: The input tokens of the requests without a price.
        unpriced_output_tokens: Likewise.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_dollars: int = 0
    unpriced_input_tokens: int = 0
    unpriced_output_tokens: int = 0

    def __add__(self, other: "SpendingTotal") -> "SpendingTotal":
        """Return the sum of both."""
        return SpendingTotal(*(getattr(self, name) + getattr(other, name) for name in SpendingTotal.__slots__))

    def add(self, requests: int, amount: Amount, sign: int = 1) -> None:
        """Add requests, or subtract them with ``sign=-1``."""
        self.requests += sign * requests
        self.input_tokens += sign * amount.input
        self.output_tokens += sign * amount.output
        if amount.nano is None:
            self.unpriced_input_tokens += sign * amount.input
            self.unpriced_output_tokens += sign * amount.output
        else:
            self.nano_dollars += sign * amount.nano


@dataclass(frozen=True, slots=True)
class StageSpending:
    """What one stage has spent in all runs of the project.

    Attributes:
        known: What the endpoint reported, including failed tries.
        held: The maximum cost of requests whose cost is not known: in flight, lost connections, killed runs.
    """

    known: SpendingTotal = field(default_factory=SpendingTotal)
    held: SpendingTotal = field(default_factory=SpendingTotal)

    def __add__(self, other: "StageSpending") -> "StageSpending":
        """Return the spending of both stages."""
        return StageSpending(self.known + other.known, self.held + other.held)


@dataclass(frozen=True, slots=True)
class _OpenReservation:
    stage: str
    requests: int
    max_cost: Amount


class SpendingLog:
    """What one project has spent and reserved.

    Args:
        folder: The cache's folder; None keeps the log in memory.
        project: Only lines of this project count.
    """

    def __init__(self, folder: Path | None = None, project: str = "") -> None:
        self.file = None if folder is None else folder / SPENDING
        self.unreadable = 0
        self._project = project
        self._stream: FileIO | None = None
        self._read_to = self._lines = 0
        self._run, self._count = secrets.token_hex(6), 0
        self._open: dict[str, _OpenReservation] = {}
        self._stages: defaultdict[str, StageSpending] = defaultdict(StageSpending)

    def reserve(self, stage: str, model: str, max_cost: Amount, *, requests: int = 1, name: str | None = None) -> str:
        """Log the maximum cost of requests before they are sent; return the name to settle them with.

        Other processes' lines are read up to this one and no further.

        Args:
            stage: The stage that sends them.
            model: The requested model.
            max_cost: The maximum cost of all of them.
            requests: Number of requests.
            name: The caller's own name, such as a batch's; a name that is reserved already is not reserved twice.

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
            "worst": _as_json(max_cost),
        }
        self._append(line, until=name)
        return name

    def settle(self, name: str, cost: Amount) -> None:
        """Log the cost of reserved requests; requests that are never settled count with their maximum cost.

        Raises:
            CacheDamaged: The file cannot be written.
        """
        self._append({"id": name, "cost": _as_json(cost)})

    def stages(self) -> Mapping[str, StageSpending]:
        """Return the spending of each stage, by its name, as far as the log has been read."""
        return self._stages

    def has_reservation(self, name: str) -> bool:
        """Whether there is an unsettled reservation with this name."""
        return name in self._open

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            with suppress(OSError):  # nothing is buffered, and the error that ends the run is the one to report
                stream.close()

    def _append(self, line: Mapping[str, Any], until: str | None = None) -> None:
        if self.file is None:
            self._apply(line)
            return
        data = json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
        try:
            if self._stream is None:
                self._check_not_emptied()
                self._stream = self.file.open("a+b", buffering=0)
                data = b"\n" * _has_incomplete_line(self._stream) + data
                self.catch_up()
            written, end = self._stream.write(data), self._stream.tell()
        except OSError as error:
            raise self._write_error(str(error.strerror)) from error
        if written != len(data):
            raise self._write_error("the disk is full")
        if end == self._read_to + len(data):  # no other process wrote in between
            self._read_to = end
            self._lines += data.count(b"\n")
            self._apply(line)
        else:
            self.catch_up(until)

    def catch_up(self, until: str | None = None) -> None:
        """Read the complete lines added since the last call, up to the reservation named ``until``.

        Raises:
            CacheDamaged: The file cannot be read.
        """
        if self.file is None or (self._stream is None and not self.file.exists()):
            return
        if self._stream is None:
            self._check_not_emptied()
        try:
            if self._stream and os.fstat(self._stream.fileno()).st_size == self._read_to:
                return
            with nullcontext(self._stream) if self._stream else self.file.open("rb") as stream:
                stream.seek(self._read_to)
                data = stream.read()
        except OSError as error:
            raise self._write_error(str(error.strerror)) from error
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            self._read_to += len(line)
            self._lines += 1
            if line.strip() and self._read(line) == until is not None:
                return

    def _check_not_emptied(self) -> None:
        """Refuse a log without a line: it gets its first line when it is created, up to a moment between the two."""
        for wait in (0.0, 0.2, 0.5):
            time.sleep(wait)
            if self.file is None or not self.file.exists() or self.file.stat().st_size > 0:
                return
        raise CacheDamaged(
            "the spending log is empty, so that it is unknown what the project has spent",
            where=str(self.file),
            hint="Restore the file from a backup, or remove it; the budget then starts from nothing.",
        )

    def _read(self, line: bytes) -> str | None:
        """Apply a line of the file; return the name that it reserves, if it is a reservation."""
        try:
            value = json.loads(line)
            self._apply(value)
            return str(value["id"]) if "worst" in value else None
        except (ValueError, TypeError, KeyError) as error:
            self.unreadable += 1
            if is_cut_short(line):
                return None
            raise CacheDamaged(
                f"line {self._lines} of the spending log cannot be read: what the project has spent is unknown",
                where=str(self.file),
                hint="Restore the file from a backup, or remove the line; the budget then counts the other lines.",
            ) from error

    def _apply(self, line: Mapping[str, Any]) -> None:
        name = line["id"]
        if "worst" in line:
            if line["project"] == self._project and name not in self._open:
                opened = _OpenReservation(line["stage"], line["requests"], Amount(**line["worst"]))
                self._open[name] = opened
                self._stages[opened.stage].held.add(opened.requests, opened.max_cost)
        elif (cost := Amount(**line["cost"])) and name in self._open:
            opened = self._open.pop(name)
            self._stages[opened.stage].held.add(opened.requests, opened.max_cost, -1)
            self._stages[opened.stage].known.add(opened.requests, cost)

    def _write_error(self, fault: str) -> CacheDamaged:
        return CacheDamaged(
            f"the spending log cannot be written: {fault}",
            where=str(self.file),
            hint="Check free space and write permission of the folder in teacher.cache; all answers so far are saved.",
        )


def _has_incomplete_line(stream: FileIO) -> bool:
    end = stream.seek(0, os.SEEK_END)
    if end:
        stream.seek(end - 1)
    return end > 0 and stream.read(1) != b"\n"


def _as_json(amount: Amount) -> dict[str, int | None]:
    return {"input": amount.input, "output": amount.output, "nano": amount.nano}


_TOKENS_PER_MESSAGE = 16  # a chat template's tokens around one message; the largest known ones need about 10


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests, tokens and cost of one run.

    Attributes:
        asked: Requests sent, including retries.
        cached: Votes that came from the cache.
        input_tokens: As counted by the endpoint, including failed answers.
        output_tokens: Likewise.
        nano_dollars: Their cost, 1e-9 dollars; None without prices.
        unmetered: Requests that may have a cost that the endpoint did not report: lost connections, timeouts, answers
            without usage. No other figure includes them, but the budget reserves their maximum cost.
        retries: Failed tries that were repeated, by cause.
    """

    asked: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_dollars: int | None = None
    unmetered: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum of both; the cost is None if either has none."""
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
    def from_section(cls, section: PricesSection) -> Self:
        """Return the price in the project file; one dollar per million tokens is 1,000 nano-dollars per token."""
        return cls(
            Fraction(str(section.input_usd_per_million)) * 1000, Fraction(str(section.output_usd_per_million)) * 1000
        )

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """Return the cost in nano-dollars, rounded up."""
        first, second = self.input, self.output  # integers are ten times as fast as fractions
        total = first.numerator * second.denominator * input_tokens
        total += second.numerator * first.denominator * output_tokens
        return -(-total // (first.denominator * second.denominator))


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is reserved for one request.

    Attributes:
        name: Its name in the spending log.
        max_cost: The maximum cost of the request.
    """

    name: str
    max_cost: Amount


class Budget:
    """A hard cap on what a project spends in all its runs, in nano-dollars or tokens.

    Args:
        cap: Nano-dollars if there is a price, else tokens; None for no cap.
        price: The price of tokens; None for a cap in tokens.
        spending_log: Earlier spending, and where spending is logged; None starts an empty log in memory.
        stage: The stage that spends.
        capped_in_tokens: Whether the cap is in tokens although there is a price.
    """

    def __init__(
        self,
        cap: int | None,
        price: Price | None,
        spending_log: SpendingLog | None = None,
        stage: str = "",
        *,
        capped_in_tokens: bool = False,
    ) -> None:
        self.cap, self.price, self.spending_log, self.stage = cap, price, spending_log or SpendingLog(), stage
        self._in_dollars = price is not None and not capped_in_tokens
        self._in_flight = 0
        self._settled = asyncio.Event()
        self._settled.set()

    @classmethod
    def from_section(cls, section: TeacherSection, spending_log: SpendingLog | None = None, stage: str = "") -> Self:
        """Return the budget in the project file."""
        price = Price.from_section(section.prices) if section.prices else None
        if section.budget is None:
            return cls(None, price, spending_log, stage)
        if section.budget.usd is None:
            return cls(section.budget.tokens, price, spending_log, stage, capped_in_tokens=True)
        return cls(int(Fraction(str(section.budget.usd)) * 10**9), price, spending_log, stage)

    @property
    def used(self) -> int:
        """What is spent or reserved so far, in the unit of the cap."""
        total = 0
        for spent in self.spending_log.stages().values():
            for part in (spent.known, spent.held):
                if self._in_dollars and self.price:
                    unpriced = self.price.cost(part.unpriced_input_tokens, part.unpriced_output_tokens)
                    total += part.nano_dollars + unpriced
                else:
                    total += part.input_tokens + part.output_tokens
        return total

    async def reserve(self, request: TeacherRequest) -> Reservation:
        """Reserve the maximum cost of the request; wait if requests in flight may free enough.

        Raises:
            BudgetReached: It does not fit, and no request of this process is in flight.
            CacheDamaged: The spending log cannot be written.
        """
        max_cost = self.max_cost(request)
        while not (reservation := self._try_reserve(request.model, max_cost)):
            if not self._in_flight:
                raise self._reached(self._counted(max_cost), "the next request")
            if self._settled.is_set():  # a new event: the budget may outlive the event loop
                self._settled = asyncio.Event()
            await self._settled.wait()
        self._in_flight += 1
        return reservation

    def settle(self, reservation: Reservation, cost: Amount | None) -> None:
        """Replace a reservation by the cost of the request; None keeps the maximum cost.

        Raises:
            CacheDamaged: The spending log cannot be written.
        """
        self._in_flight -= 1
        self._settled.set()
        if cost is not None:
            self.spending_log.settle(reservation.name, cost)

    def reserve_batch(self, name: str, requests: Sequence[TeacherRequest]) -> None:
        """Reserve the maximum cost of a batch; calling it again with the same name changes nothing.

        Raises:
            BudgetReached: The batch does not fit.
            CacheDamaged: The spending log cannot be written.
        """
        self.spending_log.catch_up()
        if self.spending_log.has_reservation(name) or not requests:
            return
        costs = [self.max_cost(request) for request in requests]
        max_cost = Amount(
            sum(each.input for each in costs),
            sum(each.output for each in costs),
            None if self.price is None else sum(each.nano or 0 for each in costs),
        )
        if not self._try_reserve(requests[0].model, max_cost, requests=len(requests), name=name):
            raise self._reached(self._counted(max_cost), f"the batch of {len(requests):,} requests")

    def max_cost(self, request: TeacherRequest) -> Amount:
        """Return the maximum cost of a request."""
        return self.amount(max_input_tokens(request), request.max_output_tokens)

    def amount(self, input_tokens: int, output_tokens: int) -> Amount:
        """Return these tokens with their cost."""
        nano = None if self.price is None else self.price.cost(input_tokens, output_tokens)
        return Amount(input_tokens, output_tokens, nano)

    def format_amount(self, amount: int) -> str:
        """Format an amount in the unit of the cap."""
        return f"${amount / 1e9:.6f}" if self._in_dollars else f"{amount:,} tokens"

    def _try_reserve(
        self, model: str, max_cost: Amount, *, requests: int = 1, name: str | None = None
    ) -> Reservation | None:
        """Log a reservation and return it, or return None if it does not fit."""
        self.spending_log.catch_up()
        if self.cap is not None and self.used + self._counted(max_cost) > self.cap:
            return None
        reservation = Reservation(
            self.spending_log.reserve(self.stage, model, max_cost, requests=requests, name=name), max_cost
        )
        if self.cap is not None and self.used > self.cap:  # another process's request comes first in the log
            self.spending_log.settle(reservation.name, Amount(0, 0, 0))
            return None
        return reservation

    def _counted(self, amount: Amount) -> int:
        return (amount.nano or 0) if self._in_dollars else amount.input + amount.output

    def _reached(self, cost: int, what: str) -> BudgetReached:
        cap, used = self.cap or 0, self.used
        most, whole = self.format_amount(cost), self.format_amount(cap)
        if cost > cap:
            return BudgetReached(
                f"{what} could cost {most}, more than the whole budget of {whole}",
                where="teacher.budget",
                hint="Raise the budget, or lower teacher.max_output_tokens.",
            )
        before = f"; {self.format_amount(used)} are spent or reserved, including earlier runs" if used else ""
        return BudgetReached(
            f"{what} could cost {most}, but only {self.format_amount(cap - used)} of {whole} are left{before}",
            where="teacher.budget",
            hint="All answers so far are saved; raise the budget and run the command again to continue.",
        )


def max_input_tokens(request: TeacherRequest) -> int:
    """Return an upper bound on the prompt's tokens: a byte-level BPE makes at most one token of each UTF-8 byte.

    A JSON schema counts as text, since endpoints add it to the prompt. A lone surrogate counts as three bytes, like the
    replacement character that the endpoint reads instead.
    """
    texts = [message["content"] for message in request.messages] + [json.dumps(request.response_format)]
    return sum(len(text.encode("utf-8", "surrogatepass")) + _TOKENS_PER_MESSAGE for text in texts)


SAMPLE_SIZE = 20  # prompts that are rendered and counted
_BYTES_PER_TOKEN = 3.5  # English prose has about 4 bytes a token; JSON, code and other languages have fewer


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What requests will use and cost if each is answered at the first try.

    Attributes:
        requests: Number of requests.
        input_tokens: Tokens of all prompts, from the mean of the sampled ones.
        rule: How input tokens were estimated.
        sampled: Number of sampled prompts.
        most_output_tokens: If every answer reaches its token limit.
        likely_output_tokens: At the mean of this stage's answers so far; None before there are any.
        input_nano_dollars: Cost of the input tokens; None without a price.
        most_nano_dollars: Cost if every answer reaches its token limit; None likewise.
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
        return self.summary

    @property
    def summary(self) -> str:
        """The estimate in one line."""
        if not self.requests:
            return "estimate: all answers are in the cache; no requests will be sent"
        likely, dollars = "", "no prices set: tokens only"
        if self.likely_output_tokens is not None:
            likely = f" (about {self.likely_output_tokens:,} at the mean of the answers so far)"
        if self.input_nano_dollars is not None and self.most_nano_dollars is not None:
            dollars = f"${self.input_nano_dollars / 1e9:.4f} for the input"
            dollars += f", at most ${self.most_nano_dollars / 1e9:.4f} in total"
            if self.likely_nano_dollars is not None:
                dollars += f", about ${self.likely_nano_dollars / 1e9:.4f}"
        return (
            f"estimate: {self.requests:,} requests, about {self.input_tokens:,} input tokens ({self.rule}, from "
            f"{self.sampled} prompts), at most {self.most_output_tokens:,} output tokens{likely}; {dollars}"
        )


def estimate_requests(requests: Sequence[TeacherRequest], total: int, budget: Budget) -> CostEstimate:
    """Estimate usage and cost of ``total`` requests from a sample of them.

    Args:
        requests: The sample.
        total: Number of requests.
        budget: Gives the price, the stage, and the usage of the stage's answers so far.
    """
    if not requests:
        return CostEstimate(0, 0, "", 0, 0, None, *([None] * 3) if budget.price is None else [0, 0, None])
    counted = sum(estimate_tokens(text) for request in requests for text in _texts(request))
    input_tokens = -(-counted * total // len(requests))
    most = -(-sum(request.max_output_tokens for request in requests) * total // len(requests))
    budget.spending_log.catch_up()
    so_far = budget.spending_log.stages().get(budget.stage)
    likely = None
    if so_far and so_far.known.requests and so_far.known.output_tokens:
        likely = -(-so_far.known.output_tokens * total // so_far.known.requests)
    return CostEstimate(
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


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text from its length in UTF-8, without the model's tokenizer.

    The budget does not rely on this figure: it reserves one token for each byte, see `max_input_tokens`.
    """
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)


def sample_indices(count: int) -> list[int]:
    """Return the evenly spaced indices of the sampled prompts among ``count``."""
    return sorted({index * count // SAMPLE_SIZE for index in range(SAMPLE_SIZE)}) if count else []


def _texts(request: TeacherRequest) -> list[str]:
    schema = [] if request.response_format is None else [json.dumps(request.response_format)]
    return [message["content"] for message in request.messages] + schema
