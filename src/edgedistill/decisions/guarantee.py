"""A bound on the share of wrong codes among accepted responses, by fixed-sequence testing.

Angelopoulos et al. ("Learn then Test", arXiv 2110.01052) choose a threshold whose risk is bounded with a stated
confidence: the thresholds are tested from strict to loose, each at the full level, until the first one fails. The last
one that passed is taken. The sequence must be stated before the human codes are looked at. Here it is a sequence of
numbers of the most confident rows (`stated_sizes`), which depends on confidences, labels and groups, not on codes.

Evidence       the codes of the validation rows, and which of them are not independent
stated_sizes   the numbers of most confident rows that are tested, in order
walk           fixed-sequence testing
Power          how many rows would be expected to be enough
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, rel_entr

from edgedistill_serve.bundle.guarantee import GuaranteedPart

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]

FIRST_SHARE = 0.25
"""The first test is of at least this share of the rows: very few rows have no power to tolerate a single error."""
POWER = 0.8
"""The probability with which the stated number of further rows would be enough."""
_CONSIDERED = (FIRST_SHARE, 0.4, 0.6, 0.8, 1.0)
_MOST_ERRORS = 400


def least_rows(share: float, level: float) -> int:
    """Return the smallest number of independent rows at which a bound of ``share`` can be shown: without any error.

    The probability of no error among n rows is ``(1 - share) ** n``; 59 rows for a share of 5 % at a level of 5 %.

    Args:
        share: The share of wrong codes, in (0, 1).
        level: The probability of a wrong promise, in (0, 1).
    """
    return math.ceil(math.log(level) / math.log1p(-share) - 1e-9)


@cache
def critical_sizes(share: float, level: float, most: int) -> tuple[int, ...]:
    """Return the smallest numbers of independent rows at which 0, 1, 2, … errors show the bound, up to ``most``."""
    sizes: list[int] = []
    rows = least_rows(share, level)
    for errors in range(_MOST_ERRORS):
        while bdtr(errors, rows, share) > level:
            rows += 1
        if rows > most:
            break
        sizes.append(rows)
    return tuple(sizes)


def binomial_p_value(wrong: int, rows: int, share: float) -> float:
    """Return the probability of at most this many errors among independent rows whose error rate is ``share``."""
    return float(bdtr(wrong, rows, share)) if rows else 1.0


def cluster_p_value(wrong: NDArray[np.float64], rows: NDArray[np.float64], share: float) -> float:
    """Return a p-value of the hypothesis that more than a share of the rows of independent clusters is wrong.

    The rows of a cluster may depend on one another in any way. With m the largest cluster, the errors of each cluster
    divided by m lie in [0, 1]; under the hypothesis the mean over clusters is at least ``share`` times the mean number
    of rows, divided by m. The bound of Hoeffding (1963, theorem 1) and that of Bentkus (2004), which "Learn then Test"
    combines, hold for independent variables with this range and mean. Clusters of one row: the exact binomial.

    Args:
        wrong: Errors of each cluster, (clusters,).
        rows: Its rows, at least 1 each.
        share: The share of wrong codes, in (0, 1).
    """
    count = len(rows)
    if not count:
        return 1.0
    largest = float(rows.max())
    if largest == 1:
        return binomial_p_value(round(float(wrong.sum())), count, share)
    mean, expected = float(wrong.mean()) / largest, share * float(rows.mean()) / largest
    if mean >= expected:
        return 1.0
    divergence = float(rel_entr(mean, expected) + rel_entr(1 - mean, 1 - expected))
    bentkus = math.e * float(bdtr(math.ceil(mean * count - 1e-9), count, expected))
    return min(1.0, math.exp(-count * divergence), bentkus)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Human-coded rows, and what is independent among them.

    Every way of counting must show the bound (the largest p-value counts): the hypothesis that one of them is exceeded
    is a union, which is rejected at a level if each part is.

    Attributes:
        wrong: Whether the student's label of each row differs from the human code, (rows,).
        clusters: Ways of counting; each has the cluster of every row, from 0, and rows of different clusters are
            independent.
        distinct: The number of each row's text, from 0: texts are counted once, and are wrong if a copy is. None if
            copies are within clusters.
        groups: By group of learners, its rows; the bound must hold in each. Empty without groups.
    """

    wrong: Mask
    clusters: tuple[NDArray[np.int64], ...]
    distinct: NDArray[np.int64] | None
    groups: dict[str, Mask]

    def parts(self, accepted: Mask) -> Iterator[Mask]:
        """Yield the rows that must each show the bound: all accepted ones, and those of each group."""
        yield accepted
        for group in self.groups.values():
            yield accepted & group

    def p_value(self, accepted: Mask, share: float) -> float:
        """Return the p-value of the hypothesis that more than a share is wrong among accepted rows, or in a group."""
        return max(self.part_p_value(part, share) for part in self.parts(accepted))

    def part_p_value(self, part: Mask, share: float) -> float:
        """Return the p-value for some rows, without regard to groups: the largest over the ways of counting."""
        wrong = self.wrong[part]
        values = [cluster_p_value(*_sums(cluster[part], wrong), share) for cluster in self.clusters]
        if self.distinct is not None:
            errors, rows = _sums(self.distinct[part], wrong)
            values.append(binomial_p_value(int((errors > 0).sum()), len(rows), share))
        return max(values)

    def bound(self, part: Mask, level: float) -> float:
        """Return the upper confidence limit of the share of wrong codes among some rows; 1 without rows."""
        if not part.any() or self.part_p_value(part, 1 - 1e-9) > level:
            return 1.0
        return float(brentq(lambda share: self.part_p_value(part, share) - level, 1e-9, 1 - 1e-9, xtol=1e-7))

    def part(self, part: Mask, level: float) -> GuaranteedPart:
        """Return the evidence of some rows."""
        return GuaranteedPart(int(part.sum()), int(self.wrong[part].sum()), self.bound(part, level))

    def effective(self, accepted: Mask) -> float:
        """Return how many independent rows the accepted ones count like at most, in the smallest group.

        For clusters, the number of rows divided by the largest cluster.
        """
        return min(self._effective(part) for part in self.parts(accepted))

    def _effective(self, part: Mask) -> float:
        if not part.any():
            return 0.0
        counts = [np.bincount(cluster[part]) for cluster in self.clusters]
        found = [float(part.sum() / each.max()) for each in counts]
        if self.distinct is not None:
            found.append(float(len(np.unique(self.distinct[part]))))
        return min(found)

    def units(self, part: Mask) -> int:
        """Return the number of independent units among some rows."""
        return min(len(np.unique(cluster[part])) for cluster in self.clusters)

    def of(self, wrong: Mask) -> Self:
        """Return the same rows with other labels of the student."""
        return type(self)(wrong, self.clusters, self.distinct, self.groups)


