"""The assistant: a large student that teaches the small one.

A small student learns more from a large one's probabilities for many texts than from a few hundred labels (Turc et al.
2019, arXiv:1908.08962; Mirzadeh et al. 2020, arXiv:1902.03393). One assistant is fine-tuned per seed on the training
set; their mean probabilities are the soft labels of every text that may be trained on, coded or not. Where the
student's label shares are corrected, so are those of the assistants, before they teach.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, softmax

from edgedistill.data.twins import same_row
from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.project.student import AssistantSection, LossSection, StudentSection
from edgedistill.student.prior_correction import PriorCorrection, correct_prior
from edgedistill.student.training import train_student
from edgedistill.student.types import TrainedStudent, TrainingProgress
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.task import Task, join_labels

_LEAST_SHARE = 1e-6
"""Shares are never exactly 0 or 1, because the losses take such a row for one with a hard label."""


@dataclass(frozen=True, slots=True)
class TrainedAssistant:
    """What `train_assistants` made.

    Attributes:
        seed: Its seed.
        trained: Its training.
        corrected: What was done with its label shares; None where those of the student are not corrected either.
    """

    seed: int
    trained: TrainedStudent
    corrected: PriorCorrection | None


def train_assistants(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: AssistantSection,
    student: StudentSection,
    backbone: Path,
    folder: Path,
    *,
    kept: Path | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> tuple[TrainedAssistant, ...]:
    """Fine-tune one assistant per seed, each in a folder ``seed-N`` of ``folder``, and correct its label shares.

    Args:
        mixture: Training rows.
        validation: Human-coded rows that select each assistant's epoch.
        task: The task.
        section: The assistant's settings.
        student: The student's settings: the assistant has the same loss, reads as many tokens, and its label shares
            are corrected where the student's are (`edgedistill.student.prior_correction`).
        backbone: The assistant's backbone, a folder.
        folder: Where the assistants are written.
        kept: As in `train_student`; each seed has a folder of its own.
        progress: Called with the progress over all seeds.

    Raises:
        TrainingFailed: As `train_student` and `correct_prior` raise it.
        SearchInterrupted: A file cannot be written; finished assistants are kept.
    """
    for other in set(folder.glob("seed-*")) - {folder / f"seed-{seed}" for seed in section.seeds}:
        shutil.rmtree(other)  # of an earlier run: it would teach, too
    made = []
    for number, seed in enumerate(section.seeds):

        def over_all(now: TrainingProgress, before: int = number) -> None:
            if progress:
                total = now.total * len(section.seeds)
                progress(TrainingProgress(before * now.total + now.done, total, now.trial, now.trials, now.epoch))

        own = {"preset": section.preset, "search": section.search, "seeds": (seed,)}
        others = {"kind": "fine-tuned", "architecture": "auto", "assistant": None, "peft": None}
        settings = student.model_copy(update=own | others)
        name = f"seed-{seed}"
        stored = kept / name if kept else None
        try:
            trained = train_student(
                mixture, validation, task, settings, backbone, folder / name, kept=stored, progress=over_all
            )
        except TrainingFailed as failure:
            raise _of_the_assistant(failure) from failure
        made.append(TrainedAssistant(seed, trained, correct_prior(folder / name, mixture, validation, task, settings)))
    return tuple(made)


def _of_the_assistant(failure: TrainingFailed) -> TrainingFailed:
    """Return a failure whose message names the assistant: training speaks of the student and its backbone."""
    hint = (failure.hint or "").replace("student.backbone", "student.assistant")
    return TrainingFailed(f"the assistant: {failure.what}", where=failure.where or "student.assistant", hint=hint)


@dataclass(frozen=True, slots=True)
class Assistants:
    """Assistants with different seeds, whose probabilities are averaged.

    Attributes:
        students: At least one; all of the same task.
    """

    students: tuple[Checkpoint, ...]

    @classmethod
    def load(cls, folder: Path, task: Task, max_tokens: int) -> "Assistants":
        """Read the assistants that `train_assistants` wrote.

        Raises:
            CheckpointError: A folder cannot be read.
        """
        return cls(tuple(Checkpoint.load(each, task, max_tokens) for each in sorted(folder.glob("seed-*"))))

    @property
    def task(self) -> Task:
        """The task."""
        return self.students[0].task

    def probabilities(self, rows: Sequence[Mapping[str, str]]) -> npt.NDArray[np.float64]:
        """Return mean probabilities of shape (rows, labels): of a softmax, or for a multilabel task of sigmoids."""
        given = [student.logits(rows).astype(np.float64) for student in self.students]
        shares = [expit(each) if self._is_multilabel else softmax(each, axis=1) for each in given]
        return np.asarray(np.mean(shares, axis=0))

    def logits(self, rows: Sequence[Mapping[str, str]]) -> npt.NDArray[np.float64]:
        """Return logits of shape (rows, labels) with the mean probabilities."""
        shares = np.clip(self.probabilities(rows), _LEAST_SHARE, 1 - _LEAST_SHARE)
        return np.asarray(logit(shares) if self._is_multilabel else np.log(shares))

    @property
    def _is_multilabel(self) -> bool:
        return self.task.kind == "multilabel"


def taught_rows(
    assistants: Assistants, mixture: Sequence[MixtureRow], texts: Sequence[Mapping[str, str]]
) -> list[MixtureRow]:
    """Return the student's training set: every text, with the assistants' probabilities as its soft label.

    Args:
        assistants: Who teaches.
        mixture: The training set; its rows keep their ids and sources.
        texts: The task's inputs of other texts; those that equal a row of the mixture are left out.

    Raises:
        TrainingFailed: The assistants give all of them the same label.
    """
    task = assistants.task
    known = {same_row(row.inputs) for row in mixture}
    others = [inputs for inputs in texts if same_row(inputs) not in known]
    rows = [(row.id, row.inputs, row.source) for row in mixture]
    rows += [(f"text-{number}", inputs, "teacher") for number, inputs in enumerate(others, 1)]
    shares = assistants.probabilities([dict(inputs) for _, inputs, _ in rows])
    if task.kind == "multilabel":
        soft = np.clip(shares, _LEAST_SHARE, 1 - _LEAST_SHARE)
        labels = [
            join_labels([name for name, share in zip(task.names, row, strict=True) if share >= 0.5], task)
            for row in soft
        ]
    else:
        soft = shares + _LEAST_SHARE
        soft /= soft.sum(axis=1, keepdims=True)
        labels = [task.names[place] for place in soft.argmax(axis=1)]
    if len(set(labels)) == 1:
        raise TrainingFailed(
            f"the assistant gives all {len(labels)} texts the label {labels[0]!r}: it has not learnt the task",
            where="student.assistant",
            hint="Train it longer (preset: thorough), code more rows, or remove assistant.",
        )
    return [
        MixtureRow(ident, inputs, label, source, dict(zip(task.names, row.tolist(), strict=True)))
        for (ident, inputs, source), label, row in zip(rows, labels, soft, strict=True)
    ]


def taught_section(student: StudentSection) -> StudentSection:
    """Return the student's settings for learning from an assistant: its probabilities are the targets."""
    loss = LossSection(targets="soft", ordinal=student.loss.ordinal)
    return student.model_copy(update={"loss": loss, "assistant": None})
