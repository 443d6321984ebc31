"""Human-coded rows as the student scores them."""

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from edgedistill.agreement.bootstrap import groups_of
from edgedistill.records.types import CodedResponse, TestRows, ValidationRows
from edgedistill.review import Scores, TestScores, ValidationScores
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task import inputs_of

S = TypeVar("S", bound=Scores)


def validation_scores(student: Checkpoint, rows: ValidationRows) -> ValidationScores:
    """Score the validation rows with the student in PyTorch, each alone."""
    return _scores(ValidationScores, student, rows)


def test_scores(student: Checkpoint, rows: TestRows) -> TestScores:
    """Score the test rows with the student in PyTorch, each alone."""
    return _scores(TestScores, student, rows)


test_scores.__test__ = False  # type: ignore[attr-defined]  # pytest: this is no test


def _scores(kind: type[S], student: Checkpoint, rows: Iterable[CodedResponse]) -> S:
    coded = list(rows)
    inputs: list[dict[str, Any]] = [inputs_of(row.response.inputs, student.task) for row in coded]
    groups = groups_of([row.response.group for row in coded])
    return kind(
        task=student.task,
        ids=tuple(row.response.id for row in coded),
        codes=tuple(row.label for row in coded),
        logits=student.logits(inputs).astype(np.float64),
        encoded=tuple(student.encoder.encode(inputs)),
        groups=tuple(groups) if groups else None,
    )
