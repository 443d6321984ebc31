"""A smaller student with fewer layers, taught by the first one, and both compared.

It begins with some of the first student's layers, its embeddings and its classifier, and learns the first student's
probabilities on every text there is: the softmax of the first's logits over a temperature is the label, cross-entropy
the loss, times the square of the temperature (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, sections 2 and 2.1). Of
a multilabel task each logit's logistic function is a label of its own.
The epoch is the one that says most often what the first student says, on the validation rows. No human code is read: on
a few hundred rows it would choose by chance (docs/decisions/0018-a-shrunk-student.md).
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
from edgedistill.project.schema import ShrinkSection
from edgedistill.student.checkpoints import BestCheckpoint, beside, check_replaceable, copy_files, replacing
from edgedistill.student.data import TrainingRow
from edgedistill.student.label_thresholds import readout_from_logits
from edgedistill.student.losses import TrainingLoss
from edgedistill.student.model import load_model, load_tokenizer_and_padding, quiet_transformers
from edgedistill.student.trial import Setting, default_speed_settings, run_trial
from edgedistill.student.types import Epoch, SpeedSettings, TrainingProgress
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.vocabulary import VocabularyCut, cut_vocabulary
from edgedistill_export.verify.parity import Logits
from edgedistill_serve.task.label_decoding import sigmoid
from edgedistill_serve.task.task import Task, task_inputs


def evenly_spaced(layers: int, kept: int) -> tuple[int, ...]:
    """Choose layers from the first to the last at even distances, as DistilBERT was begun (Sanh et al. 2019).

    Args:
        layers: How many there are.
        kept: How many to choose, from 1 to ``layers``; one alone is the first.

    Returns:
        Their places, from 0, the lowest first.
    """
    return tuple(int(place) for place in np.linspace(0, layers - 1, kept).round())


def write_with_layers(checkpoint: Path, task: Task, kept: Sequence[int] | None, count: int, folder: Path) -> list[int]:
    """Write a student with some of another's layers; embeddings and classifier are the other's too.

    Args:
        checkpoint: The other student's folder.
        task: Its labels are the classes.
        kept: Places of the layers, from 0, the lowest first; None: ``count`` evenly spaced ones.
        count: How many layers are kept.
        folder: Where config and weights are written.

    Returns:
        The places of the layers that were kept.

    Raises:
        TrainingFailed: There are no such layers, or the model is not what is left when layers are left out.
    """
    model = load_model(checkpoint, task)
    parent, name, stack = _stack(model)
    if not count < len(stack):
        raise TrainingFailed(
            f"the student has {len(stack)} layers, and {count} of them make it no smaller",
            where="student.shrink.layers",
            hint=f"Choose 1 to {len(stack) - 1}." if len(stack) > 1 else "Leave shrink out.",
        )
    places = list(kept if kept is not None else evenly_spaced(len(stack), count))
    if beyond := [place for place in places if place >= len(stack)]:
        raise TrainingFailed(
            f"there is no layer {beyond[0]}", where="student.shrink.kept", hint=f"They are 0 to {len(stack) - 1}."
        )
    setattr(parent, name, ModuleList(stack[place] for place in places))
    model.config.num_hidden_layers = len(places)
    model.save_pretrained(folder, max_shard_size="100GB")
    _expect_same(model, load_model(folder, task))
    return places


def _stack(model: Any) -> tuple[Any, str, Any]:
    """The layers, and where the model holds them."""
    stacks = [
        (parent, name, part)
        for parent in model.modules()
        for name, part in parent.named_children()
        if isinstance(part, ModuleList) and len(part) == model.config.num_hidden_layers
    ]
    if len(stacks) != 1:
        raise _not_shrunk(model)
    return stacks[0]


def _expect_same(model: Any, written: Any) -> None:
    """Some models compute a layer by its place, so that without the layers below it is another."""
    # RoBERTa gives padding no position of its own, so the row must be of another token.
    token = 1 if getattr(model.config, "pad_token_id", None) == 0 else 0
    ids = torch.full((1, 8), token)
    with torch.inference_mode():
        logits = [one.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for one in (model, written)]
    if not torch.allclose(*logits, atol=1e-4):
        raise _not_shrunk(model)


def _not_shrunk(model: Any) -> TrainingFailed:
    return TrainingFailed(
        f"a {model.config.model_type} student cannot be shrunk by leaving layers out",
        where="student.shrink",
        hint="Leave shrink out, or choose a backbone such as BERT, RoBERTa or DistilBERT.",
    )


@dataclass(frozen=True, slots=True)
class CompressedStudent:
    """What shrinking made.

    Attributes:
        folder: The Hugging Face checkpoint of the best epoch.
        layers: The first student's layers that it began with, from 0.
        texts: How many texts it learnt from.
        vocabulary: What the cut left; None where the vocabulary is full.
        history: One entry per epoch; what is right is what the first student says of the validation rows.
        notes: What a reader should know.
    """

    folder: Path
    layers: tuple[int, ...]
    texts: int
    vocabulary: VocabularyCut | None
    history: tuple[Epoch, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Epoch:
        """The epoch that the checkpoint is from."""
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
    progress: Callable[[TrainingProgress], None] | None = None,
    speed: SpeedSettings | None = None,
) -> CompressedStudent:
    """Make a smaller student of a fine-tuned one.

    Args:
        student: The fine-tuned student's checkpoint folder.
        folder: Becomes the smaller student's; what is there stays whole until it is replaced at the end.
        texts: The task's inputs of every row to learn from; neither validation nor test rows may be among them.
        validation: The task's inputs of the rows that choose the epoch.
        task: Its labels, in their order, are the classes of both.
        section: Layers, vocabulary, and how it is taught.
        max_tokens: The longest row in tokens.
        progress: Called after every optimizer step and every epoch.
        speed: What makes training faster; None for what docs/decisions/0003-training-levers.md chose.

    Raises:
        TrainingFailed: There is nothing to learn from, the student has no such layers, the loss is no longer a number.
        CheckpointError: The student's folder cannot be read.
        SearchBrokenOff: The smaller student cannot be written.
    """
    if not texts:
        raise TrainingFailed("there is no text to shrink the student with", hint="Leave student.shrink out.")
    check_replaceable(folder)
    speed = speed or default_speed_settings()
    first = Checkpoint.load(student, task, max_tokens)
    taught_by, judged_by = first.logits(texts), first.logits(validation)
    setting = Setting(section.learning_rate, section.batch_size, section.epochs, section.seed)
    with quiet_transformers(), beside(folder) as aside:
        begun, cut, notes = _with_vocabulary(first, texts, section, aside / "cut")
        layers = write_with_layers(begun.folder, task, section.kept, section.layers, aside / "begun")
        best = BestCheckpoint(aside / "best")
        (aside / "tokenizer").mkdir()
        model = load_model(aside / "begun", task)
        padding = load_tokenizer_and_padding(begun.folder, model, aside / "tokenizer")
        told = _progress_counter(setting, len(texts), progress)

        def on_epoch(epoch: Epoch, model: object) -> None:
            if not best.is_at_least(epoch.selection_key):
                best.write(epoch, model)
            told(epoch)

        set_seed(setting.seed)
        history = run_trial(
            model,
            padding,
            _train_rows(begun, texts, taught_by),
            _judged(begun, validation, judged_by),
            setting,
            speed,
            on_step=lambda: told(None),
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
    first: Checkpoint, texts: Sequence[Mapping[str, str]], section: ShrinkSection, folder: Path
) -> tuple[Checkpoint, VocabularyCut | None, tuple[str, ...]]:
    """Cut what no text needs. It changes nothing that is learnt, for these texts are read as before."""
    if section.vocabulary == "full":
        return first, None, ()
    try:
        cut, kept = cut_vocabulary(first, texts, folder)
    except ExportFailed as error:
        return first, None, (f"The shrunk student's vocabulary is left full: {error.what}.",)
    return cut, kept, ()


def _judged(student: Checkpoint, rows: Sequence[Mapping[str, str]], logits: Logits) -> list[TrainingRow]:
    """The validation rows with what the first student says, the shortest first for little padding."""
    encoded = student.encoder.encode([task_inputs(row, student.task) for row in rows])
    said = [_predicted(row, student.task) for row in logits]
    return sorted((TrainingRow(row, target) for row, target in zip(encoded, said, strict=True)), key=len)


def _train_rows(student: Checkpoint, texts: Sequence[Mapping[str, str]], logits: Logits) -> list[TrainingRow]:
    """Every text with the first student's probabilities as its soft label."""
    encoded = student.encoder.encode([task_inputs(text, student.task) for text in texts])
    return [
        TrainingRow(row, _predicted(scored, student.task), _shares(scored, student.task))
        for row, scored in zip(encoded, logits, strict=True)
    ]


