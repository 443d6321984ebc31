"""Medians over tasks for `label-source`, and the two differences that Pangakis and Wolken (2024) report."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from edgedistill.agreement import Estimate
from edgedistill.studies.designs.label_source import TEACHER_ITSELF
from edgedistill.studies.estimates import ConditionSummary, condition_difference
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.study_file import LabelSourceSection
from edgedistill.studies.tables import StudyTable, format_estimate, format_number

PUBLISHED_HUMAN_GAP = 0.039
PUBLISHED_TEACHER_GAP = 0.006


def medians_table(
    found: Sequence[ConditionSummary], section: LabelSourceSection, task_inputs: Mapping[str, TaskInputs]
) -> StudyTable:
    """Return medians over tasks of F1, precision and recall of each condition, on the `test` rows."""
    of_test = [each for each in found if each.first.predictions.test == "test"]
    conditions = list(dict.fromkeys(each.first.plan.condition for each in of_test))
    rows = []
    for name in conditions:
        members = [each for each in of_test if each.first.plan.condition == name]
        scores = (
            [each.f1 for each in members],
            [each.precision for each in members],
            [each.recall for each in members],
        )
        rows.append((name, str(len(members)), *map(_median, scores)))
    largest = max(section.teacher)
    notes = (
        "F1, precision and recall are of the positive label if the task names one, otherwise means over labels.",
        _gap(
            of_test,
            f"human {largest}",
            f"teacher {largest}",
            f"a median of {PUBLISHED_HUMAN_GAP} over 14 tasks",
            task_inputs,
        ),
        _gap(of_test, TEACHER_ITSELF, f"teacher {largest}", f"a median of {PUBLISHED_TEACHER_GAP}", task_inputs),
    )
    return StudyTable("Medians over tasks", ("condition", "tasks", "F1", "precision", "recall"), tuple(rows), notes)


def _gap(
    found: Sequence[ConditionSummary], better: str, worse: str, published: str, task_inputs: Mapping[str, TaskInputs]
) -> str:
    """The difference in F1 between two conditions for each task, compared with the published median."""
    differences: list[float] = []
    each: list[str] = []
    for task, inputs in task_inputs.items():
        lines = {one.first.plan.condition: one.lines for one in found if one.first.plan.task == task}
        if better not in lines or worse not in lines:
            continue
        difference = condition_difference(lines[better], lines[worse], inputs)
        if difference.f1:
            differences.append(difference.f1.value)
            each.append(
                format_number(difference.f1.value, signed=True)
                + (f" on {difference.coverage}" if difference.coverage else "")
            )
    what = f"F1 of {better!r} minus F1 of {worse!r}"
    if not differences:
        return f"{what}: no task has both."
    return (
        f"{what}: median {format_number(median(differences), signed=True)} over {len(differences)} tasks "
        f"({'; '.join(each)}); Pangakis and Wolken (2024) report {published}."
    )


def _median(estimates: Iterable[Estimate | None]) -> str:
    values = [each for each in estimates if each]
    if len(values) == 1:
        return format_estimate(values[0])
    return format_number(median(each.value for each in values)) if values else "-"
