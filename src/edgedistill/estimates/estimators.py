"""Estimators of means and regression coefficients from machine codes of all rows and human codes of some.

Every method solves the same estimating equations for the coefficients θ of a linear or logistic model (a mean is a
model with an intercept only). With x the covariates, y the human and p the machine outcome of a row, μ(θ) its fitted
value, and w the inverse inclusion probabilities of the human-coded rows, scaled so that they sum to the number of rows:

    Σ over all rows λ x (p - μ(θ))  +  Σ over human-coded rows w x [(y - μ(θ)) - λ (p - μ(θ))]  =  0

    human only   λ = 0: weighted least squares or logistic regression on the human-coded rows
    PPI++        p is the machine's outcome, and λ in [0, 1] minimizes the estimated variance, per coefficient
                 (Angelopoulos, Duchi & Zrnic 2023, arXiv 2311.01453)
    DSL          λ = 1, and p is a prediction of y from the machine's codes and the covariates, fitted to the
                 human-coded rows of other folds (Egami, Hinck, Stewart & Wei 2023, arXiv 2306.04746); the equations are
                 then those of its pseudo-outcome p + w (y - p)
    naive        p instead of y in all rows, without correction

Variances are those of a jackknife that deletes a cluster (or a row) at a time, with one Newton step each; for
human-coded rows alone this is HC3 (MacKinnon & White 1985) and CR3 (Bell & McCaffrey 2002), which hold in small
samples. They are variances with respect to a superpopulation: the rows are a sample, too. The degrees of freedom of a
coefficient are the effective number of coded rows (or clusters) by their leverage a on it, (Σ a²)² / Σ a⁴, less one;
for a mean, a is the weight, and the number is that of Kish (1965).

Human and machine codes that agree on all coded rows do not prove that they agree everywhere. The variance therefore
includes that of additional coded rows whose residual is one step: two if no residual was observed, fewer by half the
sum of the squared residuals (in steps), and at least half a row. A step is 1 for the share of a label, and the mean
distance of neighbouring scores for a mean of scores. docs/decisions/0046 has the coverage of this and of other rules.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edgedistill.errors import DataError

Values: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

_NEWTON_STEPS = 50
_NEWTON_TOLERANCE = 1e-10
_LARGEST_LOGIT = 30.0
_MAX_CONDITION = 1e10
_FOLDS = 5
_REPEATS = 4
_PENALTY = 1.0
_UPPER_TAIL = 0.975
_MOST_ADDED = 2.0
_LEAST_ADDED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of one estimate.

    Attributes:
        design: Covariates of all rows, (rows, coefficients).
        machine: Machine outcome, (rows,); of rows in `known` the human outcome.
        human: Human outcome, (rows,); NaN if there is none.
        weights: Inverse inclusion probability, (rows,); 0 for rows that are not in the sample of human-coded rows. Any
            scale.
        known: Rows outside of the sample whose human code is known, such as training rows of the model, (rows,).
        clusters: Cluster of each row, from 0, (rows,).
        cluster_count: Number of clusters; those without a row have no influence.
        step: Size of a disagreement of one label.
        logistic: Whether the model is logistic.
    """

    design: Values
    machine: Values
    human: Values
    weights: Values
    known: Flags
    clusters: Places
    cluster_count: int
    step: float = 1.0
    logistic: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Coefficients and their uncertainty.

    Attributes:
        values: (coefficients,).
        influence: Influence of each cluster, (clusters, coefficients); the variance is the sum of the squares.
        extra: Variance of the additional coded rows, (coefficients,).
        degrees: Degrees of freedom of Student's distribution, (coefficients,).
        machine_weights: λ, (coefficients,).
    """

    values: Values
    influence: Values
    extra: Values
    degrees: Values
    machine_weights: Values

    @property
    def variance(self) -> Values:
        """Variances of the coefficients, (coefficients,), positive."""
        return np.asarray((self.influence**2).sum(axis=0) + self.extra)


def fit_naive(rows: Rows) -> Fit:
    """Fit all rows with their machine outcomes as if people had coded them."""
    ones, none = np.ones(len(rows.machine)), np.zeros(len(rows.machine), np.bool_)
    return _Equations(replace(rows, human=rows.machine, weights=ones, known=none)).fit(0.0)


def fit_human(rows: Rows) -> Fit:
    """Fit the human-coded rows alone, weighted by their inverse inclusion probabilities."""
    return _Equations(rows).fit(0.0)


def fit_ppi(rows: Rows) -> Fit:
    """PPI++ with λ tuned for each coefficient."""
    equations = _Equations(rows)
    tuned = equations.tune()
    fits = {share: equations.fit(share) for share in set(tuned.tolist())}
    each = [fits[share] for share in tuned.tolist()]
    return Fit(
        np.array([fit.values[place] for place, fit in enumerate(each)]),
        np.stack([fit.influence[:, place] for place, fit in enumerate(each)], axis=1),
        np.array([fit.extra[place] for place, fit in enumerate(each)]),
        np.array([fit.degrees[place] for place, fit in enumerate(each)]),
        tuned,
    )


def fit_dsl(rows: Rows, predicted: Values) -> Fit:
    """DSL: doubly robust pseudo-outcomes.

    Args:
        rows: The rows.
        predicted: Cross-fitted prediction of the human outcome, (rows,); see `cross_fit`.
    """
    return _Equations(replace(rows, machine=np.where(rows.known, rows.machine, predicted))).fit(1.0)


def difference_of(fit: Fit, base: Fit) -> Fit:
    """Return the difference of two fits whose clusters have the same numbers.

    The degrees of freedom are those of Welch and Satterthwaite.
    """
    parts = [each.variance for each in (fit, base)]
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / fit.degrees + parts[1] ** 2 / base.degrees)
    return Fit(
        fit.values - base.values,
        fit.influence - base.influence,
        fit.extra + base.extra,
        degrees,
        (fit.machine_weights + base.machine_weights) / 2,
    )


def rescale(fit: Fit, scale: Values) -> Fit:
    """Return the fit for covariates that were not divided by ``scale``, (coefficients,)."""
    return replace(fit, values=fit.values / scale, influence=fit.influence / scale, extra=fit.extra / scale**2)


class _Equations:
    """The estimating equations of some rows."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.coded = np.flatnonzero(rows.weights > 0)
        self.others = float((~rows.known).sum())
        self.weights = rows.weights * (self.others / rows.weights.sum())
        self.human = np.where(rows.weights > 0, rows.human, 0.0)
        self.clusters = rows.cluster_count
        sums = np.bincount(rows.clusters, self.weights, self.clusters)
        self.cluster_weights = sums
        self.cluster_rows = np.bincount(rows.clusters, minlength=self.clusters)
        self.effective = float(sums.sum() ** 2 / (sums**2).sum())
        self.coded_clusters = int((sums > 0).sum())

    def fit(self, share: float) -> Fit:
        """Solve the equations for one λ."""
        rows, weights = self.rows, self.weights
        fixed = np.where(rows.known, 1.0, share)
        outcome = fixed * rows.machine + weights * (self.human - share * rows.machine)
        values = _solve(rows.design, outcome, fixed + weights * (1 - share), logistic=rows.logistic)
        fitted, slope = _means(rows.design @ values, logistic=rows.logistic)
        of_all = rows.design * (fixed * (rows.machine - fitted))[:, None]
        residual = (self.human - fitted) - share * (rows.machine - fitted)
        of_coded = rows.design * (weights * residual)[:, None]
        influence = self._influence(share, of_all, of_coded, fixed * slope, weights * slope)
        information = np.einsum("ij,ik,i->jk", rows.design, rows.design, (fixed + weights * (1 - share)) * slope)
        spread = np.einsum("ij,ik,i->jk", rows.design, rows.design, weights) / self.others
        inverse = np.linalg.inv(information)
        seen = self.effective * float(weights @ residual**2) / self.others / rows.step**2
        mass = max(_MOST_ADDED - seen / 2, _LEAST_ADDED) * (rows.step * self.others / self.effective) ** 2
        extra = mass * np.einsum("ij,jk,ik->i", inverse, spread, inverse)
        leverage = weights[:, None] * np.abs(rows.design @ inverse) * np.sqrt(slope)[:, None]
        sums = self._sums(leverage) ** 2
        degrees = np.maximum(sums.sum(axis=0) ** 2 / (sums**2).sum(axis=0) - 1, 1.0)
        return Fit(values, influence, extra, degrees, np.full(len(values), share))

    def _influence(self, share: float, of_all: Values, of_coded: Values, all_slope: Values, slope: Values) -> Values:
        """Change of the coefficients when a cluster is deleted, times the square root of (clusters - 1) / clusters."""
        count, total = self.cluster_rows, len(self.rows.machine)
        left_coded = self.others / (self.others - self.cluster_weights)
        left_all = total / (total - count)
        coded = left_coded[:, None] * (
            self._sums(of_coded) - self.cluster_weights[:, None] / self.others * of_coded.sum(axis=0)
        )
        everywhere = left_all[:, None] * (self._sums(of_all) - count[:, None] / total * of_all.sum(axis=0))
        # The correction has the covariates of the coded rows: a sample that lacks unusual rows is not certain then.
        own = left_coded[:, None, None] * self._left_out(slope)
        known = left_all[:, None, None] * self._left_out(self.rows.known * all_slope)
        information = left_all[:, None, None] * self._left_out(all_slope) + (1 - share) * own
        own += known
        several = information.shape[1] > 1  # a mean is in every human-coded row
        if several and (np.linalg.cond(own[self.cluster_weights > 0]) > _MAX_CONDITION).any():
            raise DataError(
                "a coefficient rests on a single human-coded row or cluster, so that its uncertainty is unknown",
                hint="Have more rows coded, or use fewer covariates and levels.",
            )
        change = np.linalg.solve(own, coded[:, :, None])[:, :, 0]
        change += np.linalg.solve(information, everywhere[:, :, None])[:, :, 0]
        return np.asarray(change * np.sqrt((self.coded_clusters - 1) / self.coded_clusters))

    def _left_out(self, weights: Values) -> Values:
        """Σ w x xᵀ without each cluster, (clusters, coefficients, coefficients)."""
        design = self.rows.design
        products = (design[:, :, None] * design[:, None, :] * weights[:, None, None]).reshape(len(design), -1)
        sums = self._sums(products)
        size = design.shape[1]
        return np.asarray((sums.sum(axis=0) - sums).reshape(-1, size, size))

    def _sums(self, values: Values) -> Values:
        """Sums over the rows of each cluster, (clusters, columns)."""
        return np.stack([np.bincount(self.rows.clusters, column, self.clusters) for column in values.T], axis=1)

    def tune(self) -> Values:
        """λ with the smallest estimated variance for each coefficient, in [0, 1]."""
        rows, start = self.rows, self.fit(0.0)
        fitted, slope = _means(rows.design @ start.values, logistic=rows.logistic)
        off = (rows.machine - fitted) * ~rows.known
        mean = rows.design.T @ (off * self.weights) / self.others
        of_coded = self._sums((rows.design * off[:, None] - mean) * self.weights[:, None])
        everywhere = rows.design * off[:, None]
        of_all = self._sums(everywhere - everywhere.mean(axis=0))
        inverse = np.linalg.inv(np.einsum("ij,ik,i->jk", rows.design, rows.design, (rows.known + self.weights) * slope))
        correction = (of_coded - of_all) @ inverse
        variance = (correction**2).sum(axis=0)
        covariance = (start.influence * correction).sum(axis=0)
        share = np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 0)
        return np.asarray(np.clip(share, 0.0, 1.0), dtype=np.float64)


