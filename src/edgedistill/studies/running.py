"""Makes one run: trains its student, or continues it block by block, and lets it score every test row once.

run(plan, material, …) -> Outcome
"""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgedistill.project import StudentSection
from edgedistill.records import MixtureRow, ValidationRows
from edgedistill.records.types import Source
from edgedistill.student import TrainingProgress, Trial, train_student
from edgedistill.student.frozen import fit_frozen
from edgedistill.student.pooled import pooled
from edgedistill.student.thresholds import readout_of
from edgedistill.studies.material import Material
from edgedistill.studies.settings import Settings, going_on, settings_for
from edgedistill.studies.types import Outcome, Plan, Point, Scored, TestSet
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.readout import Readout

Told = Callable[[str, int, int], None]


def run(plan: Plan, material: Material, settings: Settings, ident: str, work: Path, told: Told) -> Outcome:
    """Make a run.

    Args:
        plan: What it learns from, and how.
        material: Its task.
        settings: How students are trained in this study.
        ident: The run's fingerprint.
        work: An empty folder for checkpoints.
        told: Told about optimizer steps.

    Raises:
        TrainingFailed: The rows cannot train a student.
    """
    match plan.learner:
        case "teacher":
            return Outcome(ident, (_teacher(plan, material),))
        case "frozen":
            return Outcome(ident, (_frozen(plan, material, settings),))
        case "fine-tuned":
            return Outcome(ident, tuple(_students(plan, material, settings, work, told)))


def _teacher(plan: Plan, material: Material) -> Point:
    by_id = material.taught[plan.coder].test
    scored = (Scored(name, tuple(by_id.get(row.response.id) for row in rows)) for name, rows in material.tests.items())
    return Point(0, {}, tuple(each for each in scored if any(each.labels)), 0.0)


def _frozen(plan: Plan, material: Material, settings: Settings) -> Point:
    start = time.monotonic()
    tokens = settings_for(settings, material, len(plan.rows), plan.seed).max_tokens
    best, *_ = fit_frozen(plan.rows, settings.chooses(material), material.task, tokens, material.backbone)
    scored = []
    for name, test in material.tests.items():
        inputs = [row.response.inputs for row in test]
        states = pooled(material.backbone, material.task, tokens, inputs)[best.pooling]
        logits = best.logits(states).astype(np.float64)
        scored.append(_scored(name, logits, Readout(material.task, 1.0, best.thresholds)))
    return Point(0, _sources(plan.rows), tuple(scored), _since(start), validation_macro_f1=best.macro_f1)


def _students(plan: Plan, material: Material, settings: Settings, work: Path, told: Told) -> list[Point]:
    judged = settings.chooses(material)
    rows, backbone = list(plan.rows), material.backbone
    section = settings_for(settings, material, len(plan.rows), plan.seed)
    points = []
    for place, taught in enumerate([plan.rows, *((*block.new, *block.again) for block in plan.blocks)]):
        start = time.monotonic()
        if place:
            rows += plan.blocks[place - 1].new
        best = _train(taught, judged, material, section, backbone, work / str(place), told)
        if place:
            shutil.rmtree(backbone)  # a student of the block before, which nobody wants any more
        backbone = work / str(place)
        student = Checkpoint.load(backbone, material.task, section.max_tokens)
        readout = readout_of(student, judged)
        scored = []
        for name, test in material.tests.items():
            logits = student.logits([dict(row.response.inputs) for row in test])
            scored.append(_scored(name, logits.astype(np.float64), readout))
        points.append(_point(place, rows, tuple(scored), best, _since(start)))
        section = going_on(section, best)
    return points


def _train(
    rows: Sequence[MixtureRow],
    validation: ValidationRows,
    material: Material,
    section: StudentSection,
    backbone: Path,
    folder: Path,
    told: Told,
) -> Trial:
    def progress(done: TrainingProgress) -> None:
        told("study: optimizer steps of this student", done.done, done.total)

    return train_student(rows, validation, material.task, section, backbone, folder, progress=progress).best


def _point(block: int, rows: Sequence[MixtureRow], scored: tuple[Scored, ...], best: Trial, seconds: float) -> Point:
    return Point(
        block,
        _sources(rows),
        scored,
        seconds,
        learning_rate=best.learning_rate,
        batch_size=best.batch_size,
        epochs=len(best.history),
        best_epoch=best.best_epoch,
        validation_macro_f1=best.validation_macro_f1,
    )


def _scored(name: TestSet, logits: npt.NDArray[np.float64], readout: Readout) -> Scored:
    probabilities = [readout.probabilities(row) for row in logits]
    rounded = tuple(tuple(round(float(each), 8) for each in row) for row in probabilities)
    return Scored(name, readout.labels(logits), rounded)


def _sources(rows: Sequence[MixtureRow]) -> dict[Source, int]:
    return dict(Counter(row.source for row in rows))


def _since(start: float) -> float:
    return math.ceil((time.monotonic() - start) * 100) / 100
