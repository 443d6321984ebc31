"""Medians over tasks of `label-source`, and the two gaps that Pangakis and Wolken report."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from edgedistill.agreement import Estimate
from edgedistill.studies.designs.label_source import TEACHER_ITSELF
from edgedistill.studies.estimates import ConditionSummary, difference_to
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.study_file import LabelSourceSection
from edgedistill.studies.tables import StudyTable, figure, told

PUBLISHED_HUMAN_GAP = 0.039
PUBLISHED_TEACHER_GAP = 0.006


def medians_table(
    found: Sequence[ConditionSummary], section: LabelSourceSection, task_inputs: Mapping[str, TaskInputs]
) -> StudyTable:
    """Return medians over tasks of F1, precision and recall of each condition, on the first test rows."""
    of_test = [each for each in found if each.first.scored.test == "test"]
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
        "F1, precision and recall of the positive label where the task names one, else means over labels.",
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
    """How much F1 one condition is above the other, task by task, beside the published median."""
    gaps: list[float] = []
    each: list[str] = []
    for task, inputs in task_inputs.items():
        lines = {one.first.plan.condition: one.lines for one in found if one.first.plan.task == task}
        if better not in lines or worse not in lines:
            continue
        gain = difference_to(lines[better], lines[worse], inputs)
        if gain.f1:
            gaps.append(gain.f1.value)
            each.append(figure(gain.f1.value, signed=True) + (f" on {gain.part}" if gain.part else ""))
    what = f"F1 of {better!r} less F1 of {worse!r}"
    if not gaps:
        return f"{what}: no task has both."
    return (
        f"{what}: median {figure(median(gaps), signed=True)} over {len(gaps)} tasks ({'; '.join(each)}); "
        f"Pangakis and Wolken (2024) report {published}."
    )


def _median(estimates: Iterable[Estimate | None]) -> str:
    values = [each for each in estimates if each]
    if len(values) == 1:
        return told(values[0])
    return figure(median(each.value for each in values)) if values else "-"
