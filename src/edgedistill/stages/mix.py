"""The mixture: which rows the student is trained on, each with where its label came from."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from edgedistill.errors import ProjectFileError
from edgedistill.project.sections import MixSection
from edgedistill.records.types import CodedResponse, MixtureRow, Response, TeacherLabel, TrainRows
from edgedistill.stages.folder import RunFolder
from edgedistill.stages.generate import read_synthetic
from edgedistill.stages.label import read_labels
from edgedistill.stages.run import Run

T = TypeVar("T", CodedResponse, MixtureRow)


def mix(run: Run) -> dict[str, Any]:
    """Draw the training set from human, teacher-labelled and synthetic rows and write `mixture.csv`.

    Returns:
        Counts per source and label for `run.json`, and how many synthetic rows were not drawn.

    Raises:
        ProjectFileError: `mix` asks for more rows than there are, or for none.
    """
    labels = read_labels(run.folder) if run.project.panel and run.records.unlabelled else ()
    synthetic = read_synthetic(run.folder) if run.project.generate else ()
    drawn = mixture(run.records.splits.train, run.records.unlabelled, labels, run.project.mix)
    names = run.project.task.task.names
    chosen = draw_synthetic(synthetic, names, len(drawn), run.project.mix)
    rows = (*drawn, *chosen)
    write_mixture(run.folder, rows, run.project.task.task.inputs)
    counts = Counter((row.source, row.label) for row in rows)
    entry: dict[str, Any] = {
        "rows": len(rows),
        "by_source_and_label": {f"{source} {name}": n for (source, name), n in counts.items()},
    }
    if run.project.generate:
        entry["synthetic"] = {"kept": len(synthetic), "used": len(chosen), "not_drawn": len(synthetic) - len(chosen)}
    return entry


def mixture(
    human: TrainRows, unlabelled: Sequence[Response], labels: Sequence[TeacherLabel], section: MixSection
) -> tuple[MixtureRow, ...]:
    """Draw human and teacher-labelled rows as `section` says, human rows first.

    A number of rows is drawn by a hash of seed and id: a larger number keeps the rows of a smaller one.

    Raises:
        ProjectFileError: There are fewer rows than asked for, or the mixture would be empty.
    """
    by_human = [MixtureRow(row.response.id, row.response.inputs, row.label, "human", {row.label: 1.0}) for row in human]
    responses = {response.id: response for response in unlabelled}
    by_teacher = [
        MixtureRow(
            row.id,
            responses[row.id].inputs,
            row.label,
            "teacher",
            row.shares,
            {"teacher": row.teacher, "consistency": f"{row.consistency:g}"},
        )
        for row in labels
        if row.consistency >= section.min_consistency
    ]
    drawn = (
        *_draw(by_human, section.human, "human", section.seed),
        *_draw(by_teacher, section.teacher, "teacher", section.seed),
    )
    if not drawn:
        raise ProjectFileError("mix leaves no row to train on", mend="Let mix.human or mix.teacher be above 0.")
    return drawn


def draw_synthetic(
    rows: Sequence[MixtureRow], labels: Sequence[str], others: int, section: MixSection
) -> tuple[MixtureRow, ...]:
    """Draw synthetic rows until they are `synthetic_share` of the training set, as many of each label as of any other.

    With *n* other rows and a share *s* these are *n s* / (1 - *s*) rows, rounded. Within a label they are drawn by a
    hash of seed and id: a larger share keeps the rows of a smaller one.

    Args:
        rows: The synthetic rows that there are.
        labels: The task's labels; where the number of rows is no multiple of theirs, the first get one more.
        others: Number of human and teacher-labelled rows.
        section: The share and the seed.

    Raises:
        ProjectFileError: There are too few of a label.
    """
    wanted = round(others * section.synthetic_share / (1 - section.synthetic_share))
    shares = {label: wanted // len(labels) + (place < wanted % len(labels)) for place, label in enumerate(labels)}
    of_label = {label: [row for row in rows if row.label == label] for label in labels}
    missing = {label: shares[label] - len(of_label[label]) for label in labels if shares[label] > len(of_label[label])}
    if missing:
        told = ", ".join(f"{n} of the {shares[label]} of the label {label!r}" for label, n in missing.items())
        raise ProjectFileError(
            f"a share of {section.synthetic_share:g} beside {others} other rows takes {wanted} synthetic rows, and "
            f"{sum(missing.values())} are missing: {told}",
            where="mix.synthetic_share",
            mend="Raise generate.per_label, lower the share, or mix fewer other rows.",
        )
    drawn = {row.id for label in labels for row in _first(of_label[label], shares[label], section.seed)}
    return tuple(row for row in rows if row.id in drawn)


def _draw(rows: list[MixtureRow], wanted: Literal["all"] | int, source: str, seed: int) -> list[MixtureRow]:
    if wanted == "all":
        return rows
    if wanted > len(rows):
        raise ProjectFileError(
            f"mix.{source} asks for {wanted} rows and there are {len(rows)}",
            mend=f"Ask for fewer, or give more {source} rows.",
        )
    kept = {row.id for row in _first(rows, wanted, seed)}
    return [row for row in rows if row.id in kept]


def _first(rows: Sequence[MixtureRow], wanted: int, seed: int) -> list[MixtureRow]:
    """The rows with the smallest hashes of seed and id."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.id}".encode()).digest())[:wanted]


def write_mixture(folder: RunFolder, rows: Sequence[MixtureRow], inputs: Sequence[str]) -> None:
    """Write `mixture.csv`: a column per input, shares and lineage as JSON."""
    folder.write_csv(
        "mixture.csv",
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
    """Read `mixture.csv` back."""
    with (folder / "mixture.csv").open(encoding="utf-8", newline="") as stream:
        return tuple(
            MixtureRow(
                row["id"],
                {name: row[name] for name in inputs},
                row["label"],
                row["source"],  # type: ignore[arg-type]  # written by mix, checked by the stage's digest
                json.loads(row["shares"]),
                json.loads(row["lineage"]),
            )
            for row in csv.DictReader(stream)
        )
