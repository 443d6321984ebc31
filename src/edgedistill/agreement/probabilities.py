"""How good probabilities are: do they rank, and do they mean what they say?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from edgedistill.agreement.bootstrap import defined, estimate, row_weights
from edgedistill.agreement.checking import check_groups, check_kind, check_lengths, indices
from edgedistill.agreement.statistics import Counts, Values
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task import Task

BINS = 10
"""Bins of a reliability table, of equal width over [0, 1]."""

_LEAST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The rows whose label has a probability in ``(low, high]``.

    Attributes:
        low: The bin's lower edge; the first bin holds 0 too.
        high: Its upper edge.
        rows: Rows in it, at least 1.
        mean_probability: Mean of their labels' probabilities.
        accuracy: Share of them that have the reference's label.
    """

    low: float
    high: float
    rows: int
    mean_probability: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Probabilities:
    """How good the probabilities of a coding are.

    Attributes:
        rows: Rows, at least 1.
        auc: Area under the ROC curve, in [0, 1]; of more than two labels the mean over labels of each against the rest.
            None where some label of the mean is undefined.
        auc_per_label: A label against the rest; None where all references are the label, or none is.
        brier: Mean squared error of the probabilities (Brier 1950): summed over labels, in [0, 2], for two labels half
            of that.
        log_loss: Mean negative logarithm of the reference's probability, in nats.
        ece: Expected calibration error, in [0, 1]: over the bins, the mean distance of accuracy and mean probability,
            weighted by rows (Guo et al. 2017, equation 5). On few rows it is above 0 even of perfect probabilities.
        reliability: The bins that hold rows, from low to high.
    """

    rows: int
    auc: Estimate | None
    auc_per_label: Mapping[str, Estimate | None]
    brier: Estimate
    log_loss: Estimate
    ece: Estimate
    reliability: tuple[ReliabilityBin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        return {**asdict(self), "reliability": [asdict(each) for each in self.reliability]}


def probability_figures(
    reference: Sequence[str],
    probabilities: NDArray[np.float64],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Probabilities:
    """Judge probabilities by a reference coding, with 95 % percentile bootstrap intervals.

    AUC, Brier score and log loss are scikit-learn's.

    Args:
        reference: The label per row that counts as right.
        probabilities: Shape (rows, labels), labels in codebook order; each row sums to 1.
        task: Its labels are the only ones allowed.
        groups: What each row belongs to; whole groups are then drawn. None: every row stands for itself.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As `agreement` says; probabilities of another shape, or that do not sum to 1.
    """
    check_kind(task)
    check_lengths(reference)
    check_groups(len(reference), groups, resamples)
    truth = indices(reference, task, "reference")
    labels = len(task.names)
    if probabilities.shape != (len(truth), labels) or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-6):
        raise DataError(f"{len(truth)} rows of {labels} labels want as many probabilities, a row's summing to 1")
    right = np.eye(labels)[truth]
    losses = _Losses.of(truth, probabilities, right)
    orders = [_Order.of(probabilities[:, place], right[:, place] == 1) for place in range(labels)]
    parts = [
        (losses.means(weights), np.array([order.areas(weights) for order in orders]).T)
        for weights in row_weights(len(truth), groups, resamples, np.random.default_rng(seed))
    ]
    drawn = {name: np.concatenate([means[name] for means, _ in parts]) for name in parts[0][0]}
    areas = np.concatenate([each for _, each in parts])
    auc = {name: _auc(right[:, place], probabilities[:, place]) for place, name in enumerate(task.names)}
    return Probabilities(
        rows=len(truth),
        auc=defined(float(np.mean(list(auc.values()))), areas.mean(axis=1)),
        auc_per_label={name: defined(auc[name], areas[:, place]) for place, name in enumerate(task.names)},
        brier=estimate(_brier(truth, probabilities), drawn["brier"]),
        log_loss=estimate(float(log_loss(truth, probabilities, labels=range(labels))), drawn["log_loss"]),
        ece=estimate(losses.ece, drawn["ece"]),
        reliability=losses.table(drawn),
    )


def _auc(is_label: Values, probability: Values) -> float:
    return float(roc_auc_score(is_label, probability)) if 0 < is_label.sum() < len(is_label) else np.nan


def _brier(truth: Counts, probabilities: Values) -> float:
    if probabilities.shape[1] == 2:
        return float(brier_score_loss(truth, probabilities[:, 1], labels=[0, 1], pos_label=1))
    return float(brier_score_loss(truth, probabilities, labels=range(probabilities.shape[1])))


@dataclass(frozen=True, slots=True, eq=False)
class _Losses:
    """What each row adds to the figures that are means over rows.

    Attributes:
        brier, log_loss: Per row.
        chosen: Per row the probability of its label, that is its largest.
        hit: Per row whether that label is the reference's.
        bins: Per row its bin.
    """

    brier: Values
    log_loss: Values
    chosen: Values
    hit: Values
    bins: Counts

    @classmethod
    def of(cls, truth: Counts, probabilities: Values, right: Values) -> "_Losses":
        squared = ((probabilities - right) ** 2).sum(axis=1) / (2 if probabilities.shape[1] == 2 else 1)
        chosen = probabilities.max(axis=1)
        return cls(
            squared,
            -np.log(np.clip(probabilities[np.arange(len(truth)), truth], _LEAST, 1)),
            chosen,
            (probabilities.argmax(axis=1) == truth).astype(np.float64),
            np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], chosen),
        )

    def means(self, weights: Counts) -> dict[str, Values]:
        """Per resample the means, and per resample and bin the accuracy (NaN where the bin is empty)."""
        of_bin = np.eye(BINS)[self.bins]
        rows = weights.sum(axis=1)
        held, hits = weights @ of_bin, weights @ (of_bin * self.hit[:, None])
        gaps = np.abs(hits - weights @ (of_bin * self.chosen[:, None]))
        return {
            "brier": weights @ self.brier / rows,
            "log_loss": weights @ self.log_loss / rows,
            "ece": gaps.sum(axis=1) / rows,
            "accuracy": np.divide(hits, held, out=np.full(held.shape, np.nan), where=held > 0),
        }

    @property
    def ece(self) -> float:
        return float(self.means(np.ones((1, len(self.hit)), dtype=np.int64))["ece"][0])

    def table(self, drawn: Mapping[str, Values]) -> tuple[ReliabilityBin, ...]:
        found = []
        for place in np.unique(self.bins):
            inside = self.bins == place
            accuracy = defined(float(self.hit[inside].mean()), drawn["accuracy"][:, place])
            if accuracy:
                mean = float(self.chosen[inside].mean())
                found.append(ReliabilityBin(place / BINS, (place + 1) / BINS, int(inside.sum()), mean, accuracy))
        return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """Rows by one label's probability, rows of equal probability together, for the AUC of many resamples.

    The area is the share of pairs, one of the label and one of another, that are in the right order, ties counting half
    (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    """

    order: Counts
    starts: Counts
    is_label: NDArray[np.bool_]

    @classmethod
    def of(cls, probability: Values, is_label: NDArray[np.bool_]) -> "_Order":
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
