"""The mixture: the student's training set, each row with the source of its label."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from edgedistill.data.splitting import Splits
from edgedistill.data.types import MixtureRow, Source, labels_in
from edgedistill.errors import ProjectFileError, RunError
from edgedistill.mixing import draw_mixture, human_rows, teacher_rows
from edgedistill.pipeline.folder import MIXTURE, RunFolder
from edgedistill.pipeline.generate import read_synthetic
from edgedistill.pipeline.label import read_labels
from edgedistill.pipeline.run import Run
from edgedistill.project.evaluation import ReviewSection
from edgedistill.student import backbone_folder
from edgedistill.student.data import InputSummary, fit_max_tokens, unreadable_reason
from edgedistill.student.model import backbone_encoder, max_positions, truncation_of_section
from edgedistill_export.novelty import LEAST_TEXTS
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.task.task import Task, task_inputs


def mix(run: Run) -> dict[str, Any]:
    """Draw the training set from human, teacher-labelled and synthetic rows and write `mixture.csv`.

    Rows that the student cannot read are set aside, and teacher-labelled and synthetic rows whose tokens are those of
    a validation or test row.

    Returns:
        Counts for `run.json`: rows by source, rows by source and label (for a multilabel task a row counts for each of
        its labels), rows set aside with reasons, what became of every row of each source, what the student's vocabulary
        cannot represent, what is cut, and the longest input.

    Raises:
        ProjectFileError: `mix` requires more rows than there are, or none; or there is no backbone.
        TrainingFailed: The backbone has no tokenizer.
    """
    section, task, splits = run.project.mix, run.task, run.records.splits
    labels = read_labels(run.folder) if run.folder.has("labels.jsonl") else ()
    synthetic = read_synthetic(run.folder) if run.folder.has("synthetic.jsonl") else ()
    backbone = backbone_folder(run.project.student.backbone, run.project.folder)
    truncation = truncation_of_section(run.project.student, backbone, task)
    reader = _Reader(backbone_encoder(backbone, _UNCUT, truncation), task)
    offered: dict[Source, tuple[MixtureRow, ...]] = {
        "human": human_rows(splits.train, task),
        "teacher": teacher_rows(run.records.unlabelled, labels, section.min_consistency, section.min_confidence),
        "synthetic": synthetic,
    }
    available, set_aside = _set_aside(offered, splits, reader)
    if set_aside and not any(available.values()):
        raise ProjectFileError(
            f"none of the {len(set_aside)} rows can train the student: {set_aside[0]['reason']}",
            where="student.backbone",
            hint="Choose a backbone whose vocabulary has the language of the responses.",
        )
    rows = draw_mixture(available, task, section)
    write_mixture(run.folder, rows, task.inputs)

    uncut = reader.read([row.inputs for row in rows])
    given = run.project.student.max_tokens
    max_tokens = fit_max_tokens(uncut, max_positions(backbone)) if given is None else given
    cut = _Reader(backbone_encoder(backbone, max_tokens, truncation), task)
    inputs = InputSummary.of(cut.read([row.inputs for row in rows]))
    unreadable = [
        row.response.id
        for row, encoded in zip(
            splits.validation, reader.read([row.response.inputs for row in splits.validation]), strict=True
        )
        if unreadable_reason(encoded)
    ]
    inconsistent = sum(row.consistency < section.min_consistency for row in labels)
    read = {"human": len(splits.train), "teacher": len(labels), "synthetic": len(synthetic)}
    sources = {
        source: _account(source, n, len(offered[source]), inconsistent, set_aside, rows)
        for source, n in cast("dict[Source, int]", read).items()
        if n
    }
    counts = Counter((row.source, label) for row in rows for label in labels_in(row.label, task))
    entry: dict[str, Any] = {
        "rows": len(rows),
        "by_source": dict(Counter(row.source for row in rows)),
        "by_source_and_label": {f"{source} {name}": n for (source, name), n in counts.items()},
        "rows_set_aside": set_aside,
        "sources": sources,
        "unreadable_validation_rows": unreadable,
        "max_tokens": max_tokens,
        "inputs": asdict(inputs),
        "notes": [
            *_notes(set_aside, unreadable),
            *(_describe(source, counts) for source, counts in sources.items() if counts["read"] > counts["used"]),
            *([f"max_tokens = {max_tokens}, from the lengths of the training rows."] if given is None else []),
            f"{inputs.unknown_share:.1%} of a training response is unknown to the student, on average."
            if inputs.unknown_share
            else "The student's vocabulary represents every training response.",
            *inputs.notes("training", max_tokens),
        ],
    }
    if run.folder.has("synthetic.jsonl"):
        entry["synthetic"] = {
            "kept": len(synthetic),
            "used": sum(row.source == "synthetic" for row in rows),
            "not_drawn": sources.get("synthetic", {}).get("not_used", {}).get(_NOT_DRAWN, 0),
        }
    return entry


_NOT_DRAWN = "not drawn"


def _account(
    source: Source,
    read: int,
    offered: int,
    inconsistent: int,
    set_aside: Sequence[Mapping[str, str]],
    rows: Sequence[MixtureRow],
) -> dict[str, Any]:
    """Return what became of a source's rows: ``read == used + sum(not_used.values())``."""
    used = sum(row.source == source for row in rows)
    not_used = Counter(row["reason"] for row in set_aside if row["source"] == source)
    inconsistent = min(inconsistent, read - offered)  # every row of other sources than the teacher is offered
    not_used["consistency below mix.min_consistency"] = inconsistent
    not_used["confidence below mix.min_confidence, or none stated"] = read - offered - inconsistent
    not_used[_NOT_DRAWN] = offered - used - sum(row["source"] == source for row in set_aside)
    return {"read": read, "used": used, "not_used": {reason: n for reason, n in not_used.items() if n}}


