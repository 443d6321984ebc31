"""The project file as a whole; what is left out has the default that its section states.

task_section.py      what is coded
data_section.py      the files
teacher_section.py   the LLM
generate_section.py  the responses that it writes
mix_section.py       what the student learns from
student_section.py   how it learns
evaluation_section.py what is reported of it, and which of its scores people look at
export_section.py    the bundle
report_section.py    what the report shows beyond figures
field_types.py       what sections are made of
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.data_section import DataSection, SplitSection
from edgedistill.project.evaluation_section import EvaluationSection, ReviewSection
from edgedistill.project.export_section import ExportSection
from edgedistill.project.field_types import Name, Section
from edgedistill.project.generate_section import GenerateSection
from edgedistill.project.mix_section import MixSection, SharesSection
from edgedistill.project.report_section import ReportSection
from edgedistill.project.student_section import SearchSection, StudentSection
from edgedistill.project.task_section import LabelSection, RedactSection, TaskSection
from edgedistill.project.teacher_section import BudgetSection, GateSection, PricesSection, TeacherSection

__all__ = [
    "BudgetSection",
    "DataSection",
    "EvaluationSection",
    "ExportSection",
    "GateSection",
    "GenerateSection",
    "LabelSection",
    "MixSection",
    "PricesSection",
    "Project",
    "RedactSection",
    "ReportSection",
    "ReviewSection",
    "SearchSection",
    "SharesSection",
    "SplitSection",
    "StudentSection",
    "TaskSection",
    "TeacherSection",
]


class Project(Section):
    """A project file, read and checked.

    Attributes:
        path: The file itself; every relative path starts from its folder.
    """

    name: Name
    task: TaskSection
    data: DataSection
    teacher: TeacherSection | None = None
    teachers: Annotated[tuple[TeacherSection, ...], Field(strict=False)] = ()
    """Several teachers, each with a name, in the place of one."""
    teachers_vote: Literal["majority", "gate_weighted"] = "majority"
    """How several teachers make one label: each counts the same, or by its agreement at the gate."""
    generate: GenerateSection | None = None
    mix: MixSection = MixSection()
    student: StudentSection = StudentSection()
    evaluation: EvaluationSection = EvaluationSection()
    review: ReviewSection | None = None
    """Without it no threshold is chosen: only blank and truncated responses go to people."""
    export: ExportSection = ExportSection()
    report: ReportSection = ReportSection()
    path: Annotated[Path, Field(exclude=True)] = Path("project.yaml")

    @model_validator(mode="after")
    def _sections_that_need_others(self) -> Self:
        if self.generate and not self.panel:
            raise ValueError("generate needs the section teacher, who writes")
        if self.mix.wants_synthetic and not self.generate:
            key = "mix.shares.synthetic" if self.mix.shares else "mix.synthetic_share"
            raise ValueError(f"{key} needs the section generate")
        if self.student.objective.scale != "nominal" and self.task.kind != "ordinal":
            raise ValueError(f"student.objective.scale: {self.student.objective.scale} needs task.kind: ordinal")
        return self

    @model_validator(mode="after")
    def _one_label_per_response(self) -> Self:
        if self.task.kind != "multilabel":
            return self
        if self.generate:
            raise ValueError(
                "generate writes responses of one label, and those of a multilabel task may have several; leave "
                "generate out, or make a nominal task of each label"
            )
        if self.mix.balance == "per_label":
            raise ValueError(
                "mix.balance: per_label counts a row for one label, and one of a multilabel task may have several; use "
                "as_found"
            )
        if self.student.objective.class_weights != "none":
            raise ValueError(
                "student.objective.class_weights: balanced needs one label per response; leave it out: each label of a "
                "multilabel task has a threshold of its own, which heeds how frequent the label is"
            )
        if any(teacher.logprobs for teacher in self.panel):
            raise ValueError(
                "logprobs reads how probable one label is, and the teacher of a multilabel task gives a list; leave it "
                "out, and let several votes give the shares"
            )
        return self

    @model_validator(mode="after")
    def _known_positive(self) -> Self:
        names = self.task.task.names
        if self.evaluation.positive is not None and self.evaluation.positive not in names:
            raise ValueError(f"evaluation.positive is no label; labels are {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _one_panel(self) -> Self:
        if self.teacher and self.teachers:
            raise ValueError("give teacher or teachers, not both")
        if unnamed := [number for number, teacher in enumerate(self.teachers, 1) if teacher.name is None]:
            raise ValueError(f"teacher {unnamed[0]} of teachers has no name")
        if len({teacher.name for teacher in self.teachers}) < len(self.teachers):
            raise ValueError("two teachers have the same name")
        return self

    @property
    def panel(self) -> tuple[TeacherSection, ...]:
        """Every teacher: none, the one of ``teacher``, or those of ``teachers``."""
        return (self.teacher,) if self.teacher else self.teachers

    @property
    def folder(self) -> Path:
        """The project file's folder."""
        return self.path.parent

    @property
    def run_folder(self) -> Path:
        """Where the stages write: ``runs/NAME`` beside the project file."""
        return self.folder / "runs" / self.name
