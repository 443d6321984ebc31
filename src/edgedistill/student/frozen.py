"""A linear classifier on a backbone that stays as it was pretrained: a baseline that takes seconds.

Logistic regression on the backbone's pooled states, each coordinate scaled to variance 1 over the mixture. Pooling and
strength of the penalty are those with the lowest cross-entropy on the validation rows.
"""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from edgedistill.agreement.bootstrap import accuracies, confusion_of, macro_f1s
from edgedistill.errors import RunError
from edgedistill.records.types import MixtureRow, ValidationRows
from edgedistill.student.checks import check_rows
from edgedistill.student.pooled import POOLINGS, Pooling, pooled
from edgedistill_serve.task import Task

Floats: TypeAlias = npt.NDArray[np.float32]

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""scikit-learn's C: the smaller, the stronger the penalty on weights."""

_UNTAUGHT = -1e4
"""The bias of a label that no row of the mixture has: its probability is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class FrozenHead:
    """The classifier.

    Attributes:
        pooling: What of the backbone's last states it reads.
        penalty: scikit-learn's C.
        weights: Of shape (labels, width).
        bias: Of shape (labels,).
        loss: Mean cross-entropy of the validation rows, in nats.
        macro_f1: On the validation rows, in [0, 1].
        accuracy: On the validation rows, in [0, 1].
    """

    pooling: Pooling
    penalty: float
    weights: Floats
    bias: Floats
    loss: float
    macro_f1: float
    accuracy: float

    def probabilities(self, states: Floats) -> Floats:
        """Return the labels' probabilities, of shape (rows, labels), for states of shape (rows, width)."""
        # Row by row: a product over all rows at once sums in an order that depends on how many there are.
        return _softmax(np.array([self.weights @ row + self.bias for row in states]).reshape(len(states), -1))

    @property
    def merit(self) -> float:
        """What is compared: a lower loss on the validation rows is better."""
        return -self.loss


@dataclass(frozen=True, slots=True, eq=False)
class FrozenCoding:
    """How the frozen encoder codes rows.

    Attributes:
        labels: The most probable label of each row.
        probabilities: Of shape (rows, labels), the labels in the task's order.
    """

    labels: tuple[str, ...]
    probabilities: Floats


def fit_frozen(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    max_tokens: int,
    backbone: Path,
    *,
    poolings: Sequence[Pooling] = POOLINGS,
) -> tuple[FrozenHead, ...]:
    """Fit a classifier for every pooling and penalty.

    Args:
        mixture: Rows to learn from; ``label`` is what counts as right.
        validation: Human-coded rows to compare classifiers by.
        task: Its labels, in their order, are the classes.
        max_tokens: Where a longer row is cut.
        backbone: A folder as `backbone_folder` returns it.
        poolings: Which poolings to try.

    Returns:
        All of them, the best first.

    Raises:
        TrainingFailed: Rows that cannot train or judge, or a backbone that cannot be loaded.
    """
    check_rows(mixture, validation, task)
    texts = [*(row.inputs for row in mixture), *(row.response.inputs for row in validation)]
    states = pooled(backbone, task, max_tokens, texts)
    taught = np.array([task.names.index(row.label) for row in mixture])
    judged = np.array([task.names.index(label) for label in validation.labels])
    heads = [
        _fitted(pooling, penalty, states[pooling], taught, judged, len(task.names))
        for pooling, penalty in product(poolings, PENALTIES)
    ]
    return tuple(sorted(heads, key=lambda head: head.merit, reverse=True))


def write_frozen(head: FrozenHead, task: Task, max_tokens: int, file: Path) -> None:
    """Write a classifier as safetensors, aside and then into place.

    Raises:
        RunError: No room, or no permission.
    """
    told = {
        "pooling": head.pooling,
        "penalty": head.penalty,
        "labels": list(task.names),
        "max_tokens": max_tokens,
        **{name: getattr(head, name) for name in ("loss", "macro_f1", "accuracy")},
    }
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")  # others may write it at this moment
    try:
        aside.write_bytes(save({"weights": head.weights, "bias": head.bias}, metadata={"frozen": json.dumps(told)}))
        aside.replace(file)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise RunError(
            f"cannot be written ({error.strerror})",
            where=str(file),
            mend="Give the run folder room and write permission.",
        ) from error


