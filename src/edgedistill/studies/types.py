"""The data types of a study, from the plan of one run to its results.

RunPlan                  one run to make: its rows, learner, seed and condition
RunResult                the result of a run: its students in the order of training
└── StudentResult        one student, or the teacher
    └── Predictions      its labels for one set of test rows
ResultRow                one student on one set of test rows: a row of runs.csv
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
    """One run to make.

    Attributes:
        task: Name of the task.
        condition: Name of the condition; each condition is run with every seed.
        learner: `fine-tuned` student, `frozen` encoder with a trained head, or the `teacher` itself.
        seed: Random seed of the student.
        rows: Training rows.
        blocks: Further training rows, block by block; the student is evaluated after each block.
        coder: Name of the teacher, if the learner is `teacher`.
        facts: Further columns of the table.
        reference: The condition that this one is compared with; empty for none.
        missing: Why the run cannot be made; empty if it can.
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
    """Rows for continued training of a student.

    Attributes:
        new: Rows that the student has not seen.
        again: Rows that it has seen and that are replayed.
    """

    new: tuple[MixtureRow, ...]
    again: tuple[MixtureRow, ...] = ()


class Predictions(msgspec.Struct, frozen=True):
    """The predictions of one student for one set of test rows.

    Attributes:
        test: Which set.
        labels: One label per row, in the order of the rows; None where the teacher returned no label.
        probabilities: (rows, labels), in [0, 1]; None for a teacher.
    """

    test: TestSet
    labels: tuple[str | None, ...]
    probabilities: tuple[tuple[float, ...], ...] | None = None


class StudentResult(msgspec.Struct, frozen=True):
    """One student.

    Attributes:
        block: Number of blocks of continued training.
        rows: Number of distinct training rows by source.
        predictions: Its predictions for each set of test rows.
        seconds: Wall time of training and scoring.
        learning_rate: Peak learning rate; None if there is none.
        batch_size: Rows in a batch.
        epochs: Number of epochs.
        best_epoch: The epoch selected on validation rows.
        validation_macro_f1: Macro-F1 of this epoch on validation rows; biased upwards, because it selected the epoch.
    """

    block: int
    rows: dict[Source, int]
    predictions: tuple[Predictions, ...] = msgspec.field(name="scored")
    seconds: float
    learning_rate: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    validation_macro_f1: float | None = None


class RunResult(msgspec.Struct, frozen=True):
    """The result of a run.

    Attributes:
        run: Fingerprint of the run: of everything that determines its result.
        students: Its students, in the order of training.
    """

    run: str
    students: tuple[StudentResult, ...] = msgspec.field(name="points")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Agreement of predicted labels with the human codes of test rows, with 95 % intervals over the rows.

    Attributes:
        agreement: Over the rows with a predicted label.
        averages: F1, precision and recall of the positive label, or the mean over labels if no label is positive.
        auc: Area under the ROC curve, of the positive label or the mean of each label against the rest; None without
            probabilities, or if undefined.
    """

    agreement: Agreement
    averages: Averages
    auc: Estimate | None


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One student on one set of test rows."""

    plan: RunPlan
    student: StudentResult
    predictions: Predictions
    metrics: Metrics
