"""Threads that do pieces of work; one that dies is replaced, and whoever waits for its work is told."""

import logging
from collections.abc import Callable
from threading import Lock, Thread, current_thread
from typing import Generic, TypeVar

WorkItem = TypeVar("WorkItem")

_log = logging.getLogger(__name__)


class Workers(Generic[WorkItem]):
    """Threads that take work and do it until there is no more to come.

    Args:
        take: Waits for the next piece of work; None ends the thread.
        do: Does it. What it raises kills the thread.
        fail: Given the work that a dead thread had taken, and what killed it.
        threads: How many there are, always.
    """

    def __init__(
        self,
        take: Callable[[], WorkItem | None],
        do: Callable[[WorkItem], object],
        fail: Callable[[WorkItem, BaseException], object],
        *,
        threads: int,
    ) -> None:
        self._take, self._do, self._fail = take, do, fail
        self._lock = Lock()
        self._threads: list[Thread] = []
        for _ in range(threads):
            self._start()

    @property
    def alive(self) -> int:
        """How many threads take work."""
        return sum(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait until every thread has ended, their replacements too."""
        while True:
            with self._lock:
                threads = [thread for thread in self._threads if thread.is_alive()]
            if not threads:
                return
            for thread in threads:
                thread.join()

    def _start(self) -> None:
        # A daemon: a thread that hangs in the runtime must not keep the process from ending.
        thread = Thread(target=self._run, name="scoring", daemon=True)
        with self._lock:
            self._threads = [*(other for other in self._threads if other is not current_thread()), thread]
            thread.start()

    def _run(self) -> None:
        work: WorkItem | None = None
        try:
            while (work := self._take()) is not None:
                self._do(work)
                work = None  # it holds texts, and the next may be long in coming
        except BaseException as error:  # noqa: BLE001  # whatever ends a thread, its callers are answered
            _log.error("a scoring thread ended (%s) and is replaced", type(error).__name__)
            try:
                if work is not None:
                    self._fail(work, error)
            finally:
                self._start()
