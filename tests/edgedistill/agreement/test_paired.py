"""Paired comparisons of two codings use the same resamples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from edgedistill.agreement import agreement, compare, mcnemar
from edgedistill.agreement.paired import change
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("a"), Label("b"), Label("c")), ("response",))
HUMAN = list("aabbccabcabc" * 5)
FIRST = list("aabbccabcaab" * 5)
SECOND = list("abbbccabcaab" * 5)
CODINGS = st.lists(st.tuples(*[st.sampled_from("abc")] * 3), min_size=1, max_size=30)


def test_equal_codings_may_still_differ_on_other_rows():
    found = change(HUMAN, FIRST, FIRST, TASK)
    assert (found.flips, found.flip_rate.value) == (0, 0.0)
    assert found.flip_rate.high == pytest.approx(1 - 0.025 ** (1 / 60))
    assert found.kappa_lost is not None
    assert found.kappa_lost.value == 0
    assert -0.12 < found.kappa_lost.low < 0 < found.kappa_lost.high < 0.12


def test_of_a_single_group_a_change_may_be_any():
    found = change(HUMAN, FIRST, SECOND, TASK, groups=["x"] * 60)
    assert (found.flip_rate.low, found.flip_rate.high) == (0, 1)
    assert (found.kappa_lost.low, found.kappa_lost.high) == (-2, 2)


@pytest.mark.parametrize("rows", [15, 60])
def test_intervals_of_differences_hold_the_truth_in_about_95_of_100_samples(rows):
    rng, samples, held = np.random.default_rng(rows), 120, 0
    for _ in range(samples):
        human = rng.integers(3, size=rows)
        # The second coding is right where the first is, except in 2 of 100 rows, and in 10 of 100 where it is not.
        first_right = rng.random(rows) < 0.9
        second_right = np.where(first_right, rng.random(rows) > 0.02, rng.random(rows) < 0.1)
        codings = [np.where(right, human, (human + 1) % 3) for right in (first_right, second_right)]
        names = [["abc"[code] for code in coding] for coding in (human, *codings)]
        found = compare(*names, TASK, resamples=300).differences["accuracy"]
        held += found.low <= 0.9 * 0.98 + 0.1 * 0.1 - 0.9 <= found.high
    assert held / samples > 0.9


def test_what_is_lost_is_the_difference_of_the_kappas():
    found = change(HUMAN, FIRST, SECOND, TASK)
    expected = cohen_kappa_score(HUMAN, FIRST) - cohen_kappa_score(HUMAN, SECOND)
    assert found.flips == 5
    assert found.kappa_lost is not None
    assert found.kappa_lost.value == pytest.approx(expected)
    assert found.kappa_lost.low <= expected <= found.kappa_lost.high


def test_groups_widen_the_interval_where_rows_of_a_group_are_alike():
    rows, groups = change(HUMAN, FIRST, SECOND, TASK), [str(row // 12 > 0) for row in range(60)]
    grouped = change(HUMAN, FIRST, ["c"] * 12 + FIRST[12:], TASK, groups=groups)
    assert grouped.flip_rate.high > rows.flip_rate.high


def test_an_undefined_kappa_is_none():
    assert change(["a", "a"], ["a", "a"], ["a", "a"], TASK).kappa_lost is None


def test_a_label_that_the_task_does_not_have_is_named_with_its_coding():
    with pytest.raises(DataError, match="second label 2: the task has no label 'x'"):
        compare(["a", "b"], ["a", "b"], ["a", "x"], TASK)


def test_a_comparison_counts_who_is_right_where():
    found = compare(list("aaab"), list("aabb"), list("abaa"), TASK)
    assert (found.both_right, found.only_first_right, found.only_second_right, found.neither_right) == (1, 2, 1, 0)


def test_a_difference_is_the_second_less_the_first():
    found = compare(HUMAN, FIRST, SECOND, TASK)
    expected = f1_score(HUMAN, SECOND, average="macro") - f1_score(HUMAN, FIRST, average="macro")
    assert found.differences["macro_f1"].value == pytest.approx(expected)
    assert found.differences["accuracy"].value == pytest.approx(-5 / 60)


def test_a_paired_interval_is_narrower_than_the_two_intervals_apart():
    first, second = (agreement(HUMAN, coding, TASK).accuracy for coding in (FIRST, SECOND))
    found = compare(HUMAN, FIRST, SECOND, TASK).differences["accuracy"]
    assert found.high - found.low < (first.high - first.low + second.high - second.low) / 2


def test_any_figure_of_confusion_matrices_can_be_compared():
    found = compare(HUMAN, FIRST, SECOND, TASK, figures={"recall of a": lambda draws: draws.labels.label("recall", 0)})
    assert found.differences["recall of a"].value == pytest.approx(-5 / 20)


def test_rows_in_groups_have_no_mcnemar_test_because_it_supposes_independence():
    assert compare(HUMAN, FIRST, SECOND, TASK, groups=[str(row % 6) for row in range(60)]).mcnemar is None
    assert compare(HUMAN, FIRST, SECOND, TASK).mcnemar == mcnemar(5, 0)


def test_a_single_group_shows_no_difference_and_has_no_mcnemar_test():
    found = compare(HUMAN, FIRST, SECOND, TASK, groups=["x"] * 60)
    assert set(found.differences.values()) == {None}
    assert found.mcnemar is None


@given(CODINGS)
def test_changing_sides_turns_every_difference_around(rows):
    human, first, second = (list(coding) for coding in zip(*rows, strict=True))
    one, other = (compare(human, *pair, TASK, resamples=20) for pair in ((first, second), (second, first)))
    assert one.both_right + one.only_first_right + one.only_second_right + one.neither_right == len(rows)
    for name, difference in one.differences.items():
        mirrored = other.differences[name]
        assert (difference is None) == (mirrored is None)
        if difference:
            assert difference.value == pytest.approx(-mirrored.value)
            assert difference.low <= difference.high


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_mid_p_value_is_a_probability_below_the_exact_one(first, second):
    found = mcnemar(first, second)
    assert 0 <= found.mid_p <= found.exact_p <= 1
    assert found.mid_p == pytest.approx(mcnemar(second, first).mid_p)


def test_the_exact_p_value_is_that_of_coins():
    assert mcnemar(0, 5).exact_p == pytest.approx(2 / 32)


def test_no_discordant_row_is_no_evidence():
    assert (mcnemar(0, 0).exact_p, mcnemar(0, 0).mid_p) == (1.0, 1.0)


def test_a_count_below_zero_is_refused():
    with pytest.raises(DataError, match="a row count is negative"):
        mcnemar(-1, 2)


def test_many_labels_do_not_need_a_matrix_of_all_their_triples():
    names = [f"label {place}" for place in range(60)]
    task = Task("nominal", tuple(Label(name) for name in names), ("response",))
    rng = np.random.default_rng(0)
    human, first, second = ([names[place] for place in rng.integers(60, size=50)] for _ in range(3))
    assert compare(human, first, second, task, resamples=100).rows == 50
