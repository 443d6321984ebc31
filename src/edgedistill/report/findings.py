"""Statements that qualify the verdict: review, gate, leaks, export, groups, human coders, teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgedistill.agreement import Agreement, Estimate, Subgroup
from edgedistill.evaluation.comparison import BundleComparison, describe_verdict
from edgedistill.evaluation.types import DecisionRule, Evaluation, Fidelity, Gate, GateTeacher, InterCoderFigures
from edgedistill.report.formatting import (
    difference,
    estimate,
    figure,
    interval,
    percent,
    percent_estimate,
    pluralize,
    rows,
    setting,
)
from edgedistill.report.rules import MARGIN, MAX_REPEATED_SHARE
from edgedistill.sizes import SizeChoice, size_coding
from edgedistill_serve.bundle.guarantee import describe_guarantee

Tone: TypeAlias = Literal["good", "neutral", "warning"]

_METRICS = {"kappa": "κ", "accuracy": "accuracy", "macro_f1": "macro-F1"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement that qualifies the verdict.

    Attributes:
        heading: Such as ``Human review``.
        text: One or more sentences.
        tone: Whether it supports use of the model, is neutral, or warns.
    """

    heading: str
    text: str
    tone: Tone


def findings(
    evaluation: Evaluation,
    gate: Gate | None,
    fidelity: Fidelity | None,
    required_kappa: float,
    sizes: SizeChoice | None = None,
    comparison: BundleComparison | None = None,
) -> tuple[Finding, ...]:
    """Return what a reader must know besides the answer: human review first, then warnings, then the rest.

    Args:
        evaluation: Of the locked test rows.
        gate: None for a project without a teacher.
        fidelity: None before the export.
        required_kappa: κ that the model had to reach.
        sizes: The students of several sizes; None with one.
        comparison: With the bundle in use; None if the project names none.
    """
    others = [
        *_gate_overrides(gate),
        *_leaks(evaluation),
        *_export(fidelity),
        *([confirm_size(evaluation, sizes)] if sizes else _simpler_students(evaluation)),
        *_groups(evaluation, required_kappa),
        *_human_coders(evaluation.human_agreement),
        *_teacher(evaluation),
        *_overlap(evaluation),
        *([_bundle_in_use(comparison)] if comparison else []),
    ]
    warnings = [each for each in others if each.tone == "warning"]
    rest = [each for each in others if each.tone != "warning"]
    review = evaluation.review
    return (
        _review(review, evaluation.kappa),
        *_promise(evaluation),
        *_questions(evaluation),
        *_unknown_questions(evaluation),
        *warnings,
        *rest,
    )


def _bundle_in_use(found: BundleComparison) -> Finding:
    """Whether the new bundle is better than the one in use, on the same test rows."""
    warnings = [note.removeprefix("warning: ") for note in found.notes if note.startswith("warning: ")]
    text = f"{describe_verdict(found)} Both were measured on the same {rows(found.rows)}, in pairs."
    tone: Tone = "warning" if warnings or found.verdict == "worse" else "neutral"
    return Finding(
        "The bundle in use", " ".join([text, *warnings]), "good" if found.verdict == "better" and not warnings else tone
    )


def _unknown_questions(evaluation: Evaluation) -> Iterator[Finding]:
    """Agreement on questions that the student was trained on and on others, and on which it was validated."""
    if (found := evaluation.questions) is None:
        return
    heading = "Known and unknown questions"
    parts = [
        f"{estimate(part.agreement['student'].kappa)} on {rows(part.rows)} of {pluralize(part.questions, name)}"
        for part, name in ((found.unknown, "unknown question"), (found.known, "known question"))
        if part
    ]
    kappa = f"{evaluation.kappa[0].upper()}{evaluation.kappa[1:]}"
    text = f"{kappa} of the model with the human codes: {', '.join(parts)} (known: with training rows)."
    if found.held_out:
        chosen = f"{rows(found.validation_rows_of_unknown)} of {pluralize(found.validation_questions, 'question')}"
        chosen = f"Epoch, calibration and decision rule were chosen on {chosen} that the model was not trained on."
        if found.unknown:
            yield Finding(heading, f"{text} {chosen}", "neutral")
        else:
            yield Finding(
                heading, f"{text} {chosen} No test row shows whether they hold for other questions.", "warning"
            )
    elif found.unknown and not found.validation_rows_of_unknown:
        yield Finding(
            heading,
            f"{text} Epoch, calibration and decision rule were chosen on known questions only, and may be wrong for "
            "others: set data.questions: held_out.",
            "warning",
        )
    elif found.unknown:
        yield Finding(heading, text, "neutral")


