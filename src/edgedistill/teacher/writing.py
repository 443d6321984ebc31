"""Writes answers to the cache on a thread of its own, as many in one transaction as wait for it.

With one fsync for each answer, a run goes at the disk's pace. While one transaction is synced to disk, the next answers
gather; each counts only when its own transaction is on disk.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgedistill.errors import CacheDamaged
from edgedistill.teacher.cache import AnswerCache
from edgedistill.teacher.failures import FailureLog
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.request import TeacherRequest

_TOGETHER = 200  # answers in one transaction
Kept: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    request: TeacherRequest
    answer: Kept
    done: asyncio.Future[Kept]


class Writer:
    """The thread that writes.

    After a write has failed, as on a full disk, every later one fails at once with the same error: none of them counts
    as kept.

    Args:
        cache: Takes the answers.
        failures: Takes the failures.
    """

    def __init__(self, cache: AnswerCache, failures: FailureLog) -> None:
        self._cache, self._failures = cache, failures
        self._disk = ThreadPoolExecutor(1, "answers")
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Answer] = deque()
        self._broken: CacheDamaged | None = None

    async def keep(self, request: TeacherRequest, answer: Kept) -> Kept:
        """Write an answer; return the one that counts, on disk: another process may have been first.

        It is written even where the caller is cancelled meanwhile, since it has been paid for; `close` waits for it.

        Raises:
            CacheDamaged: It could not be written.
        """
        done: asyncio.Future[Kept] = self._loop.create_future()
        self._waiting.append(_Answer(request, answer, done))
        self._disk.submit(self._write_waiting)
        return await done

    async def replace(self, request: TeacherRequest, answer: Kept) -> None:
        """Write an answer over one that cannot be used.

        Raises:
            CacheDamaged: It could not be written.
        """
        await self._do(lambda: self._cache.put(request, answer, replace=True))

    async def set_aside(self, failure: Failure) -> None:
        """Write down a failure.

        Raises:
            CacheDamaged: It could not be written.
        """
        await self._do(lambda: self._failures.add(failure))

    def close(self) -> None:
        """Finish the writes under way."""
        self._disk.submit(self._cache.close)
        self._disk.shutdown()

    async def _do(self, work: Callable[[], object]) -> None:
        await asyncio.shield(asyncio.wrap_future(self._disk.submit(work)))

    def _write_waiting(self) -> None:
        together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
        if not together:
            return
        try:
            if self._broken:
                raise self._broken
            kept = self._cache.put_all([(each.request, each.answer) for each in together])
        except CacheDamaged as error:
            self._broken = error
            self._loop.call_soon_threadsafe(_fail, together, error)
        else:
            self._loop.call_soon_threadsafe(_tell, together, kept)


def _tell(written: Sequence[_Answer], kept: Sequence[Kept]) -> None:
    for each, answer in zip(written, kept, strict=True):
        if not each.done.done():
            each.done.set_result(answer)


def _fail(unwritten: Sequence[_Answer], error: CacheDamaged) -> None:
    for each in unwritten:
        if not each.done.done():
            each.done.set_exception(error)
