"""Metrics of probabilities equal those of scikit-learn, on the rows and on every resample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from edgedistill.agreement import probability_metrics
from edgedistill.agreement.bootstrap import row_weights
from edgedistill.agreement.probabilities import RocRanking, _label_losses
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
    weights = next(row_weights(len(rows), None, 5, np.random.default_rng(seed)))
    for area, times in zip(RocRanking.from_probabilities(probability, is_label).auc(weights), weights, strict=True):
        drawn_labels = np.repeat(is_label, times)
        if 0 < drawn_labels.sum() < len(drawn_labels):
            assert area == pytest.approx(roc_auc_score(drawn_labels, np.repeat(probability, times)))
        else:
            assert np.isnan(area)


def test_the_means_of_a_resample_are_those_of_the_rows_it_drew():
    codes, probabilities = drawn(30)
    weights = next(row_weights(30, None, 4, np.random.default_rng(1)))
    means = _label_losses(codes, probabilities, np.eye(3)[codes]).means(weights)
    for place, times in enumerate(weights):
        again = probability_metrics(
            named(np.repeat(codes, times)), np.repeat(probabilities, times, axis=0), THREE, resamples=1
        )
        assert means["brier"][place] == pytest.approx(again.brier.value)
        assert means["log_loss"][place] == pytest.approx(again.log_loss.value)
        assert means["ece"][place] == pytest.approx(again.ece.value)


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