def _means(logits: Values, *, logistic: bool) -> tuple[Values, Values]:
    """Fitted values, and their derivatives."""
    if not logistic:
        return logits, np.ones_like(logits)
    fitted = 1 / (1 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)))
    return fitted, fitted * (1 - fitted)


def _solve(design: Values, outcome: Values, weights: Values, *, logistic: bool) -> Values:
    """Solve Σ x (outcome - weight · μ(x θ)) = 0 by Newton's method with halved steps.

    Raises:
        DataError: The covariates are collinear, or no finite coefficients solve the equations (a logistic model whose
            covariates separate the outcomes).
    """
    values = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS if logistic else 1):
        fitted, slope = _means(design @ values, logistic=logistic)
        score = design.T @ (outcome - weights * fitted)
        information = (design * (weights * slope)[:, None]).T @ design
        if not np.isfinite(information).all() or np.linalg.cond(information) > _MAX_CONDITION:
            break
        change = np.linalg.solve(information, score)
        values = values + change / max(1.0, float(np.abs(design @ change).max()) / 5 if logistic else 1.0)
        if not logistic or np.abs(change).max() < _NEWTON_TOLERANCE:
            return values
    if logistic:
        raise DataError(
            "the logistic model has no finite coefficients: covariates separate the outcomes or are collinear",
            hint="Have more rows coded, or use fewer covariates and levels.",
        )
    raise DataError("the covariates are collinear", hint="Leave out a covariate, or merge levels without human codes.")


