"""Shrinking: the student teaches a smaller one on every text there is, and both stay."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgedistill.data.tables import normalize_text
from edgedistill.pipeline.folder import SHRUNK, STUDENT
from edgedistill.pipeline.generate import read_synthetic
from edgedistill.pipeline.mix import read_mixture
from edgedistill.pipeline.run import Run
from edgedistill.project.schema import ShrinkSection
from edgedistill.student import TrainingProgress
from edgedistill.student.compression import compare_students, compress_student
from edgedistill_export.checkpoint import Checkpoint

"""The smaller student's folder in the run folder, a Hugging Face checkpoint like `student`."""


def exported_student(run: Run) -> Path:
    """The folder of the student that is evaluated as the student, and exported."""
    section = run.project.student.shrink
    return run.folder / (SHRUNK if section and section.export else STUDENT)


def shrink(run: Run, section: ShrinkSection) -> dict[str, Any]:
    """Make `shrunk/` of `student/`, and write `shrinking.json`: the two side by side on the validation rows.

    Returns:
        Layers, texts, bytes, speed and what agreement it costs on validation rows, and the notes.
    """
    task, max_tokens = run.project.task.task, run.project.student.max_tokens
    validation = run.records.splits.validation
    rows = [dict(response.inputs) for response in validation.responses]
    texts, set_aside = _texts(run)

    def told(progress: TrainingProgress) -> None:
        run.advance("train: optimizer steps of the shrunk student", progress.done, progress.total)

    shrunk = compress_student(
        run.folder / STUDENT, run.folder / SHRUNK, texts, rows, task, section, max_tokens, progress=told
    )
    students = [Checkpoint.load(run.folder / name, task, max_tokens) for name in (STUDENT, SHRUNK)]
    compared = compare_students(students[0], students[1], rows, validation.labels)
    told_of = {
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
    run.folder.write_json("shrinking.json", told_of)
    return {**{name: value for name, value in told_of.items() if name != "history"}, "notes": list(shrunk.notes)}


def _texts(run: Run) -> tuple[list[Mapping[str, str]], dict[str, int]]:
    """Every text that may be learnt from, once, and how many were set aside and why."""
    splits = run.records.splits
    locked = {_whole(response.inputs) for split in (splits.validation, splits.test) for response in split.responses}
    texts: dict[str, Mapping[str, str]] = {}
    set_aside = {"repeats a validation or test row": 0, "repeats another text": 0}
    for inputs in _found(run):
        whole = _whole(inputs)
        if whole in locked:
            set_aside["repeats a validation or test row"] += 1
        elif whole in texts:
            set_aside["repeats another text"] += 1
        else:
            texts[whole] = inputs
    return list(texts.values()), set_aside


def _found(run: Run) -> Iterator[Mapping[str, str]]:
    task = run.project.task.task
    yield from (row.inputs for row in read_mixture(run.folder, task.inputs))
    yield from (response.inputs for response in run.records.splits.train.responses)
    yield from (response.inputs for response in run.records.unlabelled)
    if run.project.generate:
        yield from (row.inputs for row in read_synthetic(run.folder))


def _whole(inputs: Mapping[str, str]) -> str:
    """Every input folded: the same answer to another question is another text."""
    return "\x1f".join(normalize_text(text) for text in inputs.values())
