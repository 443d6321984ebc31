"""The area under the ROC curve of many resamples at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.statistics import Counts, Values


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Rows by one label's probability, rows of equal probability together, for the AUC of many resamples.

    The area is the share of pairs, one of the label and one of another, that are in the right order, ties counting half
    (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    """

    order: Counts
    starts: Counts
    is_label: NDArray[np.bool_]

    @classmethod
    def of(cls, probability: Values, is_label: NDArray[np.bool_]) -> "Order":
        """Rank rows by a label's probability, both given per row."""
        order = np.argsort(probability, kind="stable")
        ranked = probability[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        return cls(order, starts, is_label[order])

    def areas(self, weights: Counts) -> Values:
        """Return the AUC of each resample, (resamples,); NaN where it lacks the label or has nothing else."""
        ranked = weights[:, self.order]
        mine = np.add.reduceat(ranked * self.is_label, self.starts, axis=1)
        others = np.add.reduceat(ranked * ~self.is_label, self.starts, axis=1)
        below = others.cumsum(axis=1) - others / 2
        pairs = mine.sum(axis=1) * others.sum(axis=1)
        found = np.divide((mine * below).sum(axis=1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        return np.asarray(found, dtype=np.float64)
