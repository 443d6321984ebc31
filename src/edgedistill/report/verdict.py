"""The verdict: may this model be used, for which labels, with how much human review?

verdict(evaluation, gate) -> Verdict
├── Answer         yes, some labels, with review, not shown, no
├── LabelFinding   what is shown of one label
└── Finding         a sentence beside the answer (remarks.py)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgedistill.agreement import Agreement, Estimate, LabelAgreement
from edgedistill.evaluation.types import Evaluation, Gate
from edgedistill.report.findings import Finding, findings
from edgedistill.report.formatting import estimate, percent, percent_estimate, plain, pluralize, rows
from edgedistill.report.rules import (
    MAX_REPEATED_SHARE,
    MIN_GROUPS,
    MIN_LABEL_ROWS,
    MIN_TEST_ROWS,
    REQUIRED_KAPPA,
)


class Answer(StrEnum):
    """May this model be used?"""

    YES = "yes"
    SOME_LABELS = "for some labels"
    WITH_REVIEW = "only with its review rule"
    INCONCLUSIVE = "not shown"
    NO = "no"


class Requirement(StrEnum):
    """Whether a bar is reached."""

    SHOWN = "shown"
    INCONCLUSIVE = "not shown"
    BELOW = "below the bar"


@dataclass(frozen=True, slots=True)
class LabelFinding:
    """What the test rows show of one label."""

    label: str
    standing: Requirement
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The report's first page.

    Attributes:
        answer: In a word.
        headline: The answer as a sentence.
        reason: The figures that it rests on.
        bar: κ that had to be reached.
        labels: In codebook order.
        remarks: What a reader must know beside it, the most important first.
    """

    answer: Answer
    headline: str
    reason: str
    bar: float
    labels: tuple[LabelFinding, ...]
    findings: tuple[Finding, ...]


def verdict(evaluation: Evaluation, gate: Gate | None) -> Verdict:
    """Apply the rules of `rules.py` to an evaluation.

    Args:
        evaluation: Of the locked test rows.
        gate: None of a project without a teacher.
    """
    bar = required_kappa(gate)
    standing, why = _overall(evaluation, evaluation.student, bar)
    accepted = None if standing is Requirement.SHOWN else _accepted(evaluation, bar)
    if accepted:
        on = f"On the {rows(accepted.rows)} that the review rule accepts"
        why = f"{why} {on}, the {evaluation.kappa} is {estimate(accepted.kappa)}, which reaches the bar."
    judged = accepted or evaluation.student
    labels = tuple(_label(name, judged.per_label[name]) for name in evaluation.labels)
    shown = [each.standing is Requirement.SHOWN for each in labels]
    whole = evaluation.kind == "ordinal" or all(shown)
    answer = _answer(standing, with_review=accepted is not None, some=whole or any(shown), every=whole)
    if answer is Answer.INCONCLUSIVE and not (whole or any(shown)):
        why = f"{why} No single label is shown."
    return Verdict(answer, _headline(answer, labels, whole=whole), why, bar, labels, findings(evaluation, gate, bar))


def required_kappa(gate: Gate | None) -> float:
    """Return κ that a model must reach: `REQUIRED_KAPPA`, or the highest bar of a gate on κ above it."""
    return max([REQUIRED_KAPPA, *(each.at_least for each in (gate.teachers if gate else ()) if each.metric == "kappa")])


def _overall(evaluation: Evaluation, found: Agreement, bar: float) -> tuple[Requirement, str]:
    same = round(found.accuracy.value * found.rows)
    code = "just the labels" if evaluation.is_multilabel else "the code"
    told = (
        f"The model gave {same} of {pluralize(found.rows, 'test response')} {code} that people gave them "
        f"({percent_estimate(found.accuracy)}). Beyond chance that is a {evaluation.kappa} of {estimate(found.kappa)}"
    )
    if _repeated(evaluation):
        count = evaluation.test_texts_also_in_train_or_validation
        return Requirement.INCONCLUSIVE, (
            f"{told}, but the texts of {count} of the responses also stand in training or validation rows: the figure "
            "flatters."
        )
    if too_few := _too_few(found):
        return Requirement.INCONCLUSIVE, f"{told}: {too_few}."
    standing = _standing(found.kappa, bar)
    ends = {
        Requirement.SHOWN: f"the lower end of the interval reaches the bar of {plain(bar)}.",
        Requirement.BELOW: f"even the upper end of the interval stays below the bar of {plain(bar)}.",
        Requirement.INCONCLUSIVE: f"the interval lies on both sides of the bar of {plain(bar)}."
        if found.kappa
        else f"it is undefined, because model and human coders use {_one_code(evaluation)} throughout.",
    }
    return standing, f"{told}; {ends[standing]}"


