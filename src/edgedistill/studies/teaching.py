"""What teachers make of a task's texts: asked, or read from recorded labels.

Wants       what a study needs beside human rows
Taught      what one teacher made of the task's texts, and of test rows
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgedistill.errors import DataError, ProjectFileError
from edgedistill.project.sections import TeacherSection
from edgedistill.records import Response, TeacherLabel, TestRows
from edgedistill.records.codes import canonical_code
from edgedistill.stages.label import read_labels_file
from edgedistill.stages.run import Run
from edgedistill.studies.sections import Study, StudyTask
from edgedistill.studies.texts import account, whole
from edgedistill.studies.types import TestSet
from edgedistill_serve.task import Task

_JUDGES = "stands in a test set as well"
_GIVEN_AWAY = "its own human code would stand in the prompt"


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


def teach(
    study: Study, entry: StudyTask, run: Run, tests: Mapping[TestSet, TestRows], wants: Wants
) -> tuple[dict[str, Taught], str]:
    """Have teachers code a task's texts, or read what they made of them.

    A text that also stands in a test set is set aside, and one to which a teacher would be shown the human code.

    Args:
        study: The study file.
        entry: Its task.
        run: The task's project.
        tests: The rows that judge.
        wants: Which teachers.

    Returns:
        By teacher what it made, and a sentence that accounts for the texts.

    Raises:
        ProjectFileError: There is no text, or no such teacher.
        DataError: Recorded labels cannot be used.
        TeacherError: A teacher cannot be asked, or, offline, its cache lacks answers.
    """
    offered = run.records.splits.train.responses if entry.texts == "train" else run.records.unlabelled
    panel = {} if entry.labels else {teacher.called: teacher for teacher in run.panel}
    chosen = wants.choose(tuple(entry.labels or panel), entry.name or run.project.name)
    asked = [panel[name] for name in chosen if name in panel]
    locked = {whole(row.response.inputs) for rows in tests.values() for row in rows}
    aside = {response.id: _JUDGES for response in offered if whole(response.inputs) in locked}
    if entry.texts == "train":
        aside |= dict.fromkeys(_given_away(run, asked, offered), _GIVEN_AWAY)
    texts = tuple(response for response in offered if response.id not in aside)
    if not texts:
        raise ProjectFileError(
            "the project has no unlabelled responses for a teacher to code",
            where=str(study.folder / entry.project),
            mend="Put `texts: train` into the study's task, or give data.unlabelled.",
        )
    told = account("texts for the teacher", f"{entry.texts} rows", len(offered), len(texts), aside.values())
    if entry.labels:
        files = {name: study.folder / entry.labels[name] for name in chosen}
        return {name: _recorded(file, texts, run.project.task.task) for name, file in files.items()}, told
    test = run.records.splits.test.responses if wants.of_test else ()
    labellings = run.ask_each(asked, (*texts, *test), "study: {} codes responses")
    return {name: _split(texts, labelling.labels) for name, labelling in labellings.items()}, told


def _given_away(run: Run, teachers: Iterable[TeacherSection], texts: tuple[Response, ...]) -> set[str]:
    """The ids of texts whose prompt would show a coded example that is the text itself but for case or white space.

    An example with the very same text is left out of the prompt already.
    """
    return {
        response.id
        for teacher in teachers
        for response, coding in run.teachers[teacher.called].plan(texts).pairs
        if coding and whole(response.inputs) in {whole(example.response.inputs) for example in coding.examples}
    }


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
