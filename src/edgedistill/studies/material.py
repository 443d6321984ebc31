"""What a task offers to a study: its rows by source, the rows that choose, and the rows that judge.

gather(study, entry, …) -> Material
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgedistill.errors import ProjectFileError
from edgedistill.mixture import drawn_ids, human_rows
from edgedistill.progress import OnProgress
from edgedistill.project import StudentSection, read_project
from edgedistill.records import MixtureRow, TestRows, ValidationRows, read_records
from edgedistill.stages.folder import RunFolder
from edgedistill.stages.run import Run
from edgedistill.student import backbone_digests, backbone_folder
from edgedistill.studies.sections import Study, StudyTask
from edgedistill.studies.synthetic import recorded_synthetic, written_synthetic
from edgedistill.studies.teaching import Taught, Wants, teach
from edgedistill.studies.transfer import read_transfer
from edgedistill.studies.types import TestSet
from edgedistill_serve.task import Task


@dataclass(frozen=True)
class Material:
    """One task of a study.

    Attributes:
        name: What tables call it.
        task: Its labels and inputs.
        human: Train rows.
        codes: The human codes of train rows, by id.
        groups: The group of each text, by id, where there are groups.
        validation: The rows that choose.
        tests: The rows that judge: `test`, and `transfer` where there are any.
        taught: By teacher, the one first that a study of a single teacher is about; empty where the study needs none.
        synthetic: By who wrote them; empty where the study needs none.
        student: How its students are trained, search and seeds aside.
        backbone: Where the pretrained model lies.
        weights: Fingerprint of its files.
        positive: The label whose F1 is told, or None.
        data: Fingerprints of its files.
        notes: What a reader should know of its rows.
    """

    name: str
    task: Task
    human: tuple[MixtureRow, ...]
    codes: Mapping[str, str]
    groups: Mapping[str, str]
    validation: ValidationRows
    tests: Mapping[TestSet, TestRows]
    taught: Mapping[str, Taught]
    synthetic: Mapping[str, tuple[MixtureRow, ...]]
    student: StudentSection
    backbone: Path
    weights: str
    positive: str | None
    data: tuple[str, ...]
    notes: tuple[str, ...]


def gather(
    study: Study,
    entry: StudyTask,
    wants: Wants,
    *,
    offline: bool = False,
    advance: OnProgress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Material:
    """Read a task's rows, have its teacher code and write what no file holds, and screen what was written.

    Raises:
        ProjectFileError: The project cannot be read, or lacks what the study needs.
        DataError: A file or a row cannot be used.
        TeacherError: The teacher cannot be asked, or, offline, the cache lacks answers.
    """
    project = read_project(study.folder / entry.project)
    if study.student.backbone is not None:
        backbone = backbone_folder(study.student.backbone, study.folder)
    else:
        backbone = backbone_folder(project.student.backbone, project.folder)
    name = entry.name or project.name
    if wants.synthetic and project.task.kind == "multilabel":
        raise ProjectFileError(
            f"the task {name!r} is multilabel, and synthetic rows are written for one label each",
            where="tasks",
            mend="Leave this task out, or study label-source, consistency of the teacher, or teachers.",
        )
    records = read_records(project)
    if entry.positive is not None and entry.positive not in project.task.task.names:
        raise ProjectFileError(
            f"the task {name!r} has no label {entry.positive!r}",
            where="tasks.positive",
            mend=f"Its labels: {', '.join(project.task.task.names)}.",
        )
    run = Run(project, records, RunFolder(study.run_folder / "material" / name), offline=offline, advance=advance)
    run = replace(run, say=lambda line: say(f"{name}: {line}"))
    tests: dict[TestSet, TestRows] = {"test": records.splits.test}
    notes = list(records.splits.notes)
    if entry.transfer is not None:
        tests["transfer"], note = read_transfer(study.folder / entry.transfer, project, records)
        notes.append(note)
    taught: dict[str, Taught] = {}
    if wants.teachers != "none":
        taught, note = teach(study, entry, run, tests, wants)
        notes.append(note)
    synthetic, told = _synthetic(study, entry, run, tests, wants) if wants.synthetic else ({}, ())
    notes += told
    return Material(
        name=name,
        task=project.task.task,
        human=human_rows(records.splits.train, project.task.task),
        codes={row.response.id: row.label for row in records.splits.train},
        groups={
            response.id: response.group
            for response in (*records.splits.train.responses, *records.unlabelled)
            if response.group is not None
        },
        validation=_validation(records.splits.validation, study),
        tests=tests,
        taught=taught,
        synthetic=synthetic,
        student=project.student,
        backbone=backbone,
        weights=backbone_digests(backbone).hex(),
        positive=entry.positive,
        data=tuple(each.sha256 for each in records.accounts),
        notes=tuple(notes),
    )


def _synthetic(
    study: Study, entry: StudyTask, run: Run, tests: Mapping[TestSet, TestRows], wants: Wants
) -> tuple[dict[str, tuple[MixtureRow, ...]], tuple[str, ...]]:
    """Synthetic rows by who wrote them, apart from every row that judges, and the account of what no stage accounts."""
    judges = TestRows(tuple(row for rows in tests.values() for row in rows))
    if not entry.synthetic:
        splits = replace(run.records.splits, test=judges)
        return written_synthetic(replace(run, records=replace(run.records, splits=splits)), wants.temperatures), ()
    found = {
        writer: recorded_synthetic(study.folder / file, writer, run.project, run.records, judges)
        for writer, file in entry.synthetic.items()
    }
    return {writer: rows for writer, (rows, _) in found.items()}, tuple(told for _, told in found.values())


def _validation(rows: ValidationRows, study: Study) -> ValidationRows:
    """So many validation rows, always the same ones."""
    if study.validation == "all" or study.validation >= len(rows):
        return rows
    kept = drawn_ids((row.response.id for row in rows), study.validation, 0)
    return ValidationRows(tuple(row for row in rows if row.response.id in kept))