def cross_fit(
    features: Values, outcomes: Values, weights: Values, clusters: Places, rng: np.random.Generator
) -> Values:
    """Predict outcomes from features with models that were fitted on rows of other clusters.

    Every cluster is in one of five folds; the rows of a fold are predicted by a ridge regression on the human-coded
    rows of the other folds. Predictions are averaged over four such splits.

    Args:
        features: (rows, features).
        outcomes: (rows, outcomes); rows without weight are not read.
        weights: 0 for rows without a human code, (rows,).
        clusters: (rows,).
        rng: Draws the folds.

    Returns:
        (rows, outcomes).
    """
    coded = weights > 0
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    count = int(clusters.max()) + 1
    has_codes = np.bincount(clusters, coded, count) > 0
    predicted = np.zeros((len(features), outcomes.shape[1]))
    for _ in range(_REPEATS):
        folds = _folds(has_codes, rng)[clusters]
        for fold in range(_FOLDS):
            used, inside = coded & (folds != fold), folds == fold
            if used.any():
                predicted[inside] += _ridge(scaled, outcomes, weights, used, inside) / _REPEATS
    return predicted


def _ridge(features: Values, outcomes: Values, weights: Values, used: Flags, predicted: Flags) -> Values:
    """Predictions of a weighted ridge regression with an intercept, whose weights have a mean of 1."""
    scaled = weights[used] * (used.sum() / weights[used].sum())
    means = [np.average(each[used], axis=0, weights=scaled) for each in (features, outcomes)]
    x, y = features[used] - means[0], outcomes[used] - means[1]
    penalized = (x.T * scaled) @ x + _PENALTY * np.eye(x.shape[1])
    slopes = np.linalg.solve(penalized, (x.T * scaled) @ y)
    return np.asarray(means[1] + (features[predicted] - means[0]) @ slopes)


