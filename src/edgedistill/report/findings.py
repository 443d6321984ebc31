"""The sentences beside the answer: review, gate, teacher, human coders, served file, groups, leaks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgedistill.agreement import Estimate, Subgroup
from edgedistill.evaluation.types import Evaluation, Gate, HumanCeiling, Review
from edgedistill.report.formatting import (
    difference,
    estimate,
    figure,
    interval,
    percent,
    percent_estimate,
    plain,
    pluralize,
    rows,
)
from edgedistill.report.rules import MARGIN

Tone: TypeAlias = Literal["good", "plain", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence beside the answer.

    Attributes:
        about: Its heading, such as ``Human review``.
        text: The sentence, or several.
        tone: Whether it speaks for the model, says how things are, or warns.
    """

    about: str
    text: str
    tone: Tone


def findings(evaluation: Evaluation, gate: Gate | None, bar: float) -> tuple[Finding, ...]:
    """Return what a reader must know beside the answer: human review first, then warnings, then the rest.

    Args:
        evaluation: Of the locked test rows.
        gate: None of a project without a teacher.
        bar: κ that had to be reached.
    """
    found = [
        *_overruled(gate),
        *_leaks(evaluation),
        *_served(evaluation),
        *_groups(evaluation, bar),
        *_humans(evaluation.ceiling),
        *_teacher(evaluation),
    ]
    warnings = [each for each in found if each.tone == "warning"]
    return (_review(evaluation.review, evaluation.kappa), *warnings, *(each for each in found if each not in warnings))


def _review(review: Review, kappa: str) -> Finding:
    about, test = "Human review", review.test
    to_people = Estimate(1 - test.share_accepted.value, 1 - test.share_accepted.high, 1 - test.share_accepted.low)
    sent = f"{percent_estimate(to_people)} of the test rows"
    if review.aim is None:
        return Finding(
            about,
            "No review threshold was chosen. A person sees only responses that are blank or too long to be read whole: "
            f"{percent(to_people.value)} of the test rows. Every other score stands as the model gave it.",
            "warning",
        )
    if review.met is False and test.accepted == 0:
        return Finding(about, f"The aim ({_aim(review)}) could not be met: every response goes to a person.", "warning")
    left = f"{kappa} of the {rows(test.accepted)} that stand without a person"
    reached = "" if test.agreement is None else f" {left} is {estimate(test.agreement.kappa)}."
    kept = _kept(review)
    return Finding(
        about, f"The rule ({_aim(review)}) sends {sent} to a person.{reached}{kept}", "warning" if kept else "plain"
    )


def _aim(review: Review) -> str:
    aim = review.aim
    if aim is None:
        return ""
    if aim.at_least is not None:
        return f"aim: what is accepted keeps κ at {plain(aim.at_least)} or above"
    return f"aim: at most {percent(aim.share)} to people"


def _kept(review: Review) -> str:
    """What is to be said where test rows do not bear out the aim that validation rows met."""
    aim, test = review.aim, review.test
    if aim is None:
        return ""
    if aim.share is not None:
        return " Validation rows could not meet the aim." if review.met is False else ""
    found = test.agreement.kappa if test.agreement else None
    if found is None or aim.at_least is None or found.low >= aim.at_least:
        return ""
    missed = "miss the aim" if found.high < aim.at_least else "do not show that the aim is kept"
    return f" Validation rows chose the rule; the test rows {missed}."


def _overruled(gate: Gate | None) -> Iterator[Finding]:
    for each in gate.teachers if gate else ():
        if not each.passed and each.accepted:
            yield Finding(
                "The gate was overruled",
                f"The teacher {each.teacher} did not reach the bar that was set for it: its "
                f"{_METRICS[each.metric]} with the human codes of the validation rows was {estimate(each.reached)}, "
                f"and the lower end had to reach {plain(each.at_least)}. Somebody went on all the same "
                "(--accept-teacher), so the model learnt from this teacher's codes.",
                "warning",
            )


_METRICS = {"kappa": "κ", "accuracy": "accuracy", "macro_f1": "macro-F1"}


def _leaks(evaluation: Evaluation) -> Iterator[Finding]:
    texts, groups = (
        evaluation.test_texts_also_in_train_or_validation,
        evaluation.test_groups_also_in_train_or_validation,
    )
    if texts:
        yield Finding(
            "Repeated texts",
            f"The texts of {texts} of {pluralize(evaluation.rows, 'test row')} also stand in training or "
            "validation rows: on those the model is better than on new responses.",
            "warning",
        )
    if groups:
        yield Finding(
            "Repeated groups",
            f"{pluralize(groups, 'group')} (such as learners) have test rows and training or validation rows: figures "
            "for new groups may be lower.",
            "warning",
        )


