"""Everything that a report is made from, as the run folder holds it.

Material
├── Evaluation, Gate     evaluation.json, gate.json (evaluation.py)
├── Journal              run.json: versions, rows, what each stage noted, what was spent
├── ScoredRow            a line of test_scores.csv
├── TeacherVote          what a line of labels.jsonl says of its votes
├── Table                trials.csv
├── StudyRun             a line of a study's runs.csv
└── BundleFacts          what the bundle says of itself
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgedistill.records import Account
from edgedistill.report.evaluation import Evaluation, Gate
from edgedistill.teacher.ledger import Spent


@dataclass(frozen=True, slots=True)
class Journal:
    """`run.json`."""

    versions: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Account] = ()
    notes: Sequence[str] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spending: Mapping[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One test row: codes, how sure the model is of its own, and whether a person sees it."""

    id: str
    human: str
    student: str
    probability: float
    decision: str
    reason: str
    teacher: str


@dataclass(frozen=True, slots=True)
class TeacherVote:
    """The label that a teacher gave one response, and the share of its votes for it."""

    label: str
    consistency: float


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file of the run folder."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __iter__(self) -> Any:
        """Yield each row by column."""
        return (dict(zip(self.header, row, strict=True)) for row in self.rows)


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One student of a study on one set of test rows."""

    study: str
    task: str
    learner: str
    test: str
    synthetic_share: float | None
    macro_f1: float
    leak: str


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """What the bundle says of itself.

    Attributes:
        version: Its version.
        precision: The graph that is served.
        bytes: Of that graph.
        same_figures: Whether its model card stands on the same figures as the report.
    """

    version: str
    precision: str
    bytes: int
    same_figures: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a report is made from.

    Attributes:
        name: The project's name.
        project_file: Its file's name.
        definitions: By label, in codebook order.
        instructions: The codebook's text.
        votes: Of the responses that the teacher coded for training; empty without labels.
        generation: `generation.json`; None where nothing was generated.
        shrinking: `shrinking.json`; None without a smaller student.
        examples: How many wrongly coded responses are shown with their texts.
        texts: By a test row's id its inputs; of the rows that may be shown.
        study: Runs of a study that is shown too.
    """

    name: str
    project_file: str
    definitions: Mapping[str, str]
    instructions: str
    evaluation: Evaluation
    gate: Gate | None
    journal: Journal
    scores: Sequence[ScoredRow]
    votes: Sequence[TeacherVote] = ()
    trials: Table | None = None
    generation: Mapping[str, Any] | None = None
    shrinking: Mapping[str, Any] | None = None
    bundle: BundleFacts | None = None
    examples: int = 0
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    study: Sequence[StudyRun] = ()
