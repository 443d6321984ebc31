"""The designs that compare who labelled the training rows: people or teachers, one teacher or another.

For each task: students on so many human codes and on so many teacher labels, a frozen encoder on the same rows, the
teacher-labelled rows again without those on which the votes differ, and the teacher itself.
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
    teacher, taught = next(iter(inputs.taught.items()))
    labelled = teacher_rows(taught.responses, taught.labels)
    yield RunPlan(inputs.name, TEACHER_ITSELF, "teacher", seeds[0], coder=teacher, facts={"teacher": teacher})
    for seed in seeds:
        for rows in section.human:
            draw = RowSources({"human": inputs.human}, MixSection(human=rows, teacher=0))
            on_human = plan_run(inputs, f"human {rows}", seed, draw, {"wanted": rows})
            yield from _also_frozen(on_human, section)
        for rows in section.teacher:
            draw = RowSources({"teacher": labelled}, MixSection(human=0, teacher=rows))
            facts: dict[str, Fact] = {"wanted": rows, "teacher": teacher}
            on_labels = plan_run(inputs, f"teacher {rows}", seed, draw, facts, reference=TEACHER_ITSELF)
            yield from _also_frozen(on_labels, section)
            if section.consistent_only:
                yield _consistent(on_labels)


def _also_frozen(plan: RunPlan, section: LabelSourceSection) -> Iterator[RunPlan]:
    yield plan
    if section.frozen:
        yield replace(plan, condition=f"{plan.condition}, frozen", learner="frozen")


def _consistent(plan: RunPlan) -> RunPlan:
    """The same rows without those on which the votes differ."""
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
    """Yield the plans of one task: for each teacher its students, and itself.

    Only texts that every teacher coded are drawn from, so that all students read the same ones; and where the texts
    have human codes, students that learn from those stand beside them.
    """
    taught = inputs.taught
    shared = set.intersection(*({label.id for label in each.labels} for each in taught.values()))
    for name in taught:
        yield RunPlan(inputs.name, f"{name} itself", "teacher", seeds[0], coder=name, facts={"teacher": name})
    human = [row for row in inputs.human if row.id in shared]
    for seed in seeds:
        if human:
            draw = RowSources({"human": human}, MixSection(human=section.rows, teacher=0))
            yield plan_run(inputs, "taught by human codes", seed, draw, {"teacher": "human"})
        for name, each in taught.items():
            labels = [label for label in each.labels if label.id in shared]
            draw = RowSources(
                {"teacher": teacher_rows(each.responses, labels)}, MixSection(human=0, teacher=section.rows)
            )
            reference = "taught by human codes" if human else ""
            yield plan_run(inputs, f"taught by {name}", seed, draw, {"teacher": name}, reference=reference)