def _questions(evaluation: Evaluation) -> Iterator[Finding]:
    if (found := evaluation.review.questions) is None or (evaluation.questions and evaluation.questions.held_out):
        return
    heading = "Questions"
    shown = f"{pluralize(found.questions, 'question')} ({pluralize(found.validation_rows, 'validation row')})"
    if not found.closed:
        text = (
            f"The decision rule was validated for open questions: {shown}. New questions are not treated differently."
        )
        yield Finding(heading, text, "neutral")
        return
    others = "go to a person" if found.reviewed else "are treated alike (review.new_questions: accept)"
    text = f"The decision rule was validated for {shown}; responses to any other question {others}."
    if found.outcome is None:
        yield Finding(heading, f"{text} No test row has another question.", "neutral" if found.reviewed else "warning")
        return
    accepted = found.outcome.agreement
    kappa = f", with a {evaluation.kappa} of {estimate(accepted.kappa)}" if accepted else ""
    text += (
        f" Of the {pluralize(found.rows, 'test row')} with another question, the rule"
        f"{' would accept' if found.reviewed else ' accepts'} {found.outcome.accepted}{kappa}."
    )
    yield Finding(heading, text, "neutral" if found.reviewed else "warning")


def _review(review: DecisionRule, kappa: str) -> Finding:
    heading, test = "Human review", review.test
    to_people = Estimate(1 - test.share_accepted.value, 1 - test.share_accepted.high, 1 - test.share_accepted.low)
    if review.aim is None:
        return Finding(
            heading,
            "No review threshold was set. People see only responses that are blank, unreadable or truncated"
            f"{', or unlike the training texts' if test.novelty or review.rule.min_letters else ''}"
            f"{' or answer a new question' if review.questions and review.questions.reviewed else ''}: "
            f"{percent(to_people.value)} of the test rows. All other scores are used as they are.",
            "warning",
        )
    if review.met is False and test.accepted == 0:
        text = f"The validation rows did not meet the aim ({_aim(review)}): every response goes to a person."
        return Finding(heading, text, "warning")
    is_default = review.aim.aim == "least_probability"
    text = f"The rule ({_aim(review)}) sends {percent_estimate(to_people)} of the test rows to a person."
    if test.agreement is not None:
        text += (
            f" The {kappa} of the {rows(test.accepted)} accepted without review is {estimate(test.agreement.kappa)}."
        )
    if is_default:
        text += " It promises nothing: state an aim in the section review of the project file."
    unconfirmed = _unconfirmed_aim(review)
    return Finding(heading, text + unconfirmed, "warning" if unconfirmed else "neutral")


def _promise(evaluation: Evaluation) -> Iterator[Finding]:
    """What is promised of the accepted responses, and whether the test rows agree."""
    review = evaluation.review
    if review.aim is None or review.aim.aim != "at_most_wrong":
        return
    heading = "Promise about accepted responses"
    accepted = (evaluation.held_out.review if evaluation.held_out else review.test).agreement
    if review.guarantee is None:
        notes = " ".join(review.notes)
        yield Finding(heading, f"{describe_guarantee(None)}{f' {notes}' if notes else ''}", "warning")
        return
    text = describe_guarantee(review.guarantee)
    if review.notes:
        text = f"{text} {' '.join(review.notes)}"
    if accepted is None:
        yield Finding(heading, f"{text} The rule accepts no test row, so that nothing confirms the promise.", "neutral")
        return
    wrong, share = accepted.rows - round(accepted.accuracy.value * accepted.rows), review.guarantee.share
    errors = Estimate(1 - accepted.accuracy.value, 1 - accepted.accuracy.high, 1 - accepted.accuracy.low)
    of = "test rows of unknown questions that the rule accepts" if evaluation.held_out else "accepted"
    counted = f"{accepted.rows} {of}" if evaluation.held_out else f"{rows(accepted.rows)} {of}"
    text = f"{text} Of the {counted}, {wrong} are wrong ({percent_estimate(errors)})"
    if errors.low > share:
        yield Finding(heading, f"{text}: the test rows contradict the promise.", "warning")
    else:
        yield Finding(heading, f"{text}; the test rows do not contradict the promise.", "neutral")


