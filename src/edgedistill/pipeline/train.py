"""Training: the student, a baseline on the frozen encoder, and if asked for, an assistant and a smaller student."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgedistill.data.twins import same_row
from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.pipeline.folder import ASSISTANT, CUT_BACKBONE, FROZEN, NANO_START, OVERLAP, SHRUNK, SIZES, STUDENT
from edgedistill.pipeline.generate import read_synthetic
from edgedistill.pipeline.mix import read_mixture
from edgedistill.pipeline.run import Run
from edgedistill.project.student import AssistantSection, SearchSection, ShrinkSection, Size, StudentSection
from edgedistill.report.next_steps import TRAIN_AGAIN
from edgedistill.report.verdict import describe_failure
from edgedistill.sizes import SIZES_FILE, size_folder, size_name
from edgedistill.student import Epoch, TrainingProgress, Trial, backbone_folder, train_student
from edgedistill.student.assistant import Assistants, taught_rows, taught_section, train_assistants
from edgedistill.student.checkpoints import copy_files, replacing
from edgedistill.student.compression import CompressedStudent, compare_students, compress_student
from edgedistill.student.cut_backbone import cut_backbone
from edgedistill.student.frozen import FrozenHead, fit_frozen, train_frozen_student, write_frozen
from edgedistill.student.label_thresholds import choose_label_decoder
from edgedistill.student.model import encoder_parameters
from edgedistill.student.nano import NanoStart, train_nano_student
from edgedistill.student.overlap import fit_overlap, has_references
from edgedistill.student.prior_correction import correct_prior, prior_correction_summary
from edgedistill.student.sizes import check_sizes, choose_size, with_soft_labels
from edgedistill.student.types import TrainedStudent
from edgedistill_export.authors import TEACHER, Author
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.quantize.vocabulary import VocabularyCut
from edgedistill_serve.bundle.manifest import Precision

_SETTINGS = ("learning_rate", "batch_size", "epochs", "seed")
_FIGURES = ("epoch", "validation_loss", "validation_accuracy", "validation_macro_f1", "best")
_HEADER = (*_SETTINGS, *_FIGURES, "seconds", "outcome", "failure")


def train(run: Run) -> dict[str, Any]:
    """Train the student on `mixture.csv`; write `student/`, `trials.csv`, the baselines and `shrunk/`.

    Returns:
        The best trial, the baseline, the smaller student, the prior corrections, the notes and the ids of the
        validation rows, which selected the student, for `run.json`.
    """
    section = run.project.student
    backbone, cut = _backbone(run)
    if section.sizes:
        entry = _several_sizes(run, backbone, section.sizes)
    else:
        entry = _frozen(run, backbone) if section.kind == "frozen" else _trained(run, backbone)
    if cut:
        entry["vocabulary"] = asdict(cut)
        entry["notes"].append(
            f"The student was trained with {cut.pieces:,} of the backbone's {cut.pieces_before:,} tokens."
        )
    if section.shrink:
        entry["shrunk"] = shrink(run, section.shrink)
        entry["notes"] += entry["shrunk"].pop("notes")
        entry["prior_correction"] += entry["shrunk"].pop("prior_correction")
    entry["notes"] += dict.fromkeys(
        f"The label shares of the student were not corrected: {each['note']} (student.prior_correction)."
        for each in entry["prior_correction"]
        if each["note"]
    )
    entry["notes"] += _one_label(run)
    entry["selected_by"] = [row.response.id for row in run.validation]
    return entry


def _one_label(run: Run) -> Iterator[str]:
    """Yield a sentence if the student gives all validation rows one label, although human coders give several."""
    validation = run.validation
    if len(set(validation.labels)) < 2:
        return
    student = Checkpoint.load(run.folder / STUDENT, run.task, run.max_tokens)
    decoder = choose_label_decoder(student, validation)
    found = {*decoder.labels(student.logits([dict(row.response.inputs) for row in validation]))}
    if len(found) == 1:
        failure = describe_failure("validation", found.pop())
        yield f"{failure[0].upper()}{failure[1:]} {TRAIN_AGAIN}"


def _backbone(run: Run) -> tuple[Path, VocabularyCut | None]:
    """Return the backbone's folder, and what was cut from its vocabulary where the project asks for it."""
    section = run.project.student
    backbone = backbone_folder(section.backbone, run.project.folder)
    if section.vocabulary == "full":
        return backbone, None
    run.on_progress("train: the vocabulary is cut", 0, 1)
    texts, authors, _ = _texts(run)
    folder = run.folder / CUT_BACKBONE
    return folder, cut_backbone(backbone, folder, texts, run.task, authors=authors)


