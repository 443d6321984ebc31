"""Synthetic rows: recorded in a file, or written by the project's teacher; screened the same way."""

from dataclasses import replace
from pathlib import Path

from edgedistill.errors import ProjectFileError
from edgedistill.generation import Lineage, Sample, screen
from edgedistill.project import GenerateSection, Project
from edgedistill.records import MixtureRow, Records, TestRows
from edgedistill.records.coding import Columns, read_coded
from edgedistill.stages.generate import generate, read_synthetic
from edgedistill.stages.run import Run
from edgedistill.studies.texts import account
from edgedistill_serve.tables import read_rows


def recorded_synthetic(
    file: Path, writer: str, project: Project, records: Records, judges: TestRows
) -> tuple[tuple[MixtureRow, ...], str]:
    """Read synthetic rows from a file and screen them as written ones are.

    Args:
        file: Columns ``id``, the task's inputs and ``label``; where there are columns ``temperature`` and ``regraded``,
            they become the lineage's.
        writer: Who wrote them.
        project: The task, and how near a text may come to another.
        records: Its train and validation rows.
        judges: Every test row of the study.

    Returns:
        The rows that are kept, and a sentence that accounts for the others.

    Raises:
        DataError: The file or a row cannot be used.
    """
    coded = read_coded(file.name, read_rows(file), Columns(project.task.task, None, project.data.max_characters))
    told = {row.row: row.values for row in read_rows(file)}
    samples = [
        Sample(
            f"{writer}/{row.coded.response.id}",
            row.coded.response.inputs,
            row.coded.label,
            Lineage("", writer, (), float("nan"), 0, row.coded.response.row),
        )
        for row in coded.rows
    ]
    screened = screen(
        samples,
        records.splits.train,
        records.splits.validation,
        judges,
        max_characters=project.data.max_characters,
        near=(project.generate or GenerateSection()).near_duplicate,
    )
    kept = tuple(
        MixtureRow(
            sample.id,
            sample.inputs,
            sample.label,
            "synthetic",
            {sample.label: 1.0},
            _lineage(file, sample, told[sample.lineage.position]),
        )
        for sample in screened.kept
    )
    reasons = [*(row.reason for row in coded.set_aside), *(str(removed.reason) for removed in screened.removed)]
    return kept, account(file.name, "synthetic rows", coded.read, len(kept), reasons)


def _lineage(file: Path, sample: Sample, values: dict[str, str]) -> dict[str, str]:
    lineage = {"teacher": sample.lineage.teacher, "file": file.name, "row": str(sample.lineage.position)}
    if temperature := values.get("temperature", "").strip():
        lineage["temperature"] = temperature
    if regraded := values.get("regraded", "").strip():
        lineage |= {"regraded": regraded, "consistent": "true" if regraded == sample.label else "false"}
    return lineage


def written_synthetic(run: Run, temperatures: tuple[float, ...]) -> dict[str, tuple[MixtureRow, ...]]:
    """Have the project's teacher write the rows, as the stage `generate` does.

    Args:
        run: The project, with a run folder of the study's own.
        temperatures: At which they are written; empty: as the project says.

    Raises:
        ProjectFileError: The project has no section `generate`.
        TeacherError: The teacher cannot be asked, or, offline, the cache lacks answers.
    """
    section = run.project.generate
    if section is None:
        raise ProjectFileError(
            "the project writes no synthetic rows",
            where=str(run.project.path),
            mend="Add the section generate, or give the study's task recorded rows: synthetic: {NAME: FILE}.",
        )
    if temperatures:
        section = section.model_copy(update={"temperature": temperatures})
        run = replace(run, project=run.project.model_copy(update={"generate": section}))
    generate(run)
    return {run.teacher.called: read_synthetic(run.folder)}
