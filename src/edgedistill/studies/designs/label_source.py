"""Designs that compare label sources: human codes versus teacher labels, and one teacher versus another.

For each task: students trained on human codes and on teacher labels, a frozen encoder on the same rows, the
teacher-labelled rows without those on which the votes differ, and the teacher itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgedistill.mixing import teacher_rows
from edgedistill.project import MixSection
from edgedistill.studies.designs.drawing import RowSources, plan_run
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.study_file import LabelSourceSection, TeachersSection
from edgedistill.studies.types import Fact, RunPlan

TEACHER_ITSELF = "the teacher itself"


def plan_label_source(inputs: TaskInputs, section: LabelSourceSection, seeds: Sequence[int]) -> Iterator[RunPlan]:
    """Yield the plans of one task."""
    teacher, labels = next(iter(inputs.teacher_labels.items()))
    labelled = teacher_rows(labels.responses, labels.labels)
    yield RunPlan(inputs.name, TEACHER_ITSELF, "teacher", seeds[0], coder=teacher, facts={"teacher": teacher})
    for seed in seeds:
        for rows in section.human:
            sources = RowSources({"human": inputs.human}, MixSection(human=rows, teacher=0))
            on_human = plan_run(inputs, f"human {rows}", seed, sources, {"wanted": rows})
            yield from _also_frozen(on_human, section)
        for rows in section.teacher:
            sources = RowSources({"teacher": labelled}, MixSection(human=0, teacher=rows))
            facts: dict[str, Fact] = {"wanted": rows, "teacher": teacher}
            on_labels = plan_run(inputs, f"teacher {rows}", seed, sources, facts, reference=TEACHER_ITSELF)
            yield from _also_frozen(on_labels, section)
            if section.consistent_only:
                yield _consistent(on_labels)


def _also_frozen(plan: RunPlan, section: LabelSourceSection) -> Iterator[RunPlan]:
    yield plan
    if section.frozen:
        yield replace(plan, condition=f"{plan.condition}, frozen", learner="frozen")


def _consistent(plan: RunPlan) -> RunPlan:
    """The same plan without the rows on which the votes differ."""
    kept = tuple(row for row in plan.rows if float(row.lineage["consistency"]) == 1.0)
    condition = f"{plan.condition}, consistent only"
    return replace(
        plan,
        condition=condition,
        rows=kept,
        reference=plan.condition,
        facts={**plan.facts, "min_consistency": 1.0},
        missing=plan.missing or ("" if kept else "no label is consistent"),
    )


def plan_teachers(inputs: TaskInputs, section: TeachersSection, seeds: Sequence[int]) -> Iterator[RunPlan]:
    """Yield the plans of one task: each teacher, and students trained on its labels.

    Only texts labelled by every teacher are sampled, so that all students are trained on the same texts. If the texts
    have human codes, students trained on these codes are added for comparison.
    """
    teachers = inputs.teacher_labels
    shared = set.intersection(*({label.id for label in each.labels} for each in teachers.values()))
    for name in teachers:
        yield RunPlan(inputs.name, f"{name} itself", "teacher", seeds[0], coder=name, facts={"teacher": name})
    human = [row for row in inputs.human if row.id in shared]
    for seed in seeds:
        if human:
            sources = RowSources({"human": human}, MixSection(human=section.rows, teacher=0))
            yield plan_run(inputs, "trained on human codes", seed, sources, {"teacher": "human"})
        for name, each in teachers.items():
            labels = [label for label in each.labels if label.id in shared]
            sources = RowSources(
                {"teacher": teacher_rows(each.responses, labels)}, MixSection(human=0, teacher=section.rows)
            )
            reference = "trained on human codes" if human else ""
            yield plan_run(
                inputs, f"trained on labels of {name}", seed, sources, {"teacher": name}, reference=reference
            )
