"""Number formats, and no figure is ever shown as NaN."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.agreement import Estimate
from edgedistill.report import formatting


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.4312, ".431"), (1.0, "1.000"), (-0.05, "\u2212.050"), (-0.0001, ".000"), (None, "undefined"), (2.5, "2.500")],
)
def test_a_figure_has_no_leading_zero(value, expected):
    assert formatting.figure(value) == expected


def test_an_estimate_has_its_interval_beside_it():
    assert formatting.estimate(Estimate(0.4312, 0.378, 0.4849)) == ".431\u00a0[.38,\u00a0.48]"


def test_a_difference_has_its_sign():
    assert formatting.difference(Estimate(0.0431, -0.012, 0.09)) == "+.043\u00a0[\u2212.01,\u00a0+.09]"


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, "0"), (1.0, "100"), (0.123, "12"), (0.021, "2.1"), (0.9951, "99.5"), (0.0996, "10"), (0.985, "98")],
)
def test_a_share_is_a_percentage_with_a_decimal_near_its_limits(share, expected):
    assert formatting.percent(share) == f"{expected}\u202f%"


@pytest.mark.parametrize(("share", "expected"), [(1e-6, "below 0.1\u202f%"), (1 - 1e-6, "above 99.9\u202f%")])
def test_a_share_is_0_or_100_percent_only_if_exact(share, expected):
    assert formatting.percent(share) == expected


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(0.19, "0.2\u202fs"), (104.2, "104\u202fs"), (600.0, "10\u202fmin"), (12_240.0, "3.4\u202fh")],
)
def test_a_duration_is_shown_in_a_readable_unit(duration, expected):
    assert formatting.seconds(duration) == expected


def test_thousands_are_separated():
    assert formatting.count(1_234_567) == "1\u202f234\u202f567"
    assert formatting.pluralize(1, "row") == "1\u00a0row"


@pytest.mark.parametrize(
    ("nano", "expected"),
    [(None, "no price stated"), (0, "$0.00"), (4_000_000, "below $0.01"), (1_230_000_000, "$1.23")],
)
def test_money_is_shown_in_dollars_if_a_price_is_stated(nano, expected):
    assert formatting.dollars(nano) == expected


def test_a_small_p_value_is_a_bound():
    assert formatting.p_value(0.0004) == "p < .001"
    assert formatting.p_value(0.0312) == "p = .031"


@given(st.floats(-1e6, 1e6) | st.sampled_from([None, math.nan, math.inf, -math.inf]))
def test_no_figure_is_ever_shown_as_nan(value):
    for expected in (formatting.figure(value), formatting.percent(value)):
        assert not any(word in expected.lower() for word in ("nan", "inf"))
        assert (expected == "undefined") == (value is None or not math.isfinite(value))


def test_an_interval_is_shown_with_enough_digits_to_have_a_width():
    assert formatting.estimate(Estimate(0.381, 0.3802, 0.3843)) == ".381\u00a0[.380,\u00a0.384]"
    assert formatting.difference(Estimate(0.001, 0.0004, 0.0021)) == "+.001\u00a0[.000,\u00a0+.002]"


def test_a_figure_without_an_interval_shows_none():
    point = Estimate(0.5, 0.5, 0.5)
    assert (formatting.estimate(point), formatting.difference(point)) == (".500", "+.500")
    assert formatting.percent_estimate(point) == "50\u202f%"
