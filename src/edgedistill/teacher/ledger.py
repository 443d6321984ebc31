"""What a project has spent, on disk: each request is written down before it is sent, and again once its cost is known.

Ledger      ``spending.jsonl`` in the cache's folder: append-only, shared by any number of processes and runs
├── Amount  tokens, and nano-dollars where there is a price
└── Spent   what one stage of the project has spent in all its runs: two of Sum, known and held

A request that kill -9 caught in flight has a first line and no second: its worst case counts as spent, since the
endpoint may ask money for it. The order of the lines is the same for all processes, so they agree on which request
still fitted the budget. The lines are not fsynced: a kill loses none, a power cut may lose the last seconds of them.
"""

import json
import os
import secrets
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from edgedistill.errors import CacheDamaged

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
            mend="Give the folder in teacher.cache room and write permission; every answer so far is kept.",
        )


def _fields(amount: Amount) -> dict[str, int | None]:
    return {"input": amount.input, "output": amount.output, "nano": amount.nano}
