"""What a task offers to a study: its rows by source, the rows that choose, and the rows that judge.

gather(study, entry, …) -> Material
└── Taught      what one teacher made of the task's texts, and of test rows
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgedistill.errors import DataError, ProjectFileError
from edgedistill.mixture import drawn_ids, human_rows
from edgedistill.project import Project, StudentSection, read_project
from edgedistill.records import MixtureRow, Records, Response, TeacherLabel, TestRows, ValidationRows, read_records
from edgedistill.records.codes import canonical_code
from edgedistill.records.coding import Columns, folded, read_coded
from edgedistill.stages.folder import RunFolder
from edgedistill.stages.label import read_labels_file
from edgedistill.stages.run import Advance, Run
from edgedistill.student import backbone_folder
from edgedistill.studies.sections import Study, StudyTask
from edgedistill.studies.synthetic import recorded_synthetic, written_synthetic
from edgedistill.studies.types import TestSet
from edgedistill_serve.tables import read_rows
from edgedistill_serve.task import Task


@dataclass(frozen=True, slots=True)
class Taught:
    """What one teacher made of a task's texts.

    Attributes:
        responses: The texts that it was to code.
        labels: What it made of them.
        test: Its labels of rows of `test` and `transfer`, by id, as far as there are any.
    """

    responses: tuple[Response, ...]
    labels: tuple[TeacherLabel, ...]
    test: Mapping[str, str]


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
    positive: str | None
    data: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wants:
    """What a study needs beside human rows; no more than that is asked for, since answers cost.

    Attributes:
        teachers: How many teachers' labels.
        named: Whose; empty: the first one's, or everybody's.
        of_test: Whether these teachers code the test rows too.
        synthetic: Whether synthetic rows are needed.
        temperatures: At which they are written; empty: as the project says.
    """

    teachers: Literal["none", "one", "all"] = "none"
    named: tuple[str, ...] = ()
    of_test: bool = False
    synthetic: bool = False
    temperatures: tuple[float, ...] = ()

    def choose(self, there: Sequence[str], task: str) -> tuple[str, ...]:
        """Return which of a task's teachers are wanted.

        Raises:
            ProjectFileError: A teacher that is wanted is none of them.
        """
        if unknown := set(self.named) - set(there):
            raise ProjectFileError(
                f"the task {task!r} has no teacher {min(unknown)!r}", mend=f"It has {', '.join(there) or 'none'}."
            )
        chosen = self.named or tuple(there)
        return chosen[:1] if self.teachers == "one" else chosen


def gather(
    study: Study,
    entry: StudyTask,
    wants: Wants,
    *,
    offline: bool = False,
    advance: Advance = lambda *_: None,
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
    tests: dict[TestSet, TestRows] = {"test": records.splits.test, **_transfer(study, entry, project)}
    texts = _texts(entry, records, tests)
    judges = TestRows(tuple(row for rows in tests.values() for row in rows))
    synthetic: dict[str, tuple[MixtureRow, ...]] = {}
    notes = list(records.splits.notes)
    if wants.synthetic and entry.synthetic:
        for writer, file in entry.synthetic.items():
            synthetic[writer], note = recorded_synthetic(study.folder / file, writer, project, records, judges)
            notes.append(note)
    elif wants.synthetic:
        synthetic = written_synthetic(run, wants.temperatures)
    return Material(
        name=name,
        task=project.task.task,
        human=human_rows(records.splits.train, project.task.task),
        codes={row.response.id: row.label for row in records.splits.train},
        groups={
            response.id: response.group
            for response in (*records.splits.train.responses, *texts)
            if response.group is not None
        },
        validation=_validation(records.splits.validation, study),
        tests=tests,
        taught=_taught(study, entry, run, texts, wants) if wants.teachers != "none" else {},
        synthetic=synthetic,
        student=project.student,
        backbone=backbone,
        positive=entry.positive,
        data=tuple(account.sha256 for account in records.accounts),
        notes=tuple(notes),
    )


def _validation(rows: ValidationRows, study: Study) -> ValidationRows:
    """So many validation rows, always the same ones."""
    if study.validation == "all" or study.validation >= len(rows):
        return rows
    kept = drawn_ids((row.response.id for row in rows), study.validation, 0)
    return ValidationRows(tuple(row for row in rows if row.response.id in kept))


def _transfer(study: Study, entry: StudyTask, project: Project) -> dict[TestSet, TestRows]:
    if entry.transfer is None:
        return {}
    columns = Columns(project.task.task, project.data.group_by, project.data.max_characters)
    coded = read_coded(entry.transfer.name, read_rows(study.folder / entry.transfer), columns)
    return {"transfer": TestRows(tuple(row.coded for row in coded.rows))}


def _texts(entry: StudyTask, records: Records, tests: Mapping[TestSet, TestRows]) -> tuple[Response, ...]:
    """What the teacher is to code; nothing that also stands in a test set."""
    texts = records.splits.train.responses if entry.texts == "train" else records.unlabelled
    locked = {_whole(row.response) for rows in tests.values() for row in rows}
    return tuple(response for response in texts if _whole(response) not in locked)


def _whole(response: Response) -> tuple[str, ...]:
    return tuple(folded(text) for text in response.inputs.values())


def _taught(study: Study, entry: StudyTask, run: Run, texts: tuple[Response, ...], wants: Wants) -> dict[str, Taught]:
    if not texts:
        raise ProjectFileError(
            "the project has no unlabelled responses for a teacher to code",
            where=str(study.folder / entry.project),
            mend="Put `texts: train` into the study's task, or give data.unlabelled.",
        )
    task = entry.name or run.project.name
    if entry.labels:
        chosen = wants.choose(tuple(entry.labels), task)
        return {name: _recorded(study.folder / entry.labels[name], texts, run.project.task.task) for name in chosen}
    panel = {teacher.called: teacher for teacher in run.panel}
    chosen = wants.choose(tuple(panel), task)
    test = run.records.splits.test.responses if wants.of_test else ()
    labellings = run.ask_each([panel[name] for name in chosen], (*texts, *test), "study: {} codes responses")
    return {name: _split(texts, labelling.labels) for name, labelling in labellings.items()}


def _recorded(file: Path, texts: tuple[Response, ...], task: Task) -> Taught:
    try:
        labels = tuple(replace(row, label=canonical_code(row.label, task)) for row in read_labels_file(file))
    except DataError as error:
        raise DataError(error.what, where=error.where or str(file), mend=error.mend) from None
    taught = _split(texts, labels)
    if not taught.labels:
        raise DataError(
            "none of its ids is one of the texts that a teacher is to code",
            where=str(file),
            mend="`texts: train` or `texts: unlabelled` in the study's task says which texts these are.",
        )
    return taught


def _split(texts: tuple[Response, ...], labels: tuple[TeacherLabel, ...]) -> Taught:
    coded = {response.id for response in texts}
    return Taught(
        texts,
        tuple(label for label in labels if label.id in coded),
        {label.id: label.label for label in labels if label.id not in coded},
    )
