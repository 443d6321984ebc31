"""Scores on their way from the threads that find them to the event loop that waits for them."""

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Generic, TypeVar

Found = TypeVar("Found")


class ResultWaiter(Generic[Found]):
    """Lets coroutines wait for what threads find; what is found together wakes the event loop once.

    `asyncio.wrap_future` wakes it for each: a write to a socket, and a turn of the loop.

    Args:
        loop: The event loop of those who wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Future[Found], asyncio.Future[None]] = {}
        self._arrived: deque[Future[Found]] = deque()
        self._waking = False

    async def wait(self, pending: Future[Found]) -> None:
        """Wait until it is found, or it is known why not; who is cancelled while waiting cancels it too.

        Args:
            pending: Nobody else waits for it here.
        """
        if not pending.done():
            self._waiting[pending] = waiter = self._loop.create_future()
            pending.add_done_callback(self._arrive)
            try:
                await waiter
            except asyncio.CancelledError:
                pending.cancel()
                raise
            finally:
                del self._waiting[pending]

    def _arrive(self, pending: Future[Found]) -> None:
        # Whoever comes after the flag was put down puts it up again, and whoever comes before is seen by `_deliver`.
        self._arrived.append(pending)
        if not self._waking and not self._loop.is_closed():
            self._waking = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._waking = False
        while self._arrived:
            waiter = self._waiting.get(self._arrived.popleft())
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
