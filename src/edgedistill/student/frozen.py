"""A linear classifier on a backbone that stays as it was pretrained: a baseline that takes seconds.

Logistic regression on the backbone's pooled states, each coordinate scaled to variance 1 over the mixture; of a
multilabel task one for each label. Pooling and strength of the penalty are those with the lowest cross-entropy on the
validation rows.
"""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from edgedistill.agreement.label_sets import held_labels
from edgedistill.errors import RunError
from edgedistill.records.types import MixtureRow, ValidationRows
from edgedistill.student.checks import check_rows
from edgedistill.student.pooled import POOLINGS, Pooling, pooled
from edgedistill.student.thresholds import exact_match_and_macro_f1, readout_by
from edgedistill_serve.readout import Readout, sigmoid
from edgedistill_serve.task import Task

Floats: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = npt.NDArray[np.float64]

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""scikit-learn's C: the smaller, the stronger the penalty on weights."""

_UNTAUGHT = -1e4
"""The bias of a label that no row of the mixture has: its probability is 0. Negated, that of one that every row has."""


@dataclass(frozen=True, slots=True, eq=False)
class FrozenHead:
    """The classifier.

    Attributes:
        pooling: What of the backbone's last states it reads.
        penalty: scikit-learn's C.
        weights: Of shape (labels, width).
        bias: Of shape (labels,).
        loss: Mean cross-entropy of the validation rows, in nats; of a multilabel task the mean over labels.
        macro_f1: On the validation rows, in [0, 1].
        accuracy: On the validation rows, in [0, 1].
        thresholds: Of a multilabel task, by label the probability from which it holds; validation rows chose them.
    """

    pooling: Pooling
    penalty: float
    weights: Floats
    bias: Floats
    loss: float = 0.0
    macro_f1: float = 0.0
    accuracy: float = 0.0
    thresholds: tuple[float, ...] = ()

    def logits(self, states: Floats) -> Floats:
        """Return logits of shape (rows, labels) for states of shape (rows, width)."""
        # Row by row: a product over all rows at once sums in an order that depends on how many there are.
        return np.array([self.weights @ row + self.bias for row in states]).reshape(len(states), len(self.bias))

    @property
    def merit(self) -> float:
        """What is compared: a lower loss on the validation rows is better."""
        return -self.loss


@dataclass(frozen=True, slots=True, eq=False)
class FrozenCoding:
    """How the frozen encoder codes rows.

    Attributes:
        labels: The most probable label of each row; of a multilabel task those that hold.
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
    taught = [row.label for row in mixture]
    heads = [
        _judged(
            _fitted(pooling, penalty, states[pooling][: len(taught)], taught, task),
            states[pooling][len(taught) :],
            validation.labels,
            task,
        )
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
        **{name: getattr(head, name) for name in ("loss", "macro_f1", "accuracy", "thresholds")},
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
        head = FrozenHead(weights=weights, bias=bias, thresholds=tuple(told.pop("thresholds", ())), **told)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            "is missing or damaged", where=str(file), mend="`edgedistill train PROJECT` writes it anew."
        ) from error
    if labels != task.names or len(head.thresholds) != (len(labels) if task.kind == "multilabel" else 0):
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
    logits = head.logits(states)
    return FrozenCoding(Readout(task, 1.0, head.thresholds).labels(logits), _probabilities(logits, task))


def _fitted(pooling: Pooling, penalty: float, states: Floats, codes: Sequence[str], task: Task) -> FrozenHead:
    learnt = states.astype(np.float64)
    middle, spread = learnt.mean(axis=0), np.maximum(learnt.std(axis=0), 1e-6)
    scaled = (learnt - middle) / spread
    if task.kind == "multilabel":
        fits = [_whether(scaled, held, penalty) for held in held_labels(codes, task, "mixture").T]
        rows, offsets = np.array([row for row, _ in fits]), np.array([offset for _, offset in fits])
    else:
        rows, offsets = _which(scaled, np.array([task.names.index(code) for code in codes]), penalty, len(task.names))
    weights = rows / spread
    return FrozenHead(pooling, penalty, weights.astype(np.float32), (offsets - weights @ middle).astype(np.float32))


def _which(scaled: Values, taught: npt.NDArray[np.int_], penalty: float, labels: int) -> tuple[Values, Values]:
    """Weights (labels, width) and offsets (labels,) of one label against the others."""
    fitted = _regression(scaled, taught, penalty)
    rows, offsets = np.zeros((labels, scaled.shape[1])), np.full(labels, _UNTAUGHT)
    # Of two classes scikit-learn keeps one row, the second's odds.
    found, added = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        found, added = np.concatenate([-found, found]) / 2, np.concatenate([-added, added]) / 2
    rows[fitted.classes_], offsets[fitted.classes_] = found, added
    return rows, offsets


def _whether(scaled: Values, held: npt.NDArray[np.bool_], penalty: float) -> tuple[Values, float]:
    """Weights (width,) and offset of whether one label holds."""
    if held.all() or not held.any():
        return np.zeros(scaled.shape[1]), _UNTAUGHT if not held.any() else -_UNTAUGHT
    fitted = _regression(scaled, held, penalty)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _regression(scaled: Values, taught: npt.NDArray[Any], penalty: float) -> LogisticRegression:
    with warnings.catch_warnings():
        # A penalty that is too weak to converge is not the best one either.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=penalty, max_iter=1000).fit(scaled, taught)


def _judged(head: FrozenHead, states: Floats, codes: Sequence[str], task: Task) -> FrozenHead:
    logits = head.logits(states)
    probabilities = _probabilities(logits, task)
    if task.kind == "multilabel":
        held = held_labels(codes, task, "validation")
        right = np.where(held, probabilities, 1 - probabilities)
        accuracy, macro_f1 = exact_match_and_macro_f1(logits, held)
    else:
        judged = np.array([task.names.index(code) for code in codes])
        right = probabilities[np.arange(len(judged)), judged]
        confusion = confusion_of(judged, probabilities.argmax(axis=1), len(head.bias))[None]
        accuracy, macro_f1 = float(accuracies(confusion)[0]), float(macro_f1s(confusion)[0])
    return replace(
        head,
        loss=float(-np.log(np.maximum(right, 1e-12)).mean()),
        macro_f1=macro_f1,
        accuracy=accuracy,
        thresholds=readout_by(logits, codes, task).thresholds,
    )


def _probabilities(logits: Floats, task: Task) -> Floats:
    if task.kind == "multilabel":
        return sigmoid(logits.astype(np.float64), 1.0).astype(np.float32)
    odds: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares
