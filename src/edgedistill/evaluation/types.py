"""What `evaluation.json`, `fidelity.json` and `gate.json` hold, as types; docs/evaluation.md explains the keys.

Evaluation           the figures of the locked test rows, which `evaluate` computes and nothing changes afterwards
ServedFigures        the served graph's figures on the test rows
Fidelity             what the conversion from the trained student to the served file costs, which `export` measures
Gate                 the teachers on validation rows
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from edgedistill.agreement import (
    Agreement,
    AltTest,
    CertaintyMetrics,
    Change,
    Comparison,
    Estimate,
    InterCoderAgreement,
    PairwiseAgreement,
    Prevalence,
    ProbabilityMetrics,
    Subgroup,
    agreement_html,
    agreement_table,
)
from edgedistill.data.types import LabelSource, SetAside
from edgedistill.decisions import Calibration, RiskCoverageCurve, RuleOutcome
from edgedistill.displays import plain_text
from edgedistill_serve.bundle.guarantee import Guarantee
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.task import NO_LABEL

EVALUATION_VERSION = 5
"""`schema_version` of `evaluation.json`: raised when a key is removed or changes its meaning."""
FIDELITY_VERSION = 2
"""`schema_version` of `fidelity.json`."""
PYTORCH = "PyTorch"
"""What steps call the trained student, here as in `edgedistill_export`."""


@dataclass(frozen=True, slots=True)
class ProbabilityQuality:
    """How good probabilities are."""

    log_loss: Estimate
    brier: Estimate
    ece: Estimate


@dataclass(frozen=True, slots=True)
class CalibrationEffect:
    """The quality of the same probabilities before and after calibration."""

    before: ProbabilityQuality
    after: ProbabilityQuality


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFigures(Calibration):
    """The temperature and its effect on both splits; `validation` is the split that it was fitted on."""

    validation: CalibrationEffect
    test: CalibrationEffect


@dataclass(frozen=True, slots=True)
class StatedAim:
    """The section `review` of the project file."""

    aim: str
    at_least: float | None = None
    share: float | None = None
    confidence: float | None = None
    per_label: bool = False
    groups: str | None = None


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Risk against coverage on both splits."""

    validation: RiskCoverageCurve
    test: RiskCoverageCurve


@dataclass(frozen=True, slots=True)
class QuestionFigures:
    """For which questions a decision rule was shown, and what it would do with others.

    Attributes:
        questions: Number of different questions of the validation rows.
        validation_rows: Number of validation rows.
        closed: Whether the questions are a closed set; otherwise nearly every row has its own.
        reviewed: Whether responses to other questions go to a person.
        rows: Test rows with a question that no validation row has; 0 for open questions.
        outcome: Effect of the rule on these rows if their questions were known; None without such rows.
    """

    questions: int
    validation_rows: int
    closed: bool
    reviewed: bool
    rows: int
    outcome: RuleOutcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedComparison(Comparison):
    """Two codings by their names; `reference` is the human coder that both are compared with, if it is a single one."""

    first: str
    second: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class QuestionPart:
    """Test rows that answer known or unknown questions.

    Attributes:
        rows: Number of rows.
        questions: Number of different questions.
        agreement: By coding, its agreement with the human codes; on unknown questions with intervals over questions.
        review: The outcome of the decision rule.
        comparisons: The student against every other coding, paired.
    """

    rows: int
    questions: int
    agreement: Mapping[str, Agreement]
    review: RuleOutcome
    comparisons: tuple[NamedComparison, ...] = ()


@dataclass(frozen=True, slots=True)
class QuestionAgreement:
    """The student on the test rows of one question.

    Attributes:
        question: As in `Response.question`.
        known: Whether it has training rows.
        rows: Number of test rows.
        accepted: How many the decision rule accepts.
        accuracy: Share of the rows with the human code.
        kappa: κ with the human codes; None if it is undefined.
    """

    question: str
    known: bool
    rows: int
    accepted: int
    accuracy: Estimate
    kappa: Estimate | None


