"""Planning of the scoring work: rows in, work items out. The planner has no threads and no clock of its own.

A work item is one row or, for models whose rows can share batches, several rows of one padded length within the token
budget, but not more than one thread's share of the waiting rows. To form such batches, rows are tokenized in advance
and wait in buckets by their length; the bucket that has waited longest is next.

Interactive rows have priority over bulk rows, and while interactive rows arrive, one thread is reserved for them. Bulk
work never waits longer than an age limit. Within a lane, requests take turns row by row, so that a request with many
rows does not delay requests with one.
"""

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Generic

from edgedistill_serve.server.queue.work_item import Lane, RowT, WorkItem

AGE_LIMIT = 0.25
"""Seconds after which one bulk work item goes before interactive work."""
QUIET_SECONDS = 1.0
"""For this time after the last interactive row, one thread is reserved for interactive rows, and bulk work items are
smaller: interactive rows often follow each other."""
_BULK_FRACTION = 4
"""These bulk work items have this fraction of the usual batch size."""
_MANY_ROWS = 16
"""If this many rows per thread wait, one thread tokenizes for all threads."""
_TOKENIZE_ROWS = 64
"""Largest number of rows that are tokenized in one work item."""
_MAX_TOKENIZED: dict[Lane, int] = {"interactive": 128, "bulk": 1024}
"""Largest number of tokenized rows that wait. More rows give larger batches, but delay the rows of later requests."""


@dataclass(slots=True)
class _LaneQueue(Generic[RowT]):
    """The rows of one lane: requests in turn, and buckets of tokenized rows."""

    requests: deque[deque[RowT]] = field(default_factory=deque)
    buckets: dict[tuple[object, int], deque[RowT]] = field(default_factory=dict)
    """Tokenized rows by model and padded length; the first bucket is next."""
    tokenized: int = 0
    since: float = 0.0
    """Time of its last turn, or of the first row after it was empty."""
    bucket_is_next: bool = False
    """Whether the last turn was a row that is scored alone; the next turn is then a bucket's."""

    def has_waiting(self) -> bool:
        """Return whether a row waits."""
        return self.first_of_bucket() is not None or self._request_is_waiting()

    def first_of_bucket(self) -> RowT | None:
        """Remove rows that no longer wait, and return the first row of the next bucket."""
        while self.buckets:
            key, rows = next(iter(self.buckets.items()))
            while rows and rows[0].state != "waiting":
                rows.popleft()
                self.tokenized -= 1
            if rows:
                return rows[0]
            del self.buckets[key]
        return None

    def add_to_bucket(self, row: RowT, length: int) -> None:
        """Add a tokenized row to the bucket of its model and padded length."""
        self.buckets.setdefault((row.model, length), deque()).append(row)
        self.tokenized += 1

    def pop_from_bucket(self, max_rows: int) -> list[RowT]:
        """Remove rows from the next bucket and return them; the rest of the bucket moves to the end."""
        key = next(iter(self.buckets))
        rows = self.buckets.pop(key)
        popped = [rows.popleft() for _ in range(min(max_rows, len(rows)))]
        self.tokenized -= len(popped)
        if rows:
            self.buckets[key] = rows
        return [row for row in popped if row.state == "waiting"]

    def pop(self) -> RowT | None:
        """Remove and return the next row of the next request, which moves to the end."""
        if not self._request_is_waiting():
            return None
        request = self.requests.popleft()
        row = request.popleft()
        if request:
            self.requests.append(request)
        return row

    def _request_is_waiting(self) -> bool:
        while self.requests:
            request = self.requests[0]
            while request and request[0].state != "waiting":
                request.popleft()
            if request:
                return True
            self.requests.popleft()
        return False


