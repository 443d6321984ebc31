"""What each source has to give, as rows that may be trained on, each with where its label came from."""

from collections.abc import Iterable, Sequence

from edgedistill.records.codes import certain_shares
from edgedistill.records.types import MixtureRow, Response, TeacherLabel, TrainRows
from edgedistill_serve.task import Task


def human_rows(train: TrainRows, task: Task) -> tuple[MixtureRow, ...]:
    """Return the human-coded train rows."""
    return tuple(
        MixtureRow(row.response.id, row.response.inputs, row.label, "human", certain_shares(row.label, task))
        for row in train
    )


def teacher_rows(
    responses: Iterable[Response], labels: Sequence[TeacherLabel], min_consistency: float = 0.0
) -> tuple[MixtureRow, ...]:
    """Return the responses that a teacher coded with the consistency asked for, in the labels' order.

    Args:
        responses: Every response that was coded; others may stand among them.
        labels: What the teacher made of them.
        min_consistency: In [0, 1].
    """
    by_id = {response.id: response for response in responses}
    return tuple(
        MixtureRow(
            row.id,
            by_id[row.id].inputs,
            row.label,
            "teacher",
            row.shares,
            {"teacher": row.teacher, "consistency": f"{row.consistency:g}"},
        )
        for row in labels
        if row.consistency >= min_consistency
    )
