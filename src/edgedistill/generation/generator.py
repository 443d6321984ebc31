"""Lets a teacher write samples: cached answers first, each sample with its lineage, every request accounted for.

generate_samples(seeds, …) -> GenerationResult
├── samples     the samples, in the order of the requests
├── removed     what is not a sample: not a string, or more than requested
├── failed      requests without samples
└── usage       requests, tokens and cost
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from edgedistill.data.types import TrainRows
from edgedistill.errors import AnswersMissing
from edgedistill.generation.prompts import SampleRequest, build_generation_request, parse_samples, plan_requests
from edgedistill.generation.types import FailedRequest, Lineage, RemovalReason, RemovedSample, Sample
from edgedistill.project.teacher import TeacherSection
from edgedistill.project.training_set import GenerateSection
from edgedistill.teacher import (
    AnswerCache,
    AnswerFormat,
    Budget,
    Codebook,
    LabellingProgress,
    RetryPolicy,
    TeacherRequest,
    Usage,
)
from edgedistill.teacher.logs import FailureLog, describe_failure
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.runner import (
    CachedAnswer,
    DispatchMode,
    PendingRequest,
    find_cached_answer,
    find_logged_failure,
    run_requests,
)

Texts = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What a teacher wrote: ``len(samples) + len(removed)`` strings and other values in all answers.

    Attributes:
        requests: Number of requests.
        requested: Number of samples that they requested.
        samples: The samples.
        removed: What is not a sample.
        failed: The requests without samples.
        usage: Requests, tokens and cost.
    """

    requests: int
    requested: int
    samples: tuple[Sample, ...]
    removed: tuple[RemovedSample, ...]
    failed: tuple[FailedRequest, ...]
    usage: Usage


@dataclass(slots=True)
class _Task:
    """A request and its result."""

    request: SampleRequest
    build_request: Callable[[AnswerFormat], TeacherRequest]
    cached: CachedAnswer[Texts] | None = None
    failure: Failure | None = None

    def load_cached(self, cache: AnswerCache) -> None:
        self.cached = find_cached_answer(cache, self.build_request, parse_samples)

    def pending_request(self) -> PendingRequest[Texts]:
        return PendingRequest(self.build_request, self._record)

    def _record(self, result: Texts | Failure) -> None:
        if isinstance(result, Failure):
            self.failure = result


def generate_samples(
    seeds: TrainRows,
    codebook: Codebook,
    teacher: TeacherSection,
    section: GenerateSection,
    cache: AnswerCache,
    *,
    offline: bool = False,
    api_key: str | None = None,
    on_progress: Callable[[LabellingProgress], None] | None = None,
    budget: Budget | None = None,
    retry_policy: RetryPolicy | None = None,
    dispatch: DispatchMode | None = None,
) -> GenerationResult:
    """Let a teacher write samples of every label.

    Cached answers are not requested again, so running a stopped run again resumes it.

    Args:
        seeds: The human train rows that prompts may show, from `select_seed_rows`; rows of other splits are refused by
            type.
        codebook: The codebook, whose labels the samples are written for.
        teacher: The teacher's endpoint and settings; temperature and token limit come from `section`.
        section: Number of samples, temperatures, variation.
        cache: The earlier answers; new ones are written to it.
        offline: Send nothing; a request that failed in an earlier run counts as failed again.
        api_key: The key; None reads the environment variable that the teacher's section names.
        on_progress: Called after every request.
        budget: A budget shared with earlier calls; None creates one from the section.
        retry_policy: How long to wait between tries.
        dispatch: What happens before requests are sent one by one; None sends them at once.

    Raises:
        ProjectFileError: A label has fewer seed rows than examples are required.
        AnswersMissing: Offline, and answers are missing.
        TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be read or written.
    """
    tasks = [
        _Task(request, partial(build_generation_request, codebook, request, teacher, section.max_output_tokens))
        for request in plan_requests(seeds, codebook, section)
    ]
    for task in tasks:
        task.load_cached(cache)
    missing = [task for task in tasks if task.cached is None]
    done = cached = len(tasks) - len(missing)
    usage = Usage(cached=cached, nano_dollars=0 if teacher.prices else None)

    def report(usage: Usage) -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(LabellingProgress(done, len(tasks), usage))

    if on_progress:
        on_progress(LabellingProgress(done, len(tasks), usage))
    if offline:
        _load_failures(missing, FailureLog(cache.folder).read())
    else:
        usage = run_requests(
            [task.pending_request() for task in missing],
            parse_samples,
            teacher,
            cache,
            cached=cached,
            api_key=api_key,
            on_progress=report,
            budget=budget,
            retry_policy=retry_policy,
            dispatch=dispatch,
        )
        for task in missing:
            task.load_cached(cache)
    return _collect(tasks, teacher.model, usage)


def _load_failures(missing: list[_Task], failures: Mapping[str, Failure]) -> None:
    for task in missing:
        task.failure = find_logged_failure(failures, task.build_request)
    labels = [task.request.label for task in missing if task.failure is None]
    if labels:
        raise AnswersMissing(
            f"{len(labels)} requests for samples are not in the cache, for the labels "
            f"{', '.join(dict.fromkeys(labels))}",
            hint="Run once without --offline, or import the answers: `edgedistill cache import PROJECT FILE.jsonl`.",
        )


def _collect(tasks: list[_Task], teacher: str, usage: Usage) -> GenerationResult:
    samples: list[Sample] = []
    removed: list[RemovedSample] = []
    for task in tasks:
        for position, text in enumerate(task.cached.answer if task.cached else ()):
            sample = _build_sample(task, position, text or "", teacher)
            if position >= task.request.size:
                removed.append(RemovedSample(sample, RemovalReason.EXTRA, f"{task.request.size} were requested"))
            elif text is None:
                removed.append(RemovedSample(sample, RemovalReason.NO_STRING))
            else:
                samples.append(sample)
    return GenerationResult(
        requests=len(tasks),
        requested=sum(task.request.size for task in tasks),
        samples=tuple(samples),
        removed=tuple(removed),
        failed=tuple(
            FailedRequest(task.request.label, task.request.size, task.failure.cause, describe_failure(task.failure))
            for task in tasks
            if task.failure
        ),
        usage=usage,
    )


def _build_sample(task: _Task, position: int, text: str, teacher: str) -> Sample:
    request, key = task.request, task.cached.key if task.cached else ""
    return Sample(
        id=f"synthetic-{key[:16]}-{position}",
        inputs={**request.context, "response": text.strip()},
        label=request.label,
        lineage=Lineage(
            key=key,
            teacher=teacher,
            seeds=tuple(example.response.id for example in request.examples),
            temperature=request.temperature,
            call=request.number,
            position=position,
            persona=request.persona,
            words=request.words,
        ),
    )
