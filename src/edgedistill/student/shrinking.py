"""A second student with fewer layers and a cut vocabulary, taught by the first one's logits.

It begins with some of the first student's layers, its embeddings and its classifier, and learns the first student's
probabilities on every text there is: the softmax of the first's logits over a temperature is the label, cross-entropy
the loss, times the square of the temperature (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, sections 2 and 2.1). Of
a multilabel task each logit's logistic function is a label of its own.
The epoch is the one that says most often what the first student says, on the validation rows. No human code is read: on
a few hundred rows it would choose by chance (docs/decisions/0018-a-shrunk-student.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from transformers import set_seed

from edgedistill.errors import TrainingFailed
from edgedistill.project.shrink_section import ShrinkSection
from edgedistill.student.checkpoint import beside, expect_replaceable, replacing
from edgedistill.student.keeping import Kept, copy_files
from edgedistill.student.layers import write_with_layers
from edgedistill.student.levers import levers_here
from edgedistill.student.model import load_model, load_padding
from edgedistill.student.objectives import Objective
from edgedistill.student.quiet import transformers_quiet
from edgedistill.student.rows import TrainingRow
from edgedistill.student.trial import Setting, run_trial
from edgedistill.student.types import Epoch, Levers, TrainingProgress
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import ExportFailed
from edgedistill_export.parity import Logits
from edgedistill_export.vocabulary import VocabularyCut, cut_vocabulary
from edgedistill_serve.readout import sigmoid
from edgedistill_serve.task import Task, inputs_of


@dataclass(frozen=True, slots=True)
class Shrunk:
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
        return max(self.history, key=lambda epoch: epoch.merit)


def shrink_student(
    student: Path,
    folder: Path,
    texts: Sequence[Mapping[str, str]],
    validation: Sequence[Mapping[str, str]],
    task: Task,
    section: ShrinkSection,
    max_tokens: int,
    *,
    progress: Callable[[TrainingProgress], None] | None = None,
    levers: Levers | None = None,
) -> Shrunk:
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
        levers: What makes training faster; None for what docs/decisions/0003-training-levers.md chose.

    Raises:
        TrainingFailed: There is nothing to learn from, the student has no such layers, the loss is no longer a number.
        CheckpointError: The student's folder cannot be read.
        SearchBrokenOff: The smaller student cannot be written.
    """
    if not texts:
        raise TrainingFailed("there is no text to shrink the student with", mend="Leave student.shrink out.")
    expect_replaceable(folder)
    levers = levers or levers_here()
    first = Checkpoint.load(student, task, max_tokens)
    taught_by, judged_by = first.logits(texts), first.logits(validation)
    setting = Setting(section.learning_rate, section.batch_size, section.epochs, section.seed)
    with transformers_quiet(), beside(folder) as aside:
        begun, cut, notes = _with_vocabulary(first, texts, section, aside / "cut")
        layers = write_with_layers(begun.folder, task, section.kept, section.layers, aside / "begun")
        best = Kept(aside / "best")
        (aside / "tokenizer").mkdir()
        model = load_model(aside / "begun", task)
        padding = load_padding(begun.folder, model, aside / "tokenizer")
        told = _telling(setting, len(texts), progress)

        def on_epoch(epoch: Epoch, model: object) -> None:
            if not best.beats(epoch.merit):
                best.write(epoch, model)
            told(epoch)

        set_seed(setting.seed)
        history = run_trial(
            model,
            padding,
            _taught(begun, texts, taught_by),
            _judged(begun, validation, judged_by),
            setting,
            levers,
            on_step=lambda: told(None),
            on_epoch=on_epoch,
            objective=Objective(
                scale="multilabel" if task.kind == "multilabel" else "nominal",
                soft=1.0,
                temperature=section.temperature,
            ),
        )
        with replacing(folder) as new:
            for files in (aside / "tokenizer", best.checkpoint or aside):
                copy_files(files, new)
    return Shrunk(folder, tuple(layers), len(texts), cut, history, notes)


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
    encoded = student.encoder.encode([inputs_of(row, student.task) for row in rows])
    said = [_said(row, student.task) for row in logits]
    return sorted((TrainingRow(row, target) for row, target in zip(encoded, said, strict=True)), key=len)


def _taught(student: Checkpoint, texts: Sequence[Mapping[str, str]], logits: Logits) -> list[TrainingRow]:
    """Every text with the first student's probabilities as its soft label."""
    encoded = student.encoder.encode([inputs_of(text, student.task) for text in texts])
    return [
        TrainingRow(row, _said(scored, student.task), _shares(scored, student.task))
        for row, scored in zip(encoded, logits, strict=True)
    ]


def _said(logits: Logits, task: Task) -> int | tuple[float, ...]:
    """What the first student says of a row: its class; of a multilabel task which classes are likelier than not."""
    return tuple((logits >= 0).astype(float).tolist()) if task.kind == "multilabel" else int(logits.argmax())


def _shares(logits: Logits, task: Task) -> tuple[float, ...]:
    # Never 0 or 1, or the loss would take what it is for certain, which has nothing soft.
    if task.kind == "multilabel":
        return tuple(sigmoid(logits.astype(np.float64), 1.0).clip(1e-9, 1 - 1e-6).tolist())
    odds = np.exp(logits.astype(np.float64) - logits.max()).clip(1e-9)
    return tuple((odds / odds.sum()).tolist())


def _telling(
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
