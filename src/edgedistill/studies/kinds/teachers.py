"""The same students under different teachers: the same texts, labelled by each."""

from collections.abc import Iterator, Sequence

from edgedistill.mixture import teacher_rows
from edgedistill.project import MixSection
from edgedistill.studies.kinds.drawing import Draw, plan_of
from edgedistill.studies.material import Material
from edgedistill.studies.sections import TeachersSection
from edgedistill.studies.types import Plan


def teachers_plans(material: Material, section: TeachersSection, seeds: Sequence[int]) -> Iterator[Plan]:
    """Yield the plans of one task: for each teacher its students, and itself.

    Only texts that every teacher coded are drawn from, so that all students read the same ones; and where the texts
    have human codes, students that learn from those stand beside them.
    """
    taught = material.taught
    shared = set.intersection(*({label.id for label in each.labels} for each in taught.values()))
    for name in taught:
        yield Plan(material.name, f"{name} itself", "teacher", seeds[0], coder=name, facts={"teacher": name})
    human = [row for row in material.human if row.id in shared]
    for seed in seeds:
        if human:
            draw = Draw({"human": human}, MixSection(human=section.rows, teacher=0))
            yield plan_of(material, "taught by human codes", seed, draw, {"teacher": "human"})
        for name, each in taught.items():
            labels = [label for label in each.labels if label.id in shared]
            draw = Draw({"teacher": teacher_rows(each.responses, labels)}, MixSection(human=0, teacher=section.rows))
            reference = "taught by human codes" if human else ""
            yield plan_of(material, f"taught by {name}", seed, draw, {"teacher": name}, reference=reference)
