"""The runs of a study: how students are trained, one run, and the folder of finished runs.

run(plan, material, …) -> Outcome

runs/ID.json    the outcome of a run, written aside and moved into place
runs/ID.lock    held by the process that makes the run; the system lets go of it when that process ends
work/ID/        checkpoints while the run is made
"""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from edgedistill.data import CodedResponse, MixtureRow, ValidationRows
from edgedistill.data.types import Source
from edgedistill.errors import RunError
from edgedistill.pipeline.folder import RunFolder, fingerprint
from edgedistill.project import StudentSection
from edgedistill.project.schema import SearchSection
from edgedistill.student import TrainingProgress, Trial, train_student
from edgedistill.student.frozen import fit_frozen, pooled
from edgedistill.student.label_thresholds import readout_of
from edgedistill.studies.inputs import Material
from edgedistill.studies.study_file import Protocol, Study, StudyStudent
from edgedistill.studies.types import Outcome, Plan, Point, Scored, TestSet
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.label_decoding import Readout

PUBLISHED = SearchSection(learning_rate=(2e-5,), batch_size=(16,), epochs=(50,))
PUBLISHED_PATIENCE = 2
"""Borchers et al. 2025; the backbone stays the study's own."""

LEAK = "the test rows chose the epoch"


@dataclass(frozen=True, slots=True)
class Settings:
    """How students are trained.

    Attributes:
        protocol: `as-published` lets test rows choose the epoch.
        student: Search and steps of the corrected protocol.
    """

    protocol: Protocol
    student: StudyStudent

    @classmethod
    def of(cls, study: Study) -> "Settings":
        """Return the settings of a study."""
        return cls(study.protocol, study.student)

    def chooses(self, material: Material) -> ValidationRows:
        """Return the rows that choose the epoch; as published these are the test rows, which is a leak."""
        return ValidationRows(material.tests["test"].rows) if self.protocol == "as-published" else material.validation


def settings_for(settings: Settings, material: Material, rows: int, seed: int) -> StudentSection:
    """Return how a student of so many rows is trained.

    Corrected, it makes as many epochs as the study's optimizer steps take, within the study's bounds: the largest of
    its batch sizes counts.
    """
    given = settings.student
    search: SearchSection = PUBLISHED
    patience: int | None = PUBLISHED_PATIENCE
    if settings.protocol == "corrected":
        patience = material.student.patience
        epochs = math.ceil(given.steps / math.ceil(rows / max(given.batch_size)))
        epochs = min(max(epochs, given.min_epochs), max(given.min_epochs, given.max_epochs))
        search = SearchSection(learning_rate=given.learning_rate, batch_size=given.batch_size, epochs=(epochs,))
    how = {"search": search, "seeds": (seed,), "max_tokens": given.max_tokens or material.student.max_tokens}
    return material.student.model_copy(update=how | {"patience": patience, "shrink": None})


def going_on(section: StudentSection, best: Trial) -> StudentSection:
    """Return how a student goes on with a block: once over it, with the setting that was best for its first rows."""
    search = SearchSection(learning_rate=(best.learning_rate,), batch_size=(best.batch_size,), epochs=(1,))
    return section.model_copy(update={"search": search})


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


_FORMAT = 1
"""Raised when the same plan would give another outcome, so that older runs are made anew."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The runs of a study.

    Attributes:
        folder: The study's run folder; all kinds of studies share its runs.
    """

    folder: Path

    def outcome(self, ident: str) -> Outcome | None:
        """Return what came of a run; None where it is not done, or its file is damaged."""
        try:
            found = msgspec.json.decode(self._file(ident).read_bytes(), type=Outcome)
        except (OSError, msgspec.DecodeError):
            return None
        return found if found.run == ident else None

    def keep(self, outcome: Outcome) -> None:
        """Write what came of a run.

        Raises:
            RunError: It cannot be written.
        """
        file = self._file(outcome.run)
        RunFolder(file.parent).write_text(file.name, msgspec.json.encode(outcome).decode())

    @contextmanager
    def claimed(self, ident: str) -> Iterator[Path | None]:
        """Claim a run and hand out an empty folder for its work; None where another process makes it.

        Raises:
            RunError: The study's folder cannot be written.
        """
        work = self.folder / "work" / ident
        try:
            self._file(ident).parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._file(ident).with_suffix(".lock"), timeout=0):
                # What a process left that was killed while it made this run.
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True)
                try:
                    yield work
                finally:
                    shutil.rmtree(work, ignore_errors=True)
        except Timeout:
            yield None
        except OSError as error:
            raise RunError(
                f"cannot be written ({error.strerror})",
                where=str(self.folder),
                hint="Give the study's folder room and write permission.",
            ) from None

    def tidy(self) -> None:
        """Remove what killed processes left of runs that nobody makes now."""
        for left in (self.folder / "work").glob("*"):
            with self.claimed(left.name):
                pass  # claiming clears the folder

    def _file(self, ident: str) -> Path:
        return self.folder / "runs" / f"{ident}.json"


def ident_of(plan: Plan, material: Material, settings: Settings) -> str:
    """Return a run's fingerprint, of all that decides its outcome and nothing else.

    What a study calls the run does not count: two studies, or two conditions, that come to the same share it.
    """
    blocks = [[_content(block.new), _content(block.again)] for block in plan.blocks]
    taught = material.taught[plan.coder] if plan.coder else None
    how = settings_for(settings, material, max(1, len(plan.rows)), plan.seed).model_dump(mode="json")
    return fingerprint(
        [
            _FORMAT,
            plan.learner,
            taught and dict(taught.test),
            _content(plan.rows),
            blocks,
            how,
            settings.protocol,
            material.weights,
            _coded(settings.chooses(material)),
            {name: _coded(rows) for name, rows in material.tests.items()},
            [material.task.kind, material.task.names, material.task.inputs],
            material.data,
        ]
    )[:32]


def _content(rows: Sequence[MixtureRow]) -> list[object]:
    return [[row.id, row.source, row.label, dict(row.shares), dict(row.inputs)] for row in rows]


def _coded(rows: Iterable[CodedResponse]) -> list[object]:
    return [[row.response.id, row.label, dict(row.response.inputs)] for row in rows]
