"""The verdict: may this model be used, for which labels, with how much human review?

verdict(evaluation, gate, fidelity) -> Verdict
├── VerdictAnswer  yes, some labels, with review, inconclusive, no
├── LabelFinding   whether one label meets the requirement
└── Finding        a statement that qualifies the answer (findings.py)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgedistill.agreement import Agreement, Estimate, LabelAgreement
from edgedistill.evaluation.comparison import BundleComparison
from edgedistill.evaluation.types import Evaluation, Fidelity, Gate
from edgedistill.report.findings import Finding, findings
from edgedistill.report.formatting import difference, estimate, percent, percent_estimate, pluralize, rows, setting
from edgedistill.report.rules import (
    MAX_REPEATED_SHARE,
    MIN_GROUPS,
    MIN_LABEL_ROWS,
    MIN_TEST_ROWS,
    REQUIRED_F1,
    REQUIRED_KAPPA,
)
from edgedistill.sizes import SizeChoice
from edgedistill_serve.bundle.verdict import BundleVerdict, VerdictStatus
from edgedistill_serve.task.task import NO_LABEL


class VerdictAnswer(StrEnum):
    """May this model be used?"""

    YES = "yes"
    SOME_LABELS = "for some labels"
    WITH_REVIEW = "only with human review"
    INCONCLUSIVE = "inconclusive"
    NO = "no"


class Requirement(StrEnum):
    """Whether an interval meets a required value: its lower limit reaches it, it contains it, or it is below it."""

    MET = "met"
    INCONCLUSIVE = "inconclusive"
    NOT_MET = "not met"


@dataclass(frozen=True, slots=True)
class LabelFinding:
    """Whether a label's F1 meets the requirement, and the figures behind it as a sentence."""

    label: str
    requirement: Requirement
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first page of the report.

    Attributes:
        answer: In a word.
        headline: The answer as a sentence.
        reason: The figures behind it, as sentences.
        required_kappa: κ that the model had to reach.
        only_label: What the model gives every test row, which shows that its training failed; empty if it gives several
            labels.
        labels: In codebook order.
        findings: What a reader must also know, the most important first.
    """

    answer: VerdictAnswer
    headline: str
    reason: str
    required_kappa: float
    only_label: str
    labels: tuple[LabelFinding, ...]
    findings: tuple[Finding, ...]


def verdict(
    evaluation: Evaluation,
    gate: Gate | None,
    fidelity: Fidelity | None = None,
    sizes: SizeChoice | None = None,
    comparison: BundleComparison | None = None,
) -> Verdict:
    """Apply the rules of `rules.py` to an evaluation.

    Args:
        evaluation: Of the locked test rows.
        gate: None for a project without a teacher.
        fidelity: None before the export. With it, the answer is that of the graph that is served.
        sizes: The students of several sizes; None with one.
        comparison: With the bundle in use; None if the project names none.
    """
    required = required_kappa(gate)
    before = evaluation.decisive
    model = "The model"
    if fidelity and fidelity.agreement:
        evaluation, model = fidelity.of_served(evaluation), f"The {fidelity.served_name}"
    overall, reason = _overall(evaluation, evaluation.decisive, required, model)
    if fidelity and fidelity.agreement:
        reason = f"{reason} {_before_export(evaluation, before, fidelity)}"
    accepted = None if overall is Requirement.MET else _accepted(evaluation, required)
    if accepted:
        reason = (
            f"{reason} On the {rows(accepted.rows)} that the review rule accepts, the {evaluation.kappa} is "
            f"{estimate(accepted.kappa)}, which meets the requirement."
        )
    basis = accepted or evaluation.decisive
    labels = tuple(_label(name, basis.per_label[name]) for name in evaluation.labels)
    met = [each.requirement is Requirement.MET for each in labels]
    all_met = evaluation.kind == "ordinal" or all(met)
    only_label = untrained_label(evaluation.decisive, evaluation.labels)
    answer = _answer(overall, with_review=accepted is not None, any_met=all_met or any(met), all_met=all_met)
    if answer is VerdictAnswer.INCONCLUSIVE and not (all_met or any(met)):
        reason = f"{reason} No individual label meets the requirement."
    headline = _headline(answer, labels, all_met=all_met)
    if only_label:
        answer = VerdictAnswer.NO
        headline = f"No: {describe_failure('test', only_label)}"
    return Verdict(
        answer,
        headline,
        reason,
        required,
        only_label,
        labels,
        findings(evaluation, gate, fidelity, required, sizes, comparison),
    )


_STATUS: dict[VerdictAnswer, VerdictStatus] = {
    VerdictAnswer.YES: "validated",
    VerdictAnswer.SOME_LABELS: "validated for some labels",
    VerdictAnswer.WITH_REVIEW: "validated with human review",
    VerdictAnswer.INCONCLUSIVE: "inconclusive",
    VerdictAnswer.NO: "not validated",
}


def bundle_verdict(decision: Verdict, kind: str) -> BundleVerdict:
    """Return the verdict as a bundle states it.

    Args:
        decision: The verdict on the graph that the bundle serves.
        kind: That of the task; the verdict on an ordinal task covers all labels.
    """
    status = _STATUS[decision.answer]
    covered = [each.label for each in decision.labels if kind == "ordinal" or each.requirement is Requirement.MET]
    labels = tuple(covered) if status.startswith("validated") else ()
    return BundleVerdict(status, decision.headline, decision.reason, labels)


def untrained_label(agreement: Agreement, labels: Sequence[str]) -> str:
    """Return the label that a coding gives every row although human coders give several; empty if there is none.

    For a multilabel task, the labels that it gives every row, joined, or ``none``.
    """
    tables = [each.table for each in agreement.per_label.values()]
    if all(tables):
        shares = [
            (table[0][1] + table[1][1], table[1][0] + table[1][1], sum(map(sum, table))) for table in tables if table
        ]
        if all(given in (0, rows) for given, _, rows in shares) and any(0 < human < rows for _, human, rows in shares):
            always = [name for name, (given, _, _) in zip(agreement.per_label, shares, strict=True) if given]
            return listed(always) or NO_LABEL
        return ""
    given = [sum(column) for column in zip(*agreement.confusion, strict=True)]
    if sum(count > 0 for count in given) != 1 or sum(sum(line) > 0 for line in agreement.confusion) < 2:
        return ""
    return labels[next(place for place, count in enumerate(given) if count)]


def describe_failure(split: str, label: str) -> str:
    """Return that a model gives all rows of a split one label, although human coders give several."""
    return f"training failed. The model gives every {split} response the same label, {label}."


def required_kappa(gate: Gate | None) -> float:
    """Return the κ that a model must reach: `REQUIRED_KAPPA`, or the highest κ that a gate requires if that is more."""
    teachers = gate.teachers if gate else ()
    return max([REQUIRED_KAPPA, *(each.at_least for each in teachers if each.metric == "kappa")])


def _before_export(evaluation: Evaluation, before: Agreement, fidelity: Fidelity) -> str:
    """The figures of the student in PyTorch, and what the export changes."""
    text = f"Before the export, the {evaluation.kappa} of the student in PyTorch is {estimate(before.kappa)}"
    if fidelity.figures is None:
        return f"{text}."
    change = fidelity.figures.change
    lost = f" (κ lost: {difference(change.kappa_lost)})" if change.kappa_lost else ""
    return f"{text}; the export changes {pluralize(change.flips, 'label')}{lost}."


def _overall(evaluation: Evaluation, agreement: Agreement, required: float, model: str) -> tuple[Requirement, str]:
    reason = f"{_exact(evaluation, agreement, model)} ({percent_estimate(agreement.accuracy)}). "
    if agreement.kappa is None:
        labels = "every label for all responses or for none" if evaluation.is_multilabel else "a single label"
        reason += (
            f"The {evaluation.kappa} is undefined, because {model[0].lower()}{model[1:]} and the human coders use "
            f"{labels} throughout"
        )
    else:
        reason += f"Corrected for chance, this is a {evaluation.kappa} of {estimate(agreement.kappa)}"
    requirement = _requirement(agreement.kappa, required)
    if requirement is Requirement.NOT_MET:  # neither few rows nor repeated texts make the figures too low
        below = "even the upper limit of the interval is below"
        return requirement, f"{reason}; {below} the required value of {setting(required)}."
    if _repeated(evaluation):
        count = evaluation.test_texts_also_in_train_or_validation
        return Requirement.INCONCLUSIVE, (
            f"{reason}. The texts of {count} of these responses also occur in training or validation rows, so these "
            "figures are optimistic."
        )
    if too_few := _too_few(evaluation, agreement):
        return Requirement.INCONCLUSIVE, f"{reason}. {too_few}"
    if agreement.kappa is None:
        return Requirement.INCONCLUSIVE, f"{reason}."
    limits = {
        Requirement.MET: "the lower limit of the interval reaches",
        Requirement.INCONCLUSIVE: "the interval contains",
    }
    return requirement, f"{reason}; {limits[requirement]} the required value of {setting(required)}."


def _exact(evaluation: Evaluation, agreement: Agreement, model: str) -> str:
    count = round(agreement.accuracy.value * agreement.rows)
    responses = pluralize(agreement.rows, "test response")
    if evaluation.held_out:
        responses = f"{responses} to {pluralize(evaluation.held_out.questions, 'question')} that it was not trained on"
    if evaluation.is_multilabel:
        return f"{model} and the human coders assign exactly the same labels to {count} of {responses}"
    return f"{model} and the human coders agree on {count} of {responses}"


def _too_few(evaluation: Evaluation, agreement: Agreement) -> str:
    if agreement.rows < MIN_TEST_ROWS:
        return f"With fewer than {MIN_TEST_ROWS} rows no conclusion is drawn."
    different = evaluation.rows - evaluation.twins.copies
    if different < MIN_TEST_ROWS:
        return (
            f"Only {different} of the {evaluation.rows} test rows are different; with fewer than {MIN_TEST_ROWS} "
            "different rows no conclusion is drawn."
        )
    if agreement.groups is not None and agreement.groups < MIN_GROUPS:
        unit = "question" if evaluation.held_out else "group"
        return (
            f"The rows come from {pluralize(agreement.groups, unit)}; with fewer than {MIN_GROUPS} no conclusion is "
            "drawn."
        )
    return ""


def _repeated(evaluation: Evaluation) -> bool:
    return evaluation.test_texts_also_in_train_or_validation > MAX_REPEATED_SHARE * evaluation.rows


def _accepted(evaluation: Evaluation, required: float) -> Agreement | None:
    """The agreement on the rows that the review rule accepts, if they meet the requirement."""
    rule = evaluation.review.rule
    outcome = evaluation.held_out.review if evaluation.held_out else evaluation.review.test
    accepted = outcome.agreement if rule.thresholds or rule.least_certainty else None
    if accepted is None or _repeated(evaluation) or _too_few(evaluation, accepted):
        return None
    return accepted if _requirement(accepted.kappa, required) is Requirement.MET else None


def _requirement(value: Estimate | None, required: float) -> Requirement:
    if value is None:
        return Requirement.INCONCLUSIVE
    if value.low >= required:
        return Requirement.MET
    # A comparison with NaN is false, so that a figure that is not a number settles nothing.
    return Requirement.NOT_MET if value.high < required else Requirement.INCONCLUSIVE


def _answer(overall: Requirement, *, with_review: bool, any_met: bool, all_met: bool) -> VerdictAnswer:
    if with_review:
        return VerdictAnswer.WITH_REVIEW if any_met else VerdictAnswer.INCONCLUSIVE
    if overall is Requirement.MET:
        return VerdictAnswer.YES if all_met else VerdictAnswer.SOME_LABELS if any_met else VerdictAnswer.INCONCLUSIVE
    return VerdictAnswer.NO if overall is Requirement.NOT_MET else VerdictAnswer.INCONCLUSIVE


def _headline(answer: VerdictAnswer, labels: Sequence[LabelFinding], *, all_met: bool) -> str:
    met = listed([each.label for each in labels if each.requirement is Requirement.MET])
    others = listed([each.label for each in labels if each.requirement is not Requirement.MET])
    insufficient = f"For {others} the test rows do not show sufficient agreement."
    match answer:
        case VerdictAnswer.YES:
            return "Yes: for responses like those in the test set, and in support of a person's judgement."
        case VerdictAnswer.SOME_LABELS:
            return f"For some labels: {met}. {insufficient}"
        case VerdictAnswer.WITH_REVIEW:
            rest = f" {insufficient}" if others and not all_met else ""
            return f"Only with human review of the responses that the review rule selects.{rest}"
        case VerdictAnswer.NO:
            return "No: agreement with the human coders is too low."
        case VerdictAnswer.INCONCLUSIVE:
            return "Inconclusive: the test rows do not show whether agreement with the human coders is sufficient."


def _label(name: str, agreement: LabelAgreement) -> LabelFinding:
    if not agreement.support:
        return LabelFinding(name, Requirement.INCONCLUSIVE, "No test row has this human code.")
    recall = f"The model finds {percent(agreement.recall)} of the {rows(agreement.support)} with this human code"
    precision = (
        "it never assigns this code."
        if agreement.precision is None
        else f"{percent(agreement.precision)} of its assignments of this code are correct."
    )
    text = f"{recall}; {precision}"
    ends = agreement.intervals.get("f1")
    f1 = None if agreement.f1 is None or ends is None else Estimate(agreement.f1, *ends)
    requirement = _requirement(f1, REQUIRED_F1)
    if agreement.support < MIN_LABEL_ROWS and requirement is not Requirement.NOT_MET:
        few = f"{text} With fewer than {MIN_LABEL_ROWS} rows no conclusion is drawn."
        return LabelFinding(name, Requirement.INCONCLUSIVE, few)
    return LabelFinding(name, requirement, text)


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
