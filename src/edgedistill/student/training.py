"""Every setting of the search with every seed; the best epoch of the best trial becomes the student."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from transformers import set_seed

from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.errors import SearchBrokenOff, TrainingFailed
from edgedistill.project.schema import LoraSection, StudentSection
from edgedistill.student.checkpoints import beside, copy_files, expect_replaceable, replacing
from edgedistill.student.data import Padding, TrainingRow, check_rows, mixture_rows, note_cut_rows, validation_rows
from edgedistill.student.losses import TrainingLoss, build_loss
from edgedistill.student.model import (
    backbone_digests,
    check_room,
    load_model,
    load_padding,
    note_other_task,
    transformers_quiet,
)
from edgedistill.student.search import Search, Standing, Taken, optuna_quiet
from edgedistill.student.trial import levers_here, run_trial
from edgedistill.student.types import Epoch, Levers, TrainedStudent, TrainingProgress, Trial
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.task import Task

_FORMAT = 1
"""Raised when the same settings would give another student, so that older trials do not count."""


def train_student(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
    backbone: Path,
    folder: Path,
    *,
    kept: Path | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
    levers: Levers | None = None,
) -> TrainedStudent:
    """Fine-tune the backbone on the mixture and keep what does best on the validation rows.

    Every setting of ``section.search`` is run with every seed of ``section.seeds``, each for all of its epochs unless
    it is pruned or ``section.patience`` runs out. The student is the epoch with the highest validation macro-F1 of all
    trials; of equals the one with the lower validation loss, then the one that came first. `trial.py` says what
    optimizer and schedule are used. Python's, numpy's and torch's random generators are seeded anew. A trial whose loss
    is no longer a number, or for which memory does not suffice, fails; the others go on.

    Args:
        mixture: Rows to learn from; ``label`` is what counts as right.
        validation: Human-coded rows to judge every epoch by. Test rows are refused.
        task: Its labels, in their order, become the student's classes.
        section: Search, seeds and the longest row in tokens; its ``backbone`` is not read.
        backbone: A folder as `backbone_folder` returns it.
        folder: Becomes the Hugging Face checkpoint: model.safetensors (fp32), config.json, tokenizer files. A student
            that is there already is replaced when training is over, and stays whole until then.
        kept: A folder for `search.sqlite3` and the best student so far. A search that was killed goes on from there,
            and several processes that call this with the same rows and settings share its trials. None: nothing is
            kept.
        progress: Called after every optimizer step and every epoch.
        levers: What makes training faster; None for what docs/decisions/0003-training-levers.md chose.

    Raises:
        TrainingFailed: Rows that cannot train or judge a student, a backbone that cannot be loaded, trials that all
            failed.
        SearchBrokenOff: Something cannot be written; the trials that are over are kept.
    """
    notes = check_rows(mixture, validation, task) + note_other_task(backbone, task)
    loss_function = build_loss(section.loss, task, mixture)
    _check_seeds(section.seeds)
    expect_replaceable(folder)
    levers = levers or levers_here()
    name = _fingerprint(mixture, validation, task, section, backbone, levers)
    with transformers_quiet(), optuna_quiet(), beside(folder) as aside:
        padding = _prepare(backbone, task, section, aside)
        encoder = Encoder(aside / "tokenizer.json", section.max_tokens)
        taught, judged = mixture_rows(mixture, task, encoder), validation_rows(validation, task, encoder)
        search = Search(section.search, section.seeds, name, kept, kept / "search" if kept else aside / "search")
        work = _Work(
            backbone,
            task,
            padding,
            taught,
            judged,
            levers,
            loss_function,
            section.patience,
            section.adapters,
            kept,
            progress,
        )
        while taken := search.take():
            try:
                work.run(search, taken)
            finally:
                taken.lock.release()
        best, checkpoint = _best(search)
        with replacing(folder) as new:
            for files in (aside, checkpoint):
                copy_files(files, new)
    notes += (*search.notes, *dict.fromkeys(work.notes))
    notes += note_cut_rows(taught, "mixture", section.max_tokens)
    notes += note_cut_rows(judged, "validation", section.max_tokens)
    return TrainedStudent(folder, search.trials, best, levers, notes)


def _check_seeds(seeds: Sequence[int]) -> None:
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise TrainingFailed(f"the seed {seed} is out of range", hint="Seeds are 0 to 4294967295.")


def _prepare(backbone: Path, task: Task, section: StudentSection, aside: Path) -> Padding:
    model = load_model(backbone, task, section.adapters)
    padding = load_padding(backbone, model, aside)
    check_room(model, section.max_tokens)
    return padding


def _fingerprint(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
    backbone: Path,
    levers: Levers,
) -> str:
    """What decides the outcome of a trial, and which trials there are; the number that tpe makes may grow."""
    told = hashlib.sha256()
    settings = section.model_dump(exclude={"backbone": True, "kind": True, "shrink": True, "search": {"trials"}})
    parts = [
        [_FORMAT, settings, msgspec.to_builtins(task), asdict(levers)],
        [[dict(row.inputs), row.label, dict(row.shares)] for row in mixture],
        [[dict(row.response.inputs), row.label] for row in validation],
    ]
    told.update(json.dumps(parts, sort_keys=True).encode())
    told.update(backbone_digests(backbone))
    return told.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Work:
    """What every trial is run on.

    Attributes:
        backbone: What it begins with.
        task: What is coded.
        padding: How the backbone pads.
        taught: Rows to learn from.
        judged: Rows to judge by.
        levers: What makes it faster.
        loss_function: What it makes small.
        patience: Epochs that may bring nothing before it ends; None for any number.
        adapters: What is trained in the place of the weights; None for the weights.
        kept: Where the search outlives this process; None where it does not.
        progress: Told how far the search is.
        notes: What trials had to say.
    """

    backbone: Path
    task: Task
    padding: Padding
    taught: Sequence[TrainingRow]
    judged: Sequence[TrainingRow]
    levers: Levers
    loss_function: TrainingLoss
    patience: int | None
    adapters: LoraSection | None
    kept: Path | None
    progress: Callable[[TrainingProgress], None] | None
    notes: list[str] = field(default_factory=list)

    def run(self, search: Search, taken: Taken) -> None:
        """Run one trial, and record how it ended."""
        start = time.perf_counter()
        account = _Account(search.standing(len(self.taught)), self.progress)
        history: list[Epoch] = []

        def on_epoch(epoch: Epoch, model: Any) -> None:
            history.append(epoch)
            if not search.best.beats(epoch.merit) and not taken.kept.beats(epoch.merit):
                taken.kept.write(epoch, model)
            account.take_epoch(epoch)
            if epoch.epoch < taken.setting.epochs and taken.falls_behind(epoch):
                raise _FellBehind

        early = False
        try:
            set_seed(taken.setting.seed)
            run_trial(
                load_model(self.backbone, self.task, self.adapters),
                self.padding,
                self.taught,
                self.judged,
                taken.setting,
                self.levers,
                on_step=account.count_step,
                on_epoch=on_epoch,
                loss_function=self.loss_function,
                patience=self.patience,
                keep=taken.kept.folder / "epochs" if self.kept else None,
                on_note=self.notes.append,
            )
        except _FellBehind:
            early = True
        except SearchBrokenOff:
            raise
        except TrainingFailed as failure:
            search.fail(taken, history, time.perf_counter() - start, failure)
            return
        search.finish(taken, history, time.perf_counter() - start, early=early)


class _FellBehind(Exception):
    """Ends a trial from within."""


def _best(search: Search) -> tuple[Trial, Path]:
    """The best trial and its checkpoint.

    Raises:
        TrainingFailed: There is none, for every trial failed.
    """
    done = [trial for trial in search.trials if trial.outcome != "failed"]
    if done and search.best.checkpoint:
        return max(done, key=lambda trial: trial.best.merit), search.best.checkpoint
    first = search.trials[0]
    count = f"all {len(search.trials)} trials failed, the first because " if len(search.trials) > 1 else ""
    raise TrainingFailed(f"{count}{first.failure}", hint=first.hint)


class _Account:
    """Counts the steps of all trials and tells the caller."""

    def __init__(self, standing: Standing, progress: Callable[[TrainingProgress], None] | None) -> None:
        self._standing, self._progress = standing, progress
        self._done = standing.steps
        self._epoch: Epoch | None = None
        self._tell()

    def count_step(self) -> None:
        self._done += 1
        self._tell()

    def take_epoch(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._tell()

    def _tell(self) -> None:
        if self._progress:
            standing = self._standing
            self._progress(
                TrainingProgress(self._done, standing.all_steps, standing.over + 1, standing.trials, self._epoch)
            )
