"""A bounded queue of responses in front of the threads that score them."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from edgedistill_serve.errors import DeadlinePassed, EdgeDistillError, QueueFull
from edgedistill_serve.scorer import Score, Scorer
from edgedistill_serve.work import Lane, Observer, Pending, Timing, WorkDone


class ScoringQueue:
    """Scores responses on as many threads as there are cores; each fails alone.

    Args:
        limit: How many responses may wait or be scored at a time.
        threads: How many are scored at a time.
        observe: Told of every piece of work that was done.
    """

    def __init__(self, *, limit: int, threads: int, observe: Observer = lambda _: None) -> None:
        self.limit = limit
        self._observe = observe
        self._taken = 0
        self._waiting = 0
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="scoring")

    def submit(
        self,
        scorer: Scorer,
        rows: Sequence[dict[str, str]],
        *,
        lane: Lane = "interactive",
        deadline: float | None = None,
    ) -> list[Pending]:
        """Queue the responses of one request, all or none.

        Args:
            scorer: What to score them with.
            rows: What to score, as `Scorer.readable` returns it.
            lane: How urgent they are.
            deadline: When they are wanted no more, on the clock of `time.monotonic`.

        Returns:
            A future per response, in order; it ends with `ScoringFailed` where the response could not be scored, and
            with `DeadlinePassed` where its turn did not come in time.

        Raises:
            QueueFull: There is no room for all of them.
        """
        with self._lock:
            if self._taken + len(rows) > self.limit:
                raise QueueFull(
                    f"{self._taken} responses are waiting and there is room for {self.limit}", mend="Try again later."
                )
            self._taken += len(rows)
            self._waiting += len(rows)
        futures = [Pending() for _ in rows]
        for row, future in zip(rows, futures, strict=True):
            future.add_done_callback(self._done)
            self._threads.submit(self._score, scorer, row, lane, deadline, future, time.monotonic())
        return futures

    @property
    def taken(self) -> int:
        """How many responses wait or are being scored."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many responses wait."""
        return self._waiting

    def close(self) -> None:
        """Score what is queued, then end the threads."""
        self._threads.shutdown(wait=True)

    def _score(
        self,
        scorer: Scorer,
        row: dict[str, str],
        lane: Lane,
        deadline: float | None,
        future: Pending,
        since: float,
    ) -> None:
        with self._lock:
            self._waiting -= 1
        if not future.set_running_or_notify_cancel():
            return
        started = time.monotonic()
        waited = started - since
        if deadline is not None and started > deadline:
            future.set_exception(DeadlinePassed("the time of the request was over", mend="Try again later."))
            return
        model = scorer.bundle.manifest
        try:
            score = scorer.score_one(row)
        except EdgeDistillError as error:
            self._observe(WorkDone(model.name, model.version, lane, (), 1, (waited,), 0, 0, 0.0, 0.0))
            future.set_exception(error)
            return
        taken = time.monotonic() - started
        self._observe(WorkDone(model.name, model.version, lane, (score,), 0, (waited,), 0, 0, 0.0, taken))
        future.timing = Timing(waited, 0.0, taken)
        future.set_result(score)

    def _done(self, _: Future[Score]) -> None:
        with self._lock:
            self._taken -= 1