def _one_code(evaluation: Evaluation) -> str:
    return "every label for all responses or for none" if evaluation.is_multilabel else "one and the same label"


def _too_few(found: Agreement) -> str:
    if found.rows < MIN_TEST_ROWS:
        return f"fewer than the {MIN_TEST_ROWS} rows that anything can be shown with"
    if found.groups is not None and found.groups < MIN_GROUPS:
        return (
            f"they come from {pluralize(found.groups, 'group')}, fewer than the {MIN_GROUPS} that anything can be "
            "shown with"
        )
    return ""


def _repeated(evaluation: Evaluation) -> bool:
    return evaluation.test_texts_also_in_train_or_validation > MAX_REPEATED_SHARE * evaluation.rows


def _accepted(evaluation: Evaluation, bar: float) -> Agreement | None:
    """The agreement of the rows that the review rule accepts, where they reach the bar."""
    rule = evaluation.review.rule
    accepted = evaluation.review.test.agreement if rule.thresholds or rule.least_certainty else None
    if accepted is None or _repeated(evaluation) or _too_few(accepted):
        return None
    return accepted if _standing(accepted.kappa, bar) is Requirement.SHOWN else None


def _standing(found: Estimate | None, bar: float) -> Requirement:
    if found is None or (found.low < bar <= found.high):
        return Requirement.INCONCLUSIVE
    return Requirement.SHOWN if found.low >= bar else Requirement.BELOW


def _answer(standing: Requirement, *, with_review: bool, some: bool, every: bool) -> Answer:
    if with_review:
        return Answer.WITH_REVIEW if some else Answer.INCONCLUSIVE
    if standing is Requirement.SHOWN:
        return Answer.YES if every else Answer.SOME_LABELS if some else Answer.INCONCLUSIVE
    return Answer.NO if standing is Requirement.BELOW else Answer.INCONCLUSIVE


def _headline(answer: Answer, labels: Sequence[LabelFinding], *, whole: bool) -> str:
    shown = listed([each.label for each in labels if each.standing is Requirement.SHOWN])
    others = listed([each.label for each in labels if each.standing is not Requirement.SHOWN])
    match answer:
        case Answer.YES:
            return "Yes: for responses like those it was tested on, beside a person's judgement."
        case Answer.SOME_LABELS:
            return f"For some labels: {shown}. For {others} the test rows do not show that it may be used."
        case Answer.WITH_REVIEW:
            rest = f" For {others} the test rows do not show that it may be used." if others and not whole else ""
            return f"Only with its review rule, which sends the responses that it is unsure of to a person.{rest}"
        case Answer.NO:
            return "No: the model does not agree well enough with the human coders."
        case Answer.INCONCLUSIVE:
            return "Not shown: the test rows do not settle whether the model agrees well enough with the human coders."


def _label(name: str, found: LabelAgreement) -> LabelFinding:
    if not found.support:
        return LabelFinding(name, Requirement.INCONCLUSIVE, "No test row has this code.")
    finds = f"It finds {percent(found.recall)} of the {rows(found.support)} that the human coders gave this code"
    right = (
        "never gives it itself."
        if found.precision is None
        else f"of those that it codes so, {percent(found.precision)} are right."
    )
    told = f"{finds}; {right}"
    if found.support < MIN_LABEL_ROWS:
        return LabelFinding(name, Requirement.INCONCLUSIVE, f"{told} Fewer than {MIN_LABEL_ROWS} rows show nothing.")
    ends = found.intervals.get("f1")
    f1 = None if found.f1 is None or ends is None else Estimate(found.f1, *ends)
    return LabelFinding(name, _standing(f1, REQUIRED_KAPPA), told)


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
