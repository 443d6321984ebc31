"""Decision thresholds of the labels of a multilabel task."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from edgedistill.student.label_thresholds import (
    PRIOR_ROWS,
    choose_thresholds,
    exact_match_and_macro_f1,
    label_decoder_from_logits,
)
from edgedistill_serve.task.task import Label, Task

TASK = Task(kind="multilabel", labels=(Label("asks"), Label("praises")), inputs=("response",))
ROWS = st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=30)


def codes(*rows):
    return [";".join(row.split()) or "none" for row in rows]


def test_each_label_has_its_own_threshold():
    probabilities = np.array([[0.3, 0.9], [0.25, 0.8], [0.1, 0.7], [0.05, 0.1]] * 100)
    found = choose_thresholds(probabilities, codes("asks praises", "asks praises", "", "") * 100, TASK)
    assert found.values == pytest.approx((0.175, 0.75))
    assert found.f1 == (1.0, 1.0)
    assert found.notes == ()


def test_a_few_rows_do_not_move_a_threshold_far_from_that_of_calibrated_probabilities():
    probabilities = np.array([[0.05 * place, 0.5] for place in range(1, 20)])
    noisy = codes(*["asks" if place == 18 else "" for place in range(19)])
    few = choose_thresholds(probabilities, noisy, TASK).values[0]
    many = choose_thresholds(np.tile(probabilities, (50, 1)), noisy * 50, TASK).values[0]
    assert few < 0.6
    assert many > 0.9


def test_of_equal_thresholds_the_one_nearest_to_one_half_is_selected():
    found = choose_thresholds(np.array([[0.9, 0.9], [0.1, 0.1]]), codes("asks praises", ""), TASK)
    assert found.values == (0.5, 0.5)


def test_a_label_without_rows_has_the_threshold_one_half_and_is_noted():
    found = choose_thresholds(np.array([[0.9, 0.9], [0.1, 0.1]]), codes("asks", ""), TASK)
    assert (found.values[1], found.f1[1]) == (0.5, None)
    assert found.notes == ("No validation row has the label 'praises'; its threshold is 0.5.",)


def test_a_label_of_every_row_is_predicted_for_all():
    found = choose_thresholds(np.array([[0.2, 0.9], [0.4, 0.1]] * 200), codes("asks", "asks") * 200, TASK)
    assert found.values[0] <= 0.2
    assert found.f1[0] == 1.0


@settings(deadline=None, max_examples=25)
@given(ROWS)
def test_no_other_threshold_has_a_higher_f1_with_the_pseudo_rows(rows):
    probabilities, holds = np.array([p for p, _ in rows]), np.array([h for _, h in rows])
    scored = np.stack([probabilities, probabilities], axis=1)
    found = choose_thresholds(scored, ["asks" if hold else "none" for hold in holds], TASK)
    if not holds.any():
        assert found.f1[0] is None
        return
    assert f1_score(holds, probabilities >= found.values[0], zero_division=0.0) == pytest.approx(found.f1[0])

    def steadied(threshold):
        """Each row stands there as it is, and twice more: the label holds, and it does not, as its probability says."""
        share = PRIOR_ROWS / len(rows)
        return f1_score(
            np.concatenate([holds, np.ones(len(rows)), np.zeros(len(rows))]),
            np.tile(probabilities >= threshold, 3),
            sample_weight=np.concatenate([np.ones(len(rows)), share * probabilities, share * (1 - probabilities)]),
            zero_division=0.0,
        )

    best = max(steadied(threshold) for threshold in (*probabilities, 1e-6, 1 - 1e-6))
    assert steadied(found.values[0]) >= best - 1e-9


@given(ROWS)
def test_a_threshold_is_between_0_and_1_for_any_probabilities(rows):
    scored = np.array([[round(p), p] for p, _ in rows])
    found = choose_thresholds(scored, ["asks;praises" if hold else "none" for _, hold in rows], TASK)
    assert all(0 < value < 1 for value in found.values)


def test_logits_are_decoded_with_the_thresholds_selected_on_validation_rows():
    logits = np.array([[-1.0, 3.0], [-2.0, -3.0]] * 100)
    found = label_decoder_from_logits(logits, codes("asks praises", "") * 100, TASK)
    assert found.labels(logits[:2]) == ("asks;praises", "none")


def test_epochs_are_evaluated_with_a_threshold_of_one_half():
    logits = np.array([[1.0, 3.0], [-2.0, 2.0]])
    holds = np.array([[True, True], [False, False]])
    assert exact_match_and_macro_f1(logits, holds) == pytest.approx((0.5, (1 + 2 / 3) / 2))
