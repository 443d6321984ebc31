"""A bounded queue of responses in front of the threads that score them."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from math import inf
from sys import maxsize
from threading import Condition, get_ident
from typing import TypeAlias, cast

from edgedistill_serve.errors import DeadlinePassed, EdgeDistillError, NotReady, QueueFull, ScoringFailed
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.score_cache import copy_score
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.queue.planner import Planner, WorkItem
from edgedistill_serve.server.queue.queued_row import Caller, QueuedRow, completed_work
from edgedistill_serve.server.queue.work_item import CompletedWork, Lane, Observer, Pending, Timing, cached_work
from edgedistill_serve.server.queue.workers import Workers

_Key: TypeAlias = tuple[Scorer, bytes]

_log = logging.getLogger(__name__)


class ScoringQueue:
    """Scores responses on as many threads as there are cores; each fails alone, equal ones are scored once.

    Args:
        limit: How many responses may wait or be scored at a time.
        threads: How many pieces of work are done at a time.
        observe: Told of every piece of work that was done.
        clock: Seconds that only grow.
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
        self._taken = 0
        self._closing = False
        self._planner: Planner[QueuedRow] = Planner(threads=threads)
        self._asked: dict[_Key, QueuedRow] = {}
        self._changed = Condition()
        self._workers = Workers(self._next, self._do, self._fail, threads=threads)

    def submit(
        self,
        scorer: Scorer,
        rows: Sequence[dict[str, str]],
        *,
        lane: Lane = "interactive",
        deadline: float | None = None,
    ) -> list[Pending]:
        """Queue the responses of one request, all or none.

        A text that waits or is being scored already is not scored again: whoever asks for it now waits with the others,
        each until its own deadline, and it is dropped when nobody waits any more. One that was scored lately is
        answered at once.

        Args:
            scorer: What to score them with.
            rows: What to score, as `Scorer.read_inputs` returns it.
            lane: How urgent they are.
            deadline: When they are wanted no more, on the queue's clock.

        Returns:
            A future per response, in order; it ends with `ScoringFailed` where the response could not be scored, and
            with `DeadlinePassed` where its turn did not come in time.

        Raises:
            QueueFull: There is no room for all of them.
            NotReady: The queue is closed.
        """
        now = self._clock()
        keys = [scorer.cache_key(row) for row in rows]
        known = [scorer.score_cache.get(key) for key in keys]
        pending = [Pending() for _ in rows]
        asking = [place for place, score in enumerate(known) if score is None]
        with self._changed:
            self._check_room(len(asking))
            new, hastened = [], 0
            for place in asking:
                asked = self._asked.get((scorer, keys[place]))
                if asked is None:
                    asked = QueuedRow(
                        scorer, scorer.batching, deadline, scorer=scorer, inputs=rows[place], key=keys[place], since=now
                    )
                    self._asked[scorer, keys[place]] = asked
                    new.append(asked)
                else:
                    hastened += self._join(asked, lane, deadline, now)
                asked.callers[pending[place]] = Caller(now, deadline)
                pending[place].add_done_callback(partial(self._done, asked))
            self._planner.add(new, lane, now)
            self._changed.notify(len(new) + hastened)
        self._recall(scorer, lane, [(pending[place], score) for place, score in enumerate(known) if score is not None])
        return pending

    @property
    def taken(self) -> int:
        """How many responses wait or are being scored."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many responses wait, equal ones counted once."""
        return self._planner.waiting

    @property
    def threads(self) -> int:
        """How many threads score, or are ready to."""
        return self._workers.alive

    def close(self) -> None:
        """Score what is queued, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._workers.join()

    def _check_room(self, wanted: int) -> None:
        if self._closing:
            raise NotReady("the server is draining", hint="Try again later.")
        if self._taken + wanted > self.limit:
            raise QueueFull(
                f"{self._taken} responses are waiting and there is room for {self.limit}", hint="Try again later."
            )
        self._taken += wanted

    def _join(self, asked: QueuedRow, lane: Lane, deadline: float | None, now: float) -> bool:
        """Let one more wait for a row that was asked for already; say whether it is more urgent now."""
        if deadline is not None and (asked.deadline is None or deadline < asked.deadline):
            self._planner.due_by(asked, deadline)
        if lane == "bulk" or asked.lane == "interactive":
            return False
        self._planner.hasten(asked, now)
        return True

    def _recall(self, scorer: Scorer, lane: Lane, known: Sequence[tuple[Pending, Score]]) -> None:
        if known:
            self._tell(cached_work(scorer.bundle.manifest, lane, [score for _, score in known]))
        for pending, score in known:
            pending.timing = Timing(0.0, 0.0, 0.0, cached=True)
            pending.set_result(score)

    def _done(self, asked: QueuedRow, pending: Future[Score]) -> None:
        """Make room; where the last who queue_seconds has cancelled, forget the row."""
        with self._changed:
            self._taken -= 1
            if pending.cancelled():
                asked.callers.pop(cast("Pending", pending), None)
                self._leave(asked)
        if pending.cancelled():
            pending.set_running_or_notify_cancel()  # wakes who waits for it with `concurrent.futures.wait`

    def _leave(self, asked: QueuedRow) -> None:
        """Forget a row that waits and that nobody waits for."""
        if asked.state == "waiting" and not asked.callers:
            self._planner.drop(asked)
            self._forget(asked)

    def _forget(self, asked: QueuedRow) -> None:
        key = asked.scorer, asked.key
        if self._asked.get(key) is asked:
            del self._asked[key]

    def _next(self) -> WorkItem[QueuedRow] | None:
        """Wait for work, and answer those whose time is over meanwhile."""
        while True:
            with self._changed:
                late = self._late(self._clock())
                work = None if late else self._planner.take(self._clock())
                if work is not None:
                    self._take(work)
                if work is None and not late:
                    if self._closing:
                        return None
                    self._changed.wait(self._planner.again_in(self._clock()))
            _refuse(late)
            if work is not None:
                return work

    def _late(self, now: float) -> list[Pending]:
        """Take out those who wait no longer; a row that others wait for waits on."""
        late: list[Pending] = []
        for asked in self._planner.overdue(now):
            over = [each for each, caller in asked.callers.items() if (caller.deadline or inf) < now]
            for pending in over:
                del asked.callers[pending]
            late += over
            self._planner.due_by(asked, asked.earliest())
            self._leave(asked)
        return late

    def _take(self, work: WorkItem[QueuedRow]) -> None:
        for asked in work.rows:
            asked.thread, asked.taken = get_ident(), self._clock()

    def _do(self, work: WorkItem[QueuedRow]) -> None:
        try:
            self._score(work)
        finally:
            with self._changed:
                self._planner.finished(work)

    def _score(self, work: WorkItem[QueuedRow]) -> None:
        if not work.measured:
            work = self._measure(work)
        rows, scorer = work.rows, work.rows[0].scorer
        encoded = [asked.encoded for asked in rows if asked.encoded is not None]
        together = [asked.inputs for asked in rows]
        scored = scorer.score_batch(together, encoded if len(encoded) == len(rows) else None)
        tokenize_seconds = scored.tokenize_seconds + sum(asked.tokenize_seconds for asked in rows)
        self._tell(completed_work(work, scored, tokenize_seconds))
        shared = []
        for asked, result in zip(rows, scored.results, strict=True):
            if isinstance(result, Score):
                scorer.score_cache.put(asked.key, result)
            callers = self._answer(asked, result, tokenize_seconds, scored.model_seconds)
            if isinstance(result, Score):
                shared += (callers - 1) * [result]
        if shared:
            self._tell(cached_work(scorer.bundle.manifest, work.lane, shared))

    def _measure(self, work: WorkItem[QueuedRow]) -> WorkItem[QueuedRow]:
        """Tokenize rows, and let them wait by their length; return the batch whose turn it is."""
        scorer, rows = work.rows[0].scorer, work.rows
        started = time.perf_counter()
        try:
            encoded: list[Encoded] | None = scorer.encode([asked.inputs for asked in rows])
        except Exception:  # noqa: BLE001  # one of them cannot be read: each goes alone, and that one fails alone
            encoded = None
        share = (time.perf_counter() - started) / len(rows)
        with self._changed:
            for place, asked in enumerate(rows):
                asked.encoded = encoded[place] if encoded else None
                # What cannot be read is taken for too long to share a batch.
                asked.length = len(encoded[place].ids) if encoded else maxsize
                asked.tokenize_seconds = share
                asked.thread = None
            batch = self._planner.shelve(work, self._clock())
            for asked in rows:
                self._leave(asked)
            self._take(batch)
            self._changed.notify(self._planner.waiting)
        return batch

    def _fail(self, _: WorkItem[QueuedRow], error: BaseException) -> None:
        """Answer those who wait for what this thread began and did not finish."""
        failed = ScoringFailed(f"the thread that scored this response ended ({type(error).__name__})")
        with self._changed:
            begun = [asked for asked in self._asked.values() if asked.thread == get_ident()]
        for asked in begun:
            self._answer(asked, failed)

    def _answer(
        self,
        asked: QueuedRow,
        result: Score | EdgeDistillError,
        tokenize_seconds: float = 0.0,
        model_seconds: float = 0.0,
    ) -> int:
        """Answer those who wait for a row, and return how many they were."""
        with self._changed:
            asked.thread = None
            self._forget(asked)
            callers, asked.callers = asked.callers, {}  # they know the row, and would keep each other alive
        for pending, caller in callers.items():
            with suppress(InvalidStateError):  # cancelled meanwhile
                if isinstance(result, Score):
                    pending.timing = Timing(max(0.0, asked.taken - caller.since), tokenize_seconds, model_seconds)
                    pending.set_result(copy_score(result))
                else:
                    pending.set_exception(result.unraised_copy())
        return len(callers)

    def _tell(self, done: CompletedWork) -> None:
        try:
            self._observe(done)
        except Exception as error:  # noqa: BLE001  # who counts must not stop who scores
            _log.error("a piece of work was not counted (%s)", type(error).__name__)


def _refuse(late: Sequence[Pending]) -> None:
    """Tell those who queue_seconds for too long."""
    for pending in late:
        with suppress(InvalidStateError):  # cancelled meanwhile
            pending.set_exception(DeadlinePassed("the time of the request was over", hint="Try again later."))
