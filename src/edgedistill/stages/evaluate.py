"""Evaluation: student and teacher against the human codes of the locked test rows, side by side."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgedistill.agreement import Agreement, agreement
from edgedistill.records.types import CodedResponse
from edgedistill.stages.gate import groups_of
from edgedistill.stages.run import Run
from edgedistill_export.checkpoint import Checkpoint


def evaluate(run: Run) -> dict[str, Any]:
    """Score the test rows once with the student, code them with the teacher, and write `evaluation.json`.

    Both are compared with the human codes of the same rows. Test rows that the teacher left uncoded are counted in
    `teacher_set_aside`; its agreement is over the others.

    Returns:
        Cost and notes for `run.json`.
    """
    splits, task = run.records.splits, run.project.task.task
    student = Checkpoint.load(run.folder / "student", task, run.project.student.max_tokens)
    run.advance("evaluate: the student scores test rows", 0, len(splits.test))
    result: dict[str, Any] = {
        "rows": len(splits.test),
        "predefined_split": splits.predefined,
        "test_texts_also_in_train_or_validation": splits.repeated_texts,
        "test_groups_also_in_train_or_validation": splits.repeated_groups,
    }
    chosen = student.logits([dict(row.response.inputs) for row in splits.test]).argmax(axis=1)
    columns = {"student": _against_humans(run, list(splits.test), [task.names[i] for i in chosen])}
    cost: dict[str, Any] = {}
    if run.project.teacher:
        labelling = run.ask_teacher(splits.test.responses, "evaluate: the teacher codes test rows")
        by_teacher = {label.id: label.label for label in labelling.labels}
        coded = [row for row in splits.test if row.response.id in by_teacher]
        result["teacher_set_aside"] = [asdict(row) for row in labelling.set_aside]
        cost = {"cost": asdict(labelling.usage)}
        if coded:
            columns["teacher"] = _against_humans(run, coded, [by_teacher[row.response.id] for row in coded])
    result["agreement"] = {name: column.as_dict() for name, column in columns.items()}
    run.folder.write_json("evaluation.json", result)
    return cost


def _against_humans(run: Run, rows: Sequence[CodedResponse], labels: Sequence[str]) -> Agreement:
    return agreement(
        [row.label for row in rows],
        labels,
        run.project.task.task,
        groups=groups_of([row.response.group for row in rows]),
    )
