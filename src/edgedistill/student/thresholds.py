"""The probability from which a label of a multilabel task is given, chosen on validation rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedistill_serve.task import Task

HALF = 0.5
"""The threshold of a label that validation rows say nothing of."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which probability each label is given.

    Attributes:
        values: In the task's order, each in [0, 1]; a label is given where its probability is at least as high.
        f1: Of each label on the validation rows with its threshold, in [0, 1]; it chose, so it flatters. None for a
            label that no validation row has.
        notes: A sentence for every label that kept `HALF` for want of rows.
    """

    values: tuple[float, ...]
    f1: tuple[float | None, ...]
    notes: tuple[str, ...]


def choose_thresholds(probabilities: npt.ArrayLike, codes: Sequence[frozenset[str]], task: Task) -> Thresholds:
    """Choose for each label by itself the threshold with the highest F1 on validation rows.

    Tried are the middles between successive distinct probabilities, 0.5, and the ends; of equals the nearest to 0.5
    is taken. F1 of single labels by a threshold each: Lipton, Elkan and Naryanaswamy 2014, arXiv:1402.1892.

    Args:
        probabilities: Of the validation rows, of shape (rows, labels), each in [0, 1].
        codes: The labels that the human coders gave each of these rows; a set may be empty.
        task: Its labels.
    """
    scored = np.asarray(probabilities, dtype=np.float64)
    chosen = [
        _best(scored[:, place], np.array([name in row for row in codes])) for place, name in enumerate(task.names)
    ]
    notes = tuple(
        f"No validation row has the label {name!r}: it is given from probability {HALF} on."
        for name, (_, f1) in zip(task.names, chosen, strict=True)
        if f1 is None
    )
    return Thresholds(tuple(value for value, _ in chosen), tuple(f1 for _, f1 in chosen), notes)


def _best(probabilities: npt.NDArray[np.float64], holds: npt.NDArray[np.bool_]) -> tuple[float, float | None]:
    if not holds.any():
        return HALF, None
    distinct = np.unique(probabilities)
    tried = np.concatenate([[0.0, HALF, 1.0], (distinct[1:] + distinct[:-1]) / 2])
    tried = tried[np.argsort(np.abs(tried - HALF), kind="stable")]
    given = probabilities[None, :] >= tried[:, None]
    right = (given & holds).sum(axis=1)
    f1 = 2 * right / (given.sum(axis=1) + holds.sum())
    best = int(f1.argmax())
    return float(tried[best]), float(f1[best])
