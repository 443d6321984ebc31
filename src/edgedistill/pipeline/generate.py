"""Generation: the teacher writes synthetic responses, which are screened, coded again and evaluated."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from edgedistill.agreement import agreement
from edgedistill.data.types import CodedResponse, MixtureRow, Response
from edgedistill.errors import ProjectFileError, RunError
from edgedistill.generation import (
    CheckedSample,
    GenerationResult,
    RemovalReason,
    RemovedSample,
    Sample,
    ScreeningResult,
    diversity,
    generate_samples,
    screen,
    select_seed_rows,
)
from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.run import Run
from edgedistill.project.training_set import GenerateSection
from edgedistill.teacher import AnswerCache, Labelling, LabellingProgress
from edgedistill_serve.task.redaction import Redaction, redact_text

_FILE = "synthetic.jsonl"


def generate(run: Run) -> dict[str, Any]:
    """Write `synthetic.jsonl`, one line per kept sample, and `generation.json`.

    Prompts show only human-coded train rows whose response occurs in no validation or test row. Rows coded at review do
    not change them, so that no sample is paid for twice; screening knows all rows.

    Returns:
        Counts, agreement and cost for `run.json`.

    Raises:
        ProjectFileError: A label has fewer train rows than prompts show examples.
    """
    section = _section(run)
    written = _write(run, section)
    splits = run.records.splits
    run.on_progress("generate: samples are screened", 0, 1)
    screened = screen(
        _redacted(written.samples, run.task.redact),
        splits.train,
        splits.validation,
        splits.test,
        max_characters=run.project.data.max_characters,
        near=section.near_duplicate,
    )
    labelling = run.code_jointly(
        _responses(screened.kept), "generate: the teacher codes samples", votes=section.regrade_votes
    )
    checked = _checked(screened, labelling)
    dropped = _inconsistent(checked, labelling) if section.keep == "consistent" else []
    dropped_ids = {removal.sample.id for removal in dropped}
    kept = [each for each in checked if each.sample.id not in dropped_ids]
    removed = [*written.removed, *screened.removed, *dropped]
    run.folder.write_text(_FILE, "".join(json.dumps(_line(each), ensure_ascii=False) + "\n" for each in kept))
    summary = _summary(run, written, checked, kept, removed) | {
        "cost": asdict(written.usage + labelling.usage),
    }
    details = {
        "failed_calls": [asdict(call) for call in written.failed],
        "removed_samples": [_describe_removal(removal) for removal in removed],
        "uncoded_samples": [{"id": row.id, "reason": row.reason, "detail": row.detail} for row in labelling.set_aside],
        "regraded": _agreement(run, checked),
        "diversity": list(_diversity(list(splits.train), written.samples, kept)),
        "cost_of": {"writing": asdict(written.usage), "regrading": asdict(labelling.usage)},
    }
    run.folder.write_json("generation.json", summary | details)
    return summary


def read_synthetic(folder: RunFolder) -> tuple[MixtureRow, ...]:
    """Read `synthetic.jsonl` as training rows with their lineage.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        return tuple(
            MixtureRow(
                line["id"],
                line["inputs"],
                line["label"],
                "synthetic",
                {line["label"]: 1.0},
                {name: _text(value) for name, value in line["lineage"].items()}
                | {"regraded": _text(line["regraded"]), "consistent": _text(line["consistent"])},
            )
            for line in map(json.loads, filter(None, folder.read_text(_FILE).split("\n")))
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RunError(
            "is damaged", where=str(folder / _FILE), hint="`edgedistill generate PROJECT` writes it again."
        ) from None


def _section(run: Run) -> GenerateSection:
    if run.project.generate is None:
        raise ProjectFileError(
            "the project has no section generate", where=str(run.project.path), hint="Add the section generate."
        )
    return run.project.generate


def _write(run: Run, section: GenerateSection) -> GenerationResult:
    def on_progress(progress: LabellingProgress) -> None:
        run.on_progress("generate: the teacher writes samples", progress.done, progress.total)

    splits, teacher = run.records.splits, run.asked[run.teacher.called]
    with AnswerCache(teacher.cache_folder) as cache:
        return generate_samples(
            select_seed_rows(splits.first_train, splits.first_validation, splits.test),
            teacher.codebook,
            teacher.section,
            section,
            cache,
            offline=run.offline,
            on_progress=on_progress,
            budget=teacher.budget("generate"),
            dispatch=run.dispatch_for(run.teacher),
        )


def _redacted(samples: Sequence[Sample], redact: Redaction | None) -> Sequence[Sample]:
    """Return the samples redacted as all human responses are, so that they can be compared."""
    if redact is None:
        return samples
    return [
        replace(sample, inputs={name: redact_text(text, redact) for name, text in sample.inputs.items()})
        for sample in samples
    ]


def _responses(samples: Sequence[Sample]) -> tuple[Response, ...]:
    return tuple(Response(sample.id, sample.inputs, _FILE, row) for row, sample in enumerate(samples, 1))


def _checked(screened: ScreeningResult, labelling: Labelling) -> list[CheckedSample]:
    regraded = {label.id: label.label for label in labelling.labels}
    return [
        CheckedSample(sample, regraded.get(sample.id), screened.near_train.get(sample.id)) for sample in screened.kept
    ]


def _inconsistent(checked: Sequence[CheckedSample], labelling: Labelling) -> list[RemovedSample]:
    reasons = {row.id: row.reason for row in labelling.set_aside}
    return [
        RemovedSample(each.sample, RemovalReason.INCONSISTENT, f"as {each.regraded!r}")
        if each.regraded is not None
        else RemovedSample(each.sample, RemovalReason.UNCODED, reasons[each.sample.id])
        for each in checked
        if not each.consistent
    ]


def _summary(
    run: Run,
    written: GenerationResult,
    checked: Sequence[CheckedSample],
    kept: Sequence[CheckedSample],
    removed: Sequence[RemovedSample],
) -> dict[str, Any]:
    """Return counts: written = kept + removed; requested = written + missing, unless an answer held too many."""
    total = len(written.samples) + len(written.removed)
    extra = sum(removal.reason is RemovalReason.EXTRA for removal in removed)
    reasons = Counter(str(removal.reason) for removal in removed)
    coded = [each for each in checked if each.regraded is not None]
    near = [each for each in kept if each.near_train]
    labels = run.project.task.labels
    return {
        "calls": written.requests,
        "calls_failed": dict(Counter(str(call.cause) for call in written.failed)),
        "asked_for": written.requested,
        "missing": written.requested - (total - extra),
        "written": total,
        "kept": len(kept),
        "removed": {str(reason): reasons[reason] for reason in RemovalReason if reasons[reason]},
        "kept_by_label": {label.name: sum(each.sample.label == label.name for each in kept) for label in labels},
        "near_train": {
            "rows": len(near),
            "with_another_human_code": sum(
                each.near_train is not None and each.near_train.label != each.sample.label for each in near
            ),
        },
        "consistent": {"coded": len(coded), "consistent": sum(each.consistent for each in coded)},
    }


def _agreement(run: Run, checked: Sequence[CheckedSample]) -> dict[str, Any] | None:
    pairs = [(each.sample.label, each.regraded) for each in checked if each.regraded is not None]
    if not pairs:
        return None
    return agreement([one for one, _ in pairs], [other for _, other in pairs], run.task).as_dict()


def _diversity(
    human: Sequence[CodedResponse], written: Sequence[Sample], kept: Sequence[CheckedSample]
) -> Iterable[dict[str, Any]]:
    """Return a row per set of texts, label and temperature; human train rows are the reference."""
    texts: dict[tuple[str, str, float | None], list[str]] = {}
    for row in human:
        texts.setdefault(("human", row.label, None), []).append(row.response.text)
    for name, samples in (("written", written), ("kept", [each.sample for each in kept])):
        for sample in samples:
            texts.setdefault((name, sample.label, sample.lineage.temperature), []).append(sample.text)
    for (name, label, temperature), written_texts in texts.items():
        yield {"of": name, "label": label, "temperature": temperature, **asdict(diversity(written_texts))}


def _line(each: CheckedSample) -> dict[str, Any]:
    sample = each.sample
    return {
        "id": sample.id,
        "inputs": dict(sample.inputs),
        "label": sample.label,
        "regraded": each.regraded,
        "consistent": each.consistent,
        "near_train": each.near_train and asdict(each.near_train),
        "lineage": asdict(sample.lineage),
    }


def _describe_removal(removal: RemovedSample) -> dict[str, Any]:
    """Return a removed sample without its text, which the answer cache keeps."""
    return {
        "id": removal.sample.id,
        "label": removal.sample.label,
        "reason": str(removal.reason),
        "detail": removal.detail,
        "repeats": removal.repeats,
        "similarity": removal.similarity,
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
