"""The study file: which tasks, how often, and what each kind of study varies.

Study
├── StudyTask          a project, and recorded labels or responses in the place of its teacher
├── StudyStudent       how every student of the study is trained
└── LabelSourceSection, RatioSection, TemperatureSection, ConsistencySection, TeachersSection
                       what one kind of study varies; each may be left out
"""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from edgedistill.project.reading import read_checked
from edgedistill.project.schema import Count, File, Learning, Name, Rows, Section, Share

Kind: TypeAlias = Literal["label-source", "ratio", "temperature", "consistency", "teachers"]
Protocol: TypeAlias = Literal["corrected", "as-published"]
Sizes: TypeAlias = Annotated[tuple[Count, ...], Field(min_length=1, strict=False)]
PartShare: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Temperature: TypeAlias = Annotated[float, Field(ge=0, le=2)]

FEWEST_SEEDS = 3


class StudyTask(Section):
    """One task of a study; paths are relative to the study file."""

    project: File
    name: Name | None = None
    """What tables call it; else the project's name stands there."""
    texts: Literal["unlabelled", "train"] = "unlabelled"
    """Which responses the teacher labels: the project's unlabelled ones, or the train rows, whose human codes are then
    put aside: both label sources stand on the same texts."""
    labels: dict[Name, File] = Field(default_factory=dict)
    """Recorded labels in the form of a run folder's `labels.jsonl`, by teacher, in the place of asking one."""
    synthetic: dict[Name, File] = Field(default_factory=dict)
    """Recorded synthetic rows (columns of human-coded rows, and `temperature`, `regraded` where there are any), by who
    wrote them, in the place of the project's section `generate`."""
    transfer: File | None = None
    """More human-coded rows, such as those of an item that no train row belongs to: a second test set."""
    positive: str | None = None
    """The label whose F1, precision and recall are told; else the mean over labels is."""


class StudyStudent(Section):
    """How every student of a study is trained, in the place of the projects' own settings."""

    backbone: Annotated[str, Field(min_length=1)] | None = None
    """`minilm`, a folder (relative to the study file), or a name on the Hub; else each project's own."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] | None = None
    learning_rate: Annotated[tuple[Learning, ...], Field(min_length=1, strict=False)] = (1e-4,)
    """Several values are tried for each student, and validation rows choose."""
    batch_size: Sizes = (8,)
    steps: Count = 300
    """A student makes as many epochs as these optimizer steps take, so that few rows are seen more often."""
    min_epochs: Count = 3
    max_epochs: Count = 20


class LabelSourceSection(Section):
    """Human codes beside teacher labels (Pangakis and Wolken 2024)."""

    human: Sizes = (250, 1000)
    teacher: Sizes = (1000,)
    taught_by: Name | None = None
    """The teacher's name; else the first one."""
    consistent_only: bool = True
    """Whether each teacher-labelled set is tried again without the labels on which the votes differ."""
    frozen: bool = True
    """Whether each set is tried with a frozen encoder as well: a baseline that takes seconds."""


class RatioSection(Section):
    """Human rows beside synthetic ones (Borchers et al. 2025, experiment 1)."""

    human: Sizes = (250,)
    shares: Annotated[tuple[PartShare, ...], Field(min_length=1, strict=False)] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
    """Of the duplicate_key training set; the human rows stay as many."""
    schedules: Annotated[tuple[Literal["mixed", "sequential"], ...], Field(min_length=1, strict=False)] = ("mixed",)
    """`mixed` trains on each mixture anew; `sequential` goes on from the human-only student, block by block."""
    block: Count = 25
    up_to: Count = 250
    """Synthetic rows that a sequential student is shown in the end."""


class TemperatureSection(Section):
    """Synthetic rows written at several temperatures (Borchers et al. 2025, experiment 2)."""

    temperatures: Annotated[tuple[Temperature, ...], Field(strict=False)] = ()
    """Else those of the project's section `generate`, or of the recorded rows."""
    human: Count = 250
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5


class ConsistencySection(Section):
    """Less consistent labels are left out (Borchers et al. 2025, experiment 3)."""

    of: Literal["teacher", "synthetic"] = "teacher"
    """Teacher labels by the share of votes for them; synthetic rows by whether the teacher codes them as intended."""
    thresholds: Annotated[tuple[Share, ...], Field(min_length=1, strict=False)] = (0.0, 0.6, 0.8, 1.0)
    rows: Rows = "all"
    """Rows before the filter."""
    human: Annotated[int, Field(ge=0)] = 0
    """Human-coded rows that are always there."""
    taught_by: Name | None = None


class TeachersSection(Section):
    """The same students under different teachers."""

    rows: Rows = 1000
    names: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    """Some of the teachers; else all."""


class Study(Section):
    """A study file, read and checked.

    Attributes:
        path: The file itself; every relative path starts from its folder.
    """

    name: Name
    tasks: Annotated[tuple[StudyTask, ...], Field(min_length=1, strict=False)]
    protocol: Protocol = "corrected"
    """`as-published` repeats the choices of Borchers et al. (2025), leaks included."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1, strict=False)] = (0, 1, 2)
    """Each draws its own rows and trains its own student."""
    validation: Literal["all"] | Count = "all"
    """Validation rows that choose the epoch; fewer take less time."""
    student: StudyStudent = StudyStudent()
    label_source: LabelSourceSection = LabelSourceSection()
    ratio: RatioSection = RatioSection()
    temperature: TemperatureSection = TemperatureSection()
    consistency: ConsistencySection = ConsistencySection()
    teachers: TeachersSection = TeachersSection()
    path: Annotated[Path, Field(exclude=True)] = Path("study.yaml")

    @model_validator(mode="after")
    def _enough_seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice")
        if self.protocol == "corrected" and len(self.seeds) < FEWEST_SEEDS:
            raise ValueError(
                f"{len(self.seeds)} seeds cannot tell an effect from chance; give {FEWEST_SEEDS} or more, or repeat "
                "the papers' single seed with protocol: as-published"
            )
        return self

    @property
    def folder(self) -> Path:
        """The study file's folder."""
        return self.path.parent

    @property
    def run_folder(self) -> Path:
        """Where runs and tables are written: ``runs/NAME`` beside the study file."""
        return self.folder / "runs" / self.name


def read_study(path: Path) -> Study:
    """Read and check a study file.

    Raises:
        ProjectFileError: There is no such file, it is no YAML, or a key is unknown, missing or impossible.
    """
    return read_checked(path, Study, "docs/studies.md shows how to write one.")
