"""How frequent each label is among many responses, corrected for the student's errors on those that nobody coded."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from edgedistill.agreement import prevalence
from edgedistill.data import Population, read_population
from edgedistill.decisions import TestScores
from edgedistill.pipeline.folder import digest
from edgedistill.pipeline.run import Run

if TYPE_CHECKING:  # it imports torch, and the digest is wanted before every stage
    from edgedistill_export.checkpoint import Checkpoint


def population_of(run: Run) -> Population | None:
    """Read the responses of `evaluation.population`; None where no file is named.

    Raises:
        DataError: The file or a row cannot be used, or no row can be counted.
    """
    file = run.project.evaluation.population
    return None if file is None else read_population(run.project, file, run.records.splits)


def told_prevalence(population: Population | None, student: "Checkpoint", test: TestScores) -> dict[str, Any] | None:
    """Score the responses that nobody coded and tell the shares of all, for `evaluation.json`.

    Args:
        population: The responses, or none.
        student: Codes those whose human code is not known.
        test: How it codes the test rows, from which its error rates come.
    """
    if population is None:
        return None
    inputs = [dict(response.inputs) for response in population.responses]
    found = prevalence(
        test.readout.labels(student.logits(inputs)) if inputs else (),
        test.codes,
        test.labels,
        test.task,
        known=population.known,
        groups=test.groups_at(range(len(test))),
    )
    set_aside = dict(Counter(row.reason for row in population.set_aside))
    return {"file": population.file, "read": population.read, "set_aside": set_aside, **found.as_dict()}


def population_digest(run: Run) -> str | None:
    """What the evaluation depends on of the population's file."""
    file = run.project.evaluation.population
    path = file and run.project.folder / file
    return digest(path) if path and path.is_file() else None
