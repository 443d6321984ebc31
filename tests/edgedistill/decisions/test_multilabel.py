"""Calibration, review rule and coding sheet of a task with any number of labels."""

import numpy as np
import pytest

from edgedistill.agreement import agreement
from edgedistill.data.types import Response
from edgedistill.decisions import (
    AtMostToPeople,
    KeepKappa,
    TestScores,
    ValidationScores,
    choose_rule,
    fit_temperature,
    read_sheet,
    risk_coverage,
    rule_outcome,
)
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.task.task import Label, Task, join_labels

from .scoring import scores_of

TASK = Task("multilabel", (Label("a"), Label("b"), Label("c")), ("response",))


def drawn(rows, *, sharpened=1.0, seed=0, kind=ValidationScores, cut=()):
    """Whether each label holds is drawn from a student's probabilities, which are then sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 3)) * 2.5
    held = rng.random((rows, 3)) < 1 / (1 + np.exp(-logits))
    codes = [join_labels([name for name, holds in zip(TASK.names, row, strict=True) if holds], TASK) for row in held]
    return scores_of(logits * sharpened, codes, kind, cut=cut, task=TASK, thresholds=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 2.5])
def test_the_fitted_temperature_undoes_overconfidence(sharpened):
    assert fit_temperature(drawn(4000, sharpened=sharpened)).temperature == pytest.approx(sharpened, rel=0.08)


def test_a_few_rows_without_a_mistake_do_not_ask_for_certainty():
    scores = scores_of([[4.0, -4.0, -4.0], [-4.0, 4.0, 4.0]], ["a", "b;c"], task=TASK)
    assert fit_temperature(scores).temperature > 1


def test_the_confidence_of_a_row_is_that_of_its_least_certain_label():
    scores = drawn(50)
    expected = [score.probability for score in scores.apply_rule(1.0, ReviewRule())]
    assert scores.confidences(1.0).tolist() == expected
    assert min(expected) >= 0.5


def test_the_share_for_people_is_sent_by_one_threshold_for_all_labels():
    scores = drawn(200)
    choice = choose_rule(scores, 1.0, AtMostToPeople(0.2))
    assert choice.rule.thresholds == {}
    assert choice.met
    sent = sum(score.decision == "review" for score in scores.apply_rule(1.0, choice.rule))
    assert sent == 40


def test_accepted_rows_keep_the_mean_kappa_of_the_aim():
    validation, test = drawn(1500), drawn(3000, seed=1, kind=TestScores)
    everything = agreement(test.codes, test.labels, TASK, resamples=1).kappa.value
    choice = choose_rule(validation, 1.0, KeepKappa(0.75))
    assert choice.met
    assert everything < 0.75
    found = rule_outcome(test, 1.0, choice.rule)
    assert found.agreement.kappa.value > 0.75
    assert 0 < found.accepted < found.rows


def test_an_aim_out_of_reach_sends_every_response_to_a_person():
    scores = drawn(60)
    choice = choose_rule(scores, 1.0, KeepKappa(0.999))
    assert not choice.met
    assert {score.decision for score in scores.apply_rule(1.0, choice.rule)} == {"review"}


def test_rows_with_a_label_are_counted_whatever_their_other_labels():
    logits = [[3.0, 3.0, -3.0], [3.0, -3.0, -3.0], [-3.0, 3.0, -3.0], [-3.0, -3.0, -3.0]]
    scores = scores_of(logits, ["a;b", "a", "none", "none"], task=TASK, thresholds=(0.5, 0.5, 0.5))
    found = rule_outcome(scores, 1.0, ReviewRule()).per_label
    assert [(found[name].rows, found[name].accepted) for name in "abc"] == [(2, 2), (2, 2), (0, 0)]
    assert (found["a"].accuracy.value, found["b"].accuracy.value, found["c"].accuracy) == (1.0, 0.5, None)


def test_the_most_confident_rows_are_correct_more_often():
    curve = risk_coverage(drawn(400), 1.0, {})
    assert curve.points[-1].accuracy.value > curve.points[0].accuracy.value


def merged(code, coded=()):
    response = Response("r1", {"response": "text"}, "u.csv", 2)
    values = {"id": "r1", "response": "text", "human_code": code}
    return read_sheet("sheet.csv", [TableRow(2, values, values)], {"r1": response}, dict(coded), TASK)


def test_a_sheet_s_codes_come_back_in_the_task_s_order():
    assert [code.label for code in merged(" c; a ").codes] == ["a;c"]
    assert [code.label for code in merged("none").codes] == ["none"]


def test_a_code_that_was_merged_before_is_known_however_it_is_written():
    assert merged("c;a", {"r1": "a;c"}).known == ("r1",)


def test_a_sheet_s_cell_that_is_no_code_is_a_fault():
    (fault,) = merged("a;a").faults
    assert fault.fault == "'a;a' is not a valid code: the label 'a' is repeated; labels are a, b, c"