@dataclass(frozen=True, slots=True)
class QuestionTable:
    """Agreement on the questions that the student was trained on, and on others.

    Attributes:
        held_out: Whether the project holds whole questions out: epoch, calibration and decision rule are then chosen on
            unknown questions.
        validation_rows_of_known: Validation rows whose question the student was trained on.
        validation_rows_of_unknown: The other validation rows.
        validation_questions: Number of different questions of validation rows.
        known: Test rows whose question the student was trained on; None without such rows.
        unknown: The other test rows; None without such rows.
        by_question: One line per question of the test rows, the least accuracy first; empty in older files.
    """

    held_out: bool
    validation_rows_of_known: int
    validation_rows_of_unknown: int
    validation_questions: int
    known: QuestionPart | None
    unknown: QuestionPart | None
    by_question: tuple[QuestionAgreement, ...] = ()


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """The decision rule, which validation rows chose, and its outcome on both splits.

    Attributes:
        aim: What the project file asks for; None without a section `review`.
        met: Whether validation rows could meet the aim; None without one.
        rule: What the bundle holds.
        least_chance: The least estimated probability of being right that is accepted; None without a threshold.
        label_shifts: By label, what is added to its probability to estimate that.
        notes: What a reader must know.
        questions: For which questions the rule was shown; None for a task without questions.
        guarantee: What is promised of the accepted responses; None if nothing is.
        labels_tested: For a promise that holds for each label: the number of labels among which the level of the tests
            was divided; else 0.
    """

    aim: StatedAim | None
    met: bool | None
    rule: ReviewRule
    least_chance: float | None
    label_shifts: Mapping[str, float]
    notes: tuple[str, ...]
    validation: RuleOutcome
    test: RuleOutcome
    risk_coverage: RiskCoverage
    questions: QuestionFigures | None = None
    guarantee: Guarantee | None = None
    labels_tested: int = 0


@dataclass(frozen=True, slots=True)
class LabelThresholds:
    """For a multilabel task: the probability from which each label is predicted, and its F1 on the validation rows."""

    values: Mapping[str, float]
    f1_on_validation: Mapping[str, float | None]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityStep(Change):
    """From one form of the classifier to the next, on test rows."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ValidationStep:
    """The same on the validation rows, which decide whether a form is served."""

    before: str
    after: str
    rows: int
    flips: int
    flip_rate: float
    max_probability_difference: float


@dataclass(frozen=True, slots=True)
class PrecisionRecallShift:
    """Precision and recall of a coding less those of another."""

    coding: str
    against: str
    rows: int
    average: str
    precision: Estimate | None
    recall: Estimate | None


@dataclass(frozen=True, slots=True)
class InterCoderFigures:
    """Agreement among human coders, and of the student with each of them.

    Attributes:
        alt_test: The alternative annotator test of the student; None without three coders that can be tested.
        alt_test_note: Why there is no such test although three coders are named; otherwise empty.
        notes: What makes the agreement of the coders undefined or of little value.
    """

    coders: tuple[str, ...]
    rows: int
    alpha: float | None
    pairs: tuple[PairwiseAgreement, ...]
    beside_humans: tuple[NamedComparison, ...]
    alt_test: AltTest | None = None
    alt_test_note: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubgroupTable:
    """One coding in the groups of one column."""

    column: str
    coding: str
    smallest: int
    rows_without: int
    groups: tuple[Subgroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationPrevalence(Prevalence):
    """Label shares of the responses of a file, each coded by people or by the student."""

    file: str
    read: int
    set_aside: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TwinFigures:
    """Rows that repeat a row from which the student learned or by which it was chosen, and agreement without them.

    Attributes:
        near: Test rows that are nearly the same as a train or validation row, and the same as none.
        validation_same: Validation rows that are the same to the student as a train row.
        validation_near: Validation rows that are nearly the same as one, and the same as none.
        without_same: By coding, its agreement on the test rows that are the same as none; empty if there are no twins,
            or no other rows.
        without_near: By coding, its agreement on the test rows that are neither the same as one nor nearly; empty
            likewise.
        copies: Test rows that are the same to the student as an earlier test row; 0 in older files.
    """

    near: int
    validation_same: int
    validation_near: int
    without_same: Mapping[str, Agreement]
    without_near: Mapping[str, Agreement]
    copies: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Evaluation:
    """The figures of the locked test rows: student, teachers and baselines against the human codes.

    Its repr is a table, with confidence intervals. A figure that is undefined is None.

    Attributes:
        schema_version: `EVALUATION_VERSION`.
        kind: ``nominal``, ``ordinal`` or ``multilabel``.
        labels: In codebook order.
        positive: The label of binary figures, if the project file names one.
        rows: Test rows.
        predefined_split: Whether the data file's own column made the splits.
        test_texts_also_in_train_or_validation: Test rows that are the same to the student as a row there, with question
            and reference answer.
        test_groups_also_in_train_or_validation: Groups with rows on both sides.
        twins: Rows that are nearly the same, those of the validation split, and the agreement without them.
        teacher_set_aside: Test rows that the teachers left uncoded; empty without a teacher.
        between: Agreement among several teachers; None for one or none.
        agreement: By coding (``student``, ``teacher``, baselines), its agreement with the human codes.
        probabilities: The student's calibrated probabilities.
        calibration: The temperature and its effect.
        thresholds: For a multilabel task, the probability from which each label is predicted; else None.
        review: The decision rule and its outcome.
        distillation: From the teacher's labels to the student's; None without a teacher.
        comparisons: The student against every other coding, paired.
        shifts: Precision and recall against the human-trained student; empty without one.
        human_agreement: Agreement among human coders; None if the project file names no columns of single coders.
        subgroups: One table per column and coding.
        prevalence: Label shares of a population, corrected for the student's errors; None without one.
        questions: Known and unknown questions apart; None without questions, where nearly every row has its own, and in
            older files.
    """

    schema_version: int
    kind: str
    labels: tuple[str, ...]
    positive: str | None
    rows: int
    predefined_split: bool
    test_texts_also_in_train_or_validation: int
    test_groups_also_in_train_or_validation: int
    twins: TwinFigures
    teacher_set_aside: tuple[SetAside, ...]
    between: InterCoderAgreement | None
    agreement: Mapping[str, Agreement]
    probabilities: ProbabilityMetrics
    calibration: CalibrationFigures
    thresholds: LabelThresholds | None
    review: DecisionRule
    distillation: FidelityStep | None
    comparisons: tuple[NamedComparison, ...]
    shifts: tuple[PrecisionRecallShift, ...]
    human_agreement: InterCoderFigures | None
    subgroups: tuple[SubgroupTable, ...]
    prevalence: PopulationPrevalence | None
    questions: QuestionTable | None = None

    @property
    def held_out(self) -> QuestionPart | None:
        """The test rows of unknown questions, if the project holds whole questions out: the verdict rests on them."""
        return self.questions.unknown if self.questions and self.questions.held_out else None

    @property
    def decisive(self) -> Agreement:
        """The student's agreement that the verdict rests on."""
        return self.held_out.agreement["student"] if self.held_out else self.student

    def __repr__(self) -> str:
        return plain_text(agreement_table(self.agreement))

    def _repr_html_(self) -> str:
        return agreement_html(self.agreement)

    @property
    def student(self) -> Agreement:
        """The student against the human codes."""
        return self.agreement["student"]

    @property
    def kappa(self) -> str:
        """The name of κ for this task, as in a sentence."""
        return {"ordinal": "quadratic weighted κ", "multilabel": "mean κ over labels"}.get(self.kind, "κ")

    @property
    def is_multilabel(self) -> bool:
        """Whether a response may have any number of labels."""
        return self.kind == "multilabel"

    @property
    def counted(self) -> tuple[str, ...]:
        """What training rows are counted by: the labels, and for a multilabel task `NO_LABEL`."""
        return (*self.labels, NO_LABEL) if self.is_multilabel else self.labels