def _trained(run: Run, backbone: Path) -> dict[str, Any]:
    """Fine-tune the backbone, or train a nano student from the backbone's word embeddings."""
    mixture, validation = read_mixture(run.folder, run.task.inputs), run.validation
    rows, section, assistant, notes = _with_assistant(run, mixture)
    folder, nano = run.folder / STUDENT, None
    if section.kind == "nano":
        texts, authors, _ = _texts(run)
        nano, trained = _nano(run, backbone, rows, texts, authors, section, folder)
    else:
        trained = _fine_tuned(run, backbone, rows, section, folder)
    corrected = _corrected(run, mixture, folder, "student")
    run.folder.write_csv("trials.csv", _table(trained.trials))
    head, baseline = _frozen_baseline(run, mixture, validation), _overlap(run)
    return {
        "trials": len(trained.trials),
        "best": _describe_trial(trained.best),
        "architecture": trained.architecture,
        **assistant,
        "frozen": _describe_head(head),
        **({"nano": {name: getattr(nano, name) for name in ("tokens", "backbone_tokens", "width")}} if nano else {}),
        **baseline,
        "prior_correction": corrected,
        "notes": [*notes, *trained.notes, *_frozen_is_as_good(head, trained.best.validation_macro_f1)],
    }


def _corrected(run: Run, mixture: Sequence[MixtureRow], folder: Path, name: str) -> list[dict[str, Any]]:
    """Correct the label shares of a finished student, and return its entry; none if that is not wanted."""
    with run.counting("train: label shares", len(run.validation)):
        found = correct_prior(folder, mixture, run.validation, run.task, run.student_section)
    return [{"student": name, **prior_correction_summary(found)}] if found else []


def _with_assistant(
    run: Run, mixture: Sequence[MixtureRow]
) -> tuple[Sequence[MixtureRow], StudentSection, dict[str, Any], list[str]]:
    """Return the rows and settings that a student is trained with, the assistant's entry, and notes."""
    section = run.student_section
    if section.assistant is None:
        return mixture, section, {}, []
    rows, assistant = _taught(run, section, section.assistant, mixture)
    notes: list[str] = assistant.pop("notes")
    return rows, taught_section(section), {"assistant": assistant}, notes


def _frozen_is_as_good(head: FrozenHead, macro_f1: float) -> Iterator[str]:
    """Yield what to change where training the student was not better than fitting a classifier."""
    if head.macro_f1 >= macro_f1:
        yield (
            f"On the validation rows, a classifier on the frozen encoder is as good as the student (macro-F1 "
            f"{head.macro_f1:.3f} and {macro_f1:.3f}): training it did not pay off. Train longer (student.preset: "
            "thorough), code or label more rows, or let student.sizes choose, such as [nano, frozen, 6]."
        )


def _fine_tuned(
    run: Run, backbone: Path, rows: Sequence[MixtureRow], section: StudentSection, folder: Path
) -> TrainedStudent:
    kept = (run.folder / "search.sqlite3").parent

    def on_progress(progress: TrainingProgress) -> None:
        run.on_progress("train: optimizer steps", progress.done, progress.total)

    return train_student(rows, run.validation, run.task, section, backbone, folder, kept=kept, progress=on_progress)


def _nano(
    run: Run,
    backbone: Path,
    mixture: Sequence[MixtureRow],
    texts: Sequence[Mapping[str, str]],
    authors: Sequence[Author],
    section: StudentSection,
    folder: Path,
) -> tuple[NanoStart, TrainedStudent]:
    # The search of several sizes is that of its largest student.
    kept = None if section.sizes else (run.folder / "search.sqlite3").parent

    def on_progress(progress: TrainingProgress) -> None:
        run.on_progress("train: optimizer steps of the nano student", progress.done, progress.total)

    return train_nano_student(
        mixture,
        run.validation,
        run.task,
        section,
        backbone,
        folder,
        run.folder / NANO_START,
        texts=texts,
        authors=authors,
        kept=kept,
        progress=on_progress,
    )


def _frozen_baseline(run: Run, mixture: Sequence[MixtureRow], validation: ValidationRows) -> FrozenHead:
    """Fit and write the classifier on the frozen encoder, the baseline of every evaluation."""
    backbone = backbone_folder(run.project.student.backbone, run.project.folder)
    with run.counting("train: the frozen encoder reads rows", len(mixture) + len(validation)):
        heads = fit_frozen(mixture, validation, run.task, run.max_tokens, backbone)
    write_frozen(heads[0], run.task, run.max_tokens, run.folder / FROZEN)
    return heads[0]