class Planner(Generic[RowT]):
    """Chooses the next work item.

    Args:
        threads: Number of threads that take work items; each leaves the other threads their share.
        age_limit: Seconds after which one bulk work item goes before interactive work.

    Attributes:
        waiting: Number of waiting rows.
    """

    def __init__(self, *, threads: int = 1, age_limit: float = AGE_LIMIT) -> None:
        self.threads = threads
        self.age_limit = age_limit
        self.waiting = 0
        self._lanes: dict[Lane, _LaneQueue[RowT]] = {"interactive": _LaneQueue(), "bulk": _LaneQueue()}
        self._deadlines: list[tuple[float, int, RowT]] = []
        self._order = count()
        self._busy: Counter[Lane] = Counter()
        self._last_interactive = -inf

    def add(self, rows: Sequence[RowT], lane: Lane, now: float) -> None:
        """Add the rows of one request."""
        queue = self._lanes[lane]
        if not queue.has_waiting():
            queue.since = now
        if lane == "interactive":
            self._last_interactive = now
        for row in rows:
            row.lane = lane
            self._push_deadline(row)
        queue.requests.append(deque(rows))
        self.waiting += len(rows)

    def promote(self, row: RowT, now: float) -> None:
        """Move a waiting bulk row to the interactive lane."""
        if row.state == "waiting" and row.lane == "bulk":
            self.waiting -= 1
            self.add([row], "interactive", now)

    def drop(self, row: RowT) -> None:
        """Remove a waiting row; a row that was taken is not changed."""
        if row.state == "waiting":
            row.state = "dropped"
            self.waiting -= 1

    def set_deadline(self, row: RowT, deadline: float | None) -> None:
        """Change the deadline of a row."""
        row.deadline = deadline
        self._push_deadline(row)

    def overdue(self, now: float) -> list[RowT]:
        """Return the waiting rows whose deadline has passed. The caller must drop each or set a new deadline."""
        rows: dict[RowT, None] = {}
        while self._deadlines:
            deadline, _, row = self._deadlines[0]
            if row.state == "waiting" and deadline >= now:
                break
            heapq.heappop(self._deadlines)  # a row that was scored must not stay in memory until its deadline
            if row.state == "waiting" and row.deadline == deadline:  # otherwise it was taken, or its deadline changed
                rows[row] = None
        return list(rows)

    def take(self, now: float) -> WorkItem[RowT] | None:
        """Return the next work item for a thread, or None; see `retry_after`.

        Overdue rows are not removed here. The caller must report each work item to `finish`.
        """
        interactive, bulk = self._lanes["interactive"], self._lanes["bulk"]
        may_take_bulk = bulk.has_waiting() and not self._is_reserved(now)
        bulk_first = may_take_bulk and (not interactive.has_waiting() or now - bulk.since >= self.age_limit)
        lane: Lane = "bulk" if bulk_first else "interactive"
        queue = self._lanes[lane]
        if not queue.has_waiting():
            return None
        queue.since = now
        work = self._take_from_requests(queue, lane) or self._take_from_bucket(queue, lane, now)
        self._busy[lane] += 1
        return work

    def requeue_by_length(self, work: WorkItem[RowT], now: float) -> WorkItem[RowT]:
        """Move rows that were tokenized into buckets, and return the work item to score instead.

        Args:
            work: A work item that is not measured; its rows now have lengths.
            now: The current time.
        """
        queue = self._lanes[work.lane]
        for row in work.rows:
            row.state = "waiting"
            self._push_deadline(row)
            queue.add_to_bucket(row, row.batching.padded_length(row.length or 0) if row.batching else 0)
        self.waiting += len(work.rows)
        return self._take_from_bucket(queue, work.lane, now)

    def finish(self, work: WorkItem[RowT]) -> None:
        """Mark the thread of a work item as free."""
        self._busy[work.lane] -= 1

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until bulk rows may use the reserved thread; None if no bulk row waits for it."""
        is_blocked = self._lanes["bulk"].has_waiting() and self._is_reserved(now)
        return max(0.0, self._last_interactive + QUIET_SECONDS - now) if is_blocked else None

    def _is_interactive_period(self, now: float) -> bool:
        return now - self._last_interactive < QUIET_SECONDS

    def _is_reserved(self, now: float) -> bool:
        """Return whether the last thread without bulk work is reserved for interactive rows."""
        return self.threads > 1 and self._is_interactive_period(now) and self._busy["bulk"] >= self.threads - 1

    def _take_from_requests(self, queue: _LaneQueue[RowT], lane: Lane) -> WorkItem[RowT] | None:
        """Take one row that is scored alone, or rows of one model for tokenization; None if a bucket is next."""
        if queue.first_of_bucket() and (queue.bucket_is_next or queue.tokenized >= _MAX_TOKENIZED[lane]):
            return None
        if (first := queue.pop()) is None:
            return None
        rows: list[RowT] = [first]
        other_models: list[RowT] = []
        is_crowded = self.waiting >= _MANY_ROWS * self.threads
        share = self.waiting if is_crowded else -(-self.waiting // self.threads)
        for _ in range(min(share, _TOKENIZE_ROWS) - 1 if first.batching else 0):
            if (row := queue.pop()) is None:
                break
            (rows if row.model is first.model else other_models).append(row)
        for row in reversed(other_models):  # their requests keep their turn
            queue.requests.appendleft(deque([row]))
        queue.bucket_is_next = first.batching is None
        return self._mark_taken(rows, lane, measured=first.batching is None)

    def _take_from_bucket(self, queue: _LaneQueue[RowT], lane: Lane, now: float) -> WorkItem[RowT]:
        """Take a batch from the next bucket."""
        first = queue.first_of_bucket()
        assert first is not None  # noqa: S101  # the lane has waiting rows, and none in a request
        max_rows = first.batching.max_rows(first.length or 0) if first.batching else 1
        fraction = _BULK_FRACTION if lane == "bulk" and self._is_interactive_period(now) else 1
        queue.bucket_is_next = False
        limit = min(-(-max_rows // fraction), -(-self.waiting // self.threads))
        return self._mark_taken(queue.pop_from_bucket(limit), lane, measured=True)

    def _mark_taken(self, rows: Sequence[RowT], lane: Lane, *, measured: bool) -> WorkItem[RowT]:
        for row in rows:
            row.state = "taken"
        self.waiting -= len(rows)
        return WorkItem(tuple(rows), lane, measured)

    def _push_deadline(self, row: RowT) -> None:
        if row.deadline is not None:
            heapq.heappush(self._deadlines, (row.deadline, next(self._order), row))
