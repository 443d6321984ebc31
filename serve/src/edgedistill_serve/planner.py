"""What is scored next: a queue of rows in, pieces of work out. It has no thread and no clock of its own.

    Row        one response that waits
    Work       rows that are scored together, now
    Planner    chooses the next piece of work

A piece of work is one row, or, where a graph may be fed with several rows at once, as many of like length as a budget
of tokens allows, but no more than a thread's share of what waits. Interactive rows go before bulk rows, but bulk work
is never left for longer than an age limit. Within a lane the requests take turns, row by row, so that one of many rows
does not hold up those of one.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Literal, TypeVar

from edgedistill_serve.work import Lane

BUDGET = 512
"""Tokens of one piece of work, padding counted. On two cores 1024 are 3 % slower, 4096 are 22 % slower."""
AGE = 0.25
"""Seconds after which bulk work goes before interactive work, once."""
_BULK_PART = 4
"""Bulk work gets so small a part of the budget: an interactive row waits until a thread is done with what it has."""
_WINDOW = 8
"""For so many tokens of the budget one row is tokenized at once, to be sorted by length: about four batches."""


@dataclass(slots=True, eq=False)
class Row:
    """One response that waits.

    Attributes:
        model: What it is scored with; only rows of one model share a piece of work.
        budget: Tokens of a piece of work that it may share, padding counted; None: it must be scored alone.
        deadline: When it is wanted no more, on the planner's clock; None is never.
        length: Of its sequence in tokens; None while nobody has tokenized it.
        lane: Where it waits.
        state: ``waiting``, then ``taken`` or ``gone``: its deadline passed, or nobody wants it any more.
    """

    model: object
    budget: int | None
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
    """

    rows: tuple[RowT, ...]
    lane: Lane
    measured: bool

    @property
    def budget(self) -> int | None:
        """Tokens of a piece of work of this lane, padding counted; None where a row goes alone."""
        whole = self.rows[0].budget
        return whole if whole is None or self.lane == "interactive" else whole // _BULK_PART


def token_batches(lengths: Sequence[int], budget: int = BUDGET) -> list[list[int]]:
    """Divide rows into batches of like length.

    Args:
        lengths: Of each row's sequence, in tokens.
        budget: The most tokens of a batch, padding counted: its rows times its longest. A longer row goes alone.

    Returns:
        Places in ``lengths``, each in one batch; the batch that holds the earliest place comes first.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and (len(batches[-1]) + 1) * lengths[place] <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return sorted(batches, key=min)


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

    def add(self, rows: Sequence[RowT], lane: Lane, now: float) -> None:
        """Let the rows of one request wait."""
        queue = self._lanes[lane]
        if not queue.waits():
            queue.since = now
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
        """Take the best work there is, None where nothing waits. Rows that are `overdue` are not looked for."""
        interactive, bulk = self._lanes["interactive"], self._lanes["bulk"]
        bulk_first = bulk.waits() and (not interactive.waits() or now - bulk.since >= self.age)
        lane: Lane = "bulk" if bulk_first else "interactive"
        queue = self._lanes[lane]
        if not queue.waits():
            return None
        queue.since = now
        rows, measured = (queue.batches.popleft(), True) if queue.batches else self._next(queue)
        for row in rows:
            row.state = "taken"
        self.waiting -= len(rows)
        return Work(tuple(rows), lane, measured)

    def split(self, work: Work[RowT]) -> Work[RowT]:
        """Return that part of work that is to be done now; the rest waits again, divided by the budget.

        Args:
            work: Not measured; its rows have lengths since.
        """
        first, *others = token_batches([row.length or 0 for row in work.rows], work.budget or 0)
        for batch in reversed(others):
            rows = [work.rows[place] for place in batch]
            for row in rows:
                row.state = "waiting"
                self._remind(row)
            self._lanes[work.lane].batches.appendleft(rows)
            self.waiting += len(rows)
        return Work(tuple(work.rows[place] for place in first), work.lane, measured=True)

    def _next(self, queue: _Lane[RowT]) -> tuple[list[RowT], bool]:
        """Return one row that goes alone, or rows of one model that are yet to be measured."""
        first = queue.pop()
        if first is None or first.budget is None:
            return [first] if first else [], True
        rows: list[RowT] = [first]
        others: list[RowT] = []
        share = -(-self.waiting // self.threads)
        for _ in range(min(share - 1, first.budget // _WINDOW)):
            if (row := queue.pop()) is None:
                break
            (rows if row.model is first.model else others).append(row)
        if others:
            queue.requests.appendleft(deque(others))
        return rows, False

    def _remind(self, row: RowT) -> None:
        if row.deadline is not None:
            heapq.heappush(self._deadlines, (row.deadline, next(self._order), row))
