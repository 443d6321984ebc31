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
from edgedistill.student.checkpoints import beside, check_replaceable, copy_files, replacing
from edgedistill.student.data import (
    Padding,
    TrainingRow,
    check_rows,
    mixture_rows,
    note_truncated_rows,
    validation_rows,
)
from edgedistill.student.losses import TrainingLoss, build_loss
from edgedistill.student.model import (
    backbone_digests,
    check_max_tokens,
    load_model,
    load_tokenizer_and_padding,
    note_other_task,
    quiet_transformers,
)
from edgedistill.student.search import RunningTrial, Search, SearchProgress, quiet_optuna
from edgedistill.student.trial import default_speed_settings, run_trial
from edgedistill.student.types import Epoch, SpeedSettings, TrainedStudent, TrainingProgress, Trial
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
    speed: SpeedSettings | None = None,
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
        speed: What makes training faster; None for what docs/decisions/0003-training-levers.md chose.

    Raises:
        TrainingFailed: Rows that cannot train or judge a student, a backbone that cannot be loaded, trials that all
            failed.
        SearchBrokenOff: Something cannot be written; the trials that are over are kept.
    """
    notes = check_rows(mixture, validation, task) + note_other_task(backbone, task)
    loss_function = build_loss(section.loss, task, mixture)
    _check_seeds(section.seeds)
    check_replaceable(folder)
    speed = speed or default_speed_settings()
    name = _fingerprint(mixture, validation, task, section, backbone, speed)
    with quiet_transformers(), quiet_optuna(), beside(folder) as aside:
        padding = _prepare(backbone, task, section, aside)
        encoder = Encoder(aside / "tokenizer.json", section.max_tokens)
        train_rows, judged = mixture_rows(mixture, task, encoder), validation_rows(validation, task, encoder)
        search = Search(section.search, section.seeds, name, kept, kept / "search" if kept else aside / "search")
        work = _TrialRunner(
            backbone,
            task,
            padding,
            train_rows,
            judged,
            speed,
            loss_function,
            section.patience,
            section.adapters,
            kept,
            progress,
        )
        while running := search.take():
            try:
                work.run(search, running)
            finally:
                running.lock.release()
        best, checkpoint = _best(search)
        with replacing(folder) as new:
            for files in (aside, checkpoint):
                copy_files(files, new)
    notes += (*search.notes, *dict.fromkeys(work.notes))
    notes += note_truncated_rows(train_rows, "mixture", section.max_tokens)
    notes += note_truncated_rows(judged, "validation", section.max_tokens)
    return TrainedStudent(folder, search.trials, best, speed, notes)


def _check_seeds(seeds: Sequence[int]) -> None:
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise TrainingFailed(f"the seed {seed} is out of range", hint="Seeds are 0 to 4294967295.")


def _prepare(backbone: Path, task: Task, section: StudentSection, aside: Path) -> Padding:
    model = load_model(backbone, task, section.adapters)
    padding = load_tokenizer_and_padding(backbone, model, aside)
    check_max_tokens(model, section.max_tokens)
    return padding


def _fingerprint(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
    backbone: Path,
    speed: SpeedSettings,
) -> str:
    """What decides the outcome of a trial, and which trials there are; the number that tpe makes may grow."""
    told = hashlib.sha256()
    settings = section.model_dump(exclude={"backbone": True, "kind": True, "shrink": True, "search": {"trials"}})
    parts = [
        [_FORMAT, settings, msgspec.to_builtins(task), asdict(speed)],
        [[dict(row.inputs), row.label, dict(row.shares)] for row in mixture],
        [[dict(row.response.inputs), row.label] for row in validation],
    ]
    told.update(json.dumps(parts, sort_keys=True).encode())
    told.update(backbone_digests(backbone))
    return told.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _TrialRunner:
    """What every trial is run on.

    Attributes:
        backbone: What it begins with.
        task: What is coded.
        padding: How the backbone pads.
        train_rows: Rows to learn from.
        judged: Rows to judge by.
        speed: What makes it faster.
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
    train_rows: Sequence[TrainingRow]
    judged: Sequence[TrainingRow]
    speed: SpeedSettings
    loss_function: TrainingLoss
    patience: int | None
    adapters: LoraSection | None
    kept: Path | None
    progress: Callable[[TrainingProgress], None] | None
    notes: list[str] = field(default_factory=list)

    def run(self, search: Search, running: RunningTrial) -> None:
        """Run one trial, and record how it ended."""
        start = time.perf_counter()
        account = _ProgressReporter(search.progress_so_far(len(self.train_rows)), self.progress)
        history: list[Epoch] = []

        def on_epoch(epoch: Epoch, model: Any) -> None:
            history.append(epoch)
            if not search.best.is_at_least(epoch.selection_key) and not running.kept.is_at_least(epoch.selection_key):
                running.kept.write(epoch, model)
            account.take_epoch(epoch)
            if epoch.epoch < running.setting.epochs and running.should_prune(epoch):
                raise _Pruned

        early = False
        try:
            set_seed(running.setting.seed)
            run_trial(
                load_model(self.backbone, self.task, self.adapters),
                self.padding,
                self.train_rows,
                self.judged,
                running.setting,
                self.speed,
                on_step=account.count_step,
                on_epoch=on_epoch,
                loss_function=self.loss_function,
                patience=self.patience,
                keep=running.kept.folder / "epochs" if self.kept else None,
                on_note=self.notes.append,
            )
        except _Pruned:
            early = True
        except SearchBrokenOff:
            raise
        except TrainingFailed as failure:
            search.fail(running, history, time.perf_counter() - start, failure)
            return
        search.finish(running, history, time.perf_counter() - start, early=early)


class _Pruned(Exception):
    """Ends a trial from within."""


def _best(search: Search) -> tuple[Trial, Path]:
    """The best trial and its checkpoint.

    Raises:
        TrainingFailed: There is none, for every trial failed.
    """
    done = [trial for trial in search.trials if trial.outcome != "failed"]
    if done and search.best.checkpoint:
        return max(done, key=lambda trial: trial.best.selection_key), search.best.checkpoint
    first = search.trials[0]
    count = f"all {len(search.trials)} trials failed, the first because " if len(search.trials) > 1 else ""
    raise TrainingFailed(f"{count}{first.failure}", hint=first.hint)


class _ProgressReporter:
    """Counts the steps of all trials and tells the caller."""

    def __init__(self, progress_so_far: SearchProgress, progress: Callable[[TrainingProgress], None] | None) -> None:
        self._standing, self._progress = progress_so_far, progress
        self._done = progress_so_far.steps
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
            progress_so_far = self._standing
            self._progress(
                TrainingProgress(
                    self._done, progress_so_far.all_steps, progress_so_far.over + 1, progress_so_far.trials, self._epoch
                )
            )
