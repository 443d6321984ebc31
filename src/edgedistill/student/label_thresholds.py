"""Decision thresholds of a multilabel student's labels, chosen on validation rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgedistill.agreement.multilabel import LabelSets, count_label_sets, encode_label_sets
from edgedistill.data.types import ValidationRows
from edgedistill_serve.task.label_decoding import LabelDecoder, sigmoid
from edgedistill_serve.task.task import Task

DEFAULT_THRESHOLD = 0.5
"""The threshold of a label that no validation row has."""
PRIOR_ROWS = 50
"""Pseudo-rows with calibrated probabilities that regularize a label's threshold."""
_EDGE = 1e-9
"""Smallest distance of a threshold from 0 and 1."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The decision threshold of each label.

    Attributes:
        values: Thresholds in the task's order, each in (0, 1); a label is predicted from that probability on.
        f1: F1 of each label on the validation rows, in [0, 1]; optimistic, because it selected the threshold. None for
            a label that no validation row has.
        notes: A sentence for every label that kept `DEFAULT_THRESHOLD` for want of rows.
    """

    values: tuple[float, ...]
    f1: tuple[float | None, ...]
    notes: tuple[str, ...]


def choose_thresholds(probabilities: npt.NDArray[np.floating], codes: Sequence[str], task: Task) -> Thresholds:
    """Choose each label's threshold by its F1 on validation rows.

    Candidates are the midpoints between successive distinct probabilities, 0.5, and one beyond each end; ties go to the
    nearest to 0.5 (Lipton, Elkan and Naryanaswamy 2014, arXiv:1402.1892).
    `PRIOR_ROWS` pseudo-rows have the same probabilities and the label as often as these say: with few rows, the
    threshold stays near the one that is optimal for calibrated probabilities
    (docs/decisions/0028-thresholds-of-labels-are-shrunk.md).

    Args:
        probabilities: Of shape (validation rows, labels), each in [0, 1].
        codes: Their human codes.
        task: Its labels.
    """
    scored, holds = np.asarray(probabilities, dtype=np.float64), encode_label_sets(codes, task, "validation")
    chosen = [_best(scored[:, place], holds[:, place]) for place in range(len(task.names))]
    notes = tuple(
        f"No validation row has the label {name!r}; its threshold is {DEFAULT_THRESHOLD}."
        for name, (_, f1) in zip(task.names, chosen, strict=True)
        if f1 is None
    )
    return Thresholds(tuple(value for value, _ in chosen), tuple(f1 for _, f1 in chosen), notes)


def label_decoder_from_logits(logits: npt.NDArray[np.floating], codes: Sequence[str], task: Task) -> LabelDecoder:
    """Return how a student's logits are read: of a multilabel task by the thresholds that validation rows choose.

    Args:
        logits: Of the validation rows, of shape (rows, labels), not calibrated.
        codes: Their human codes.
        task: Its labels.
    """
    if task.kind != "multilabel":
        return LabelDecoder(task)
    return LabelDecoder(task, 1.0, choose_thresholds(sigmoid(logits.astype(np.float64), 1.0), codes, task).values)


class Student(Protocol):
    """What gives logits: a `Checkpoint`, or the average of several."""

    @property
    def task(self) -> Task:
        """The task."""

    def logits(self, rows: Sequence[Mapping[str, str]]) -> npt.NDArray[Any]:
        """Return logits of shape (rows, labels)."""


def choose_label_decoder(student: Student, validation: ValidationRows) -> LabelDecoder:
    """Return how a student's logits are read; the validation rows are scored where they have thresholds to choose.

    Args:
        student: The student.
        validation: Human-coded rows that choose.
    """
    if student.task.kind != "multilabel":
        return LabelDecoder(student.task)
    logits = student.logits([dict(response.inputs) for response in validation.responses])
    return label_decoder_from_logits(logits, validation.labels, student.task)


def exact_match_and_macro_f1(logits: npt.NDArray[np.floating], holds: LabelSets) -> tuple[float, float]:
    """Judge logits of a multilabel task, each label given where it is likelier than not.

    Args:
        logits: Shape (rows, labels).
        holds: Which labels the human codes of these rows say that hold.

    Returns:
        The share of rows with just the right labels, and macro-F1 as `edgedistill.agreement` defines it, 0 where no
        label occurs.
    """
    found = count_label_sets(holds, logits >= 0)
    return float(found.accuracy().low[0]), float(np.nan_to_num(found.labels.macro("f1").low[0]))


def regularized_threshold(
    probabilities: npt.NDArray[np.float64], holds: npt.NDArray[np.bool_], imaginary: float = PRIOR_ROWS
) -> float:
    """Return the threshold of one label with the highest F1, of equals the nearest to 0.5.

    Args:
        probabilities: Of each row, in [0, 1].
        holds: Whether the label holds of each row; somewhere it does.
        imaginary: How many rows stand beside these, with the same probabilities and right about them.
    """
    bounds = np.concatenate([[0.0], np.unique(probabilities), [1.0]])
    tried = np.clip(np.concatenate([[DEFAULT_THRESHOLD], (bounds[1:] + bounds[:-1]) / 2]), _EDGE, 1 - _EDGE)
    tried = tried[np.argsort(np.abs(tried - DEFAULT_THRESHOLD), kind="stable")]
    given = probabilities[None, :] >= tried[:, None]
    weight = imaginary / len(holds)
    right = (given & holds).sum(axis=1) + weight * (given * probabilities).sum(axis=1)
    either = given.sum(axis=1) * (1 + weight) + holds.sum() + weight * probabilities.sum()
    return float(tried[(right / either).argmax()])


def _best(probabilities: npt.NDArray[np.float64], holds: npt.NDArray[np.bool_]) -> tuple[float, float | None]:
    if not holds.any():
        return DEFAULT_THRESHOLD, None
    threshold = regularized_threshold(probabilities, holds)
    given = probabilities >= threshold
    return threshold, float(2 * (given & holds).sum() / (given.sum() + holds.sum()))
