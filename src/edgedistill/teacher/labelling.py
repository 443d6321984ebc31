"""Labels responses by a teacher: so many votes each, cached answers first, every response accounted for.

label_responses(responses, …) -> Labelling
├── labels      a TeacherLabel for every response that the teacher coded
├── set_aside   every other response, with the reason
└── usage       what it took
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from edgedistill.errors import AnswersMissing, EdgeDistillError
from edgedistill.project.sections import TeacherSection
from edgedistill.records.types import CodedResponse, Response, SetAside, TeacherLabel
from edgedistill.teacher import keys
from edgedistill.teacher.asking import Asking, Patience
from edgedistill.teacher.cache import AnswerCache
from edgedistill.teacher.codebook import Codebook
from edgedistill.teacher.endpoint import Endpoint
from edgedistill.teacher.failures import FAILURES, FailureLog
from edgedistill.teacher.parsing import Cause, Failure
from edgedistill.teacher.plan import Coding, Plan
from edgedistill.teacher.spending import Budget, Price, Usage
from edgedistill.teacher.voting import count_votes

_NAMED = 5  # ids in a message


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Votes that have an answer or will get none.
        total: Votes that the run needs; responses with the same inputs share theirs.
        usage: What it took so far.
    """

    done: int
    total: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Labelling:
    """What a teacher made of some responses: each of them is in one of the two tuples, in the order given.

    Attributes:
        labels: The labels.
        set_aside: The responses without a label.
        usage: What it took.
    """

    labels: tuple[TeacherLabel, ...]
    set_aside: tuple[SetAside, ...]
    usage: Usage


def label_responses(
    responses: Sequence[Response],
    codebook: Codebook,
    section: TeacherSection,
    cache: AnswerCache,
    *,
    examples: Sequence[CodedResponse] = (),
    offline: bool = False,
    api_key: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    budget: Budget | None = None,
    patience: Patience | None = None,
) -> Labelling:
    """Have a teacher code responses.

    Answers that the cache holds are not asked for again, so a run that was stopped is resumed by running it again.
    Responses with the same inputs are asked about once.

    Args:
        responses: What is to be coded.
        codebook: What to code with.
        section: Whom to ask and how.
        cache: Holds the answers so far and takes the new ones.
        examples: Human-coded responses that every prompt shows, from `choose_examples`.
        offline: Ask nothing; a vote that failed in an earlier run sets its response aside again.
        api_key: The key; None reads the environment variable that the section names, once something must be asked.
        progress: Called after every vote.
        budget: A budget that earlier calls have drawn on; None takes a fresh one from the section.
        patience: How long to wait between tries.

    Raises:
        AnswersMissing: Offline, and answers are missing.
        TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be read or written.
        DataError: A response lacks an input.
    """
    plan = Plan(responses, codebook, section, examples)
    usage = Usage(cached=plan.recall(cache), nano_dollars=0 if section.prices else None)
    if progress:
        progress(Progress(usage.cached, plan.total, usage))
    if offline:
        plan.recall_failures(FailureLog(cache.folder))
        _require_all(plan)
    elif plan.open:
        key = keys.api_key(section, os.environ) if api_key is None else api_key

        async def ask() -> Usage:
            async with Endpoint(section, key) as endpoint:
                asking = Asking(
                    endpoint=endpoint,
                    cache=cache,
                    failures=FailureLog(cache.folder),
                    budget=budget or Budget.of(section),
                    price=Price.of(section.prices) if section.prices else None,
                    labels=codebook.names,
                    tries=section.tries,
                    patience=patience or Patience(),
                    cached=usage.cached,
                )
                try:
                    await _ask_all(plan, asking, section.concurrency, progress)
                finally:
                    asking.close()
                return asking.usage

        usage = _run(ask())
    return _labelling(plan, section, usage)


async def _ask_all(plan: Plan, asking: Asking, concurrency: int, progress: Callable[[Progress], None] | None) -> None:
    """Ask for every open vote, by a fixed number of workers that share one queue."""
    votes = plan.open
    queue = iter(votes)
    done = plan.total - len(votes)

    async def work() -> None:
        nonlocal done
        for coding, vote in queue:
            await _ask_one(plan, asking, coding, vote)
            done += 1
            if progress:
                progress(Progress(done, plan.total, asking.usage))

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, len(votes))):
                workers.create_task(work())
    except BaseExceptionGroup as group:
        ours = next((error for error in group.exceptions if isinstance(error, EdgeDistillError)), None)
        raise ours or group.exceptions[0] from None


async def _ask_one(plan: Plan, asking: Asking, coding: Coding, vote: int) -> None:
    if coding.failure:  # another vote on this text failed, so a label is out of reach and this one would be wasted
        return
    outcome = await asking.vote(lambda form: plan.request(coding, vote, form))
    if isinstance(outcome, Failure):
        coding.failure = coding.failure or outcome
    else:
        coding.votes[vote] = outcome


def _run(work: Coroutine[Any, Any, Usage]) -> Usage:
    """Run to the end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "teacher") as thread:
        return thread.submit(asyncio.run, work).result()


def _require_all(plan: Plan) -> None:
    missing = len(plan.open)
    if not missing:
        return
    ids = [response.id for response, coding in plan.pairs if coding and coding.open]
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    raise AnswersMissing(
        f"{missing} answers on {len(ids)} responses are not in the cache: {', '.join(ids[:_NAMED])}{more}",
        mend="Run once without --offline, or import the answers with `edgedistill cache import`.",
    )


def _labelling(plan: Plan, section: TeacherSection, usage: Usage) -> Labelling:
    counted = [_counted(response, coding, section) for response, coding in plan.pairs]
    return Labelling(
        labels=tuple(row for row in counted if isinstance(row, TeacherLabel)),
        set_aside=tuple(row for row in counted if isinstance(row, SetAside)),
        usage=usage,
    )


def _counted(response: Response, coding: Coding | None, section: TeacherSection) -> TeacherLabel | SetAside:
    if coding is None:
        return _set_aside(response, Cause.NO_TEXT, "")
    if coding.failure:
        parts = _detail(coding.failure)
        return _set_aside(response, coding.failure.cause, "; ".join(parts))
    label = count_votes(response.id, coding.labels, section.ties, section.model)
    return label or _set_aside(response, Cause.TIE, ", ".join(coding.labels))


def _detail(failure: Failure) -> Iterator[str]:
    if failure.code:
        yield failure.code
    yield f"{FAILURES} in the cache's folder has it under {failure.key[:16]}"


def _set_aside(response: Response, cause: Cause, detail: str) -> SetAside:
    return SetAside(response.file, response.row, response.id, str(cause), detail)
