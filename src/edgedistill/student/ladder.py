"""A ladder of sizes: students of several sizes, and the smallest that is not worse than the best.

The rule is a test of non-inferiority on the validation rows (Wellek 2010, "Testing Statistical Hypotheses of
Equivalence and Noninferiority", chapter 1): a student is not worse than the best if the upper end of the 95 % interval
of the κ that it loses, paired on the same rows, is at most the margin. The best is the one with the highest κ on these
rows, so that a smaller student is compared with a slightly optimistic figure. Test rows confirm the choice afterwards
(`edgedistill.report.findings`).
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from edgedistill.agreement import Estimate, agreement
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.agreement.paired import change
from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.student.frozen import probabilities_of_logits
from edgedistill.student.label_thresholds import choose_label_decoder
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.overflow import check_overflow
from edgedistill_export.quantize.recipes import DEFAULT
from edgedistill_export.temporary import temporary_folder
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.task import Task, task_inputs

Size: TypeAlias = Literal["nano", "frozen"] | int
"""A kind of student, or a number of layers of the backbone."""

_ROUNDS = 5
_TIMED_ROWS = 64


def size_name(size: Size) -> str:
    """Return the name of a size in files and tables, such as ``3 layers``."""
    return f"{size} {'layer' if size == 1 else 'layers'}" if isinstance(size, int) else size


def check_sizes(sizes: Sequence[Size], layers: int) -> None:
    """Check that a backbone has as many layers as the sizes ask for.

    Raises:
        TrainingFailed: A size has more layers.
    """
    for size in sizes:
        if isinstance(size, int) and size > layers:
            raise TrainingFailed(
                f"the backbone has {layers} layers, and one of the sizes has {size}",
                where="student.sizes",
                hint=f"Use 1 to {layers}, or another student.backbone.",
            )


@dataclass(frozen=True, slots=True)
class Rung:
    """One size of the ladder.

    Attributes:
        name: As `size_name` returns it.
        bytes: Of the graph that would be served, and its tokenizer.
        precision: Of that graph.
        texts_per_second: Texts per second of processor time, from text to logits, one at a time on one thread: the
            median of rounds in which all sizes took turns.
        cpu_seconds_per_1000: Processor time of 1,000 responses, in seconds.
        kappa: Agreement with the human codes of the validation rows; None if it is undefined.
        kappa_lost: κ of the best minus κ of this size on the same rows, with a paired 95 % interval; None if undefined.
        not_worse: Whether the upper end of that interval is at most the margin.
    """

    name: str
    bytes: int
    precision: Precision
    texts_per_second: float
    cpu_seconds_per_1000: float
    kappa: Estimate | None
    kappa_lost: Estimate | None
    not_worse: bool


@dataclass(frozen=True, slots=True)
class Ladder:
    """All sizes, and the choice.

    Attributes:
        rungs: In ascending order of bytes.
        margin: The κ that the smallest may lose.
        best: Name of the size with the highest κ on validation rows.
        picked: Name of the smallest size that is not worse than the best.
        rows: Number of validation rows.
    """

    rungs: tuple[Rung, ...]
    margin: float
    best: str
    picked: str
    rows: int

    @property
    def note(self) -> str:
        """The choice in a sentence or two."""
        by_name = {rung.name: rung for rung in self.rungs}
        picked, rows = by_name[self.picked], f"the {self.rows} validation rows"
        if self.picked != self.best:
            lost = picked.kappa_lost
            interval = f" (it loses {lost.value:.3f}, {lost.low:.3f} to {lost.high:.3f})" if lost else ""
            return (
                f"{self.picked} is the smallest size that is not worse than the best, {self.best}, by more than "
                f"{self.margin:g} κ on {rows}{interval}; it is evaluated and exported."
            )
        if picked is self.rungs[0]:
            return f"{self.picked} is the smallest size and has the highest κ on {rows}; it is evaluated and exported."
        return (
            f"{self.picked} has the highest κ on {rows}, and no smaller size was shown to be not worse by more than "
            f"{self.margin:g}; it is evaluated and exported. More validation rows narrow the intervals."
        )


def climb(
    students: Mapping[str, Checkpoint], validation: ValidationRows, margin: float, precision: Precision
) -> Ladder:
    """Measure students of several sizes on the validation rows, and choose one.

    Args:
        students: By name, at least one, all of one task.
        validation: Human-coded rows.
        margin: The κ that the smallest may lose, in (0, 1).
        precision: That of the graphs that would be served; where int8 fails, fp32 is measured.

    Raises:
        ExportFailed: A student cannot be converted to ONNX.
    """
    codes, task = validation.labels, next(iter(students.values())).task
    rows = [dict(row.response.inputs) for row in validation]
    groups = bootstrap_groups([row.response.group for row in validation])
    labels = {
        name: choose_label_decoder(student, validation).labels(student.logits(rows))
        for name, student in students.items()
    }
    kappas = {name: agreement(codes, coded, task, groups=groups).kappa for name, coded in labels.items()}
    costs = _costs(students, rows, precision)
    best = max(students, key=lambda name: (_value(kappas[name]), -costs[name].bytes))
    rungs = []
    for name in sorted(students, key=lambda name: costs[name].bytes):
        lost = change(codes, labels[best], labels[name], task, groups=groups).kappa_lost
        cost = costs[name]
        rungs.append(
            Rung(
                name,
                cost.bytes,
                cost.precision,
                cost.texts_per_second,
                1000 / cost.texts_per_second,
                kappas[name],
                lost,
                name == best or (lost is not None and lost.high <= margin),
            )
        )
    picked = next(rung.name for rung in rungs if rung.not_worse)
    return Ladder(tuple(rungs), margin, best, picked, len(rows))


def _value(kappa: Estimate | None) -> float:
    return -math.inf if kappa is None or math.isnan(kappa.value) else kappa.value


@dataclass(frozen=True, slots=True)
class _Cost:
    bytes: int
    precision: Precision
    texts_per_second: float


def _costs(
    students: Mapping[str, Checkpoint], rows: Sequence[Mapping[str, str]], precision: Precision
) -> dict[str, _Cost]:
    """Convert all students, and time them in turns."""
    some = rows[:: -(-len(rows) // _TIMED_ROWS)]
    seconds: dict[str, list[float]] = {name: [] for name in students}
    with temporary_folder("ladder") as work:
        graphs = {
            name: _served_graph(student, rows, precision, work / str(place))
            for place, (name, student) in enumerate(students.items())
        }
        sessions = {name: Session(file, overflow_free=True) for name, (file, _) in graphs.items()}
        for _ in range(_ROUNDS):
            for name, session in sessions.items():
                seconds[name].append(_seconds(session, students[name].encoder, some, students[name].task))
        return {
            name: _Cost(
                file.stat().st_size + (students[name].folder / "tokenizer.json").stat().st_size,
                served,
                len(some) / statistics.median(seconds[name]),
            )
            for name, (file, served) in graphs.items()
        }


def _seconds(session: Session, encoder: Encoder, rows: Sequence[Mapping[str, str]], task: Task) -> float:
    start = time.process_time()
    for row in rows:
        session.logits(encoder.encode([task_inputs(row, task)])[0])
    return max(time.process_time() - start, 1e-9)


def _served_graph(
    student: Checkpoint, rows: Sequence[Mapping[str, str]], precision: Precision, folder: Path
) -> tuple[Path, Precision]:
    fp32, int8 = folder / "model.onnx", folder / "model_quantized.onnx"
    folder.mkdir()
    to_onnx(student, fp32)
    if precision == "fp32":
        return fp32, "fp32"
    try:
        DEFAULT(fp32, int8, student.encoder.encode([task_inputs(row, student.task) for row in rows]))
        check_overflow(int8)
        Session(int8, overflow_free=True)
    except (BundleError, ExportFailed, ScoringFailed):
        return fp32, "fp32"
    return int8, "int8"


def with_soft_labels(
    mixture: Sequence[MixtureRow],
    texts: Sequence[Mapping[str, str]],
    teacher: Checkpoint,
    validation: ValidationRows,
) -> list[MixtureRow]:
    """Return a mixture and all other texts, with a larger student's probabilities as their soft labels.

    Args:
        mixture: Rows with labels, which stay as they are.
        texts: The task's inputs of texts; those of the mixture are not repeated.
        teacher: The larger student.
        validation: Chooses its thresholds, for a multilabel task.
    """
    known = {tuple(row.inputs.values()) for row in mixture}
    others = [text for text in texts if tuple(text.values()) not in known]
    if not others:
        return [*mixture]
    logits = teacher.logits(others)
    labels = choose_label_decoder(teacher, validation).labels(logits)
    shares = probabilities_of_logits(logits, teacher.task)
    return [
        *mixture,
        *(
            MixtureRow(f"text {place}", text, label, "teacher", dict(zip(teacher.task.names, row, strict=True)))
            for place, (text, label, row) in enumerate(zip(others, labels, shares.tolist(), strict=True), start=1)
        ),
    ]
