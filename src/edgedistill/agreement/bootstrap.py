"""Bootstrap intervals of agreement, computed on resampled confusion matrices rather than on resampled rows.

Accuracy, macro-F1 and κ depend on the rows only through the confusion matrix. Drawing n rows with replacement and
counting them is one multinomial draw over the matrix's cells, so 2,000 resamples cost the same for any number of rows.
Rows that come in groups (a learner's responses) are not independent: then whole groups are drawn, and their matrices
summed (the cluster bootstrap; Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from edgedistill.agreement.types import Estimate

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

INTERVAL = (2.5, 97.5)
"""Percentiles of a 95 % interval."""

_DRAWS_AT_ONCE = 5_000_000


def confusion_of(reference: Counts, coded: Counts, labels: int) -> Counts:
    """Return the matrix (labels, labels) of row counts, reference by coded; label indices count from 0."""
    cells = np.bincount(reference * labels + coded, minlength=labels * labels)
    return cells.reshape(labels, labels).astype(np.int64)


def resample_rows(confusion: Counts, resamples: int, rng: np.random.Generator) -> Counts:
    """Draw as many rows as there are, with replacement, ``resamples`` times.

    Returns:
        Confusion matrices (resamples, labels, labels), each with as many rows as ``confusion``.
    """
    rows = int(confusion.sum())
    drawn = rng.multinomial(rows, confusion.ravel() / rows, size=resamples)
    return drawn.reshape(resamples, *confusion.shape).astype(np.int64)


def resample_groups(
    reference: Counts, coded: Counts, groups: Counts, labels: int, resamples: int, rng: np.random.Generator
) -> Counts:
    """Draw as many groups as there are, with replacement and with all their rows, ``resamples`` times.

    Args:
        reference: Label index per row.
        coded: Label index per row.
        groups: Group index per row, from 0, none left out.
        labels: How many labels the task has.
        resamples: How often to draw.
        rng: Where chance comes from.

    Returns:
        Confusion matrices (resamples, labels, labels); their row counts differ as the groups' sizes do.
    """
    count = int(groups.max()) + 1
    cells = coo_array(
        (np.ones(len(groups), dtype=np.int64), (groups, reference * labels + coded)), shape=(count, labels * labels)
    ).tocsr()
    summed = [cells.T @ times.T for times in _draws(count, resamples, rng)]
    return np.concatenate(summed, axis=1).T.reshape(resamples, labels, labels).astype(np.int64)


def _draws(count: int, resamples: int, rng: np.random.Generator) -> Iterator[Counts]:
    """Yield blocks (some resamples, count) of how often each group was drawn; blocks bound the memory."""
    block = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)


def accuracies(confusions: Counts) -> Values:
    """Return the accuracy of each matrix (n, labels, labels)."""
    correct = np.trace(confusions, axis1=1, axis2=2)
    return np.asarray(correct / confusions.sum(axis=(1, 2)), dtype=np.float64)


def macro_f1s(confusions: Counts) -> Values:
    """Return the macro-F1 of each matrix (n, labels, labels), over the labels that occur in it."""
    correct = np.diagonal(confusions, axis1=1, axis2=2)
    marginals = confusions.sum(axis=2) + confusions.sum(axis=1)
    f1 = np.divide(2 * correct, marginals, out=np.zeros(marginals.shape), where=marginals > 0)
    return np.asarray(f1.sum(axis=1) / (marginals > 0).sum(axis=1), dtype=np.float64)


def kappas(confusions: Counts, *, quadratic: bool) -> Values:
    """Return κ of each matrix (n, labels, labels); NaN where one label alone occurs (0/0).

    One minus observed over expected disagreement (Cohen 1968, doi:10.1037/h0026256), each disagreement weighing 1 or,
    ``quadratic``, the squared distance of the two labels.
    """
    steps = np.arange(confusions.shape[1])
    distance = np.abs(steps[:, None] - steps[None, :])
    weights = (distance**2 if quadratic else distance > 0).astype(np.float64)
    observed = (weights * confusions).sum(axis=(1, 2))
    by_chance = np.einsum("ni,ij,nj->n", confusions.sum(axis=2), weights, confusions.sum(axis=1))
    expected = by_chance / confusions.sum(axis=(1, 2))
    disagreement = np.divide(observed, expected, out=np.full(len(expected), np.nan), where=expected > 0)
    return np.asarray(1 - disagreement, dtype=np.float64)


def estimate(value: float, resampled: Values) -> Estimate:
    """Return the value with the percentile interval of the resampled values, of which there is at least one."""
    low, high = np.percentile(resampled, INTERVAL)
    return Estimate(value, float(low), float(high))
