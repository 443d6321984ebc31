"""Results of threads reach the coroutines that wait for them."""

import asyncio
from concurrent.futures import Future
from threading import Thread

import pytest

from edgedistill_serve.server.service import FutureWaiter


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts how often a thread woke it."""

    def __init__(self):
        super().__init__()
        self.woken = 0

    def call_soon_threadsafe(self, *arguments, **named):
        """Count."""
        self.woken += 1
        return super().call_soon_threadsafe(*arguments, **named)


@pytest.fixture
def loop():
    loop = CountingLoop()
    yield loop
    loop.close()


def in_a_thread(step):
    thread = Thread(target=step)
    thread.start()
    thread.join()


def test_every_coroutine_gets_its_own_result(loop):
    async def main():
        arrivals = FutureWaiter(loop)
        pending = [Future() for _ in range(50)]
        waits = [asyncio.ensure_future(arrivals.wait(each)) for each in pending]
        await asyncio.sleep(0)
        for number, each in enumerate(pending):
            in_a_thread(lambda number=number, each=each: each.set_result(number))
            await waits[number]
        return [each.result() for each in pending]

    assert loop.run_until_complete(main()) == list(range(50))


def test_futures_that_complete_together_wake_the_loop_once(loop):
    async def main():
        arrivals = FutureWaiter(loop)
        pending = [Future() for _ in range(50)]
        waits = [asyncio.ensure_future(arrivals.wait(each)) for each in pending]
        await asyncio.sleep(0)
        in_a_thread(lambda: [each.set_result(0) for each in pending])
        await asyncio.gather(*waits)

    loop.run_until_complete(main())
    assert loop.woken == 1


def test_a_completed_future_is_not_waited_for(loop):
    pending = Future()
    pending.set_result("found")
    loop.run_until_complete(FutureWaiter(loop).wait(pending))
    assert loop.woken == 0


def test_cancelling_the_coroutine_cancels_the_future(loop):
    async def main():
        pending = Future()
        waiting = asyncio.ensure_future(FutureWaiter(loop).wait(pending))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0.01)
        return pending.cancelled(), waiting.cancelled()

    assert loop.run_until_complete(main()) == (True, True)


def test_a_future_that_completes_after_the_loop_disturbs_no_thread(loop, caplog):
    pending = Future()

    async def main():
        asyncio.ensure_future(FutureWaiter(loop).wait(pending))  # noqa: RUF006  # it must outlive nobody
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    waiting = asyncio.all_tasks(loop)
    loop.close()
    pending.set_result(1)
    assert not caplog.records
    for task in waiting:
        task._log_destroy_pending = False  # left behind on purpose
