"""Questions to the teacher, of whatever kind: found in the cache, or asked by a fixed number of workers.

Question    one request, and what is done with its answer
Recalled    an answer that the cache holds, read
Round       questions that no cache has answered, and all that is needed to ask them
Way         what is done about a round before its questions are asked one by one
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from edgedistill.errors import EdgeDistillError
from edgedistill.project.sections import TeacherSection
from edgedistill.teacher import keys
from edgedistill.teacher.asking import Asking, Patience
from edgedistill.teacher.cache import AnswerCache
from edgedistill.teacher.endpoint import Endpoint, Known
from edgedistill.teacher.failures import FailureLog
from edgedistill.teacher.formats import AnswerFormat
from edgedistill.teacher.pace import Pace
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.spending import Budget, Usage
from edgedistill.teacher.writing import Writer

Answer = TypeVar("Answer")
Result = TypeVar("Result")
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


@dataclass(frozen=True, slots=True)
class Round(Generic[Answer]):
    """Questions that no cache has answered, and all that is needed to ask them.

    Attributes:
        questions: The questions.
        read: Reads an answer; one that gives a failure is asked for again, `section.tries` times in all.
        section: Whom to ask and how.
        cache: Takes the answers.
        budget: What may be spent.
        patience: How long to wait between tries.
        api_key: The key; None reads the environment variable that the section names.
        told: Called after every question.
    """

    questions: Sequence[Question[Answer]]
    read: Reader[Answer]
    section: TeacherSection
    cache: AnswerCache
    budget: Budget
    patience: Patience = field(default_factory=Patience)
    api_key: str | None = None
    told: Callable[[Usage], None] | None = None

    @property
    def key(self) -> str:
        """The API key.

        Raises:
            TeacherRefusedKey: The environment variable is not set.
        """
        return keys.api_key(self.section, os.environ) if self.api_key is None else self.api_key

    @property
    def nothing(self) -> Usage:
        """The usage of a round that asked nothing."""
        return Usage(nano_dollars=None if self.budget.price is None else 0)


class Way(Protocol):
    """Something that is done about a round's questions before they are asked one by one."""

    def prepare(self, round: Round[Any]) -> Usage | None:  # noqa: A002  # nothing else says it
        """Fill the cache, tell something, or stop the stage.

        Returns:
            What it took, where the cache may hold answers now; None where nothing was asked.

        Raises:
            Paused: The stage is to stop here.
        """


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
    way: Way | None = None,
) -> Usage:
    """Ask every question, at most `section.concurrency` of them at a time.

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
        way: What is done before: an estimate is told, or a batch is asked; None asks right away.

    Returns:
        What it took.

    Raises:
        TeacherError: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be written.
        Paused: The way stops the stage before it is done.
    """
    given = Round(questions, read, section, cache, budget or Budget.of(section), patience or Patience(), api_key, told)
    usage = Usage(cached=cached, nano_dollars=given.nothing.nano_dollars)
    before = way.prepare(given) if way else None
    if before:
        given = replace(given, questions=_taken(given))
        usage += before
    return usage + ask_live(given, so_far=usage)[0] if given.questions else usage


def unanswered(given: Round[Answer]) -> list[Question[Answer]]:
    """Return the questions that the cache does not answer."""
    return [each for each in given.questions if recalled(given.cache, each.request_in, given.read) is None]


def ask_live(given: Round[Answer], known: Known | None = None, so_far: Usage | None = None) -> tuple[Usage, Known]:
    """Ask a round's questions one by one.

    Args:
        given: The round.
        known: What the endpoint has been found to take before.
        so_far: What was asked before, for those who are told.

    Returns:
        What it took, and what the endpoint has been found to take.
    """
    section, key, told = given.section, given.key, given.told

    def tell(usage: Usage) -> None:
        if told:
            told(so_far + usage if so_far else usage)

    async def ask() -> tuple[Usage, Known]:
        async with Endpoint(section, key, known) as endpoint:
            writer = Writer(given.cache, FailureLog(given.cache.folder))
            pace = Pace(section.concurrency)
            asking = Asking(
                endpoint=endpoint,
                writer=writer,
                budget=given.budget,
                pace=pace,
                read=given.read,
                tries=section.tries,
                patience=given.patience,
            )
            try:
                await _share(given.questions, asking, section.concurrency, tell)
            finally:
                writer.close()
                given.budget.ledger.close()
            return asking.usage, endpoint.known

    return _run(ask())


def _taken(given: Round[Answer]) -> list[Question[Answer]]:
    """Give the questions that the cache answers their answers; return the others."""
    left = []
    for question in given.questions:
        found = recalled(given.cache, question.request_in, given.read)
        if found:
            question.take(found.answer)
        else:
            left.append(question)
    return left


async def _share(
    questions: Sequence[Question[Answer]],
    asking: Asking[Answer],
    concurrency: int,
    told: Callable[[Usage], None],
) -> None:
    """Ask the questions by a fixed number of workers that share one queue."""
    queue = iter(questions)

    async def work() -> None:
        for question in queue:
            if not question.needless():
                question.take(await asking.ask(question.request_in))
            told(asking.usage)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, len(questions))):
                workers.create_task(work())
    except BaseExceptionGroup as group:
        ours = next((error for error in group.exceptions if isinstance(error, EdgeDistillError)), None)
        raise ours or group.exceptions[0] from None


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "teacher") as thread:
        return thread.submit(asyncio.run, work).result()
