"""Class shares corrected for error rates: the truth comes back, and failure is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.agreement import prevalence
from edgedistill.errors import DataError

RATES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])


def counted(shares, rates, rows=100_000):
    return {name: round(rows * share) for name, share in zip("abc", np.array(shares) @ rates, strict=False)}


def test_three_labels_get_their_true_shares_back():
    true = [0.5, 0.2, 0.3]
    found = prevalence(counted(true, RATES), (RATES * 2000).round().astype(int).tolist())
    assert found.method == "confusion matrix inverted"
    for name, share in zip("abc", true, strict=True):
        corrected = found.corrected[name]
        assert corrected.value == pytest.approx(share, abs=0.001)
        assert corrected.low < share < corrected.high
    assert not found.clipped


def test_fewer_coded_rows_give_a_wider_interval():
    widths = []
    for rows in (100, 4000):
        found = prevalence(counted([0.5, 0.2, 0.3], RATES), (RATES * rows).round().astype(int).tolist())
        widths.append(found.corrected["b"].high - found.corrected["b"].low)
    assert widths[0] > 4 * widths[1]


def test_the_interval_holds_the_true_share_about_as_often_as_it_says():
    rng, rates, true = np.random.default_rng(0), np.array([[0.9, 0.1], [0.25, 0.75]]), 0.3
    held = 0
    for trial in range(200):
        coded = [list(map(int, rng.multinomial(rows, rate))) for rows, rate in zip((70, 50), rates, strict=True)]
        positive = rng.binomial(500, true * rates[1, 1] + (1 - true) * rates[0, 1])
        found = prevalence({"no": 500 - positive, "yes": int(positive)}, coded, resamples=300, seed=trial)
        held += found.corrected["yes"].low <= true <= found.corrected["yes"].high
    assert 0.90 <= held / 200 <= 0.99


def test_the_observed_shares_are_those_of_the_counts():
    found = prevalence({"a": 30, "b": 70}, [[9, 1], [1, 9]], resamples=100)
    assert (found.rows, found.error_rates_from) == (100, 20)
    assert found.observed["a"].value == pytest.approx(0.3)


def test_a_share_below_nothing_is_moved_to_nothing_and_said():
    found = prevalence({"a": 99, "b": 1}, [[80, 20], [20, 80]], resamples=100)
    assert found.clipped
    assert (found.corrected["a"].value, found.corrected["b"].value) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("confusion", "why"),
    [
        ([[5, 5], [0, 0]], "no coded row has the label b"),
        ([[5, 5], [5, 5]], "tells the labels apart better than chance"),
        ([[1, 9], [9, 1]], "tells the labels apart better than chance"),
        ([[6, 5], [5, 6]], None),
    ],
)
def test_where_the_error_rates_say_nothing_there_is_no_correction_and_a_reason(confusion, why):
    found = prevalence({"a": 30, "b": 70}, confusion, resamples=200)
    if why is None:
        assert found.corrected is not None
    else:
        assert found.corrected is None
        assert why in found.fails


def test_too_few_coded_rows_to_tell_labels_apart_are_said():
    confusion = np.full((6, 6), 1) + np.eye(6, dtype=int)
    found = prevalence(dict.fromkeys("abcdef", 10), confusion.tolist(), resamples=200)
    assert "too few coded rows" in found.fails


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any), st.integers(0, 99))
def test_corrected_shares_are_shares(counts, seed):
    found = prevalence(
        dict(zip("abc", counts, strict=True)), (RATES * 40).round().astype(int).tolist(), resamples=20, seed=seed
    )
    assert found.corrected is not None
    assert sum(each.value for each in found.corrected.values()) == pytest.approx(1)
    assert all(0 <= each.low <= each.high <= 1 for each in found.corrected.values())


def test_no_responses_are_refused():
    with pytest.raises(DataError, match="there are no responses"):
        prevalence({"a": 0, "b": 0}, [[1, 0], [0, 1]])


def test_a_confusion_of_other_labels_is_refused():
    with pytest.raises(DataError, match="2 labels want a confusion of 2 by 2"):
        prevalence({"a": 1, "b": 0}, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
