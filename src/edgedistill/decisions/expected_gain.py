"""What more human codes are expected to bring: the future interval of an agreement, and of an estimate.

A future interval is simulated: the true confusion table is drawn from what the rows so far say about it (Dirichlet),
the codes of the additional rows from that table, and the interval of all rows together is computed as
`edgedistill.agreement` does. The range over simulations is a prediction interval for the interval's end: it holds if
the additional rows are drawn from the same population as the present ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from edgedistill.agreement import Agreement, Estimate
from edgedistill.agreement.bootstrap import Rows
from edgedistill.agreement.confusion import Values
from edgedistill.agreement.draws import ConfusionDraws, single_label_figures

SIMULATIONS = 200
_RESAMPLES = 400
_RANGE = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class ExpectedInterval:
    """Where the lower end of an agreement's 95 % interval may be once more rows are coded.

    Attributes:
        metric: ``kappa``, ``accuracy`` or ``macro_f1``.
        rows: Rows so far.
        additional: Additional rows.
        now: The present figure with its interval.
        low: The 5th percentile of the future lower end, its median, and the 95th percentile.
        width: The median width of the future interval.
        reaches: Share of the simulations whose lower end reaches the required value; None without one.
    """

    metric: str
    rows: int
    additional: int
    now: Estimate
    low: tuple[float, float, float]
    width: float
    reaches: float | None


def expected_interval(
    agreement: Agreement,
    metric: str,
    additional: int,
    *,
    ordinal: bool = False,
    at_least: float | None = None,
) -> ExpectedInterval | None:
    """Simulate the interval of an agreement after more rows are coded.

    Rows of a learner are not independent: they count as fewer rows, by how much wider the present interval is than that
    of as many independent rows. For a multilabel task, which has no single confusion table, the figure moves by a
    normal distribution and its interval narrows with the square root of the rows.

    Args:
        agreement: The present agreement.
        metric: ``kappa``, ``accuracy`` or ``macro_f1``.
        additional: Number of additional rows, at least 1.
        ordinal: Whether κ is quadratic weighted.
        at_least: The value that the lower end must reach.

    Returns:
        None if the figure is undefined, or if all rows belong to one group.
    """
    now: Estimate | None = getattr(agreement, metric)
    if now is None or agreement.groups == 1 or now.high <= now.low:
        return None
    rng = np.random.default_rng(0)
    if agreement.confusion:
        table = np.array(agreement.confusion, dtype=np.float64)
        effect = 1.0
        if agreement.groups is not None:
            low, high = _interval(table, metric, rng, ordinal=ordinal)
            effect = min(max(1.0, ((now.high - now.low) / max(high - low, 1e-9)) ** 2), float(table.sum()))
        ends = _simulated(table / effect, metric, max(1, round(additional / effect)), ordinal=ordinal, rng=rng)
    else:
        ends = _approximated(now, agreement.rows, additional, rng)
    lows = ends[:, 0]
    low, median, high = np.quantile(lows, (_RANGE[0], 0.5, _RANGE[1])).tolist()
    return ExpectedInterval(
        metric,
        agreement.rows,
        additional,
        now,
        (low, median, high),
        float(np.median(ends[:, 1] - ends[:, 0])),
        None if at_least is None else float((lows >= at_least).mean()),
    )


def _simulated(table: Values, metric: str, additional: int, *, ordinal: bool, rng: np.random.Generator) -> Values:
    """Return the ends of simulated intervals, (simulations, 2)."""
    truths = rng.dirichlet(table.ravel() + 1 / table.size, size=SIMULATIONS)
    future = [table + rng.multinomial(additional, truth).reshape(table.shape) for truth in truths]
    return np.array([_interval(each, metric, rng, ordinal=ordinal) for each in future])


def _interval(table: Values, metric: str, rng: np.random.Generator, *, ordinal: bool) -> tuple[float, float]:
    """Return the interval of a figure of independent rows; the whole range where it is undefined."""
    labels = len(table)
    weights = rng.gamma(table.ravel(), size=(_RESAMPLES, table.size)).reshape(-1, labels, labels)
    additional = np.concatenate([[0.0], rng.exponential(size=_RESAMPLES)])
    draws = ConfusionDraws(np.concatenate([table[None], weights]), additional, Rows(max(1, round(table.sum())), None))
    estimate = single_label_figures(ordinal=ordinal)[metric](draws).estimate()
    return (-1.0, 1.0) if estimate is None else (estimate.low, estimate.high)


def _approximated(now: Estimate, rows: int, additional: int, rng: np.random.Generator) -> Values:
    deviation = (now.high - now.low) / (2 * float(norm.ppf(0.975)))
    moved = now.value + rng.normal(0, deviation * np.sqrt(additional / (rows + additional)), size=SIMULATIONS)
    narrower = np.sqrt(rows / (rows + additional))
    ends = np.stack([moved - (now.value - now.low) * narrower, moved + (now.high - now.value) * narrower], axis=1)
    return np.asarray(np.clip(ends, -1, 1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ExpectedWidth:
    """How exact the shares of labels would be that drawn codes estimate.

    Attributes:
        label: The label whose share is the least exact.
        corrected: Half the width of its 95 % interval by machine codes of all rows, corrected by the drawn codes.
        human_only: The same by the drawn codes alone.
        codes: Number of drawn codes.
    """

    label: str
    corrected: float
    human_only: float
    codes: int


def expected_width(agreement: Agreement, draws: Sequence[Mapping[str, float]], rows: Sequence[int]) -> ExpectedWidth:
    """Return half the width of the interval of a label's share that drawn codes are expected to give.

    With n codes the error of a share has the variance Var(y) / n; corrected by PPI++, which weighs the machine codes by
    how much they are worth (Angelopoulos, Duchi & Zrnic 2023, arXiv:2311.01453), (1 - r^2) Var(y) / n: y is whether a
    person gives the label, r its correlation with whether the student does. Unequal inclusion probabilities count as
    N / mean(1 / π) codes: exact if they are unrelated to the student's errors, and too few if they follow them.

    Args:
        agreement: Of the student with human codes, such as that of the test rows.
        draws: By wave, the inclusion probability of every row that could be drawn.
        rows: By wave, the number of rows drawn.
    """
    effective = sum(len(wave) / float(np.mean([1 / p for p in wave.values()])) for wave in draws)
    total = agreement.rows
    found = {}
    for place, (name, label) in enumerate(agreement.per_label.items()):
        if label.table:
            (_, wrongly), (missed, right) = label.table
        else:
            table = np.array(agreement.confusion)
            right = int(table[place, place])
            wrongly, missed = int(table[:, place].sum()) - right, int(table[place].sum()) - right
        share = (missed + right) / total
        given = (wrongly + right) / total
        alone, machine = share * (1 - share), given * (1 - given)
        shared = (right / total - share * given) ** 2
        found[name] = (alone - (shared / machine if machine else 0.0), alone)
    label_name = max(found, key=lambda name: found[name])
    half = [float(norm.ppf(0.975)) * float(np.sqrt(variance / effective)) for variance in found[label_name]]
    return ExpectedWidth(label_name, half[0], half[1], sum(rows))
