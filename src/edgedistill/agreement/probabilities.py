"""Quality of predicted probabilities: ROC AUC, Brier score, log loss, calibration error, reliability."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import SHARE, Figure, Rows, mean_figure, required, share_figure
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

    def auc(self, weights: Values) -> tuple[Values, Values]:
        """Return the AUC of each resample and the weight of the rarer class, both (resamples,).

        The AUC is NaN if all or no rows have the label.
        """
        ranked = weights[:, self.order]
        positives = np.add.reduceat(ranked * self.is_label, self.starts, axis=1)
        negatives = np.add.reduceat(ranked * ~self.is_label, self.starts, axis=1)
        below = negatives.cumsum(axis=1) - negatives / 2
        total, others = positives.sum(axis=1), negatives.sum(axis=1)
        pairs = total * others
        shares = np.divide((positives * below).sum(axis=1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        return shares, np.minimum(total, others)


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
    """Compare probabilities with a reference coding, with 95 % intervals.

    AUC, Brier score and log loss are those of scikit-learn. The additional row of `edgedistill.agreement.bootstrap` is
    ranked behind or before all rows of the other class for the AUC; for the losses it has probabilities that are right
    or equal for all labels, for the calibration error a gap of 0 or 1.

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
    labels, multilabel = len(task.names), task.kind == "multilabel"
    if multilabel:
        correct = encode_label_sets(reference, task, "reference").astype(np.float64)
        losses = _label_set_losses(correct, probabilities)
    else:
        truth = encode_labels(reference, task, "reference")
        correct = np.eye(labels)[truth]
        losses = _label_losses(truth, probabilities, correct)
    rankings = [
        RocRanking.from_probabilities(probabilities[:, place], correct[:, place] == 1) for place in range(labels)
    ]
    rows, rng = Rows.of(len(reference), groups), np.random.default_rng(seed)
    right = (probabilities.argmax(axis=1) == correct.argmax(axis=1)).astype(np.float64)
    additional = rows.draw_additional(right, resamples, rng)
    sums, areas = [], []
    for weights in chain([np.ones((1, rows.count))], rows.draw_rows(resamples, rng)):
        sums.append(losses.sums(weights))
        areas.append(np.array([ranking.auc(weights) for ranking in rankings]))
    drawn = _Draws(np.concatenate(sums), np.concatenate(areas, axis=2), additional, rows)
    by_label = [drawn.auc(place, additional) for place in range(labels)]
    two = multilabel or labels == 2
    return ProbabilityMetrics(
        rows=len(reference),
        auc=mean_figure([drawn.auc(place, additional / np.sqrt(labels)) for place in range(labels)]).estimate(),
        auc_per_label={name: each.estimate() for name, each in zip(task.names, by_label, strict=True)},
        brier=drawn.mean(0, 0.25 if two else 1 - 1 / labels, 1.0 if two else 2.0),
        log_loss=drawn.mean(1, float(np.log(2 if multilabel else labels)), -float(np.log(_EPSILON))),
        ece=drawn.calibration_error(),
        reliability=drawn.reliability(exact=not multilabel),
    )


@dataclass(frozen=True, slots=True)
class CertaintyMetrics:
    """How well a stated probability of being right fits how often the labels are right.

    Attributes:
        rows: Number of labels with such a probability, at least 1.
        mean: Mean probability.
        right: Share of the labels that are right.
        ece: Expected calibration error over ten bins, as in `ProbabilityMetrics`.
        auc: Probability that a right label has a higher value than a wrong one, ties counted half (AUROC); None if all
            labels are right or all are wrong.
    """

    rows: int
    mean: float
    right: Estimate
    ece: Estimate
    auc: Estimate | None


def certainty_metrics(
    certainty: Sequence[float],
    right: Sequence[bool],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> CertaintyMetrics:
    """Compare the probability of being right that comes with each label with whether it is right.

    Args:
        certainty: In [0, 1], a value per label.
        right: Whether each label is right, such as equal to the human code.
        groups: The group of each label; whole groups are then resampled. None: labels are independent.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: There are no labels, lengths differ, or a value is outside [0, 1].
    """
    check_lengths(certainty, right=right)
    values, correct = np.asarray(certainty, dtype=np.float64), np.asarray(right, dtype=np.bool_)
    check_groups(len(values), groups, resamples)
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError("a certainty is a number in [0, 1]", hint="Divide percent by 100.")
    losses = _label_set_losses(correct[:, None].astype(np.float64), values[:, None])
    ranking = RocRanking.from_probabilities(values, correct)
    rows, rng = Rows.of(len(values), groups), np.random.default_rng(seed)
    additional = rows.draw_additional(correct.astype(np.float64), resamples, rng)
    sums, areas, hits = [], [], []
    for weights in chain([np.ones((1, rows.count))], rows.draw_rows(resamples, rng)):
        sums.append(losses.sums(weights))
        areas.append(np.array([ranking.auc(weights)]))
        hits.append(weights @ correct.astype(np.float64))
    drawn = _Draws(np.concatenate(sums), np.concatenate(areas, axis=2), additional, rows)
    of_right = np.concatenate(hits)
    share = share_figure(of_right, np.maximum(drawn.sums[:, 2] - of_right, 0), additional, rows)
    return CertaintyMetrics(
        len(values),
        float(values.mean()),
        required(share.estimate()),
        drawn.calibration_error(),
        drawn.auc(0, additional).estimate(),
    )


def _check_probabilities(probabilities: NDArray[np.float64], rows: int, task: Task) -> None:
    sums = "" if task.kind == "multilabel" else ", and each row must sum to 1"
    valid = probabilities.shape == (rows, len(task.names)) and bool(((probabilities >= 0) & (probabilities <= 1)).all())
    if not valid or (sums and not np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)):
        raise DataError(f"probabilities must have shape ({rows}, {len(task.names)}) and be in [0, 1]{sums}")


