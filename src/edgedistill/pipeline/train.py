"""Training: the student, a baseline on the frozen encoder, and if asked for, an assistant and a smaller student."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgedistill.data.twins import same_row
from edgedistill.data.types import MixtureRow
from edgedistill.pipeline.folder import ASSISTANT, FROZEN, NANO_START, OVERLAP, SHRUNK, STUDENT
from edgedistill.pipeline.generate import read_synthetic
from edgedistill.pipeline.mix import read_mixture
from edgedistill.pipeline.run import Run
from edgedistill.project.schema import AssistantSection, ShrinkSection, StudentSection
from edgedistill.student import Epoch, TrainingProgress, Trial, backbone_folder, train_student
from edgedistill.student.assistant import Assistants, taught_rows, taught_section, train_assistants
from edgedistill.student.compression import compare_students, compress_student
from edgedistill.student.frozen import FrozenHead, fit_frozen, train_frozen_student, write_frozen
from edgedistill.student.nano import train_nano_student
from edgedistill.student.overlap import fit_overlap, has_references
from edgedistill_export.authors import TEACHER, Author
from edgedistill_export.checkpoint import Checkpoint

_SETTINGS = ("learning_rate", "batch_size", "epochs", "seed")
_FIGURES = ("epoch", "validation_loss", "validation_accuracy", "validation_macro_f1", "best")
_HEADER = (*_SETTINGS, *_FIGURES, "seconds", "outcome", "failure")


def train(run: Run) -> dict[str, Any]:
    """Train the student on `mixture.csv`; write `student/`, `trials.csv`, the baselines and `shrunk/`.

    Returns:
        The best trial, the baseline, the smaller student, the notes and the ids of the validation rows, which selected
        the student, for `run.json`.
    """
    section = run.project.student
    backbone = backbone_folder(section.backbone, run.project.folder)
    entry = _frozen(run, backbone) if section.kind == "frozen" else _trained(run, backbone)
    if section.shrink:
        entry["shrunk"] = shrink(run, section.shrink)
        entry["notes"] += entry["shrunk"].pop("notes")
    entry["selected_by"] = [row.response.id for row in run.validation]
    return entry


def _trained(run: Run, backbone: Path) -> dict[str, Any]:
    """Fine-tune the backbone, or train a nano student from the backbone's word embeddings."""
    task, section = run.task, run.student_section

    def on_progress(progress: TrainingProgress) -> None:
        run.on_progress("train: optimizer steps", progress.done, progress.total)

    mixture, validation = read_mixture(run.folder, task.inputs), run.validation
    rows: Sequence[MixtureRow] = mixture
    assistant: dict[str, Any] = {}
    notes: list[str] = []
    if section.assistant:
        rows, assistant = _taught(run, section, section.assistant, mixture)
        notes, section = assistant.pop("notes"), taught_section(section)
    folder, kept, nano = run.folder / STUDENT, (run.folder / "search.sqlite3").parent, None
    if section.kind == "nano":
        run.on_progress("train: the tokens of the nano student", 0, 1)
        texts, authors, _ = _texts(run)
        nano, trained = train_nano_student(
            rows,
            validation,
            task,
            section,
            backbone,
            folder,
            run.folder / NANO_START,
            texts=texts,
            authors=authors,
            kept=kept,
            progress=on_progress,
        )
    else:
        trained = train_student(rows, validation, task, section, backbone, folder, kept=kept, progress=on_progress)
    run.folder.write_csv("trials.csv", _table(trained.trials))
    run.on_progress("train: the frozen encoder", 0, 1)
    heads = fit_frozen(mixture, validation, task, section.token_limit, backbone)
    write_frozen(heads[0], task, section.token_limit, run.folder / FROZEN)
    baseline = _overlap(run, backbone)
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
        **({"assistant": assistant} if assistant else {}),
        "frozen": _describe_head(heads[0]),
        **({"nano": {name: getattr(nano, name) for name in ("tokens", "backbone_tokens", "width")}} if nano else {}),
        **baseline,
        "notes": [*notes, *trained.notes],
    }


def _taught(
    run: Run, student: StudentSection, section: AssistantSection, mixture: Sequence[MixtureRow]
) -> tuple[list[MixtureRow], dict[str, Any]]:
    """Train `assistant/`; return the rows that it teaches the student, and what `run.json` says of it."""

    def on_progress(progress: TrainingProgress) -> None:
        run.on_progress("train: optimizer steps of the assistant", progress.done, progress.total)

    backbone = backbone_folder(section.backbone, run.project.folder)
    kept, folder = run.folder / "search" / ASSISTANT, run.folder / ASSISTANT
    trained = train_assistants(
        mixture, run.validation, run.task, section, student, backbone, folder, kept=kept, progress=on_progress
    )
    texts, _, set_aside = _texts(run)
    run.on_progress("train: the assistant reads texts", 0, len(texts))
    rows = taught_rows(Assistants.load(folder, run.task, student.token_limit), mixture, texts)
    return rows, {
        "backbone": section.backbone,
        "seeds": list(section.seeds),
        "learning_rate": [each.best.learning_rate for each in trained],
        "epochs": [each.best.epochs for each in trained],
        "validation_macro_f1": [each.best.validation_macro_f1 for each in trained],
        "compared": [sum(len(trial.history) for trial in each.trials) for each in trained],
        "texts": len(rows),
        "texts_set_aside": set_aside,
        "notes": [f"Assistant: {note}" for each in trained for note in each.notes],
    }


