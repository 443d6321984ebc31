"""Students of several sizes, and the smallest that is not worse than the best.

The rule is a test of non-inferiority on the validation rows (Wellek 2010, "Testing Statistical Hypotheses of
Equivalence and Noninferiority", chapter 1): a student is not worse than the best if the upper end of the 95 % interval
of the κ that it loses, paired on the same rows, is at most the margin. The best is the one with the highest κ on these
rows, so that a smaller student is compared with a slightly optimistic figure. Test rows confirm the choice afterwards
(`edgedistill.report.findings`).
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from edgedistill.agreement import agreement
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.agreement.paired import change
from edgedistill.data.twins import same_row
from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.project.student import Size
from edgedistill.sizes import SizeChoice, SizeFigures, kappa_value, size_folder, size_name
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

_ROUNDS = 5
_TIMED_ROWS = 64


def check_sizes(sizes: Sequence[Size], backbone: Path) -> int:
    """Return the number of layers of a backbone, which is at least as large as every size.

    Raises:
        TrainingFailed: A size has more layers.
    """
    layers = int(AutoConfig.from_pretrained(backbone, local_files_only=True).num_hidden_layers)
    for size in sizes:
        if isinstance(size, int) and size > layers:
            raise TrainingFailed(
                f"the backbone has {layers} layers, and sizes asks for {size}",
                where="student.sizes",
                hint=f"Use 1 to {layers}, or another student.backbone.",
            )
    return layers


def choose_size(
    trained: Mapping[Size, Checkpoint], validation: ValidationRows, margin: float, precision: Precision
) -> SizeChoice:
    """Measure students of several sizes on the validation rows, and choose one.

    Args:
        trained: By size, at least one student, all of one task.
        validation: Human-coded rows.
        margin: The κ that the smallest may lose, in (0, 1).
        precision: That of the graphs that would be served; where int8 fails, fp32 is measured.

    Raises:
        ExportFailed: A student cannot be converted to ONNX.
    """
    students = {size_name(size): student for size, student in trained.items()}
    codes, task = validation.labels, next(iter(students.values())).task
    rows = [dict(row.response.inputs) for row in validation]
    groups = bootstrap_groups([row.response.group for row in validation])
    labels = {
        name: choose_label_decoder(student, validation).labels(student.logits(rows))
        for name, student in students.items()
    }
    kappas = {name: agreement(codes, coded, task, groups=groups).kappa for name, coded in labels.items()}
    costs = _costs(students, rows, precision)
    best = max(students, key=lambda name: (kappa_value(kappas[name]), -costs[name].bytes))
    sizes = []
    for name in sorted(students, key=lambda name: costs[name].bytes):
        lost = change(codes, labels[best], labels[name], task, groups=groups).kappa_lost
        cost = costs[name]
        sizes.append(
            SizeFigures(
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
    picked = next(size.name for size in sizes if size.not_worse)
    folder = next(size_folder(size) for size in trained if size_name(size) == picked)
    return SizeChoice(tuple(sizes), margin, best, picked, folder, len(rows))


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
    with temporary_folder("sizes") as work:
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
    known = {same_row(row.inputs) for row in mixture}
    others = [text for text in texts if same_row(text) not in known]
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
