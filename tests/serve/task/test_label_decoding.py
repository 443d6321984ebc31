"""How logits become labels: one of all, or each of a multilabel task by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from edgedistill_serve import DataError
from edgedistill_serve.task.label_decoding import LabelDecoder, certainty, sigmoid
from edgedistill_serve.task.task import Label, Task

LABELS = (Label("praises"), Label("asks"), Label("tells"))
MOVES = Task("multilabel", LABELS, ("response",))
CODES = Task("nominal", LABELS, ("response",))
THRESHOLDS = (0.3, 0.5, 0.8)
SHARES = st.floats(0, 1)
OPEN = st.floats(0.001, 0.999)
ROWS = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5)


@given(st.floats(-1e4, 1e4), st.floats(0.1, 10))
def test_the_sigmoid_is_that_of_scipy_and_never_overflows(value, temperature):
    assert sigmoid(np.array([value]), temperature)[0] == pytest.approx(expit(value / temperature), rel=1e-12)


def test_every_label_that_reaches_its_threshold_is_assigned():
    logits = logit(np.array([[0.31, 0.49, 0.9], [0.29, 0.51, 0.79]]))
    assert LabelDecoder(MOVES, 1.0, THRESHOLDS).labels(logits) == ("praises;tells", "asks")


def test_where_no_label_reaches_its_threshold_there_is_none():
    assert LabelDecoder(MOVES, 1.0, THRESHOLDS).labels(np.full((1, 3), -9.0)) == ("none",)


def test_a_nominal_task_assigns_the_first_largest_logit():
    assert LabelDecoder(CODES).labels(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 1.0]])) == ("asks", "praises")


@given(ROWS, st.floats(0.1, 10))
def test_a_temperature_moves_each_logit_of_a_multilabel_task_toward_a_half(rows, temperature):
    # A logit of 1e-320 is 0 once it is divided, and 0 holds.
    logits = np.where(np.abs(rows) < 1e-9, 1.0, rows)
    cold = LabelDecoder(MOVES, 1.0, (0.5,) * 3)
    warm = LabelDecoder(MOVES, temperature, (0.5,) * 3)
    assert (cold.label_mask(logits) == warm.label_mask(logits)).all()


@given(ROWS, st.sampled_from([LabelDecoder(CODES, 2.0), LabelDecoder(MOVES, 2.0, THRESHOLDS)]))
def test_less_than_its_margin_on_every_logit_gives_no_row_another_label(rows, decoder):
    logits = np.array(rows)
    # A nominal label flips when two logits meet, a multilabel one when a single logit meets its threshold.
    step = decoder.margins(logits) / (1 if decoder.is_multilabel else 2) - 1e-9
    for way in (-1, 1):
        moved = logits + way * np.maximum(step, 0)[:, None] * np.array([1, -1, 1])
        assert decoder.labels(moved) == decoder.labels(logits)


@pytest.mark.parametrize(("task", "thresholds"), [(MOVES, ()), (MOVES, (0.5, 0.5)), (CODES, (0.5, 0.5, 0.5))])
def test_a_wrong_number_of_thresholds_is_refused(task, thresholds):
    with pytest.raises(DataError, match=r"a (multilabel|nominal) task of 3 labels needs [03] thresholds, not"):
        LabelDecoder(task, 1.0, thresholds)


@given(SHARES, OPEN)
def test_the_certainty_is_at_least_one_half(probability, threshold):
    assert 0.5 <= certainty(probability, threshold) <= 1


@given(OPEN)
def test_certainty_is_a_half_at_the_threshold_and_one_at_the_ends(threshold):
    assert [certainty(each, threshold) for each in (0.0, threshold, 1.0)] == [1.0, 0.5, 1.0]


def test_certainty_grows_linearly_on_both_sides_of_the_threshold():
    assert certainty(0.4, 0.8) == pytest.approx(0.75)
    assert certainty(0.9, 0.8) == pytest.approx(0.75)
    assert certainty(0.7, 0.5) == pytest.approx(0.7)
