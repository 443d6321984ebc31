"""What is scored next: a queue of rows in, pieces of work out. It has no thread and no clock of its own.

    Row        one response that waits
    Work       rows that are scored together, now
    Planner    chooses the next piece of work

A piece of work is one row, or, where a graph may be fed with several rows at once, as many of like length as a budget
of tokens allows, but no more than a thread's share of what waits. Interactive rows go before bulk rows, and while they
come one thread is kept free for them; but bulk work is never left for longer than an age limit. Within a lane the
requests take turns, row by row, so that one of many rows does not hold up those of one.
"""

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from typing import Generic, Literal, TypeVar

from edgedistill_serve.batches import ON_CPU, Batching, token_batches
from edgedistill_serve.work import Lane

AGE = 0.25
"""Seconds after which bulk work goes before interactive work, once."""
QUIET = 1.0
"""Seconds after the last interactive row in which one thread is kept free of bulk work and bulk work comes in smaller
pieces: interactive rows come in company."""
_BULK_PART = 4
"""So small a part of the budget are these pieces."""
_MANY = 16
"""For each thread; where so many wait, one thread tokenizes for all: more to choose from makes better batches."""
_WINDOW = 8
"""For so many tokens of the budget one row is tokenized at once, to be sorted by length: about four batches."""


@dataclass(slots=True, eq=False)
class Row:
    """One response that waits.

    Attributes:
        model: What it is scored with; only rows of one model share a piece of work.
        batching: What a piece of work may hold that it shares; None: it must be scored alone.
        deadline: When it is wanted no more, on the planner's clock; None is never.
        length: Of its sequence in tokens; None while nobody has tokenized it.
        lane: Where it waits.
        state: ``waiting``, then ``taken`` or ``gone``: its deadline passed, or nobody wants it any more.
    """

    model: object
    batching: Batching | None
    deadline: float | None = None
    length: int | None = None
    lane: Lane = "interactive"
    state: Literal["waiting", "taken", "gone"] = "waiting"


RowT = TypeVar("RowT", bound=Row)


@dataclass(frozen=True, slots=True)
class Work(Generic[RowT]):
    """Rows that are scored together, now.

    Attributes:
        rows: At least one, all of one model.
        lane: Where they waited.
        measured: Whether they keep the budget. If not, they must be tokenized, and then given to `Planner.split`.
        batching: What it may hold; None where its only row goes alone.
    """

    rows: tuple[RowT, ...]
    lane: Lane
    measured: bool
    batching: Batching | None = None


@dataclass(slots=True)
class _Lane(Generic[RowT]):
    """Rows of one urgency: batches that are ready, and requests in turn."""

    batches: deque[list[RowT]] = field(default_factory=deque)
    requests: deque[deque[RowT]] = field(default_factory=deque)
    since: float = 0.0
    """When it was last given a turn, or had nothing that waits."""

    def waits(self) -> bool:
        """Throw away what waits no more, and say whether a row is left."""
        while self.batches and not (ready := [row for row in self.batches[0] if row.state == "waiting"]):
            self.batches.popleft()
        if self.batches:
            self.batches[0] = ready
            return True
        while self.requests:
            request = self.requests[0]
            while request and request[0].state != "waiting":
                request.popleft()
            if request:
                return True
            self.requests.popleft()
        return False

    def pop(self) -> RowT | None:
        """Take the row whose turn it is, and let the next request have its turn."""
        if not self.waits() or self.batches:
            return None
        request = self.requests.popleft()
        row = request.popleft()
        if request:
            self.requests.append(request)
        return row


