"""What every comparison asks of its codings before it begins."""

from collections.abc import Sequence

import numpy as np

from edgedistill.agreement.statistics import Counts
from edgedistill.errors import DataError
from edgedistill_serve.task import Task


def check_lengths(reference: Sequence[str], **codings: Sequence[str]) -> None:
    """Check that there are rows, and as many of each coding.

    Args:
        reference: The coding that counts as right.
        codings: The others, by the name that a message gives them.

    Raises:
        DataError: No rows, or a coding of another length.
    """
    if not reference:
        raise DataError("there are no rows to compare")
    for name, coding in codings.items():
        if len(coding) != len(reference):
            raise DataError(f"{len(reference)} reference labels stand against {len(coding)} {name} ones")


def check_groups(rows: int, groups: Sequence[str] | None, resamples: int) -> None:
    """Check that rows can be resampled.

    Raises:
        DataError: Not as many groups as rows, or no resamples.
    """
    if groups is not None and len(groups) != rows:
        raise DataError(f"{rows} rows come with {len(groups)} groups")
    if resamples < 1:
        raise DataError(f"{resamples} resamples give no interval", mend="Ask for 1 or more; 2000 is usual.")


def indices(coding: Sequence[str], task: Task, name: str) -> Counts:
    """Return the place of each label in the task's labels.

    Args:
        coding: A label per row.
        task: Names the labels.
        name: What a message calls the coding.

    Raises:
        DataError: A label that the task does not have.
    """
    places = {label: place for place, label in enumerate(task.names)}
    for row, label in enumerate(coding, start=1):
        if label not in places:
            raise DataError(
                f"the task has no label {label!r}",
                where=f"{name} label {row}",
                mend=f"Its labels: {', '.join(task.names)}.",
            )
    return np.array([places[label] for label in coding], dtype=np.int64)
