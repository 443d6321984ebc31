"""From a student's logits to the labels that it gives.

nominal, ordinal   the softmax of the logits; the one label with the largest
multilabel         the sigmoid of each logit; every label whose probability reaches its threshold, be it none
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.errors import DataError
from edgedistill_serve.task.task import Task, join_labels


@dataclass(frozen=True, slots=True)
class LabelDecoder:
    """How a student's logits are read.

    Attributes:
        task: Its labels, in codebook order, are the columns of the logits.
        temperature: Divides the logits, above 0; 1 leaves them as they are (Guo et al. 2017, "On Calibration of Modern
            Neural Networks", equation 9).
        thresholds: Of a multilabel task, for each label in codebook order the probability from which it holds, in
            (0, 1); of other tasks nothing.

    Raises:
        DataError: There is not one threshold for each label of a multilabel task, there are some for another task, or
            one is not in (0, 1).
    """

    task: Task
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wanted = len(self.task.labels) if self.is_multilabel else 0
        if len(self.thresholds) != wanted:
            raise DataError(
                f"{len(self.thresholds)} thresholds are given, a {self.task.kind} task of {len(self.task.labels)} "
                f"labels has {wanted}",
                hint="Choose one threshold for each label of a multilabel task.",
            )
        if any(not 0 < threshold < 1 for threshold in self.thresholds):
            raise DataError("a threshold does not lie between 0 and 1", hint="Choose one above 0 and below 1.")

    @property
    def is_multilabel(self) -> bool:
        """Whether each label holds or not by itself."""
        return self.task.kind == "multilabel"

    @property
    def logit_thresholds(self) -> NDArray[np.float64]:
        """Of a multilabel task, the logit from which each label holds, of shape (labels,)."""
        thresholds = np.array(self.thresholds, dtype=np.float64)
        logit_thresholds: NDArray[np.float64] = self.temperature * np.log(thresholds / (1 - thresholds))
        return logit_thresholds

    def probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each label.

        Args:
            logits: Of one response, of shape (labels,), finite.

        Returns:
            Shape (labels,); they sum to 1, but for those of a multilabel task.
        """
        return sigmoid(logits, self.temperature) if self.is_multilabel else softmax(logits, self.temperature)

    def label_mask(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which labels are given: of each row one, or of a multilabel task any number.

        Args:
            logits: Shape (rows, labels), finite.

        Returns:
            The same shape. Of two labels with equal logits, the first is given.
        """
        if self.is_multilabel:
            return sigmoid(logits.astype(np.float64), self.temperature) >= np.array(self.thresholds)
        given: NDArray[np.bool_] = np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None]
        return given

    def labels(self, logits: NDArray[np.floating]) -> tuple[str, ...]:
        """Return each row's label as `Score.label` has it; logits as in `holds`."""
        names = np.array(self.task.names)
        given = [names[row].tolist() for row in self.label_mask(logits)]
        return tuple(join_labels(row, self.task) if self.is_multilabel else row[0] for row in given)

    def margins(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how far each row's logits are from giving another label, of shape (rows,); logits as in `holds`.

        That is the difference of the two largest; of a multilabel task, the least distance of a label's logit from
        that of its threshold.
        """
        if self.is_multilabel:
            return np.asarray(np.abs(logits - self.logit_thresholds).min(axis=1), dtype=np.float64)
        best_two = np.sort(logits, axis=1)[:, -2:]
        return np.asarray(best_two[:, 1] - best_two[:, 0], dtype=np.float64)


def softmax(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return ``exp(logits / temperature)``, divided by its sum.

    Args:
        logits: Shape (labels,), finite.
        temperature: Above 0.
    """
    scaled = logits / temperature
    # Shifted by the largest, no exponent overflows.
    weights = np.exp(scaled - scaled.max())
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def sigmoid(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-logits / temperature))`` of each logit.

    Args:
        logits: Any shape, finite.
        temperature: Above 0.
    """
    scaled = logits / temperature
    # The exponent is never above 0, so none overflows.
    small = np.exp(-np.abs(scaled))
    shares: NDArray[np.float64] = np.where(scaled >= 0, 1.0, small) / (1.0 + small)
    return shares


def certainty(probability: float, threshold: float) -> float:
    """Return how sure it is whether one label of a multilabel task holds, in [0.5, 1].

    0.5 at the threshold, 1 where the probability is 0 or 1, and linear between.

    Args:
        probability: That the label holds, in [0, 1].
        threshold: From which on it is given, in (0, 1).
    """
    if probability >= threshold:
        return 0.5 + 0.5 * (probability - threshold) / (1 - threshold)
    return 0.5 + 0.5 * (threshold - probability) / threshold