class Planner(Generic[RowT]):
    """Chooses the next piece of work.

    Args:
        threads: How many take work: each leaves their share to the others.
        age: Seconds after which bulk work goes before interactive work, once.

    Attributes:
        waiting: How many rows wait.
    """

    def __init__(self, *, threads: int = 1, age: float = AGE) -> None:
        self.threads = threads
        self.age = age
        self.waiting = 0
        self._lanes: dict[Lane, _Lane[RowT]] = {"interactive": _Lane(), "bulk": _Lane()}
        self._deadlines: list[tuple[float, int, RowT]] = []
        self._order = count()
        self._busy: Counter[Lane] = Counter()
        self._interactive_at = -inf

    def add(self, rows: Sequence[RowT], lane: Lane, now: float) -> None:
        """Let the rows of one request wait."""
        queue = self._lanes[lane]
        if not queue.waits():
            queue.since = now
        if lane == "interactive":
            self._interactive_at = now
        for row in rows:
            row.lane = lane
            self._remind(row)
        queue.requests.append(deque(rows))
        self.waiting += len(rows)

    def hasten(self, row: RowT, now: float) -> None:
        """Let a bulk row that waits go with the interactive ones."""
        if row.state == "waiting" and row.lane == "bulk":
            self.waiting -= 1
            self.add([row], "interactive", now)

    def drop(self, row: RowT) -> None:
        """Forget a row that nobody wants any more; one that was taken stays taken."""
        if row.state == "waiting":
            row.state = "gone"
            self.waiting -= 1

    def overdue(self, now: float) -> list[RowT]:
        """Drop the rows whose deadline has passed, and return them."""
        dropped = []
        while self._deadlines and self._deadlines[0][0] < now:
            _, _, row = heapq.heappop(self._deadlines)
            if row.state != "waiting" or row.deadline is None:
                continue
            if row.deadline < now:
                self.drop(row)
                dropped.append(row)
            else:  # put off since
                self._remind(row)
        return dropped

    def take(self, now: float) -> Work[RowT] | None:
        """Take the best work there is for a thread, None where there is none now; see `again_in`.

        Rows that are `overdue` are not looked for. What is taken must be told to be `finished`.
        """
        interactive, bulk = self._lanes["interactive"], self._lanes["bulk"]
        may_bulk = bulk.waits() and not self._kept_free(now)
        bulk_first = may_bulk and (not interactive.waits() or now - bulk.since >= self.age)
        lane: Lane = "bulk" if bulk_first else "interactive"
        queue = self._lanes[lane]
        if not queue.waits():
            return None
        queue.since = now
        rows, measured = (queue.batches.popleft(), True) if queue.batches else self._next(queue)
        for row in rows:
            row.state = "taken"
        self.waiting -= len(rows)
        self._busy[lane] += 1
        batching = rows[0].batching
        if batching and lane == "bulk" and self._in_company(now):
            batching = replace(batching, budget=batching.budget // _BULK_PART)
        return Work(tuple(rows), lane, measured, batching)

    def finished(self, work: Work[RowT]) -> None:
        """Count a thread as free again."""
        self._busy[work.lane] -= 1

    def again_in(self, now: float) -> float | None:
        """Return after how many seconds bulk rows that wait now may be taken; None where none is held back."""
        held = self._lanes["bulk"].waits() and self._kept_free(now)
        return max(0.0, self._interactive_at + QUIET - now) if held else None

    def _in_company(self, now: float) -> bool:
        return now - self._interactive_at < QUIET

    def _kept_free(self, now: float) -> bool:
        """Whether the threads that are not busy with bulk work are kept for interactive rows."""
        return self.threads > 1 and self._in_company(now) and self._busy["bulk"] >= self.threads - 1

    def split(self, work: Work[RowT]) -> Work[RowT]:
        """Return that part of work that is to be done now; the rest waits again, divided by the budget.

        Args:
            work: Not measured; its rows have lengths since.
        """
        first, *others = token_batches([row.length or 0 for row in work.rows], work.batching or ON_CPU)
        for batch in reversed(others):
            rows = [work.rows[place] for place in batch]
            for row in rows:
                row.state = "waiting"
                self._remind(row)
            self._lanes[work.lane].batches.appendleft(rows)
            self.waiting += len(rows)
        return Work(tuple(work.rows[place] for place in first), work.lane, measured=True, batching=work.batching)

    def _next(self, queue: _Lane[RowT]) -> tuple[list[RowT], bool]:
        """Return one row that goes alone, or rows of one model that are yet to be measured."""
        first = queue.pop()
        if first is None or first.batching is None:
            return [first] if first else [], True
        rows: list[RowT] = [first]
        others: list[RowT] = []
        share = self.waiting if self.waiting >= _MANY * self.threads else -(-self.waiting // self.threads)
        for _ in range(min(share - 1, first.batching.budget // _WINDOW)):
            if (row := queue.pop()) is None:
                break
            (rows if row.model is first.model else others).append(row)
        if others:
            queue.requests.appendleft(deque(others))
        return rows, False

    def _remind(self, row: RowT) -> None:
        if row.deadline is not None:
            heapq.heappush(self._deadlines, (row.deadline, next(self._order), row))