def _frozen(run: Run, backbone: Path) -> dict[str, Any]:
    task, section = run.task, run.student_section
    run.on_progress("train: the frozen encoder", 0, 1)
    start = time.perf_counter()
    heads = train_frozen_student(
        read_mixture(run.folder, task.inputs),
        run.validation,
        task,
        section,
        backbone,
        run.folder / STUDENT,
    )
    write_frozen(heads[0], task, section.token_limit, run.folder / FROZEN)
    best = _describe_head(heads[0])
    # One line with the columns of a search; those of epochs and hyperparameters stay empty.
    line = ["", "", "", "", 1, *list(best.values())[2:], 1, f"{time.perf_counter() - start:.1f}", "done", ""]
    run.folder.write_csv("trials.csv", [list(_HEADER), line])
    return {
        "trials": len(heads),
        "tried": [_describe_head(head) for head in heads],
        "best": best,
        "frozen": best,
        **_overlap(run, backbone),
        "notes": [],
    }


def _overlap(run: Run, backbone: Path) -> dict[str, Any]:
    """Fit the overlap baseline of a task with reference answers, and return its entry."""
    task, max_tokens = run.task, run.max_tokens
    if not has_references(task):
        return {}
    run.on_progress("train: the overlap baseline", 0, 1)
    head = fit_overlap(read_mixture(run.folder, task.inputs), run.validation, task, max_tokens, backbone)
    write_frozen(head, task, max_tokens, run.folder / OVERLAP)
    return {"overlap": _describe_head(head)}


def _describe_head(head: FrozenHead) -> dict[str, Any]:
    return {
        "pooling": head.pooling,
        "penalty": head.penalty,
        "validation_loss": round(head.loss, 4),
        "validation_accuracy": round(head.accuracy, 4),
        "validation_macro_f1": round(head.macro_f1, 4),
    }


def _table(trials: Sequence[Trial]) -> list[list[object]]:
    """Return a line per epoch, and one for a trial that failed before its first epoch."""
    lines: list[list[object]] = [list(_HEADER)]
    for trial in trials:
        before = [getattr(trial, name) for name in _SETTINGS]
        after = [f"{trial.seconds:.1f}", trial.outcome, trial.failure]
        epochs = [[*_figures(epoch), int(epoch is trial.best)] for epoch in trial.history]
        lines += [[*before, *epoch, *after] for epoch in epochs or [[""] * len(_FIGURES)]]
    return lines


def _figures(epoch: Epoch) -> list[object]:
    return [epoch.epoch, f"{epoch.loss:.4f}", f"{epoch.accuracy:.4f}", f"{epoch.macro_f1:.4f}"]


def shrink(run: Run, section: ShrinkSection) -> dict[str, Any]:
    """Distil `student/` into the smaller `shrunk/`, and compare the two on validation rows in `shrinking.json`.

    Returns:
        Layers, texts, bytes, speed, the loss of agreement on validation rows, and notes.
    """
    task, max_tokens = run.task, run.max_tokens
    validation = run.validation
    rows = [dict(response.inputs) for response in validation.responses]
    texts, authors, set_aside = _texts(run)

    def on_progress(progress: TrainingProgress) -> None:
        run.on_progress("train: optimizer steps of the shrunk student", progress.done, progress.total)

    shrunk = compress_student(
        run.folder / STUDENT,
        run.folder / SHRUNK,
        texts,
        rows,
        task,
        section,
        max_tokens,
        authors=authors,
        progress=on_progress,
    )
    students = [Checkpoint.load(run.folder / name, task, max_tokens) for name in (STUDENT, SHRUNK)]
    compared = compare_students(students[0], students[1], rows, validation.labels)
    summary = {
        "layers": list(shrunk.layers),
        "texts": shrunk.texts,
        "texts_set_aside": set_aside,
        "best_epoch": shrunk.best.epoch,
        "vocabulary": asdict(shrunk.vocabulary) if shrunk.vocabulary else None,
        "bytes": {STUDENT: compared.bytes[0], SHRUNK: compared.bytes[1]},
        "texts_per_second": {STUDENT: compared.texts_per_second[0], SHRUNK: compared.texts_per_second[1]},
        "times_as_fast": compared.times_as_fast,
        "on_validation_rows": asdict(compared.change),
        "history": [asdict(epoch) for epoch in shrunk.history],
    }
    run.folder.write_json("shrinking.json", summary)
    return {**{name: value for name, value in summary.items() if name != "history"}, "notes": list(shrunk.notes)}


def _texts(run: Run) -> tuple[list[Mapping[str, str]], list[Author], dict[str, int]]:
    """Return every distinct text that may be trained on, its author, and the counts of those that may not."""
    splits = run.records.splits
    locked = {same_row(response.inputs) for split in (splits.validation, splits.test) for response in split.responses}
    texts: dict[tuple[str, ...], Mapping[str, str]] = {}
    authors: dict[tuple[str, ...], Author] = {}
    set_aside = {"duplicates a validation or test row": 0, "duplicates another text": 0}
    for inputs, author in _candidate_inputs(run):
        key = same_row(inputs)
        if key in locked:
            set_aside["duplicates a validation or test row"] += 1
        elif key in texts:
            set_aside["duplicates another text"] += 1
        else:
            texts[key], authors[key] = inputs, author
    return list(texts.values()), list(authors.values()), set_aside


def _candidate_inputs(run: Run) -> Iterator[tuple[Mapping[str, str], Author]]:
    # Learners' rows come first: a synthetic row with the same text is not the teacher's.
    for response in (*run.records.splits.train.responses, *run.records.unlabelled):
        yield response.inputs, response.group
    synthetic = read_synthetic(run.folder) if run.folder.has("synthetic.jsonl") else ()
    for row in (*read_mixture(run.folder, run.task.inputs), *synthetic):
        yield row.inputs, TEACHER if row.source == "synthetic" else None
