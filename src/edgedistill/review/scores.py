"""What the student says of human-coded rows, before anything is chosen from it.

Scores
├── ValidationScores    may choose a temperature and thresholds
└── TestScores          show what was chosen; nothing that chooses takes them
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.encoding import Encoded
from edgedistill_serve.manifest import ReviewRule
from edgedistill_serve.readout import Readout, certainty, sigmoid, softmax
from edgedistill_serve.score import Score, judge
from edgedistill_serve.task import Task


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
    calibrated: float = 1.0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def readout(self) -> Readout:
        """How logits of this student become labels."""
        return Readout(self.task, self.calibrated, self.thresholds)

    @property
    def labels(self) -> tuple[str, ...]:
        """The student's label per row; of a multilabel task the labels that hold, joined."""
        return self.readout.labels(self.logits)

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """Return the probabilities (rows, labels) as a bundle of that temperature gives them."""
        read = sigmoid if self.task.kind == "multilabel" else softmax
        return np.array([read(logits, temperature) for logits in self.logits])

    def certainties(self, temperature: float) -> NDArray[np.float64]:
        """Return what a bundle of that temperature gives as `Score.probability`, (rows,)."""
        probabilities = self.probabilities(temperature)
        if self.task.kind != "multilabel":
            return np.asarray(probabilities.max(axis=1), dtype=np.float64)
        return np.array([min(map(certainty, row, self.thresholds)) for row in probabilities.tolist()])

    def judged(self, temperature: float, rule: ReviewRule) -> tuple[Score, ...]:
        """Return label, probabilities and decision of each row, as a bundle of that rule gives them."""
        return tuple(
            judge(probabilities, encoded, self.task, rule, blank=not encoded.tokens, thresholds=self.thresholds)
            for probabilities, encoded in zip(self.probabilities(temperature), self.encoded, strict=True)
        )

    def groups_of(self, places: Sequence[int] | NDArray[np.int64]) -> list[str] | None:
        """Return the groups of some rows; None where every row stands for itself."""
        return [self.groups[place] for place in places] if self.groups else None


class ValidationScores(Scores):
    """Of the validation rows: they may choose a temperature and thresholds."""


class TestScores(Scores):
    """Of the locked test rows: they choose nothing."""

    __test__ = False  # pytest: this is no test class