def read_frozen(file: Path, task: Task) -> tuple[FrozenHead, int]:
    """Read a classifier, and where it cuts rows.

    Raises:
        RunError: There is none, it is damaged, or it is another task's.
    """
    try:
        with safe_open(file, framework="numpy") as opened:
            told: dict[str, Any] = json.loads((opened.metadata() or {})["frozen"])
            weights, bias = opened.get_tensor("weights"), opened.get_tensor("bias")
        labels, max_tokens = tuple(told.pop("labels")), int(told.pop("max_tokens"))
        head = FrozenHead(weights=weights, bias=bias, **told)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            "is missing or damaged", where=str(file), mend="`edgedistill train PROJECT` writes it anew."
        ) from error
    if labels != task.names:
        raise RunError(f"its labels are {', '.join(labels)}", where=str(file), mend="Train again.")
    return head, max_tokens


def frozen_baseline(file: Path, backbone: Path, task: Task, rows: Sequence[Mapping[str, str]]) -> FrozenCoding:
    """Code rows with the frozen encoder.

    Args:
        file: The classifier, as `write_frozen` wrote it.
        backbone: The folder that it was fitted with.
        task: Its labels and inputs.
        rows: The task's inputs of each row.

    Raises:
        RunError: The classifier cannot be read, or is another backbone's.
        TrainingFailed: The backbone cannot be loaded.
    """
    head, max_tokens = read_frozen(file, task)
    states = pooled(backbone, task, max_tokens, rows)[head.pooling]
    if states.shape[1] != head.weights.shape[1]:
        raise RunError("was made with another backbone", where=str(file), mend="Train again.")
    probabilities = head.probabilities(states)
    return FrozenCoding(tuple(task.names[best] for best in probabilities.argmax(axis=1)), probabilities)


def _fitted(
    pooling: Pooling,
    penalty: float,
    states: Floats,
    taught: npt.NDArray[np.int_],
    judged: npt.NDArray[np.int_],
    labels: int,
) -> FrozenHead:
    learnt = states[: len(taught)].astype(np.float64)
    middle, spread = learnt.mean(axis=0), np.maximum(learnt.std(axis=0), 1e-6)
    with warnings.catch_warnings():
        # A penalty that is too weak to converge is not the best one either.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=penalty, max_iter=1000).fit((learnt - middle) / spread, taught)
    weights, bias = np.zeros((labels, states.shape[1])), np.full(labels, _UNTAUGHT)
    # Of two classes scikit-learn keeps one row, the second's odds.
    rows, offsets = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    weights[fitted.classes_] = rows / spread
    bias[fitted.classes_] = offsets - (rows / spread) @ middle
    head = FrozenHead(pooling, penalty, weights.astype(np.float32), bias.astype(np.float32), 0.0, 0.0, 0.0)
    return _judged(head, states[len(taught) :], judged)


def _judged(head: FrozenHead, states: Floats, judged: npt.NDArray[np.int_]) -> FrozenHead:
    probabilities = head.probabilities(states)
    right = probabilities[np.arange(len(judged)), judged]
    confusion = confusion_of(judged, probabilities.argmax(axis=1), len(head.bias))[None]
    return FrozenHead(
        head.pooling,
        head.penalty,
        head.weights,
        head.bias,
        loss=float(-np.log(np.maximum(right, 1e-12)).mean()),
        macro_f1=float(macro_f1s(confusion)[0]),
        accuracy=float(accuracies(confusion)[0]),
    )


def _softmax(logits: Floats) -> Floats:
    odds: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares
