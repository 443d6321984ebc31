"""The verdict: may this model be used, for which labels, with how much human review?

verdict(evaluation, gate) -> Verdict
├── Answer         yes, some labels, with review, not shown, no
├── LabelFinding   what is shown of one label
└── Remark         a sentence beside the answer (remarks.py)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgedistill.agreement import Agreement, Estimate, LabelAgreement
from edgedistill.evaluation.types import Evaluation, Gate
from edgedistill.report.findings import Remark, remarks
from edgedistill.report.formatting import estimate, percent, percent_estimate, plain, rows, several
from edgedistill.report.rules import (
    BAR,
    FEWEST_GROUPS,
    FEWEST_LABEL_ROWS,
    FEWEST_TEST_ROWS,
    LARGEST_REPEATED_SHARE,
)


class Answer(StrEnum):
    """May this model be used?"""

    YES = "yes"
    SOME_LABELS = "for some labels"
    WITH_REVIEW = "only with its review rule"
    NOT_SHOWN = "not shown"
    NO = "no"


class Standing(StrEnum):
    """Whether a bar is reached."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    BELOW = "below the bar"


@dataclass(frozen=True, slots=True)
class LabelFinding:
    """What the test rows show of one label."""

    label: str
    standing: Standing
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
    remarks: tuple[Remark, ...]


def verdict(evaluation: Evaluation, gate: Gate | None) -> Verdict:
    """Apply the rules of `rules.py` to an evaluation.

    Args:
        evaluation: Of the locked test rows.
        gate: None of a project without a teacher.
    """
    bar = bar_of(gate)
    standing, why = _overall(evaluation, evaluation.student, bar)
    accepted = None if standing is Standing.SHOWN else _accepted(evaluation, bar)
    if accepted:
        on = f"On the {rows(accepted.rows)} that the review rule accepts"
        why = f"{why} {on}, the {evaluation.kappa} is {estimate(accepted.kappa)}, which reaches the bar."
    judged = accepted or evaluation.student
    labels = tuple(_label(name, judged.per_label[name]) for name in evaluation.labels)
    shown = [each.standing is Standing.SHOWN for each in labels]
    whole = evaluation.kind == "ordinal" or all(shown)
    answer = _answer(standing, with_review=accepted is not None, some=whole or any(shown), every=whole)
    if answer is Answer.NOT_SHOWN and not (whole or any(shown)):
        why = f"{why} No single label is shown."
    return Verdict(answer, _headline(answer, labels, whole=whole), why, bar, labels, remarks(evaluation, gate, bar))


def bar_of(gate: Gate | None) -> float:
    """Return κ that a model must reach: `BAR`, or the highest bar of a gate on κ above it."""
    return max([BAR, *(each.at_least for each in (gate.teachers if gate else ()) if each.metric == "kappa")])


def _overall(evaluation: Evaluation, found: Agreement, bar: float) -> tuple[Standing, str]:
    same = round(found.accuracy.value * found.rows)
    code = "just the labels" if evaluation.is_multilabel else "the code"
    told = (
        f"The model gave {same} of {several(found.rows, 'test response')} {code} that people gave them "
        f"({percent_estimate(found.accuracy)}). Beyond chance that is a {evaluation.kappa} of {estimate(found.kappa)}"
    )
    if _repeated(evaluation):
        count = evaluation.test_texts_also_in_train_or_validation
        return Standing.NOT_SHOWN, (
            f"{told}, but the texts of {count} of the responses also stand in training or validation rows: the figure "
            "flatters."
        )
    if too_few := _too_few(found):
        return Standing.NOT_SHOWN, f"{told}: {too_few}."
    standing = _standing(found.kappa, bar)
    ends = {
        Standing.SHOWN: f"the lower end of the interval reaches the bar of {plain(bar)}.",
        Standing.BELOW: f"even the upper end of the interval stays below the bar of {plain(bar)}.",
        Standing.NOT_SHOWN: f"the interval lies on both sides of the bar of {plain(bar)}."
        if found.kappa
        else f"it is undefined, because model and human coders use {_one_code(evaluation)} throughout.",
    }
    return standing, f"{told}; {ends[standing]}"


def _one_code(evaluation: Evaluation) -> str:
    return "every label for all responses or for none" if evaluation.is_multilabel else "one and the same label"


def _too_few(found: Agreement) -> str:
    if found.rows < FEWEST_TEST_ROWS:
        return f"fewer than the {FEWEST_TEST_ROWS} rows that anything can be shown with"
    if found.groups is not None and found.groups < FEWEST_GROUPS:
        return (
            f"they come from {several(found.groups, 'group')}, fewer than the {FEWEST_GROUPS} that anything can be "
            "shown with"
        )
    return ""


def _repeated(evaluation: Evaluation) -> bool:
    return evaluation.test_texts_also_in_train_or_validation > LARGEST_REPEATED_SHARE * evaluation.rows


def _accepted(evaluation: Evaluation, bar: float) -> Agreement | None:
    """The agreement of the rows that the review rule accepts, where they reach the bar."""
    rule = evaluation.review.rule
    accepted = evaluation.review.test.agreement if rule.thresholds or rule.least_certainty else None
    if accepted is None or _repeated(evaluation) or _too_few(accepted):
        return None
    return accepted if _standing(accepted.kappa, bar) is Standing.SHOWN else None


def _standing(found: Estimate | None, bar: float) -> Standing:
    if found is None or (found.low < bar <= found.high):
        return Standing.NOT_SHOWN
    return Standing.SHOWN if found.low >= bar else Standing.BELOW


def _answer(standing: Standing, *, with_review: bool, some: bool, every: bool) -> Answer:
    if with_review:
        return Answer.WITH_REVIEW if some else Answer.NOT_SHOWN
    if standing is Standing.SHOWN:
        return Answer.YES if every else Answer.SOME_LABELS if some else Answer.NOT_SHOWN
    return Answer.NO if standing is Standing.BELOW else Answer.NOT_SHOWN


def _headline(answer: Answer, labels: Sequence[LabelFinding], *, whole: bool) -> str:
    shown = listed([each.label for each in labels if each.standing is Standing.SHOWN])
    others = listed([each.label for each in labels if each.standing is not Standing.SHOWN])
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
        case Answer.NOT_SHOWN:
            return "Not shown: the test rows do not settle whether the model agrees well enough with the human coders."


def _label(name: str, found: LabelAgreement) -> LabelFinding:
    if not found.support:
        return LabelFinding(name, Standing.NOT_SHOWN, "No test row has this code.")
    finds = f"It finds {percent(found.recall)} of the {rows(found.support)} that the human coders gave this code"
    right = (
        "never gives it itself."
        if found.precision is None
        else f"of those that it codes so, {percent(found.precision)} are right."
    )
    told = f"{finds}; {right}"
    if found.support < FEWEST_LABEL_ROWS:
        return LabelFinding(name, Standing.NOT_SHOWN, f"{told} Fewer than {FEWEST_LABEL_ROWS} rows show nothing.")
    ends = found.intervals.get("f1")
    f1 = None if found.f1 is None or ends is None else Estimate(found.f1, *ends)
    return LabelFinding(name, _standing(f1, BAR), told)


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