@dataclass(frozen=True, slots=True)
class ServedRule:
    """The decision rule of the bundle, chosen on the validation rows' scores by the graphs that are served.

    The fields are those of `DecisionRule`; `validation` is None in a file of an older version.
    """

    met: bool | None
    rule: ReviewRule
    least_chance: float | None
    label_shifts: Mapping[str, float]
    notes: tuple[str, ...]
    guarantee: Guarantee | None
    labels_tested: int = 0
    validation: RuleOutcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFigures:
    """Figures of the served graph on the test rows besides its agreement.

    Attributes:
        change: From the student in PyTorch to the served graph, over all steps.
        review: The outcome of the decision rule.
        subgroups: As in `Evaluation`, with the served graph as the student.
        human_agreement: As in `Evaluation`, likewise.
        rule: The decision rule, if it was chosen on the served graph's scores; None if it is that of `Evaluation`.
        questions: As in `Evaluation`, with the served graph as the only coding.
    """

    change: FidelityStep
    review: RuleOutcome
    subgroups: tuple[SubgroupTable, ...]
    human_agreement: InterCoderFigures | None
    rule: ServedRule | None = None
    questions: QuestionTable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """What each step from the trained student to the served file changes: PyTorch, ONNX fp32, int8, the browser.

    Attributes:
        schema_version: `FIDELITY_VERSION`.
        evaluation: SHA-256 of the `evaluation.json` that this export belongs to.
        served: The precision of the graph that is served, ``int8`` or ``fp32``.
        steps: On test rows, with the κ that each step loses.
        validation_steps: On validation rows; a step to a graph that was refused is among them.
        agreement: The agreement of the served graph with the human codes of the test rows, which the bundle states;
            that of the student in PyTorch is in `Evaluation.agreement`. None in a file of an older version.
        figures: Its other figures on the test rows; None in a file of an older version.
    """

    schema_version: int
    evaluation: str
    served: str
    steps: tuple[FidelityStep, ...]
    validation_steps: tuple[ValidationStep, ...]
    agreement: Agreement | None = None
    figures: ServedFigures | None = None

    @property
    def served_name(self) -> str:
        """How tables name the served graph."""
        return f"served model ({self.served})"

    def of_served(self, evaluation: Evaluation) -> Evaluation:
        """Return the evaluation with the served graph as its student, as far as the export measured it.

        Agreement, decision rule on test rows, subgroups and human coders are the served graph's. Calibration, risk and
        coverage, comparisons, twins and prevalence remain those of the student in PyTorch.
        """
        if self.agreement is None:
            return evaluation
        served = replace(evaluation, agreement={**evaluation.agreement, "student": self.agreement})
        if (figures := self.figures) is None:
            return served
        others = tuple(table for table in evaluation.subgroups if table.coding != "student")
        review = replace(evaluation.review, test=figures.review, guarantee=None)
        if rule := figures.rule:
            review = replace(
                review,
                **{field.name: getattr(rule, field.name) for field in fields(rule) if field.name != "validation"},
            )
            if rule.validation:
                review = replace(review, validation=rule.validation)
        return replace(
            served,
            review=review,
            subgroups=(*figures.subgroups, *others),
            human_agreement=figures.human_agreement,
            questions=_served_questions(evaluation.questions, figures.questions),
        )


