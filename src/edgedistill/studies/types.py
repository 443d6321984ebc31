"""What flows through a study: from the plan of one run to what its students said.

RunPlan        one run that is to be made: rows, learner, seed, and by what it is told apart
RunResult     what came of it: students in the order in which they were had
└── StudentResult       one student (or the teacher itself)
    └── Predictions      what it says of one set of test rows
ResultRow        one student on one set of test rows, result_rows: a row of runs.csv
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from edgedistill.agreement import Agreement, Averages, Estimate
from edgedistill.data.types import MixtureRow, Source

Learner: TypeAlias = Literal["fine-tuned", "frozen", "teacher"]
Fact: TypeAlias = str | int | float | None
TestSet: TypeAlias = Literal["test", "transfer"]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run that is to be made.

    Attributes:
        task: The task's name.
        condition: What the study calls it; the same condition is run with every seed.
        learner: `fine-tuned` student, `frozen` encoder with a trained head, or the `teacher` itself.
        seed: Of the student.
        rows: What it learns from.
        blocks: What the student learns from afterwards, block by block, each scored: a row of new ones, and those that
            are shown again.
        coder: Of the learner `teacher`: its name.
        facts: Further columns of the table.
        reference: The condition that it is compared with; empty for none.
        missing: Why it cannot be made; empty where it can.
    """

    task: str
    condition: str
    learner: Learner
    seed: int
    rows: tuple[MixtureRow, ...] = ()
    blocks: tuple["Block", ...] = ()
    coder: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    reference: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that a student goes on with.

    Attributes:
        new: Rows that it has not seen.
        again: Rows that it has seen and is shown again.
    """

    new: tuple[MixtureRow, ...]
    again: tuple[MixtureRow, ...] = ()


class Predictions(msgspec.Struct, frozen=True):
    """What one student says of one set of test rows.

    Attributes:
        test: Which set.
        labels: A label per row, in the rows' order; None where the teacher left it uncoded.
        probabilities: (rows, labels), in [0, 1]; None of a teacher.
    """

    test: TestSet
    labels: tuple[str | None, ...]
    probabilities: tuple[tuple[float, ...], ...] | None = None


class StudentResult(msgspec.Struct, frozen=True):
    """One student.

    Attributes:
        block: How many blocks it has gone on with.
        rows: Different rows that it has learnt from, by source.
        scored: What it says of each set of test rows.
        seconds: Wall time of its training and scoring.
        learning_rate: Peak learning rate; None where there is none.
        batch_size: Rows in a batch.
        epochs: Passes over its rows.
        best_epoch: The one that validation rows chose.
        validation_macro_f1: What it reached there; it chose, so it flatters.
    """

    block: int
    rows: dict[Source, int]
    scored: tuple[Predictions, ...]
    seconds: float
    learning_rate: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    validation_macro_f1: float | None = None


class RunResult(msgspec.Struct, frozen=True):
    """What came of a run.

    Attributes:
        run: The run's fingerprint: of everything that decides its outcome.
        points: Its students, in order.
    """

    run: str
    points: tuple[StudentResult, ...]


@dataclass(frozen=True, slots=True)
class Metrics:
    """How far one coding of test rows agrees with the human codes, with 95 % intervals over the rows.

    Attributes:
        agreement: Over the rows that were coded.
        averages: F1, precision and recall of the positive label, or the mean over labels where none is named.
        auc: Area under the ROC curve, of the positive label or the mean of each label against the rest; None of a
            coding without probabilities, or where undefined.
    """

    agreement: Agreement
    averages: Averages
    auc: Estimate | None


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One student on one set of test rows."""

    plan: RunPlan
    point: StudentResult
    scored: Predictions
    figures: Metrics
