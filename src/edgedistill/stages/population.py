"""How frequent each label is among responses that nobody coded, corrected for the student's errors."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from edgedistill.agreement import prevalence
from edgedistill.records import Response, read_responses
from edgedistill.records.coding import Reading
from edgedistill.stages.folder import digest
from edgedistill.stages.run import Run
from edgedistill_export.checkpoint import Checkpoint


def read_population(run: Run) -> Reading[Response] | None:
    """Read the responses of `evaluation.population`; None where no file is named.

    Rows that repeat a human-coded one are set aside: the student may have learnt them, and errs less on them.

    Raises:
        DataError: The file or a row cannot be used.
    """
    file = run.project.evaluation.population
    return None if file is None else read_responses(run.project, file, run.records.splits)


def told_prevalence(
    reading: Reading[Response] | None, student: Checkpoint, confusion: Sequence[Sequence[int]]
) -> dict[str, Any] | None:
    """Score the population and correct the shares of its labels, for `evaluation.json`.

    Args:
        reading: The population, or none.
        student: Codes it.
        confusion: The student against the human codes of the test rows, from which its error rates come.
    """
    if reading is None or not reading.rows:
        return None
    places = student.logits([dict(response.inputs) for response in reading.rows]).argmax(axis=1)
    names = student.task.names
    counted = Counter(names[place] for place in places)
    found = prevalence({name: counted[name] for name in names}, confusion)
    set_aside = dict(Counter(row.reason for row in reading.set_aside))
    return {"file": reading.file, "read": reading.read, "set_aside": set_aside, **found.as_dict()}


def population_digest(run: Run) -> str | None:
    """What the evaluation depends on of the population's file."""
    file = run.project.evaluation.population
    path = file and run.project.folder / file
    return digest(path) if path and path.is_file() else None
