"""The gate: agreement of the teachers with the human codes of the validation rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from typing import Any

from edgedistill.agreement import inter_coder_agreement
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.data.types import Response
from edgedistill.pipeline.run import Run
from edgedistill.project.teacher import AnyTeacher
from edgedistill.teacher import Labelling, combine_labellings
from edgedistill.teacher.existing_labels import ExistingLabels
from edgedistill.teacher.gating import check_gate, comparison


def gate(run: Run) -> dict[str, Any]:
    """Compare the teachers with the human codes of the validation rows and write `gate.json`.

    A teacher passes if there are at least `gate.least_rows` different rows with more than one human code and the lower
    end of its metric's 95 % interval is at least its `gate.at_least`; rows that all belong to one group have no such
    interval. Rows that the teacher did not code (`set_aside` in the file) count as coded wrongly (`agreement_of_all`;
    `agreement` is without them). Later stages use only teachers that pass or are accepted. The gate passes if one
    teacher passes.

    With three or more coders in `evaluation.coders`, each teacher has the alternative annotator test beside its
    agreement; it decides nothing.

    Returns:
        The content of `gate.json`: the figures of the combined label of the teachers in `used`; `teachers`, the same
        figures of each teacher; their `weights`; and `between`, the agreement among several teachers, else None.
    """
    responses = run.records.splits.validation.responses
    labellings = run.code_with_each(run.panel, responses, "gate: {} codes validation rows")
    verdicts = {teacher.called: _verdict(run, teacher, labellings[teacher.called]) for teacher in run.panel}
    used = [name for name, verdict in verdicts.items() if verdict["passed"] or verdict["accepted"]]
    weights = {name: _weight(run, verdict) for name, verdict in verdicts.items()}
    combined = {name: labelling for name, labelling in labellings.items() if name in used} or labellings
    joint = combine_labellings(responses, combined, weights, run.task)
    result = {
        **verdicts[run.panel[0].called],
        "teacher": " + ".join(combined),
        **comparison(joint, run.records.splits.validation, run.task),
        "passed": any(verdict["passed"] for verdict in verdicts.values()),
        "cost": asdict(reduce(add, (labelling.usage for labelling in labellings.values()))),
        "teachers": list(verdicts.values()),
        "used": used,
        "weights": weights,
        "between": teacher_agreement(run, labellings, responses),
    }
    run.folder.write_json("gate.json", result)
    return result


def teacher_agreement(
    run: Run, labellings: Mapping[str, Labelling], responses: Sequence[Response]
) -> dict[str, Any] | None:
    """Return the agreement among several teachers on responses, ready for JSON; None for one teacher."""
    if len(labellings) == 1:
        return None
    codings = {name: {row.id: row.label for row in labelling.labels} for name, labelling in labellings.items()}
    return inter_coder_agreement(codings, run.task, groups=groups_by_id(responses)).as_dict()


def groups_by_id(responses: Sequence[Response]) -> dict[str, str] | None:
    """Return the group of each response by id; None if no response has one."""
    groups = bootstrap_groups([response.group for response in responses])
    return dict(zip([response.id for response in responses], groups, strict=True)) if groups else None


def _verdict(run: Run, teacher: AnyTeacher, labelling: Labelling) -> dict[str, Any]:
    section = run.project.evaluation
    verdict = check_gate(
        teacher,
        labelling,
        run.records.splits.validation,
        run.task,
        coders=section.coders,
        epsilon=section.alt_test_epsilon,
    )
    source = run.teachers[teacher.called]
    return (
        verdict.as_dict()
        | {"accepted": run.accept_teacher, "cost": asdict(labelling.usage)}
        | ({"source": asdict(source.source)} if isinstance(source, ExistingLabels) else {})
    )


def _weight(run: Run, verdict: Mapping[str, Any]) -> float:
    """Return a teacher's weight in votes: 1, or its metric's value on the validation rows, at least 0."""
    if run.project.teachers_vote == "majority":
        return 1.0
    estimate = (verdict["agreement"] or {}).get(verdict["metric"])
    return max(0.0, float(estimate["value"])) if estimate else 0.0
