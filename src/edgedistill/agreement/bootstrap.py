"""A Bayesian bootstrap of rows or of whole groups of rows, and intervals that hold at the edges of a figure's range.

A plain bootstrap never draws an error from rows without one: its interval has no width, and with 15 rows its lower end
is above the true κ in half of all samples. Here each row has a gamma-distributed weight with a mean of 1 (Rubin 1981,
doi:10.1214/aos/1176345338), and one additional row is weighed in: for the lower end a row against the figure (coded
wrongly), for the upper end a row for it (coded correctly). For the share of independent rows this is exactly the
interval of Clopper & Pearson (1934, doi:10.1093/biomet/26.4.404), which is then computed without resampling.

Rows of a group (the responses of a learner) are not independent and have the same weight. With G groups the variance of
a weight is G / (G - 1) (t / z)², with the quantiles t and z of Student's distribution with G - 1 degrees of freedom and
of the normal distribution: with few groups resampling is too narrow (Korn & Graubard 1998 correct the interval of a
share likewise). The additional row is multiplied by the design effect, because an error of one learner is rarely alone.

docs/decisions/0036 has the measured coverage, and what was tried besides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.stats import beta, norm, t

from edgedistill.agreement.confusion import Counts, Values
from edgedistill.agreement.types import Estimate

TAILS = (0.025, 0.975)
"""The two ends of a 95 % interval, as probabilities."""

SHARE = (0.0, 1.0)
"""The range of a share."""

COEFFICIENT = (-1.0, 1.0)
"""The range of a coefficient of agreement."""

_MAX_DRAWS_PER_BLOCK = 5_000_000

_PRIOR_CORRELATION = 0.3
_PRIOR_GROUPS = 3
"""Correctness of two answers of a learner is supposed to correlate by this much, and this counts like this many groups
with an error: a design effect cannot be estimated where hardly any group has one."""


def bootstrap_groups(groups: Sequence[str | None]) -> list[str] | None:
    """Return the groups for a cluster bootstrap; None if no row has a group, which means independent rows.

    If only some rows have a group, each of the others is its own group. Its name begins with a space, unlike any group
    name that was read from a file.
    """
    if all(group is None for group in groups):
        return None
    return [f" row {index}" if group is None else group for index, group in enumerate(groups)]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows and the groups that are resampled.

    Attributes:
        count: Number of rows, at least 1.
        groups: The index of each row's group, (rows,); None if rows are independent.
    """

    count: int
    groups: Counts | None

    @classmethod
    def of(cls, count: int, groups: Sequence[str] | None) -> "Rows":
        """Return rows with these groups; groups of one row each are independent rows."""
        if groups is None:
            return cls(count, None)
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        if len(numbers) == count > 1:
            return cls(count, None)
        return cls(count, np.array([numbers[group] for group in groups], dtype=np.int64))

    @property
    def units(self) -> int:
        """Number of independent units: groups, or rows."""
        return self.count if self.groups is None else int(self.groups.max()) + 1

    @property
    def unknown(self) -> bool:
        """Whether all rows belong to one group, from which nothing can be inferred about others."""
        return self.groups is not None and self.units == 1

    def draw_cells(self, cells: Counts, count: int, resamples: int, rng: np.random.Generator) -> Values:
        """Return the weight of the rows in each cell.

        Args:
            cells: The cell of each row, from 0.
            count: Number of cells.
            resamples: Number of resamples.
            rng: Random state.

        Returns:
            Shape (1 + resamples, count): first the number of rows, then the weights of each resample.
        """
        observed = np.bincount(cells, minlength=count).astype(np.float64)[None]
        if self.groups is None:
            return np.concatenate([observed, rng.gamma(observed, size=(resamples, count))])
        ones = np.ones(self.count)
        by_group = coo_array((ones, (cells, self.groups)), shape=(count, self.units)).tocsr()
        blocks = [np.asarray(by_group @ weights.T).T for weights in self._draw_units(resamples, rng)]
        return np.concatenate([observed, *blocks])

    def draw_rows(self, resamples: int, rng: np.random.Generator) -> Iterator[Values]:
        """Yield the weight of each row in blocks (resamples of the block, rows), which limit the memory."""
        for weights in self._draw_units(resamples, rng, width=self.count):
            yield weights if self.groups is None else weights[:, self.groups]

    def draw_additional(self, values: Values, resamples: int, rng: np.random.Generator) -> Values:
        """Return the weight of the additional row: 0, and then that of each resample, (1 + resamples,).

        Args:
            values: What may be alike in the rows of a group, such as whether the row is coded correctly, (rows,).
            resamples: Number of resamples.
            rng: Random state; the same one gives weights that are proportional to each other.
        """
        return np.concatenate([[0.0], rng.exponential(size=resamples) * self.design_effect(values)])

    def design_effect(self, values: Values) -> float:
        """Return how many times the variance of a mean exceeds that of independent rows (Kish 1965), at least 1.

        The estimate is a weighted mean with that of a correlation of `_PRIOR_CORRELATION`; its weight is the number of
        groups with a row whose value is not the most frequent one.
        """
        if self.groups is None:
            return 1.0
        units, sizes = self.units, np.bincount(self.groups).astype(np.float64)
        most = float((sizes**2).sum() / self.count)
        supposed = 1 + (most - 1) * _PRIOR_CORRELATION
        found, counts = np.unique(values, return_counts=True)
        informative = len(np.unique(self.groups[values != found[counts.argmax()]]))
        if not informative or units == 1:
            return supposed
        deviations = values - values.mean()
        between = (np.bincount(self.groups, weights=deviations) ** 2).sum() * units / (units - 1)
        estimated = min(max(float(between / (deviations**2).sum()), 1.0), most)
        return (estimated * informative + supposed * _PRIOR_GROUPS) / (informative + _PRIOR_GROUPS)

    def _draw_units(self, resamples: int, rng: np.random.Generator, width: int = 0) -> Iterator[Values]:
        """Yield blocks (resamples of the block, units) of weights with a mean of 1."""
        units, variance = self.units, 1.0
        if self.groups is not None and units > 1:
            variance = units / (units - 1) * float(t.ppf(TAILS[1], units - 1) / norm.ppf(TAILS[1])) ** 2
        block = max(1, _MAX_DRAWS_PER_BLOCK // max(units, width))
        for start in range(0, resamples, block):
            size = (min(block, resamples - start), units)
            yield rng.gamma(1 / variance, variance, size=size) if variance != 1 else rng.exponential(size=size)


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A figure of the rows and of each resample.

    Attributes:
        low: The figure of the rows, and then of each resample with a row against it, (1 + resamples,); NaN where
            undefined.
        high: The same with a row for it.
        bounds: The range of the figure.
        limits: The ends of its interval, where they are known without resampling.
    """

    low: Values
    high: Values
    bounds: tuple[float, float]
    limits: tuple[float, float] | None = None

    def __neg__(self) -> "Figure":
        return Figure(-self.high, -self.low, (-self.bounds[1], -self.bounds[0]))

    def __sub__(self, other: "Figure") -> "Figure":
        bounds = (self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0])
        return Figure(self.low - other.high, self.high - other.low, bounds)

    def without_interval(self) -> "Figure":
        """Return the same figure, of which no interval is known: its whole range."""
        low, high = (np.full(len(self.low), bound) for bound in self.bounds)
        low[0], high[0] = self.low[0], self.high[0]
        return Figure(low, high, self.bounds)

    def with_undefined(self, value: float) -> "Figure":
        """Return the figure with this value where it is undefined."""
        low, high = (np.nan_to_num(each, nan=value) for each in (self.low, self.high))
        return Figure(low, high, self.bounds, self.limits)

    def estimate(self) -> Estimate | None:
        """Return the figure with its interval, which contains it; None if it is undefined or has no finite interval.

        A resample without the figure counts as the end of its range, so that it widens the interval.
        """
        value = float(self.low[0])
        if not np.isfinite(value):
            return None
        if self.limits is None:
            lows, highs = (
                np.where(np.isnan(values[1:]), bound, values[1:])
                for values, bound in zip((self.low, self.high), self.bounds, strict=True)
            )
            low = float(np.quantile(lows, TAILS[0], method="lower"))
            high = float(np.quantile(highs, TAILS[1], method="higher"))
        else:
            low, high = self.limits
        low, high = max(min(low, value), self.bounds[0]), min(max(high, value), self.bounds[1])
        return Estimate(value, low, high) if np.isfinite([low, high]).all() else None


def required(estimate: Estimate | None) -> Estimate:
    """Return the estimate of a figure that is defined wherever there are rows."""
    if estimate is None:
        raise AssertionError("this figure is defined wherever there are rows")
    return estimate


def mean_figure(figures: Sequence[Figure]) -> Figure:
    """Return the mean of one or more figures of the same range, resample by resample."""
    low, high = (np.mean([getattr(each, end) for each in figures], axis=0) for end in ("low", "high"))
    return Figure(low, high, figures[0].bounds)


def share_figure(
    hits: Values, misses: Values, additional: Values, rows: Rows, *, f1: bool = False, exact: bool = True
) -> Figure:
    """Return the share of hits among hits and misses, each (1 + resamples,): first the counts, then the weights.

    Args:
        hits: What is counted.
        misses: The others.
        additional: The weight of the additional row.
        rows: The rows.
        exact: Whether a row counts at most once, so that the exact interval applies to independent rows.
        f1: Return ``2 s / (1 + s)`` of the share s, which is the F1 of hits and errors of either kind.
    """
    low, high = (share_values(hits, misses, additional, end, f1=f1) for end in (0, 1))
    limits = clopper_pearson(float(hits[0]), float(misses[0])) if exact and rows.groups is None else None
    if limits and f1:
        limits = (2 * limits[0] / (1 + limits[0]), 2 * limits[1] / (1 + limits[1]))
    figure = Figure(low, high, SHARE, limits)
    return figure.without_interval() if rows.unknown else figure


def share_values(hits: Values, misses: Values, additional: Values, end: int, *, f1: bool = False) -> Values:
    """Return the shares of hits with an additional miss (``end`` 0) or hit (1), in any shape; NaN without rows."""
    counted = (1 + f1) * (hits + end * additional)
    total = counted + misses + (1 - end) * additional
    return np.asarray(np.divide(counted, total, out=np.full(total.shape, np.nan), where=total > 0), dtype=np.float64)


def clopper_pearson(hits: float, misses: float) -> tuple[float, float]:
    """Return the exact 95 % interval of the share of hits among independent rows (Clopper & Pearson 1934)."""
    low = float(beta.ppf(TAILS[0], hits, misses + 1)) if hits else 0.0
    high = float(beta.ppf(TAILS[1], hits + 1, misses)) if misses else 1.0
    return low, high
