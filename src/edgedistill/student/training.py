"""Trains every setting of the search with every seed; the best epoch of the best trial becomes the student."""

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
from edgedistill.errors import SearchInterrupted, TrainingFailed
from edgedistill.project.student import LoraSection, StudentSection
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
    choose_architecture,
    load_model,
    load_tokenizer_and_padding,
    mark_response,
    note_other_task,
    quiet_transformers,
    truncation_of_student,
)
from edgedistill.student.presets import complete_search
from edgedistill.student.search import RunningTrial, Search, SearchProgress, quiet_optuna
from edgedistill.student.trial import default_speed_settings, run_trial
from edgedistill.student.types import Architecture, Epoch, SpeedSettings, TrainedStudent, TrainingProgress, Trial
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.task import Task

_FORMAT = 2
"""Increased when the same settings would give a different student, so that older trials are not reused."""


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
    """Fine-tune the backbone on the training set and keep the best epoch on the validation rows.

    Every setting of ``section.search`` runs with every seed of ``section.seeds``, for all its epochs unless it is
    pruned or stopped early. The student is the epoch with the highest validation macro-F1 of all trials; ties go to
    the lower validation loss, then to the earlier epoch. `trial.py` describes optimizer and schedule. The
    random generators of Python, NumPy and torch are seeded. A trial whose loss is not finite, or that runs out of
    memory, fails; the others continue.

    Args:
        mixture: Training rows; ``label`` is the hard target.
        validation: Human-coded rows that select the epoch. Test rows are refused.
        task: Its labels, in order, become the classes.
        section: Search or preset, seeds, loss and maximum length in tokens; its ``backbone`` is ignored.
        backbone: A folder as `backbone_folder` returns it.
        folder: The Hugging Face checkpoint to write: model.safetensors (fp32), config.json, tokenizer files. An
            existing student there is replaced at the end.
        kept: Folder for `search.sqlite3` and the best checkpoint so far. An interrupted search resumes from there, and
            several processes with the same rows and settings share its trials. None: store nothing.
        progress: Called after every optimizer step and every epoch.
        speed: Speed settings; None for this machine's defaults (docs/decisions/0003-training-levers.md).

    Raises:
        TrainingFailed: The rows cannot be used, the backbone cannot be loaded, or all trials failed.
        SearchInterrupted: A file cannot be written; finished trials are kept.
    """
    notes = check_rows(mixture, validation, task) + note_other_task(backbone, task)
    section = complete_search(section, len(mixture), backbone)
    architecture = choose_architecture(section.architecture, backbone, task)
    loss_function = build_loss(section.loss, task, mixture)
    check_replaceable(folder)
    speed = speed or default_speed_settings()
    name = _fingerprint(mixture, validation, task, section, architecture, backbone, speed)
    with quiet_transformers(), quiet_optuna(), beside(folder) as aside:
        padding = _prepare(backbone, task, section, architecture, aside)
        truncation = truncation_of_student(architecture, task)
        encoder = Encoder(aside / "tokenizer.json", section.token_limit, truncation)
        train_rows, eval_rows = mixture_rows(mixture, task, encoder), validation_rows(validation, task, encoder)
        search = Search(section.search, section.seeds, name, kept, kept / "search" if kept else aside / "search")
        work = _TrialRunner(
            backbone,
            task,
            padding,
            train_rows,
            eval_rows,
            speed,
            loss_function,
            section.patience,
            section.adapters,
            architecture,
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
    notes += note_truncated_rows(train_rows, "mixture", section.token_limit)
    notes += note_truncated_rows(eval_rows, "validation", section.token_limit)
    return TrainedStudent(folder, search.trials, best, speed, architecture, notes)


def _prepare(backbone: Path, task: Task, section: StudentSection, architecture: Architecture, aside: Path) -> Padding:
    model = load_model(backbone, task, section.adapters, architecture)
    padding = load_tokenizer_and_padding(backbone, model, aside)
    if architecture == "bi-encoder":
        mark_response(aside / "tokenizer.json")
    check_max_tokens(model, section.token_limit)
    return padding


def _fingerprint(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
    architecture: Architecture,
    backbone: Path,
    speed: SpeedSettings,
) -> str:
    """Everything that determines the trials and their results; the number of ``tpe`` trials may increase."""
    digest = hashlib.sha256()
    settings = section.model_dump(
        exclude={
            "architecture": True,
            "backbone": True,
            "kind": True,
            "preset": True,
            "assistant": True,
            "prior_correction": True,
            "shrink": True,
            "search": {"trials"},
        }
    )
    parts = [
        [_FORMAT, settings, architecture, msgspec.to_builtins(task), asdict(speed)],
        [[dict(row.inputs), row.label, dict(row.shares)] for row in mixture],
        [[dict(row.response.inputs), row.label] for row in validation],
    ]
    digest.update(json.dumps(parts, sort_keys=True).encode())
    digest.update(backbone_digests(backbone))
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _TrialRunner:
    """Runs trials.

    Attributes:
        backbone: The pretrained model's folder.
        task: The task.
        padding: The backbone's padding.
        train_rows: Encoded training rows.
        eval_rows: Encoded validation rows.
        speed: Speed settings.
        loss_function: The training loss.
        patience: Early stopping, in epochs; None: never.
        adapters: LoRA settings; None for full fine-tuning.
        architecture: How the student reads context and response.
        kept: The search's folder; None where nothing is stored.
        progress: Called with the progress of the search.
        notes: Messages from trials.
    """

    backbone: Path
    task: Task
    padding: Padding
    train_rows: Sequence[TrainingRow]
    eval_rows: Sequence[TrainingRow]
    speed: SpeedSettings
    loss_function: TrainingLoss
    patience: int | None
    adapters: LoraSection | None
    architecture: Architecture
    kept: Path | None
    progress: Callable[[TrainingProgress], None] | None
    notes: list[str] = field(default_factory=list)

    def run(self, search: Search, running: RunningTrial) -> None:
        """Run a trial and record its result."""
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
                load_model(self.backbone, self.task, self.adapters, self.architecture),
                self.padding,
                self.train_rows,
                self.eval_rows,
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
        except SearchInterrupted:
            raise
        except TrainingFailed as failure:
            search.fail(running, history, time.perf_counter() - start, failure)
            return
        search.finish(running, history, time.perf_counter() - start, early=early)


class _Pruned(Exception):
    """Stops a trial that the search prunes."""


def _best(search: Search) -> tuple[Trial, Path]:
    """The best trial and its checkpoint.

    Raises:
        TrainingFailed: All trials failed.
    """
    done = [trial for trial in search.trials if trial.outcome != "failed"]
    if done and search.best.checkpoint:
        return max(done, key=lambda trial: trial.best.selection_key), search.best.checkpoint
    first = search.trials[0]
    count = f"all {len(search.trials)} trials failed, the first because " if len(search.trials) > 1 else ""
    raise TrainingFailed(f"{count}{first.failure}", hint=first.hint)


class _ProgressReporter:
    """Counts the steps of all trials and reports progress."""

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
