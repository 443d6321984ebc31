"""The gate: do the teachers agree with the human coders on validation rows?"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import reduce
from operator import add
from typing import Any

from edgedistill.agreement import inter_coder_agreement
from edgedistill.pipeline.run import Run
from edgedistill.project.schema import TeacherSection
from edgedistill.teacher import Labelling, combine_labellings
from edgedistill.teacher.gating import check_gate, comparison


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
    together = combine_labellings(responses, shown, weights, run.task)
    joint = {
        **verdicts[run.panel[0].called],
        "teacher": " + ".join(shown),
        **comparison(together, run.records.splits.validation, run.task),
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
    return inter_coder_agreement(codings, run.task).as_dict()


def _verdict(run: Run, teacher: TeacherSection, labelling: Labelling) -> dict[str, Any]:
    verdict = check_gate(teacher, labelling, run.records.splits.validation, run.task)
    return verdict.as_dict() | {"accepted": run.accept_teacher, "cost": asdict(labelling.usage)}


def _weight(run: Run, verdict: Mapping[str, Any]) -> float:
    """What a teacher counts: 1, or its metric's value on the validation rows, at least 0."""
    if run.project.teachers_vote == "majority":
        return 1.0
    estimate = (verdict["agreement"] or {}).get(verdict["metric"])
    return max(0.0, float(estimate["value"])) if estimate else 0.0
