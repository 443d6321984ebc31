"""No sentence of the report is false for some run: without teacher, with few or odd rows, ties, undefined figures."""

import re
from dataclasses import replace
from itertools import product
from xml.etree import ElementTree as ET

import msgspec
import pytest

from edgedistill.agreement import Estimate
from edgedistill.evaluation.types import Gate, QuestionFigures, StatedAim
from edgedistill.report.plots import reliability_plot
from edgedistill.report.verdict import Requirement, VerdictAnswer, verdict

from ...promises import promise
from .runs import exported, gate_of
from .test_page import Seen, _page
from .verdicts import evaluation, gate, student, with_student

NAN = float("nan")


def _finding(found, heading):
    return next(each for each in found.findings if each.heading == heading)


def test_without_a_teacher_nothing_is_said_to_come_from_one(tmp_path):
    nothing = {"teacher": False, "coders": (), "columns": False, "population": False}
    text = Seen(_page(tmp_path, full=False, review=None, **nothing)).words
    sentences = [each for each in re.split(r"(?<=[.:])\s", text) if re.search(r"\bteacher", each, re.IGNORECASE)]
    assert sentences
    assert all("no teacher" in each for each in sentences), sentences


@pytest.mark.parametrize(("kind", "groups", "rows"), [*product(["nominal", "ordinal"], [False, True], [1, 7])])
def test_a_page_of_a_few_rows_shows_no_undefined_number(kind, groups, rows, tmp_path):
    text = Seen(_page(tmp_path, kind=kind, rows=rows, grouped=groups)).words
    assert not re.search(r"\b(nan|inf|none\]|None)\b", text)


@pytest.mark.parametrize("rows", [3, 20, 49, 120])
@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.1), (-0.9, -0.5), (0.0, 0.0), (-1.0, 0.59)])
def test_a_kappa_that_is_below_the_bar_is_a_no_however_few_the_rows(rows, low, high):
    found = verdict(with_student(student(low, high, rows=rows), review=_no_rule()), None)
    assert found.answer is VerdictAnswer.NO
    assert "even the upper limit of the interval is below" in found.reason


@pytest.mark.parametrize("rows", [3, 49])
def test_a_high_kappa_of_few_rows_is_inconclusive(rows):
    found = verdict(with_student(student(0.7, 0.9, rows=rows), review=_no_rule()), None)
    assert found.answer is VerdictAnswer.INCONCLUSIVE


@pytest.mark.parametrize("support", [1, 19, 20, 50])
def test_a_label_that_is_never_right_does_not_meet_the_requirement_however_few_its_rows(support):
    found = verdict(with_student(student(labels={"none": (support, 0.0, 0.3)})), None)
    assert found.labels[-1].requirement is Requirement.NOT_MET


@pytest.mark.parametrize("ends", [(NAN, NAN, NAN), (0.9, NAN, NAN), (NAN, 0.9, 1.0)])
def test_a_figure_that_is_not_a_number_never_speaks_for_a_model(ends):
    bad = replace(student(), kappa=Estimate(*ends))
    if not ends[1] >= 0.6:
        assert verdict(with_student(bad, review=_no_rule()), None).answer is not VerdictAnswer.YES


def test_the_aim_of_a_rule_is_not_called_met_where_kappa_of_the_accepted_rows_is_undefined():
    made = evaluation()
    review = replace(
        made.review,
        aim=StatedAim("keep_kappa", at_least=0.7),
        met=True,
        test=replace(made.review.test, accepted=5, agreement=student(kappa=False)),
    )
    found = _finding(verdict(evaluation(review=review), None), "Human review")
    assert "is undefined and confirms nothing" in found.text
    assert found.tone == "warning"


PROMISE = promise(rows=200, accepted=120, bound=0.04, units=120, graphs=("int8",))


@pytest.mark.parametrize(
    ("accuracy", "said", "tone"),
    [(0.99, "do not contradict the promise", "neutral"), (0.8, "contradict the promise", "warning")],
)
def test_a_promise_is_stated_with_what_the_test_rows_show(accuracy, said, tone):
    made, agreed = evaluation(), student()
    ends = Estimate(accuracy, accuracy - 0.02, min(1.0, accuracy + 0.02))
    test = replace(made.review.test, accepted=120, agreement=replace(agreed, accuracy=ends))
    review = replace(made.review, aim=StatedAim("at_most_wrong", share=0.05), met=True, guarantee=PROMISE, test=test)
    found = _finding(verdict(evaluation(review=review), None), "Promise about accepted responses")
    assert "at most 5 % differ from the human code, with 95 % confidence" in found.text
    assert said in found.text
    assert found.tone == tone


def test_nothing_is_promised_of_a_served_graph_whose_scores_were_not_tested():
    made = evaluation()
    review = replace(made.review, aim=StatedAim("at_most_wrong", share=0.05), met=True, guarantee=PROMISE)
    before = evaluation(review=review)
    served = exported(before)
    assert served.figures.rule is None
    found = _finding(verdict(before, None, served), "Promise about accepted responses")
    assert found.text.startswith("No share of wrong codes among the accepted responses is promised.")
    assert found.tone == "warning"


