"""The cached answers of a run: those to the requests that its stages make with the current settings."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from edgedistill.data.types import Response
from edgedistill.generation.prompts import build_generation_request, plan_requests, select_seed_rows
from edgedistill.pipeline.generate import read_synthetic
from edgedistill.pipeline.run import Run
from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher import AnswerCache, AnswerFormat, CacheEntry, LabellingPlan, ModelVersion
from edgedistill.teacher.cache import DATABASE, clean_address
from edgedistill.teacher.codebook import response_ids, split_joined_message
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.teacher import Teacher


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """A cached answer of a run.

    Attributes:
        teacher: Who gave it.
        entry: The request and the answer.
        votes: By the id of each response that it codes, the label; empty where it has none. Empty for an answer with
            synthetic responses.
    """

    teacher: str
    entry: CacheEntry
    votes: Mapping[str, str]

    @property
    def date(self) -> str:
        """The day on which the endpoint says that it answered, as in ``2026-01-31``; empty if it does not."""
        created = self.entry.answer.get("created")
        if not isinstance(created, int) or isinstance(created, bool) or not 10**9 < created < 10**11:
            return ""
        return dt.datetime.fromtimestamp(created, dt.UTC).date().isoformat()


def run_answers(run: Run) -> Iterator[RunAnswer]:
    """Yield the cached answers of a run, in the order of their keys, teacher by teacher; nothing is requested.

    A cache may be shared by several projects: answers of others are not among them.

    Raises:
        CacheDamaged: An entry cannot be read.
    """
    for section in run.project.asked:
        teacher = run.asked[section.called]
        if not (teacher.cache_folder / DATABASE).exists():
            continue
        with AnswerCache(teacher.cache_folder) as cache:
            plan = teacher.plan(_coded(run))
            of_texts: dict[str, list[str]] = defaultdict(list)
            for response, coding in plan.pairs:
                if coding:
                    of_texts[coding.user].append(response.id)
            for entry, codings in plan.answers_in(cache):
                ids = [tuple(of_texts[coding.user]) if coding else () for coding in codings]
                yield RunAnswer(section.called, entry, dict(_votes(plan, entry, ids)))
            written = _written(run, teacher)
            for entry in cache.entries() if written else ():
                if entry.key in written:
                    yield RunAnswer(section.called, entry, {})


def model_versions(answers: Iterable[RunAnswer], section: TeacherSection) -> tuple[ModelVersion, ...]:
    """Return the versions of the model that gave a teacher's answers, in the order of their first day."""
    dates: dict[tuple[str | None, str | None], list[str]] = defaultdict(list)
    for each in answers:
        if each.teacher == section.called:
            served, mark = (each.entry.answer.get(name) for name in ("model", "system_fingerprint"))
            dates[_text(served), _text(mark)].append(each.date)
    versions = []
    for (served, mark), days in dates.items():
        known = sorted(filter(None, days)) or [""]
        address = clean_address(section.base_url)
        versions.append(ModelVersion(address, section.model, served, mark, len(days), known[0], known[-1]))
    return tuple(sorted(versions, key=lambda version: (version.first, str(version.served_model))))


def _coded(run: Run) -> list[Response]:
    """Return every response that a teacher codes in some stage."""
    splits = run.records.splits
    synthetic = read_synthetic(run.folder) if run.project.generate and run.folder.has("synthetic.jsonl") else ()
    return [
        *splits.validation.responses,
        *run.records.unlabelled,
        *splits.test.responses,
        *(Response(row.id, row.inputs, "synthetic.jsonl", 0) for row in synthetic),
    ]


def _votes(plan: LabellingPlan, entry: CacheEntry, ids: list[tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    user = str(entry.request["messages"][-1]["content"])
    users = split_joined_message(user) if plan.shape.multiple_responses else (user,)
    votes = plan.parse(entry.answer)
    given = [None] * len(users) if isinstance(votes, Failure) else votes.assign(response_ids(users))
    for of_text, vote in zip(ids, given, strict=True):
        for ident in of_text:
            yield ident, vote.label if vote else ""


def _written(run: Run, teacher: Teacher) -> set[str]:
    """Return the keys of the requests in which a teacher writes synthetic responses."""
    section, splits = run.project.generate, run.records.splits
    if section is None or teacher is not run.asked[run.teacher.called]:
        return set()
    requests = plan_requests(
        select_seed_rows(splits.first_train, splits.first_validation, splits.test), teacher.codebook, section
    )
    return {
        build_generation_request(teacher.codebook, each, teacher.section, section.max_output_tokens, kind).key()
        for each in requests
        for kind in AnswerFormat
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
