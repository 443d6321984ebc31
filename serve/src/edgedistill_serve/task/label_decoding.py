"""Decoding of a student's logits into probabilities and labels.

nominal, ordinal   softmax over the logits; the label with the largest logit
multilabel         sigmoid of each logit; every label whose probability reaches its threshold, possibly none
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bounds import TEMPERATURE, THRESHOLD
from edgedistill_serve.errors import DataError
from edgedistill_serve.task.task import Task, join_labels


@dataclass(frozen=True, slots=True)
class LabelDecoder:
    """Decodes the logits of one task.

    Attributes:
        task: The task; its labels, in codebook order, are the columns of the logits.
        temperature: Positive divisor of the logits; 1 leaves them unchanged (Guo et al. 2017, "On Calibration of Modern
            Neural Networks", equation 9).
        thresholds: For a multilabel task, the probability from which each label is assigned, in (0, 1) and in codebook
            order; empty for other tasks.

    Raises:
        DataError: A multilabel task does not have one threshold per label, another task has thresholds, or a threshold
            or the temperature is outside its bounds.
    """

    task: Task
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        expected = len(self.task.labels) if self.is_multilabel else 0
        if len(self.thresholds) != expected:
            raise DataError(
                f"a {self.task.kind} task of {len(self.task.labels)} labels needs {expected} thresholds, "
                f"not {len(self.thresholds)}",
                hint="Set one threshold for each label of a multilabel task, and none for other tasks.",
            )
        for name, threshold in zip(self.task.names, self.thresholds, strict=False):
            THRESHOLD.check(threshold, f"thresholds.{name}")
        TEMPERATURE.check(self.temperature, "temperature")

    @property
    def is_multilabel(self) -> bool:
        """Whether each label is assigned independently."""
        return self.task.kind == "multilabel"

    @property
    def logit_thresholds(self) -> NDArray[np.float64]:
        """For a multilabel task, the logit from which each label is assigned, shape (labels,)."""
        thresholds = np.array(self.thresholds, dtype=np.float64)
        logit_thresholds: NDArray[np.float64] = self.temperature * np.log(thresholds / (1 - thresholds))
        return logit_thresholds

    def probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each label.

        Args:
            logits: Finite logits of one response, shape (labels,).

        Returns:
            Probabilities, shape (labels,). They sum to 1, except for a multilabel task.
        """
        return sigmoid(logits, self.temperature) if self.is_multilabel else softmax(logits, self.temperature)

    def label_mask(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which labels are assigned: one per row, or any number for a multilabel task.

        Args:
            logits: Finite logits, shape (rows, labels).

        Returns:
            Boolean mask, shape (rows, labels). Of two equal logits, the first label is assigned.
        """
        if self.is_multilabel:
            return sigmoid(logits.astype(np.float64), self.temperature) >= np.array(self.thresholds)
        mask: NDArray[np.bool_] = np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None]
        return mask

    def labels(self, logits: NDArray[np.floating]) -> tuple[str, ...]:
        """Return the label of each row in the form of `Score.label`; ``logits`` as in `label_mask`."""
        names = np.array(self.task.names)
        assigned = [names[row].tolist() for row in self.label_mask(logits)]
        return tuple(join_labels(row, self.task) if self.is_multilabel else row[0] for row in assigned)

    def margins(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the distance of each row from another decision, shape (rows,); ``logits`` as in `label_mask`.

        This is the difference between the two largest logits; for a multilabel task, the smallest distance between a
        logit and its threshold.
        """
        if self.is_multilabel:
            return np.asarray(np.abs(logits - self.logit_thresholds).min(axis=1), dtype=np.float64)
        best_two = np.sort(logits, axis=1)[:, -2:]
        return np.asarray(best_two[:, 1] - best_two[:, 0], dtype=np.float64)


def softmax(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return ``exp(logits / temperature)``, divided by its sum.

    Args:
        logits: Finite logits, shape (labels,).
        temperature: A positive number.
    """
    scaled = logits / temperature
    # Subtracting the maximum prevents overflow.
    weights = np.exp(scaled - scaled.max())
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def sigmoid(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-logits / temperature))`` of each logit.

    Args:
        logits: Finite logits of any shape.
        temperature: A positive number.
    """
    scaled = logits / temperature
    # The exponent is never positive, which prevents overflow.
    small = np.exp(-np.abs(scaled))
    shares: NDArray[np.float64] = np.where(scaled >= 0, 1.0, small) / (1.0 + small)
    return shares


def certainty(probability: float, threshold: float) -> float:
    """Return the certainty of the decision on one label of a multilabel task, in [0.5, 1].

    It is 0.5 at the threshold, 1 for a probability of 0 or 1, and linear in between.

    Args:
        probability: Probability of the label, in [0, 1].
        threshold: Probability from which the label is assigned, in (0, 1).
    """
    if probability >= threshold:
        return 0.5 + 0.5 * (probability - threshold) / (1 - threshold)
    return 0.5 + 0.5 * (threshold - probability) / threshold
