"""Draws have exactly the inclusion probabilities that they state, and several waves together estimate without bias."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.decisions.sampling import (
    effective_probabilities,
    inclusion_probabilities,
    mixture_sizes,
    sampling_order,
    systematic_sample,
    wave_weight,
)
from edgedistill.errors import ArgumentError

SIZES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40)


@given(SIZES, st.data())
def test_probabilities_sum_to_the_number_of_rows_and_follow_the_sizes(sizes, data):
    rows = data.draw(st.integers(1, len(sizes)))
    found = inclusion_probabilities(np.array(sizes), rows)
    assert found.sum() == pytest.approx(rows)
    assert ((found > 0) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(sizes, kind="stable")]) >= -1e-9).all()
    free = found < 1 - 1e-9
    ratios = found[free] / np.array(sizes)[free]
    assert ratios == pytest.approx(np.full(len(ratios), ratios[0] if len(ratios) else 0), rel=1e-6)


@given(SIZES, st.floats(0.01, 1), st.data())
def test_no_row_is_less_likely_than_its_part_of_the_random_share(sizes, share, data):
    rows = data.draw(st.integers(1, len(sizes)))
    mixed = mixture_sizes({"signal": np.array(sizes)}, {"random": share, "signal": 1 - share}, len(sizes))
    found = inclusion_probabilities(mixed, rows)
    assert found.min() >= share * rows / len(sizes) * (1 - 1e-9)


@given(
    SIZES, st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([1 - 2**-53, 2**-1074, 0.1, 2**-41])), st.data()
)
def test_a_sample_has_the_requested_size_whatever_the_start(sizes, start, data):
    rows = data.draw(st.integers(1, len(sizes)))
    drawn = systematic_sample(inclusion_probabilities(np.array(sizes), rows), start)
    assert len(drawn) == rows
    assert len(set(drawn.tolist())) == rows


@given(SIZES, st.floats(0, 1, exclude_max=True), st.data())
def test_a_row_with_probability_1_is_always_drawn(sizes, start, data):
    probabilities = inclusion_probabilities(np.array(sizes), data.draw(st.integers(1, len(sizes))))
    drawn = systematic_sample(probabilities, start)
    assert set(np.flatnonzero(probabilities == 1).tolist()) <= set(drawn.tolist())


def test_a_row_is_drawn_for_as_many_starts_as_its_probability_says():
    probabilities = inclusion_probabilities(np.array([0.1, 5, 1, 1, 2, 0.4, 0.4, 3]), 4)
    starts = (np.arange(10_000) + 0.5) / 10_000
    counts = sum(np.bincount(systematic_sample(probabilities, start), minlength=8) for start in starts)
    assert counts / 10_000 == pytest.approx(probabilities, abs=2e-4)


@given(st.integers(1, 60), st.integers(0, 10**6))
@settings(max_examples=50)
def test_each_question_gets_its_expected_number_of_rows_up_to_one(rows, seed):
    strata = [(f"q{n % 7}", f"s{n % 11}") for n in range(60)]
    order = sampling_order(strata, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(60))
    drawn = order[systematic_sample(np.full(60, rows / 60), 0.37)]
    for question in range(7):
        expected = rows / 60 * sum(n % 7 == question for n in range(60))
        assert abs(sum(n % 7 == question for n in drawn.tolist()) - expected) < 1 + 1e-9


def test_a_signal_has_its_share_of_the_expected_draws():
    signals = {"a": np.array([1.0, 0, 0, 0]), "b": np.array([0, 2.0, 2.0, 0])}
    sizes = mixture_sizes(signals, {"random": 0.4, "a": 0.2, "b": 0.4}, 4)
    assert sizes == pytest.approx([0.3, 0.3, 0.3, 0.1])
    assert mixture_sizes({"a": np.zeros(2)}, {"random": 0.5, "a": 0.5}, 2) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("sizes", "rows", "largest"), [([1, 0], 1, 1), ([1, np.inf], 1, 1), ([1, 1], 3, 1), ([1, 1], 2, 0.5)]
)
def test_an_impossible_sample_is_refused(sizes, rows, largest):
    with pytest.raises(ArgumentError):
        inclusion_probabilities(np.array(sizes, dtype=float), rows, largest)


@dataclass
class Wave:
    """A wave of a simulation."""

    weight: float
    drawn: dict


def test_one_wave_has_its_inclusion_probabilities():
    assert effective_probabilities([Wave(1.0, {"a": 0.25, "b": 1.0})]) == {"a": 0.25, "b": 1.0}


def test_a_wave_that_begins_anew_counts_earlier_rows_as_known():
    found = effective_probabilities([Wave(1.0, {"a": 0.25}), Wave(1.0, {"b": 0.5})])
    assert found == {"a": 1.0, "b": 0.5}


def test_waves_that_depend_on_earlier_codes_estimate_the_total_without_bias():
    """Each later wave prefers the rows near the largest code so far, which makes it depend on what was drawn."""
    rng = np.random.default_rng(5)
    values = np.linspace(0, 1, 24) ** 3
    totals, weights = [], []
    for _ in range(4000):
        left, known, waves = np.arange(24), [], []
        for rows in (4, 4, 4):
            sizes = np.ones(len(left))
            if known:
                sizes = 0.3 + np.exp(-20 * np.abs(values[left] - values[known].max()))
            largest = max(rows / (rows + len(known)), rows / len(left)) if known else 1.0
            probabilities = inclusion_probabilities(sizes, rows, largest)
            order = rng.permutation(len(left))
            drawn = order[systematic_sample(probabilities[order], rng.random())]
            waves.append(
                Wave(
                    wave_weight(rows, len(known), float(probabilities.max())),
                    {int(left[i]): float(probabilities[i]) for i in drawn},
                )
            )
            known = [*known, *left[drawn].tolist()]
            left = np.delete(left, drawn)
        effective = effective_probabilities(waves)
        assert set(effective) == set(known)
        assert all(0 < each <= 1 for each in effective.values())
        totals.append(sum(values[row] / each for row, each in effective.items()))
        weights.append(sum(1 / each for each in effective.values()))
    for estimates, truth in ((totals, values.sum()), (weights, 24)):
        assert abs(np.mean(estimates) - truth) < 4 * np.std(estimates) / np.sqrt(len(estimates))
    naive = values[known].mean() * 24
    assert abs(naive - values.sum()) > 0  # the plain mean of the drawn rows is another figure
