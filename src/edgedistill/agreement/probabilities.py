"""Figures of probabilities: ROC AUC, Brier score, log loss, calibration error, reliability."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from edgedistill.agreement.bootstrap import interval_estimate, optional_estimate, row_weights
from edgedistill.agreement.confusion import Counts, Values, check_groups, check_lengths, encode_labels
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class RocRanking:
    """Rows by one label's probability, rows of equal probability together, for the AUC of many resamples.

    The area is the share of pairs, one of the label and one of another, that are in the right order, ties counting half
    (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    """

    order: Counts
    starts: Counts
    is_label: NDArray[np.bool_]

    @classmethod
    def of(cls, probability: Values, is_label: NDArray[np.bool_]) -> "RocRanking":
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


BINS = 10
"""Bins of a reliability table, of equal width over [0, 1]."""

_LEAST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The rows whose label has a probability in ``(low, high]``.

    Of a multilabel task, the rows with each of the labels: a row is in the bin of every label's probability.

    Attributes:
        low: The bin's lower edge; the first bin holds 0 too.
        high: Its upper edge.
        rows: Rows in it, at least 1.
        mean_probability: Mean of their labels' probabilities.
        accuracy: Share of them that have the reference's label; of a multilabel task those of which the label holds.
    """

    low: float
    high: float
    rows: int
    mean_probability: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class ProbabilityMetrics:
    """How good the probabilities of a coding are.

    Attributes:
        rows: Rows, at least 1.
        auc: Area under the ROC curve, in [0, 1]; of more than two labels the mean over labels of each against the rest.
            None where some label of the mean is undefined.
        auc_per_label: A label against the rest; None where all references are the label, or none is.
        brier: Mean squared error of the probabilities (Brier 1950): summed over labels, in [0, 2], for two labels half
            of that; of a multilabel task the mean over labels, in [0, 1].
        log_loss: Mean negative logarithm of the reference's probability, in nats; of a multilabel task the mean over
            labels of the binary one.
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


def probability_metrics(
    reference: Sequence[str],
    probabilities: NDArray[np.float64],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> ProbabilityMetrics:
    """Judge probabilities by a reference coding, with 95 % percentile bootstrap intervals.

    AUC, Brier score and log loss are scikit-learn's.

    Args:
        reference: The label per row that counts as right.
        probabilities: Shape (rows, labels), labels in codebook order; each row sums to 1, but for a multilabel task.
        task: Its labels are the only ones allowed.
        groups: What each row belongs to; whole groups are then drawn. None: every row stands for itself.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As `agreement` says; probabilities of another shape, outside [0, 1], or that do not sum to 1.
    """
    check_lengths(reference)
    check_groups(len(reference), groups, resamples)
    _check_probabilities(probabilities, len(reference), task)
    labels = len(task.names)
    if task.kind == "multilabel":
        right = encode_label_sets(reference, task, "reference").astype(np.float64)
        losses, brier, loss = _losses_of_sets(right, probabilities)
    else:
        truth = encode_labels(reference, task, "reference")
        right = np.eye(labels)[truth]
        losses, brier = _losses_of_labels(truth, probabilities, right), _brier(truth, probabilities)
        loss = float(log_loss(truth, probabilities, labels=range(labels)))
    orders = [RocRanking.of(probabilities[:, place], right[:, place] == 1) for place in range(labels)]
    parts = [
        (losses.means(weights), np.array([order.areas(weights) for order in orders]).T)
        for weights in row_weights(len(reference), groups, resamples, np.random.default_rng(seed))
    ]
    drawn = {name: np.concatenate([means[name] for means, _ in parts]) for name in parts[0][0]}
    areas = np.concatenate([each for _, each in parts])
    auc = {name: _auc(right[:, place], probabilities[:, place]) for place, name in enumerate(task.names)}
    return ProbabilityMetrics(
        rows=len(reference),
        auc=optional_estimate(float(np.mean(list(auc.values()))), areas.mean(axis=1)),
        auc_per_label={name: optional_estimate(auc[name], areas[:, place]) for place, name in enumerate(task.names)},
        brier=interval_estimate(brier, drawn["brier"]),
        log_loss=interval_estimate(loss, drawn["log_loss"]),
        ece=interval_estimate(losses.ece, drawn["ece"]),
        reliability=losses.table(drawn),
    )


def _check_probabilities(probabilities: NDArray[np.float64], rows: int, task: Task) -> None:
    sums = "" if task.kind == "multilabel" else ", a row's summing to 1"
    fit = probabilities.shape == (rows, len(task.names)) and bool(((probabilities >= 0) & (probabilities <= 1)).all())
    if not fit or (sums and not np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)):
        raise DataError(f"{rows} rows of {len(task.names)} labels want as many probabilities{sums}")


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
        held: Per row and bin how many of its probabilities are in it: those of its labels.
        hits: Per row and bin how many of them are of a label that the reference has.
        summed: Per row and bin their sum.
    """

    brier: Values
    log_loss: Values
    held: Values
    hits: Values
    summed: Values

    def means(self, weights: Counts) -> dict[str, Values]:
        """Per resample the means, and per resample and bin the accuracy (NaN where the bin is empty)."""
        rows = weights.sum(axis=1)
        held, hits = weights @ self.held, weights @ self.hits
        gaps = np.abs(hits - weights @ self.summed)
        return {
            "brier": weights @ self.brier / rows,
            "log_loss": weights @ self.log_loss / rows,
            "ece": gaps.sum(axis=1) / held.sum(axis=1),
            "accuracy": np.divide(hits, held, out=np.full(held.shape, np.nan), where=held > 0),
        }

    @property
    def ece(self) -> float:
        return float(self.means(np.ones((1, len(self.held)), dtype=np.int64))["ece"][0])

    def table(self, drawn: Mapping[str, Values]) -> tuple[ReliabilityBin, ...]:
        found = []
        held, hits, summed = self.held.sum(axis=0), self.hits.sum(axis=0), self.summed.sum(axis=0)
        for place in np.flatnonzero(held):
            accuracy = optional_estimate(float(hits[place] / held[place]), drawn["accuracy"][:, place])
            if accuracy:
                mean = float(summed[place] / held[place])
                found.append(ReliabilityBin(place / BINS, (place + 1) / BINS, int(held[place]), mean, accuracy))
        return tuple(found)


def _losses_of_labels(truth: Counts, probabilities: Values, right: Values) -> _Losses:
    """Of rows with one label each: the probability of that label, the largest, is what the bins hold."""
    squared = ((probabilities - right) ** 2).sum(axis=1) / (2 if probabilities.shape[1] == 2 else 1)
    loss = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], _LEAST, 1))
    hit = probabilities.argmax(axis=1) == truth
    return _Losses(squared, loss, *_binned(probabilities.max(axis=1)[:, None], hit[:, None].astype(np.float64)))


def _losses_of_sets(right: Values, probabilities: Values) -> tuple[_Losses, float, float]:
    """Of rows of which any number of labels hold, and the means of both losses."""
    squared = ((probabilities - right) ** 2).mean(axis=1)
    of_truth = np.where(right == 1, probabilities, 1 - probabilities)
    loss = -np.log(np.clip(of_truth, _LEAST, 1)).mean(axis=1)
    losses = _Losses(squared, loss, *_binned(probabilities, right))
    return losses, float(squared.mean()), float(loss.mean())


def _binned(probabilities: Values, right: Values) -> tuple[Values, Values, Values]:
    """Per row and bin: how many probabilities, how many of them right, and their sum; both given (rows, any)."""
    of_bin = np.eye(BINS)[np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probabilities)]
    weighed = [(of_bin * by[:, :, None]).sum(axis=1) for by in (np.ones_like(right), right, probabilities)]
    return weighed[0], weighed[1], weighed[2]
