"""The arithmetic is that of statsmodels and ppi-python, and intervals hold where few rows are coded."""

from dataclasses import replace

import numpy as np
import ppi_py
import pytest
import statsmodels.api as sm
from ppi_py import ppi

from edgedistill.errors import DataError
from edgedistill.estimates.estimators import (
    Rows,
    cross_fit,
    difference_of,
    fit_dsl,
    fit_human,
    fit_naive,
    fit_ppi,
    rescale,
    student_interval,
    wilson_interval,
)


def drawn(rows=500, coded=100, *, seed=0, accuracy=0.8, logistic=False, design=None, weights=None, clusters=None):
    """Rows of a model whose outcome is 0 or 1, and the human outcomes of all rows."""
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(rows), rng.normal(size=rows)]) if design is None else design
    human = (rng.random(rows) < 1 / (1 + np.exp(-(design @ np.linspace(-0.3, 0.8, design.shape[1]))))).astype(float)
    machine = np.where(rng.random(rows) < accuracy, human, 1 - human)
    has_code = rng.permutation(rows) < coded
    return (
        Rows(
            design=design,
            machine=machine,
            human=np.where(has_code, human, np.nan),
            weights=has_code * (np.ones(rows) if weights is None else weights),
            known=np.zeros(rows, np.bool_),
            clusters=np.arange(rows) if clusters is None else clusters,
            cluster_count=rows if clusters is None else int(clusters.max()) + 1,
            logistic=logistic,
        ),
        human,
        has_code,
    )


