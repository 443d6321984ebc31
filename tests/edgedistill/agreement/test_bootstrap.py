"""Resampling, and statistics of resamples that equal those of scikit-learn."""

import time

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)

from edgedistill.agreement import agreement
from edgedistill.agreement.bootstrap import bayesian_row_weights, resample_cells, resample_confusions, row_weights
from edgedistill.agreement.confusion import (
    accuracies,
    alphas,
    confusion_matrix,
    f1s,
    kappas,
    macro,
    macro_f1s,
    mccs,
    precisions,
    recalls,
    weighted,
)
from edgedistill_serve.task.task import Label, Task

TASK = Task(kind="nominal", labels=(Label("a"), Label("b"), Label("c")), inputs=("response",))


def codings(rows, *, labels=3, right=0.7, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(labels, size=rows)
    return truth, np.where(rng.random(rows) < right, truth, rng.integers(labels, size=rows))


def rows_of(confusion):
    """The two codings, row by row, that a confusion matrix counts."""
    truth, coded = np.indices(confusion.shape)
    return np.repeat(truth.ravel(), confusion.ravel()), np.repeat(coded.ravel(), confusion.ravel())


def named(codes):
    return ["abc"[code] for code in codes]


@pytest.fixture(scope="module")
def resampled():
    truth, coded = codings(40, labels=4)
    return resample_confusions(truth, coded, 4, None, 300, np.random.default_rng(1))


def test_every_resample_has_as_many_rows_as_there_are(resampled):
    assert set(resampled.sum(axis=(1, 2))) == {40}


def test_the_accuracy_of_every_resample_is_scikit_learns(resampled):
    expected = [accuracy_score(*rows_of(matrix)) for matrix in resampled]
    np.testing.assert_allclose(accuracies(resampled), expected, rtol=1e-12)


def test_the_macro_f1_of_every_resample_is_scikit_learns(resampled):
    expected = [f1_score(*rows_of(matrix), average="macro") for matrix in resampled]
    np.testing.assert_allclose(macro_f1s(resampled), expected, rtol=1e-12)


@pytest.mark.parametrize("quadratic", [False, True])
def test_the_kappa_of_every_resample_is_scikit_learns(resampled, quadratic):
    weights = "quadratic" if quadratic else None
    expected = [cohen_kappa_score(*rows_of(matrix), labels=range(4), weights=weights) for matrix in resampled]
    np.testing.assert_allclose(kappas(resampled, quadratic=quadratic), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("of_labels", [(precisions, precision_score), (recalls, recall_score), (f1s, f1_score)])
@pytest.mark.parametrize("average", [macro, weighted])
def test_the_averages_of_every_resample_are_scikit_learns(resampled, of_labels, average):
    ours, theirs = of_labels
    expected = [theirs(*rows_of(matrix), average=average.__name__, zero_division=0) for matrix in resampled]
    np.testing.assert_allclose(average(ours(resampled), resampled), expected, rtol=1e-12)


def test_the_correlation_of_every_resample_is_scikit_learns(resampled):
    expected = [matthews_corrcoef(*rows_of(matrix)) for matrix in resampled]
    np.testing.assert_allclose(mccs(resampled), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_the_alpha_of_every_resample_is_krippendorffs(resampled, level):
    expected = [
        krippendorff.alpha(np.array(rows_of(matrix), dtype=float), level_of_measurement=level) for matrix in resampled
    ]
    np.testing.assert_allclose(alphas(resampled, ordinal=level == "ordinal"), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("groups", [None, list("aabbbcdddd")])
def test_row_weights_draw_as_many_rows_or_groups_as_there_are(groups):
    drawn = np.concatenate(list(row_weights(10, groups, 50, np.random.default_rng(5))))
    assert drawn.shape == (50, 10)
    of_groups = drawn[:, [0, 2, 5, 6]] if groups else drawn
    assert set(of_groups.sum(axis=1)) == {4 if groups else 10}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_a_figure_of_one_matrix_is_scikit_learns_whichever_labels_occur(pairs):
    truth, coded = (np.array(codes) for codes in zip(*pairs, strict=True))
    matrix = confusion_matrix(truth, coded, 3)[None]
    assert macro_f1s(matrix)[0] == pytest.approx(f1_score(truth, coded, average="macro"))
    for quadratic, weights in ((False, None), (True, "quadratic")):
        found = kappas(matrix, quadratic=quadratic)[0]
        if len({*truth, *coded}) == 1:
            assert np.isnan(found)
        else:
            assert found == pytest.approx(cohen_kappa_score(truth, coded, labels=range(3), weights=weights), abs=1e-9)


def test_resampled_cells_average_to_the_rows_themselves():
    truth, coded = codings(200)
    confusion = confusion_matrix(truth, coded, 3)
    mean = resample_confusions(truth, coded, 3, None, 4000, np.random.default_rng(2)).mean(axis=0)
    np.testing.assert_allclose(mean, confusion, atol=0.5)


def test_a_group_is_drawn_with_all_its_rows():
    truth, coded = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])
    groups = list("xxxyy")
    first, second = np.array([[2, 1], [0, 0]]), np.array([[0, 0], [1, 1]])
    drawn = resample_confusions(truth, coded, 2, groups, 200, np.random.default_rng(3))
    found = {tuple(matrix.ravel()) for matrix in drawn}
    assert found == {tuple((first * n + second * (2 - n)).ravel()) for n in (0, 1, 2)}


def test_rows_of_a_single_group_are_drawn_one_by_one():
    rows, group = np.arange(8), ["x"] * 8
    assert len(np.unique(resample_cells(rows, 8, group, 50, np.random.default_rng(0)), axis=0)) > 1
    assert len(np.unique(np.concatenate([*row_weights(8, group, 50, np.random.default_rng(0))]), axis=0)) > 1
    assert len(np.unique(bayesian_row_weights(8, group, 50, np.random.default_rng(0))[0], axis=1)) > 1


def test_many_groups_are_drawn_in_blocks_without_losing_a_resample():
    rows = 60_000
    truth, coded = codings(rows)
    drawn = resample_confusions(truth, coded, 3, [str(row) for row in range(rows)], 170, np.random.default_rng(4))
    assert drawn.shape == (170, 3, 3)
    assert set(drawn.sum(axis=(1, 2))) == {rows}


def test_groups_of_equal_rows_widen_the_interval():
    truth, coded = (np.repeat(codes, 10) for codes in codings(60))
    groups = [str(row // 10) for row in range(600)]
    alone = agreement(named(truth), named(coded), TASK)
    grouped = agreement(named(truth), named(coded), TASK, groups=groups)
    width = alone.kappa.high - alone.kappa.low
    assert grouped.kappa.high - grouped.kappa.low > 2.5 * width
    assert grouped.kappa.value == alone.kappa.value
    assert (alone.groups, grouped.groups) == (None, 60)


def test_groups_of_one_row_give_nearly_the_interval_of_single_rows():
    truth, coded = codings(300)
    alone = agreement(named(truth), named(coded), TASK)
    grouped = agreement(named(truth), named(coded), TASK, groups=[str(row) for row in range(300)])
    assert grouped.accuracy.low == pytest.approx(alone.accuracy.low, abs=0.01)
    assert grouped.accuracy.high == pytest.approx(alone.accuracy.high, abs=0.01)


def test_the_interval_of_an_accuracy_is_near_the_normal_approximation():
    truth, coded = codings(1000)
    found = agreement(named(truth), named(coded), TASK).accuracy
    margin = 1.96 * (found.value * (1 - found.value) / 1000) ** 0.5
    assert found.low == pytest.approx(found.value - margin, abs=0.005)
    assert found.high == pytest.approx(found.value + margin, abs=0.005)


def test_the_same_seed_gives_the_same_agreement():
    truth, coded = codings(100)
    assert agreement(named(truth), named(coded), TASK, seed=5) == agreement(named(truth), named(coded), TASK, seed=5)


def test_another_seed_gives_another_interval():
    truth, coded = codings(100)
    first, second = (agreement(named(truth), named(coded), TASK, seed=seed, resamples=99) for seed in (5, 6))
    assert first.kappa != second.kappa


def test_resamples_without_a_second_label_are_left_out_of_kappas_interval():
    found = agreement(list("aaaab"), list("aaaab"), TASK)
    assert (found.kappa.low, found.kappa.high) == (1.0, 1.0)


@pytest.mark.parametrize("grouped", [False, True])
def test_two_thousand_resamples_of_five_thousand_rows_take_less_than_a_second(grouped):
    truth, coded = codings(5000)
    groups = [str(row % 2500) for row in range(5000)] if grouped else None
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        agreement(named(truth), named(coded), TASK, groups=groups)
        best = min(best, time.process_time() - start)
    assert best < 1
