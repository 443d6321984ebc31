"""The study file: its tasks, its seeds, and the factors that each kind of study varies.

Study
├── StudyTask          a project, optionally with recorded labels or synthetic rows instead of its teacher
├── StudyStudent       how every student of the study is trained
└── LabelSourceSection, RatioSection, TemperatureSection, ConsistencySection, TeachersSection
                       the factors of one kind of study; all optional
"""

import logging
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from edgedistill.project.reading import read_checked
from edgedistill.project.section import Count, File, Learning, Name, Rows, Section, Share

Kind: TypeAlias = Literal["label-source", "ratio", "temperature", "consistency", "teachers"]
Protocol: TypeAlias = Literal["corrected", "as-published"]
Sizes: TypeAlias = Annotated[tuple[Count, ...], Field(min_length=1, strict=False)]
PartShare: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Temperature: TypeAlias = Annotated[float, Field(ge=0, le=2)]

_log = logging.getLogger(__name__)

FEWEST_SEEDS = 3
_OLD_PROTOCOL = "mended"
"""The name of ``corrected`` in earlier versions; it is still read, with a deprecation note."""


class StudyTask(Section):
    """One task of a study; paths are relative to the study file."""

    project: File
    name: Name | None = None
    """Its name in tables. Default: the project's name."""
    texts: Literal["unlabelled", "train"] = "unlabelled"
    """Which responses the teacher labels: the project's unlabelled ones, or the train rows without their human codes,
    so that both label sources cover the same texts."""
    labels: dict[Name, File] = Field(default_factory=dict)
    """Recorded labels by teacher, in the format of `labels.jsonl`, instead of requests to the project's teacher."""
    synthetic: dict[Name, File] = Field(default_factory=dict)
    """Recorded synthetic rows by the model that generated them (columns of human-coded rows, and optionally
    `temperature` and `regraded`), instead of the project's section `generate`."""
    transfer: File | None = None
    """A second test set: more human-coded rows, for example of an item without train rows."""
    positive: str | None = None
    """The label whose F1, precision and recall are reported. Default: means over labels."""


class StudyStudent(Section):
    """How every student of a study is trained; replaces the settings of the projects."""

    backbone: Annotated[str, Field(min_length=1)] | None = None
    """`minilm`, a folder (relative to the study file), or a name on the Hub. Default: that of each project."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] | None = None
    learning_rate: Annotated[tuple[Learning, ...], Field(min_length=1, strict=False)] = (1e-4,)
    """With several values, the best on validation rows is selected for each student."""
    batch_size: Sizes = (8,)
    steps: Count = 300
    """Optimizer steps per student. The number of epochs follows from it: small training sets get more epochs."""
    min_epochs: Count = 3
    max_epochs: Count = 20


class LabelSourceSection(Section):
    """Human codes versus teacher labels (Pangakis and Wolken 2024)."""

    human: Sizes = (250, 1000)
    teacher: Sizes = (1000,)
    taught_by: Name | None = None
    """Name of the teacher. Default: the first one."""
    consistent_only: bool = True
    """Whether each teacher-labelled set is also run without the labels on which the votes differ."""
    frozen: bool = True
    """Whether each set is also run with a frozen encoder, a baseline that trains in seconds."""


class RatioSection(Section):
    """Shares of synthetic rows (Borchers et al. 2025, experiment 1)."""

    human: Sizes = (250,)
    shares: Annotated[tuple[PartShare, ...], Field(min_length=1, strict=False)] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
    """Synthetic share of the whole training set; the number of human rows is constant."""
    schedules: Annotated[tuple[Literal["mixed", "sequential"], ...], Field(min_length=1, strict=False)] = ("mixed",)
    """`mixed` trains a new student on each mixture; `sequential` continues training the human-only student, block by
    block."""
    block: Count = 25
    up_to: Count = 250
    """Total number of synthetic rows of a sequential student."""


class TemperatureSection(Section):
    """Synthetic rows generated at several temperatures (Borchers et al. 2025, experiment 2)."""

    temperatures: Annotated[tuple[Temperature, ...], Field(strict=False)] = ()
    """Default: those of the project's section `generate`, or of the recorded rows."""
    human: Count = 250
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5


class ConsistencySection(Section):
    """Thresholds of label consistency (Borchers et al. 2025, experiment 3)."""

    of: Literal["teacher", "synthetic"] = "teacher"
    """Teacher labels: the share of votes. Synthetic rows: whether the teacher gives them the intended label."""
    thresholds: Annotated[tuple[Share, ...], Field(min_length=1, strict=False)] = (0.0, 0.6, 0.8, 1.0)
    rows: Rows = "all"
    """Rows before the filter."""
    human: Annotated[int, Field(ge=0)] = 0
    """Human-coded rows in every condition."""
    taught_by: Name | None = None


class TeachersSection(Section):
    """Labels of the same texts by different teachers."""

    rows: Rows = 1000
    names: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    """Names of teachers. Default: all."""


class Study(Section):
    """A validated study file.

    Attributes:
        path: The study file; relative paths are relative to its folder.
    """

    name: Name
    tasks: Annotated[tuple[StudyTask, ...], Field(min_length=1, strict=False)]
    protocol: Protocol = "corrected"
    """`as-published` replicates the choices of Borchers et al. (2025), including the leak of test rows."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1, strict=False)] = (0, 1, 2)
    """With each seed, rows are sampled and a student is trained. One seed is a trial, and the tables say so."""
    validation: Literal["all"] | Count = "all"
    """Number of validation rows that select the epoch; fewer take less time."""
    student: StudyStudent = StudyStudent()
    label_source: LabelSourceSection = LabelSourceSection()
    ratio: RatioSection = RatioSection()
    temperature: TemperatureSection = TemperatureSection()
    consistency: ConsistencySection = ConsistencySection()
    teachers: TeachersSection = TeachersSection()
    path: Annotated[Path, Field(exclude=True)] = Path("study.yaml")

    @field_validator("protocol", mode="before")
    @classmethod
    def _rename_old_protocol(cls, value: object) -> object:
        if value == _OLD_PROTOCOL:
            _log.warning("edgedistill: the protocol %s is deprecated; use corrected", value)
            return "corrected"
        return value

    @model_validator(mode="after")
    def _enough_seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed occurs twice")
        if self.protocol == "corrected" and 1 < len(self.seeds) < FEWEST_SEEDS:
            raise ValueError(
                f"{len(self.seeds)} seeds cannot distinguish an effect from chance; give {FEWEST_SEEDS} or more, or "
                "one for a trial"
            )
        return self

    @property
    def is_trial(self) -> bool:
        """Whether the study has a single seed, which shows that it runs and nothing more."""
        return self.protocol == "corrected" and len(self.seeds) == 1

    @property
    def folder(self) -> Path:
        """The study file's folder."""
        return self.path.parent

    @property
    def run_folder(self) -> Path:
        """The folder for runs and tables: ``runs/NAME`` next to the study file."""
        return self.folder / "runs" / self.name


def read_study(path: Path) -> Study:
    """Read and check a study file.

    Raises:
        ProjectFileError: There is no such file, it is not valid YAML, or a key is unknown, missing or invalid.
    """
    return read_checked(path, Study, "docs/studies.md describes the format.")
