"""A bounded queue of responses in front of the threads that score them."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from edgedistill_serve.errors import QueueFull
from edgedistill_serve.scorer import Score


class ScoringQueue:
    """Scores responses one by one on as many threads as there are cores; each fails alone.

    Args:
        limit: How many responses may wait or be scored at a time.
        threads: How many are scored at a time.
    """

    def __init__(self, *, limit: int, threads: int) -> None:
        self.limit = limit
        self._taken = 0
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="scoring")

    def submit(self, score: Callable[[dict[str, str]], Score], rows: Sequence[dict[str, str]]) -> list[Future[Score]]:
        """Queue the responses of one request, all or none.

        Args:
            score: Scores one response in the calling thread.
            rows: What to score.

        Returns:
            A future per response, in order.

        Raises:
            QueueFull: There is no room for all of them.
        """
        with self._lock:
            if self._taken + len(rows) > self.limit:
                raise QueueFull(
                    f"{self._taken} responses are waiting and there is room for {self.limit}", mend="Try again later."
                )
            self._taken += len(rows)
        futures = [self._threads.submit(score, row) for row in rows]
        for future in futures:
            future.add_done_callback(self._done)
        return futures

    @property
    def taken(self) -> int:
        """How many responses wait or are being scored."""
        return self._taken

    def close(self) -> None:
        """Score what is queued, then end the threads."""
        self._threads.shutdown(wait=True)

    def _done(self, _: Future[Score]) -> None:
        with self._lock:
            self._taken -= 1
