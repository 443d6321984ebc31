"""A fine-tuned student in PyTorch: a Hugging Face checkpoint folder, checked against its task."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

import edgedistill_export.nano  # noqa: F401  # it and bi_encoder let transformers load our own kinds of students
from edgedistill_export.bi_encoder import REFERENCES_APART
from edgedistill_export.counting import counted
from edgedistill_export.errors import CheckpointError
from edgedistill_export.quiet import quiet
from edgedistill_export.text_vectors import VECTOR, WithVector
from edgedistill_serve.cores import available_cores
from edgedistill_serve.errors import first_line
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.task.contexts import has_context
from edgedistill_serve.task.task import Kind, Task, Truncation, task_inputs

T = TypeVar("T")
SCORE_BIAS = "score.bias"
"""The tensor with the bias of a decoder's classifier."""
_RETRAIN = "Train the student again, or use the folder that the training wrote."
_PROBLEMS: dict[Kind, str] = {
    "nominal": "single_label_classification",
    "ordinal": "single_label_classification",
    "multilabel": "multi_label_classification",
}
"""The problem types of transformers; other programs choose softmax or sigmoid by them."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A trained student; use `load` to read one.

    Attributes:
        folder: The Hugging Face checkpoint folder.
        task: The scoring task; class *i* of the model is ``task.labels[i]``.
        config: ``config.json``, with explicit labels and problem type.
        model: The PyTorch model, a sequence classifier in fp32 and eval mode on the CPU.
        encoder: Converts rows to token ids, as in training and serving.
    """

    folder: Path
    task: Task
    config: Mapping[str, Any]
    model: Any
    encoder: Encoder

    @classmethod
    def load(cls, folder: Path, task: Task, max_tokens: int) -> "Checkpoint":
        """Read a checkpoint folder: safetensors only, without network access and without code from the checkpoint.

        Args:
            folder: Contains ``config.json``, ``tokenizer.json``, ``tokenizer_config.json`` and ``model.safetensors``.
            task: The task that the student was trained for.
            max_tokens: Longest sequence that the student reads, including special tokens.

        Raises:
            CheckpointError: A file is missing or cannot be read, the weights are pickled or in several files, the
                labels or their order differ from the task's, the model is not a sequence classifier or is one for
                another kind of task, the tokenizer does not match the model, the model cannot read ``max_tokens``
                tokens, or ``max_tokens`` leaves no room for a response.
        """
        _expect_files(folder)
        config = _config(folder, task)
        truncation = truncation_by(config)
        checkpoint = cls(folder, task, config, _model(folder), _encoder(folder, max_tokens, truncation))
        _expect_vocabulary(checkpoint)
        _expect_room(checkpoint)
        return checkpoint

    def logits(self, rows: Sequence[Mapping[str, str]]) -> npt.NDArray[np.float32]:
        """Score rows in fp32, each alone and on one thread, one row per core at a time.

        Scores therefore do not depend on padding or the number of cores. Small models gain nothing from several
        threads per row, and lose much on busy cores. torch's number of threads is set to 1 during the call.

        Args:
            rows: The task's inputs of each row; other keys are ignored.

        Returns:
            Logits of shape (rows, labels); not calibrated.

        Raises:
            DataError: A row lacks one of the task's inputs.
        """
        scored = self._on_threads(lambda row: self._score(row, self.model)["logits"], rows)
        return np.array(scored, dtype=np.float32).reshape(len(rows), len(self.task.labels))

    def outputs(self, rows: Sequence[Mapping[str, str]]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Score rows as `logits` does, and return their vectors too.

        Args:
            rows: The task's inputs of each row; other keys are ignored.

        Returns:
            Logits of shape (rows, labels), and the vectors of `edgedistill_export.text_vectors`, shape (rows, width).

        Raises:
            DataError: A row lacks one of the task's inputs.
        """
        # transformers records the states of layers in the modules, so that two threads would mix their rows. The
        # copies share the weights.
        copies: SimpleQueue[Any] = SimpleQueue()
        for _ in range(available_cores()):
            shared = {id(tensor): tensor for tensor in chain(self.model.parameters(), self.model.buffers())}
            copies.put(WithVector(deepcopy(self.model, shared), of_response=self.marks_response))

        def score(row: Encoded) -> dict[str, npt.NDArray[np.float32]]:
            copied = copies.get()
            try:
                return self._score(row, copied)
            finally:
                copies.put(copied)

        scored = self._on_threads(score, rows)
        logits = np.array([found["logits"] for found in scored], dtype=np.float32)
        vectors = np.array([found[VECTOR] for found in scored], dtype=np.float32)
        return logits.reshape(len(rows), len(self.task.labels)), vectors.reshape(len(rows), -1 if rows else 0)

    def _on_threads(self, score: Callable[[Encoded], T], rows: Sequence[Mapping[str, str]]) -> list[T]:
        encoded = self.encoder.encode([task_inputs(row, self.task) for row in rows])
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(available_cores()) as callers:
                return list(counted(callers.map(score, encoded)))
        finally:
            torch.set_num_threads(threads)

    @property
    def marks_response(self) -> bool:
        """Whether the model reads which tokens are the response's."""
        return self.reads_segments and has_context(self.task)

    def _score(self, encoded: Encoded, model: Any) -> dict[str, npt.NDArray[np.float32]]:
        """Return what a form of the model gives for one row, by name."""
        ids = torch.tensor([encoded.ids])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.reads_segments:
            inputs["token_type_ids"] = torch.tensor([encoded.type_ids])
        with torch.inference_mode():
            found = model(**inputs)
        return {name: found[name][0].numpy() for name in ("logits", VECTOR) if name in found}

    @property
    def reads_segments(self) -> bool:
        """Whether the model uses segment ids, that is, has more than one segment."""
        return (
            getattr(self.model.config, "type_vocab_size", 0) > 1
            and "token_type_ids" in inspect.signature(self.model.forward).parameters
        )


def _expect_files(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError("the folder does not exist", where=str(folder), hint=_RETRAIN)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{name} is missing", where=str(folder), hint="Save the model and its fast tokenizer into one folder."
            )
    if (folder / "model.safetensors").is_file():
        return
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise CheckpointError(
            "the weights are pickled; pickles are not read because they can run code",
            where=str(folder),
            hint="Save the model again with save_pretrained(folder, safe_serialization=True).",
        )
    if (folder / "model.safetensors.index.json").is_file():
        raise CheckpointError(
            "the weights are in several files",
            where=str(folder),
            hint='Save the model again with save_pretrained(folder, max_shard_size="50GB").',
        )
    raise CheckpointError("model.safetensors is missing", where=str(folder), hint=_RETRAIN)


def _config(folder: Path, task: Task) -> dict[str, Any]:
    where = str(folder / "config.json")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise CheckpointError("the file is not a JSON object", where=where, hint=_RETRAIN)
        named = {int(index): str(name) for index, name in config.get("id2label", {}).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the file cannot be read ({error})", where=where, hint=_RETRAIN) from error
    if not any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
        raise CheckpointError("the model is not a sequence classifier", where=where, hint=_RETRAIN)
    if named != dict(enumerate(task.names)):
        labels = ", ".join(named[index] for index in sorted(named)) or "none"
        raise CheckpointError(
            f"the model's labels are {labels}; the task's are {', '.join(task.names)}",
            where=where,
            hint="They must be the same, in the same order. Was the codebook changed after training? Train again.",
        )
    problem = _PROBLEMS[task.kind]
    if config.get("problem_type") not in (problem, None):
        raise CheckpointError(
            f"the model was trained for {config['problem_type']}; a {task.kind} task needs {problem}",
            where=where,
            hint=_RETRAIN,
        )
    return config | {
        "id2label": {str(i): name for i, name in enumerate(task.names)},
        "label2id": {name: i for i, name in enumerate(task.names)},
        "problem_type": problem,
    }


def _model(folder: Path) -> Any:
    try:
        with quiet():
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
    except Exception as error:  # transformers raises many kinds for a folder it cannot read
        raise CheckpointError(
            f"transformers cannot load the checkpoint ({first_line(error)})", where=str(folder)
        ) from error
    if loading["missing_keys"] or loading["mismatched_keys"]:
        missing = ", ".join(sorted(str(key) for key in (*loading["missing_keys"], *loading["mismatched_keys"])))
        raise CheckpointError(
            f"weights are missing or have the wrong shape: {missing}",
            where=str(folder / "model.safetensors"),
            hint=_RETRAIN,
        )
    _add_bias(model, folder / "model.safetensors")
    model = model.float().eval()
    # A tensor of a memory-mapped file begins at any address, and the last bits of results depend on its alignment.
    for weights in model.parameters():
        weights.data = weights.data.clone()
    return model


def _add_bias(model: Any, file: Path) -> None:
    """Give a decoder's classifier, which has no bias in transformers, the one that a prior correction wrote."""
    score = getattr(model, "score", None)
    if isinstance(score, torch.nn.Linear) and score.bias is None:
        with safe_open(file, framework="pt") as opened:
            if SCORE_BIAS in opened.keys():  # noqa: SIM118  # it has no iterator
                score.bias = torch.nn.Parameter(opened.get_tensor(SCORE_BIAS))


def truncation_by(config: Mapping[str, Any]) -> Truncation:
    """Return how a student reads what comes before the response, by the key `REFERENCES_APART` of its config."""
    return "references_apart" if config.get(REFERENCES_APART) else "question_first"


def _encoder(folder: Path, max_tokens: int, truncation: Truncation) -> Encoder:
    try:
        encoder = Encoder(folder / "tokenizer.json", max_tokens, truncation)
    except Exception as error:  # tokenizers raises a bare Exception for a file it cannot read
        raise CheckpointError(
            f"not a valid tokenizer ({first_line(error)})", where=str(folder / "tokenizer.json"), hint=_RETRAIN
        ) from error
    if encoder.max_text_tokens < 1:
        raise CheckpointError(f"max_tokens = {max_tokens} leaves no room for a response", where=str(folder))
    return encoder


def _expect_vocabulary(checkpoint: Checkpoint) -> None:
    file = checkpoint.folder / "tokenizer.json"
    highest = max(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True).values(), default=-1)
    known = checkpoint.model.get_input_embeddings().num_embeddings
    if not 0 <= highest < known:
        raise CheckpointError(
            f"the tokenizer has token ids up to {highest}; the model has {known} embeddings",
            where=str(file),
            hint="The tokenizer does not match the model. " + _RETRAIN,
        )


def _expect_room(checkpoint: Checkpoint) -> None:
    """Score one row of maximum length, so that a model with fewer positions fails here and not when serving."""
    longest = dict.fromkeys(checkpoint.task.inputs, "a " * checkpoint.encoder.max_tokens)
    try:
        checkpoint.logits([longest])
    except (IndexError, RuntimeError) as error:
        positions = checkpoint.config.get("max_position_embeddings", "unknown")
        raise CheckpointError(
            f"the model cannot read max_tokens = {checkpoint.encoder.max_tokens} tokens",
            where=str(checkpoint.folder),
            hint=f"Reduce max_tokens to the model's number of positions (max_position_embeddings: {positions}).",
        ) from error


def read_json_object(file: Path) -> dict[str, Any]:
    """Read one of a checkpoint's JSON files.

    Raises:
        CheckpointError: The file cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the file cannot be read ({error})", where=str(file)) from error
    if not isinstance(content, dict):
        raise CheckpointError("the file is not a JSON object", where=str(file))
    return content
