"""How many rows would bring the lower limit of an interval up to a required value."""

import math

import pytest

from edgedistill.agreement import Estimate, agreement
from edgedistill.agreement.sample_size import rows_for_lower_limit
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("a"), Label("b")), ("response",))


def test_31_rows_that_leave_46_to_89_need_about_180():
    assert rows_for_lower_limit(Estimate(0.70, 0.46, 0.89), 31, 0.6) == 180


def test_no_number_of_rows_is_named_where_the_figure_itself_is_too_low_or_undefined():
    assert rows_for_lower_limit(Estimate(0.6, 0.4, 0.8), 31, 0.6) is None
    assert rows_for_lower_limit(Estimate(math.nan, math.nan, math.nan), 31, 0.6) is None
    assert rows_for_lower_limit(None, 31, 0.6) is None
    assert rows_for_lower_limit(Estimate(0.60001, 0.4, 0.8), 31, 0.6) is None


def test_rows_that_are_enough_are_enough():
    assert rows_for_lower_limit(Estimate(0.9, 0.7, 1.0), 31, 0.6) == 31


@pytest.mark.parametrize("wrong", [4, 6, 8])
def test_the_interval_of_so_many_rows_like_these_ends_near_the_required_value(wrong):
    human = ["a", "b"] * 20
    coded = ["b" if place < wrong else code for place, code in enumerate(human)]
    now = agreement(human, coded, TASK).kappa
    required = now.value - (now.value - now.low) / 2
    needed = rows_for_lower_limit(now, 40, required)
    places = [place % 40 for place in range(needed)]
    later = agreement([human[place] for place in places], [coded[place] for place in places], TASK).kappa
    assert required - 0.02 < later.low < required + 0.05  # rather too many rows than too few
