"""The rows of the comparison of recipes: what trains a student, what chooses a recipe, and what only reports.

    Lesson    a set of human-coded rows and its task
    Split     its rows by what they may be used for

Rows of `train.csv` are shuffled once. The first 400 are the student's validation rows, which choose its epoch; of them
128 calibrate recipes and the others choose among recipes. The next ones train. Those after them, which no student saw,
choose among recipes too. Rows of the other files choose nothing.
"""

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgedistill_serve.task.task import Label, Task

Row = dict[str, str]

VALIDATION_ROWS = 400
CALIBRATION_ROWS = 128
MAX_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Lesson:
    """A set of human-coded rows.

    Attributes:
        task: What is scored.
        tests: The files whose rows choose nothing.
        train_rows: How many rows train a student.
        epochs: Passes over them.
        choosing_rows: The most rows that choose among recipes.
    """

    task: Task
    tests: tuple[str, ...]
    train_rows: int = 1800
    epochs: int = 4
    choosing_rows: int = 600


LESSONS: Mapping[str, Lesson] = {
    "beetle": Lesson(
        Task(
            "nominal",
            tuple(map(Label, ("correct", "contradictory", "incorrect"))),
            ("question", "reference_answer", "response"),
        ),
        ("test_ua", "test_uq"),
    ),
    "babe": Lesson(Task("nominal", tuple(map(Label, ("biased", "unbiased"))), ("response",)), ("test",), 1500, 3),
    "hyperbole": Lesson(
        Task("nominal", tuple(map(Label, ("hyperbole", "not hyperbole"))), ("response",)), ("test",), 1500, 3
    ),
}


@dataclass(frozen=True, slots=True)
class Split:
    """Rows by what they may be used for.

    Attributes:
        train: They train the student.
        validation: They choose its epoch.
        calibration: Those of ``validation`` that recipes are calibrated on.
        choosing: They choose among recipes: neither trained nor calibrated on.
        tests: By file, rows that choose nothing.
    """

    train: list[Row]
    validation: list[Row]
    calibration: list[Row]
    choosing: list[Row]
    tests: dict[str, list[Row]]


def split_of(name: str, data: Path, *, all_rows: bool = False) -> Split:
    """Read a lesson's rows from ``data/NAME`` and divide them, always in the same way; all that are left may train."""
    lesson = replace(LESSONS[name], train_rows=10**6) if all_rows else LESSONS[name]
    rows = _read(data / name / "train.csv")
    random.Random(0).shuffle(rows)  # noqa: S311  a draw of rows, not a secret
    validation, others = rows[:VALIDATION_ROWS], rows[VALIDATION_ROWS:]
    choosing = validation[CALIBRATION_ROWS:] + others[lesson.train_rows :]
    return Split(
        others[: lesson.train_rows],
        validation,
        validation[:CALIBRATION_ROWS],
        choosing[: lesson.choosing_rows],
        {test: _read(data / name / f"{test}.csv") for test in lesson.tests},
    )


def _read(file: Path) -> list[Row]:
    """Rows of a CSV file, with the first of the reference answers."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row | {"reference_answer": row.get("reference_answer", "").split(" || ")[0]} for row in rows]
