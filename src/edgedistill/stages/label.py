"""Labelling: the teacher codes the responses that no human coded."""

import json
from dataclasses import asdict
from typing import Any

from edgedistill.records.types import TeacherLabel
from edgedistill.stages.folder import RunFolder
from edgedistill.stages.run import Run


def label(run: Run) -> dict[str, Any]:
    """Have the teacher code the unlabelled responses and write `labels.jsonl`.

    Returns:
        Counts and cost for `run.json`.
    """
    labelling = run.ask_teacher(run.records.unlabelled, "label: the teacher codes responses")
    lines = (
        {
            "id": row.id,
            "label": row.label,
            "consistency": row.consistency,
            "shares": dict(row.shares),
            "votes": list(row.votes),
            "teacher": row.teacher,
        }
        for row in labelling.labels
    )
    run.folder.write_text("labels.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return {
        "rows": len(run.records.unlabelled),
        "labelled": len(labelling.labels),
        "set_aside": [{"id": row.id, "reason": row.reason, "detail": row.detail} for row in labelling.set_aside],
        "cost": asdict(labelling.usage),
    }


def read_labels(folder: RunFolder) -> tuple[TeacherLabel, ...]:
    """Read `labels.jsonl` back."""
    lines = (json.loads(line) for line in (folder / "labels.jsonl").read_text("utf-8").splitlines())
    return tuple(TeacherLabel(**line | {"votes": tuple(line["votes"])}) for line in lines)
