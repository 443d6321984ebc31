"""The student of human codes alone that a student of teacher labels is compared with: that of another run."""

import csv
from collections import Counter
from typing import TYPE_CHECKING

from edgedistill.data.types import MixtureRow
from edgedistill.errors import RunError
from edgedistill.pipeline.folder import STUDENT, RunFolder, digest
from edgedistill.pipeline.mix import MIXTURE, read_mixture
from edgedistill.pipeline.run import Run

if TYPE_CHECKING:  # it imports torch, and the digest is wanted before every stage
    from edgedistill_export.checkpoint import Checkpoint


def human_trained(run: Run) -> "Checkpoint | None":
    """Load the student in the run folder that `evaluation.human_trained` names; None where none is named.

    Raises:
        RunError: The folder holds no finished run, or that student learnt from other rows than human-coded train rows
            of this project.
        CheckpointError: It is a student of another task.
    """
    from edgedistill_export.checkpoint import Checkpoint

    folder = _folder(run)
    if folder is None:
        return None
    _expect_human_rows(_mixture(folder, run), folder, run)
    return Checkpoint.load(folder / STUDENT, run.project.task.task, run.project.student.max_tokens)


def human_trained_digests(run: Run) -> list[str]:
    """What the evaluation depends on of that student and what it learnt from."""
    folder = _folder(run)
    return [] if folder is None else [digest(folder / name) for name in (STUDENT, MIXTURE) if (folder / name).exists()]


def _folder(run: Run) -> RunFolder | None:
    named = run.project.evaluation.human_trained
    return None if named is None else RunFolder(run.project.folder / named)


def _mixture(folder: RunFolder, run: Run) -> tuple[MixtureRow, ...]:
    try:
        return read_mixture(folder, run.project.task.inputs)
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError):
        raise RunError(
            "is missing, or of no such project",
            where=str(folder / MIXTURE),
            hint="Let evaluation.human_trained name the run folder of a project with the same task and human rows.",
        ) from None


def _expect_human_rows(mixture: tuple[MixtureRow, ...], folder: RunFolder, run: Run) -> None:
    where = str(folder / MIXTURE)
    if others := Counter(row.source for row in mixture if row.source != "human"):
        told = ", ".join(f"{count} {source}" for source, count in sorted(others.items()))
        raise RunError(
            f"the student learnt from other rows than human ones too ({told})",
            where=where,
            hint="Train it with `mix: {human: all, teacher: 0}`.",
        )
    train = {row.response.id: row.response.inputs for row in run.records.splits.train}
    if strange := [row.id for row in mixture if train.get(row.id) != row.inputs]:
        raise RunError(
            f"the student learnt from {len(strange)} rows that are no train rows here, such as {strange[0]}",
            where=where,
            hint="Train it on the same human file with the same split, so that it has seen no test row.",
        )
