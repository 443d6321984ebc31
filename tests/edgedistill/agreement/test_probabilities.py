"""Metrics of probabilities equal those of scikit-learn, on the rows and on every resample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from edgedistill.agreement import certainty_metrics, probability_metrics
from edgedistill.agreement.probabilities import RocRanking
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task

TWO = Task("nominal", (Label("no"), Label("yes")), ("response",))
THREE = Task("nominal", (Label("a"), Label("b"), Label("c")), ("response",))


def drawn(rows=200, labels=3, sharpness=2.0, seed=0):
    """Human codes drawn from the probabilities themselves: perfectly calibrated ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, labels)) * sharpness
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = (probabilities.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return codes, probabilities


def named(codes, task=THREE):
    return [task.names[code] for code in codes]


def test_the_reliability_table_is_that_of_scikit_learns_calibration_curve():
    codes, probabilities = drawn(400)
    found = probability_metrics(named(codes), probabilities, THREE, resamples=50).reliability
    right = probabilities.argmax(axis=1) == codes
    accuracy, mean = calibration_curve(right, probabilities.max(axis=1), n_bins=10)
    assert [each.accuracy.value for each in found] == pytest.approx(list(accuracy))
    assert [each.mean_probability for each in found] == pytest.approx(list(mean))
    assert sum(each.rows for each in found) == 400


def test_a_probability_on_an_edge_belongs_to_the_bin_below():
    found = probability_metrics(["yes"], np.array([[0.3, 0.7]]), TWO, resamples=5).reliability
    assert [(each.low, each.high) for each in found] == [(0.6, 0.7)]


def test_the_calibration_error_is_the_weighted_gap_of_the_bins():
    # Worked by hand: two rows at .9, one right (gap .4); two at .6, both right (gap .4): 0.4.
    found = probability_metrics(
        ["yes", "no", "yes", "yes"], np.array([[0.1, 0.9], [0.1, 0.9], [0.4, 0.6], [0.4, 0.6]]), TWO, resamples=5
    )
    assert found.ece.value == pytest.approx(0.4)


def test_calibrated_probabilities_have_little_calibration_error_and_sharpened_ones_much():
    codes, probabilities = drawn(3000)
    sharpened = probabilities**4 / (probabilities**4).sum(axis=1, keepdims=True)
    calibrated, overconfident = (
        probability_metrics(named(codes), each, THREE, resamples=20) for each in (probabilities, sharpened)
    )
    assert calibrated.ece.value < 0.03 < 0.1 < overconfident.ece.value
    assert calibrated.log_loss.value < overconfident.log_loss.value
    assert calibrated.brier.value < overconfident.brier.value


def test_the_auc_of_more_labels_is_scikit_learns_one_against_the_rest():
    codes, probabilities = drawn()
    found = probability_metrics(named(codes), probabilities, THREE, resamples=50)
    assert found.auc.value == pytest.approx(roc_auc_score(codes, probabilities, multi_class="ovr", average="macro"))
    assert found.auc_per_label["a"].value == pytest.approx(roc_auc_score(codes == 0, probabilities[:, 0]))


def test_two_labels_have_one_auc_whichever_is_positive():
    codes, probabilities = drawn(labels=2)
    found = probability_metrics(named(codes, TWO), probabilities, TWO, resamples=20)
    assert found.auc.value == found.auc_per_label["no"].value == pytest.approx(found.auc_per_label["yes"].value)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.9])), min_size=2, max_size=12),
    st.integers(0, 99),
)
def test_the_auc_of_a_resample_is_scikit_learns_of_the_rows_it_drew(rows, seed):
    is_label, probability = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    times = np.random.default_rng(seed).integers(3, size=(5, len(rows)))
    areas, rarer = RocRanking.from_probabilities(probability, is_label).auc(times.astype(float))
    for area, rarest, drawn_times in zip(areas, rarer, times, strict=True):
        drawn_labels = np.repeat(is_label, drawn_times)
        assert rarest == min(drawn_labels.sum(), (~drawn_labels).sum())
        if 0 < drawn_labels.sum() < len(drawn_labels):
            assert area == pytest.approx(roc_auc_score(drawn_labels, np.repeat(probability, drawn_times)))
        else:
            assert np.isnan(area)


def test_brier_score_and_log_loss_are_scikit_learns():
    codes, probabilities = drawn(50)
    found = probability_metrics(named(codes), probabilities, THREE, resamples=5)
    assert found.brier.value == pytest.approx(brier_score_loss(codes, probabilities, labels=range(3)))
    assert found.log_loss.value == pytest.approx(log_loss(codes, probabilities, labels=range(3)))
    two, both = np.minimum(codes, 1), np.column_stack([probabilities[:, 0], probabilities[:, 1:].sum(axis=1)])
    found = probability_metrics(named(two, TWO), both, TWO, resamples=5)
    assert found.brier.value == pytest.approx(brier_score_loss(two, both[:, 1]))


