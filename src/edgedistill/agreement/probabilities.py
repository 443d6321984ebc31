"""Quality of predicted probabilities: ROC AUC, Brier score, log loss, calibration error, reliability."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """Rows ranked by the probability of one label, for the ROC AUC of many resamples.

    The AUC is the share of pairs of a row with the label and a row without it that are ranked correctly, ties counted
    half (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    """

    order: Counts
    starts: Counts
    is_label: NDArray[np.bool_]

    @classmethod
    def from_probabilities(cls, probability: Values, is_label: NDArray[np.bool_]) -> "RocRanking":
        """Rank rows by the probability of a label; both arguments have shape (rows,)."""
        order = np.argsort(probability, kind="stable")
        ranked = probability[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        return cls(order, starts, is_label[order])

    def auc(self, weights: Counts) -> Values:
        """Return the AUC of each resample, (resamples,); NaN if all or no rows have the label."""
        ranked = weights[:, self.order]
        positives = np.add.reduceat(ranked * self.is_label, self.starts, axis=1)
        negatives = np.add.reduceat(ranked * ~self.is_label, self.starts, axis=1)
        below = negatives.cumsum(axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        ordered = (positives * below).sum(axis=1)
        shares = np.divide(ordered, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        return np.asarray(shares, dtype=np.float64)


BINS = 10
"""Number of reliability bins of equal width over [0, 1]."""

_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows whose label has a probability in ``(low, high]``; in multilabel tasks a row counts once per label.

    Attributes:
        low: Lower edge of the bin; the first bin includes 0.
        high: Upper edge.
        rows: Number of rows, at least 1.
        mean_probability: Mean probability of their labels.
        accuracy: Share of them whose label is correct; for multilabel tasks, that have the label in the reference.
    """

    low: float
    high: float
    rows: int
    mean_probability: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class ProbabilityMetrics:
    """Quality of predicted probabilities.

    Attributes:
        rows: Number of rows, at least 1.
        auc: Area under the ROC curve, in [0, 1]; for more than two labels the mean of one-vs-rest AUCs. None if that of
            a label is undefined.
        auc_per_label: One-vs-rest AUC; None if all or no rows have the label in the reference.
        brier: Mean squared error of the probabilities (Brier 1950): summed over labels, in [0, 2], for two labels half
            of that; for multilabel tasks the mean over labels, in [0, 1].
        log_loss: Mean negative log-likelihood of the reference, in nats; for multilabel tasks the mean binary log loss
            over labels.
        ece: Expected calibration error, in [0, 1]: mean absolute difference of accuracy and mean probability over the
            bins, weighted by rows (Guo et al. 2017, equation 5). With few rows it is above 0 even for perfectly
            calibrated probabilities.
        reliability: Bins with rows, in ascending order.
    """

    rows: int
    auc: Estimate | None
    auc_per_label: Mapping[str, Estimate | None]
    brier: Estimate
    log_loss: Estimate
    ece: Estimate
    reliability: tuple[ReliabilityBin, ...]


def probability_metrics(
    reference: Sequence[str],
    probabilities: NDArray[np.float64],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> ProbabilityMetrics:
    """Compare probabilities with a reference coding, with 95 % percentile bootstrap intervals.

    AUC, Brier score and log loss are those of scikit-learn.

    Args:
        reference: The correct label of each row.
        probabilities: Shape (rows, labels), labels in codebook order; except for multilabel tasks each row sums to 1.
        task: Defines the allowed labels and their order.
        groups: The group of each row; whole groups are then resampled. None: rows are independent.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As for `agreement`; also if probabilities have another shape, are outside [0, 1], or do not sum to 1.
    """
    check_lengths(reference)
    check_groups(len(reference), groups, resamples)
    _check_probabilities(probabilities, len(reference), task)
    labels = len(task.names)
    if task.kind == "multilabel":
        correct = encode_label_sets(reference, task, "reference").astype(np.float64)
        losses, brier, loss = _label_set_losses(correct, probabilities)
    else:
        truth = encode_labels(reference, task, "reference")
        correct = np.eye(labels)[truth]
        losses, brier = _label_losses(truth, probabilities, correct), _brier(truth, probabilities)
        loss = float(log_loss(truth, probabilities, labels=range(labels)))
    rankings = [
        RocRanking.from_probabilities(probabilities[:, place], correct[:, place] == 1) for place in range(labels)
    ]
    parts = [
        (losses.means(weights), np.array([ranking.auc(weights) for ranking in rankings]).T)
        for weights in row_weights(len(reference), groups, resamples, np.random.default_rng(seed))
    ]
    drawn = {name: np.concatenate([means[name] for means, _ in parts]) for name in parts[0][0]}
    areas = np.concatenate([each for _, each in parts])
    auc = {name: _auc(correct[:, place], probabilities[:, place]) for place, name in enumerate(task.names)}
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
    sums = "" if task.kind == "multilabel" else ", and each row must sum to 1"
    valid = probabilities.shape == (rows, len(task.names)) and bool(((probabilities >= 0) & (probabilities <= 1)).all())
    if not valid or (sums and not np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)):
        raise DataError(f"probabilities must have shape ({rows}, {len(task.names)}) and be in [0, 1]{sums}")


def _auc(is_label: Values, probability: Values) -> float:
    return float(roc_auc_score(is_label, probability)) if 0 < is_label.sum() < len(is_label) else np.nan


def _brier(truth: Counts, probabilities: Values) -> float:
    if probabilities.shape[1] == 2:
        return float(brier_score_loss(truth, probabilities[:, 1], labels=[0, 1], pos_label=1))
    return float(brier_score_loss(truth, probabilities, labels=range(probabilities.shape[1])))


@dataclass(frozen=True, slots=True, eq=False)
class _RowLosses:
    """Contributions of each row to the metrics that are means over rows.

    Attributes:
        brier: Squared error, (rows,).
        log_loss: Negative log-likelihood, (rows,).
        counts: Number of its probabilities by bin, (rows, bins).
        correct: Number of these that belong to a label of the reference, (rows, bins).
        sums: Sum of these probabilities, (rows, bins).
    """

    brier: Values
    log_loss: Values
    counts: Values
    correct: Values
    sums: Values

    def means(self, weights: Counts) -> dict[str, Values]:
        """Return the metrics of each resample, and the accuracy by resample and bin (NaN for an empty bin)."""
        rows = weights.sum(axis=1)
        counts, correct = weights @ self.counts, weights @ self.correct
        gaps = np.abs(correct - weights @ self.sums)
        return {
            "brier": weights @ self.brier / rows,
            "log_loss": weights @ self.log_loss / rows,
            "ece": gaps.sum(axis=1) / counts.sum(axis=1),
            "accuracy": np.divide(correct, counts, out=np.full(counts.shape, np.nan), where=counts > 0),
        }

    @property
    def ece(self) -> float:
        return float(self.means(np.ones((1, len(self.counts)), dtype=np.int64))["ece"][0])

    def table(self, drawn: Mapping[str, Values]) -> tuple[ReliabilityBin, ...]:
        bins = []
        counts, correct, sums = self.counts.sum(axis=0), self.correct.sum(axis=0), self.sums.sum(axis=0)
        for place in np.flatnonzero(counts):
            accuracy = optional_estimate(float(correct[place] / counts[place]), drawn["accuracy"][:, place])
            if accuracy:
                mean = float(sums[place] / counts[place])
                bins.append(ReliabilityBin(place / BINS, (place + 1) / BINS, int(counts[place]), mean, accuracy))
        return tuple(bins)


def _label_losses(truth: Counts, probabilities: Values, correct: Values) -> _RowLosses:
    """Return the losses of rows with one label each; the bins count the largest probability of each row."""
    squared = ((probabilities - correct) ** 2).sum(axis=1) / (2 if probabilities.shape[1] == 2 else 1)
    loss = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], _EPSILON, 1))
    hit = probabilities.argmax(axis=1) == truth
    return _RowLosses(squared, loss, *_bin(probabilities.max(axis=1)[:, None], hit[:, None].astype(np.float64)))


def _label_set_losses(correct: Values, probabilities: Values) -> tuple[_RowLosses, float, float]:
    """Return the losses of the rows of a multilabel task, and the means of Brier score and log loss."""
    squared = ((probabilities - correct) ** 2).mean(axis=1)
    likelihood = np.where(correct == 1, probabilities, 1 - probabilities)
    loss = -np.log(np.clip(likelihood, _EPSILON, 1)).mean(axis=1)
    losses = _RowLosses(squared, loss, *_bin(probabilities, correct))
    return losses, float(squared.mean()), float(loss.mean())


def _bin(probabilities: Values, correct: Values) -> tuple[Values, Values, Values]:
    """Return the number of probabilities, of correct ones, and their sum, each (rows, bins); arguments (rows, any)."""
    in_bin = np.eye(BINS)[np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probabilities)]
    counts, hits, sums = (
        (in_bin * weight[:, :, None]).sum(axis=1) for weight in (np.ones_like(correct), correct, probabilities)
    )
    return counts, hits, sums