def _folds(has_codes: Flags, rng: np.random.Generator) -> Places:
    """Fold of each cluster; clusters with human codes are spread evenly."""
    folds = np.empty(len(has_codes), np.int64)
    for kind in (has_codes, ~has_codes):
        count = int(kind.sum())
        folds[kind] = rng.permutation(np.arange(count) % _FOLDS)
    return folds


def student_interval(fit: Fit, place: int, limits: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, float]:
    """Return the 95 % interval of a coefficient by Student's distribution, cut at the limits of its range."""
    half = float(stats.t.ppf(_UPPER_TAIL, fit.degrees[place]) * np.sqrt(fit.variance[place]))
    value = float(fit.values[place])
    low, high = value - half, value + half
    return min(max(low, limits[0]), limits[1]), max(min(high, limits[1]), limits[0])


def wilson_interval(fit: Fit, rows: int) -> tuple[float, float]:
    """Return the 95 % interval of a share from human codes alone.

    It is Wilson's with the number of independent rows that would have the same variance (Korn & Graubard 1998), at most
    the number of rows, and Student's quantile.

    Args:
        fit: Of a mean of zeros and ones, by `fit_human`.
        rows: Number of human-coded rows.
    """
    from statsmodels.stats.proportion import proportion_confint  # takes a second to load

    share = float(np.clip(fit.values[0], 0.0, 1.0))
    sampling = float((fit.influence[:, 0] ** 2).sum())
    effective = float(fit.degrees[0]) + 1
    if sampling > 0:
        effective = min(share * (1 - share) / sampling + 1, float(rows))
    tail = 2 * float(stats.norm.sf(stats.t.ppf(_UPPER_TAIL, fit.degrees[0])))
    low, high = proportion_confint(share * effective, effective, tail, method="wilson")
    return float(low), float(high)