def test_probabilities_that_are_always_right_still_have_intervals():
    found = probability_metrics(["no", "yes"] * 10, np.array([[1.0, 0.0], [0.0, 1.0]] * 10), TWO)
    assert (found.auc.value, found.brier.value, found.ece.value) == (1.0, 0.0, 0.0)
    assert found.auc.low < 0.95
    for each in (found.brier, found.log_loss, found.ece):
        assert each.low <= each.value < each.high
    (top,) = found.reliability
    assert top.accuracy.low == pytest.approx(binomtest(20, 20).proportion_ci().low)


def test_from_a_single_group_nothing_is_known_of_the_quality_of_probabilities():
    codes, probabilities = drawn(40)
    found = probability_metrics(named(codes), probabilities, THREE, groups=["x"] * 40)
    assert (found.auc.low, found.auc.high, found.brier.low, found.brier.high) == (0, 1, 0, 2)
    assert {(each.accuracy.low, each.accuracy.high) for each in found.reliability} == {(0, 1)}


def test_a_label_without_a_row_has_no_auc_and_neither_has_the_mean():
    codes, probabilities = drawn()
    found = probability_metrics(named(np.minimum(codes, 1)), probabilities, THREE, resamples=20)
    assert found.auc is None
    assert found.auc_per_label["c"] is None
    assert found.auc_per_label["a"] is not None


def test_groups_of_equal_rows_widen_the_interval():
    codes, probabilities = drawn(40)
    codes, probabilities = np.repeat(codes, 10), np.repeat(probabilities, 10, axis=0)
    alone = probability_metrics(named(codes), probabilities, THREE).brier
    groups = [str(row // 10) for row in range(400)]
    grouped = probability_metrics(named(codes), probabilities, THREE, groups=groups).brier
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_certain_mistake_has_a_finite_loss():
    found = probability_metrics(["no", "yes"], np.array([[0.0, 1.0], [0.0, 1.0]]), TWO, resamples=5)
    assert np.isfinite(found.log_loss.value)


@pytest.mark.parametrize("probabilities", [[[0.5, 0.5]], [[0.5, 0.4], [0.5, 0.5]], [0.5, 0.5]])
def test_probabilities_of_another_shape_or_sum_are_refused(probabilities):
    with pytest.raises(DataError, match="probabilities must have shape"):
        probability_metrics(["no", "yes"], np.array(probabilities), TWO)


def test_the_certainty_of_labels_is_judged_as_by_scikit_learn_and_by_hand():
    rng = np.random.default_rng(3)
    certainty = np.round(rng.random(300), 3)
    right = rng.random(300) < certainty
    found = certainty_metrics(certainty.tolist(), right.tolist(), resamples=200)
    assert found.auc.value == pytest.approx(roc_auc_score(right, certainty))
    assert found.right.value == pytest.approx(right.mean())
    assert found.mean == pytest.approx(certainty.mean())
    # Ten labels at .95, of which five are right, and ten at .15, of which none is: half of .45 and of .15.
    by_hand = certainty_metrics([0.95] * 10 + [0.15] * 10, [True] * 5 + [False] * 15, resamples=200)
    assert by_hand.ece.value == pytest.approx((0.45 + 0.15) / 2)
    assert by_hand.auc.value == pytest.approx((5 * 10 + 5 * 5 / 2) / (5 * 15))


def test_rows_of_a_learner_widen_the_intervals_of_certainty():
    certainty, right = [0.9, 0.2] * 50, [True, False, False, False] * 25
    alone = certainty_metrics(certainty, right, resamples=300)
    grouped = certainty_metrics(certainty, right, groups=[str(row // 20) for row in range(100)], resamples=300)
    one = certainty_metrics(certainty, right, groups=["x"] * 100, resamples=300)
    assert grouped.ece.high - grouped.ece.low > alone.ece.high - alone.ece.low
    assert (one.ece.low, one.ece.high, one.auc.low, one.auc.high) == (0, 1, 0, 1)


def test_if_all_labels_are_right_nothing_tells_them_apart():
    assert certainty_metrics([0.5, 0.7], [True, True], resamples=50).auc is None


@pytest.mark.parametrize(
    ("certainty", "right", "message"),
    [
        ([], [], "no rows"),
        ([0.5], [True, False], "lab"),
        ([85.0], [True], "certainty"),
        ([float("nan")], [True], "cer"),
    ],
)
def test_a_certainty_that_cannot_be_judged_is_an_error(certainty, right, message):
    with pytest.raises(DataError, match=message):
        certainty_metrics(certainty, right)
