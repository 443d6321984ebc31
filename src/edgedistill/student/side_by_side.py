"""Two students of the same task beside each other: bytes, speed, and how often they say the same."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from edgedistill.agreement.paired import Change, change
from edgedistill.student.thresholds import readout_by
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.parity import Logits
from edgedistill_serve.task import Task

_ROUNDS = 5
_ROWS = 40


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One student beside another, in PyTorch and fp32.

    Attributes:
        bytes: Of each one's weights and tokenizer.
        texts_per_second: Of each, in a second of one core's time, rows scored one at a time and on one thread: the
            median of rounds in which they take turns.
        times_as_fast: The second's speed divided by the first's, the median of the rounds.
        change: What the second changes on the same human-coded rows; of a multilabel task these rows choose the
            thresholds of each.
    """

    bytes: tuple[int, int]
    texts_per_second: tuple[float, float]
    times_as_fast: float
    change: Change


def side_by_side(
    first: Checkpoint, second: Checkpoint, rows: Sequence[Mapping[str, str]], codes: Sequence[str]
) -> SideBySide:
    """Compare two students.

    Args:
        first: One student.
        second: Another of the same task.
        rows: The task's inputs of human-coded rows, at least one.
        codes: Their codes.
    """
    before, after = (_labels(each.logits(rows), codes, each.task) for each in (first, second))
    rounds = [(_speed(first, rows), _speed(second, rows)) for _ in range(_ROUNDS)]
    return SideBySide(
        (_bytes(first), _bytes(second)),
        (median(one for one, _ in rounds), median(two for _, two in rounds)),
        median(two / one for one, two in rounds),
        change(codes, before, after, first.task),
    )


def _labels(logits: Logits, codes: Sequence[str], task: Task) -> tuple[str, ...]:
    return readout_by(logits, codes, task).labels(logits)


def _speed(student: Checkpoint, rows: Sequence[Mapping[str, str]]) -> float:
    """Texts per second of processor time, which other work on the machine touches least."""
    start = time.process_time()
    student.logits(rows[:_ROWS])
    return len(rows[:_ROWS]) / max(time.process_time() - start, 1e-9)


def _bytes(student: Checkpoint) -> int:
    return sum((student.folder / name).stat().st_size for name in ("model.safetensors", "tokenizer.json"))
