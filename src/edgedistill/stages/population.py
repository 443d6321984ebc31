"""How frequent each label is among responses that nobody coded, corrected for the student's errors."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgedistill.agreement import prevalence, set_prevalence
from edgedistill.records import Response, read_responses
from edgedistill.records.codes import labels_in
from edgedistill.records.coding import Reading
from edgedistill.stages.folder import digest
from edgedistill.stages.run import Run
from edgedistill_serve.readout import Readout

if TYPE_CHECKING:  # it imports torch, and the digest is wanted before every stage
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
    reading: Reading[Response] | None, student: "Checkpoint", readout: Readout, agreement: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Score the population and correct the shares of its labels, for `evaluation.json`.

    Args:
        reading: The population, or none.
        student: Codes it.
        readout: How its logits become labels.
        agreement: Its labels of the test rows against the human codes, from which its error rates come.
    """
    if reading is None or not reading.rows:
        return None
    task = student.task
    labels = readout.labels(student.logits([dict(response.inputs) for response in reading.rows]))
    counted = Counter(label for code in labels for label in labels_in(code, task))
    observed = {name: counted[name] for name in task.names}
    if task.kind == "multilabel":
        tables = {name: agreement["per_label"][name]["table"] for name in task.names}
        found = set_prevalence(observed, len(labels), tables)
    else:
        found = prevalence(observed, agreement["confusion"])
    set_aside = dict(Counter(row.reason for row in reading.set_aside))
    return {"file": reading.file, "read": reading.read, "set_aside": set_aside, **found.as_dict()}


def population_digest(run: Run) -> str | None:
    """What the evaluation depends on of the population's file."""
    file = run.project.evaluation.population
    path = file and run.project.folder / file
    return digest(path) if path and path.is_file() else None