def _aim(review: DecisionRule) -> str:
    aim = review.aim
    if aim is None:
        return ""
    if aim.aim == "at_most_wrong":
        return f"aim: at most {percent(aim.share)} of accepted responses wrong"
    if aim.aim == "least_probability":
        return f"a label is accepted from a probability of {percent(aim.at_least)} on"
    if aim.at_least is not None:
        return f"aim: κ of accepted responses at least {setting(aim.at_least)}"
    return f"aim: at most {percent(aim.share)} of responses to people"


def _unconfirmed_aim(review: DecisionRule) -> str:
    """A sentence to add where the validation rows missed the aim or the test rows do not confirm it."""
    aim, test = review.aim, review.test
    if aim is None or aim.aim == "least_probability":
        return ""
    if aim.share is not None:
        return " The validation rows did not meet the aim." if review.met is False else ""
    kappa = test.agreement.kappa if test.agreement else None
    if aim.at_least is None:
        return ""
    if test.accepted == 0:
        return " The rule was chosen on validation rows; it accepts no test row, so that nothing confirms the aim."
    if kappa is None:
        return " The rule was chosen on validation rows; κ of the accepted test rows is undefined and confirms nothing."
    if kappa.low >= aim.at_least:
        return ""
    result = "miss the aim" if kappa.high < aim.at_least else "do not confirm that the aim is met"
    return f" The rule was chosen on validation rows; the test rows {result}."


def _gate_overrides(gate: Gate | None) -> Iterator[Finding]:
    for each in gate.teachers if gate else ():
        if not each.passed and each.accepted:
            yield Finding(
                "Gate overridden",
                f"The teacher {each.teacher} failed the gate: its {_METRICS[each.metric]} with the human codes of "
                f"{pluralize(each.rows, 'validation row')} was {estimate(each.reached)}, and the lower limit had to be "
                f"at least {setting(each.at_least)}{_least_rows(each)}. It was accepted manually (--accept-teacher).",
                "warning",
            )


def _least_rows(teacher: GateTeacher) -> str:
    if teacher.human_labels == 1:
        return ", on rows with more than one human code"
    different = teacher.rows if teacher.different_rows is None else teacher.different_rows
    if different >= teacher.least_rows:
        return ""
    least = rows(teacher.least_rows) if different == teacher.rows else f"{teacher.least_rows} different rows"
    return f", on at least {least}"


def _leaks(evaluation: Evaluation) -> Iterator[Finding]:
    texts = evaluation.test_texts_also_in_train_or_validation
    groups = evaluation.test_groups_also_in_train_or_validation
    if texts:
        yield Finding(
            "Repeated texts",
            f"To the model, {texts} of {pluralize(evaluation.rows, 'test row')} are the same as training or validation "
            "rows; agreement on these rows overestimates agreement on new responses."
            f"{_without(evaluation, evaluation.twins.without_same)}",
            "warning",
        )
    if near := evaluation.twins.near:
        yield Finding(
            "Nearly repeated texts",
            f"{near} of {pluralize(evaluation.rows, 'test row')} differ from a training or validation row in a few "
            f"characters.{_without(evaluation, evaluation.twins.without_near)}",
            "neutral",
        )
    if copies := evaluation.twins.copies:
        yield Finding(
            "Copies among test rows",
            f"To the model, {copies} of {pluralize(evaluation.rows, 'test row')} are the same as an earlier test row. "
            "They show nothing new about the model: the more of them, the more the confidence intervals of independent "
            "rows understate the uncertainty for other responses.",
            "warning" if copies > MAX_REPEATED_SHARE * evaluation.rows else "neutral",
        )
    if repeated := evaluation.twins.validation_same:
        yield Finding(
            "Repeated validation rows",
            f"To the model, {pluralize(repeated, 'validation row')} are the same as training rows. The epoch, the "
            "calibration and the review rule were chosen on them, too; test rows are not affected.",
            "warning",
        )
    if groups:
        yield Finding(
            "Repeated groups",
            f"{pluralize(groups, 'group')} (such as learners) have both test rows and training or validation rows; "
            "agreement may be lower for new groups.",
            "warning",
        )


def _without(evaluation: Evaluation, agreement: Mapping[str, Agreement]) -> str:
    """A sentence with the model's agreement without some rows; empty if there is none."""
    if (student := agreement.get("student")) is None or student.kappa is None:
        return ""
    others = pluralize(student.rows, "other row")
    return f" On the {others}, the {evaluation.kappa} with the human codes is {estimate(student.kappa)}."


