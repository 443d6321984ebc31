"""The evidence is large where a share has left its range, and small, whenever one looks, where it has not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from edgedistill.monitoring.sequential import (
    allowed_range,
    always_valid_limits,
    evidence_by_week,
    log_evidence,
    log_evidence_above,
)


def test_the_allowed_range_is_the_exact_interval_or_the_tolerance_if_that_is_wider():
    low, high = allowed_range(100, 250, 0.01, 0.0)
    assert low == pytest.approx(beta.ppf(0.005, 100, 151))
    assert high == pytest.approx(beta.ppf(0.995, 101, 150))
    assert allowed_range(4000, 10_000, 0.01, 0.05) == pytest.approx((0.35, 0.45))
    assert allowed_range(0, 50, 0.05, 0.0)[0] == 0
    assert allowed_range(50, 50, 0.05, 0.0)[1] == 1


def test_the_evidence_is_the_average_likelihood_beyond_the_range_over_that_at_its_end():
    weight = quad(lambda p: beta.pdf(p, 0.5, 0.5), 0.3, 1)[0]
    average = quad(lambda p: beta.pdf(p, 0.5, 0.5) * p**9 * (1 - p) ** 11, 0.3, 1)[0] / weight
    found = log_evidence_above(np.array(9.0), np.array(20.0), 0.3)
    assert np.exp(found) == pytest.approx(average / (0.3**9 * 0.7**11))


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0, 1), st.floats(0, 1))
def test_the_evidence_is_a_number_for_all_counts(count, others, one, other):
    found = log_evidence(np.array(float(count)), np.array(float(count + others)), min(one, other), max(one, other))
    assert not np.isnan(found)
    assert (
        found < np.inf or min(one, other) == max(one, other) or max(one, other) in (0, 1) or min(one, other) in (0, 1)
    )


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_a_share_inside_of_the_range_rarely_ever_has_evidence(share):
    draw = np.random.default_rng(3)
    reached = [
        evidence_by_week(draw.binomial(80, share, 15).astype(float), np.full(15, 80.0), 0.1, 0.3)[0].max() >= np.log(20)
        for _ in range(400)
    ]
    assert np.mean(reached) <= 0.05


def test_a_change_is_found_and_its_week_too():
    draw = np.random.default_rng(4)
    shares = np.repeat([0.25, 0.5], [6, 6])
    evidence, began = evidence_by_week(draw.binomial(200, shares).astype(float), np.full(12, 200.0), 0.15, 0.35)
    first = int(np.flatnonzero(evidence >= np.log(1000))[0])
    assert first in (6, 7)
    assert began[first] == 6


def test_without_responses_there_is_no_evidence():
    evidence, _ = evidence_by_week(np.zeros(3), np.zeros(3), 0.2, 0.3)
    assert evidence.max() <= 1e-9


def test_limits_that_hold_at_all_times_do():
    draw = np.random.default_rng(6)
    missed = 0
    for _ in range(300):
        counts = draw.binomial(50, 0.2, 10).cumsum()
        limits = [always_valid_limits(count, 50.0 * (n + 1), 0.05) for n, count in enumerate(counts)]
        missed += any(not low <= 0.2 <= high for low, high in limits)
    assert missed / 300 <= 0.05
    assert always_valid_limits(0, 0, 0.05) == (0, 1)
    assert always_valid_limits(0, 30, 0.05)[0] == 0
