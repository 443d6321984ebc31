"""Whether the mixture can train a student and the validation rows can judge it."""

from collections import Counter
from collections.abc import Iterable, Sequence

from edgedistill.errors import DataError, TrainingFailed
from edgedistill.records.codes import canonical_code, labels_in
from edgedistill.records.types import MixtureRow, ValidationRows
from edgedistill.student.rows import TrainingRow
from edgedistill_serve.task import Task


def check_rows(mixture: Sequence[MixtureRow], validation: ValidationRows, task: Task) -> tuple[str, ...]:
    """Refuse what cannot train or judge a student; note what can, but poorly.

    Returns:
        A note for every label that one of the two lacks.

    Raises:
        TrainingFailed: Rows that are no validation rows; too few rows or labels; a label or an input that does not fit
            the task.
    """
    if not isinstance(validation, ValidationRows):
        raise TrainingFailed(
            f"validation rows choose the epoch, and these are {type(validation).__name__}",
            mend="Hand in ValidationRows; test rows must choose nothing.",
        )
    if not validation:
        raise TrainingFailed("there are no validation rows", mend="Give `validation` a share in data.split.")
    _check_labels("mixture", ((row.id, row.label) for row in mixture), task)
    _check_labels("validation", ((row.response.id, row.label) for row in validation), task)
    _check_inputs(mixture, validation, task)
    counts = Counter(label for row in mixture for label in labels_in(row.label, task))
    if len(mixture) < len(task.names):
        raise TrainingFailed(
            f"the mixture has {len(mixture)} rows for {len(task.names)} labels",
            mend="Code more responses, or let the teacher label some.",
        )
    if len(codes := {row.label for row in mixture}) == 1:
        raise TrainingFailed(
            f"every row of the mixture has the label {codes.pop()!r}",
            mend="A student needs rows of at least two labels; see `mix` in the project file.",
        )
    judging = Counter(label for code in validation.labels for label in labels_in(code, task))
    return (*_notes_on_labels(task, counts, judging), *_always(task, counts, len(mixture)))


def note_cut_rows(rows: Sequence[TrainingRow], where: str, max_tokens: int) -> tuple[str, ...]:
    """Say how many responses are longer than the student can read, if any are."""
    cut = sum(row.encoded.truncated for row in rows)
    if not cut:
        return ()
    return (f"{cut} of {len(rows)} {where} responses are longer than max_tokens = {max_tokens} allows and were cut.",)


def _notes_on_labels(task: Task, mixture: Counter[str], validation: Counter[str]) -> tuple[str, ...]:
    untaught = [
        f"No row of the mixture has the label {name!r}: the student cannot learn it."
        for name in task.names
        if not mixture[name]
    ]
    unjudged = [
        f"No validation row has the label {name!r}: the choice of the epoch does not heed it."
        for name in task.names
        if not validation[name]
    ]
    return (*untaught, *unjudged)


def _always(task: Task, mixture: Counter[str], rows: int) -> tuple[str, ...]:
    return tuple(
        f"Every row of the mixture has the label {name!r}: the student cannot learn when it does not hold."
        for name in task.names
        if mixture[name] == rows
    )


def _check_labels(where: str, labels: Iterable[tuple[str, str]], task: Task) -> None:
    for row, label in labels:
        try:
            canonical_code(label, task)
        except DataError as error:
            raise TrainingFailed(error.what, where=f"{where} row {row!r}", mend=error.mend) from None


def _check_inputs(mixture: Sequence[MixtureRow], validation: ValidationRows, task: Task) -> None:
    inputs = [("mixture", row.id, row.inputs) for row in mixture]
    inputs += [("validation", row.response.id, row.response.inputs) for row in validation]
    for where, row, given in inputs:
        if missing := [name for name in task.inputs if name not in given]:
            raise TrainingFailed(
                f"the input {missing[0]!r} is missing",
                where=f"{where} row {row!r}",
                mend=f"This task's inputs: {', '.join(task.inputs)}.",
            )
