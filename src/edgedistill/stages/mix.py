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
from edgedistill.stages.label import read_labels
from edgedistill.stages.run import Run

T = TypeVar("T", CodedResponse, MixtureRow)


def mix(run: Run) -> dict[str, Any]:
    """Draw the training set from human and teacher-labelled rows and write `mixture.csv`.

    Returns:
        Counts per source and label for `run.json`.

    Raises:
        ProjectFileError: `mix` asks for more rows than there are, or for none.
    """
    labels = read_labels(run.folder) if run.project.teacher and run.records.unlabelled else ()
    rows = mixture(run.records.splits.train, run.records.unlabelled, labels, run.project.mix)
    write_mixture(run.folder, rows, run.project.task.task.inputs)
    counts = Counter((row.source, row.label) for row in rows)
    return {"rows": len(rows), "by_source_and_label": {f"{source} {name}": n for (source, name), n in counts.items()}}


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


def _draw(rows: list[MixtureRow], wanted: Literal["all"] | int, source: str, seed: int) -> list[MixtureRow]:
    if wanted == "all":
        return rows
    if wanted > len(rows):
        raise ProjectFileError(
            f"mix.{source} asks for {wanted} rows and there are {len(rows)}",
            mend=f"Ask for fewer, or give more {source} rows.",
        )
    chosen = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.id}".encode()).digest())[:wanted]
    kept = {row.id for row in chosen}
    return [row for row in rows if row.id in kept]


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