def alike(*, rows, coded, logistic=False):
    """Rows of which the first ones are coded, whose covariates occur as often among them as among the others."""
    design = np.column_stack([np.ones(rows), np.tile([0.0, 1.0, 3.0, 4.0, 9.0], rows // 5) / 5])
    made, human, _ = drawn(rows=rows, design=design, logistic=logistic)
    has_code = np.arange(rows) < coded
    return replace(made, human=np.where(has_code, human, np.nan), weights=has_code * 1.0), human, has_code


def errors(fit):
    """Standard errors without the additional coded rows."""
    return np.sqrt((fit.influence**2).sum(axis=0))


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """ppi-python compiles its loops for half a minute; without, they take milliseconds for a few rows."""
    for name in ("_ols_get_stats", "_logistic_get_stats", "safe_expit", "safe_log1pexp"):
        monkeypatch.setattr(ppi, name, getattr(getattr(ppi, name), "py_func", getattr(ppi, name)))


def test_human_only_ols_is_that_of_statsmodels_with_hc3():
    rows, human, coded = drawn()
    known = sm.OLS(human[coded], rows.design[coded]).fit(cov_type="HC3")
    found = fit_human(rows)
    assert found.values == pytest.approx(known.params)
    assert errors(found) == pytest.approx(known.bse * np.sqrt(99 / 100))  # a jackknife has (n - 1) / n


def test_human_only_logistic_regression_is_that_of_statsmodels():
    rows, human, coded = drawn(coded=250, logistic=True)
    known = sm.GLM(human[coded], rows.design[coded], sm.families.Binomial()).fit(cov_type="HC0")
    found = fit_human(rows)
    assert found.values == pytest.approx(known.params, abs=1e-6)
    assert errors(found) == pytest.approx(known.bse, rel=0.05)


def test_inclusion_probabilities_weight_as_in_weighted_least_squares():
    weights = np.random.default_rng(1).uniform(1, 5, 500)
    rows, human, coded = drawn(weights=weights)
    known = sm.WLS(human[coded], rows.design[coded], weights[coded]).fit()
    assert fit_human(rows).values == pytest.approx(known.params)


def test_clusters_have_cluster_robust_errors():
    clusters = np.arange(500) % 50
    rows, human, coded = drawn(coded=400, clusters=clusters)
    known = sm.OLS(human[coded], rows.design[coded]).fit(cov_type="cluster", cov_kwds={"groups": clusters[coded]})
    assert errors(fit_human(rows)) == pytest.approx(known.bse, rel=0.08)


def test_naive_treats_machine_codes_as_human():
    rows, _, _ = drawn()
    known = sm.OLS(rows.machine, rows.design).fit(cov_type="HC3")
    found = fit_naive(rows)
    assert found.values == pytest.approx(known.params)
    assert errors(found) == pytest.approx(known.bse, rel=0.002)


def test_the_mean_and_its_error_are_those_of_ppi_python():
    rows, human, coded = drawn(design=np.ones((500, 1)))
    found = fit_ppi(rows)
    share = found.machine_weights[0] * (1 - 100 / 500)  # there, uncoded rows alone are compared with coded ones
    low, high = ppi_py.ppi_mean_ci(human[coded], rows.machine[coded], rows.machine[~coded], alpha=0.05, lam=share)
    assert found.values[0] == pytest.approx((low[0] + high[0]) / 2)
    assert errors(found)[0] == pytest.approx((high[0] - low[0]) / 2 / 1.959964, rel=0.02)


def test_lambda_is_that_of_ppi_python():
    rows, human, coded = drawn(rows=4000, coded=400, design=np.ones((4000, 1)))
    found = fit_ppi(rows)
    low, high = ppi_py.ppi_mean_ci(human[coded], rows.machine[coded], rows.machine[~coded], alpha=0.05)
    # There, the variance of the machine codes is that of all rows; here, that of the coded ones.
    assert found.values[0] == pytest.approx((low[0] + high[0]) / 2, abs=0.05 * errors(found)[0])
    assert errors(found)[0] == pytest.approx((high[0] - low[0]) / 2 / 1.959964, rel=0.01)
    assert 0.3 < found.machine_weights[0] < 0.7


@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")  # ppi-python's own call
@pytest.mark.parametrize("place", [0, 1])
def test_logistic_coefficients_are_those_of_ppi_python(place):
    rows, human, coded = drawn(rows=1000, coded=200, logistic=True)
    found = fit_ppi(rows)
    share = found.machine_weights[place] * (1 - 200 / 1000)
    given = (rows.design[coded], human[coded], rows.machine[coded], rows.design[~coded], rows.machine[~coded])
    assert found.values[place] == pytest.approx(ppi_py.ppi_logistic_pointestimate(*given, lam=share)[place], abs=1e-6)


@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")
@pytest.mark.parametrize("place", [0, 1])
def test_errors_of_logistic_coefficients_are_those_of_ppi_python_where_coded_rows_have_the_covariates_of_the_others(
    place,
):
    rows, human, coded = alike(logistic=True, rows=1000, coded=200)
    found = fit_ppi(rows)
    share = found.machine_weights[place] * (1 - 200 / 1000)
    given = (rows.design[coded], human[coded], rows.machine[coded], rows.design[~coded], rows.machine[~coded])
    low, high = ppi_py.ppi_logistic_ci(*given, alpha=0.05, lam=share)
    assert errors(found)[place] == pytest.approx((high - low)[place] / 2 / 1.959964, rel=0.02)


@pytest.mark.parametrize("place", [0, 1])
def test_ols_coefficients_are_those_of_ppi_python_where_coded_rows_have_the_covariates_of_the_others(place):
    # ppi-python inverts the covariates of coded and of other rows separately; with equal ones that is the same.
    rows, human, coded = alike(rows=500, coded=100)
    design = rows.design
    found = fit_ppi(rows)
    share = found.machine_weights[place] * (1 - 100 / 500)
    given = (design[coded], human[coded], rows.machine[coded], design[~coded], rows.machine[~coded])
    assert found.values[place] == pytest.approx(ppi_py.ppi_ols_pointestimate(*given, lam=share)[place])
    low, high = ppi_py.ppi_ols_ci(*given, alpha=0.05, lam=share)
    assert errors(found)[place] == pytest.approx((high - low)[place] / 2 / 1.959964, rel=0.05)


def test_dsl_is_a_regression_on_its_pseudo_outcomes():
    rows, human, coded = drawn()
    predicted = cross_fit(rows.machine[:, None], human[:, None], rows.weights, rows.clusters, np.random.default_rng(0))[
        :, 0
    ]
    pseudo = predicted + np.where(coded, 500 / 100 * (human - predicted), 0)
    known = sm.OLS(pseudo, rows.design).fit(cov_type="HC0")
    found = fit_dsl(rows, predicted)
    assert found.values == pytest.approx(known.params)
    assert errors(found) == pytest.approx(known.bse, rel=0.1)  # whose weights do not know how many rows are coded


def test_a_prediction_does_not_use_the_code_of_its_own_cluster():
    rows, human, coded = drawn(rows=60, coded=30, clusters=np.arange(60) // 2)

    def predict(codes):
        return cross_fit(rows.machine[:, None], codes[:, None], rows.weights, rows.clusters, np.random.default_rng(0))

    before = predict(human)
    first = int(np.flatnonzero(coded)[0])
    other = human.copy()
    other[first] = 5.0
    same = rows.clusters == rows.clusters[first]
    assert predict(other)[same] == pytest.approx(before[same])
    assert predict(other)[~same] != pytest.approx(before[~same])


def test_machine_codes_that_say_nothing_are_ignored_by_ppi():
    rows, _, _ = drawn(accuracy=0.5, design=np.ones((500, 1)), seed=4)
    assert fit_ppi(rows).machine_weights[0] < 0.2
    assert np.sqrt(fit_ppi(rows).variance) == pytest.approx(np.sqrt(fit_human(rows).variance), rel=0.05)


@pytest.mark.parametrize("coded", [25, 100])
def test_no_error_in_the_coded_rows_is_no_certainty(coded):
    rows, human, _ = drawn(coded=coded, accuracy=1.0, design=np.ones((500, 1)))
    for fit in (fit_ppi(rows), fit_dsl(rows, human)):
        low, high = student_interval(fit, 0)
        assert high - low > 2 * 2.5 / coded


def test_equal_human_codes_have_intervals_with_a_width():
    rows, _, coded = drawn(coded=25, design=np.ones((500, 1)))
    all_one = replace(rows, human=np.where(coded, 1.0, np.nan))
    low, high = wilson_interval(fit_human(all_one), 25)
    assert (low, high) == (pytest.approx(0.86, abs=0.03), pytest.approx(1.0))
    for fit in (fit_ppi(all_one), fit_human(all_one)):
        low, high = student_interval(fit, 0, (0.0, 1.0))
        assert 0.85 < low < 0.95
        assert high == 1.0


def test_wilson_interval_of_independent_rows_is_that_of_statsmodels():
    from statsmodels.stats.proportion import proportion_confint

    rows, human, coded = drawn(coded=400, design=np.ones((500, 1)))
    known = proportion_confint(human[coded].sum(), 400, method="wilson")
    assert wilson_interval(fit_human(rows), 400) == pytest.approx(known, abs=0.002)


def test_related_rows_widen_the_interval_of_a_share():
    clusters = np.arange(500) // 10
    rows, _, _ = drawn(coded=500, design=np.ones((500, 1)), clusters=clusters)
    of_cluster = (np.random.default_rng(0).random(50) < 0.5).astype(float)[clusters]
    related = replace(rows, human=of_cluster)
    widths = [high - low for low, high in (wilson_interval(fit_human(each), 500) for each in (rows, related))]
    assert widths[1] > 2.5 * widths[0]


def test_known_rows_count_with_their_human_codes_and_correct_nothing():
    rows, human, coded = drawn(rows=400, coded=100, design=np.ones((400, 1)))
    known = np.zeros(400, np.bool_)
    known[np.flatnonzero(~coded)[:100]] = True
    found = fit_ppi(replace(rows, known=known, machine=np.where(known, human, rows.machine)))
    share = found.machine_weights[0]
    others = human[known].sum() + 300 * (
        human[coded].mean() + share * (rows.machine[~known].mean() - rows.machine[coded].mean())
    )
    assert found.values[0] == pytest.approx(others / 400)


def test_a_difference_of_independent_groups_has_the_sum_of_their_variances():
    rows, _, _ = drawn(rows=200, coded=100, design=np.ones((200, 1)))
    one = fit_human(replace(rows, cluster_count=400))
    moved = replace(
        rows,
        clusters=rows.clusters + 200,
        cluster_count=400,
    )
    difference = difference_of(fit_human(moved), one)
    assert difference.values == pytest.approx(0)
    assert difference.variance == pytest.approx(2 * one.variance)
    assert difference.degrees == pytest.approx(2 * one.degrees)


def test_a_scaled_covariate_has_a_scaled_coefficient():
    rows, _, _ = drawn()
    scale = np.array([1.0, 4.0])
    scaled = replace(rows, design=rows.design / scale)
    found, known = rescale(fit_ppi(scaled), scale), fit_ppi(rows)
    assert found.values == pytest.approx(known.values)
    assert found.variance == pytest.approx(known.variance)


def test_collinear_covariates_and_separated_outcomes_are_refused():
    rows, _, _ = drawn(design=np.ones((500, 2)))
    with pytest.raises(DataError, match="collinear"):
        fit_human(rows)
    design = np.column_stack([np.ones(500), np.arange(500.0) > 250])
    rows, _, coded = drawn(design=design, logistic=True)
    separated = replace(
        rows,
        human=np.where(coded, design[:, 1], np.nan),
    )
    with pytest.raises(DataError, match="separate the outcomes"):
        fit_human(separated)


def test_a_coefficient_of_a_single_coded_row_is_refused():
    design = np.column_stack([np.ones(500), np.zeros(500)])
    rows, _, coded = drawn(design=design)
    design[np.flatnonzero(coded)[0], 1] = 1.0
    with pytest.raises(DataError, match="single human-coded row"):
        fit_human(rows)


@pytest.mark.parametrize("accuracy", [0.75, 0.9])
def test_intervals_hold_the_truth(accuracy):
    held = {"ppi": 0, "dsl": 0, "human": 0, "naive": 0}
    for seed in range(200):
        rows, human, _ = drawn(rows=400, coded=40, seed=seed, accuracy=accuracy, design=np.ones((400, 1)))
        rows = replace(rows, machine=np.minimum(rows.machine, human))  # the machine never codes a 0 as 1
        predicted = cross_fit(
            rows.machine[:, None], human[:, None], rows.weights, rows.clusters, np.random.default_rng(seed)
        )[:, 0]
        truth = 1 / (1 + np.exp(0.3))
        ends = {
            "ppi": student_interval(fit_ppi(rows), 0),
            "dsl": student_interval(fit_dsl(rows, predicted), 0),
            "human": wilson_interval(fit_human(rows), 40),
            "naive": student_interval(fit_naive(rows), 0),
        }
        for name, (low, high) in ends.items():
            held[name] += low <= truth <= high
    assert min(held["ppi"], held["dsl"], held["human"]) >= 182  # 95 % of 200, less 2.6 standard errors
    assert held["naive"] < 170
