"""Samples of a fixed size with exactly known inclusion probabilities, in one wave or several.

The rows are put into an order, each takes up a piece of a line as long as its inclusion probability, and the rows at
``start``, ``start + 1``, … are drawn, for one random start in [0, 1) (systematic sampling with unequal probabilities;
Madow 1949, doi:10.1214/aoms/1177729988; Hartley & Rao 1962, doi:10.1214/aoms/1177704564). Whatever the order, the
probability of each row is the length of its piece. In an order by question, each question gets its expected number of
rows or the next whole number up or down; within a question the order is random.

A later wave is drawn from the rows that no earlier one drew, with probabilities that may depend on everything that the
earlier codes taught. So a row has no probability of being in the union of the waves that anyone could compute. Instead
each wave estimates the total of all rows: what earlier waves drew is known, and the rest is estimated from this wave
(Horvitz & Thompson 1952). The waves' estimates are averaged with weights that are fixed before each draw, which is
unbiased as each wave is, given what came before; Farquhar, Gal & Rainforth 2021 (arXiv:2101.11665) correct active
learning in this way. The weight of a row in that average, inverted, is its `effective_probabilities`: 1 / weight is in
(0, 1], and for a single wave it is the inclusion probability.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from edgedistill.agreement.confusion import Counts, Values
from edgedistill.errors import ArgumentError


def inclusion_probabilities(sizes: Values, rows: int, largest: float = 1.0) -> Values:
    """Return probabilities proportional to sizes that sum to a number of rows.

    Where a row's probability would be above the largest one, it is that, and those of the others rise to make up for
    it; so no other row's probability is below ``rows * size / sum(sizes)``.

    Args:
        sizes: Shape (N,), above 0.
        rows: Expected and actual sample size, from 1 to N.
        largest: The largest probability allowed, in (0, 1]; at least ``rows / N``.

    Returns:
        Shape (N,), in (0, 1].

    Raises:
        ArgumentError: A size is not above 0, or the sample cannot be that large.
    """
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ArgumentError("every size must be a number above 0")
    if not 1 <= rows <= largest * len(sizes) * (1 + 1e-12):
        raise ArgumentError(f"{rows} rows cannot be drawn from {len(sizes)} with probabilities of at most {largest:g}")
    capped = np.zeros(len(sizes), dtype=bool)
    while True:
        free = sizes * ~capped
        left = rows - largest * capped.sum()
        probabilities = np.where(capped, largest, free * (left / free.sum() if free.any() else 0.0))
        above = (probabilities > largest) & ~capped
        if not above.any():
            return np.minimum(probabilities, largest)
        capped |= above


def mixture_sizes(signals: Mapping[str, Values], shares: Mapping[str, float], rows: int) -> Values:
    """Return sizes by which each signal has a stated share of the expected draws.

    Args:
        signals: By name, a value of at least 0 for each of N rows.
        shares: By the names of signals, the share of the draws in proportion to that signal; and by ``random``, the
            share with equal probabilities, unless ``signals`` has that name, too. They are positive and sum to 1. A
            signal that is 0 everywhere draws with equal probabilities.
        rows: The number N.

    Returns:
        Shape (N,); they sum to 1, and each is at least ``shares["random"] / N``.
    """
    sizes = np.zeros(rows)
    for name, share in shares.items():
        values = signals.get(name, np.ones(rows))
        total = float(values.sum())
        sizes += share * values / total if total > 0 else share / rows
    return sizes


def sampling_order(strata: Sequence[Sequence[str | None]], rng: np.random.Generator) -> Counts:
    """Return rows in an order for `systematic_sample`: by strata in random order, and at random within them.

    Args:
        strata: For each row its strata, the coarsest first, such as its question and its learner.
        rng: Random state.

    Returns:
        Indices of rows, shape (N,).
    """
    ranks = [rng.random(len(strata))]
    for level in reversed(range(len(strata[0]) if strata else 0)):
        names = [row[level] for row in strata]
        distinct = sorted({name or "" for name in names})
        rank = dict(zip(distinct, rng.permutation(len(distinct)).tolist(), strict=True))
        ranks.append(np.array([rank[name or ""] for name in names], dtype=np.float64))
    return np.lexsort(ranks).astype(np.int64)


def systematic_sample(probabilities: Values, start: float) -> Counts:
    """Return the rows of a systematic sample.

    Args:
        probabilities: Inclusion probabilities in the rows' order, shape (N,).
        start: In [0, 1).

    Returns:
        Indices of the drawn rows, ascending; as many as the probabilities sum to, or the next whole number up or down.
    """
    # In whole parts of the line, because with rounding errors a piece of length 1 could hold two points, or none.
    lengths = np.rint(np.asarray(probabilities) * _PARTS).astype(np.int64)
    missing = round(float(np.sum(probabilities))) * _PARTS - int(lengths.sum())
    if 0 < abs(missing) < 1e-6 * _PARTS:
        lengths[np.abs(lengths - _PARTS // 2).argmin()] += missing
    points_before = (np.cumsum(lengths) - 1 - math.floor(start * _PARTS)) // _PARTS
    return np.flatnonzero(np.diff(points_before, prepend=-1) > 0).astype(np.int64)


_PARTS = 2**40
"""Parts of a piece of length 1: inclusion probabilities are kept to about 1e-12."""


class Wave(Protocol):
    """What `effective_probabilities` reads of a draw."""

    @property
    def weight(self) -> float:
        """The weight of this wave's estimate in the average with those of the earlier waves, in (0, 1]."""

    @property
    def drawn(self) -> Mapping[str, float]:
        """By id, the inclusion probability of each row that this wave drew."""


def wave_weight(rows: int, earlier_rows: int, largest: float) -> float:
    """Return the weight of a wave's estimate in the average with those of earlier waves, before it is drawn.

    It is the wave's share of all rows drawn, but at least its largest inclusion probability: then no row counts less
    than once.

    Args:
        rows: Rows of this wave.
        earlier_rows: Rows of the earlier waves of the same population; 0: the weight is 1.
        largest: The largest inclusion probability of this wave.
    """
    return max(rows / (rows + earlier_rows), largest) if earlier_rows else 1.0


def effective_probabilities(waves: Sequence[Wave]) -> dict[str, float]:
    """Return the effective inclusion probability of every drawn row, in (0, 1].

    Weighted by its inverse, the codes of all waves together estimate a total over all rows without bias. A wave whose
    weight is 1 begins anew: what was drawn earlier is then known, with a probability of 1, and this wave estimates the
    rest.

    Args:
        waves: All waves in order.
    """
    weights: dict[str, float] = {}
    for wave in waves:
        weights = {ident: (1 - wave.weight) * weight + wave.weight for ident, weight in weights.items()}
        weights |= {ident: wave.weight / probability for ident, probability in wave.drawn.items()}
    return {ident: min(1.0, 1 / weight) for ident, weight in weights.items()}
