"""What `evaluation.json` and `gate.json` hold, as types; docs/evaluation.md says what the keys mean.

Evaluation           figures of the locked test rows
├── Agreement            by coding (edgedistill.agreement, as the ones below without a dash)
├── Probabilities
├── - Told               what calibration changes
├── - LabelThresholds    from which probability a label of a multilabel task holds
├── - Review             which scores go to a person: the rule, its Outcomes and Curves
├── - Hop                one step of the chain from the human coders to the served file
├── - Compared           two codings on the same rows
├── - HumanCeiling       human coders among themselves, and the student beside them
├── - GroupTable         subgroups
└── - Population         class shares of many responses
Gate                 the teachers on validation rows
└── Teacher              one of them
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgedistill.agreement import (
    Agreement,
    Change,
    Comparison,
    Estimate,
    InterCoderAgreement,
    PairwiseAgreement,
    Prevalence,
    ProbabilityMetrics,
    Subgroup,
)
from edgedistill.decisions import Calibration, RiskCoverageCurve, RuleOutcome
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.task import NO_LABEL


@dataclass(frozen=True, slots=True)
class Trust:
    """How good probabilities are."""

    log_loss: Estimate
    brier: Estimate
    ece: Estimate


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """The same probabilities as trained, and calibrated."""

    before: Trust
    after: Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(Calibration):
    """The temperature, and what it changes."""

    validation: BeforeAfter
    test: BeforeAfter


@dataclass(frozen=True, slots=True)
class Aim:
    """What the section `review` of the project file asks for."""

    aim: str
    at_least: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Curves:
    """Risk against coverage on both sides."""

    validation: RiskCoverageCurve
    test: RiskCoverageCurve


@dataclass(frozen=True, slots=True)
class Review:
    """Which scores go to a person, and what that does."""

    aim: Aim | None
    met: bool | None
    rule: ReviewRule
    least_chance: float | None
    label_shifts: Mapping[str, float]
    notes: Sequence[str]
    validation: RuleOutcome
    test: RuleOutcome
    risk_coverage: Curves


@dataclass(frozen=True, slots=True)
class LabelThresholds:
    """From which probability each label of a multilabel task holds, and its F1 on the rows that chose it."""

    values: Mapping[str, float]
    f1_on_validation: Mapping[str, float | None]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop(Change):
    """One step of the chain."""

    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Comparison):
    """Two codings by their names; `reference` is the human coder that both are compared with, where it is one."""

    first: str
    second: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Shift:
    """Precision and recall of a coding less those of another."""

    coding: str
    against: str
    rows: int
    average: str
    precision: Estimate | None
    recall: Estimate | None


@dataclass(frozen=True, slots=True)
class HumanCeiling:
    """Human coders among themselves, and the student beside each."""

    coders: Sequence[str]
    rows: int
    alpha: float | None
    pairs: Sequence[PairwiseAgreement]
    beside_humans: Sequence[Compared]


@dataclass(frozen=True, slots=True)
class GroupTable:
    """A coding in the groups of one column."""

    column: str
    coding: str
    smallest: int
    rows_without: int
    groups: Sequence[Subgroup]


@dataclass(frozen=True, slots=True, kw_only=True)
class Population(Prevalence):
    """Class shares of the responses of a file, each coded by people or by the student."""

    file: str
    set_aside: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """`evaluation.json`."""

    schema_version: int
    kind: str
    labels: Sequence[str]
    rows: int
    agreement: Mapping[str, Agreement]
    probabilities: ProbabilityMetrics
    calibration: Told
    review: Review
    chain: Sequence[Hop]
    comparisons: Sequence[Compared]
    shifts: Sequence[Shift]
    ceiling: HumanCeiling | None
    subgroups: Sequence[GroupTable]
    prevalence: Population | None
    predefined_split: bool
    test_texts_also_in_train_or_validation: int
    test_groups_also_in_train_or_validation: int
    positive: str | None = None
    teacher_set_aside: Sequence[Mapping[str, Any]] = ()
    between: InterCoderAgreement | None = None
    thresholds: LabelThresholds | None = None

    @property
    def student(self) -> Agreement:
        """The student against the human codes."""
        return self.agreement["student"]

    @property
    def kappa(self) -> str:
        """What κ is in this task, in words."""
        return {"ordinal": "quadratic weighted κ", "multilabel": "mean κ over labels"}.get(self.kind, "κ")

    @property
    def is_multilabel(self) -> bool:
        """Whether any number of labels may hold of a response."""
        return self.kind == "multilabel"

    @property
    def counted(self) -> Sequence[str]:
        """What training rows are counted by: the labels, of a multilabel task also that none holds."""
        return [*self.labels, NO_LABEL] if self.is_multilabel else self.labels


@dataclass(frozen=True, slots=True)
class Teacher:
    """A teacher at the gate; `passed` is the metric's lower end at or above `at_least`, `accepted` a person's word."""

    teacher: str
    metric: str
    at_least: float
    rows: int
    coded: int
    agreement: Agreement | None
    passed: bool
    accepted: bool

    @property
    def reached(self) -> Estimate | None:
        """The gate's metric; None where it is undefined or the teacher coded nothing."""
        found: Estimate | None = getattr(self.agreement, self.metric) if self.agreement else None
        return found


@dataclass(frozen=True, slots=True)
class Gate:
    """`gate.json`: every teacher, and which are used."""

    teachers: Sequence[Teacher]
    used: Sequence[str]
    between: InterCoderAgreement | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