def _served_questions(student: QuestionTable | None, served: QuestionTable | None) -> QuestionTable | None:
    """Return the table with the served graph as its student."""
    if student is None or served is None:
        return student

    def part(before: QuestionPart | None, after: QuestionPart | None) -> QuestionPart | None:
        if before is None or after is None:
            return before
        return replace(after, agreement={**before.agreement, **after.agreement}, comparisons=before.comparisons)

    return replace(
        student,
        known=part(student.known, served.known),
        unknown=part(student.unknown, served.unknown),
        by_question=served.by_question or student.by_question,
    )


@dataclass(frozen=True, slots=True)
class GateTeacher:
    """A teacher at the gate.

    Attributes:
        agreement: Agreement on the rows that the teacher coded; None if there are none.
        passed: Whether there are `least_rows` different rows with more than one human code, and the lower end of the
            metric's interval reaches `at_least`.
        accepted: Whether a person accepted the teacher nevertheless.
        least_rows: The number of different human-coded rows below which no teacher passes.
        different_rows: Number of rows that are not the same as an earlier one; None in older files.
        human_labels: Number of different human codes; None in older files.
        agreement_of_all: Agreement on all rows, those without a code counted as coded wrongly, which decides.
        alt_test: The alternative annotator test against single coders; None without three that can be tested.
        alt_test_note: Why there is no such test although three coders are named; otherwise empty.
        certainty: By source (``votes``, ``logprobs``, ``confidence``), how well it fits how often the teacher is right.
        votes_without_confidence: Votes that stated no confidence that can be read; None if none was requested.
        source: The table of labels that existed already; None for a teacher that was asked.
    """

    teacher: str
    metric: str
    at_least: float
    rows: int
    coded: int
    agreement: Agreement | None
    passed: bool
    accepted: bool
    least_rows: int = 0
    agreement_of_all: Agreement | None = None
    different_rows: int | None = None
    human_labels: int | None = None
    alt_test: AltTest | None = None
    alt_test_note: str = ""
    certainty: Mapping[str, CertaintyMetrics] = field(default_factory=dict)
    votes_without_confidence: int | None = None
    source: LabelSource | None = None

    @property
    def reached(self) -> Estimate | None:
        """The gate's metric on all rows; None if it is undefined."""
        decisive = self.agreement_of_all or self.agreement
        value: Estimate | None = getattr(decisive, self.metric) if decisive else None
        return value


@dataclass(frozen=True, slots=True)
class Gate:
    """`gate.json`: every teacher, and which are used."""

    teachers: tuple[GateTeacher, ...]
    used: tuple[str, ...]
    between: InterCoderAgreement | None = None
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvaluatedBundle:
    """The bundle.

    Attributes:
        name: Its name.
        version: Its version.
        precision: The graph in use on this machine.
    """

    name: str
    version: str
    precision: str


@dataclass(frozen=True, slots=True)
class AcceptedErrors:
    """How many of the accepted rows are wrong: their label differs from the human code, or set of labels.

    Attributes:
        accepted: Number of accepted rows.
        wrong: How many of them are wrong.
        share: Their share with its 95 % interval: exact (Clopper & Pearson) if rows are independent, else that of the
            cluster bootstrap; None without accepted rows.
    """

    accepted: int
    wrong: int
    share: Estimate | None
