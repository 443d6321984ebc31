"""The inputs of a study: the rows of each task by source, teacher labels, synthetic rows, the transfer set.

Requirements       the inputs that a study needs in addition to human rows
TeacherLabels      one teacher's labels of the task's texts and test rows

read_task(study, entry, …) -> ReadTask         everything that costs nothing, with all checks
request_inputs(task) -> TaskInputs             what teachers are asked for: only what the study draws
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from edgedistill.data import (
    CodedResponse,
    MixtureRow,
    Records,
    Response,
    TeacherLabel,
    TestRows,
    ValidationRows,
    read_records,
)
from edgedistill.data.project_tables import read_project_table
from edgedistill.data.reading import near_duplicate
from edgedistill.data.tables import Columns, read_coded
from edgedistill.data.twins import find_twins, same_row
from edgedistill.data.types import canonical_code
from edgedistill.errors import DataError, ProjectFileError, TeacherError
from edgedistill.generation import Lineage, Sample, screen
from edgedistill.mixing import draw_ids, human_rows
from edgedistill.pipeline.generate import generate, read_synthetic
from edgedistill.pipeline.label import read_labels_file
from edgedistill.pipeline.run import Run
from edgedistill.progress import OnProgress
from edgedistill.project import StudentSection
from edgedistill.project.schema import Project
from edgedistill.project.section import Rows
from edgedistill.runnable_project import Project as RunnableProject
from edgedistill.student import backbone_digests, backbone_folder
from edgedistill.student.model import choose_max_tokens
from edgedistill.studies.study_file import Study, StudyTask
from edgedistill.studies.types import TestSet
from edgedistill_serve.task.task import Task


def row_count_note(where: str, rows: str, read: int, used: int, reasons: Iterable[str]) -> str:
    """Return a sentence with the row counts.

    Args:
        where: The file, or the purpose of the rows.
        rows: Name of the rows.
        read: Number of rows read.
        used: Number of rows used.
        reasons: For each other row, why it was set aside.
    """
    aside = "".join(f" + {n} set aside ({reason})" for reason, n in Counter(reasons).items())
    return f"{where}: {read} {rows} read = {used} used{aside}"


def read_transfer(file: Path, project: Project, records: Records) -> tuple[TestRows, str]:
    """Read a transfer set; rows that duplicate the text of a train or validation row are set aside.

    Args:
        file: Columns ``id``, the task's inputs and ``label``.
        project: Its task.
        records: Its other rows.

    Returns:
        The remaining rows, and a sentence with the row counts.

    Raises:
        DataError: The file or a row is not valid, an id occurs elsewhere with another text, or no row remains.
    """
    columns = Columns(project.task.task, project.data.group_by, project.data.max_characters)
    coded = read_coded(file.name, read_project_table(project, file.absolute()).rows, columns)
    rows, splits = [row.coded for row in coded.rows], records.splits
    _refuse_taken_ids(rows, records)
    seen = {
        same_row(row.response.inputs): f"duplicates a {name} row"
        for name, side in (("train", splits.train), ("validation", splits.validation))
        for row in side
    }
    reasons = [row.reason for row in coded.set_aside]
    kept: list[CodedResponse] = []
    for row in rows:
        if reason := seen.get(same_row(row.response.inputs)):
            reasons.append(reason)
        else:
            kept.append(row)
    note = row_count_note(file.name, "transfer rows", coded.read, len(kept), reasons)
    others = [response.inputs for split in (splits.train, splits.validation) for response in split.responses]
    if near := find_twins([row.response.inputs for row in kept], others, near_duplicate(project)):
        note += f"; {len(near)} of them are nearly the same as a train or validation row"
    if not kept:
        raise DataError(
            f"no test row remains; {note}",
            where=str(file),
            hint="Give a transfer set with texts that differ from all train and validation rows.",
        )
    return TestRows(tuple(kept)), note


def _refuse_taken_ids(rows: Iterable[CodedResponse], records: Records) -> None:
    splits = records.splits
    others = (*splits.train.responses, *splits.validation.responses, *splits.test.responses, *records.unlabelled)
    by_id = {response.id: response for response in others}
    for row in rows:
        twin = by_id.get(row.response.id)
        if twin and same_row(twin.inputs) != same_row(row.response.inputs):
            raise DataError(
                f"the id {twin.id!r} is already used in {twin.place}, with another text",
                where=row.response.place,
                hint="Give the rows of the transfer set unique ids: labels are matched by id.",
            )


def read_recorded_synthetic(
    file: Path, writer: str, project: Project, records: Records, test_rows: TestRows
) -> tuple[tuple[MixtureRow, ...], str]:
    """Read synthetic rows from a file and screen them like newly generated rows.

    Args:
        file: Columns ``id``, the task's inputs and ``label``; the optional columns ``temperature`` and ``regraded``
            are copied to the lineage.
        writer: Name of the model that generated them.
        project: The task, and the threshold for near-duplicates.
        records: Its train and validation rows.
        test_rows: Every test row of the study.

    Returns:
        The remaining rows, and a sentence with the row counts.

    Raises:
        DataError: The file or a row is not valid.
    """
    table = read_project_table(project, file.absolute())
    coded = read_coded(file.name, table.rows, Columns(project.task.task, None, project.data.max_characters))
    columns = {row.row: row.values for row in table.rows}
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
        test_rows,
        max_characters=project.data.max_characters,
        near=near_duplicate(project),
    )
    kept = tuple(
        MixtureRow(
            sample.id,
            sample.inputs,
            sample.label,
            "synthetic",
            {sample.label: 1.0},
            _lineage(file, sample, columns[sample.lineage.position]),
        )
        for sample in screened.kept
    )
    reasons = [*(row.reason for row in coded.set_aside), *(str(removed.reason) for removed in screened.removed)]
    return kept, row_count_note(file.name, "synthetic rows", coded.read, len(kept), reasons)


def _lineage(file: Path, sample: Sample, values: dict[str, str]) -> dict[str, str]:
    lineage = {"teacher": sample.lineage.teacher, "file": file.name, "row": str(sample.lineage.position)}
    if temperature := values.get("temperature", "").strip():
        lineage["temperature"] = temperature
    if regraded := values.get("regraded", "").strip():
        lineage |= {"regraded": regraded, "consistent": "true" if regraded == sample.label else "false"}
    return lineage


def generate_synthetic(run: Run, temperatures: tuple[float, ...]) -> dict[str, tuple[MixtureRow, ...]]:
    """Generate rows with the project's teacher, as the stage `generate` does.

    Args:
        run: The project, with a separate run folder for the study.
        temperatures: Sampling temperatures; empty: those of the project.

    Raises:
        TeacherError: A request to the teacher failed, or, offline, the cache lacks answers.
    """
    if temperatures and (section := run.project.generate):
        section = section.model_copy(update={"temperature": temperatures})
        run = replace(run, project=run.project.model_copy(update={"generate": section}))
    generate(run)
    return {run.teacher.called: read_synthetic(run.folder)}


_IN_TEST_SET = "also in a test set"
_NEARLY_IN_TEST_SET = "nearly the same as a row of a test set"


@dataclass(frozen=True, slots=True)
class Requirements:
    """The inputs that a study needs in addition to human rows; nothing else is requested, because requests cost money.

    Attributes:
        teachers: Whether labels of no, one or all teachers are needed.
        names: Names of the teachers; empty: the first one, or all.
        label_test_rows: Whether these teachers also label the test rows.
        seeds: Each seed draws its own texts.
        rows: The numbers of labelled texts that are drawn with each seed.
        human: Number of human-coded train rows that are drawn first; their texts are not drawn again.
        synthetic: Whether synthetic rows are needed.
        temperatures: Sampling temperatures of synthetic rows; empty: those of the project.
    """

    teachers: Literal["none", "one", "all"] = "none"
    names: tuple[str, ...] = ()
    label_test_rows: bool = False
    seeds: tuple[int, ...] = (0,)
    rows: tuple[Rows, ...] = ("all",)
    human: int = 0
    synthetic: bool = False
    temperatures: tuple[float, ...] = ()

    def select(self, available: Sequence[str], task: str) -> tuple[str, ...]:
        """Return which of a task's teachers are needed.

        Raises:
            ProjectFileError: The task does not have one of these teachers.
        """
        if unknown := set(self.names) - set(available):
            raise ProjectFileError(
                f"the task {task!r} has no teacher {min(unknown)!r}", hint=f"It has {', '.join(available) or 'none'}."
            )
        selected = self.names or tuple(available)
        return selected[:1] if self.teachers == "one" else selected

    def draw(self, texts: Sequence[Response], train: Sequence[Response]) -> set[str]:
        """Return the ids of the texts that the study's plans draw; a number of rows that is too large draws none.

        Args:
            texts: The texts that can be labelled.
            train: The human-coded train rows.
        """
        drawn: set[str] = set()
        for seed in self.seeds:
            human = draw_ids((response.id for response in train), self.human, seed)
            taken = {same_row(response.inputs) for response in train if response.id in human}
            pool = [each.id for each in texts if each.id not in human and same_row(each.inputs) not in taken]
            for rows in self.rows:
                size = len(pool) if rows == "all" else rows
                if size <= len(pool):
                    drawn |= draw_ids(pool, size, seed)
        return drawn


@dataclass(frozen=True, slots=True)
class TeacherLabels:
    """One teacher's labels of a task's texts.

    Attributes:
        responses: The texts to label.
        labels: Their labels.
        test: Its labels of rows of `test` and `transfer` by id, where available.
    """

    responses: tuple[Response, ...]
    labels: tuple[TeacherLabel, ...]
    test: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OfferedTexts:
    """The texts of a task that teachers may label.

    Attributes:
        texts: The texts.
        teachers: Names of the teachers that a study needs.
        note: A sentence with the counts of texts.
    """

    texts: tuple[Response, ...]
    teachers: tuple[str, ...]
    note: str


def offer_texts(
    study: Study, entry: StudyTask, run: Run, tests: Mapping[TestSet, TestRows], requirements: Requirements
) -> OfferedTexts:
    """Return a task's texts for teachers to label.

    Texts that are the same as a row of a test set are set aside. So are unlabelled ones that are nearly the same; train
    rows that are stay, as they do where human codes are learned from.

    Args:
        study: The study file.
        entry: Its task.
        run: The task's project.
        tests: The test rows.
        requirements: Which teachers.

    Raises:
        ProjectFileError: There is no text, or no such teacher.
    """
    offered = run.records.splits.train.responses if entry.texts == "train" else run.records.unlabelled
    available = tuple(entry.labels) or tuple(teacher.called for teacher in run.panel)
    selected = requirements.select(available, entry.name or run.project.name)
    locked = [row.response.inputs for rows in tests.values() for row in rows]
    twins = find_twins([response.inputs for response in offered], locked, near_duplicate(run.project))
    excluded = {
        offered[index].id: _IN_TEST_SET if twin.same else _NEARLY_IN_TEST_SET
        for index, twin in twins.items()
        if twin.same or entry.texts == "unlabelled"
    }
    texts = tuple(response for response in offered if response.id not in excluded)
    if not texts:
        raise ProjectFileError(
            "the project has no unlabelled responses for a teacher to label",
            where=str(study.folder / entry.project),
            hint="Set `texts: train` in the study's task, or give data.unlabelled.",
        )
    note = row_count_note("texts for the teacher", f"{entry.texts} rows", len(offered), len(texts), excluded.values())
    return OfferedTexts(texts, selected, note)


def load_teacher_labels(
    study: Study, entry: StudyTask, run: Run, offered: OfferedTexts, requirements: Requirements
) -> tuple[dict[str, TeacherLabels], str]:
    """Read recorded labels, or label those texts that the study's plans draw.

    A text that a teacher sets aside is replaced by the next one, as if all texts had been labelled. A teacher that sets
    aside more texts than it labels would have the whole pool requested, and is refused.

    Args:
        study: The study file.
        entry: Its task.
        run: The task's project.
        offered: Its texts and teachers.
        requirements: How many texts are drawn, and with which seeds.

    Returns:
        Labels by teacher, and a sentence with the number of texts that they labelled; empty for recorded labels.

    Raises:
        DataError: Recorded labels are not valid.
        TeacherError: A request to a teacher failed, or, offline, its cache lacks answers; or a teacher sets aside more
            texts than it labels.
    """
    if entry.labels:
        files = {name: study.folder / entry.labels[name] for name in offered.teachers}
        return {name: _recorded(file, offered.texts, run.project.task.task) for name, file in files.items()}, ""
    teachers = [teacher for name in offered.teachers for teacher in run.panel if teacher.called == name]
    splits, texts = run.records.splits, offered.texts
    new = splits.test.responses if requirements.label_test_rows else ()
    labels: dict[str, list[TeacherLabel]] = {name: [] for name in offered.teachers}
    sent: set[str] = set()
    failures: dict[str, str] = {}
    needed = 0
    while True:
        drawn = requirements.draw(texts, splits.train.responses)
        new = (*(response for response in texts if response.id in drawn - sent), *new)
        if not new:
            break
        needed = needed or len(drawn)
        sent |= drawn
        for name, labelling in run.code_with_each(teachers, new, "study: {} labels responses").items():
            labels[name] += labelling.labels
            failures |= {row.id: row.reason for row in labelling.set_aside if row.id in sent}
        if len(failures) > max(needed, _FEW) and 2 * len(failures) > len(sent):
            reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(failures.values()).most_common())
            raise TeacherError(
                f"{len(failures)} of the {len(sent)} texts requested so far were set aside ({reasons})",
                where=entry.name or run.project.name,
                hint="Fix the codebook or the teacher's settings, or choose another teacher; paid answers are kept.",
            )
        texts, new = tuple(response for response in texts if response.id not in failures), ()
    note = f"the study draws {len(sent)} of these {len(offered.texts)} texts; only they are labelled"
    return {name: _split(offered.texts, tuple(of_teacher)) for name, of_teacher in labels.items()}, note


_FEW = 20
"""So many texts may be set aside whatever their share."""


def _recorded(file: Path, texts: tuple[Response, ...], task: Task) -> TeacherLabels:
    try:
        labels = tuple(replace(row, label=canonical_code(row.label, task)) for row in read_labels_file(file))
    except DataError as error:
        raise DataError(error.what, where=error.where or str(file), hint=error.hint) from None
    teacher_labels = _split(texts, labels)
    if not teacher_labels.labels:
        raise DataError(
            "none of its ids belongs to a text to label",
            where=str(file),
            hint="Set `texts: train` or `texts: unlabelled` in the study's task to match the recorded labels.",
        )
    return teacher_labels


def _split(texts: tuple[Response, ...], labels: tuple[TeacherLabel, ...]) -> TeacherLabels:
    coded = {response.id for response in texts}
    return TeacherLabels(
        texts,
        tuple(label for label in labels if label.id in coded),
        {label.id: label.label for label in labels if label.id not in coded},
    )


@dataclass(frozen=True)
class TaskInputs:
    """The inputs of one task of a study.

    Attributes:
        name: Its name in tables.
        task: Its labels and inputs.
        human: Train rows.
        codes: The human codes of train rows, by id.
        groups: The group of each text, by id, if there are groups.
        validation: The rows that select the epoch.
        tests: The test rows: `test`, and `transfer` if given.
        teacher_labels: By teacher; a study of a single teacher uses the first. Empty if the study needs none.
        synthetic: Synthetic rows by the model that generated them; empty if the study needs none.
        student: How its students are trained, except search and seeds.
        backbone: Folder of the pretrained model.
        weights: Fingerprint of the files of the backbone.
        positive: The label whose F1 is reported, or None.
        data: Fingerprints of its data files.
        notes: Notes about its rows for the report.
    """

    name: str
    task: Task
    human: tuple[MixtureRow, ...]
    codes: Mapping[str, str]
    groups: Mapping[str, str]
    validation: ValidationRows
    tests: Mapping[TestSet, TestRows]
    teacher_labels: Mapping[str, TeacherLabels]
    synthetic: Mapping[str, tuple[MixtureRow, ...]]
    student: StudentSection
    backbone: Path
    weights: str
    positive: str | None
    data: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def max_tokens(self) -> int:
        """The longest input of its students in tokens: as its project says, or as it follows from the train rows."""
        if self.student.max_tokens is not None:
            return self.student.max_tokens
        return choose_max_tokens(self.backbone, self.task, (row.inputs for row in self.human))


@dataclass(frozen=True)
class ReadTask:
    """A task whose files are read and checked, before anything is requested from a teacher."""

    study: Study
    entry: StudyTask
    requirements: Requirements
    name: str
    run: Run
    backbone: Path
    tests: Mapping[TestSet, TestRows]
    offered: OfferedTexts | None
    notes: tuple[str, ...]


def read_task(
    study: Study,
    entry: StudyTask,
    requirements: Requirements,
    *,
    offline: bool = False,
    on_progress: OnProgress = lambda *_: None,
    on_message: Callable[[str], None] = lambda _: None,
) -> ReadTask:
    """Read a task's files and check that the study can use them; nothing is requested, so nothing is paid.

    Raises:
        ProjectFileError: The project cannot be read, or lacks an input that the study needs.
        DataError: A file or a row is not valid.
    """
    project = RunnableProject.load(study.folder / entry.project)
    if study.student.backbone is not None:
        backbone = backbone_folder(study.student.backbone, study.folder)
    else:
        backbone = backbone_folder(project.student.backbone, project.folder)
    name = entry.name or project.name
    _check_task(entry, requirements, name, project)
    records = read_records(project)
    run = project.start(
        folder=study.run_folder / "inputs" / name,
        records=records,
        offline=offline,
        on_progress=on_progress,
        on_message=lambda line: on_message(f"{name}: {line}"),
    )
    tests: dict[TestSet, TestRows] = {"test": records.splits.test}
    notes = list(records.splits.notes)
    if entry.transfer is not None:
        tests["transfer"], note = read_transfer(study.folder / entry.transfer, project, records)
        notes.append(note)
    offered = None
    if requirements.teachers != "none":
        offered = offer_texts(study, entry, run, tests, requirements)
        notes.append(offered.note)
    return ReadTask(study, entry, requirements, name, run, backbone, tests, offered, tuple(notes))


def _check_task(entry: StudyTask, requirements: Requirements, name: str, project: Project) -> None:
    if requirements.synthetic and project.task.kind == "multilabel":
        raise ProjectFileError(
            f"the task {name!r} is multilabel, and synthetic rows are generated for one label each",
            where="tasks",
            hint="Remove this task, or run a study of label-source, consistency of the teacher, or teachers.",
        )
    if requirements.synthetic and not entry.synthetic and project.generate is None:
        raise ProjectFileError(
            "the project does not generate synthetic rows",
            where=str(project.path),
            hint="Add the section generate, or give the study's task recorded rows: synthetic: {NAME: FILE}.",
        )
    if entry.positive is not None and entry.positive not in project.task.task.names:
        raise ProjectFileError(
            f"the task {name!r} has no label {entry.positive!r}",
            where="tasks.positive",
            hint=f"Its labels: {', '.join(project.task.task.names)}.",
        )


def request_inputs(task: ReadTask) -> TaskInputs:
    """Request the teacher labels and synthetic rows of a task that no file contains, and screen them.

    Raises:
        DataError: Recorded labels or synthetic rows are not valid.
        TeacherError: A request to the teacher failed, or, offline, the cache lacks answers.
    """
    study, entry, requirements, run = task.study, task.entry, task.requirements, task.run
    project, records, notes = run.project, run.records, list(task.notes)
    teacher_labels: dict[str, TeacherLabels] = {}
    if task.offered is not None:
        teacher_labels, note = load_teacher_labels(study, entry, run, task.offered, requirements)
        notes += [note] if note else []
    synthetic, more = _synthetic(study, entry, run, task.tests, requirements) if requirements.synthetic else ({}, ())
    notes += more
    return TaskInputs(
        name=task.name,
        task=project.task.task,
        human=human_rows(records.splits.train, project.task.task),
        codes={row.response.id: row.label for row in records.splits.train},
        groups={
            response.id: response.group
            for response in (*records.splits.train.responses, *records.unlabelled)
            if response.group is not None
        },
        validation=_validation(records.splits.validation, study),
        tests=task.tests,
        teacher_labels=teacher_labels,
        synthetic=synthetic,
        student=project.student,
        backbone=task.backbone,
        weights=backbone_digests(task.backbone).hex(),
        positive=entry.positive,
        data=tuple(each.sha256 for each in records.row_counts),
        notes=tuple(notes),
    )


def _synthetic(
    study: Study, entry: StudyTask, run: Run, tests: Mapping[TestSet, TestRows], requirements: Requirements
) -> tuple[dict[str, tuple[MixtureRow, ...]], tuple[str, ...]]:
    """Synthetic rows by writer, without near-duplicates of test rows, and sentences with their row counts."""
    test_rows = TestRows(tuple(row for rows in tests.values() for row in rows))
    if not entry.synthetic:
        splits = replace(run.records.splits, test=test_rows)
        return generate_synthetic(
            replace(run, records=replace(run.records, splits=splits)), requirements.temperatures
        ), ()
    found = {
        writer: read_recorded_synthetic(study.folder / file, writer, run.project, run.records, test_rows)
        for writer, file in entry.synthetic.items()
    }
    return {writer: rows for writer, (rows, _) in found.items()}, tuple(note for _, note in found.values())


def _validation(rows: ValidationRows, study: Study) -> ValidationRows:
    """The given number of validation rows, always the same ones."""
    if study.validation == "all" or study.validation >= len(rows):
        return rows
    kept = draw_ids((row.response.id for row in rows), study.validation, 0)
    return ValidationRows(tuple(row for row in rows if row.response.id in kept))
