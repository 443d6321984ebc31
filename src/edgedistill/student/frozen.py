"""The frozen encoder: pooled vectors, a linear classifier on them, and text embeddings.

Logistic regression on the backbone's pooled states, each coordinate scaled to variance 1 over the mixture; for a
multilabel task one regression per label. Pooling and penalty are those with the lowest cross-entropy on the validation
rows.

A classification head of transformers has a layer with a nonlinear activation between backbone and classifier. Its
weights are set so that the first token's state passes unchanged: scaled into the linear range of tanh, or shifted into
the positive range of ReLU.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel

from edgedistill.agreement.confusion import accuracies, confusion_matrix, macro_f1s
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.errors import RunError, TrainingFailed
from edgedistill.project.student import StudentSection
from edgedistill.student.checkpoints import beside, copy_files, replacing
from edgedistill.student.data import check_rows
from edgedistill.student.label_thresholds import exact_match_and_macro_f1, label_decoder_from_logits
from edgedistill.student.model import (
    check_max_tokens,
    load_model,
    load_tokenizer,
    load_tokenizer_and_padding,
    quiet_transformers,
)
from edgedistill.student.types import comparable
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.counting import counted
from edgedistill_export.temporary import temporary_folder
from edgedistill_serve.bundle.atomic_folder import replace_file
from edgedistill_serve.cores import available_cores
from edgedistill_serve.errors import first_line
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.task.label_decoding import LabelDecoder, sigmoid
from edgedistill_serve.task.task import Task, model_texts, task_inputs

Pooling: TypeAlias = Literal["mean", "first", "overlap"]
"""``mean`` and ``first`` of the tokens' states; ``overlap``: the nine numbers of `edgedistill.student.overlap`."""
POOLINGS: tuple[Pooling, ...] = ("mean", "first")
States: TypeAlias = Mapping[Pooling, npt.NDArray[np.float32]]
"""By pooling, vectors of shape (rows, width)."""


def pooled_states(backbone: Path, task: Task, max_tokens: int, rows: Sequence[Mapping[str, str]]) -> States:
    """Compute the pooled last hidden states of rows, tokenized as for a student.

    Rows are computed one at a time on one thread each, so that a vector does not depend on other rows.

    Args:
        backbone: A folder as `backbone_folder` returns it.
        task: Its inputs are read.
        max_tokens: Longer rows are truncated to this length, the context first.
        rows: The task's inputs of each row.

    Raises:
        TrainingFailed: The backbone cannot be loaded, or has fewer positions than ``max_tokens``.
    """
    with quiet_transformers(), temporary_folder("encoder") as folder:
        model = load_model(backbone, task)
        padding = load_tokenizer_and_padding(backbone, model, folder)
        check_max_tokens(model, max_tokens)
        encoder = Encoder(folder / "tokenizer.json", max_tokens)
    encoded = encoder.encode([task_inputs(row, task) for row in rows])
    read = model.base_model.eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(available_cores()) as callers:
            states = list(counted(callers.map(lambda row: _states(read, row, segments=padding.segments), encoded)))
    finally:
        torch.set_num_threads(threads)
    width = model.config.hidden_size
    both = np.array(states, dtype=np.float32).reshape(len(rows), len(POOLINGS), width)
    return {pooling: both[:, place] for place, pooling in enumerate(POOLINGS)}


def _states(read: Any, row: Encoded, *, segments: bool) -> npt.NDArray[np.float32]:
    """Both poolings of a row, of shape (2, width)."""
    ids = torch.tensor([row.ids])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if segments:
        inputs["token_type_ids"] = torch.tensor([row.type_ids])
    with torch.inference_mode():
        states = read(**inputs).last_hidden_state[0]
        both: npt.NDArray[np.float32] = torch.stack([states.mean(dim=0), states[0]]).numpy()
    return both


Vectors: TypeAlias = npt.NDArray[np.float32]


