"""What is scored next: a queue of rows in, pieces of work out. It has no thread and no clock of its own.

    WaitingRow        one response that waits
    WorkItem       rows that are scored together, now
    Planner    chooses the next piece of work

A piece of work is one row, or, where a graph may be fed with several rows at once, as many of like length as a budget
of tokens allows, but no more than a thread's share of what waits. For this, rows are tokenized before their turn, and
wait on shelves by their length; the shelf that waits for longest is next. Interactive rows go before bulk rows, and
while they come one thread is kept free for them; but bulk work is never left for longer than an age limit. Within a
lane the requests take turns, row by row, so that one of many rows does not hold up those of one.
"""

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Generic, Literal, TypeVar

from edgedistill_serve.scoring.batching import Batching
from edgedistill_serve.server.queue.work_item import Lane

AGE = 0.25
"""Seconds after which bulk work goes before interactive work, once."""
QUIET = 1.0
"""Seconds after the last interactive row in which one thread is kept free of bulk work and bulk work comes in smaller
pieces: interactive rows come in company."""
_BULK_PART = 4
"""So small a part of what the budget allows are these pieces."""
_MANY = 16
"""For each thread; where so many wait, one thread tokenizes for all."""
_AT_ONCE = 64
"""Rows that are tokenized at once."""
_SHELVED: dict[Lane, int] = {"interactive": 128, "bulk": 1024}
"""Rows that wait tokenized: more to choose from makes larger batches, and later ones for the next request."""


@dataclass(slots=True, eq=False)
class WaitingRow:
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


RowT = TypeVar("RowT", bound=WaitingRow)


@dataclass(frozen=True, slots=True)
class WorkItem(Generic[RowT]):
    """Rows that are scored together, now.

    Attributes:
        rows: At least one, all of one model.
        lane: Where they queue_seconds.
        measured: Whether they keep the budget. If not, they must be tokenized, and then given to `Planner.shelve`.
    """

    rows: tuple[RowT, ...]
    lane: Lane
    measured: bool


@dataclass(slots=True)
class _Lane(Generic[RowT]):
    """Rows of one urgency: requests in turn, and shelves of rows that were tokenized."""

    requests: deque[deque[RowT]] = field(default_factory=deque)
    shelves: dict[tuple[object, int], deque[RowT]] = field(default_factory=dict)
    """By model and length; the first is the next."""
    shelved: int = 0
    since: float = 0.0
    """When it was last given a turn, or had nothing that waits."""
    shelf_next: bool = False
    """Whether a row that goes alone had the last turn: then a shelf has the next."""

    def waits(self) -> bool:
        """Say whether a row waits."""
        return self.shelf() is not None or self._request_waits()

    def shelf(self) -> RowT | None:
        """Throw away what waits no more, and return the first row of the next shelf."""
        while self.shelves:
            key, rows = next(iter(self.shelves.items()))
            while rows and rows[0].state != "waiting":
                rows.popleft()
                self.shelved -= 1
            if rows:
                return rows[0]
            del self.shelves[key]
        return None

    def put(self, row: RowT, shelf: int) -> None:
        """Put a row on a shelf."""
        self.shelves.setdefault((row.model, shelf), deque()).append(row)
        self.shelved += 1

    def pop_shelf(self, most: int) -> list[RowT]:
        """Take rows from the next shelf; what is left on it has its turn after the others."""
        key = next(iter(self.shelves))
        rows = self.shelves.pop(key)
        taken = [rows.popleft() for _ in range(min(most, len(rows)))]
        self.shelved -= len(taken)
        if rows:
            self.shelves[key] = rows
        return [row for row in taken if row.state == "waiting"]

    def pop(self) -> RowT | None:
        """Take the row whose turn it is, and let the next request have its turn."""
        if not self._request_waits():
            return None
        request = self.requests.popleft()
        row = request.popleft()
        if request:
            self.requests.append(request)
        return row

    def _request_waits(self) -> bool:
        while self.requests:
            request = self.requests[0]
            while request and request[0].state != "waiting":
                request.popleft()
            if request:
                return True
            self.requests.popleft()
        return False


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

    def due_by(self, row: RowT, deadline: float | None) -> None:
        """Give a row another deadline."""
        row.deadline = deadline
        self._remind(row)

    def overdue(self, now: float) -> list[RowT]:
        """Return the rows whose deadline has passed. They wait on: each is to be dropped, or given another deadline."""
        found: dict[RowT, None] = {}
        while self._deadlines:
            due, _, row = self._deadlines[0]
            if row.state == "waiting" and due >= now:
                break
            heapq.heappop(self._deadlines)  # one that was scored since must not be kept until its deadline
            if row.state == "waiting" and row.deadline == due:  # else it was taken, or has another deadline since
                found[row] = None
        return list(found)

    def take(self, now: float) -> WorkItem[RowT] | None:
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
        work = self._from_requests(queue, lane) or self._from_shelf(queue, lane, now)
        self._busy[lane] += 1
        return work

    def shelve(self, work: WorkItem[RowT], now: float) -> WorkItem[RowT]:
        """Let rows that have lengths since wait by them; return what is to be done now in their place.

        Args:
            work: Not measured.
            now: The time.
        """
        queue = self._lanes[work.lane]
        for row in work.rows:
            row.state = "waiting"
            self._remind(row)
            queue.put(row, row.batching.padded_length(row.length or 0) if row.batching else 0)
        self.waiting += len(work.rows)
        return self._from_shelf(queue, work.lane, now)

    def finished(self, work: WorkItem[RowT]) -> None:
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

    def _from_requests(self, queue: _Lane[RowT], lane: Lane) -> WorkItem[RowT] | None:
        """Take one row that goes alone, or rows of one model that are yet to be measured; None: a shelf is next."""
        if queue.shelf() and (queue.shelf_next or queue.shelved >= _SHELVED[lane]):
            return None
        if (first := queue.pop()) is None:
            return None
        rows: list[RowT] = [first]
        others: list[RowT] = []
        share = self.waiting if self.waiting >= _MANY * self.threads else -(-self.waiting // self.threads)
        for _ in range(min(share, _AT_ONCE) - 1 if first.batching else 0):
            if (row := queue.pop()) is None:
                break
            (rows if row.model is first.model else others).append(row)
        for row in reversed(others):  # each of another request, whose turn it still is
            queue.requests.appendleft(deque([row]))
        queue.shelf_next = first.batching is None
        return self._taken(rows, lane, measured=first.batching is None)

    def _from_shelf(self, queue: _Lane[RowT], lane: Lane, now: float) -> WorkItem[RowT]:
        """Take the next shelf's rows, as many as share a run."""
        first = queue.shelf()
        assert first is not None  # noqa: S101  # the lane was seen to wait, and not in a request
        room = first.batching.max_rows(first.length or 0) if first.batching else 1
        part = _BULK_PART if lane == "bulk" and self._in_company(now) else 1
        queue.shelf_next = False
        most = min(-(-room // part), -(-self.waiting // self.threads))
        return self._taken(queue.pop_shelf(most), lane, measured=True)

    def _taken(self, rows: Sequence[RowT], lane: Lane, *, measured: bool) -> WorkItem[RowT]:
        for row in rows:
            row.state = "taken"
        self.waiting -= len(rows)
        return WorkItem(tuple(rows), lane, measured)

    def _remind(self, row: RowT) -> None:
        if row.deadline is not None:
            heapq.heappush(self._deadlines, (row.deadline, next(self._order), row))
