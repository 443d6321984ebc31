"""Bootstrap resamples of rows or of whole groups of rows, and percentile intervals.

Accuracy, macro-F1 and κ depend on the rows only through the confusion matrix. Resampling n rows and counting them is
one multinomial draw over the cells of the matrix, so the cost of 2,000 resamples does not depend on the number of rows.
Rows of a group (the responses of a learner) are not independent: whole groups are then resampled and their matrices
summed (cluster bootstrap; Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). Resampling a single group would
give an interval without width, so its rows are resampled instead.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array

from edgedistill.agreement.confusion import Counts, Values
from edgedistill.agreement.types import Estimate

INTERVAL = (2.5, 97.5)
"""Percentiles of a 95 % interval."""

_MAX_DRAWS_PER_BLOCK = 5_000_000


def bootstrap_groups(groups: Sequence[str | None]) -> list[str] | None:
    """Return the groups for a cluster bootstrap; None if no row has a group, which means independent rows.

    If only some rows have a group, each of the others is its own group. Its name begins with a space, unlike any group
    name that was read from a file.
    """
    if all(group is None for group in groups):
        return None
    return [f" row {index}" if group is None else group for index, group in enumerate(groups)]


def resample_confusions(
    reference: Counts,
    coded: Counts,
    labels: int,
    groups: Sequence[str] | None,
    resamples: int,
    rng: np.random.Generator,
) -> Counts:
    """Return the confusion matrices (resamples, labels, labels) of resampled rows; see `resample_cells`."""
    counts = resample_cells(reference * labels + coded, labels * labels, groups, resamples, rng)
    return counts.reshape(resamples, labels, labels)


def resample_cells(
    cells: Counts, count: int, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> Counts:
    """Resample rows with replacement and count them by cell.

    Args:
        cells: The cell of each row, from 0.
        count: Number of cells.
        groups: The group of each row. With two or more groups, whole groups are resampled, so that the numbers of rows
            vary with the sizes of the groups. None or a single group: rows are resampled.
        resamples: Number of resamples.
        rng: Random state.

    Returns:
        Row counts (resamples, count).
    """
    if groups is None or len(set(groups)) < 2:
        return rng.multinomial(len(cells), np.bincount(cells, minlength=count) / len(cells), size=resamples)
    group_cells = _count_group_cells(cells, count, groups)
    blocks = [np.asarray(group_cells @ counts.T) for counts in _draw_counts(group_cells.shape[1], resamples, rng)]
    return np.concatenate(blocks, axis=1).T.astype(np.int64)


def bayesian_resample_cells(
    cells: Counts, count: int, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> Values:
    """Draw weights as `bayesian_row_weights` and sum them by cell.

    Args:
        cells: The cell of each row, from 0.
        count: Number of cells.
        groups: The group of each row; rows of a group have the same weight. None or a single group: independent rows.
        resamples: Number of resamples.
        rng: Random state.

    Returns:
        Sums (resamples, count).
    """
    if groups is None or len(set(groups)) < 2:
        return rng.gamma(np.bincount(cells, minlength=count), size=(resamples, count))
    group_cells = _count_group_cells(cells, count, groups)
    return np.asarray((group_cells @ rng.exponential(size=(group_cells.shape[1], resamples))).T, dtype=np.float64)


def row_weights(rows: int, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator) -> Iterator[Counts]:
    """Yield the number of draws of each row in blocks (resamples of the block, rows), which limit the memory."""
    members = _members(rows, groups)
    for counts in _draw_counts(int(members.max()) + 1, resamples, rng, width=rows):
        yield counts[:, members]


def bayesian_row_weights(
    rows: int, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> tuple[Values, Values]:
    """Draw weights of the rows and of one additional pseudo-row for a Bayesian bootstrap (Rubin 1981).

    Weights are exponentially distributed with a mean of 1; rows of a group have the same weight.

    Returns:
        Weights of the rows (resamples, rows) and of the pseudo-row (resamples,).
    """
    members = _members(rows, groups)
    weights = rng.exponential(size=(resamples, int(members.max()) + 2))
    return weights[:, members], weights[:, -1]


def _count_group_cells(cells: Counts, count: int, groups: Sequence[str]) -> Any:
    """Return row counts as a sparse array (cells, groups)."""
    members = _members(len(cells), groups)
    ones = np.ones(len(cells), dtype=np.int64)
    return coo_array((ones, (cells, members)), shape=(count, int(members.max()) + 1)).tocsr()


def _members(rows: int, groups: Sequence[str] | None) -> Counts:
    """Return the index of the resampled unit of each row: its group, or the row itself unless there are two groups."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups or ()))}
    if groups is None or len(numbers) < 2:
        return np.arange(rows)
    return np.array([numbers[group] for group in groups], dtype=np.int64)


def _draw_counts(count: int, resamples: int, rng: np.random.Generator, width: int = 0) -> Iterator[Counts]:
    """Yield blocks (resamples of the block, count) of the number of draws of each of ``count`` units."""
    block = max(1, _MAX_DRAWS_PER_BLOCK // max(count, width))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)


def interval_estimate(value: float, resampled: Values) -> Estimate:
    """Return a value with the percentile interval of its resampled values, of which there is at least one."""
    low, high = np.percentile(resampled, INTERVAL)
    return Estimate(value, float(low), float(high))


def optional_estimate(value: float, resampled: Values) -> Estimate | None:
    """Return the estimate over the resamples that are not NaN; None if the value or all resampled values are NaN."""
    defined = resampled[~np.isnan(resampled)]
    return None if np.isnan(value) or not len(defined) else interval_estimate(float(value), defined)
