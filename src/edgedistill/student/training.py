"""Every setting of the search with every seed; the best epoch of the best trial becomes the student."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from transformers import set_seed

from edgedistill.errors import TrainingFailed
from edgedistill.project.sections import StudentSection
from edgedistill.records.types import MixtureRow, ValidationRows
from edgedistill.student.checkpoint import BestStudent, replacing
from edgedistill.student.checks import check_rows, note_cut_rows
from edgedistill.student.levers import levers_here
from edgedistill.student.model import check_room, load_model, load_padding
from edgedistill.student.quiet import transformers_quiet
from edgedistill.student.rows import Padding, mixture_rows, validation_rows
from edgedistill.student.trial import Setting, run_trial
from edgedistill.student.types import Epoch, Levers, TrainedStudent, TrainingProgress, Trial
from edgedistill_serve.encoding import Encoder
from edgedistill_serve.task import Task


def train_student(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
    backbone: Path,
    folder: Path,
    *,
    progress: Callable[[TrainingProgress], None] | None = None,
    levers: Levers | None = None,
) -> TrainedStudent:
    """Fine-tune the backbone on the mixture and keep what does best on the validation rows.

    Every combination of ``section.search`` is run with every seed of ``section.seeds``, each for all of its epochs. The
    student is the epoch with the highest validation macro-F1 of all trials; of equals the one with the lower validation
    loss, then the one that came first. `trial.py` says what optimizer and schedule are used. Python's, numpy's and
    torch's random generators are seeded anew.

    Args:
        mixture: Rows to learn from; ``label`` is what counts as right.
        validation: Human-coded rows to judge every epoch by. Test rows are refused.
        task: Its labels, in their order, become the student's classes.
        section: Search, seeds and the longest row in tokens; its ``backbone`` is not read.
        backbone: A folder as `backbone_folder` returns it.
        folder: Becomes the Hugging Face checkpoint: model.safetensors (fp32), config.json, tokenizer files. A student
            that is there already is replaced when training is over, and stays whole until then.
        progress: Called after every optimizer step and every epoch.
        levers: What makes training faster; None for what docs/decisions/0003-training-levers.md chose.

    Raises:
        TrainingFailed: Rows that cannot train or judge a student, a backbone that cannot be loaded, a loss that is no
            number, too little memory, a folder that cannot be written.
    """
    notes = check_rows(mixture, validation, task)
    settings = _settings(section)
    levers = levers or levers_here()
    with transformers_quiet(), replacing(folder) as aside:
        padding = _prepare(backbone, task, section.max_tokens, aside)
        encoder = Encoder(aside / "tokenizer.json", section.max_tokens)
        taught, judged = mixture_rows(mixture, task, encoder), validation_rows(validation, task, encoder)
        best = BestStudent(aside)
        account = _Account(settings, len(taught), progress)
        trials = []
        for setting in settings:
            start = time.perf_counter()
            account.begin_trial()
            set_seed(setting.seed)
            history = run_trial(
                load_model(backbone, task),
                padding,
                taught,
                judged,
                setting,
                levers,
                on_step=account.count_step,
                on_epoch=_both(account.take_epoch, best.offer),
            )
            trials.append(Trial(**asdict(setting), history=history, seconds=time.perf_counter() - start))
    notes += note_cut_rows(taught, "mixture", section.max_tokens)
    notes += note_cut_rows(judged, "validation", section.max_tokens)
    return TrainedStudent(folder, tuple(trials), max(trials, key=lambda trial: trial.best.merit), levers, notes)


def _settings(section: StudentSection) -> list[Setting]:
    for seed in section.seeds:
        if not 0 <= seed < 2**32:
            raise TrainingFailed(f"the seed {seed} is out of range", mend="Seeds are 0 to 4294967295.")
    search = section.search
    return [
        Setting(*values) for values in product(search.learning_rate, search.batch_size, search.epochs, section.seeds)
    ]


def _prepare(backbone: Path, task: Task, max_tokens: int, aside: Path) -> Padding:
    model = load_model(backbone, task)
    padding = load_padding(backbone, model, aside)
    check_room(model, max_tokens)
    return padding


def _both(first: Callable[[Epoch], None], second: Callable[[Epoch, Any], None]) -> Callable[[Epoch, Any], None]:
    def on_epoch(epoch: Epoch, model: Any) -> None:
        second(epoch, model)
        first(epoch)

    return on_epoch


class _Account:
    """Counts the steps of all trials and tells the caller."""

    def __init__(
        self, settings: Sequence[Setting], rows: int, progress: Callable[[TrainingProgress], None] | None
    ) -> None:
        self._total = sum(setting.steps(rows) for setting in settings)
        self._trials = len(settings)
        self._progress = progress
        self._done, self._trial = 0, 0
        self._epoch: Epoch | None = None

    def begin_trial(self) -> None:
        self._trial, self._epoch = self._trial + 1, None
        self._tell()

    def count_step(self) -> None:
        self._done += 1
        self._tell()

    def take_epoch(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._tell()

    def _tell(self) -> None:
        if self._progress:
            self._progress(TrainingProgress(self._done, self._total, self._trial, self._trials, self._epoch))
