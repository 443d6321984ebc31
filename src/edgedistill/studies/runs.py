"""The runs of a study: training settings, one run, and the folder of finished runs.

run(plan, inputs, …) -> RunResult

runs/ID.json    the result of a run, written atomically
runs/ID.lock    locked by the process that makes the run; the operating system releases it when that process ends
work/ID/        checkpoints of a run in progress
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
from edgedistill.project.student import SearchSection
from edgedistill.student import TrainingProgress, Trial, train_student
from edgedistill.student.frozen import fit_frozen, pooled_states
from edgedistill.student.label_thresholds import choose_label_decoder
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.study_file import Protocol, Study, StudyStudent
from edgedistill.studies.types import Predictions, RunPlan, RunResult, StudentResult, TestSet
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.label_decoding import LabelDecoder

PUBLISHED = SearchSection(learning_rate=(2e-5,), batch_size=(16,), epochs=(50,))
PUBLISHED_PATIENCE = 2
"""Settings of Borchers et al. 2025; the backbone is that of the study."""

LEAK = "epoch selected on the test rows"


@dataclass(frozen=True, slots=True)
class Settings:
    """How students are trained.

    Attributes:
        protocol: `as-published` selects the epoch on test rows.
        student: Search and steps of the corrected protocol.
    """

    protocol: Protocol
    student: StudyStudent

    @classmethod
    def of(cls, study: Study) -> "Settings":
        """Return the settings of a study."""
        return cls(study.protocol, study.student)

    def selection_rows(self, inputs: TaskInputs) -> ValidationRows:
        """Return the rows that select the epoch; as published these are the test rows, which is a leak."""
        return ValidationRows(inputs.tests["test"].rows) if self.protocol == "as-published" else inputs.validation


def student_section(settings: Settings, inputs: TaskInputs, rows: int, seed: int) -> StudentSection:
    """Return the training settings of a student with this number of training rows.

    With the corrected protocol, the number of epochs follows from the optimizer steps of the study and its largest
    batch size, within the limits of the study.
    """
    given = settings.student
    search: SearchSection = PUBLISHED
    patience: int | None = PUBLISHED_PATIENCE
    if settings.protocol == "corrected":
        patience = inputs.student.patience
        epochs = math.ceil(given.steps / math.ceil(rows / max(given.batch_size)))
        epochs = min(max(epochs, given.min_epochs), max(given.min_epochs, given.max_epochs))
        search = SearchSection(learning_rate=given.learning_rate, batch_size=given.batch_size, epochs=(epochs,))
    how = {"search": search, "seeds": (seed,), "max_tokens": given.max_tokens or inputs.max_tokens}
    return inputs.student.model_copy(update=how | {"patience": patience, "shrink": None})


def next_block_section(section: StudentSection, best: Trial) -> StudentSection:
    """Return the settings of continued training: one epoch per block, with the best setting for the first rows."""
    search = SearchSection(learning_rate=(best.learning_rate,), batch_size=(best.batch_size,), epochs=(1,))
    return section.model_copy(update={"search": search})


OnSteps = Callable[[str, int, int], None]


def run(plan: RunPlan, inputs: TaskInputs, settings: Settings, ident: str, work: Path, on_steps: OnSteps) -> RunResult:
    """Make a run.

    Args:
        plan: The run.
        inputs: Its task.
        settings: How students are trained in this study.
        ident: The run's fingerprint.
        work: An empty folder for checkpoints.
        on_steps: Called after every optimizer step with a description, the steps done and their total.

    Raises:
        TrainingFailed: Training on these rows is not possible or failed.
    """
    match plan.learner:
        case "teacher":
            return RunResult(ident, (_evaluate_teacher(plan, inputs),))
        case "frozen":
            return RunResult(ident, (_train_frozen(plan, inputs, settings),))
        case "fine-tuned":
            return RunResult(ident, tuple(_train_students(plan, inputs, settings, work, on_steps)))


def _evaluate_teacher(plan: RunPlan, inputs: TaskInputs) -> StudentResult:
    by_id = inputs.teacher_labels[plan.coder].test
    scored = (
        Predictions(name, tuple(by_id.get(row.response.id) for row in rows)) for name, rows in inputs.tests.items()
    )
    return StudentResult(0, {}, tuple(each for each in scored if any(each.labels)), 0.0)


def _train_frozen(plan: RunPlan, inputs: TaskInputs, settings: Settings) -> StudentResult:
    start = time.monotonic()
    tokens = student_section(settings, inputs, len(plan.rows), plan.seed).token_limit
    best, *_ = fit_frozen(plan.rows, settings.selection_rows(inputs), inputs.task, tokens, inputs.backbone)
    scored = []
    for name, test in inputs.tests.items():
        texts = [row.response.inputs for row in test]
        states = pooled_states(inputs.backbone, inputs.task, tokens, texts)[best.pooling]
        logits = best.logits(states).astype(np.float64)
        scored.append(_predictions(name, logits, LabelDecoder(inputs.task, 1.0, best.thresholds)))
    return StudentResult(
        0, _sources(plan.rows), tuple(scored), _seconds_since(start), validation_macro_f1=best.macro_f1
    )


def _train_students(
    plan: RunPlan, inputs: TaskInputs, settings: Settings, work: Path, on_steps: OnSteps
) -> list[StudentResult]:
    selection_rows = settings.selection_rows(inputs)
    rows, backbone = list(plan.rows), inputs.backbone
    section = student_section(settings, inputs, len(plan.rows), plan.seed)
    students = []
    for place, train_rows in enumerate([plan.rows, *((*block.new, *block.again) for block in plan.blocks)]):
        start = time.monotonic()
        if place:
            rows += plan.blocks[place - 1].new
        best = _train(train_rows, selection_rows, inputs, section, backbone, work / str(place), on_steps)
        if place:
            shutil.rmtree(backbone)  # the student of the previous block is not needed any more
        backbone = work / str(place)
        student = Checkpoint.load(backbone, inputs.task, section.token_limit)
        decoder = choose_label_decoder(student, selection_rows)
        scored = []
        for name, test in inputs.tests.items():
            logits = student.logits([dict(row.response.inputs) for row in test])
            scored.append(_predictions(name, logits.astype(np.float64), decoder))
        students.append(_student_result(place, rows, tuple(scored), best, _seconds_since(start)))
        section = next_block_section(section, best)
    return students


def _train(
    rows: Sequence[MixtureRow],
    validation: ValidationRows,
    inputs: TaskInputs,
    section: StudentSection,
    backbone: Path,
    folder: Path,
    on_steps: OnSteps,
) -> Trial:
    def progress(done: TrainingProgress) -> None:
        on_steps("study: optimizer steps of this student", done.done, done.total)

    return train_student(rows, validation, inputs.task, section, backbone, folder, progress=progress).best


def _student_result(
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


def _predictions(name: TestSet, logits: npt.NDArray[np.float64], decoder: LabelDecoder) -> Predictions:
    probabilities = [decoder.probabilities(row) for row in logits]
    rounded = tuple(tuple(round(float(each), 8) for each in row) for row in probabilities)
    return Predictions(name, decoder.labels(logits), rounded)


def _sources(rows: Sequence[MixtureRow]) -> dict[Source, int]:
    return dict(Counter(row.source for row in rows))


def _seconds_since(start: float) -> float:
    return math.ceil((time.monotonic() - start) * 100) / 100


_FORMAT = 1
"""Increased when the same plan would give another result, so that older runs are not reused."""


@dataclass(frozen=True, slots=True)
class RunStore:
    """The finished runs of a study.

    Attributes:
        folder: The study's run folder; all kinds of study share its runs.
    """

    folder: Path

    def load(self, ident: str) -> RunResult | None:
        """Return the result of a run; None if it is not finished, or its file is damaged."""
        try:
            found = msgspec.json.decode(self._file(ident).read_bytes(), type=RunResult)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return found if found.run == ident else None

    def save(self, outcome: RunResult) -> None:
        """Write the result of a run.

        Raises:
            RunError: The file cannot be written.
        """
        file = self._file(outcome.run)
        RunFolder(file.parent).write_text(file.name, msgspec.json.encode(outcome).decode())

    @contextmanager
    def claim(self, ident: str) -> Iterator[Path | None]:
        """Lock a run and yield an empty work folder for it; None if another process makes the run.

        Raises:
            RunError: The study's folder cannot be written.
        """
        work = self.folder / "work" / ident
        try:
            self._file(ident).parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._file(ident).with_suffix(".lock"), timeout=0):
                # Files of a process that was killed during this run.
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
                hint="Free disk space, or grant write permission on the study's folder.",
            ) from None

    def clean_up(self) -> None:
        """Remove the work folders of killed processes."""
        for left in (self.folder / "work").glob("*"):
            with self.claim(left.name):
                pass  # claiming clears the folder

    def _file(self, ident: str) -> Path:
        return self.folder / "runs" / f"{ident}.json"


def run_id(plan: RunPlan, inputs: TaskInputs, settings: Settings) -> str:
    """Return the fingerprint of a run: of everything that determines its result, and nothing else.

    The name of the condition is not included, so identical runs of two studies or conditions are made once.
    """
    blocks = [[_row_contents(block.new), _row_contents(block.again)] for block in plan.blocks]
    coder = inputs.teacher_labels[plan.coder] if plan.coder else None
    how = student_section(settings, inputs, max(1, len(plan.rows)), plan.seed).model_dump(mode="json")
    return hash_json(
        [
            _FORMAT,
            plan.learner,
            coder and dict(coder.test),
            _row_contents(plan.rows),
            blocks,
            how,
            settings.protocol,
            inputs.weights,
            _coded_contents(settings.selection_rows(inputs)),
            {name: _coded_contents(rows) for name, rows in inputs.tests.items()},
            [inputs.task.kind, inputs.task.names, inputs.task.inputs],
            inputs.data,
        ]
    )[:32]


def _row_contents(rows: Sequence[MixtureRow]) -> list[object]:
    return [[row.id, row.source, row.label, dict(row.shares), dict(row.inputs)] for row in rows]


def _coded_contents(rows: Iterable[CodedResponse]) -> list[object]:
    return [[row.response.id, row.label, dict(row.response.inputs)] for row in rows]
