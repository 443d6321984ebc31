"""The effect of a rule follows the decisions of the server, and the curve goes from all rows to few."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from edgedistill.agreement import agreement
from edgedistill.decisions import TestScores, risk_coverage, rule_outcome
from edgedistill.errors import DataError
from edgedistill.evaluation.build import choose, review_figures
from edgedistill.project.evaluation import EvaluationSection, ReviewSection
from edgedistill_serve.bundle.manifest import REVIEW_ALL, ReviewRule

from .scoring import TASK, drawn, locked, scores_of

NO_SHIFTS = dict.fromkeys(TASK.names, 0.0)
RULE = ReviewRule(thresholds={"a": 0.8, "b": 0.5})


def test_every_row_is_accepted_or_has_a_reason():
    found = rule_outcome(locked(200, cut=range(5)), 1.0, RULE)
    assert found.accepted + sum(found.reasons.values()) == found.rows == 200
    assert found.reasons["truncated"] == 5
    assert found.share_accepted.value == pytest.approx(found.accepted / 200)
    assert sum(label.rows for label in found.per_label.values()) == 200
    assert sum(label.accepted for label in found.per_label.values()) == found.accepted


def test_a_label_without_a_threshold_accepts_any_probability():
    assert rule_outcome(locked(200), 1.0, RULE).per_label["c"].share_accepted.value == 1.0


def test_the_agreement_is_that_of_the_accepted_rows_alone():
    scores = locked(200)
    kept = [score.decision == "accept" for score in scores.apply_rule(1.0, RULE)]
    expected = agreement(
        [code for code, keep in zip(scores.codes, kept, strict=True) if keep],
        [label for label, keep in zip(scores.labels, kept, strict=True) if keep],
        TASK,
    )
    found = rule_outcome(scores, 1.0, RULE)
    assert found.agreement == expected
    assert found.agreement_of_reviewed.accuracy.value < expected.accuracy.value


def test_the_accuracy_of_a_label_is_that_of_its_accepted_rows():
    found = rule_outcome(scores_of([[3.0, 0, 0]] * 3 + [[0.1, 0, 0]], "aaba"), 1.0, ReviewRule(thresholds={"a": 0.9}))
    assert found.per_label["a"].accuracy.value == pytest.approx(2 / 3)
    assert found.per_label["a"].share_accepted.value == pytest.approx(3 / 4)
    assert (found.per_label["b"].rows, found.per_label["b"].accuracy, found.per_label["b"].share_accepted) == (
        0,
        None,
        None,
    )


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_rule_that_accepts_all_or_nothing_has_one_agreement(threshold):
    found = rule_outcome(drawn(40), 1.0, ReviewRule(thresholds=dict.fromkeys(TASK.names, threshold)))
    assert (found.agreement is None, found.agreement_of_reviewed is None) == (threshold == 1.0, threshold == 0.0)


def test_the_curve_goes_from_all_rows_to_few():
    scores = locked(200)
    points = risk_coverage(scores, 1.0, NO_SHIFTS).points
    assert (points[0].coverage, points[0].rows) == (1.0, 200)
    assert points[0].accuracy.value == pytest.approx(accuracy_score(scores.codes, scores.labels))
    assert points[-1].rows == 10
    assert all(one.rows > other.rows for one, other in pairwise(points))
    assert all(one.least_chance <= other.least_chance for one, other in pairwise(points))


def test_more_confident_rows_are_correct_more_often():
    points = risk_coverage(locked(2000), 1.0, NO_SHIFTS).points
    assert points[-1].accuracy.value > points[10].accuracy.value > points[0].accuracy.value


def test_the_area_under_the_curve_is_the_mean_error_rate_worked_by_hand():
    # From sure to unsure: right, right, wrong, right: 0, 0, 1/3, 1/4.
    logits = [[4.0, 0, 0], [3.0, 0, 0], [2.0, 0, 0], [1.0, 0, 0]]
    found = risk_coverage(scores_of(logits, "aaba"), 1.0, NO_SHIFTS)
    assert found.aurc == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)


def test_few_rows_make_a_short_curve():
    assert [point.rows for point in risk_coverage(drawn(3), 1.0, NO_SHIFTS).points] == [3, 2, 1]


def test_accepted_rows_of_a_single_group_have_one_group():
    scores = drawn(40)
    found = rule_outcome(scores_of(scores.logits, scores.codes, groups=("x",) * 40), 1.0, RULE)
    assert (found.agreement.groups, found.agreement.kappa.low) == (1, -1)


def test_groups_of_equal_rows_widen_the_interval_of_what_is_accepted():
    rows = drawn(40)
    logits, codes = np.repeat(rows.logits, 10, axis=0), np.repeat(rows.codes, 10)
    alone = rule_outcome(scores_of(logits, codes), 1.0, RULE).share_accepted
    grouped = rule_outcome(
        scores_of(logits, codes, groups=tuple(str(row // 10) for row in range(400))), 1.0, RULE
    ).share_accepted
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def questions_of(rows, distinct, first=0):
    return tuple(f"question {first + row % distinct}" for row in range(rows))


@pytest.mark.parametrize(("distinct", "closed"), [(4, True), (20, True), (21, False), (60, False)])
@pytest.mark.parametrize("new_questions", ["review", "accept"])
def test_a_response_to_a_question_that_no_validation_row_has_is_decided_as_the_bundle_decides(
    distinct, closed, new_questions
):
    validation = replace(drawn(60), contexts=questions_of(60, distinct))
    review = ReviewSection(aim="at_most_to_people", share=0.3, new_questions=new_questions)
    chosen = choose(validation, EvaluationSection(), review)
    test = chosen.apply(replace(locked(40, seed=1), contexts=questions_of(20, 4) + questions_of(20, 4, first=900)))
    found = review_figures(chosen, chosen.apply(validation), test)
    reviewed = closed and new_questions == "review"
    assert (found.questions.questions, found.questions.validation_rows) == (distinct, 60)
    assert (found.questions.closed, found.questions.reviewed) == (closed, reviewed)
    assert found.questions.rows == (20 if closed else 0)
    assert found.test.reasons.get("new question", 0) == (20 if reviewed else 0)
    assert "new question" not in found.validation.reasons
    if closed:
        assert found.questions.outcome.rows == 20
        assert found.questions.outcome.accepted > 0
        assert (found.questions.outcome.accepted < found.test.accepted) or reviewed


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_validation_rows_choose_the_limit_of_novelty_and_test_rows_show_its_effect(share):
    draw = np.random.default_rng(0)
    validation = replace(drawn(100), novelty=tuple(draw.lognormal(size=100).tolist()))
    chosen = choose(validation, EvaluationSection(), ReviewSection(aim="none", novelty={"false_alarms": share}))
    limit = chosen.review.rule.max_novelty
    # Of 100 rows, the limit is at place ⌈101 · (1 - share)⌉.
    beyond = 100 - math.ceil(101 * (1 - share))
    assert sum(novelty > limit for novelty in validation.novelty) == beyond
    test = replace(locked(80, seed=1), novelty=(0.5,) * 60 + (limit * 1.01,) * 20)
    found = review_figures(chosen, validation, test)
    assert (found.validation.novelty.flagged, found.test.novelty.flagged) == (beyond, 20)
    assert found.test.reasons["unlike training"] == 20
    assert (found.test.novelty.agreement_of_flagged.rows, found.test.novelty.agreement_of_others.rows) == (20, 60)
    assert found.test.accepted == 60


@pytest.mark.parametrize("novelty", [None, {"false_alarms": None}])
def test_without_a_limit_no_row_is_too_novel(novelty):
    validation = replace(drawn(100), novelty=tuple(range(100)))
    chosen = choose(validation, EvaluationSection(), ReviewSection(novelty=novelty))
    assert chosen.review.rule.max_novelty is None
    assert review_figures(chosen, validation, replace(locked(40), novelty=(1e6,) * 40)).test.novelty is None


@pytest.mark.parametrize("texts", [1, 29])
def test_with_too_few_training_texts_no_row_is_accepted(texts):
    validation = drawn(100)
    training = [{"response": f"text {number}"} for number in range(texts)]
    chosen = choose(validation, EvaluationSection(), ReviewSection(), training=training)
    assert chosen.review.rule.max_novelty == REVIEW_ALL
    found = review_figures(chosen, validation, locked(40)).test
    assert (found.accepted, found.reasons) == (0, {"unlike training": 40})
    off = choose(validation, EvaluationSection(), ReviewSection(novelty={"false_alarms": None}), training=training)
    assert off.review.rule.max_novelty is None


def test_of_few_validation_rows_the_most_novel_one_is_the_limit():
    validation = replace(drawn(12), novelty=tuple(range(12)))
    chosen = choose(validation, EvaluationSection(), ReviewSection())
    assert chosen.review.rule.max_novelty == pytest.approx(11, rel=1e-3)


def test_a_row_beyond_the_limit_is_accepted_by_no_aim():
    validation = replace(drawn(100), novelty=(1.0,) * 91 + (9.0,) * 9)
    review = ReviewSection(aim="at_most_to_people", share=0.3, novelty={"false_alarms": 0.1})
    chosen = choose(validation, EvaluationSection(), review)
    accepted = [score.novelty for score in validation.apply_rule(1.0, chosen.review.rule) if score.decision == "accept"]
    assert set(accepted) == {1.0}


def test_a_task_without_questions_has_no_figures_of_them():
    chosen = choose(drawn(60), EvaluationSection(), None)
    assert review_figures(chosen, drawn(60), locked(20)).questions is None


def test_rows_that_are_all_right_have_an_interval_with_width():
    sure = scores_of([[9.0, 0.0, 0.0]] * 20, ["a"] * 20, TestScores)
    found = rule_outcome(sure, 1.0, ReviewRule())
    assert found.share_accepted.low == pytest.approx(0.025 ** (1 / 20))
    assert found.per_label["a"].accuracy.low == pytest.approx(0.025 ** (1 / 20))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_numbers_are_refused_before_they_decide(wrong):
    with pytest.raises(DataError, match="row r1: the student's logits of 1 rows are not numbers"):
        scores_of([[1.0, 0.0, 0.0], [wrong, 0.0, 0.0]], ["a", "b"])
