"""The student's scores of human-coded rows, and temperature scaling of its probabilities.

Scores
├── ValidationScores    may choose a temperature and thresholds
└── TestScores          show what was chosen; nothing that chooses takes them
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.score import Score, judge
from edgedistill_serve.task.label_decoding import Readout, certainty, sigmoid, softmax
from edgedistill_serve.task.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The student's logits of human-coded rows.

    Attributes:
        task: Its labels, in codebook order, are the columns of the logits.
        ids: Per row.
        codes: The human code per row.
        logits: Shape (rows, labels), not calibrated.
        encoded: Per row how the student reads it.
        groups: Per row what it belongs to; None where every row stands for itself.
        thresholds: Of a multilabel task, for each label the probability from which it holds, once validation rows have
            chosen it.
        calibrated: What the logits are divided by before these probabilities are read.
    """

    task: Task
    ids: tuple[str, ...]
    codes: tuple[str, ...]
    logits: NDArray[np.float64]
    encoded: tuple[Encoded, ...]
    groups: tuple[str, ...] | None = None
    thresholds: tuple[float, ...] = ()
    threshold_temperature: float = 1.0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def readout(self) -> Readout:
        """How logits of this student become labels."""
        return Readout(self.task, self.threshold_temperature, self.thresholds)

    @property
    def labels(self) -> tuple[str, ...]:
        """The student's label per row; of a multilabel task the labels that hold, joined."""
        return self.readout.labels(self.logits)

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """Return the probabilities (rows, labels) as a bundle of that temperature gives them."""
        read = sigmoid if self.task.kind == "multilabel" else softmax
        return np.array([read(logits, temperature) for logits in self.logits])

    def confidences(self, temperature: float) -> NDArray[np.float64]:
        """Return what a bundle of that temperature gives as `Score.probability`, (rows,)."""
        probabilities = self.probabilities(temperature)
        if self.task.kind != "multilabel":
            return np.asarray(probabilities.max(axis=1), dtype=np.float64)
        return np.array([min(map(certainty, row, self.thresholds)) for row in probabilities.tolist()])

    def apply_rule(self, temperature: float, rule: ReviewRule) -> tuple[Score, ...]:
        """Return label, probabilities and decision of each row, as a bundle of that rule gives them."""
        return tuple(
            judge(probabilities, encoded, self.task, rule, blank=not encoded.tokens, thresholds=self.thresholds)
            for probabilities, encoded in zip(self.probabilities(temperature), self.encoded, strict=True)
        )

    def groups_at(self, places: Sequence[int] | NDArray[np.int64]) -> list[str] | None:
        """Return the groups of some rows; None where every row stands for itself."""
        return [self.groups[place] for place in places] if self.groups else None


class ValidationScores(Scores):
    """Of the validation rows: they may choose a temperature and thresholds."""


class TestScores(Scores):
    """Of the locked test rows: they choose nothing."""

    __test__ = False  # pytest: this is no test class


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
        targets = np.where(encode_label_sets(scores.codes, scores.task, "validation"), 1 - doubt, doubt)
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
