"""The gate: does the teacher agree with the human coders on validation rows?"""

from dataclasses import asdict
from typing import Any

from edgedistill.agreement import agreement
from edgedistill.stages.run import Run


def gate(run: Run) -> dict[str, Any]:
    """Compare the teacher with the human codes of the validation rows and write `gate.json`.

    The teacher passes when the lower end of the metric's 95 % interval reaches `gate.at_least`. Rows that the teacher
    left uncoded (see `set_aside` in the file) are not in the metric.

    Returns:
        What `gate.json` holds; `passed` says whether the teacher may go on, `accepted` whether somebody overruled it.
    """
    rows = run.records.splits.validation
    labelling = run.ask_teacher(rows.responses, "gate: the teacher codes validation rows")
    by_teacher = {label.id: label.label for label in labelling.labels}
    coded = [row for row in rows if row.response.id in by_teacher]
    section = run.teacher.gate
    verdict: dict[str, Any] = {
        "teacher": run.teacher.model,
        "metric": section.metric,
        "at_least": section.at_least,
        "rows": len(rows),
        "coded": len(coded),
        "set_aside": [{"id": row.id, "reason": row.reason} for row in labelling.set_aside],
        "passed": False,
        "accepted": run.accept_teacher,
        "agreement": None,
        "cost": asdict(labelling.usage),
    }
    if coded:
        measured = agreement(
            [row.label for row in coded],
            [by_teacher[row.response.id] for row in coded],
            run.project.task.task,
            groups=groups_of([row.response.group for row in coded]),
        )
        estimate = {"kappa": measured.kappa, "accuracy": measured.accuracy, "macro_f1": measured.macro_f1}[
            section.metric
        ]
        verdict |= {
            "agreement": measured.as_dict(),
            "passed": estimate is not None and estimate.low >= section.at_least,
        }
    run.folder.write_json("gate.json", verdict)
    return verdict


def groups_of(groups: list[str | None]) -> list[str] | None:
    """The groups for a clustered bootstrap; None where a row has none, or where there is only one."""
    named = [group for group in groups if group is not None]
    return named if len(named) == len(groups) and len(set(named)) > 1 else None
