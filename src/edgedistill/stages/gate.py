"""The gate: do the teachers agree with the human coders on validation rows?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from typing import Any

from edgedistill.agreement import agreement, agreement_between
from edgedistill.project.sections import TeacherSection
from edgedistill.stages.run import Run
from edgedistill.teacher import Labelling, joint_labelling


def gate(run: Run) -> dict[str, Any]:
    """Compare the teachers with the human codes of the validation rows and write `gate.json`.

    A teacher passes when the lower end of its metric's 95 % interval reaches its `gate.at_least`; rows of one group
    alone bear no interval that could. Rows that it left
    uncoded (see `set_aside` in the file) are not in the metric. A teacher that does not pass is left out of everything
    that follows, unless it is accepted; the gate passes when a teacher does.

    Returns:
        What `gate.json` holds: of the label that the teachers in `used` give together, what each of `teachers` has of
        its own; their `weights`; and how far they agree with one another, `between`, where there are several.
    """
    responses = run.records.splits.validation.responses
    labellings = run.ask_each(run.panel, responses, "gate: {} codes validation rows")
    verdicts = {teacher.called: _verdict(run, teacher, labellings[teacher.called]) for teacher in run.panel}
    used = [name for name, verdict in verdicts.items() if verdict["passed"] or verdict["accepted"]]
    weights = {name: _weight(run, verdict) for name, verdict in verdicts.items()}
    shown = {name: labelling for name, labelling in labellings.items() if name in used} or labellings
    together = joint_labelling(responses, shown, weights, run.project.task.task)
    joint = {
        **verdicts[run.panel[0].called],
        "teacher": " + ".join(shown),
        **_compared(run, together),
        "passed": any(verdict["passed"] for verdict in verdicts.values()),
        "cost": asdict(reduce(add, (labelling.usage for labelling in labellings.values()))),
        "teachers": list(verdicts.values()),
        "used": used,
        "weights": weights,
        "between": between(run, labellings),
    }
    run.folder.write_json("gate.json", joint)
    return joint


def between(run: Run, labellings: Mapping[str, Labelling]) -> dict[str, Any] | None:
    """How far several teachers agree with one another, for a JSON file; None for one teacher."""
    if len(labellings) == 1:
        return None
    codings = {name: {row.id: row.label for row in labelling.labels} for name, labelling in labellings.items()}
    return agreement_between(codings, run.project.task.task).as_dict()


def groups_of(groups: Sequence[str | None]) -> list[str] | None:
    """The groups for a clustered bootstrap; None where no row has one, so that every row stands for itself.

    A row without a group beside rows with one is a group of its own, under a name that begins with a blank, as no cell
    that was read does.
    """
    if all(group is None for group in groups):
        return None
    return [f" row {place}" if group is None else group for place, group in enumerate(groups)]


def _verdict(run: Run, teacher: TeacherSection, labelling: Labelling) -> dict[str, Any]:
    found = _compared(run, labelling)
    estimate = (found["agreement"] or {}).get(teacher.gate.metric)
    return {
        "teacher": teacher.called,
        "metric": teacher.gate.metric,
        "at_least": teacher.gate.at_least,
        **found,
        "passed": estimate is not None and estimate["low"] >= teacher.gate.at_least,
        "accepted": run.accept_teacher,
        "cost": asdict(labelling.usage),
    }


def _compared(run: Run, labelling: Labelling) -> dict[str, Any]:
    rows = run.records.splits.validation
    by_teacher = {label.id: label.label for label in labelling.labels}
    coded = [row for row in rows if row.response.id in by_teacher]
    measured = coded and agreement(
        [row.label for row in coded],
        [by_teacher[row.response.id] for row in coded],
        run.project.task.task,
        groups=groups_of([row.response.group for row in coded]),
    )
    return {
        "rows": len(rows),
        "coded": len(coded),
        "set_aside": [{"id": row.id, "reason": row.reason, "detail": row.detail} for row in labelling.set_aside],
        "agreement": measured.as_dict() if measured else None,
    }


def _weight(run: Run, verdict: Mapping[str, Any]) -> float:
    """What a teacher counts: 1, or its metric's value on the validation rows, at least 0."""
    if run.project.teachers_vote == "majority":
        return 1.0
    estimate = (verdict["agreement"] or {}).get(verdict["metric"])
    return max(0.0, float(estimate["value"])) if estimate else 0.0
