"""The mixture: the student's training set, each row with the source of its label."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from edgedistill.data.types import MixtureRow, labels_in
from edgedistill.errors import RunError
from edgedistill.mixing import draw_mixture, human_rows, teacher_rows
from edgedistill.pipeline.folder import MIXTURE, RunFolder
from edgedistill.pipeline.generate import read_synthetic
from edgedistill.pipeline.label import read_labels
from edgedistill.pipeline.run import Run


def mix(run: Run) -> dict[str, Any]:
    """Draw the training set from human, teacher-labelled and synthetic rows and write `mixture.csv`.

    Returns:
        Counts for `run.json`: rows by source, rows by source and label (for a multilabel task a row counts for each of
        its labels), and synthetic rows that were not drawn.

    Raises:
        ProjectFileError: `mix` requires more rows than there are, or none.
    """
    section, task = run.project.mix, run.task
    labels = read_labels(run.folder) if run.folder.has("labels.jsonl") else ()
    synthetic = read_synthetic(run.folder) if run.folder.has("synthetic.jsonl") else ()
    rows = draw_mixture(
        {
            "human": human_rows(run.records.splits.train, task),
            "teacher": teacher_rows(run.records.unlabelled, labels, section.min_consistency),
            "synthetic": synthetic,
        },
        task,
        section,
    )
    write_mixture(run.folder, rows, task.inputs)
    counts = Counter((row.source, label) for row in rows for label in labels_in(row.label, task))
    entry: dict[str, Any] = {
        "rows": len(rows),
        "by_source": dict(Counter(row.source for row in rows)),
        "by_source_and_label": {f"{source} {name}": n for (source, name), n in counts.items()},
    }
    if run.folder.has("synthetic.jsonl"):
        used = sum(row.source == "synthetic" for row in rows)
        entry["synthetic"] = {"kept": len(synthetic), "used": used, "not_drawn": len(synthetic) - used}
    return entry


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
