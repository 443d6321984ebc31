"""Statistics of many confusion matrices equal those of scikit-learn, and intervals hold at the edges of their range."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)

from edgedistill.agreement import Estimate, agreement, change, compare, probability_metrics, subgroups
from edgedistill.agreement.bootstrap import Figure, Rows, clopper_pearson, share_figure
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
from edgedistill.agreement.draws import draw_confusions
from edgedistill_serve.task.task import Label, Task

from ...growth import assert_costs_at_most, cpu_seconds, loop_seconds

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
    rng = np.random.default_rng(1)
    return np.array([confusion_matrix(truth[rows], coded[rows], 4) for rows in rng.integers(40, size=(300, 40))])


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


@pytest.mark.parametrize("groups", [None, [str(row // 4) for row in range(200)]])
def test_weights_of_the_rows_come_first_and_resamples_average_to_them(groups):
    cells = codings(200)[0]
    drawn = Rows.of(200, groups).draw_cells(cells, 4, 4000, np.random.default_rng(2))
    assert drawn[0].tolist() == [*np.bincount(cells), 0]
    np.testing.assert_allclose(drawn[1:].mean(axis=0), drawn[0], atol=2)


def test_rows_of_a_group_have_one_weight():
    rows = Rows.of(5, list("xxxyy"))
    (weights,) = rows.draw_rows(50, np.random.default_rng(3))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] != weights[:, 3]).all()


@pytest.mark.parametrize("rows", [7, 60_000])
def test_rows_are_drawn_in_blocks_without_losing_a_resample(rows):
    groups = [str(row // 2) for row in range(rows)]
    drawn = Rows.of(rows, groups).draw_cells(np.zeros(rows, dtype=int), 1, 170, np.random.default_rng(4))
    assert drawn.shape == (171, 1)


def test_groups_of_one_row_each_are_independent_rows():
    truth, coded = codings(50)
    alone = agreement(named(truth), named(coded), TASK)
    grouped = agreement(named(truth), named(coded), TASK, groups=[str(row) for row in range(50)])
    assert (grouped.kappa, grouped.accuracy, grouped.per_label) == (alone.kappa, alone.accuracy, alone.per_label)


def test_few_groups_widen_the_interval_more_than_many():
    truth, coded = codings(240)
    few, many = (
        agreement(named(truth), named(coded), TASK, groups=[str(row % count) for row in range(240)]).kappa
        for count in (4, 120)
    )
    assert few.high - few.low > 1.3 * (many.high - many.low)


def test_a_design_effect_is_that_of_equal_rows_or_of_independent_ones():
    groups = [str(row // 10) for row in range(4000)]
    alike = np.repeat(np.random.default_rng(0).integers(2, size=400), 10).astype(float)
    independent = np.random.default_rng(0).integers(2, size=4000).astype(float)
    assert Rows.of(4000, groups).design_effect(alike) == pytest.approx(10, abs=0.2)
    assert Rows.of(4000, groups).design_effect(independent) == pytest.approx(1, abs=0.3)
    assert Rows.of(4000, None).design_effect(alike) == 1


def test_without_an_error_the_design_effect_is_the_supposed_one():
    groups = [str(row // 10) for row in range(40)]
    assert Rows.of(40, groups).design_effect(np.ones(40)) == pytest.approx(1 + 9 * 0.3)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(hits, misses):
    if hits + misses:
        expected = binomtest(hits, hits + misses).proportion_ci(method="exact")
        assert clopper_pearson(hits, misses) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_resamples_of_independent_rows_have_the_limits_of_clopper_and_pearson():
    drawn = Rows.of(20, None).draw_cells(np.array([1] * 18 + [0] * 2), 2, 40_000, np.random.default_rng(0))
    rows = Rows.of(20, None)
    additional = rows.draw_additional(np.ones(20), 40_000, np.random.default_rng(1))
    exact = share_figure(drawn[:, 1], drawn[:, 0], additional, rows).estimate()
    found = share_figure(drawn[:, 1], drawn[:, 0], additional, rows, exact=False).estimate()
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.005)


def test_resamples_in_which_a_figure_is_undefined_widen_its_interval():
    undefined = np.array([0.5, *[np.nan] * 10, *[0.5] * 90])
    found = Figure(undefined, undefined, (-1.0, 1.0)).estimate()
    assert (found.low, found.value, found.high) == (-1, 0.5, 1)


def test_a_figure_without_a_finite_interval_is_none():
    undefined = np.array([0.5, *[np.nan] * 10])
    assert Figure(undefined, undefined, (-np.inf, np.inf)).estimate() is None


CODES = {"nominal": st.sampled_from(["a", "b", "c"]), "multilabel": st.sampled_from(["none", "a", "b;c", "a;b;c"])}
CODES["ordinal"] = CODES["nominal"]


def estimates(found):
    """Every estimate in a result, with its place."""
    if isinstance(found, Estimate):
        yield found
    elif is_dataclass(found):
        for each in fields(found):
            yield from estimates(getattr(found, each.name))
    elif isinstance(found, Mapping):
        for each in found.values():
            yield from estimates(each)
    elif isinstance(found, tuple | list):
        for each in found:
            yield from estimates(each)


@pytest.mark.parametrize("kind", sorted(CODES))
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_no_interval_is_without_width_and_each_holds_its_figure(kind, data):
    task = Task(kind, TASK.labels, ("response",))
    rows = data.draw(st.lists(st.tuples(*[CODES[kind]] * 3, st.sampled_from("uvwxyz")), min_size=1, max_size=20))
    human, first, second, groups = map(list, zip(*rows, strict=True))
    if data.draw(st.booleans()):
        first = second = human
    for of in (None, groups):
        probabilities = np.full((len(rows), 3), 1 / 3)
        for found in (
            agreement(human, first, task, groups=of, resamples=100),
            compare(human, first, second, task, groups=of, resamples=100),
            change(human, first, second, task, groups=of, resamples=100),
            probability_metrics(human, probabilities, task, groups=of, resamples=100),
            subgroups(human, first, ["x"] * len(rows), task, groups=of, smallest=1, resamples=100),
        ):
            for each in estimates(found):
                assert np.isfinite([each.low, each.value, each.high]).all()
                assert each.low <= each.value <= each.high
                assert each.low < each.high
        for label in agreement(human, first, task, groups=of, resamples=100).per_label.values():
            assert all(low < high for low, high in label.intervals.values())


@pytest.mark.parametrize("rows", [15, 40])
@pytest.mark.parametrize("accuracy", [0.7, 0.95])
@pytest.mark.parametrize("kind", ["nominal", "ordinal"])
def test_intervals_hold_the_truth_in_about_95_of_100_samples(rows, accuracy, kind):
    task, rng, samples = Task(kind, TASK.labels, ("response",)), np.random.default_rng(rows), 120
    truth = np.diag([accuracy] * 3) / 3 + (1 - np.eye(3)) * (1 - accuracy) / 6
    kappa = kappas(truth[None], quadratic=kind == "ordinal")[0]
    held = above = 0
    for _ in range(samples):
        cells = rng.choice(9, size=rows, p=truth.ravel())
        found = agreement(named(cells // 3), named(cells % 3), task, resamples=300).kappa
        held += found is None or found.low <= kappa <= found.high
        above += found is not None and found.low > kappa
    assert held / samples > 0.9
    assert above / samples < 0.06


def test_three_rows_without_an_error_show_little():
    found = agreement(list("abc"), list("abc"), TASK)
    assert found.kappa.value == 1
    assert found.kappa.low < 0.3
    assert found.accuracy.low == pytest.approx(0.025 ** (1 / 3))


def test_groups_of_equal_rows_widen_the_interval():
    truth, coded = (np.repeat(codes, 10) for codes in codings(60))
    groups = [str(row // 10) for row in range(600)]
    alone = agreement(named(truth), named(coded), TASK)
    grouped = agreement(named(truth), named(coded), TASK, groups=groups)
    width = alone.kappa.high - alone.kappa.low
    assert grouped.kappa.high - grouped.kappa.low > 2.5 * width
    assert grouped.kappa.value == alone.kappa.value
    assert (alone.groups, grouped.groups) == (None, 60)


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


@pytest.mark.parametrize("grouped", [False, True])
def test_two_thousand_resamples_of_five_thousand_rows_cost_a_few_steps_of_a_loop_for_each_row(grouped):
    truth, coded = codings(5000)
    groups = [str(row % 2500) for row in range(5000)] if grouped else None
    steps_of_a_row = 25
    assert_costs_at_most(
        lambda: cpu_seconds(lambda: agreement(named(truth), named(coded), TASK, groups=groups)),
        (2000 / 20 * steps_of_a_row, lambda: loop_seconds(20 * 5000)),
    )


@pytest.mark.parametrize("rows", [5, 15])
def test_the_upper_end_of_quadratic_weighted_kappa_allows_for_rare_outer_labels(rows):
    shares, steps = np.array([0.6, 0.2, 0.1, 0.1]), np.arange(4)
    wrong = np.where(np.eye(4) == 1, 0, 4.0 ** -np.abs(steps[:, None] - steps))
    cells = shares[:, None] * (wrong / wrong.sum(axis=1, keepdims=True) + np.eye(4)) / 2
    truth = kappas(cells[None], quadratic=True)[0]
    rng, missed, samples = np.random.default_rng(0), 0, 150
    for sample in range(samples):
        drawn = rng.choice(16, size=rows, p=cells.ravel())
        figure = draw_confusions(drawn // 4, drawn % 4, 4, None, 300, sample).kappa(quadratic=True).estimate()
        missed += figure is not None and figure.high < truth
    assert missed <= 0.05 * samples
