"""Tables of what `quantization_recipes.py` measured: means over students, and each student's flips in brackets."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from quantization_sets import LESSONS, split_of
from rich import box
from rich.table import Table
from sklearn.metrics import cohen_kappa_score, f1_score

from edgedistill_export.verify.fidelity import measure_agreement_loss, measure_fidelity
from edgedistill_export.verify.parity import Logits
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.label_decoding import LabelDecoder

PERCENTILES = (90, 99)
"""Of the change of a row's two best logits' distance: twice that is the margin below which rows are scored again."""


def identical(session: Session, sizes_of_a_length: int = 2) -> str:
    """Score random rows of equal length alone and in batches: every length from 4 to 64 tokens, 2 to 16 rows.

    Args:
        session: The graph.
        sizes_of_a_length: With how many sizes of a batch each length is tried, at most 15; all sizes take turns.

    Returns:
        ``yes``, or in how many batches a logit differed, and the largest difference.
    """
    draw, differing, largest, batches = np.random.default_rng(0), 0, 0.0, 0
    for length in range(4, 65):
        sizes = [2 + (4 * length + 7 * turn) % 15 for turn in range(sizes_of_a_length)]
        ids = draw.integers(1000, 20000, size=(max(sizes), length)).tolist()
        rows = [Encoded(tuple(row), (0,) * length, length, truncated=False) for row in ids]
        alone = np.array([session.logits(row) for row in rows])
        for size in sizes:
            batches += 1
            change = float(np.abs(session.batch_logits(rows[:size]) - alone[:size]).max())
            differing += change > 0
            largest = max(largest, change)
    return "yes" if not differing else f"{differing}/{batches}, {largest:.1g}"


def choosing_table(out: Path, students: Sequence[str], lesson: str, data: Path) -> Table:
    """Figures on the rows that choose."""
    rows = split_of(lesson, data).choosing
    return _table(out, students, lesson, "choosing", [row["label"] for row in rows])


def test_table(out: Path, students: Sequence[str], lesson: str, data: Path, test: str) -> Table:
    """Figures on rows that choose nothing."""
    return _table(out, students, lesson, test, [row["label"] for row in split_of(lesson, data).tests[test]])


def _table(out: Path, students: Sequence[str], lesson: str, part: str, codes: Sequence[str]) -> Table:
    task = LESSONS[lesson].task
    decoder = LabelDecoder(task)
    heads = ("recipe", "flips %", "expected %", "change", "batch flips", "macro-F1", "kappa", "lost", "recall", "ECE")
    table = Table(*heads, title=f"{lesson}, {part}: {len(codes)} rows", box=box.MARKDOWN)
    for name in _recipes(out, students):
        cells: list[list[float]] = [[] for _ in heads[1:]]
        for student in students:
            fp32, own = _logits(out, student, "fp32", part), _logits(out, student, name, part)
            kept, coded = measure_fidelity(fp32, own, decoder), measure_agreement_loss(fp32, own, decoder, codes)
            labels = [task.names[best] for best in own.argmax(axis=1)]
            batches = _logits(out, student, name, "batches")
            alone = _logits(out, student, name, "choosing")
            found = (
                100 * kept.flip_rate,
                100 * kept.expected_flip_rate,
                kept.max_probability_difference,
                float((batches.argmax(axis=1) != alone.argmax(axis=1)).sum()),
                float(f1_score(codes, labels, average="macro")),
                float(cohen_kappa_score(codes, labels)),
                coded.kappa_lost or 0.0,
                coded.worst_recall_change,
                coded.calibration_error,
            )
            for cell, figure in zip(cells, found, strict=True):
                cell.append(figure)
        digits = (2, 2, 3, 0, 3, 3, 4, 3, 3)
        means = [f"{statistics.mean(cell):.{places}f}" for cell, places in zip(cells, digits, strict=True)]
        table.add_row(name, _told(cells[0], 2), *means[1:])
    return table


def rescored_table(out: Path, students: Sequence[str], part: str) -> Table:
    """What scoring again in fp32 the rows with close labels would give; the margin is set on the rows that choose."""
    heads = ("recipe", *(f"{what}, {which}" for which in PERCENTILES for what in ("again %", "flips %")))
    table = Table(*heads, title=f"scored again in fp32, {part}", box=box.MARKDOWN)
    for name in _recipes(out, students):
        cells: list[list[float]] = [[] for _ in heads[1:]]
        for student in students:
            change = _gaps(_logits(out, student, name, "choosing")) - _gaps(_logits(out, student, "fp32", "choosing"))
            fp32, own = _logits(out, student, "fp32", part), _logits(out, student, name, part)
            for place, percentile in enumerate(PERCENTILES):
                again = _gaps(own) < 2 * np.percentile(np.abs(change), percentile)
                served = np.where(again[:, None], fp32, own)
                cells[2 * place].append(100 * float(again.mean()))
                cells[2 * place + 1].append(100 * float((served.argmax(1) != fp32.argmax(1)).mean()))
        table.add_row(name, *(_told(cell, 2) for cell in cells))
    return table


def speed_table(out: Path, student: str) -> Table:
    """Speeds as times fp32, of the processor's time."""
    heads = ("recipe", "alone 1/2", "batched 1/2", "texts/s", "MB", "load s", "same bits in batches of equal length")
    table = Table(*heads, title=f"speed, {student}", box=box.MARKDOWN)
    for name, message in json.loads((out / f"{student}.speed.json").read_text()).items():
        table.add_row(
            name,
            "/".join(f"{times:.2f}" for times in message["alone"]),
            "/".join(f"{times:.2f}" for times in message["batched"]),
            f"{message['texts']:.0f}",
            f"{message['bytes'] / 1e6:.1f}",
            f"{message['load']:.2f}",
            message["identical"],
        )
    return table


def _recipes(out: Path, students: Sequence[str]) -> list[str]:
    """What every student has, fp32 first."""
    shared = set.intersection(*({file.stem for file in (out / student).glob("*.npz")} for student in students))
    return ["fp32", *sorted(shared - {"fp32"})]


def _logits(out: Path, student: str, recipe: str, part: str) -> Logits:
    with np.load(out / student / f"{recipe}.npz") as kept:
        found: Logits = kept[part].astype(np.float32)
    return found


def _gaps(logits: Logits) -> Logits:
    """How far each row's best logit lies above its second."""
    ordered = np.sort(logits, axis=1)
    gaps: Logits = ordered[:, -1] - ordered[:, -2]
    return gaps


def _told(figures: Iterable[float], digits: int) -> str:
    listed = list(figures)
    each = "/".join(f"{figure:.{digits}f}" for figure in listed)
    return f"{statistics.mean(listed):.{digits}f} ({each})" if len(listed) > 1 else each
