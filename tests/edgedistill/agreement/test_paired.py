"""What a coding loses against another of the same rows is measured on the same resamples."""

import pytest
from sklearn.metrics import cohen_kappa_score

from edgedistill.agreement.paired import change
from edgedistill_serve.task import Label, Task

TASK = Task("nominal", (Label("a"), Label("b"), Label("c")), ("response",))
HUMAN = list("aabbccabcabc" * 5)
FIRST = list("aabbccabcaab" * 5)
SECOND = list("abbbccabcaab" * 5)


def test_equal_codings_lose_nothing_in_any_resample():
    found = change(HUMAN, FIRST, FIRST, TASK)
    assert (found.flips, found.flip_rate.high) == (0, 0.0)
    assert found.kappa_lost is not None
    assert (found.kappa_lost.low, found.kappa_lost.value, found.kappa_lost.high) == (0.0, 0.0, 0.0)


def test_what_is_lost_is_the_difference_of_the_kappas():
    found = change(HUMAN, FIRST, SECOND, TASK)
    wanted = cohen_kappa_score(HUMAN, FIRST) - cohen_kappa_score(HUMAN, SECOND)
    assert found.flips == 5
    assert found.kappa_lost is not None
    assert found.kappa_lost.value == pytest.approx(wanted)
    assert found.kappa_lost.low <= wanted <= found.kappa_lost.high


def test_groups_widen_the_interval_where_rows_of_a_group_are_alike():
    rows, groups = change(HUMAN, FIRST, SECOND, TASK), [str(row // 12 > 0) for row in range(60)]
    grouped = change(HUMAN, FIRST, ["c"] * 12 + FIRST[12:], TASK, groups=groups)
    assert grouped.flip_rate.high > rows.flip_rate.high


def test_a_kappa_that_is_undefined_is_told_as_none():
    assert change(["a", "a"], ["a", "a"], ["a", "a"], TASK).kappa_lost is None
