"""Compression: a smaller student with fewer layers, distilled from the first one, and the comparison of both.

The smaller student is initialized with some of the first student's layers, its embeddings and its classifier, and
trained on the first student's probabilities for all available texts: the target is the softmax of the logits divided by
a temperature, the loss is the cross-entropy times the squared temperature (Hinton, Vinyals and Dean 2015,
arXiv:1503.02531, sections 2 and 2.1). For a multilabel task, the target of each label is the sigmoid of its logit.
The best epoch is the one with the highest agreement with the first student on the validation rows. Human codes are not
used: with a few hundred rows, they would select an epoch by chance (docs/decisions/0018-a-shrunk-student.md).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn import ModuleList
from transformers import set_seed

from edgedistill.agreement.paired import Change, change
from edgedistill.errors import TrainingFailed
from edgedistill.project.student import ShrinkSection
from edgedistill.student.checkpoints import BestCheckpoint, beside, check_replaceable, copy_files, replacing
from edgedistill.student.data import TrainingRow
from edgedistill.student.label_thresholds import label_decoder_from_logits
from edgedistill.student.losses import TrainingLoss
from edgedistill.student.model import load_model, load_tokenizer_and_padding, quiet_transformers
from edgedistill.student.trial import Setting, default_speed_settings, run_trial
from edgedistill.student.types import Epoch, SpeedSettings, TrainingProgress
from edgedistill_export.authors import Author
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.vocabulary import VocabularyCut, cut_vocabulary
from edgedistill_export.verify.parity import Logits
from edgedistill_serve.task.label_decoding import sigmoid
from edgedistill_serve.task.task import Task, task_inputs


def evenly_spaced(layers: int, kept: int) -> tuple[int, ...]:
    """Select evenly spaced layers from the first to the last, as DistilBERT was initialized (Sanh et al. 2019).

    Args:
        layers: Number of layers.
        kept: Number of layers to select, from 1 to ``layers``; a single one is the first.

    Returns:
        Their indices, starting at 0, in ascending order.
    """
    return tuple(int(place) for place in np.linspace(0, layers - 1, kept).round())


def write_with_layers(checkpoint: Path, task: Task, kept: Sequence[int] | None, count: int, folder: Path) -> list[int]:
    """Write a student with a subset of the layers of another one, and with its embeddings and classifier.

    Args:
        checkpoint: Folder of the other student.
        task: Its labels are the classes.
        kept: Indices of the layers, starting at 0, in ascending order; None: ``count`` evenly spaced ones.
        count: Number of layers to keep.
        folder: Folder for config and weights.

    Returns:
        The indices of the layers that were kept.

    Raises:
        TrainingFailed: There are no such layers, or layers of this model cannot be removed.
    """
    model = load_model(checkpoint, task)
    parent, name, stack = _find_layers(model)
    if not count < len(stack):
        raise TrainingFailed(
            f"the student has {len(stack)} layers; keeping {count} does not make it smaller",
            where="student.shrink.layers",
            hint=f"Use 1 to {len(stack) - 1}." if len(stack) > 1 else "Remove shrink.",
        )
    places = list(kept if kept is not None else evenly_spaced(len(stack), count))
    if beyond := [place for place in places if place >= len(stack)]:
        raise TrainingFailed(
            f"there is no layer {beyond[0]}", where="student.shrink.kept", hint=f"Use 0 to {len(stack) - 1}."
        )
    setattr(parent, name, ModuleList(stack[place] for place in places))
    model.config.num_hidden_layers = len(places)
    model.save_pretrained(folder, max_shard_size="100GB")
    _check_equal_logits(model, load_model(folder, task))
    return places


def _find_layers(model: Any) -> tuple[Any, str, Any]:
    """The module that contains the list of layers, the name of the list in it, and the list."""
    stacks = [
        (parent, name, part)
        for parent in model.modules()
        for name, part in parent.named_children()
        if isinstance(part, ModuleList) and len(part) == model.config.num_hidden_layers
    ]
    if len(stacks) != 1:
        raise _unsupported_model(model)
    return stacks[0]


def _check_equal_logits(model: Any, written: Any) -> None:
    """Check that the written model has the same logits; in some models the computation depends on a layer's index."""
    # RoBERTa gives padding tokens no position, so the row must consist of another token.
    token = 1 if getattr(model.config, "pad_token_id", None) == 0 else 0
    ids = torch.full((1, 8), token)
    with torch.inference_mode():
        logits = [one.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for one in (model, written)]
    if not torch.allclose(*logits, atol=1e-4):
        raise _unsupported_model(model)