def _describe(source: Source, counts: Mapping[str, Any]) -> str:
    others = "".join(f" + {n} {reason}" for reason, n in counts["not_used"].items())
    return f"{counts['read']} {source} rows = {counts['used']} used{others}."


_UNCUT = 2**20
"""A number of tokens that no response reaches."""


@dataclass(frozen=True)
class _Reader:
    """Encodes rows as the student of a task does."""

    encoder: Encoder
    task: Task

    def read(self, rows: Iterable[Mapping[str, str]]) -> list[Encoded]:
        return self.encoder.encode([task_inputs(row, self.task) for row in rows])


def _set_aside(
    offered: Mapping[Source, tuple[MixtureRow, ...]], splits: Splits, reader: _Reader
) -> tuple[dict[Source, tuple[MixtureRow, ...]], list[dict[str, str]]]:
    """Return the rows that the student may learn from, and the others with the reason."""
    locked: dict[tuple[int, ...], tuple[str, str]] = {}
    for name, split in (("validation", splits.validation), ("test", splits.test)):
        responses = split.responses
        for response, encoded in zip(responses, reader.read(each.inputs for each in responses), strict=True):
            locked[encoded.ids] = f"the same tokens as a {name} row", response.id
    available: dict[Source, tuple[MixtureRow, ...]] = {}
    set_aside: list[dict[str, str]] = []
    for source, rows in offered.items():
        # Human-coded rows keep their split: evaluate counts those that are the same as test rows.
        twins = {} if source == "human" else locked
        kept = []
        for row, encoded in zip(rows, reader.read(row.inputs for row in rows), strict=True):
            unreadable = unreadable_reason(encoded)
            reason, detail = (unreadable, "") if unreadable else twins.get(encoded.ids, ("", ""))
            if reason:
                set_aside.append({"id": row.id, "source": source, "reason": reason, "detail": detail})
            else:
                kept.append(row)
        available[source] = tuple(kept)
    return available, set_aside


def _notes(set_aside: Sequence[Mapping[str, str]], unreadable: Sequence[str]) -> Iterator[str]:
    if set_aside:
        yield "Rows set aside are listed in run.json, in stages.mix.rows_set_aside."
    if unreadable:
        yield f"{len(unreadable)} validation rows set aside, which the student cannot read."


def write_mixture(folder: RunFolder, rows: Sequence[MixtureRow], inputs: Sequence[str]) -> None:
    """Write `mixture.csv`: a column per input, shares and lineage as JSON."""
    folder.write_csv(
        MIXTURE,
        [
            ["id", *inputs, "label", "source", "shares", "lineage"],
            *(
                [
                    row.id,
                    *(row.inputs[name] for name in inputs),
                    row.label,
                    row.source,
                    json.dumps(dict(row.shares), ensure_ascii=False),
                    json.dumps(dict(row.lineage), ensure_ascii=False),
                ]
                for row in rows
            ),
        ],
    )


def read_mixture(folder: RunFolder, inputs: Sequence[str]) -> tuple[MixtureRow, ...]:
    """Read `mixture.csv`.

    Raises:
        RunError: It is missing or damaged, or has no column for an input.
    """
    try:
        return tuple(
            MixtureRow(
                row["id"],
                {name: row[name] for name in inputs},
                row["label"],
                row["source"],  # type: ignore[arg-type]  # written by mix, checked by the stage's digest
                json.loads(row["shares"]),
                json.loads(row["lineage"]),
            )
            for row in folder.read_csv(MIXTURE)
        )
    except (KeyError, ValueError):
        raise RunError(
            "is damaged, or belongs to a project with another task",
            where=str(folder / MIXTURE),
            hint="`edgedistill mix PROJECT` writes it again.",
        ) from None


def novelty_rows(run: Run) -> list[dict[str, str]]:
    """Return the inputs of the training texts that later responses are compared with; none if the project wants none.

    These are the learners' responses among the training rows, as synthetic texts are no sample of what learners write.
    Only if there are too few of them, the synthetic ones are used too.
    """
    review = run.project.review or ReviewSection()
    if review.novelty is None:
        return []
    mixture = read_mixture(run.folder, run.task.inputs)
    real = [dict(row.inputs) for row in mixture if row.source != "synthetic"]
    distinct = {tuple(row.items()) for row in real}
    return real if len(distinct) >= LEAST_TEXTS else [dict(row.inputs) for row in mixture]