def test_an_export_without_comparison_is_not_called_the_same():
    found = verdict(evaluation(), None, replace(exported(evaluation()), steps=()))
    assert "were not compared" in _finding(found, "Exported model").text


@pytest.mark.parametrize("reviewed", [True, False])
@pytest.mark.parametrize("rows", [0, 12])
def test_the_questions_for_which_a_rule_was_shown_are_stated(rows, reviewed):
    made = evaluation()
    outcome = replace(made.review.test, rows=rows, accepted=5, agreement=student(0.1, 0.4, rows=5)) if rows else None
    questions = QuestionFigures(4, 60, closed=True, reviewed=reviewed, rows=rows, outcome=outcome)
    found = _finding(verdict(evaluation(review=replace(made.review, questions=questions)), gate()), "Questions")
    assert "was validated for 4\u00a0questions (60\u00a0validation rows)" in found.text
    assert ("go to a person" in found.text) is reviewed
    assert ("12\u00a0test rows with another question" in found.text) is bool(rows)
    assert (".250\u00a0[.10,\u00a0.40]" in found.text) is bool(rows)
    assert found.tone == ("neutral" if reviewed else "warning")


def test_open_questions_are_called_open():
    made = evaluation()
    questions = QuestionFigures(58, 60, closed=False, reviewed=False, rows=0, outcome=None)
    found = _finding(verdict(evaluation(review=replace(made.review, questions=questions)), gate()), "Questions")
    assert "open questions" in found.text


@pytest.mark.parametrize("accuracy", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("probability", [0.02, 0.5, 0.99])
def test_the_counts_of_a_reliability_diagram_lie_within_its_axes(accuracy, probability):
    shown = replace(
        evaluation().probabilities.reliability[0],
        accuracy=Estimate(accuracy, accuracy, accuracy),
        mean_probability=probability,
        rows=1234,
    )
    drawing = ET.fromstring(reliability_plot([shown]).svg)
    width, height = (float(part) for part in drawing.get("viewBox").split()[2:])
    (x, y, anchor), (_, axis, _) = (
        next(place for text, place in texts_of(drawing) if text == wanted) for wanted in ("1\u202f234", "0.0")
    )
    assert (0 if anchor == "end" else -1) < x < (width if anchor == "end" else width - 20)
    assert y < axis < height


def texts_of(drawing):
    """Every text of a drawing, with its place and the side from which it is drawn."""
    for element in drawing.iter("text"):
        moved = re.search(r"translate\(([\d.]+) ([\d.]+)\)", element.get("transform", ""))
        x, y = moved.groups() if moved else (element.get("x"), element.get("y"))
        yield "".join(element.itertext()), (float(x), float(y), element.get("text-anchor", "start"))


def test_a_teacher_that_failed_for_want_of_rows_is_said_to():
    values = gate_of(passed=False, accepted=True)
    values["teachers"][0] |= {"rows": 12, "least_rows": 30}
    found = verdict(evaluation(), msgspec.convert(values, type=Gate))
    assert "on at least 30\u00a0rows" in _finding(found, "Gate overridden").text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": 60, "different_rows": 2}, "on at least 30 different rows"),
        ({"rows": 60, "different_rows": 60, "human_labels": 1}, "on rows with more than one human code"),
    ],
)
def test_a_teacher_that_failed_for_want_of_different_rows_is_said_to(changes, words):
    values = gate_of(passed=False, accepted=True)
    values["teachers"][0] |= {"least_rows": 30, **changes}
    found = verdict(evaluation(), msgspec.convert(values, type=Gate))
    assert words in _finding(found, "Gate overridden").text.replace("\u00a0", " ")


@pytest.mark.parametrize("different", [1, 3, 49, 50])
def test_copies_of_a_few_test_rows_draw_no_conclusion_for_a_model(different):
    made = evaluation(review=_no_rule())
    found = verdict(replace(made, twins=replace(made.twins, copies=made.rows - different)), None)
    assert (found.answer is VerdictAnswer.YES) is (different >= 50)
    copies = _finding(found, "Copies among test rows")
    assert copies.tone == "warning"
    assert f"{made.rows - different} of 120" in copies.text.replace("\u00a0", " ")
    if different < 50:
        assert f"Only {different} of the 120 test rows" in found.reason


def test_a_rule_that_accepts_no_test_row_is_said_to():
    made = evaluation()
    test = replace(made.review.test, accepted=0, agreement=None)
    review = replace(made.review, aim=StatedAim("keep_kappa", at_least=0.7), met=True, test=test)
    found = _finding(verdict(evaluation(review=review), None), "Human review")
    assert "it accepts no test row" in found.text
    assert found.tone == "warning"


def test_shares_that_could_not_be_corrected_are_not_called_corrected(tmp_path):
    text = Seen(_page(tmp_path, rows=1)).words
    assert "No correction: " in text
    assert "Corrected for the misclassification" not in text


def _no_rule():
    made = evaluation().review
    return replace(made, aim=None, met=None, rule=type(made.rule)())
