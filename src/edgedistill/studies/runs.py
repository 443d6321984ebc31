"""The runs of a study: how students are trained, one run, and the folder of finished runs.

run(plan, inputs, …) -> RunResult

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
from edgedistill.pipeline.folder import RunFolder, hash_json
from edgedistill.project import StudentSection
from edgedistill.project.schema import SearchSection
from edgedistill.student import TrainingProgress, Trial, train_student
from edgedistill.student.frozen import fit_frozen, pooled_states
from edgedistill.student.label_thresholds import choose_readout
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.study_file import Protocol, Study, StudyStudent
from edgedistill.studies.types import Predictions, RunPlan, RunResult, StudentResult, TestSet
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.label_decoding import LabelDecoder

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

    def chooses(self, inputs: TaskInputs) -> ValidationRows:
        """Return the rows that choose the epoch; as published these are the test rows, which is a leak."""
        return ValidationRows(inputs.tests["test"].rows) if self.protocol == "as-published" else inputs.validation


def student_section(settings: Settings, inputs: TaskInputs, rows: int, seed: int) -> StudentSection:
    """Return how a student of so many rows is trained.

    Corrected, it makes as many epochs as the study's optimizer steps take, within the study's bounds: the largest of
    its batch sizes counts.
    """
    given = settings.student
    search: SearchSection = PUBLISHED
    patience: int | None = PUBLISHED_PATIENCE
    if settings.protocol == "corrected":
        patience = inputs.student.patience
        epochs = math.ceil(given.steps / math.ceil(rows / max(given.batch_size)))
        epochs = min(max(epochs, given.min_epochs), max(given.min_epochs, given.max_epochs))
        search = SearchSection(learning_rate=given.learning_rate, batch_size=given.batch_size, epochs=(epochs,))
    how = {"search": search, "seeds": (seed,), "max_tokens": given.max_tokens or inputs.student.max_tokens}
    return inputs.student.model_copy(update=how | {"patience": patience, "shrink": None})


def continued_section(section: StudentSection, best: Trial) -> StudentSection:
    """Return how a student goes on with a block: once over it, with the setting that was best for its first rows."""
    search = SearchSection(learning_rate=(best.learning_rate,), batch_size=(best.batch_size,), epochs=(1,))
    return section.model_copy(update={"search": search})


Told = Callable[[str, int, int], None]


def run(plan: RunPlan, inputs: TaskInputs, settings: Settings, ident: str, work: Path, told: Told) -> RunResult:
    """Make a run.

    Args:
        plan: What it learns from, and how.
        inputs: Its task.
        settings: How students are trained in this study.
        ident: The run's fingerprint.
        work: An empty folder for checkpoints.
        told: Told about optimizer steps.

    Raises:
        TrainingFailed: The rows cannot train a student.
    """
    match plan.learner:
        case "teacher":
            return RunResult(ident, (_teacher(plan, inputs),))
        case "frozen":
            return RunResult(ident, (_frozen(plan, inputs, settings),))
        case "fine-tuned":
            return RunResult(ident, tuple(_students(plan, inputs, settings, work, told)))


def _teacher(plan: RunPlan, inputs: TaskInputs) -> StudentResult:
    by_id = inputs.taught[plan.coder].test
    scored = (
        Predictions(name, tuple(by_id.get(row.response.id) for row in rows)) for name, rows in inputs.tests.items()
    )
    return StudentResult(0, {}, tuple(each for each in scored if any(each.labels)), 0.0)


def _frozen(plan: RunPlan, inputs: TaskInputs, settings: Settings) -> StudentResult:
    start = time.monotonic()
    tokens = student_section(settings, inputs, len(plan.rows), plan.seed).max_tokens
    best, *_ = fit_frozen(plan.rows, settings.chooses(inputs), inputs.task, tokens, inputs.backbone)
    scored = []
    for name, test in inputs.tests.items():
        texts = [row.response.inputs for row in test]
        states = pooled_states(inputs.backbone, inputs.task, tokens, texts)[best.pooling]
        logits = best.logits(states).astype(np.float64)
        scored.append(_scored(name, logits, LabelDecoder(inputs.task, 1.0, best.thresholds)))
    return StudentResult(0, _sources(plan.rows), tuple(scored), _since(start), validation_macro_f1=best.macro_f1)


def _students(plan: RunPlan, inputs: TaskInputs, settings: Settings, work: Path, told: Told) -> list[StudentResult]:
    judged = settings.chooses(inputs)
    rows, backbone = list(plan.rows), inputs.backbone
    section = student_section(settings, inputs, len(plan.rows), plan.seed)
    points = []
    for place, taught in enumerate([plan.rows, *((*block.new, *block.again) for block in plan.blocks)]):
        start = time.monotonic()
        if place:
            rows += plan.blocks[place - 1].new
        best = _train(taught, judged, inputs, section, backbone, work / str(place), told)
        if place:
            shutil.rmtree(backbone)  # a student of the block before, which nobody requirements any more
        backbone = work / str(place)
        student = Checkpoint.load(backbone, inputs.task, section.max_tokens)
        decoder = choose_readout(student, judged)
        scored = []
        for name, test in inputs.tests.items():
            logits = student.logits([dict(row.response.inputs) for row in test])
            scored.append(_scored(name, logits.astype(np.float64), decoder))
        points.append(_point(place, rows, tuple(scored), best, _since(start)))
        section = continued_section(section, best)
    return points


def _train(
    rows: Sequence[MixtureRow],
    validation: ValidationRows,
    inputs: TaskInputs,
    section: StudentSection,
    backbone: Path,
    folder: Path,
    told: Told,
) -> Trial:
    def progress(done: TrainingProgress) -> None:
        told("study: optimizer steps of this student", done.done, done.total)

    return train_student(rows, validation, inputs.task, section, backbone, folder, progress=progress).best


def _point(
    block: int, rows: Sequence[MixtureRow], scored: tuple[Predictions, ...], best: Trial, seconds: float
) -> StudentResult:
    return StudentResult(
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


def _scored(name: TestSet, logits: npt.NDArray[np.float64], decoder: LabelDecoder) -> Predictions:
    probabilities = [decoder.probabilities(row) for row in logits]
    rounded = tuple(tuple(round(float(each), 8) for each in row) for row in probabilities)
    return Predictions(name, decoder.labels(logits), rounded)


def _sources(rows: Sequence[MixtureRow]) -> dict[Source, int]:
    return dict(Counter(row.source for row in rows))


def _since(start: float) -> float:
    return math.ceil((time.monotonic() - start) * 100) / 100


_FORMAT = 1
"""Raised when the same plan would give another outcome, so that older runs are made anew."""


@dataclass(frozen=True, slots=True)
class RunStore:
    """The runs of a study.

    Attributes:
        folder: The study's run folder; all kinds of studies share its runs.
    """

    folder: Path

    def outcome(self, ident: str) -> RunResult | None:
        """Return what came of a run; None where it is not done, or its file is damaged."""
        try:
            found = msgspec.json.decode(self._file(ident).read_bytes(), type=RunResult)
        except (OSError, msgspec.DecodeError):
            return None
        return found if found.run == ident else None

    def keep(self, outcome: RunResult) -> None:
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


def run_id(plan: RunPlan, inputs: TaskInputs, settings: Settings) -> str:
    """Return a run's fingerprint, of all that decides its outcome and nothing else.

    What a study calls the run does not count: two studies, or two conditions, that come to the same share it.
    """
    blocks = [[_content(block.new), _content(block.again)] for block in plan.blocks]
    taught = inputs.taught[plan.coder] if plan.coder else None
    how = student_section(settings, inputs, max(1, len(plan.rows)), plan.seed).model_dump(mode="json")
    return hash_json(
        [
            _FORMAT,
            plan.learner,
            taught and dict(taught.test),
            _content(plan.rows),
            blocks,
            how,
            settings.protocol,
            inputs.weights,
            _coded(settings.chooses(inputs)),
            {name: _coded(rows) for name, rows in inputs.tests.items()},
            [inputs.task.kind, inputs.task.names, inputs.task.inputs],
            inputs.data,
        ]
    )[:32]


def _content(rows: Sequence[MixtureRow]) -> list[object]:
    return [[row.id, row.source, row.label, dict(row.shares), dict(row.inputs)] for row in rows]


def _coded(rows: Iterable[CodedResponse]) -> list[object]:
    return [[row.response.id, row.label, dict(row.response.inputs)] for row in rows]
