"""From which probability a label of a multilabel task is given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from edgedistill.student.thresholds import choose_thresholds, exact_match_and_macro_f1, readout_by
from edgedistill_serve.task import Label, Task

TASK = Task(kind="multilabel", labels=(Label("asks"), Label("praises")), inputs=("response",))
ROWS = st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=30)


def codes(*rows):
    return [";".join(row.split()) or "none" for row in rows]


def test_each_label_has_a_threshold_of_its_own():
    probabilities = [[0.3, 0.9], [0.25, 0.8], [0.1, 0.7], [0.05, 0.1]]
    found = choose_thresholds(np.array(probabilities), codes("asks praises", "asks praises", "", ""), TASK)
    assert found.values == pytest.approx((0.175, 0.75))
    assert found.f1 == (1.0, 1.0)
    assert found.notes == ()


def test_of_equal_thresholds_the_nearest_to_a_half_is_taken():
    found = choose_thresholds(np.array([[0.9, 0.9], [0.1, 0.1]]), codes("asks praises", ""), TASK)
    assert found.values == (0.5, 0.5)


def test_a_label_that_no_row_has_keeps_a_half_and_is_noted():
    found = choose_thresholds(np.array([[0.9, 0.9], [0.1, 0.1]]), codes("asks", ""), TASK)
    assert (found.values[1], found.f1[1]) == (0.5, None)
    assert found.notes == ("No validation row has the label 'praises': it is given from probability 0.5 on.",)


def test_a_label_that_every_row_has_is_given_to_all():
    found = choose_thresholds(np.array([[0.2, 0.9], [0.4, 0.1]]), codes("asks", "asks"), TASK)
    assert found.values[0] <= 0.2
    assert found.f1[0] == 1.0


@given(ROWS)
def test_no_other_threshold_has_a_higher_f1(rows):
    probabilities, holds = np.array([p for p, _ in rows]), np.array([h for _, h in rows])
    scored = np.stack([probabilities, probabilities], axis=1)
    found = choose_thresholds(scored, ["asks" if hold else "none" for hold in holds], TASK)
    if not holds.any():
        assert found.f1[0] is None
        return
    assert f1_score(holds, probabilities >= found.values[0]) == pytest.approx(found.f1[0])
    others = [f1_score(holds, probabilities >= value, zero_division=0.0) for value in (*probabilities, 1e-6, 1 - 1e-6)]
    assert found.f1[0] >= max(others) - 1e-12


@given(ROWS)
def test_a_threshold_lies_between_0_and_1_whatever_the_probabilities(rows):
    scored = np.array([[round(p), p] for p, _ in rows])
    found = choose_thresholds(scored, ["asks;praises" if hold else "none" for _, hold in rows], TASK)
    assert all(0 < value < 1 for value in found.values)


def test_logits_are_read_by_the_thresholds_that_validation_rows_choose():
    logits = np.array([[-1.0, 3.0], [-2.0, -3.0]])
    assert readout_by(logits, codes("asks praises", ""), TASK).labels(logits) == ("asks;praises", "none")


def test_rows_are_judged_with_thresholds_of_their_own():
    logits = np.array([[-1.0, 3.0], [-2.0, 2.0]])
    holds = np.array([[True, True], [False, False]])
    assert exact_match_and_macro_f1(logits, holds) == (1.0, 1.0)
