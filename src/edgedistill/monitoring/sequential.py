"""Evidence that a share of responses has left the range that its reference allows, valid however often one looks.

The reference is a sample, so it allows a range of shares: its exact confidence interval (Clopper & Pearson 1934), or
the tolerance around the observed share if that is wider. Whether the stream is outside is tested by betting (Shafer
2021; Waudby-Smith & Ramdas 2024): for each share beyond the range, the likelihood of the stream divided by that at the
nearest end of the range is at most 1 in expectation, whatever came before, as long as each response has a share within
the range. An average of such ratios (by the Jeffreys prior beyond the range) keeps this, as does an average over weeks
in which the change may have begun. By Ville's inequality (1939) such an average ever reaches 1 / level with a
probability of at most ``level``: there is no number of looks to correct for (Ramdas et al. 2023, "Game-theoretic
statistics and safe anytime-valid inference").

    allowed_range        the shares that a reference allows
    log_evidence         the logarithm of the evidence that a share is outside of a range
    evidence_by_week     the same, for a change that began in any week
    always_valid_limits  a confidence interval of a share that holds at all times
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, betaincinv, betaln, logsumexp, xlogy

Values: TypeAlias = NDArray[np.float64]

_PRIOR = 0.5
"""Both parameters of the Jeffreys prior of a share."""


def allowed_range(count: float, rows: float, level: float, tolerance: float) -> tuple[float, float]:
    """Return the range of shares that a reference allows.

    Args:
        count: Rows of the reference with the property; with a design effect, divided by it.
        rows: Rows of the reference, likewise; above 0.
        level: Probability that the true share is outside of the exact interval, in (0, 1).
        tolerance: A smaller difference from the observed share is allowed in any case.
    """
    low = float(betaincinv(count, rows - count + 1, level / 2)) if count > 0 else 0.0
    high = float(betaincinv(count + 1, rows - count, 1 - level / 2)) if count < rows else 1.0
    share = count / rows
    return max(0.0, min(low, share - tolerance)), min(1.0, max(high, share + tolerance))


def log_evidence(count: Values, rows: Values, low: float, high: float) -> Values:
    """Return the logarithm of the evidence that a share is outside of a range.

    The evidence is at most 1 in expectation, whenever one looks, if the share is inside.

    Args:
        count: Responses with the property; not negative, need not be whole.
        rows: Responses, at least ``count``.
        low: Lower end of the range, in [0, 1].
        high: Upper end, in [0, 1].
    """
    above, below = log_evidence_above(count, rows, high), log_evidence_above(rows - count, rows, 1 - low)
    return np.asarray(np.logaddexp(above, below) - np.log(2))


def log_evidence_above(count: Values, rows: Values, end: float) -> Values:
    """Return the logarithm of the evidence that a share is above ``end``; the arguments are those of `log_evidence`.

    It is the average likelihood of the shares above ``end``, divided by the likelihood at ``end``.
    """
    a, b = count + _PRIOR, rows - count + _PRIOR
    with np.errstate(divide="ignore", invalid="ignore"):
        average = betaln(a, b) + np.log(betaincc(a, b, end))
        weight = betaln(_PRIOR, _PRIOR) + np.log(betaincc(_PRIOR, _PRIOR, end))
        at_end = xlogy(count, end) + xlogy(rows - count, 1 - end)
        found = average - weight - at_end
    # Of an end of 1 there is nothing above; far below the end the incomplete beta function is 0.
    return np.full(np.shape(rows), -np.inf) if end >= 1 else np.where(np.isnan(found), -np.inf, found)


def evidence_by_week(count: Values, rows: Values, low: float, high: float) -> tuple[Values, NDArray[np.int64]]:
    """Return the logarithm of the evidence at the end of each week for a change that began in any week.

    A change in the n-th week has the weight 1 / (n (n + 1)).

    Args:
        count: Responses with the property in each week, (weeks,).
        rows: Responses in each week, (weeks,).
        low: Lower end of the allowed range.
        high: Upper end.

    Returns:
        The logarithm of the evidence, (weeks,), and the week in which a change most probably began, (weeks,).
    """
    weeks = len(rows)
    totals = [np.concatenate([[0.0], np.cumsum(each)]) for each in (count, rows)]
    # By end (row) and beginning (column) of a period.
    counts, sizes = (total[1:, None] - total[None, :-1] for total in totals)
    begun = np.tri(weeks, dtype=np.bool_)
    number = np.arange(1, weeks + 1)
    weighed = np.full((weeks, weeks), -np.inf)
    weighed[begun] = log_evidence(counts[begun], sizes[begun], low, high)
    weighed -= np.log(number * (number + 1.0))
    # Changes that have not begun yet have the evidence 1 and the remaining weight 1 / (weeks + 1).
    later = -np.log(number + 1.0)
    return np.asarray(np.logaddexp(logsumexp(weighed, axis=1), later)), np.asarray(weighed.argmax(axis=1))


def always_valid_limits(count: float, rows: float, level: float) -> tuple[float, float]:
    """Return the limits of a share that hold at all times together with a probability of ``1 - level``.

    Args:
        count: Responses with the property.
        rows: Responses.
        level: Probability of an error, in (0, 1).
    """
    if rows <= 0:
        return 0.0, 1.0
    share = count / rows

    def is_excluded(value: float) -> bool:
        average = betaln(count + _PRIOR, rows - count + _PRIOR) - betaln(_PRIOR, _PRIOR)
        likelihood = xlogy(count, value) + xlogy(rows - count, 1 - value)
        return bool(average - likelihood >= -np.log(level))

    def limit(inside: float, outside: float) -> float:
        with np.errstate(divide="ignore"):
            if not is_excluded(outside):
                return outside
            for _ in range(50):
                middle = (inside + outside) / 2
                inside, outside = (inside, middle) if is_excluded(middle) else (middle, outside)
        return outside

    return limit(share, 0.0), limit(share, 1.0)
