"""The probability from which a label of a multilabel task is given, chosen on validation rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedistill.agreement.label_sets import Held, all_rows, exact_matches, held_labels, macro_of
from edgedistill.agreement.statistics import f1s
from edgedistill_serve.readout import Readout, sigmoid
from edgedistill_serve.task import Task

HALF = 0.5
"""The threshold of a label that validation rows say nothing of."""
_EDGE = 1e-9
"""How near to 0 and 1 a threshold may come."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which probability each label is given.

    Attributes:
        values: In the task's order, each in (0, 1); a label is given where its probability is at least as high.
        f1: Of each label on the validation rows with its threshold, in [0, 1]; it chose, so it flatters. None for a
            label that no validation row has.
        notes: A sentence for every label that kept `HALF` for want of rows.
    """

    values: tuple[float, ...]
    f1: tuple[float | None, ...]
    notes: tuple[str, ...]


def choose_thresholds(probabilities: npt.NDArray[np.floating], codes: Sequence[str], task: Task) -> Thresholds:
    """Choose for each label by itself the threshold with the highest F1 on validation rows.

    Tried are the middles between successive distinct probabilities, 0.5, and one beyond each end; of equals the nearest
    to 0.5 is taken. F1 of single labels by a threshold each: Lipton, Elkan and Naryanaswamy 2014, arXiv:1402.1892.

    Args:
        probabilities: Of the validation rows, of shape (rows, labels), each in [0, 1].
        codes: The human code of each of these rows.
        task: Its labels.
    """
    chosen = _best_of_each(np.asarray(probabilities, dtype=np.float64), held_labels(codes, task, "validation"))
    notes = tuple(
        f"No validation row has the label {name!r}: it is given from probability {HALF} on."
        for name, (_, f1) in zip(task.names, chosen, strict=True)
        if f1 is None
    )
    return Thresholds(tuple(value for value, _ in chosen), tuple(f1 for _, f1 in chosen), notes)


def readout_by(logits: npt.NDArray[np.floating], codes: Sequence[str], task: Task) -> Readout:
    """Return how a student's logits are read: of a multilabel task by the thresholds that validation rows choose.

    Args:
        logits: Of the validation rows, of shape (rows, labels), not calibrated.
        codes: Their human codes.
        task: Its labels.
    """
    if task.kind != "multilabel":
        return Readout(task)
    return Readout(task, 1.0, choose_thresholds(sigmoid(logits.astype(np.float64), 1.0), codes, task).values)


def exact_match_and_macro_f1(logits: npt.NDArray[np.floating], holds: Held) -> tuple[float, float]:
    """Judge logits of a multilabel task with the thresholds that the same rows choose, so that it flatters.

    Args:
        logits: Shape (rows, labels).
        holds: Which labels the human codes of these rows say that hold.

    Returns:
        The share of rows with just the right labels, and macro-F1 as `edgedistill.agreement` defines it, 0 where no
        label occurs.
    """
    probabilities = sigmoid(np.asarray(logits, dtype=np.float64), 1.0)
    given = probabilities >= np.array([value for value, _ in _best_of_each(probabilities, holds)])
    found = all_rows(holds, given)
    return float(exact_matches(found)[0]), float(np.nan_to_num(macro_of(f1s)(found)[0]))


def _best_of_each(probabilities: npt.NDArray[np.float64], holds: Held) -> list[tuple[float, float | None]]:
    return [_best(probabilities[:, place], holds[:, place]) for place in range(holds.shape[1])]


def _best(probabilities: npt.NDArray[np.float64], holds: npt.NDArray[np.bool_]) -> tuple[float, float | None]:
    if not holds.any():
        return HALF, None
    distinct = np.unique(probabilities)
    bounds = np.concatenate([[0.0], distinct, [1.0]])
    tried = np.clip(np.concatenate([[HALF], (bounds[1:] + bounds[:-1]) / 2]), _EDGE, 1 - _EDGE)
    tried = tried[np.argsort(np.abs(tried - HALF), kind="stable")]
    given = probabilities[None, :] >= tried[:, None]
    right = (given & holds).sum(axis=1)
    f1 = 2 * right / (given.sum(axis=1) + holds.sum())
    best = int(f1.argmax())
    return float(tried[best]), float(f1[best])
