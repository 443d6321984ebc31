"""Has a teacher write samples: cached answers first, every sample with its lineage, every request accounted for.

generate_samples(seeds, …) -> Written
├── samples     what was written, in the order of the requests
├── removed     what was written and is no sample: not a string, or more than was asked for
├── failed      requests that gave nothing
└── usage       what it took
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from edgedistill.data.types import TrainRows
from edgedistill.errors import AnswersMissing
from edgedistill.generation.prompts import Call, generation_request, plan_calls, read_samples
from edgedistill.generation.types import FailedCall, Lineage, Reason, Removed, Sample
from edgedistill.project.schema import GenerateSection, TeacherSection
from edgedistill.teacher import AnswerCache, AnswerFormat, Budget, Codebook, Patience, Progress, TeacherRequest, Usage
from edgedistill.teacher.logs import FAILURES, FailureLog
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.runner import Question, Recalled, Way, ask_all, recalled, recalled_failure

Texts = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What a teacher wrote: ``len(samples) + len(removed)`` strings and other things in answer to all requests.

    Attributes:
        calls: Number of requests.
        asked: Number of samples that they asked for.
        samples: The samples.
        removed: What was written and is no sample.
        failed: The requests that gave nothing.
        usage: What it took.
    """

    calls: int
    asked: int
    samples: tuple[Sample, ...]
    removed: tuple[Removed, ...]
    failed: tuple[FailedCall, ...]
    usage: Usage


@dataclass(slots=True)
class _Asked:
    """A request, and what came of it."""

    call: Call
    request_in: Callable[[AnswerFormat], TeacherRequest]
    found: Recalled[Texts] | None = None
    failure: Failure | None = None
    question: Question[Texts] = field(init=False)

    def __post_init__(self) -> None:
        self.question = Question(self.request_in, self._take)

    def recall(self, cache: AnswerCache) -> None:
        self.found = recalled(cache, self.request_in, read_samples)

    def _take(self, outcome: Texts | Failure) -> None:
        if isinstance(outcome, Failure):
            self.failure = outcome


def generate_samples(
    seeds: TrainRows,
    codebook: Codebook,
    teacher: TeacherSection,
    section: GenerateSection,
    cache: AnswerCache,
    *,
    offline: bool = False,
    api_key: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    budget: Budget | None = None,
    patience: Patience | None = None,
    way: Way | None = None,
) -> Written:
    """Have a teacher write samples of every label.

    Answers that the cache holds are not asked for again, so a run that was stopped is resumed by running it again.

    Args:
        seeds: The human train rows that may be shown, from `seed_rows`; rows of another split cannot be passed.
        codebook: Its labels are written for.
        teacher: Whom to ask and how; temperature and token limit are those of `section`.
        section: How many samples, at which temperatures.
        cache: Holds the answers so far and takes the new ones.
        offline: Ask nothing; a request that failed in an earlier run counts as failed again.
        api_key: The key; None reads the environment variable that the teacher's section names.
        progress: Called after every request.
        budget: A budget that earlier calls have drawn on; None takes a fresh one from the section.
        patience: How long to wait between tries.
        way: What is done before requests are sent one by one; None sends them right away.

    Raises:
        ProjectFileError: There are fewer seed rows of a label than examples are wanted.
        AnswersMissing: Offline, and answers are missing.
        TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be read or written.
    """
    all_asked = [
        _Asked(call, partial(generation_request, codebook, call, teacher, section.max_output_tokens))
        for call in plan_calls(seeds, codebook, section)
    ]
    for asked in all_asked:
        asked.recall(cache)
    still_open = [asked for asked in all_asked if asked.found is None]
    done = cached = len(all_asked) - len(still_open)
    usage = Usage(cached=cached, nano_dollars=0 if teacher.prices else None)

    def told(usage: Usage) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(Progress(done, len(all_asked), usage))

    if progress:
        progress(Progress(done, len(all_asked), usage))
    if offline:
        _recall_failures(still_open, FailureLog(cache.folder).read())
    else:
        usage = ask_all(
            [asked.question for asked in still_open],
            read_samples,
            teacher,
            cache,
            cached=cached,
            api_key=api_key,
            told=told,
            budget=budget,
            patience=patience,
            way=way,
        )
        for asked in still_open:
            asked.recall(cache)
    return _written(all_asked, teacher.model, usage)


def _recall_failures(still_open: list[_Asked], failures: Mapping[str, Failure]) -> None:
    for asked in still_open:
        asked.failure = recalled_failure(failures, asked.request_in)
    missing = [asked.call.label for asked in still_open if asked.failure is None]
    if missing:
        raise AnswersMissing(
            f"{len(missing)} requests for samples are not in the cache, of the labels "
            f"{', '.join(dict.fromkeys(missing))}",
            hint="Run once without --offline, or import the answers with `edgedistill cache import`.",
        )


def _written(all_asked: list[_Asked], teacher: str, usage: Usage) -> Written:
    samples: list[Sample] = []
    removed: list[Removed] = []
    for asked in all_asked:
        for position, text in enumerate(asked.found.answer if asked.found else ()):
            sample = _sample(asked, position, text or "", teacher)
            if position >= asked.call.size:
                removed.append(Removed(sample, Reason.EXTRA, f"{asked.call.size} were asked for"))
            elif text is None:
                removed.append(Removed(sample, Reason.NO_STRING))
            else:
                samples.append(sample)
    return Written(
        calls=len(all_asked),
        asked=sum(asked.call.size for asked in all_asked),
        samples=tuple(samples),
        removed=tuple(removed),
        failed=tuple(_failed(asked.call, asked.failure) for asked in all_asked if asked.failure),
        usage=usage,
    )


def _sample(asked: _Asked, position: int, text: str, teacher: str) -> Sample:
    call, key = asked.call, asked.found.key if asked.found else ""
    return Sample(
        id=f"synthetic-{key[:16]}-{position}",
        inputs={**call.context, "response": text.strip()},
        label=call.label,
        lineage=Lineage(
            key=key,
            teacher=teacher,
            seeds=tuple(example.response.id for example in call.examples),
            temperature=call.temperature,
            call=call.number,
            position=position,
            persona=call.persona,
            words=call.words,
        ),
    )


def _failed(call: Call, failure: Failure) -> FailedCall:
    kept = f"{FAILURES} in the cache's folder has it under {failure.key[:16]}"
    return FailedCall(call.label, call.size, failure.cause, "; ".join(filter(None, [failure.code, kept])))