def _export(fidelity: Fidelity | None) -> Iterator[Finding]:
    heading = "Exported model"
    if fidelity is None:
        text = "The model has not been exported since this evaluation; all figures are for the trained PyTorch model."
        yield Finding(heading, text, "warning")
        return
    if fidelity.agreement is None:
        text = "An older version exported the model; all figures are for the trained PyTorch model. Export it again."
        yield Finding(heading, text, "warning")
    elif fidelity.figures is None:
        text = (
            "An older version exported the model; human review, groups and human coders are those of the trained "
            "PyTorch model. Export it again."
        )
        yield Finding(heading, text, "warning")
    worse = [step for step in fidelity.steps if step.kappa_lost and step.kappa_lost.low > 0]
    for step in worse:
        yield Finding(
            heading,
            f"From {step.before} to {step.after}, {pluralize(step.flips, 'label')} of {rows(step.rows)} change, which "
            f"lowers κ by {estimate(step.kappa_lost)}: the exported model is worse than the evaluated one.",
            "warning",
        )
    if not fidelity.steps:
        text = "The labels of the exported model were not compared with those of the evaluated model."
        yield Finding(heading, text, "warning")
    elif not worse:
        flips = sum(step.flips for step in fidelity.steps)
        path = f"PyTorch → {' → '.join(step.after for step in fidelity.steps)}"
        text = (
            f"The exported model changes {pluralize(flips, 'label')} of the test rows, without a detectable loss of κ"
            if flips
            else "The exported model gives the test rows the same labels as the evaluated model"
        )
        yield Finding(heading, f"{text} ({path}).", "good")


def _simpler_students(evaluation: Evaluation) -> Iterator[Finding]:
    """Where fitting a classifier is as good as training a student: what to change."""
    for compared in evaluation.comparisons:
        gained = compared.differences.get("kappa")
        if compared.first == "frozen encoder" and gained and not gained.value > 0:
            yield Finding(
                "Fine-tuning did not pay off",
                f"On {rows(compared.rows)}, a classifier on the frozen encoder has the same {evaluation.kappa} as the "
                f"model or a higher one (the model gains {difference(gained)}). Train longer (student.preset: "
                "thorough), code or label more rows, or let student.sizes choose a smaller model.",
                "neutral",
            )


def confirm_size(evaluation: Evaluation, sizes: SizeChoice) -> Finding:
    """Return whether the test rows confirm the size that validation rows picked."""
    heading, named = "Size of the model", f"{sizes.picked} was picked on validation rows"
    if sizes.picked == sizes.best:
        return Finding(heading, f"{named}: it has the highest κ there, and no smaller size is as good.", "neutral")
    best = size_coding(sizes.best)
    found = next((each for each in evaluation.comparisons if each.first == best), None)
    gained = found.differences.get("kappa") if found else None
    margin = setting(sizes.margin)
    text = f"{named} as the smallest that is not worse than {sizes.best} by more than {margin} κ."
    if gained is None:
        return Finding(heading, f"{text} On the test rows the difference is undefined.", "warning")
    text = f"{text} On the test rows the difference in κ is {difference(gained)}"
    if gained.low >= -sizes.margin:
        return Finding(heading, f"{text}: they confirm it.", "good")
    if gained.high < -sizes.margin:
        return Finding(heading, f"{text}: they contradict it.", "warning")
    return Finding(heading, f"{text}: they neither confirm nor contradict it; more test rows would.", "neutral")


def _groups(evaluation: Evaluation, required_kappa: float) -> Iterator[Finding]:
    tables = [table for table in evaluation.subgroups if table.coding == "student"]
    for table in tables:
        for group in table.groups:
            if problems := [*_group_problems(group, required_kappa)]:
                name = f"{table.column} = {group.value} ({rows(group.rows)})"
                yield Finding("Group of learners", f"{name}: {'; '.join(problems)}.", "warning")
    small = [f"{table.column} = {group.value}" for table in tables for group in table.groups if group.suppressed]
    if small:
        text = f"No results for {', '.join(small)}: too few test rows, or all from one learner."
        yield Finding("Small groups", text, "neutral")


def _group_problems(group: Subgroup, required_kappa: float) -> Iterator[str]:
    if group.kappa and group.kappa.high < required_kappa:
        yield f"κ is {estimate(group.kappa)}, below the required {setting(required_kappa)}"
    for name, gap in group.smd.items():
        if gap and (gap.low > MARGIN or gap.high < -MARGIN):
            if name == "score":
                change = f"the model scores {'higher' if gap.value > 0 else 'lower'}"
            else:
                change = f"the model assigns {name} {'more' if gap.value > 0 else 'less'} often"
            yield f"{change} than the human coders (standardised mean difference {difference(gap)})"


