"""Figures are written one way, and never as something that is no figure."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.agreement import Estimate
from edgedistill.report import formatting


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.4312, ".431"), (1.0, "1.000"), (-0.05, "\u2212.050"), (-0.0001, ".000"), (None, "undefined"), (2.5, "2.500")],
)
def test_a_figure_has_no_leading_zero(value, told):
    assert formatting.figure(value) == told


def test_an_estimate_has_its_interval_beside_it():
    assert formatting.estimate(Estimate(0.4312, 0.378, 0.4849)) == ".431\u00a0[.38,\u00a0.48]"


def test_a_difference_has_its_sign():
    assert formatting.difference(Estimate(0.0431, -0.012, 0.09)) == "+.043\u00a0[\u2212.01,\u00a0+.09]"


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.0, "0"), (1.0, "100"), (0.123, "12"), (0.021, "2.1"), (0.9951, "99.5"), (0.0996, "10"), (0.985, "98")],
)
def test_a_share_is_a_percentage_that_is_whole_only_where_it_says_enough(share, told):
    assert formatting.percent(share) == f"{told}\u202f%"


@pytest.mark.parametrize(("share", "told"), [(1e-6, "below 0.1\u202f%"), (1 - 1e-6, "above 99.9\u202f%")])
def test_a_share_is_nothing_or_everything_only_where_it_is(share, told):
    assert formatting.percent(share) == told


@pytest.mark.parametrize(
    ("duration", "told"),
    [(0.19, "0.2\u202fs"), (104.2, "104\u202fs"), (600.0, "10\u202fmin"), (12_240.0, "3.4\u202fh")],
)
def test_a_duration_is_told_in_what_people_think_in(duration, told):
    assert formatting.seconds(duration) == told


def test_thousands_stand_apart():
    assert formatting.count(1_234_567) == "1\u202f234\u202f567"
    assert formatting.pluralize(1, "row") == "1\u00a0row"


@pytest.mark.parametrize(
    ("nano", "told"),
    [(None, "no price stated"), (0, "$0.00"), (4_000_000, "below $0.01"), (1_230_000_000, "$1.23")],
)
def test_money_is_told_in_dollars_where_there_is_a_price(nano, told):
    assert formatting.dollars(nano) == told


def test_a_small_p_value_is_a_bound():
    assert formatting.p_value(0.0004) == "p < .001"
    assert formatting.p_value(0.0312) == "p = .031"


@given(st.floats(-1e6, 1e6) | st.sampled_from([None, math.nan, math.inf, -math.inf]))
def test_no_figure_is_ever_told_as_no_number(value):
    for told in (formatting.figure(value), formatting.percent(value)):
        assert not any(word in told.lower() for word in ("nan", "inf"))
        assert (told == "undefined") == (value is None or not math.isfinite(value))