def embedder(backbone: Path, max_tokens: int) -> Callable[[Sequence[Mapping[str, str]]], Vectors]:
    """Return a function that embeds rows.

    A row's vector is the mean of the last layer's states over all its tokens (mean pooling, Reimers and Gurevych 2019),
    scaled to length 1. Rows are embedded one at a time on one thread each, so that a vector does not depend on other
    rows.

    Args:
        backbone: A folder with a model and its tokenizer.
        max_tokens: Longer rows are truncated to this length.

    Returns:
        A function from the inputs of rows to vectors of shape (rows, width).

    Raises:
        TrainingFailed: transformers cannot load the folder.
    """
    try:
        options = {"local_files_only": True, "trust_remote_code": False}
        tokenizer = load_tokenizer(backbone)
        model = AutoModel.from_pretrained(backbone, use_safetensors=True, **options).float().eval()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise TrainingFailed(
            f"the backbone cannot embed texts ({first_line(error)})",
            where=str(backbone),
            hint="Set another `student.backbone`, or `few_shot_choice: balanced`.",
        ) from error

    def one(inputs: Mapping[str, str]) -> Vectors:
        with torch.inference_mode():
            encoded = tokenizer(*model_texts(inputs), truncation=True, max_length=max_tokens, return_tensors="pt")
            return _mean(model(**encoded).last_hidden_state[0])

    def embed(rows: Sequence[Mapping[str, str]]) -> Vectors:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(available_cores()) as callers:
                return np.array(list(counted(callers.map(one, rows))), dtype=np.float32).reshape(len(rows), -1)
        finally:
            torch.set_num_threads(threads)

    return embed


def _mean(states: Any) -> Vectors:
    vector: Vectors = states.mean(dim=0).numpy()
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


Floats: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = npt.NDArray[np.float64]

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of scikit-learn's C: the smaller, the stronger the regularization."""

_ABSENT_LABEL_BIAS = -1e4
"""The bias of a label that no row of the mixture has: its probability is 0. Negated for a label of every row."""