def _sums(cluster: NDArray[np.int64], wrong: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return errors and rows of each cluster that has rows."""
    rows = np.bincount(cluster).astype(np.float64)
    errors = np.bincount(cluster, weights=wrong).astype(np.float64)
    return errors[rows > 0], rows[rows > 0]


def stated_sizes(ranked: Places, ends: Places, evidence: Evidence, share: float, level: float) -> list[int]:
    """Return the numbers of most confident rows to test, in ascending order; empty if there are too few rows.

    They are the smallest numbers at which 0, 1, 2, … errors would show the bound, from `FIRST_SHARE` of the rows on,
    and the number of all rows. Human codes have no influence.

    Args:
        ranked: The rows in descending order of confidence.
        ends: Cumulative numbers of rows of the blocks of ties.
        evidence: Of all rows; only what is independent is used.
        share: The share of wrong codes.
        level: The probability of a wrong promise.
    """
    reached = np.maximum.accumulate(_effective_rows(ranked, ends, evidence)) if len(ends) else np.zeros(1)
    sizes = critical_sizes(share, level, int(reached[-1]))
    if not sizes:
        return []
    first = int(np.searchsorted(ends, math.ceil(FIRST_SHARE * len(ranked))))
    blocks = {block for size in sizes if (block := int(np.searchsorted(reached, size))) >= first}
    return [int(ends[block]) for block in sorted({*blocks, len(ends) - 1})]


def _effective_rows(ranked: Places, ends: Places, evidence: Evidence) -> NDArray[np.float64]:
    """Return, for each block of ties, `Evidence.effective` of the rows up to its end."""
    smallest = np.full(len(ranked), np.inf)
    for part in evidence.parts(np.ones(len(evidence.wrong), dtype=np.bool_)):
        counted = part[ranked]
        rows = counted.cumsum()
        for cluster in evidence.clusters:
            largest = np.maximum.accumulate(np.where(counted, _occurrence(cluster[ranked], counted), 0))
            smallest = np.minimum(smallest, rows / np.maximum(largest, 1))
        if evidence.distinct is not None:
            first = counted & (_occurrence(evidence.distinct[ranked], counted) == 1)
            smallest = np.minimum(smallest, first.cumsum())
    return np.asarray(smallest[ends - 1])


def _occurrence(names: Places, counted: Mask) -> Places:
    """Return, for each counted row, how many rows with its name there are up to it; 0 for other rows."""
    found = np.zeros(len(names), dtype=np.int64)
    seen: Counter[int] = Counter()
    for place in np.flatnonzero(counted).tolist():
        seen[int(names[place])] += 1
        found[place] = seen[int(names[place])]
    return found


def walk(sizes: Sequence[int], passes: Callable[[int], bool], start: int = 0) -> int:
    """Test sizes in order until the first that fails; return how many passed, counted from the beginning.

    Args:
        sizes: In the order stated.
        passes: Whether the bound is shown at a size.
        start: How many have passed before.
    """
    passed = start
    while passed < len(sizes) and passes(sizes[passed]):
        passed += 1
    return passed


def rows_needed(ranked: Places, ends: Places, evidence: Evidence, share: float, level: float) -> int | None:
    """Return how many rows in all would be expected to show the bound for some of them; None if no number would.

    With n rows the first test is that of the smallest critical size from `FIRST_SHARE` of n on. It must succeed with a
    probability of `POWER` if the most confident rows are wrong at a rate of ``(wrong + 1) / (rows + 2)``, which is
    above the observed one: the smallest such rate of several shares of the rows, because the most confident ones are
    wrong no more often than more of them. What is independent is taken as observed.

    Args:
        ranked: The rows in descending order of confidence.
        ends: Cumulative numbers of rows of the blocks of ties.
        evidence: Of all rows.
        share: The share of wrong codes.
        level: The probability of a wrong promise.
    """
    rates, effective = [], 0.0
    for size in dict.fromkeys(int(ends[np.searchsorted(ends, max(1, part * len(ranked)))]) for part in _CONSIDERED):
        accepted = np.zeros(len(evidence.wrong), dtype=np.bool_)
        accepted[ranked[:size]] = True
        rates.append(max((evidence.wrong[part].sum() + 1) / (part.sum() + 2) for part in evidence.parts(accepted)))
        effective = max(effective, evidence.effective(accepted) / size)
    if not effective or (independent := _independent_rows(float(min(rates)), share, level)) is None:
        return None
    return math.ceil(independent / effective)


def _independent_rows(rate: float, share: float, level: float) -> int | None:
    """Return the smallest number of independent rows of which the first test succeeds with `POWER`."""
    if rate >= share:
        return None
    sizes = critical_sizes(share, level, round(_MOST_ERRORS / share))
    for errors, rows in enumerate(sizes):
        if bdtr(errors, rows, rate) >= POWER:
            return max(rows, math.floor(sizes[errors - 1] / FIRST_SHARE) + 1) if errors else rows
    return None
