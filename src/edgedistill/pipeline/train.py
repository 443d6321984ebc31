"""Training: the mixture becomes a student, beside a baseline and, where it is wanted, a smaller student."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedistill.pipeline.compress import shrink
from edgedistill.pipeline.folder import FROZEN
from edgedistill.pipeline.mix import read_mixture
from edgedistill.pipeline.run import Run
from edgedistill.student import Epoch, TrainingProgress, Trial, backbone_folder, train_student
from edgedistill.student.frozen import FrozenHead, fit_frozen, train_frozen_student, write_frozen

"""The classifier of the frozen encoder, as `edgedistill.student.frozen.predict_frozen` reads it."""


_SETTINGS = ("learning_rate", "batch_size", "epochs", "seed")
_FIGURES = ("epoch", "validation_loss", "validation_accuracy", "validation_macro_f1", "best")
_HEADER = (*_SETTINGS, *_FIGURES, "seconds", "outcome", "failure")


def train(run: Run) -> dict[str, Any]:
    """Make the student from `mixture.csv`; write `student/`, `trials.csv`, `frozen.safetensors`, and `shrunk/`.

    Returns:
        The best trial, the baseline, the smaller student and the notes, for `run.json`.
    """
    section = run.project.student
    backbone = backbone_folder(section.backbone, run.project.folder)
    entry = _frozen(run, backbone) if section.kind == "frozen" else _fine_tuned(run, backbone)
    if section.shrink:
        entry["shrunk"] = shrink(run, section.shrink)
        entry["notes"] += entry["shrunk"].pop("notes")
    return entry


def _fine_tuned(run: Run, backbone: Path) -> dict[str, Any]:
    task, section = run.project.task.task, run.project.student

    def told(progress: TrainingProgress) -> None:
        run.advance("train: optimizer steps", progress.done, progress.total)

    mixture, validation = read_mixture(run.folder, task.inputs), run.records.splits.validation
    trained = train_student(
        mixture, validation, task, section, backbone, run.folder / "student", kept=run.folder.path, progress=told
    )
    run.folder.write_csv("trials.csv", _table(trained.trials))
    run.advance("train: the frozen encoder", 0, 1)
    heads = fit_frozen(mixture, validation, task, section.max_tokens, backbone)
    write_frozen(heads[0], task, section.max_tokens, run.folder / FROZEN)
    best = trained.best
    return {
        "trials": len(trained.trials),
        "best": {
            "learning_rate": best.learning_rate,
            "batch_size": best.batch_size,
            "epochs": best.epochs,
            "seed": best.seed,
            "best_epoch": best.best_epoch,
            "validation_macro_f1": best.validation_macro_f1,
        },
        "frozen": _told(heads[0]),
        "notes": list(trained.notes),
    }


def _frozen(run: Run, backbone: Path) -> dict[str, Any]:
    task, section = run.project.task.task, run.project.student
    run.advance("train: the frozen encoder", 0, 1)
    start = time.perf_counter()
    heads = train_frozen_student(
        read_mixture(run.folder, task.inputs),
        run.records.splits.validation,
        task,
        section,
        backbone,
        run.folder / "student",
    )
    write_frozen(heads[0], task, section.max_tokens, run.folder / FROZEN)
    best = _told(heads[0])
    # One line, with what it has of a search's columns: there is no epoch to tell.
    line = ["", "", "", "", 1, *list(best.values())[2:], 1, f"{time.perf_counter() - start:.1f}", "done", ""]
    run.folder.write_csv("trials.csv", [list(_HEADER), line])
    return {"trials": len(heads), "tried": [_told(head) for head in heads], "best": best, "frozen": best, "notes": []}


def _told(head: FrozenHead) -> dict[str, Any]:
    return {
        "pooling": head.pooling,
        "penalty": head.penalty,
        "validation_loss": round(head.loss, 4),
        "validation_accuracy": round(head.accuracy, 4),
        "validation_macro_f1": round(head.macro_f1, 4),
    }


def _table(trials: Sequence[Trial]) -> list[list[object]]:
    """A line for every epoch; a trial that failed before its first has one, too."""
    lines: list[list[object]] = [list(_HEADER)]
    for trial in trials:
        before = [getattr(trial, name) for name in _SETTINGS]
        after = [f"{trial.seconds:.1f}", trial.outcome, trial.failure]
        made = [[*_figures(epoch), int(epoch is trial.best)] for epoch in trial.history]
        lines += [[*before, *epoch, *after] for epoch in made or [[""] * len(_FIGURES)]]
    return lines


def _figures(epoch: Epoch) -> list[object]:
    return [epoch.epoch, f"{epoch.loss:.4f}", f"{epoch.accuracy:.4f}", f"{epoch.macro_f1:.4f}"]
