"""Questions to the teacher, of whatever kind: found in the cache, or asked by a fixed number of workers.

Question    one request, and what is done with its answer
Recalled    an answer that the cache holds, read
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from edgedistill.errors import EdgeDistillError
from edgedistill.project.sections import TeacherSection
from edgedistill.teacher import keys
from edgedistill.teacher.asking import Asking, Patience
from edgedistill.teacher.cache import AnswerCache
from edgedistill.teacher.endpoint import Endpoint
from edgedistill.teacher.failures import FailureLog
from edgedistill.teacher.formats import AnswerFormat
from edgedistill.teacher.pace import Pace
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.spending import Budget, Usage
from edgedistill.teacher.writing import Writer

Answer = TypeVar("Answer")
RequestIn: TypeAlias = Callable[[AnswerFormat], TeacherRequest]
"""Makes one request in an answer format."""
Reader: TypeAlias = Callable[[Mapping[str, Any]], Answer | Failure]
"""Reads a whole chat completion."""


@dataclass(frozen=True, slots=True)
class Question(Generic[Answer]):
    """One request that is to be answered.

    Attributes:
        request_in: The request.
        take: Called with what was read from the answer, or with why there is none; both are on disk by then.
        needless: Asked before the request is sent: whether its answer is no longer wanted.
    """

    request_in: RequestIn
    take: Callable[[Answer | Failure], None]
    needless: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Recalled(Generic[Answer]):
    """An answer that the cache holds.

    Attributes:
        key: The key of the request, in the answer format in which it was answered.
        answer: What was read from it.
    """

    key: str
    answer: Answer


def recalled(cache: AnswerCache, request_in: RequestIn, read: Reader[Answer]) -> Recalled[Answer] | None:
    """Return what the cache holds in answer to a request, in whichever answer format it was given; None for nothing."""
    for form in AnswerFormat:
        request = request_in(form)
        answer = cache.get(request)
        found = None if answer is None else read(answer)
        if found is not None and not isinstance(found, Failure):
            return Recalled(request.key(), found)
    return None


def recalled_failure(failures: Mapping[str, Failure], request_in: RequestIn) -> Failure | None:
    """Return why a request was not answered in an earlier run; None where no failure of it is kept."""
    keys = [request_in(form).key() for form in AnswerFormat] if failures else []
    return next((failures[key] for key in keys if key in failures), None)


def ask_all(
    questions: Sequence[Question[Answer]],
    read: Reader[Answer],
    section: TeacherSection,
    cache: AnswerCache,
    *,
    cached: int = 0,
    api_key: str | None = None,
    told: Callable[[Usage], None] | None = None,
    budget: Budget | None = None,
    patience: Patience | None = None,
) -> Usage:
    """Ask every question, `section.concurrency` of them at a time.

    Args:
        questions: What is asked; the order is kept, but answers come as they come.
        read: Reads an answer; one that gives a failure is asked for again, `section.tries` times in all.
        section: Whom to ask and how.
        cache: Takes the answers.
        cached: Answers that needed no asking, for the figures.
        api_key: The key; None reads the environment variable that the section names.
        told: Called after every question.
        budget: A budget that earlier calls have drawn on; None takes a fresh one from the section.
        patience: How long to wait between tries.

    Returns:
        What it took.

    Raises:
        TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be written.
    """
    if not questions:
        return Usage(cached=cached, nano_dollars=0 if section.prices else None)
    key = keys.api_key(section, os.environ) if api_key is None else api_key

    draws_on = budget or Budget.of(section)

    async def ask() -> Usage:
        async with Endpoint(section, key) as endpoint:
            writer = Writer(cache, FailureLog(cache.folder))
            asking = Asking(
                endpoint=endpoint,
                writer=writer,
                budget=draws_on,
                pace=Pace(section.concurrency),
                read=read,
                tries=section.tries,
                patience=patience or Patience(),
                cached=cached,
            )
            try:
                await _share(questions, asking, section.concurrency, told)
            finally:
                writer.close()
                draws_on.ledger.close()
            return asking.usage

    return _run(ask())


async def _share(
    questions: Sequence[Question[Answer]],
    asking: Asking[Answer],
    concurrency: int,
    told: Callable[[Usage], None] | None,
) -> None:
    """Ask the questions by a fixed number of workers that share one queue."""
    queue = iter(questions)

    async def work() -> None:
        for question in queue:
            if not question.needless():
                question.take(await asking.ask(question.request_in))
            if told:
                told(asking.usage)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, len(questions))):
                workers.create_task(work())
    except BaseExceptionGroup as group:
        ours = next((error for error in group.exceptions if isinstance(error, EdgeDistillError)), None)
        raise ours or group.exceptions[0] from None


def _run(work: Coroutine[Any, Any, Usage]) -> Usage:
    """Run to the end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "teacher") as thread:
        return thread.submit(asyncio.run, work).result()