@dataclass(frozen=True, slots=True, eq=False)
class _RowLosses:
    """Contributions of each row to the metrics that are means over rows.

    Attributes:
        brier: Squared error, (rows,).
        log_loss: Negative log-likelihood, (rows,).
        counts: Number of its probabilities by bin, (rows, bins).
        correct: Number of these that belong to a label of the reference, (rows, bins).
        sums_of_bins: Sum of these probabilities, (rows, bins).
    """

    brier: Values
    log_loss: Values
    counts: Values
    correct: Values
    sums_of_bins: Values

    def sums(self, weights: Values) -> Values:
        """Return the sums over the rows of each resample, (resamples, 3 + 3 bins).

        Brier score, log loss and weight; then by bin the number of probabilities, of correct ones, and their sum.
        """
        columns = [self.brier, self.log_loss, np.ones_like(self.brier), self.counts, self.correct, self.sums_of_bins]
        return np.asarray(weights @ np.column_stack(columns), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """The sums of `_RowLosses` of the rows and of each resample, and the areas under the ROC curves.

    Attributes:
        sums: Shape (1 + resamples, 3 + 3 bins).
        areas: By label the AUC and the weight of the rarer class, (labels, 2, 1 + resamples).
        additional: The weight of the additional row, (1 + resamples,).
        rows: The rows.
    """

    sums: Values
    areas: Values
    additional: Values
    rows: Rows

    def auc(self, label: int, additional: Values) -> Figure:
        """Return the AUC of one label; of the rarer class there is an additional row at the wrong or the right end."""
        area, rarer = self.areas[label]
        total = rarer + additional
        low, high = (
            np.divide(area * rarer + end * additional, total, out=np.full(len(total), np.nan), where=total > 0)
            for end in (0, 1)
        )
        return self._known(Figure(low, high, SHARE))

    def mean(self, column: int, equal: float, most: float) -> Estimate:
        """Return the mean of a loss, which is ``equal`` where all labels are equally probable and at most ``most``."""
        total = self.sums[:, 2] + self.additional
        low, high = ((self.sums[:, column] + end * self.additional) / total for end in (0.0, equal))
        return required(self._known(Figure(low, high, (0.0, most))).estimate())

    def calibration_error(self) -> Estimate:
        counts, correct, sums = np.split(self.sums[:, 3:], 3, axis=1)
        gaps = np.abs(correct - sums).sum(axis=1)
        additional = self.additional * counts[0].sum() / self.rows.count
        low, high = ((gaps + end * additional) / (counts.sum(axis=1) + additional) for end in (0, 1))
        return required(self._known(Figure(low, high, SHARE)).estimate())

    def reliability(self, *, exact: bool) -> tuple[ReliabilityBin, ...]:
        counts, correct, sums = np.split(self.sums[:, 3:], 3, axis=1)
        bins = []
        for place in np.flatnonzero(counts[0]):
            hits, misses = correct[:, place], np.maximum(counts[:, place] - correct[:, place], 0)
            accuracy = required(share_figure(hits, misses, self.additional, self.rows, exact=exact).estimate())
            mean, rows = float(sums[0, place] / counts[0, place]), round(float(counts[0, place]))
            bins.append(ReliabilityBin(place / BINS, (place + 1) / BINS, rows, mean, accuracy))
        return tuple(bins)

    def _known(self, figure: Figure) -> Figure:
        return figure.without_interval() if self.rows.unknown else figure


def _label_losses(truth: Counts, probabilities: Values, correct: Values) -> _RowLosses:
    """Return the losses of rows with one label each; the bins count the largest probability of each row."""
    squared = ((probabilities - correct) ** 2).sum(axis=1) / (2 if probabilities.shape[1] == 2 else 1)
    loss = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], _EPSILON, 1))
    hit = probabilities.argmax(axis=1) == truth
    return _RowLosses(squared, loss, *_bin(probabilities.max(axis=1)[:, None], hit[:, None].astype(np.float64)))


def _label_set_losses(correct: Values, probabilities: Values) -> _RowLosses:
    """Return the losses of the rows of a multilabel task: means over its labels."""
    squared = ((probabilities - correct) ** 2).mean(axis=1)
    likelihood = np.where(correct == 1, probabilities, 1 - probabilities)
    loss = -np.log(np.clip(likelihood, _EPSILON, 1)).mean(axis=1)
    return _RowLosses(squared, loss, *_bin(probabilities, correct))


def _bin(probabilities: Values, correct: Values) -> tuple[Values, Values, Values]:
    """Return the number of probabilities, of correct ones, and their sum, each (rows, bins); arguments (rows, any)."""
    in_bin = np.eye(BINS)[np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probabilities)]
    counts, hits, sums = (
        (in_bin * weight[:, :, None]).sum(axis=1) for weight in (np.ones_like(correct), correct, probabilities)
    )
    return counts, hits, sums
