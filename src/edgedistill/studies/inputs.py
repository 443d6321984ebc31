"""What a task offers to a study: its rows by source, the teachers' labels, synthetic rows, the transfer set.

Requirements       what a study needs beside human rows
TeacherLabels      what one teacher made of the task's texts, and of test rows

load_task_inputs(study, entry, …) -> TaskInputs
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from edgedistill.data.tables import Columns, normalize_text, read_coded
from edgedistill.data.types import canonical_code
from edgedistill.errors import DataError, ProjectFileError
from edgedistill.generation import Lineage, Sample, screen
from edgedistill.mixing import draw_ids, human_rows
from edgedistill.pipeline.generate import generate, read_synthetic
from edgedistill.pipeline.label import read_labels_file
from edgedistill.pipeline.run import Run
from edgedistill.progress import OnProgress
from edgedistill.project import GenerateSection, StudentSection
from edgedistill.project.schema import Project, TeacherSection
from edgedistill.runnable_project import Project as RunnableProject
from edgedistill.student import backbone_digests, backbone_folder
from edgedistill.studies.study_file import Study, StudyTask
from edgedistill.studies.types import TestSet
from edgedistill_serve.grading.table_reader import read_rows
from edgedistill_serve.task.task import Task


def duplicate_key(inputs: Mapping[str, str]) -> tuple[str, ...]:
    """Return every input folded: the same answer to another question is another text."""
    return tuple(normalize_text(text) for text in inputs.values())


def row_account(where: str, rows: str, read: int, used: int, reasons: Iterable[str]) -> str:
    """Return where rows went.

    Args:
        where: The file, or what the rows are for.
        rows: What they are called.
        read: How many there were.
        used: How many of them are used.
        reasons: Why each of the others is not.
    """
    aside = "".join(f" + {n} set aside ({reason})" for reason, n in Counter(reasons).items())
    return f"{where}: {read} {rows} read = {used} used{aside}"


def read_transfer(file: Path, project: Project, records: Records) -> tuple[TestRows, str]:
    """Read a transfer set; rows whose text is a train or validation row's are set aside.

    Args:
        file: Columns ``id``, the task's inputs and ``label``.
        project: Its task.
        records: Its other rows.

    Returns:
        The rows that are kept, and a sentence that accounts for all.

    Raises:
        DataError: The file or a row cannot be used, an id stands elsewhere with another text, or no row is left.
    """
    columns = Columns(project.task.task, project.data.group_by, project.data.max_characters)
    coded = read_coded(file.name, read_rows(file), columns)
    rows = [row.coded for row in coded.rows]
    _refuse_taken_ids(rows, records)
    seen = {
        duplicate_key(row.response.inputs): f"duplicates a {name} row"
        for name, side in (("train", records.splits.train), ("validation", records.splits.validation))
        for row in side
    }
    reasons = [row.reason for row in coded.set_aside]
    kept: list[CodedResponse] = []
    for row in rows:
        if reason := seen.get(duplicate_key(row.response.inputs)):
            reasons.append(reason)
        else:
            kept.append(row)
    told = row_account(file.name, "transfer rows", coded.read, len(kept), reasons)
    if not kept:
        raise DataError(
            f"no row is left to judge by; {told}",
            where=str(file),
            hint="A transfer set holds texts that no train or validation row has.",
        )
    return TestRows(tuple(kept)), told


def _refuse_taken_ids(rows: Iterable[CodedResponse], records: Records) -> None:
    splits = records.splits
    others = (*splits.train.responses, *splits.validation.responses, *splits.test.responses, *records.unlabelled)
    by_id = {response.id: response for response in others}
    for row in rows:
        twin = by_id.get(row.response.id)
        if twin and duplicate_key(twin.inputs) != duplicate_key(row.response.inputs):
            raise DataError(
                f"the id {twin.id!r} stands in {twin.place} already, with another text",
                where=row.response.place,
                hint="Give the rows of the transfer set ids of their own: labels are found by id.",
            )


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
    return kept, row_account(file.name, "synthetic rows", coded.read, len(kept), reasons)


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
            hint="Add the section generate, or give the study's task recorded rows: synthetic: {NAME: FILE}.",
        )
    if temperatures:
        section = section.model_copy(update={"temperature": temperatures})
        run = replace(run, project=run.project.model_copy(update={"generate": section}))
    generate(run)
    return {run.teacher.called: read_synthetic(run.folder)}


_JUDGES = "stands in a test set as well"
_GIVEN_AWAY = "its own human code would stand in the prompt"


@dataclass(frozen=True, slots=True)
class Requirements:
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
                f"the task {task!r} has no teacher {min(unknown)!r}", hint=f"It has {', '.join(there) or 'none'}."
            )
        chosen = self.named or tuple(there)
        return chosen[:1] if self.teachers == "one" else chosen


@dataclass(frozen=True, slots=True)
class TeacherLabels:
    """What one teacher made of a task's texts.

    Attributes:
        responses: The texts that it was to code.
        labels: What it made of them.
        test: Its labels of rows of `test` and `transfer`, by id, as far as there are any.
    """

    responses: tuple[Response, ...]
    labels: tuple[TeacherLabel, ...]
    test: Mapping[str, str]


def load_teacher_labels(
    study: Study, entry: StudyTask, run: Run, tests: Mapping[TestSet, TestRows], requirements: Requirements
) -> tuple[dict[str, TeacherLabels], str]:
    """Have teachers code a task's texts, or read what they made of them.

    A text that also stands in a test set is set aside, and one to which a teacher would be shown the human code.

    Args:
        study: The study file.
        entry: Its task.
        run: The task's project.
        tests: The rows that judge.
        requirements: Which teachers.

    Returns:
        By teacher what it made, and a sentence that accounts for the texts.

    Raises:
        ProjectFileError: There is no text, or no such teacher.
        DataError: Recorded labels cannot be used.
        TeacherError: A teacher cannot be asked, or, offline, its cache lacks answers.
    """
    offered = run.records.splits.train.responses if entry.texts == "train" else run.records.unlabelled
    panel = {} if entry.labels else {teacher.called: teacher for teacher in run.panel}
    chosen = requirements.choose(tuple(entry.labels or panel), entry.name or run.project.name)
    asked = [panel[name] for name in chosen if name in panel]
    locked = {duplicate_key(row.response.inputs) for rows in tests.values() for row in rows}
    aside = {response.id: _JUDGES for response in offered if duplicate_key(response.inputs) in locked}
    if entry.texts == "train":
        aside |= dict.fromkeys(_given_away(run, asked, offered), _GIVEN_AWAY)
    texts = tuple(response for response in offered if response.id not in aside)
    if not texts:
        raise ProjectFileError(
            "the project has no unlabelled responses for a teacher to code",
            where=str(study.folder / entry.project),
            hint="Put `texts: train` into the study's task, or give data.unlabelled.",
        )
    told = row_account("texts for the teacher", f"{entry.texts} rows", len(offered), len(texts), aside.values())
    if entry.labels:
        files = {name: study.folder / entry.labels[name] for name in chosen}
        return {name: _recorded(file, texts, run.project.task.task) for name, file in files.items()}, told
    test = run.records.splits.test.responses if requirements.of_test else ()
    labellings = run.code_with_each(asked, (*texts, *test), "study: {} codes responses")
    return {name: _split(texts, labelling.labels) for name, labelling in labellings.items()}, told


def _given_away(run: Run, teachers: Iterable[TeacherSection], texts: tuple[Response, ...]) -> set[str]:
    """The ids of texts whose prompt would show a coded example that is the text itself but for case or white space.

    An example with the very same text is left out of the prompt already.
    """
    return {
        response.id
        for teacher in teachers
        for response, coding in run.teachers[teacher.called].plan(texts).pairs
        if coding
        and duplicate_key(response.inputs) in {duplicate_key(example.response.inputs) for example in coding.examples}
    }


def _recorded(file: Path, texts: tuple[Response, ...], task: Task) -> TeacherLabels:
    try:
        labels = tuple(replace(row, label=canonical_code(row.label, task)) for row in read_labels_file(file))
    except DataError as error:
        raise DataError(error.what, where=error.where or str(file), hint=error.hint) from None
    taught = _split(texts, labels)
    if not taught.labels:
        raise DataError(
            "none of its ids is one of the texts that a teacher is to code",
            where=str(file),
            hint="`texts: train` or `texts: unlabelled` in the study's task says which texts these are.",
        )
    return taught


def _split(texts: tuple[Response, ...], labels: tuple[TeacherLabel, ...]) -> TeacherLabels:
    coded = {response.id for response in texts}
    return TeacherLabels(
        texts,
        tuple(label for label in labels if label.id in coded),
        {label.id: label.label for label in labels if label.id not in coded},
    )


@dataclass(frozen=True)
class TaskInputs:
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
    taught: Mapping[str, TeacherLabels]
    synthetic: Mapping[str, tuple[MixtureRow, ...]]
    student: StudentSection
    backbone: Path
    weights: str
    positive: str | None
    data: tuple[str, ...]
    notes: tuple[str, ...]


def load_task_inputs(
    study: Study,
    entry: StudyTask,
    requirements: Requirements,
    *,
    offline: bool = False,
    advance: OnProgress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> TaskInputs:
    """Read a task's rows, have its teacher code and write what no file holds, and screen what was written.

    Raises:
        ProjectFileError: The project cannot be read, or lacks what the study needs.
        DataError: A file or a row cannot be used.
        TeacherError: The teacher cannot be asked, or, offline, the cache lacks answers.
    """
    project = RunnableProject.load(study.folder / entry.project)
    if study.student.backbone is not None:
        backbone = backbone_folder(study.student.backbone, study.folder)
    else:
        backbone = backbone_folder(project.student.backbone, project.folder)
    name = entry.name or project.name
    if requirements.synthetic and project.task.kind == "multilabel":
        raise ProjectFileError(
            f"the task {name!r} is multilabel, and synthetic rows are written for one label each",
            where="tasks",
            hint="Leave this task out, or study label-source, consistency of the teacher, or teachers.",
        )
    records = read_records(project)
    if entry.positive is not None and entry.positive not in project.task.task.names:
        raise ProjectFileError(
            f"the task {name!r} has no label {entry.positive!r}",
            where="tasks.positive",
            hint=f"Its labels: {', '.join(project.task.task.names)}.",
        )
    run = project.start(
        folder=study.run_folder / "material" / name,
        records=records,
        offline=offline,
        on_progress=advance,
        on_message=lambda line: say(f"{name}: {line}"),
    )
    tests: dict[TestSet, TestRows] = {"test": records.splits.test}
    notes = list(records.splits.notes)
    if entry.transfer is not None:
        tests["transfer"], note = read_transfer(study.folder / entry.transfer, project, records)
        notes.append(note)
    taught: dict[str, TeacherLabels] = {}
    if requirements.teachers != "none":
        taught, note = load_teacher_labels(study, entry, run, tests, requirements)
        notes.append(note)
    synthetic, told = _synthetic(study, entry, run, tests, requirements) if requirements.synthetic else ({}, ())
    notes += told
    return TaskInputs(
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
        data=tuple(each.sha256 for each in records.row_counts),
        notes=tuple(notes),
    )


def _synthetic(
    study: Study, entry: StudyTask, run: Run, tests: Mapping[TestSet, TestRows], requirements: Requirements
) -> tuple[dict[str, tuple[MixtureRow, ...]], tuple[str, ...]]:
    """Synthetic rows by writer, without near-duplicates of test rows, and sentences with their row counts."""
    judges = TestRows(tuple(row for rows in tests.values() for row in rows))
    if not entry.synthetic:
        splits = replace(run.records.splits, test=judges)
        return written_synthetic(
            replace(run, records=replace(run.records, splits=splits)), requirements.temperatures
        ), ()
    found = {
        writer: recorded_synthetic(study.folder / file, writer, run.project, run.records, judges)
        for writer, file in entry.synthetic.items()
    }
    return {writer: rows for writer, (rows, _) in found.items()}, tuple(told for _, told in found.values())


def _validation(rows: ValidationRows, study: Study) -> ValidationRows:
    """So many validation rows, always the same ones."""
    if study.validation == "all" or study.validation >= len(rows):
        return rows
    kept = draw_ids((row.response.id for row in rows), study.validation, 0)
    return ValidationRows(tuple(row for row in rows if row.response.id in kept))