@dataclass(frozen=True, slots=True, eq=False)
class FrozenHead:
    """The classifier.

    Attributes:
        pooling: The pooling of the backbone's last hidden states.
        penalty: scikit-learn's C.
        weights: Of shape (labels, width).
        bias: Of shape (labels,).
        loss: Mean cross-entropy of the validation rows, in nats; for a multilabel task the mean over labels.
        macro_f1: On the validation rows, in [0, 1].
        accuracy: On the validation rows, in [0, 1].
        thresholds: For a multilabel task, the decision threshold of each label, selected on the validation rows.
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
        # Row by row: the summation order of a product over all rows depends on their number.
        return np.array([self.weights @ row + self.bias for row in states]).reshape(len(states), len(self.bias))

    @property
    def selection_key(self) -> float:
        """The model selection criterion: higher is better, that is, a lower loss on the validation rows."""
        return comparable(-self.loss)


@dataclass(frozen=True, slots=True, eq=False)
class FrozenPredictions:
    """The predictions of the frozen encoder.

    Attributes:
        labels: The most probable label of each row; for a multilabel task its label set.
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
        mixture: Training rows; ``label`` is the target.
        validation: Human-coded rows for model selection.
        task: Its labels, in their order, are the classes.
        max_tokens: Longer rows are truncated to this length.
        backbone: A folder as `backbone_folder` returns it.
        poolings: The poolings to try.

    Returns:
        All classifiers, the best first.

    Raises:
        TrainingFailed: The training or validation rows are not usable, or the backbone cannot be loaded.
    """
    check_rows(mixture, validation, task)
    texts = [*(row.inputs for row in mixture), *(row.response.inputs for row in validation)]
    states = pooled_states(backbone, task, max_tokens, texts)
    of_mixture, of_validation = (
        {pooling: each[part] for pooling, each in states.items()}
        for part in (slice(len(mixture)), slice(len(mixture), None))
    )
    return fit_heads(
        of_mixture, [row.label for row in mixture], of_validation, validation.labels, task, poolings=poolings
    )


def fit_heads(
    states: States,
    codes: Sequence[str],
    validation_states: States,
    validation_codes: Sequence[str],
    task: Task,
    *,
    poolings: Sequence[Pooling] = POOLINGS,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[FrozenHead, ...]:
    """Fit a classifier for every pooling and penalty on pooled states that are already computed.

    Args:
        states: Of the training rows, see `pooled_states`.
        codes: Their labels.
        validation_states: Of the rows for model selection.
        validation_codes: Their human codes.
        task: Its labels, in their order, are the classes.
        poolings: The poolings to try.
        penalties: The penalties to try, as values of scikit-learn's C.

    Returns:
        All classifiers, the best first.
    """
    heads = [
        _evaluate_head(
            _fit_head(pooling, penalty, states[pooling], codes, task),
            validation_states[pooling],
            validation_codes,
            task,
        )
        for pooling, penalty in product(poolings, penalties)
    ]
    return tuple(sorted(heads, key=lambda head: head.selection_key, reverse=True))


def write_frozen(head: FrozenHead, task: Task, max_tokens: int, file: Path) -> None:
    """Write a classifier as a safetensors file, atomically.

    Raises:
        RunError: The disk is full, or write permission is missing.
    """
    metadata = {
        "pooling": head.pooling,
        "penalty": head.penalty,
        "labels": list(task.names),
        "max_tokens": max_tokens,
        **{name: getattr(head, name) for name in ("loss", "macro_f1", "accuracy", "thresholds")},
    }
    content = save({"weights": head.weights, "bias": head.bias}, metadata={"frozen": json.dumps(metadata)})
    try:
        replace_file(file, content)
    except OSError as error:
        raise RunError(
            f"cannot be written ({error.strerror})",
            where=str(file),
            hint="Free disk space, or grant write permission on the run folder.",
        ) from error


def read_frozen(file: Path, task: Task) -> tuple[FrozenHead, int]:
    """Read a classifier and the maximum length of its rows in tokens.

    Raises:
        RunError: The file is missing or damaged, or belongs to another task.
    """
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata: dict[str, Any] = json.loads((opened.metadata() or {})["frozen"])
            weights, bias = opened.get_tensor("weights"), opened.get_tensor("bias")
        labels, max_tokens = tuple(metadata.pop("labels")), int(metadata.pop("max_tokens"))
        thresholds = tuple(metadata.pop("thresholds", ()))
        head = FrozenHead(weights=weights, bias=bias, thresholds=thresholds, **metadata)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            "is missing or damaged", where=str(file), hint="Run `edgedistill train PROJECT` to write it again."
        ) from error
    if labels != task.names or len(head.thresholds) != (len(labels) if task.kind == "multilabel" else 0):
        raise RunError(f"its labels are {', '.join(labels)}", where=str(file), hint="Train again.")
    return head, max_tokens


def predict_frozen(file: Path, backbone: Path, task: Task, rows: Sequence[Mapping[str, str]]) -> FrozenPredictions:
    """Predict the labels of rows with the frozen encoder.

    Args:
        file: The classifier, written by `write_frozen`.
        backbone: The folder that it was fitted with.
        task: Its labels and inputs.
        rows: The task's inputs of each row.

    Raises:
        RunError: The classifier cannot be read, or was fitted with another backbone.
        TrainingFailed: The backbone cannot be loaded.
    """
    head, max_tokens = read_frozen(file, task)
    states = pooled_states(backbone, task, max_tokens, rows)[head.pooling]
    if states.shape[1] != head.weights.shape[1]:
        raise RunError("was fitted with another backbone", where=str(file), hint="Train again.")
    logits = head.logits(states)
    return FrozenPredictions(
        LabelDecoder(task, 1.0, head.thresholds).labels(logits), probabilities_of_logits(logits, task)
    )


def _fit_head(pooling: Pooling, penalty: float, states: Floats, codes: Sequence[str], task: Task) -> FrozenHead:
    features = states.astype(np.float64)
    mean, sd = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    scaled = (features - mean) / sd
    if task.kind == "multilabel":
        fits = [_binary_weights(scaled, column, penalty) for column in encode_label_sets(codes, task, "mixture").T]
        rows, offsets = np.array([row for row, _ in fits]), np.array([offset for _, offset in fits])
    else:
        rows, offsets = _multiclass_weights(
            scaled, np.array([task.names.index(code) for code in codes]), penalty, len(task.names)
        )
    weights = rows / sd
    return FrozenHead(pooling, penalty, weights.astype(np.float32), (offsets - weights @ mean).astype(np.float32))


def _multiclass_weights(
    scaled: Values, classes: npt.NDArray[np.int_], penalty: float, labels: int
) -> tuple[Values, Values]:
    """Weights (labels, width) and offsets (labels,) of one label against the others."""
    fitted = _regression(scaled, classes, penalty)
    rows, offsets = np.zeros((labels, scaled.shape[1])), np.full(labels, _ABSENT_LABEL_BIAS)
    # For two classes, scikit-learn has one row of weights: the log odds of the second class.
    found, added = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        found, added = np.concatenate([-found, found]) / 2, np.concatenate([-added, added]) / 2
    rows[fitted.classes_], offsets[fitted.classes_] = found, added
    return rows, offsets


def _binary_weights(scaled: Values, targets: npt.NDArray[np.bool_], penalty: float) -> tuple[Values, float]:
    """Weights (width,) and offset of the binary regression of one label."""
    if targets.all() or not targets.any():
        return np.zeros(scaled.shape[1]), -_ABSENT_LABEL_BIAS if targets.any() else _ABSENT_LABEL_BIAS
    fitted = _regression(scaled, targets, penalty)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _regression(scaled: Values, train_rows: npt.NDArray[Any], penalty: float) -> LogisticRegression:
    with warnings.catch_warnings():
        # A fit that does not converge, because the penalty is too weak, is not selected.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=penalty, max_iter=1000).fit(scaled, train_rows)


def _evaluate_head(head: FrozenHead, states: Floats, codes: Sequence[str], task: Task) -> FrozenHead:
    logits = head.logits(states)
    probabilities = probabilities_of_logits(logits, task)
    if task.kind == "multilabel":
        label_sets = encode_label_sets(codes, task, "validation")
        likelihoods = np.where(label_sets, probabilities, 1 - probabilities)
        accuracy, macro_f1 = exact_match_and_macro_f1(logits, label_sets)
    else:
        targets = np.array([task.names.index(code) for code in codes])
        likelihoods = probabilities[np.arange(len(targets)), targets]
        confusion = confusion_matrix(targets, probabilities.argmax(axis=1), len(head.bias))[None]
        accuracy, macro_f1 = float(accuracies(confusion)[0]), float(macro_f1s(confusion)[0])
    return replace(
        head,
        loss=float(-np.log(np.maximum(likelihoods, 1e-12)).mean()),
        macro_f1=macro_f1,
        accuracy=accuracy,
        thresholds=label_decoder_from_logits(logits, codes, task).thresholds,
    )


def probabilities_of_logits(logits: Floats, task: Task) -> Floats:
    """Return the probability of each label, of the shape of the logits, (rows, labels)."""
    if task.kind == "multilabel":
        return sigmoid(logits.astype(np.float64), 1.0).astype(np.float32)
    odds: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares


_SCALE = 1e-4
"""Scale before tanh: the relative error for a state of 30, about the largest value, is 1 in 300,000."""
_LIFT = 4.0
"""Shift before ReLU, as a multiple of the largest absolute value of a state in the validation rows."""
_TOLERANCE = 1e-2


def train_frozen_student(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
    backbone: Path,
    folder: Path,
) -> tuple[FrozenHead, ...]:
    """Fit classifiers on the first token's states, and write the best as a standard checkpoint that can be exported.

    Args:
        mixture: Training rows.
        validation: Human-coded rows that select the penalty.
        task: Its labels, in their order, are the classes.
        section: The maximum length of a row in tokens.
        backbone: A folder as `backbone_folder` returns it.
        folder: The folder of the Hugging Face checkpoint. Existing content is replaced only at the end.

    Returns:
        All classifiers, the best first.

    Raises:
        TrainingFailed: The rows are not usable, or the head of this backbone is not supported.
        SearchInterrupted: The folder cannot be written.
    """
    heads = fit_frozen(mixture, validation, task, section.token_limit, backbone, poolings=("first",))
    rows = [row.response.inputs for row in validation]
    with quiet_transformers(), beside(folder) as aside:
        model = load_model(backbone, task)
        load_tokenizer_and_padding(backbone, model, aside)
        states = pooled_states(backbone, task, section.token_limit, rows)["first"]
        _set_head(model, heads[0], float(np.abs(states).max()))
        model.save_pretrained(aside, max_shard_size="100GB")
        written = Checkpoint.load(aside, task, section.token_limit).logits(rows)
        expected = states @ heads[0].weights.T + heads[0].bias
        if np.abs(written - expected).max() > _TOLERANCE:
            raise _unsupported_head(model)
        with replacing(folder) as new:
            copy_files(aside, new)
    return heads


def _set_head(model: Any, head: FrozenHead, largest: float) -> None:
    """Set the layers between the first token's state and the logits."""
    kind = model.config.model_type
    with torch.no_grad():
        if kind == "bert":
            _set_layers(model.base_model.pooler.dense, model.classifier, head, scale=_SCALE, lift=0.0)
        elif kind in ("roberta", "xlm-roberta", "camembert"):
            _set_layers(model.classifier.dense, model.classifier.out_proj, head, scale=_SCALE, lift=0.0)
        elif kind == "distilbert":
            _set_layers(model.pre_classifier, model.classifier, head, scale=1.0, lift=_LIFT * largest)
        else:
            raise _unsupported_head(model)


def _set_layers(before: Any, last: Any, head: FrozenHead, *, scale: float, lift: float) -> None:
    weights, bias = torch.from_numpy(head.weights), torch.from_numpy(head.bias)
    before.weight.copy_(scale * torch.eye(len(before.weight)))
    before.bias.fill_(lift)
    last.weight.copy_(weights / scale)
    last.bias.copy_(bias - lift * weights.sum(dim=1))


def _unsupported_head(model: Any) -> TrainingFailed:
    return TrainingFailed(
        f"a {model.config.model_type} backbone cannot be a frozen student",
        where="student.kind",
        hint="Use BERT, RoBERTa or DistilBERT, or set kind: fine-tuned.",
    )
