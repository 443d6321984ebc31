"""How far a graph keeps the scores of the fp32 graph, and what that does to agreement with human codes.

Fidelity    against fp32, no human code needed
Agreement   both graphs against the human codes
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import cohen_kappa_score, recall_score

from edgedistill_export.parity import Logits, differences, probabilities
from edgedistill_serve.task import Task

LEAST_OF_A_GROUP = 10
"""Smaller groups have no rate of their own."""
_LEAST_ALIKE = 20
_BINS = 10


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A graph beside fp32 on the same rows.

    Attributes:
        flips: Rows whose label is not fp32's.
        flip_rate: Their share, in [0, 1].
        expected_flip_rate: What `expected_flip_rate` says.
        max_probability_difference: Largest change of a probability.
        worst_group_flip_rate: Highest flip rate of a group of at least 10 rows; None without such a group.
    """

    flips: int
    flip_rate: float
    expected_flip_rate: float
    max_probability_difference: float
    worst_group_flip_rate: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a graph costs in agreement with the human codes.

    Attributes:
        kappa_lost: Cohen's κ of fp32 less that of the graph, quadratic weighted for an ordinal task; None where one is
            undefined.
        calibration_error: Expected calibration error in ten bins (Guo et al. 2017, equation 3).
        worst_recall_change: Of all labels, the largest loss of recall against fp32, at most 0.
    """

    kappa_lost: float | None
    calibration_error: float
    worst_recall_change: float


def fidelity(fp32: Logits, logits: Logits, temperature: float, groups: Sequence[str] = ()) -> Fidelity:
    """Compare a graph with fp32.

    Args:
        fp32: Logits of fp32, at least one row.
        logits: Of the graph, for the same rows.
        temperature: Divides both.
        groups: What each row belongs to, or nothing.
    """
    flipped = logits.argmax(axis=1) != fp32.argmax(axis=1)
    named = np.array(groups)
    rates = [
        float(flipped[named == group].mean()) for group in set(groups) if (named == group).sum() >= LEAST_OF_A_GROUP
    ]
    return Fidelity(
        flips=int(flipped.sum()),
        flip_rate=float(flipped.mean()),
        expected_flip_rate=expected_flip_rate(fp32, logits),
        max_probability_difference=float(differences(fp32, logits, temperature).max()),
        worst_group_flip_rate=max(rates, default=None),
    )


def expected_flip_rate(fp32: Logits, logits: Logits) -> float:
    """Return the share of pairs of like rows where one row's change of logits would flip the other's label, in [0, 1].

    Few rows have few flips, so their rate is coarse. Which of the changes met which row is chance among rows whose two
    best labels lie about as close, and many pairs say how likely a flip was. Rows are alike with a tenth of the others,
    at least 20: rows with close labels change more than others, so any two rows will not do.

    Args:
        fp32: Of shape (rows, labels).
        logits: The same rows, scored by the graph.
    """
    ordered = np.sort(fp32, axis=1)
    rows = np.argsort(ordered[:, -1] - ordered[:, -2])
    change = (logits - fp32).astype(np.float64)[rows]
    alike = min(len(rows), max(_LEAST_ALIKE, len(rows) // 10))
    rates = []
    for place, row in enumerate(fp32[rows]):
        start = min(max(place - alike // 2, 0), len(rows) - alike)
        rates.append((row + change[start : start + alike]).argmax(axis=1) != row.argmax())
    return float(np.mean(rates))


def agreement(fp32: Logits, logits: Logits, temperature: float, codes: Sequence[str], task: Task) -> Agreement:
    """Compare a graph and fp32 with the human codes, at least one, of the same rows."""
    truth = np.array([task.names.index(code) for code in codes])
    wanted, found = fp32.argmax(axis=1), logits.argmax(axis=1)
    before, after = _kappa(truth, wanted, task), _kappa(truth, found, task)
    known = sorted(set(truth))
    recalls = [recall_score(truth, labels, labels=known, average=None, zero_division=0) for labels in (wanted, found)]
    return Agreement(
        kappa_lost=None if before is None or after is None else before - after,
        calibration_error=_calibration_error(probabilities(logits, temperature), truth),
        worst_recall_change=min(0.0, float((recalls[1] - recalls[0]).min())),
    )


def _kappa(truth: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], task: Task) -> float | None:
    if len(set(truth) | set(labels)) == 1:
        return None
    weights = "quadratic" if task.kind == "ordinal" else None
    return float(cohen_kappa_score(truth, labels, labels=range(len(task.names)), weights=weights))


def _calibration_error(given: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> float:
    sure, right = given.max(axis=1), given.argmax(axis=1) == truth
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    parts = [(bins == number) for number in range(_BINS)]
    return float(sum(abs(sure[part].mean() - right[part].mean()) * part.mean() for part in parts if part.any()))
