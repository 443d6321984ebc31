"""Two codings and a reference on the same resamples of rows, so that a difference of the two is paired.

Drawn
├── draw_labels()   of a nominal or ordinal task: one confusion matrix per resample and coding
└── draw_sets()     of a multilabel task: tallies per resample and coding
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from edgedistill.agreement.bootstrap import confusion_of, defined, resample_cells
from edgedistill.agreement.checking import indices
from edgedistill.agreement.label_sets import all_rows, held_labels, resampled
from edgedistill.agreement.statistics import Counts, Values
from edgedistill.agreement.types import Estimate
from edgedistill_serve.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Two codings of the same rows and resamples.

    Attributes:
        first_right: Per row whether the first coding has the reference's labels, (rows,).
        second_right: The same of the second.
        flipped: Per row whether the two differ.
        flip_rates: Share of the rows on which they differ, per resample.
        own: What statistics read of the rows themselves, of the first coding and of the second.
        drawn: The same of every resample.
    """

    first_right: NDArray[np.bool_]
    second_right: NDArray[np.bool_]
    flipped: NDArray[np.bool_]
    flip_rates: Values
    own: tuple[Any, Any]
    drawn: tuple[Any, Any]

    def difference(self, statistic: Callable[[Any], Values]) -> Estimate | None:
        """The statistic of the second coding less that of the first; None where either is undefined."""
        (first,), (second,) = map(statistic, self.own)
        before, after = map(statistic, self.drawn)
        return defined(float(second - first), after - before)


def draw_labels(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> Drawn:
    """Draw rows that have one label each; statistics read confusion matrices (n, labels, labels).

    Rows are of one kind where all three labels are the same; there are far fewer kinds than there could be.

    Raises:
        DataError: A label that the task does not have.
    """
    truth, one, other = (
        indices(coding, task, name) for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    labels = len(task.names)
    kinds, kind_of_row = np.unique((truth * labels + one) * labels + other, return_inverse=True)
    drawn = resample_cells(kind_of_row, len(kinds), groups, resamples, np.random.default_rng(seed))
    of_truth, of_first, of_second = kinds // labels**2, kinds // labels % labels, kinds % labels

    def confusions(coded: Counts) -> Counts:
        places = (np.arange(len(kinds)), of_truth * labels + coded)
        of_kind = coo_array((np.ones(len(kinds), dtype=np.int64), places), shape=(len(kinds), labels**2))
        return np.asarray(drawn @ of_kind.tocsr()).reshape(-1, labels, labels)

    return Drawn(
        first_right=one == truth,
        second_right=other == truth,
        flipped=one != other,
        flip_rates=np.asarray(drawn[:, of_first != of_second].sum(axis=1) / drawn.sum(axis=1), dtype=np.float64),
        own=(confusion_of(truth, one, labels)[None], confusion_of(truth, other, labels)[None]),
        drawn=(confusions(of_first), confusions(of_second)),
    )


def draw_sets(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> Drawn:
    """Draw rows of which any number of labels hold; statistics read `Tallies`.

    Raises:
        DataError: A label that the task does not have.
    """
    truth, one, other = (
        held_labels(coding, task, name)
        for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    pairs = [(truth, one), (truth, other), (one, other)]
    before, after, between = resampled(pairs, groups, resamples, np.random.default_rng(seed))
    return Drawn(
        first_right=(one == truth).all(axis=1),
        second_right=(other == truth).all(axis=1),
        flipped=(one != other).any(axis=1),
        flip_rates=np.asarray(1 - between.same / between.rows, dtype=np.float64),
        own=(all_rows(truth, one), all_rows(truth, other)),
        drawn=(before, after),
    )