def _predicted(logits: Logits, task: Task) -> int | tuple[float, ...]:
    """What the first student says of a row: its class; of a multilabel task which classes are likelier than not."""
    return tuple((logits >= 0).astype(float).tolist()) if task.kind == "multilabel" else int(logits.argmax())


def _shares(logits: Logits, task: Task) -> tuple[float, ...]:
    # Never 0 or 1, or the loss would take what it is for certain, which has nothing soft.
    if task.kind == "multilabel":
        return tuple(sigmoid(logits.astype(np.float64), 1.0).clip(1e-9, 1 - 1e-6).tolist())
    odds = np.exp(logits.astype(np.float64) - logits.max()).clip(1e-9)
    return tuple((odds / odds.sum()).tolist())


def _progress_counter(
    setting: Setting, rows: int, progress: Callable[[TrainingProgress], None] | None
) -> Callable[[Epoch | None], None]:
    """Return what counts a step, or takes down an epoch, and tells the caller."""
    now = TrainingProgress(0, setting.steps(rows), 1, 1)

    def told(epoch: Epoch | None) -> None:
        nonlocal now
        now = replace(now, epoch=epoch) if epoch else replace(now, done=now.done + 1)
        if progress:
            progress(now)

    return told


_ROUNDS = 5
_ROWS = 40


@dataclass(frozen=True, slots=True)
class StudentComparison:
    """One student beside another, in PyTorch and fp32.

    Attributes:
        bytes: Of each one's weights and tokenizer.
        texts_per_second: Of each, in a second of one core's time, rows scored one at a time and on one thread: the
            median of rounds in which they take turns.
        times_as_fast: The second's speed divided by the first's, the median of the rounds.
        change: What the second changes on the same human-coded rows; of a multilabel task these rows choose the
            thresholds of each.
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
        codes: Their codes.
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
    return readout_from_logits(logits, codes, task).labels(logits)


def _speed(student: Checkpoint, rows: Sequence[Mapping[str, str]]) -> float:
    """Texts per second of processor time, which other work on the machine touches least."""
    start = time.process_time()
    student.logits(rows[:_ROWS])
    return len(rows[:_ROWS]) / max(time.process_time() - start, 1e-9)


def _bytes(student: Checkpoint) -> int:
    return sum((student.folder / name).stat().st_size for name in ("model.safetensors", "tokenizer.json"))