def _served(evaluation: Evaluation) -> Iterator[Finding]:
    about = "The file that is served"
    hops = [hop for hop in evaluation.chain if hop.before != "teacher"]
    if not hops:
        yield Finding(
            about, "No file has been made since the model was tested: the figures are of the trained model.", "warning"
        )
        return
    worse = [hop for hop in hops if hop.kappa_lost and hop.kappa_lost.low > 0]
    for hop in worse:
        yield Finding(
            about,
            f"From {hop.before} to {hop.after} {pluralize(hop.flips, 'label')} of {rows(hop.rows)} "
            f"changed, which costs κ {estimate(hop.kappa_lost)}: the served model is worse than the tested one.",
            "warning",
        )
    if not worse:
        flips = sum(hop.flips for hop in hops)
        same = (
            "gives the same labels" if not flips else f"changes {pluralize(flips, 'label')}, with no loss of κ shown,"
        )
        path = f"PyTorch → {' → '.join(hop.after for hop in hops)}"
        yield Finding(about, f"On the test rows it {same} on the way from the tested model ({path}).", "good")


def _groups(evaluation: Evaluation, bar: float) -> Iterator[Finding]:
    tables = [table for table in evaluation.subgroups if table.coding == "student"]
    for table in tables:
        for group in table.groups:
            if told := [*_group(group, bar)]:
                who = f"{table.column} = {group.value} ({rows(group.rows)})"
                yield Finding("A group of learners", f"{who}: {'; '.join(told)}.", "warning")
    small = [f"{table.column} = {group.value}" for table in tables for group in table.groups if group.suppressed]
    if small:
        yield Finding(
            "Small groups",
            f"Nothing is known of {', '.join(small)}: too few test rows, or all of one learner.",
            "plain",
        )


def _group(group: Subgroup, bar: float) -> Iterator[str]:
    if group.kappa and group.kappa.high < bar:
        yield f"κ is {estimate(group.kappa)}, below the bar of {plain(bar)}"
    for name, gap in group.smd.items():
        if gap and (gap.low > MARGIN or gap.high < -MARGIN):
            what = "it scores them" if name == "score" else f"it gives the code {name}"
            way = (
                ("higher" if gap.value > 0 else "lower")
                if name == "score"
                else ("more often" if gap.value > 0 else "less often")
            )
            yield f"{what} {way} than the human coders do ({difference(gap)} standard deviations)"


def _humans(ceiling: HumanCeiling | None) -> Iterator[Finding]:
    about = "Beside human coders"
    if ceiling is None:
        yield Finding(
            about,
            "How far two human coders agree on these rows is not known, so no comparison with people is made. "
            "(The project names no columns of single coders.)",
            "plain",
        )
        return
    pair = "; ".join(
        f"{each.first} and {each.second} agree with κ {estimate(each.agreement.kappa)} on {rows(each.rows)}"
        for each in ceiling.pairs
        if each.agreement
    )
    gaps = [gap for each in ceiling.beside_humans if (gap := each.differences.get("kappa"))]
    if not gaps:
        yield Finding(about, f"{pair or 'No two coders coded the same rows'}.", "plain")
        return
    clearly_less, as_much = any(gap.high < -MARGIN for gap in gaps), all(gap.low >= -MARGIN for gap in gaps)
    said = (
        "The model agrees clearly less with a human coder than another human coder does"
        if clearly_less
        else f"The model agrees with the human coders as they do with one another, or at most {plain(MARGIN)} κ less"
        if as_much
        else "It is not shown that the model agrees with the human coders as they do with one another"
    )
    yield Finding(about, f"{said}. {pair}.", "warning" if clearly_less else "good" if as_much else "plain")


def _teacher(evaluation: Evaluation) -> Iterator[Finding]:
    for each in evaluation.comparisons:
        gap = each.differences.get("kappa")
        if each.first != "teacher" or gap is None:
            continue
        teacher = evaluation.agreement["teacher"].kappa
        beside = f"The teacher's κ is {figure(teacher.value)} {interval(teacher)}. " if teacher else ""
        said = (
            "The model agrees less with the human codes than its teacher does"
            if gap.high < 0
            else "The model agrees more with the human codes than its teacher does"
            if gap.low > 0
            else "No difference between the model and its teacher is shown"
        )
        yield Finding("Beside the teacher", f"{beside}{said}: {difference(gap)} κ on {rows(each.rows)}.", "plain")
    if (aside := len(evaluation.teacher_set_aside)) and "teacher" in evaluation.agreement:
        yield Finding("Beside the teacher", f"The teacher left {pluralize(aside, 'test row')} uncoded.", "plain")
