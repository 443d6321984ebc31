"""Evaluation: student and teachers against the human codes of the locked test rows, side by side."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgedistill.agreement import Agreement, agreement
from edgedistill.records.types import CodedResponse
from edgedistill.stages.chain import chain
from edgedistill.stages.gate import between, groups_of
from edgedistill.stages.run import Run
from edgedistill.teacher import Labelling, joint_labelling
from edgedistill_export.checkpoint import Checkpoint


def evaluate(run: Run) -> dict[str, Any]:
    """Score the test rows once with the student, code them with the teacher, and write `evaluation.json`.

    Both are compared with the human codes of the same rows. Test rows that the teacher left uncoded are counted in
    `teacher_set_aside`; its agreement is over the others. Several teachers are compared each by itself too, and with
    one another in `between`.

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
    if run.project.panel:
        responses = splits.test.responses
        labellings = run.ask_each(run.used, responses, "evaluate: {} codes test rows")
        together = joint_labelling(responses, labellings, run.weights)
        result["teacher_set_aside"] = [asdict(row) for row in together.set_aside]
        cost = {"cost": asdict(together.usage)}
        columns |= _of_teacher(run, "teacher", together)
        if len(labellings) > 1:
            result["between"] = between(run, labellings)
            for name, labelling in labellings.items():
                columns |= _of_teacher(run, f"teacher {name}", labelling)
        result["chain"] = _chain(run, together, [task.names[i] for i in chosen])
    result["agreement"] = {name: column.as_dict() for name, column in columns.items()}
    run.folder.write_json("evaluation.json", result)
    return cost


def _chain(run: Run, labelling: Labelling, student: Sequence[str]) -> list[dict[str, Any]]:
    """The hop from teacher to student; `chain.json` of the export goes on from there."""
    test = run.records.splits.test
    ids = [row.response.id for row in test]
    groups = groups_of([row.response.group for row in test])
    return chain(
        dict(zip(ids, test.labels, strict=True)),
        {
            "teacher": {label.id: label.label for label in labelling.labels},
            "PyTorch": dict(zip(ids, student, strict=True)),
        },
        run.project.task.task,
        dict(zip(ids, groups, strict=True)) if groups else None,
    )


def _of_teacher(run: Run, heading: str, labelling: Labelling) -> dict[str, Agreement]:
    by_teacher = {label.id: label.label for label in labelling.labels}
    coded = [row for row in run.records.splits.test if row.response.id in by_teacher]
    if not coded:
        return {}
    return {heading: _against_humans(run, coded, [by_teacher[row.response.id] for row in coded])}


def _against_humans(run: Run, rows: Sequence[CodedResponse], labels: Sequence[str]) -> Agreement:
    return agreement(
        [row.label for row in rows],
        labels,
        run.project.task.task,
        groups=groups_of([row.response.group for row in rows]),
    )