def _unsupported_model(model: Any) -> TrainingFailed:
    return TrainingFailed(
        f"layers of a {model.config.model_type} student cannot be removed",
        where="student.shrink",
        hint="Remove shrink, or use a backbone such as BERT, RoBERTa or DistilBERT.",
    )


@dataclass(frozen=True, slots=True)
class CompressedStudent:
    """The result of compression.

    Attributes:
        folder: The Hugging Face checkpoint of the best epoch.
        layers: Indices of the first student's layers that it was initialized with, starting at 0.
        texts: Number of training texts.
        vocabulary: The result of the vocabulary cut; None with the full vocabulary.
        history: One entry per epoch; the reference labels are the first student's predictions for the validation rows.
        notes: Notes for the report.
    """

    folder: Path
    layers: tuple[int, ...]
    texts: int
    vocabulary: VocabularyCut | None
    history: tuple[Epoch, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Epoch:
        """The epoch of the checkpoint."""
        return max(self.history, key=lambda epoch: epoch.selection_key)


def compress_student(
    student: Path,
    folder: Path,
    texts: Sequence[Mapping[str, str]],
    validation: Sequence[Mapping[str, str]],
    task: Task,
    section: ShrinkSection,
    max_tokens: int,
    *,
    authors: Sequence[Author] = (),
    progress: Callable[[TrainingProgress], None] | None = None,
    speed: SpeedSettings | None = None,
) -> CompressedStudent:
    """Train a smaller student by distillation of a fine-tuned one.

    Args:
        student: The fine-tuned student's checkpoint folder.
        folder: The smaller student's folder. Existing content is replaced only at the end.
        texts: The task's inputs of every training row; must not include validation or test rows.
        validation: The task's inputs of the rows that select the epoch.
        task: Its labels, in their order, are the classes of both.
        section: Layers, vocabulary and training settings.
        max_tokens: The maximum length of a row in tokens.
        authors: Who wrote each text, as in `edgedistill_export.authors`; empty if that is not known.
        progress: Called after every optimizer step and every epoch.
        speed: Speed settings; None for the defaults (docs/decisions/0003-training-levers.md).

    Raises:
        TrainingFailed: There are no texts, the student has no such layers, or the loss is not finite.
        CheckpointError: The student's folder cannot be read.
        SearchInterrupted: The smaller student cannot be written.
    """
    if not texts:
        raise TrainingFailed("there is no text to shrink the student with", hint="Remove student.shrink.")
    check_replaceable(folder)
    speed = speed or default_speed_settings()
    first = Checkpoint.load(student, task, max_tokens)
    train_logits, validation_logits = first.logits(texts), first.logits(validation)
    setting = Setting(section.learning_rate, section.batch_size, section.epochs, section.seed)
    with quiet_transformers(), beside(folder) as aside:
        initial, cut, notes = _with_vocabulary(first, texts, authors, section, aside / "cut")
        layers = write_with_layers(initial.folder, task, section.kept, section.layers, aside / "initial")
        best = BestCheckpoint(aside / "best")
        (aside / "tokenizer").mkdir()
        model = load_model(aside / "initial", task)
        padding = load_tokenizer_and_padding(initial.folder, model, aside / "tokenizer")
        report = _progress_counter(setting, len(texts), progress)

        def on_epoch(epoch: Epoch, model: object) -> None:
            if not best.is_at_least(epoch.selection_key):
                best.write(epoch, model)
            report(epoch)

        set_seed(setting.seed)
        history = run_trial(
            model,
            padding,
            _train_rows(initial, texts, train_logits),
            _validation_rows(initial, validation, validation_logits),
            setting,
            speed,
            on_step=lambda: report(None),
            on_epoch=on_epoch,
            loss_function=TrainingLoss(
                scale="multilabel" if task.kind == "multilabel" else "nominal",
                soft=1.0,
                temperature=section.temperature,
            ),
        )
        with replacing(folder) as new:
            for files in (aside / "tokenizer", best.checkpoint or aside):
                copy_files(files, new)
    return CompressedStudent(folder, tuple(layers), len(texts), cut, history, notes)


def _with_vocabulary(
    first: Checkpoint,
    texts: Sequence[Mapping[str, str]],
    authors: Sequence[Author],
    section: ShrinkSection,
    folder: Path,
) -> tuple[Checkpoint, VocabularyCut | None, tuple[str, ...]]:
    """Remove tokens that no text needs, and those that a single learner used."""
    if section.vocabulary == "full":
        return first, None, ()
    try:
        cut, kept = cut_vocabulary(first, texts, folder, authors=authors)
    except ExportFailed as error:
        return first, None, (f"The smaller student has the full vocabulary: {error.what}.",)
    return cut, kept, ()


def _validation_rows(student: Checkpoint, rows: Sequence[Mapping[str, str]], logits: Logits) -> list[TrainingRow]:
    """The validation rows with the first student's predictions as targets, sorted by length to reduce padding."""
    encoded = student.encoder.encode([task_inputs(row, student.task) for row in rows])
    targets = [_predicted(row, student.task) for row in logits]
    return sorted((TrainingRow(row, target) for row, target in zip(encoded, targets, strict=True)), key=len)


def _train_rows(student: Checkpoint, texts: Sequence[Mapping[str, str]], logits: Logits) -> list[TrainingRow]:
    """The texts with the first student's probabilities as soft labels."""
    encoded = student.encoder.encode([task_inputs(text, student.task) for text in texts])
    return [
        TrainingRow(row, _predicted(scored, student.task), _shares(scored, student.task))
        for row, scored in zip(encoded, logits, strict=True)
    ]


def _predicted(logits: Logits, task: Task) -> int | tuple[float, ...]:
    """The predicted class; for a multilabel task, 1 or 0 for each label."""
    return tuple((logits >= 0).astype(float).tolist()) if task.kind == "multilabel" else int(logits.argmax())


def _shares(logits: Logits, task: Task) -> tuple[float, ...]:
    # Never exactly 0 or 1, because the loss treats such shares as hard labels.
    if task.kind == "multilabel":
        return tuple(sigmoid(logits.astype(np.float64), 1.0).clip(1e-9, 1 - 1e-6).tolist())
    odds = np.exp(logits.astype(np.float64) - logits.max()).clip(1e-9)
    return tuple((odds / odds.sum()).tolist())


def _progress_counter(
    setting: Setting, rows: int, progress: Callable[[TrainingProgress], None] | None
) -> Callable[[Epoch | None], None]:
    """Return a function that counts a step, or records an epoch, and reports the progress."""
    now = TrainingProgress(0, setting.steps(rows), 1, 1)

    def report(epoch: Epoch | None) -> None:
        nonlocal now
        now = replace(now, epoch=epoch) if epoch else replace(now, done=now.done + 1)
        if progress:
            progress(now)

    return report


_ROUNDS = 5
_ROWS = 40


@dataclass(frozen=True, slots=True)
class StudentComparison:
    """The comparison of two students, in PyTorch and fp32.

    Attributes:
        bytes: Size of the weights and the tokenizer of each.
        texts_per_second: Of each, per second of processor time, rows scored one at a time on one thread: the median of
            interleaved rounds.
        times_as_fast: Speed of the second divided by that of the first: the median of the rounds.
        change: Change from the first to the second on the same human-coded rows; for a multilabel task, the thresholds
            of each are selected on these rows.
    """

    bytes: tuple[int, int]
    texts_per_second: tuple[float, float]
    times_as_fast: float
    change: Change


def compare_students(
    first: Checkpoint, second: Checkpoint, rows: Sequence[Mapping[str, str]], codes: Sequence[str]
) -> StudentComparison:
    """Compare two students.

    Args:
        first: One student.
        second: Another of the same task.
        rows: The task's inputs of human-coded rows, at least one.
        codes: Their human codes.
    """
    before, after = (_labels(each.logits(rows), codes, each.task) for each in (first, second))
    rounds = [(_speed(first, rows), _speed(second, rows)) for _ in range(_ROUNDS)]
    return StudentComparison(
        (_bytes(first), _bytes(second)),
        (median(one for one, _ in rounds), median(two for _, two in rounds)),
        median(two / one for one, two in rounds),
        change(codes, before, after, first.task),
    )


def _labels(logits: Logits, codes: Sequence[str], task: Task) -> tuple[str, ...]:
    return label_decoder_from_logits(logits, codes, task).labels(logits)


def _speed(student: Checkpoint, rows: Sequence[Mapping[str, str]]) -> float:
    """Texts per second of processor time, which depends least on other processes of the machine."""
    start = time.process_time()
    student.logits(rows[:_ROWS])
    return len(rows[:_ROWS]) / max(time.process_time() - start, 1e-9)


def _bytes(student: Checkpoint) -> int:
    return sum((student.folder / name).stat().st_size for name in ("model.safetensors", "tokenizer.json"))
