"""Temperature scaling: one number that makes probabilities mean what they say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from edgedistill.agreement.label_sets import held_labels
from edgedistill.review.scores import ValidationScores

FEW_ROWS = 50
"""Validation rows below which a temperature comes with a warning."""

_BOUNDS = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature and where it comes from.

    Attributes:
        method: ``temperature scaling``, or ``none``.
        temperature: Divides the logits; above 1 the probabilities become less sure.
        rows: Validation rows that it was fitted on.
        notes: What a reader must know.
    """

    method: str = "none"
    temperature: float = 1.0
    rows: int = 0
    notes: tuple[str, ...] = ()


def fit_temperature(scores: ValidationScores) -> Calibration:
    """Find the temperature that makes the human codes of the validation rows likeliest (Guo et al. 2017).

    Labels stay as they are. Each row's target is the human code but for 1 / (n + 2), which the other labels share: the
    correction that Platt (1999) makes, without which rows that hold no mistake would ask for a temperature of 0, that
    is for certainty. With many rows it vanishes. Of a multilabel task each label has a target of its own: whether it
    holds, but for 1 / (n + 2).

    Args:
        scores: Validation rows, at least one.
    """
    rows, labels = scores.logits.shape
    doubt = 1 / (rows + 2)
    if scores.task.kind == "multilabel":
        targets = np.where(held_labels(scores.codes, scores.task, "validation"), 1 - doubt, doubt)
        loss = _loss_of_sets
    else:
        truth = np.array([scores.task.names.index(code) for code in scores.codes])
        targets = np.where(np.eye(labels)[truth] == 1, 1 - doubt, doubt / (labels - 1))
        loss = _loss
    found = minimize_scalar(
        lambda log_temperature: loss(scores.logits, targets, float(np.exp(log_temperature))),
        bounds=tuple(np.log(_BOUNDS)),
        method="bounded",
    )
    temperature = float(np.exp(found.x))
    return Calibration("temperature scaling", temperature, rows, tuple(_notes(rows, temperature)))


def _loss(logits: NDArray[np.float64], targets: NDArray[np.float64], temperature: float) -> float:
    return float(-(targets * log_softmax(logits / temperature, axis=1)).sum(axis=1).mean())


def _loss_of_sets(logits: NDArray[np.float64], targets: NDArray[np.float64], temperature: float) -> float:
    scaled = logits / temperature
    return float(-(targets * log_expit(scaled) + (1 - targets) * log_expit(-scaled)).mean())


def _notes(rows: int, temperature: float) -> list[str]:
    notes = []
    if rows < FEW_ROWS:
        notes.append(f"The temperature comes from {rows} validation rows; {FEW_ROWS} or more would make it steadier.")
    if not _BOUNDS[0] * 1.01 < temperature < _BOUNDS[1] * 0.99:
        notes.append(
            f"The temperature is at the edge of what is tried ({_BOUNDS[0]:g} to {_BOUNDS[1]:g}): the student's "
            "probabilities hardly tell right labels from wrong ones."
        )
    return notes