def _describe_trial(best: Trial) -> dict[str, Any]:
    return {
        "learning_rate": best.learning_rate,
        "batch_size": best.batch_size,
        "epochs": best.epochs,
        "seed": best.seed,
        "best_epoch": best.best_epoch,
        "validation_macro_f1": best.validation_macro_f1,
    }


def _several_sizes(run: Run, backbone: Path, sizes: Sequence[Size]) -> dict[str, Any]:
    """Train a student of every size into `sizes/`, and copy the smallest that is not worse to `student/`.

    A student of fewer layers, and a nano student on texts without a label, learn from the one with all layers.
    """
    task, validation = run.task, run.validation
    layers = check_sizes(sizes, backbone)
    mixture, (texts, authors, _) = read_mixture(run.folder, task.inputs), _texts(run)
    taught, section, assistant, notes = _with_assistant(run, mixture)
    places = {size: run.folder / SIZES / size_folder(size) for size in sizes}
    trials: list[Trial] = []
    corrected: list[dict[str, Any]] = []
    compared, described = 0, dict[Size, dict[str, Any]]()
    first = run.folder / SIZES / size_folder(layers)
    if any(isinstance(size, int) for size in sizes):
        trained = _fine_tuned(run, backbone, taught, section, first)
        trials += trained.trials
        described[layers] = _describe_trial(trained.best)
        notes += trained.notes
        corrected += _corrected(run, mixture, first, size_name(layers))
    for size in sizes:
        if isinstance(size, int) and size < layers:
            shrunk = _shrunk_size(run, first, places[size], texts, authors, size)
            compared += len(shrunk.history)
            described[size] = {"best_epoch": shrunk.best.epoch}
            notes += shrunk.notes
            corrected += _corrected(run, mixture, places[size], size_name(size))
    if "nano" in sizes:
        rows = taught
        of_nano = section.model_copy(update={"kind": "nano", "search": SearchSection()})
        if trials and not assistant:
            rows = with_soft_labels(mixture, texts, Checkpoint.load(first, task, run.max_tokens), validation)
            loss = section.loss.model_copy(update={"targets": "soft"})
            of_nano = of_nano.model_copy(update={"loss": loss})
        start, nano = _nano(run, backbone, rows, texts, authors, of_nano, places["nano"])
        trials += nano.trials
        described["nano"] = _describe_trial(nano.best) | {"tokens": start.tokens, "width": start.width}
        notes += nano.notes
        corrected += _corrected(run, mixture, places["nano"], "nano")
    if "frozen" in sizes:
        with run.counting("train: the frozen student reads rows", len(mixture) + 3 * len(validation)):
            heads = train_frozen_student(mixture, validation, task, section, backbone, places["frozen"])
        compared += len(heads)
        described["frozen"] = _describe_head(heads[0])
        corrected += _corrected(run, mixture, places["frozen"], "frozen")
    head = _frozen_baseline(run, mixture, validation)
    run.folder.write_csv("trials.csv", _table(trials))
    students = {size: Checkpoint.load(place, task, run.max_tokens) for size, place in places.items()}
    precision: Precision = "fp32" if run.project.export.precision == "fp32" else "int8"
    passes = 2 if run.task.kind == "multilabel" else 1  # its thresholds need a pass of their own
    with run.counting("train: sizes on validation rows", passes * len(sizes) * len(validation)):
        choice = choose_size(students, validation, section.not_worse_by, precision)
    with replacing(run.folder / STUDENT) as new:
        copy_files(run.folder / SIZES / choice.picked_folder, new)
    picked = next(size for size in sizes if size_name(size) == choice.picked)
    summary = asdict(choice)
    run.folder.write_json(SIZES_FILE, summary)
    return {
        "trials": compared + sum(len(trial.history) for trial in trials) + len(sizes),
        "best": {"size": choice.picked, **described[picked]},
        **assistant,
        "frozen": _describe_head(head),
        **_overlap(run),
        "sizes": summary,
        "prior_correction": corrected,
        "notes": [choice.note, *choice.other_notes, *dict.fromkeys(notes)],
    }


def _shrunk_size(
    run: Run, first: Path, folder: Path, texts: Sequence[Mapping[str, str]], authors: Sequence[Author], layers: int
) -> CompressedStudent:
    def on_progress(progress: TrainingProgress) -> None:
        run.on_progress(f"train: optimizer steps of {size_name(layers)}", progress.done, progress.total)

    return compress_student(
        first,
        folder,
        texts,
        [dict(response.inputs) for response in run.validation.responses],
        run.task,
        ShrinkSection(layers=layers),
        run.max_tokens,
        authors=authors,
        progress=on_progress,
    )


