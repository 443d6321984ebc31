"""The student's logits of human-coded rows, and temperature scaling.

Scores
├── ValidationScores    used to fit the temperature and to choose thresholds
└── TestScores          used for evaluation only; no fitting function accepts them
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.errors import DataError
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.score import Score, build_score
from edgedistill_serve.task.label_decoding import LabelDecoder, certainty, sigmoid, softmax
from edgedistill_serve.task.task import Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The student's logits of human-coded rows.

    Attributes:
        task: Its labels, in codebook order, are the columns of the logits.
        ids: Id of each row.
        codes: Human code of each row.
        logits: Shape (rows, labels), not calibrated.
        encoded: Tokens of each row.
        groups: Group of each row; None if rows are independent.
        thresholds: For multilabel tasks, the probability from which each label is assigned; empty until chosen on
            validation rows.
        threshold_temperature: Temperature of the probabilities that the thresholds apply to.
        contexts: Hash of each row's question and reference answer; empty for a task without them.
        questions: What tells each row's question from others, where whole questions are held out; else empty.
        new_questions: Whether the decision rule was not shown for each row's question; empty if it was for all.
        novelty: Distance of each row from the training texts (`Score.novelty`); empty if it is not known.
        subgroups: Each row's value in the column ``review.groups``, ``""`` where it has none; empty without a column.

    Raises:
        DataError: A logit is NaN or infinite.
    """

    task: Task
    ids: tuple[str, ...]
    codes: tuple[str, ...]
    logits: NDArray[np.float64]
    encoded: tuple[Encoded, ...]
    groups: tuple[str, ...] | None = None
    thresholds: tuple[float, ...] = ()
    threshold_temperature: float = 1.0
    contexts: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    new_questions: tuple[bool, ...] = ()
    novelty: tuple[float, ...] = ()
    subgroups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every logit is a number: comparisons with NaN would decide silently."""
        if wrong := [row for row, logits in zip(self.ids, self.logits, strict=True) if not np.isfinite(logits).all()]:
            raise DataError(
                f"the student's logits of {len(wrong)} rows are not numbers",
                where=f"row {wrong[0]}",
                hint="Train the student again with a lower learning rate.",
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def label_decoder(self) -> LabelDecoder:
        """The decoding of logits to labels."""
        return LabelDecoder(self.task, self.threshold_temperature, self.thresholds)

    @property
    def labels(self) -> tuple[str, ...]:
        """The student's label of each row; for multilabel tasks its labels, joined."""
        return self.label_decoder.labels(self.logits)

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """Return the calibrated probabilities, (rows, labels)."""
        read = sigmoid if self.task.kind == "multilabel" else softmax
        return np.array([read(logits, temperature) for logits in self.logits])

    def confidences(self, temperature: float) -> NDArray[np.float64]:
        """Return the calibrated confidence of each row (`Score.probability` of a bundle), (rows,)."""
        probabilities = self.probabilities(temperature)
        if self.task.kind != "multilabel":
            return np.asarray(probabilities.max(axis=1), dtype=np.float64)
        return np.array([min(map(certainty, row, self.thresholds)) for row in probabilities.tolist()])

    def apply_rule(self, temperature: float, rule: ReviewRule) -> tuple[Score, ...]:
        """Return label, probabilities and decision of each row, as a bundle with that temperature and rule."""
        new = self.new_questions or (False,) * len(self)
        novelty = self.novelty or (None,) * len(self)
        rows = zip(self.probabilities(temperature), self.encoded, new, novelty, strict=True)
        return tuple(
            build_score(
                row, encoded, self.task, rule, thresholds=self.thresholds, new_question=is_new, novelty=distance
            )
            for row, encoded, is_new, distance in rows
        )

    def rows_at(self, places: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the scores of the rows with these indices."""

        def chosen(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[place] for place in places) if values else ()

        return replace(
            self,
            ids=chosen(self.ids),
            codes=chosen(self.codes),
            logits=self.logits[list(places)],
            encoded=chosen(self.encoded),
            groups=chosen(self.groups) if self.groups else None,
            contexts=chosen(self.contexts),
            questions=chosen(self.questions),
            new_questions=chosen(self.new_questions),
            novelty=chosen(self.novelty),
            subgroups=chosen(self.subgroups),
        )

    def groups_at(self, rows: Sequence[int] | NDArray[np.int64]) -> list[str] | None:
        """Return the groups of the rows with these indices; None if rows are independent."""
        return [self.groups[row] for row in rows] if self.groups else None


class ValidationScores(Scores):
    """Scores of the validation rows, for fitting a temperature and choosing thresholds."""


class TestScores(Scores):
    """Scores of the locked test rows, for evaluation only."""

    __test__ = False  # pytest: not a test class


FEW_ROWS = 50
"""With fewer validation rows, a temperature has a note."""

_BOUNDS = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted temperature.

    Attributes:
        method: ``temperature scaling``, or ``none``.
        temperature: Divides the logits; values above 1 lower the confidence.
        rows: Number of validation rows that it was fitted on.
        notes: Warnings for the reader.
    """

    method: str = "none"
    temperature: float = 1.0
    rows: int = 0
    notes: tuple[str, ...] = ()


def fit_temperature(scores: ValidationScores) -> Calibration:
    """Fit the temperature by maximum likelihood of the human codes of the validation rows (Guo et al. 2017).

    Labels do not change. Targets are smoothed by 1 / (n + 2), which the other labels share, as in Platt (1999): without
    smoothing, rows without an error would yield a temperature of 0. With many rows the smoothing vanishes. For
    multilabel tasks, the binary target of each label is smoothed likewise.

    Args:
        scores: Of the validation rows, at least one.
    """
    rows, labels = scores.logits.shape
    smoothing = 1 / (rows + 2)
    if scores.task.kind == "multilabel":
        targets = np.where(encode_label_sets(scores.codes, scores.task, "validation"), 1 - smoothing, smoothing)
        loss = _binary_cross_entropy
    else:
        truth = np.array([scores.task.names.index(code) for code in scores.codes])
        targets = np.where(np.eye(labels)[truth] == 1, 1 - smoothing, smoothing / (labels - 1))
        loss = _cross_entropy
    result = minimize_scalar(
        lambda log_temperature: loss(scores.logits, targets, float(np.exp(log_temperature))),
        bounds=tuple(np.log(_BOUNDS)),
        method="bounded",
    )
    temperature = float(np.exp(result.x))
    return Calibration("temperature scaling", temperature, rows, tuple(_notes(rows, temperature)))


def _cross_entropy(logits: NDArray[np.float64], targets: NDArray[np.float64], temperature: float) -> float:
    return float(-(targets * log_softmax(logits / temperature, axis=1)).sum(axis=1).mean())


def _binary_cross_entropy(logits: NDArray[np.float64], targets: NDArray[np.float64], temperature: float) -> float:
    scaled = logits / temperature
    return float(-(targets * log_expit(scaled) + (1 - targets) * log_expit(-scaled)).mean())


def _notes(rows: int, temperature: float) -> list[str]:
    notes = []
    if rows < FEW_ROWS:
        notes.append(f"The temperature was fitted on only {rows} validation rows; at least {FEW_ROWS} are advisable.")
    if not _BOUNDS[0] * 1.01 < temperature < _BOUNDS[1] * 0.99:
        notes.append(
            f"The temperature is at the limit of its range ({_BOUNDS[0]:g} to {_BOUNDS[1]:g}): the student's "
            "probabilities hardly separate correct from incorrect labels."
        )
    return notes
