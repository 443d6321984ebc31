"""How much agreement with human codes is lost from one coding of the same rows to the next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.agreement.bootstrap import (
    Counts,
    Values,
    confusion_of,
    estimate,
    kappas,
    resample_groups,
    resample_rows,
)
from edgedistill.agreement.types import Estimate
from edgedistill_serve.task import Task


@dataclass(frozen=True, slots=True)
class Change:
    """From one coding to another, on the same rows.

    Attributes:
        rows: Rows compared, at least 1.
        flips: Rows whose label differs.
        flip_rate: Their share, with its interval.
        kappa_lost: The first coding's agreement with the reference less the second's: Cohen's κ, quadratic weighted for
            an ordinal task. The interval is paired: both are recomputed on the same resampled rows. None where either
            is undefined.
    """

    rows: int
    flips: int
    flip_rate: Estimate
    kappa_lost: Estimate | None


def change(
    reference: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Change:
    """Compare two codings of the same rows, with 95 % paired percentile bootstrap intervals.

    Args:
        reference: The label per row that counts as right; at least one row.
        before: The first coding.
        after: The second.
        task: Its labels are the only ones in all three.
        groups: What each row belongs to; whole groups are then drawn. None: every row stands for itself.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.
    """
    index = {name: number for number, name in enumerate(task.names)}
    truth, first, second = (np.array([index[label] for label in coding]) for coding in (reference, before, after))
    labels, rng = len(index), np.random.default_rng(seed)
    # The two codings as one of labels² labels: a resample then holds both.
    joint = first * labels + second
    if groups is None or len(set(groups)) < 2:
        drawn = resample_rows(confusion_of(truth, joint, labels * labels), resamples, rng)
    else:
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        members = np.array([numbers[group] for group in groups])
        drawn = resample_groups(truth, joint, members, labels * labels, resamples, rng)
    cells = drawn[:, :labels].reshape(-1, labels, labels, labels)
    quadratic = task.kind == "ordinal"
    flips = int((first != second).sum())
    same = np.einsum("ntii->n", cells)
    of_rows = [confusion_of(truth, coding, labels)[None] for coding in (first, second)]
    lost = _lost(of_rows[0], of_rows[1], quadratic=quadratic)
    lost_when_drawn = _lost(cells.sum(axis=3), cells.sum(axis=2), quadratic=quadratic)
    defined = lost_when_drawn[~np.isnan(lost_when_drawn)]
    return Change(
        len(truth),
        flips,
        estimate(flips / len(truth), 1 - same / cells.sum(axis=(1, 2, 3))),
        None if np.isnan(lost[0]) or not len(defined) else estimate(float(lost[0]), defined),
    )


def _lost(before: Counts, after: Counts, *, quadratic: bool) -> Values:
    return kappas(before, quadratic=quadratic) - kappas(after, quadratic=quadratic)