def _taught(
    run: Run, student: StudentSection, section: AssistantSection, mixture: Sequence[MixtureRow]
) -> tuple[list[MixtureRow], dict[str, Any]]:
    """Train `assistant/`; return the rows that it teaches the student, and what `run.json` says of it."""

    def on_progress(progress: TrainingProgress) -> None:
        run.on_progress("train: optimizer steps of the assistant", progress.done, progress.total)

    backbone = backbone_folder(section.backbone, run.project.folder, key="student.assistant.backbone")
    kept, folder = run.folder / "search" / ASSISTANT, run.folder / ASSISTANT
    made = train_assistants(
        mixture, run.validation, run.task, section, student, backbone, folder, kept=kept, progress=on_progress
    )
    texts, _, set_aside = _texts(run)
    assistants = Assistants.load(folder, run.task, student.token_limit)
    with run.counting("train: the assistant reads texts", len(section.seeds) * (len(mixture) + len(texts))):
        rows = taught_rows(assistants, mixture, texts)
    trained = [each.trained for each in made]
    return rows, {
        "backbone": section.backbone,
        "seeds": list(section.seeds),
        "learning_rate": [each.best.learning_rate for each in trained],
        "epochs": [each.best.epochs for each in trained],
        "validation_macro_f1": [each.best.validation_macro_f1 for each in trained],
        "compared": [sum(len(trial.history) for trial in each.trials) for each in trained],
        "texts": len(rows),
        "texts_set_aside": set_aside,
        "prior_correction": [
            {"student": f"assistant with seed {each.seed}", **prior_correction_summary(each.corrected)}
            for each in made
            if each.corrected
        ],
        "notes": [
            *_about_the_assistant(run, backbone, len(rows) - len(mixture)),
            *(f"Assistant: {note}" for each in trained for note in each.notes),
        ],
    }


def _about_the_assistant(run: Run, assistant: Path, others: int) -> Iterator[str]:
    """Yield why an assistant can hardly teach: it is smaller than the student, or there are no other texts."""
    section = run.project.student
    if section.kind != "nano":
        student = backbone_folder(section.backbone, run.project.folder)
        sizes = [encoder_parameters(folder) for folder in (assistant, student)]
        if sizes[0] < sizes[1]:
            yield (
                f"The assistant is smaller than the student ({sizes[0]:,} and {sizes[1]:,} parameters without word "
                "embeddings), and can hardly teach it: choose a larger student.assistant, or remove it."
            )
    if not others:
        yield (
            "The assistant teaches the training rows only, as there are no other texts: name uncoded responses in "
            "data.unlabelled, or remove student.assistant."
        )


def _frozen(run: Run, backbone: Path) -> dict[str, Any]:
    task, section = run.task, run.student_section
    start = time.perf_counter()
    mixture = read_mixture(run.folder, task.inputs)
    with run.counting("train: the frozen student reads rows", len(mixture) + 3 * len(run.validation)):
        heads = train_frozen_student(mixture, run.validation, task, section, backbone, run.folder / STUDENT)
    write_frozen(heads[0], task, section.token_limit, run.folder / FROZEN)
    best = _describe_head(heads[0])
    corrected = _corrected(run, mixture, run.folder / STUDENT, "student")
    # One line with the columns of a search; those of epochs and hyperparameters stay empty.
    line = ["", "", "", "", 1, *list(best.values())[2:], 1, f"{time.perf_counter() - start:.1f}", "done", ""]
    run.folder.write_csv("trials.csv", [list(_HEADER), line])
    return {
        "trials": len(heads),
        "tried": [_describe_head(head) for head in heads],
        "best": best,
        "frozen": best,
        **_overlap(run),
        "prior_correction": corrected,
        "notes": [],
    }


def _overlap(run: Run) -> dict[str, Any]:
    """Fit the overlap baseline of a task with reference answers, and return its entry."""
    task, max_tokens = run.task, run.max_tokens
    if not has_references(task):
        return {}
    backbone = backbone_folder(run.project.student.backbone, run.project.folder)
    mixture = read_mixture(run.folder, task.inputs)
    with run.counting("train: the overlap baseline reads texts", 2 * (len(mixture) + len(run.validation))):
        head = fit_overlap(mixture, run.validation, task, max_tokens, backbone)
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
        Layers, texts, bytes, speed, the loss of agreement on validation rows, its prior correction, and notes.
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
    mixture = read_mixture(run.folder, task.inputs)
    corrected = _corrected(run, mixture, run.folder / SHRUNK, "smaller student")
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
    entry = {name: value for name, value in summary.items() if name != "history"}
    return {**entry, "prior_correction": corrected, "notes": list(shrunk.notes)}


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
