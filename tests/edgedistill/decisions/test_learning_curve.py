"""A learning curve predicts more rows, and says where it cannot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.decisions.learning_curve import fit_power_law, learning_curve, nested_order, subset_sizes
from edgedistill.errors import ArgumentError
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", tuple(map(Label, "ab")), ("response",))
SIZES = (50, 100, 200, 400)


def coding(rng, human, error):
    return ["ab"[(each == "a") ^ (rng.random() < error) ^ 1] for each in human]


def curve_of(errors, rows=400, seeds=4, **given):
    """A curve of students that err as often as stated, by size."""
    rng = np.random.default_rng(0)
    human = [("a", "b")[place % 2] for place in range(rows)]
    codings = {size: [coding(rng, human, error) for _ in range(seeds)] for size, error in errors.items()}
    return learning_curve(human, codings, TASK, **given)


def errors_of(a, b, c):
    """Errors for which κ follows the power law: with two equally frequent labels κ is 1 - 2 errors."""
    return {size: (1 - (a - b * size**-c)) / 2 for size in SIZES}


@given(st.floats(0.3, 1), st.floats(0, 3), st.sampled_from([0.25, 0.5, 1.0]))
def test_a_power_law_is_found_again(a, b, c):
    sizes = np.array(SIZES, dtype=float)
    found = fit_power_law(sizes, (a - b * sizes**-c)[None])
    for rows in (*SIZES, 800, 1200):
        assert found[0] - found[1] * rows ** -found[2] == pytest.approx(a - b * rows**-c, abs=1e-6)


def test_a_falling_curve_is_fitted_as_a_flat_one():
    a, b, _ = fit_power_law(np.array(SIZES, dtype=float), np.array([[0.6, 0.55, 0.5, 0.5]]))
    assert (float(a[0]), float(b[0])) == (pytest.approx(0.5375), 0)


def test_a_rising_curve_predicts_what_the_law_says():
    curve = curve_of(errors_of(0.85, 4, 0.6), rows=3000)
    assert curve.outlook == "rising"
    assert [each.rows for each in curve.predictions] == [600, 800, 1200]
    for each in curve.predictions:
        truth = 0.85 - 4 * each.rows**-0.6
        assert each.kappa.low <= truth <= each.kappa.high
        assert each.gain.low <= truth - (0.85 - 4 * 400**-0.6) <= each.gain.high
    assert curve.last_doubling.low > 0


def test_a_flat_curve_is_called_flat():
    curve = curve_of(dict.fromkeys(SIZES, 0.05), rows=8000, seeds=8)
    assert curve.outlook == "flat"
    assert "more train codes are not expected to help" in curve.reason
    assert curve.predictions[-1].gain.high < 0.05


def test_the_difference_between_training_sets_widens_the_interval_of_the_full_size():
    """All subsets of the full size are the same rows, so only smaller ones show how much training sets differ."""
    rng = np.random.default_rng(1)
    human = [("a", "b")[place % 2] for place in range(2000)]
    same, different = (
        {
            size: [coding(rng, human, 0.2 - 0.03 * place + spread * (seed - 1.5) * (size < 400)) for seed in range(4)]
            for place, size in enumerate(SIZES)
        }
        for spread in (0, 0.02)
    )
    alone, mixed = (learning_curve(human, each, TASK).last_doubling for each in (same, different))
    assert mixed.high - mixed.low > 1.5 * (alone.high - alone.low)


def test_few_validation_rows_leave_it_open_whether_the_curve_rises():
    curve = curve_of(errors_of(0.85, 2, 0.6), rows=60, seeds=2)
    assert curve.outlook in ("uncertain", "not extrapolated")
    assert curve.last_doubling.low < 0 < curve.last_doubling.high


def test_two_sizes_or_a_student_at_chance_are_not_extrapolated():
    two = curve_of({50: 0.2, 100: 0.1})
    assert (two.outlook, two.predictions, two.asymptote) == ("not extrapolated", (), None)
    assert "cannot be extrapolated from 2 sizes" in two.reason
    assert "no better than chance" in curve_of(dict.fromkeys(SIZES, 0.5)).reason


def test_a_prediction_that_could_be_anything_is_not_given():
    curve = curve_of({50: 0.45, 100: 0.4, 200: 0.35, 400: 0.3}, rows=30, seeds=2)
    assert curve.outlook == "not extrapolated"
    assert curve.predictions == ()


def test_the_interval_of_a_point_is_wider_for_few_learners():
    errors = dict.fromkeys(SIZES, 0.1)
    alone = curve_of(errors)
    grouped = curve_of(errors, groups=[f"s{place // 40}" for place in range(400)])
    assert grouped.points[-1].mean.high - grouped.points[-1].mean.low > (
        alone.points[-1].mean.high - alone.points[-1].mean.low
    )


def test_label_sets_have_a_curve():
    task = Task("multilabel", tuple(map(Label, "ab")), ("response",))
    human = ["a", "b", "a;b", "none"] * 30
    curve = learning_curve(human, {size: [human, human] for size in SIZES}, task)
    assert [point.mean.value for point in curve.points] == [1.0] * 4
    assert curve.kappa_name == "mean κ over labels"


def test_every_beginning_of_an_order_has_the_labels_in_proportion():
    codes = ["a"] * 30 + ["b"] * 10
    for seed in range(5):
        order = nested_order(codes, TASK, seed)
        assert sorted(order) == list(range(40))
        for size in (8, 20):
            assert abs(sum(codes[place] == "b" for place in order[:size]) - size / 4) <= 1
    assert nested_order(codes, TASK, 0) != nested_order(codes, TASK, 1)


@pytest.mark.parametrize(("rows", "sizes"), [(400, (50, 100, 200, 400)), (50, (12, 25, 50)), (15, (15,)), (3, (3,))])
def test_subsets_too_small_to_train_on_are_left_out(rows, sizes):
    assert subset_sizes(rows, TASK) == sizes


def test_sizes_with_different_numbers_of_seeds_are_refused():
    with pytest.raises(ArgumentError):
        learning_curve(["a", "b"], {10: [["a", "b"]], 20: [["a", "b"]] * 2}, TASK)
