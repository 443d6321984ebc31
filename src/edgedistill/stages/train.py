"""Training: the mixture becomes a student."""

from collections.abc import Sequence
from typing import Any

from edgedistill.stages.mix import read_mixture
from edgedistill.stages.run import Run
from edgedistill.student import TrainingProgress, Trial, backbone_folder, train_student


def train(run: Run) -> dict[str, Any]:
    """Fine-tune the student on `mixture.csv`, write `student/` and `trials.csv`.

    Returns:
        The best trial and the notes for `run.json`.
    """
    task, section = run.project.task.task, run.project.student

    def told(progress: TrainingProgress) -> None:
        run.advance("train: optimizer steps", progress.done, progress.total)

    trained = train_student(
        read_mixture(run.folder, task.inputs),
        run.records.splits.validation,
        task,
        section,
        backbone_folder(section.backbone, run.project.folder),
        run.folder / "student",
        progress=told,
    )
    run.folder.write_csv("trials.csv", _table(trained.trials))
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
        "notes": list(trained.notes),
    }


def _table(trials: Sequence[Trial]) -> list[list[object]]:
    names = ["learning_rate", "batch_size", "epochs", "seed"]
    header: list[object] = [
        *names,
        "epoch",
        "validation_loss",
        "validation_accuracy",
        "validation_macro_f1",
        "best",
        "seconds",
    ]
    lines: list[list[object]] = [
        [
            *(getattr(trial, name) for name in names),
            epoch.epoch,
            f"{epoch.loss:.4f}",
            f"{epoch.accuracy:.4f}",
            f"{epoch.macro_f1:.4f}",
            int(epoch.epoch == trial.best_epoch),
            f"{trial.seconds:.1f}",
        ]
        for trial in trials
        for epoch in trial.history
    ]
    return [header, *lines]