def _human_coders(human_agreement: InterCoderFigures | None) -> Iterator[Finding]:
    heading = "Comparison with human coders"
    if human_agreement is None:
        yield Finding(
            heading,
            "Agreement between human coders on these rows is unknown, so the model is not compared with a human coder. "
            "(The project names no columns with the codes of individual coders.)",
            "neutral",
        )
        return
    pairs = "; ".join(
        f"κ of {each.first} and {each.second} is {estimate(each.agreement.kappa)} on {rows(each.rows)}"
        for each in human_agreement.pairs
        if each.agreement
    )
    gaps = [gap for each in human_agreement.beside_humans if (gap := each.differences.get("kappa"))]
    if not gaps:
        yield Finding(heading, f"{pairs or 'No two coders coded the same rows'}.", "neutral")
        return
    tone: Tone
    if any(gap.high < -MARGIN for gap in gaps):
        text, tone = "The model agrees clearly less with a human coder than another human coder does", "warning"
    elif all(gap.low >= -MARGIN for gap in gaps):
        text = (
            "The model agrees with the human coders as well as they agree with each other, or at most "
            f"{setting(MARGIN)} κ less"
        )
        tone = "good"
    else:
        text = (
            "The comparison is inconclusive: the rows do not show whether the model agrees with the human coders as "
            "well as they agree with each other"
        )
        tone = "neutral"
    yield Finding(heading, f"{text}. {pairs}.", tone)
    if tested := human_agreement.alt_test:
        beaten = f"{sum(each.beaten for each in tested.coders)} of {pluralize(len(tested.coders), 'coder')}"
        text, tone = f"The rows do not show it: the model beats only {beaten}", "neutral"
        if tested.passed:
            text, tone = f"By this test the model may take the place of a human coder: it beats {beaten}", "good"
        yield Finding(
            "Alternative annotator test",
            f"{text}. (A coder is beaten if the model agrees with the other coders as well as this coder does, less "
            f"{setting(tested.epsilon)} at most; half of the coders must be beaten.)",
            tone,
        )


def _overlap(evaluation: Evaluation) -> Iterator[Finding]:
    """A model that does not beat a comparison with the reference answers by nine numbers is not worth its size."""
    found = evaluation.questions
    parts = [("", evaluation.comparisons)]
    if found and found.unknown:
        parts = [("On unknown questions, ", found.unknown.comparisons)]
        parts += [("On known questions, ", found.known.comparisons)] if found.known else []
    for where, comparisons in parts:
        for each in comparisons:
            if each.first == "overlap baseline" and (gap := each.differences.get("kappa")):
                yield _beside_overlap(where, gap, each.rows)


def _beside_overlap(where: str, gap: Estimate, number: int) -> Finding:
    numbers = "nine numbers that compare response and reference answers"
    if gap.low > 0:
        text = f"the model agrees more with the human codes than {numbers}"
    elif gap.high < 0:
        text = f"the model agrees less with the human codes than {numbers}"
    else:
        text = f"the test rows do not show that the model agrees more with the human codes than {numbers}"
    text = f"{where}{text}" if where else f"{text[0].upper()}{text[1:]}"
    tone: Tone = "good" if gap.low > 0 else "warning"
    heading = "Comparison with the overlap baseline"
    return Finding(heading, f"{text} (difference in κ {difference(gap)}, {rows(number)}).", tone)


def _teacher(evaluation: Evaluation) -> Iterator[Finding]:
    heading = "Comparison with the teacher"
    for each in evaluation.comparisons:
        gap = each.differences.get("kappa")
        if each.first != "teacher" or gap is None:
            continue
        kappa = evaluation.agreement["teacher"].kappa
        teacher = f"The teacher's κ is {figure(kappa.value)} {interval(kappa)}. " if kappa else ""
        text = (
            "The model agrees less with the human codes than its teacher does"
            if gap.high < 0
            else "The model agrees more with the human codes than its teacher does"
            if gap.low > 0
            else "No difference between the model and its teacher is detected"
        )
        yield Finding(heading, f"{teacher}{text} (difference in κ {difference(gap)}, {rows(each.rows)}).", "neutral")
    if (uncoded := len(evaluation.teacher_set_aside)) and "teacher" in evaluation.agreement:
        yield Finding(heading, f"The teacher left {pluralize(uncoded, 'test row')} uncoded.", "neutral")
