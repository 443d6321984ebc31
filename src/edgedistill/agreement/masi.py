"""Krippendorff's alpha of sets of labels, with the MASI distance.

Two sets are at distance 1 - J M: J is the size of their intersection over that of their union (Jaccard), M is 1 for
equal sets, 2/3 where one holds the other, 1/3 where they overlap otherwise, else 0 (Passonneau 2006, "Measuring
Agreement on Set-valued Items (MASI) for Semantic and Pragmatic Annotation"). Two empty sets are equal.
"""

from collections.abc import Sequence
from typing import Any

import krippendorff
import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.label_sets import Held
from edgedistill.agreement.statistics import Counts, Values


def masi_distances(sets: Held) -> Values:
    """Return the distance of every two sets (n, n), in [0, 1].

    Args:
        sets: Shape (n, labels), whether each label is in the set.
    """
    inside = sets.astype(np.float64)
    shared, sizes = inside @ inside.T, inside.sum(axis=1)
    union = sizes[:, None] + sizes[None, :] - shared
    jaccard = np.divide(shared, union, out=np.ones_like(shared), where=union > 0)
    within = shared == np.minimum(sizes[:, None], sizes[None, :])
    monotone = np.where(union == shared, 1.0, np.where(within, 2 / 3, np.where(shared > 0, 1 / 3, 0.0)))
    return np.asarray(1 - jaccard * monotone, dtype=np.float64)


def masi_alphas(reference: Held, coded: Held, weights: Counts) -> Values:
    """Return Krippendorff's alpha of two codings for each resample (n,); NaN where one and the same set alone occurs.

    Args:
        reference: The one coding, (rows, labels).
        coded: The other.
        weights: Per resample how often each row was drawn, (n, rows).
    """
    sets, numbers = np.unique(np.concatenate([reference, coded]), axis=0, return_inverse=True)
    one, other = np.split(numbers.reshape(-1), 2)
    distances = masi_distances(sets)
    held = np.eye(len(sets))[one] + np.eye(len(sets))[other]
    totals = weights @ held
    observed = 2 * (weights @ distances[one, other])
    expected = ((totals @ distances) * totals).sum(axis=1)
    ratio = np.divide(observed, expected, out=np.full(len(observed), np.nan), where=expected > 0)
    return np.asarray(1 - (totals.sum(axis=1) - 1) * ratio, dtype=np.float64)


def masi_alpha(codings: Sequence[Sequence[Held | None]]) -> float | None:
    """Return Krippendorff's alpha of any number of coders; None where it is undefined.

    Args:
        codings: By coder, by row, which labels hold, of shape (labels,); None where the coder left the row out.
    """
    every = np.array([row for coding in codings for row in coding if row is not None])
    if not len(every):
        return None
    sets, numbers = np.unique(every, axis=0, return_inverse=True)
    waiting = iter(numbers.reshape(-1).tolist())
    table = np.array([[np.nan if row is None else float(next(waiting)) for row in coding] for coding in codings])
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    if len(np.unique(table[~np.isnan(table)])) < 2:
        return None
    distances = masi_distances(sets)

    def distance(first: NDArray[np.float64], second: NDArray[np.float64], *_: Any, **__: Any) -> Values:
        return np.asarray(distances[first.astype(int), second.astype(int)], dtype=np.float64)

    return float(krippendorff.alpha(table, level_of_measurement=distance))
