"""Labels responses by a teacher: so many votes each, cached answers first, every response accounted for.

label_responses(responses, …) -> Labelling
├── labels      a TeacherLabel for every response that the teacher coded
├── set_aside   every other response, with the reason
└── usage       what it took
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgedistill.errors import AnswersMissing
from edgedistill.project.sections import TeacherSection
from edgedistill.records.types import CodedResponse, Response, SetAside, TeacherLabel
from edgedistill.teacher.asking import Patience
from edgedistill.teacher.cache import AnswerCache
from edgedistill.teacher.codebook import Codebook
from edgedistill.teacher.examples import Chooser, shared
from edgedistill.teacher.failures import FAILURES, FailureLog
from edgedistill.teacher.label_votes import count_label_votes
from edgedistill.teacher.parsing import Cause, Failure
from edgedistill.teacher.plan import Coding, Plan
from edgedistill.teacher.questions import Way, ask_all
from edgedistill.teacher.spending import Budget, Usage
from edgedistill.teacher.voting import count_votes
from edgedistill_serve.task import Task

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
    examples: Sequence[CodedResponse] | Chooser = (),
    offline: bool = False,
    api_key: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    budget: Budget | None = None,
    patience: Patience | None = None,
    way: Way | None = None,
) -> Labelling:
    """Have a teacher code responses.

    Answers that the cache holds are not asked for again, so a run that was stopped is resumed by running it again.
    Responses with the same inputs are asked about once.

    Args:
        responses: What is to be coded.
        codebook: What to code with.
        section: Whom to ask and how.
        cache: Holds the answers so far and takes the new ones.
        examples: Human-coded responses that every prompt shows, or what chooses them for each response.
        offline: Ask nothing; a vote that failed in an earlier run sets its response aside again.
        api_key: The key; None reads the environment variable that the section names, once something must be asked.
        progress: Called after every vote.
        budget: A budget that earlier calls have drawn on; None takes a fresh one from the section.
        patience: How long to wait between tries.
        way: What is done before questions are asked one by one; None asks right away.

    Raises:
        AnswersMissing: Offline, and answers are missing.
        TeacherError: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be read or written.
        DataError: A response lacks an input.
    """
    plan = Plan(responses, codebook, section, examples if callable(examples) else shared(examples))
    usage = Usage(cached=plan.recall(cache), nano_dollars=0 if section.prices else None)
    if progress:
        progress(Progress(usage.cached, plan.total, usage))
    if offline:
        plan.recall_failures(FailureLog(cache.folder))
        _require_all(plan)
        return _labelling(plan, section, codebook, usage)
    draws_on = budget or Budget.of(section)
    for read in (plan.read, plan.read_single):  # texts that got no vote of their own in a shared request come alone
        before, sheets = usage, plan.sheets()
        if not sheets and read == plan.read_single:
            break

        def told(now: Usage, before: Usage = before) -> None:
            if progress:
                progress(Progress(plan.done, plan.total, before + now))

        usage = before + ask_all(
            [plan.question(sheet) for sheet in sheets],
            read,
            section,
            cache,
            api_key=api_key,
            told=told,
            budget=draws_on,
            patience=patience,
            way=way,
        )
    return _labelling(plan, section, codebook, usage)


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


def _labelling(plan: Plan, section: TeacherSection, codebook: Codebook, usage: Usage) -> Labelling:
    counted = [_counted(response, coding, section, codebook) for response, coding in plan.pairs]
    return Labelling(
        labels=tuple(row for row in counted if isinstance(row, TeacherLabel)),
        set_aside=tuple(row for row in counted if isinstance(row, SetAside)),
        usage=usage,
    )


def _counted(
    response: Response, coding: Coding | None, section: TeacherSection, codebook: Codebook
) -> TeacherLabel | SetAside:
    if coding is None:
        return _set_aside(response, Cause.NO_TEXT, "")
    if coding.failure:
        parts = _detail(coding.failure)
        return _set_aside(response, coding.failure.cause, "; ".join(parts))
    if codebook.any_number:
        task = Task(kind="multilabel", labels=codebook.labels, inputs=codebook.inputs)
        votes = [vote.label for vote in coding.known]
        label = count_label_votes(response.id, votes, section.ties, section.called, task)
    else:
        label = count_votes(response.id, coding.known, section.ties, section.called)
    return label or _set_aside(response, Cause.TIE, ", ".join(vote.label for vote in coding.known))


def _detail(failure: Failure) -> Iterator[str]:
    if failure.code:
        yield failure.code
    yield f"{FAILURES} in the cache's folder has it under {failure.key[:16]}"


def _set_aside(response: Response, cause: Cause, detail: str) -> SetAside:
    return SetAside(response.file, response.row, response.id, str(cause), detail)
