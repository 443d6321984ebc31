"""A project file as a whole, and what its sections require of each other."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.data import DataSection
from edgedistill.project.evaluation import EvaluationSection, ReviewSection
from edgedistill.project.outputs import ExportSection, ReportSection
from edgedistill.project.section import Name, Section
from edgedistill.project.student import StudentSection
from edgedistill.project.task import TaskSection
from edgedistill.project.teacher import AnyTeacher, TeacherForm, TeacherSection
from edgedistill.project.training_set import GenerateSection, MixSection


class Project(Section):
    """A project file, read and checked.

    Attributes:
        path: The file itself; every relative path starts from its folder.
    """

    name: Name
    task: TaskSection
    data: DataSection
    teacher: TeacherForm | None = None
    teachers: Annotated[tuple[TeacherForm, ...], Field(strict=False)] = ()
    """Several teachers, each with a name, instead of ``teacher``."""
    teachers_vote: Literal["majority", "gate_weighted"] = "majority"
    """How several teachers' labels are combined: equal weights, or weights by agreement at the gate."""
    generate: GenerateSection | None = None
    mix: MixSection = MixSection()
    student: StudentSection = StudentSection()
    evaluation: EvaluationSection = EvaluationSection()
    review: ReviewSection | None = None
    """The decision rule. Without it a label is accepted from a calibrated probability of .7 on."""
    export: ExportSection = ExportSection()
    report: ReportSection = ReportSection()
    track: Literal["mlflow", "wandb"] | None = None
    """Log settings, epochs, agreement and the bundle's hashes to MLflow or Weights & Biases, which are extras of the
    same names; texts are never logged."""
    path: Annotated[Path, Field(exclude=True)] = Path("project.yaml")

    @model_validator(mode="after")
    def _required_sections(self) -> Self:
        if self.generate and not self.panel:
            raise ValueError("generate needs a teacher section")
        if self.generate and not self.asked:
            raise ValueError(
                "generate needs a teacher with an endpoint, which writes the responses; labels that exist already "
                "write none"
            )
        if self.mix.has_synthetic and not self.generate:
            key = "mix.shares.synthetic" if self.mix.shares else "mix.synthetic_share"
            raise ValueError(f"{key} needs a generate section")
        if self.mix.min_confidence and not (self.panel and all(teacher.confidence for teacher in self.panel)):
            raise ValueError(
                "mix.min_confidence requires confidence: true in every teacher section, or its column for labels that "
                "exist already"
            )
        if self.student.loss.ordinal != "nominal" and self.task.kind != "ordinal":
            raise ValueError(f"student.loss.ordinal: {self.student.loss.ordinal} requires task.kind: ordinal")
        return self

    @model_validator(mode="after")
    def _one_label_per_response(self) -> Self:
        if self.task.kind != "multilabel":
            return self
        if self.generate:
            raise ValueError(
                "generate writes responses for one label, so it does not support multilabel tasks; remove it, or split "
                "the task into one nominal task per label"
            )
        if self.mix.balance == "per_label":
            raise ValueError(
                "mix.balance: per_label does not support multilabel tasks, whose rows may have several labels; use "
                "as_found"
            )
        if self.student.loss.class_weights != "none":
            raise ValueError(
                "student.loss.class_weights: balanced does not support multilabel tasks; remove it: each label has its "
                "own threshold, which accounts for label frequency"
            )
        if self.student.prior_correction is True:
            raise ValueError(
                "student.prior_correction does not support multilabel tasks; remove it: each label has its own "
                "threshold, chosen on the human codes"
            )
        if any(teacher.logprobs for teacher in self.asked):
            raise ValueError(
                "logprobs does not support multilabel tasks, for which the teacher returns a list; remove it and use "
                "several votes"
            )
        if any("confidence" in (teacher.ties, teacher.soft_labels) for teacher in self.panel):
            raise ValueError(
                "ties and soft_labels: confidence do not support multilabel tasks, for which the teacher states one "
                "confidence for the whole set of labels"
            )
        return self

    @model_validator(mode="after")
    def _known_positive(self) -> Self:
        names = self.task.task.names
        if self.evaluation.positive is not None and self.evaluation.positive not in names:
            raise ValueError(f"evaluation.positive is not a label; the labels are {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _groups_are_not_codes(self) -> Self:
        if self.review and self.review.groups in self.evaluation.coders:
            raise ValueError(
                f"review.groups: {self.review.groups} is a column of evaluation.coders, not of groups of learners"
            )
        return self

    @model_validator(mode="after")
    def _questions_are_known(self) -> Self:
        if self.data.questions != "held_out":
            return self
        if self.data.question_by is None and self.task.inputs == ("response",):
            raise ValueError(
                "data.questions: held_out needs each row's question; name its column in data.question_by, or add "
                "question to task.inputs"
            )
        if self.review and self.review.new_questions == "review":
            raise ValueError(
                "review.new_questions: review would send every response to a person, because with data.questions: "
                "held_out the validation rows answer other questions than the train rows; use accept"
            )
        return self

    @model_validator(mode="after")
    def _one_panel(self) -> Self:
        if self.teacher and self.teachers:
            raise ValueError("give either teacher or teachers, not both")
        if unnamed := [number for number, teacher in enumerate(self.teachers, 1) if teacher.name is None]:
            raise ValueError(f"teacher {unnamed[0]} in teachers has no name")
        if len({teacher.name for teacher in self.teachers}) < len(self.teachers):
            raise ValueError("two teachers have the same name")
        return self

    @property
    def panel(self) -> tuple[AnyTeacher, ...]:
        """All teachers: none, ``teacher`` alone, or ``teachers``."""
        return (self.teacher,) if self.teacher else self.teachers

    @property
    def asked(self) -> tuple[TeacherSection, ...]:
        """The teachers with an endpoint."""
        return tuple(each for each in self.panel if isinstance(each, TeacherSection))

    @property
    def folder(self) -> Path:
        """The project file's folder."""
        return self.path.parent

    @property
    def run_folder(self) -> Path:
        """The run folder: ``runs/NAME`` next to the project file."""
        return self.folder / "runs" / self.name
