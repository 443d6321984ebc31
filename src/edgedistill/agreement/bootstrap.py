"""Bootstrap: rows, or whole groups of rows, drawn with replacement, and the interval of what is computed on them.

Accuracy, macro-F1 and κ depend on the rows only through the confusion matrix. Drawing n rows with replacement and
counting them is one multinomial draw over the matrix's cells, so 2,000 resamples cost the same for any number of rows.
Rows that come in groups (a learner's responses) are not independent: then whole groups are drawn, and their matrices
summed (the cluster bootstrap; Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). One group drawn again and
again would give an interval without width: of a single group the rows are drawn.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array

from edgedistill.agreement.confusion import Counts, Values
from edgedistill.agreement.types import Estimate

INTERVAL = (2.5, 97.5)
"""Percentiles of a 95 % interval."""

_DRAWS_AT_ONCE = 5_000_000


def bootstrap_groups(groups: Sequence[str | None]) -> list[str] | None:
    """The groups for a clustered bootstrap; None where no row has one, so that every row stands for itself.

    A row without a group beside rows with one is a group of its own, under a name that begins with a blank, as no cell
    that was read does.
    """
    if all(group is None for group in groups):
        return None
    return [f" row {place}" if group is None else group for place, group in enumerate(groups)]


def resample_confusions(
    reference: Counts,
    coded: Counts,
    labels: int,
    groups: Sequence[str] | None,
    resamples: int,
    rng: np.random.Generator,
) -> Counts:
    """Return the confusion matrices (resamples, labels, labels) of resampled rows; see `resample_cells`."""
    drawn = resample_cells(reference * labels + coded, labels * labels, groups, resamples, rng)
    return drawn.reshape(resamples, labels, labels)


def resample_cells(
    cells: Counts, count: int, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> Counts:
    """Draw rows with replacement and count them by cell, ``resamples`` times.

    Args:
        cells: Per row the cell that it counts in, from 0.
        count: How many cells there are.
        groups: Per row what it belongs to. As many groups are drawn as there are, each with all its rows, so that the
            row counts of resamples differ as the groups' sizes do. None, or one group: as many rows are drawn as there
            are.
        resamples: How often to draw.
        rng: Where chance comes from.

    Returns:
        Row counts (resamples, count).
    """
    if groups is None or len(set(groups)) < 2:
        return rng.multinomial(len(cells), np.bincount(cells, minlength=count) / len(cells), size=resamples)
    of_group = _cells_of_groups(cells, count, groups)
    summed = [np.asarray(of_group @ times.T) for times in _times_drawn(of_group.shape[1], resamples, rng)]
    return np.concatenate(summed, axis=1).T.astype(np.int64)


def bayesian_resample_cells(
    cells: Counts, count: int, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> Values:
    """Draw what each row counts, exponentially with a mean of 1, and sum it by cell.

    That is the Bayesian bootstrap (Rubin 1981), as `bayesian_row_weights` draws it.

    Args:
        cells: Per row the cell that it counts in, from 0.
        count: How many cells there are.
        groups: What each row belongs to; rows of a group count alike. None, or one group: every row by itself.
        resamples: How often to draw.
        rng: Where chance comes from.

    Returns:
        Sums (resamples, count).
    """
    if groups is None or len(set(groups)) < 2:
        return rng.gamma(np.bincount(cells, minlength=count), size=(resamples, count))
    of_group = _cells_of_groups(cells, count, groups)
    return np.asarray((of_group @ rng.exponential(size=(of_group.shape[1], resamples))).T, dtype=np.float64)


def row_weights(rows: int, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator) -> Iterator[Counts]:
    """Yield blocks (some resamples, rows) of how often each row was drawn; blocks bound the memory."""
    members = _members(rows, groups)
    for times in _times_drawn(int(members.max()) + 1, resamples, rng, width=rows):
        yield times[:, members]


def bayesian_row_weights(
    rows: int, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> tuple[Values, Values]:
    """Draw what each row counts, and what one more, imaginary row counts: the Bayesian bootstrap (Rubin 1981).

    Where a bootstrap draws rows, this draws how much each counts, exponentially distributed with a mean of 1; rows of a
    group count alike.

    Returns:
        Shapes (resamples, rows) and (resamples,).
    """
    members = _members(rows, groups)
    drawn = rng.exponential(size=(resamples, int(members.max()) + 2))
    return drawn[:, members], drawn[:, -1]


def _cells_of_groups(cells: Counts, count: int, groups: Sequence[str]) -> Any:
    """A sparse array (cells, groups) of the rows in each."""
    members = _members(len(cells), groups)
    ones = np.ones(len(cells), dtype=np.int64)
    return coo_array((ones, (cells, members)), shape=(count, int(members.max()) + 1)).tocsr()


def _members(rows: int, groups: Sequence[str] | None) -> Counts:
    """The number of what each row is drawn with: itself, or its group where there are several."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups or ()))}
    if groups is None or len(numbers) < 2:
        return np.arange(rows)
    return np.array([numbers[group] for group in groups], dtype=np.int64)


def _times_drawn(count: int, resamples: int, rng: np.random.Generator, width: int = 0) -> Iterator[Counts]:
    """Yield blocks (some resamples, count) of how often each of ``count`` things was drawn."""
    block = max(1, _DRAWS_AT_ONCE // max(count, width))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)


def interval_estimate(value: float, resampled: Values) -> Estimate:
    """Return the value with the percentile interval of the resampled values, of which there is at least one."""
    low, high = np.percentile(resampled, INTERVAL)
    return Estimate(value, float(low), float(high))


def optional_estimate(value: float, resampled: Values) -> Estimate | None:
    """Return the estimate over the resamples in which the figure is defined; None where it, or all of them, is NaN."""
    kept = resampled[~np.isnan(resampled)]
    return None if np.isnan(value) or not len(kept) else interval_estimate(float(value), kept)
