"""A bounded queue of responses, and the threads that score them."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from math import inf
from sys import maxsize
from threading import Condition, Lock, Thread, current_thread, get_ident
from typing import Generic, TypeAlias, TypeVar, cast

from edgedistill_serve.errors import DeadlinePassed, EdgeDistillError, NotReady, QueueFull, ScoringFailed
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.score_cache import copy_score
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.queue.planner import Planner
from edgedistill_serve.server.queue.work_item import (
    Caller,
    CompletedWork,
    Lane,
    Observer,
    PendingScore,
    QueuedRow,
    Timing,
    WorkItem,
)

_RowKey: TypeAlias = tuple[Scorer, bytes]
_Work = TypeVar("_Work")

_LONGEST_DELAY = 1.0

_log = logging.getLogger(__name__)


class ScoringQueue:
    """Scores responses on several threads. Equal responses are scored once, and each response fails on its own.

    Args:
        limit: Largest number of responses that wait or are scored at a time.
        threads: Number of scoring threads.
        observe: Called after every work item.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        limit: int,
        threads: int,
        observe: Observer = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._observe = observe
        self._clock = clock
        self._pending = 0
        self._closing = False
        self._planner: Planner[QueuedRow] = Planner(threads=threads)
        self._rows: dict[_RowKey, QueuedRow] = {}
        self._changed = Condition()
        self._workers = Workers(self._next, self._process, self._fail, threads=threads)

    def submit(
        self,
        scorer: Scorer,
        responses: Sequence[dict[str, str]],
        *,
        lane: Lane = "interactive",
        deadline: float | None = None,
    ) -> list[PendingScore]:
        """Add the responses of one request to the queue: all of them, or none.

        A text that is waiting or being scored already is not scored twice: its callers share the row, each until its
        own deadline, and the row is dropped when no caller is left. A score in the cache is returned at once.

        Args:
            scorer: Scores the responses.
            responses: As `Scorer.read_inputs` returns them.
            lane: Their lane.
            deadline: Latest start of scoring, on the queue's clock; None for no limit.

        Returns:
            A future for each response, in order. It fails with `ScoringFailed` if the response cannot be scored, and
            with `DeadlinePassed` if its turn does not come in time.

        Raises:
            QueueFull: The queue has no room for all of them.
            NotReady: The queue is closed.
        """
        now = self._clock()
        keys = [scorer.cache_key(inputs) for inputs in responses]
        cached = [scorer.score_cache.get(key) for key in keys]
        pending = [PendingScore() for _ in responses]
        missing = [index for index, score in enumerate(cached) if score is None]
        with self._changed:
            self._reserve(len(missing))
            new, promoted = [], 0
            for index in missing:
                row = self._rows.get((scorer, keys[index]))
                if row is None:
                    row = QueuedRow(
                        scorer,
                        scorer.batching,
                        deadline,
                        scorer=scorer,
                        inputs=responses[index],
                        key=keys[index],
                        since=now,
                    )
                    self._rows[scorer, keys[index]] = row
                    new.append(row)
                else:
                    promoted += self._join(row, lane, deadline, now)
                row.callers[pending[index]] = Caller(now, deadline)
                pending[index].add_done_callback(partial(self._on_done, row))
            self._planner.add(new, lane, now)
            self._changed.notify(len(new) + promoted)
        hits = [(pending[index], score) for index, score in enumerate(cached) if score is not None]
        self._answer_from_cache(scorer, lane, hits)
        return pending

    @property
    def pending(self) -> int:
        """Number of responses that wait or are being scored."""
        return self._pending

    @property
    def waiting(self) -> int:
        """Number of responses that wait; equal ones count once."""
        return self._planner.waiting

    @property
    def threads(self) -> int:
        """Number of live scoring threads."""
        return self._workers.alive

    @property
    def fault(self) -> str | None:
        """The reason why threads are missing or end again and again; None if all of them work."""
        return self._workers.fault

    def close(self, seconds: float | None = None) -> bool:
        """Score what is queued, then end the threads.

        Args:
            seconds: Time limit; None for no limit.

        Returns:
            Whether all threads have ended.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        return self._workers.join(seconds)

    def _reserve(self, count: int) -> None:
        if self._closing:
            raise NotReady("the server is draining", hint="Try again later.")
        if self._pending + count > self.limit:
            raise QueueFull(
                f"{self._pending} responses are waiting, the limit is {self.limit}", hint="Try again later."
            )
        self._pending += count

    def _join(self, row: QueuedRow, lane: Lane, deadline: float | None, now: float) -> bool:
        """Update a row for one more caller, and return whether it moved to the interactive lane."""
        if deadline is not None and (row.deadline is None or deadline < row.deadline):
            self._planner.set_deadline(row, deadline)
        if lane == "bulk" or row.lane == "interactive":
            return False
        self._planner.promote(row, now)
        return True

    def _answer_from_cache(self, scorer: Scorer, lane: Lane, hits: Sequence[tuple[PendingScore, Score]]) -> None:
        if hits:
            scores = [score for _, score in hits]
            self._report(CompletedWork.from_cache(scorer.bundle.manifest, lane, scores))
        for pending, score in hits:
            pending.timing = Timing(0.0, 0.0, 0.0, cached=True)
            pending.set_result(score)

    def _on_done(self, row: QueuedRow, future: Future[Score]) -> None:
        """Release the place of a caller; if it has cancelled and was the last one, drop the row."""
        with self._changed:
            self._pending -= 1
            if future.cancelled():
                row.callers.pop(cast("PendingScore", future), None)
                self._drop_if_unused(row)
        if future.cancelled():
            future.set_running_or_notify_cancel()  # wakes `concurrent.futures.wait`

    def _drop_if_unused(self, row: QueuedRow) -> None:
        if row.state == "waiting" and not row.callers:
            self._planner.drop(row)
            self._remove(row)

    def _remove(self, row: QueuedRow) -> None:
        key = row.scorer, row.key
        if self._rows.get(key) is row:
            del self._rows[key]

    def _next(self) -> WorkItem[QueuedRow] | None:
        """Wait for a work item; overdue callers are answered in the meantime."""
        while True:
            with self._changed:
                overdue = self._remove_overdue(self._clock())
                work = None if overdue else self._planner.take(self._clock())
                if work is not None:
                    self._mark_taken(work)
                if work is None and not overdue:
                    if self._closing:
                        return None
                    self._changed.wait(self._planner.retry_after(self._clock()))
            _refuse(overdue)
            if work is not None:
                return work

    def _remove_overdue(self, now: float) -> list[PendingScore]:
        """Remove callers whose deadline has passed; their row stays in the queue for its other callers."""
        overdue: list[PendingScore] = []
        for row in self._planner.overdue(now):
            expired = [each for each, caller in row.callers.items() if (caller.deadline or inf) < now]
            for pending in expired:
                del row.callers[pending]
            overdue += expired
            self._planner.set_deadline(row, row.earliest_deadline())
            self._drop_if_unused(row)
        return overdue

    def _mark_taken(self, work: WorkItem[QueuedRow]) -> None:
        for row in work.rows:
            row.thread, row.taken = get_ident(), self._clock()

    def _process(self, work: WorkItem[QueuedRow]) -> None:
        try:
            self._score(work)
        finally:
            with self._changed:
                self._planner.finish(work)

    def _score(self, work: WorkItem[QueuedRow]) -> None:
        if not work.measured:
            work = self._tokenize(work)
        rows, scorer = work.rows, work.rows[0].scorer
        encoded = [row.encoded for row in rows if row.encoded is not None]
        inputs = [row.inputs for row in rows]
        batch = scorer.score_batch(inputs, encoded if len(encoded) == len(rows) else None)
        tokenize_seconds = batch.tokenize_seconds + sum(row.tokenize_seconds for row in rows)
        self._report(CompletedWork.from_result(work, batch, tokenize_seconds))
        shared = []
        for row, result in zip(rows, batch.results, strict=True):
            if isinstance(result, Score):
                scorer.score_cache.put(row.key, result)
            callers = self._answer(row, result, tokenize_seconds, batch.model_seconds)
            if isinstance(result, Score):
                shared += (callers - 1) * [result]
        if shared:
            self._report(CompletedWork.from_cache(scorer.bundle.manifest, work.lane, shared))

    def _tokenize(self, work: WorkItem[QueuedRow]) -> WorkItem[QueuedRow]:
        """Tokenize rows, requeue them by their length, and return the next batch."""
        scorer, rows = work.rows[0].scorer, work.rows
        started = time.perf_counter()
        try:
            encoded: list[Encoded] | None = scorer.encode([row.inputs for row in rows])
        except Exception:  # noqa: BLE001  # one row cannot be encoded: all are scored alone, and only that one fails
            encoded = None
        share = (time.perf_counter() - started) / len(rows)
        with self._changed:
            for index, row in enumerate(rows):
                row.encoded = encoded[index] if encoded else None
                # Rows that cannot be encoded get a length that shares no batch.
                row.length = len(encoded[index].ids) if encoded else maxsize
                row.tokenize_seconds = share
                row.thread = None
            batch = self._planner.requeue_by_length(work, self._clock())
            for row in rows:
                self._drop_if_unused(row)
            self._mark_taken(batch)
            self._changed.notify(self._planner.waiting)
        return batch

    def _fail(self, _: WorkItem[QueuedRow], error: BaseException) -> None:
        """Answer the callers of the rows that this thread took and did not finish."""
        failure = ScoringFailed(f"the thread that scored this response ended ({type(error).__name__})")
        with self._changed:
            unfinished = [row for row in self._rows.values() if row.thread == get_ident()]
        for row in unfinished:
            self._answer(row, failure)

    def _answer(
        self,
        row: QueuedRow,
        result: Score | EdgeDistillError,
        tokenize_seconds: float = 0.0,
        model_seconds: float = 0.0,
    ) -> int:
        """Answer the callers of a row, and return their number."""
        with self._changed:
            row.thread = None
            self._remove(row)
            callers, row.callers = row.callers, {}  # breaks the reference cycle between the row and its futures
        for pending, caller in callers.items():
            with suppress(InvalidStateError):  # the caller has cancelled
                if isinstance(result, Score):
                    pending.timing = Timing(max(0.0, row.taken - caller.since), tokenize_seconds, model_seconds)
                    pending.set_result(copy_score(result))
                else:
                    pending.set_exception(result.unraised_copy())
        return len(callers)

    def _report(self, work: CompletedWork) -> None:
        try:
            self._observe(work)
        except Exception as error:  # noqa: BLE001  # an observer must not stop the scoring
            _log.error("a work item was not counted (%s)", type(error).__name__, extra={"event": "bug"})


# A function, so that no variable of the waiting thread refers to the last future and its row.
def _refuse(overdue: Sequence[PendingScore]) -> None:
    for pending in overdue:
        with suppress(InvalidStateError):  # the caller has cancelled
            pending.set_exception(DeadlinePassed("the time limit of the request has passed", hint="Try again later."))


class Workers(Generic[_Work]):
    """Threads that process work items until there are no more. A thread that dies is replaced.

    If threads die one after the other without completing a work item, replacements start later and later, at most
    `_LONGEST_DELAY` seconds after a death, so that a permanent fault does not take all processor time.

    Args:
        take: Waits for the next work item and returns it; None ends the thread.
        process: Processes a work item. An exception ends the thread.
        fail: Called with the work item of a dead thread and the exception that ended it.
        threads: Number of threads.
    """

    def __init__(
        self,
        take: Callable[[], _Work | None],
        process: Callable[[_Work], object],
        fail: Callable[[_Work, BaseException], object],
        *,
        threads: int,
    ) -> None:
        self._take, self._process, self._fail = take, process, fail
        self._lock = Lock()
        self._threads: list[Thread] = []
        self._number = threads
        self._deaths = 0
        self._last_death = ""
        for _ in range(threads):
            self._start()

    @property
    def alive(self) -> int:
        """Number of live threads."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def fault(self) -> str | None:
        """The reason why threads are missing or die again and again; None if all of them work."""
        missing = self._number - self.alive
        if not (missing or self._deaths):
            return None
        return f"{missing} of {self._number} threads are missing; the last one ended with {self._last_death}"

    def join(self, seconds: float | None = None) -> bool:
        """Wait until all threads, including replacements, have ended, and return whether they have."""
        until = inf if seconds is None else time.monotonic() + seconds
        while True:
            with self._lock:
                threads = [thread for thread in self._threads if thread.is_alive()]
            if not threads:
                return True
            if time.monotonic() >= until:
                return False
            for thread in threads:
                thread.join(None if seconds is None else max(0.0, until - time.monotonic()))

    def _start(self) -> None:
        # A daemon thread, because a thread that hangs in onnxruntime must not block the end of the process.
        thread = Thread(target=self._run, name="scoring", daemon=True)
        with self._lock:
            self._threads = [*(other for other in self._threads if other is not current_thread()), thread]
            thread.start()

    def _run(self) -> None:
        work: _Work | None = None
        try:
            while (work := self._take()) is not None:
                self._process(work)
                work = None  # it refers to texts, and the next one may not come soon
                self._deaths = 0
        except BaseException as error:  # noqa: BLE001  # the callers must be answered, whatever ended the thread
            self._last_death = type(error).__name__
            self._deaths += 1
            extra = {"event": "scoring_thread_ended", "fields": {"error": self._last_death}}
            _log.error("a scoring thread ended (%s) and is replaced", self._last_death, extra=extra)
            try:
                if work is not None:
                    self._fail(work, error)
            except BaseException as another:  # noqa: BLE001  # the thread must be replaced
                kind = type(another).__name__
                _log.error("the callers of a scoring thread were not answered (%s)", kind, extra={"event": "bug"})
        else:
            return
        work = None
        self._replace()

    def _replace(self) -> None:
        """Start a thread in place of the current one, which dies."""
        if self._deaths > 1:
            time.sleep(min(_LONGEST_DELAY, 0.001 * 2 ** min(self._deaths, 20)))
        while True:
            try:
                self._start()
            except RuntimeError:  # the system has no threads left
                extra = {"event": "scoring_thread_missing"}
                _log.error("a scoring thread cannot be started; this is tried again", extra=extra)
                time.sleep(_LONGEST_DELAY)
            else:
                return
