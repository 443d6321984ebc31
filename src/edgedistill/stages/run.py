"""One run of a project: what every stage is handed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from edgedistill.errors import ProjectFileError
from edgedistill.project.sections import Project, TeacherSection
from edgedistill.records.reading import Records
from edgedistill.records.types import Response
from edgedistill.stages.folder import RunFolder
from edgedistill.student import backbone_folder
from edgedistill.student.embedding import Vectors, embedder
from edgedistill.teacher import (
    AnswerCache,
    Budget,
    Chooser,
    Codebook,
    Embed,
    Labelling,
    Plan,
    Progress,
    example_chooser,
    joint_labelling,
    label_responses,
)

Advance: TypeAlias = Callable[[str, int, int], None]
"""Told while work goes on: what is done, how much of it is done, how much there is."""


@dataclass(frozen=True)
class Run:
    """A project, its rows and its run folder.

    Attributes:
        offline: Answer from the cache alone.
        accept_teacher: Go on with a teacher that the gate refuses.
        advance: Told about progress.
    """

    project: Project
    records: Records
    folder: RunFolder
    offline: bool = False
    accept_teacher: bool = False
    advance: Advance = lambda *_: None

    @property
    def panel(self) -> tuple[TeacherSection, ...]:
        """Every teacher of the project.

        Raises:
            ProjectFileError: The project has none.
        """
        if not self.project.panel:
            raise ProjectFileError(
                "there is no teacher",
                where=str(self.project.path),
                mend="Add the section teacher, or leave this stage out.",
            )
        return self.project.panel

    @property
    def used(self) -> tuple[TeacherSection, ...]:
        """The teachers that passed the gate or were accepted; before there is a verdict, all of them."""
        verdict = self.verdict
        return self.panel if verdict is None else tuple(each for each in self.panel if each.called in verdict["used"])

    @property
    def weights(self) -> Mapping[str, float]:
        """What each teacher counts in a joint label, by its name."""
        verdict = self.verdict
        return dict.fromkeys((each.called for each in self.panel), 1.0) if verdict is None else verdict["weights"]

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """What `gate.json` holds; None before there is one that this version wrote."""
        verdict = self.folder.read_json("gate.json") if (self.folder / "gate.json").exists() else {}
        return verdict if "used" in verdict else None

    @property
    def teacher(self) -> TeacherSection:
        """The teacher that writes responses: the first of those that are used.

        Raises:
            ProjectFileError: The project has none.
        """
        return (*self.used, *self.panel)[0]

    @cached_property
    def codebook(self) -> Codebook:
        """What the teacher is told to look for."""
        task = self.project.task.task
        return Codebook(self.project.task.instructions, task.labels, task.inputs)

    @cached_property
    def _choosers(self) -> dict[str, Chooser]:
        """Which coded examples each teacher is shown; they are human train rows."""
        train, names = self.records.splits.train, self.codebook.names
        return {each.called: example_chooser(each, train, names, self._embed) for each in self.panel}

    def _embed(self, rows: Sequence[Mapping[str, str]]) -> Vectors:
        return self._embedder(rows)  # loaded once it is wanted, which is seldom

    @cached_property
    def _embedder(self) -> Embed:
        student = self.project.student
        return embedder(backbone_folder(student.backbone, self.project.folder), student.max_tokens)

    @cached_property
    def _budgets(self) -> dict[str, Budget]:
        """One cap per teacher for all stages of this run."""
        return {each.called: Budget.of(each) for each in self.panel}

    @property
    def budget(self) -> Budget:
        """The budget of `teacher`."""
        return self._budgets[self.teacher.called]

    @property
    def cache_folder(self) -> Path:
        """Where the answers of `teacher` are kept."""
        return self.project.folder / self.teacher.cache

    def plan(self, teacher: TeacherSection, responses: tuple[Response, ...]) -> Plan:
        """Return what a teacher would be asked about responses, were nothing in the cache."""
        return Plan(responses, self.codebook, teacher, self._choosers[teacher.called])

    def ask_each(
        self,
        teachers: Sequence[TeacherSection],
        responses: tuple[Response, ...],
        what: str,
        *,
        votes: int | None = None,
    ) -> dict[str, Labelling]:
        """Have teachers code responses, one after the other; answers that the cache holds are not asked for again.

        Args:
            teachers: Some of the panel.
            responses: What is to be coded.
            what: What it is for, for the progress; ``{}`` in it stands for the teacher's name.
            votes: Answers per response; None: as many as the project file says.

        Returns:
            What each made of them, by its name.
        """
        return {each.called: self._ask(each, responses, what.format(each.called), votes) for each in teachers}

    def ask_teacher(self, responses: tuple[Response, ...], what: str, *, votes: int | None = None) -> Labelling:
        """Have the teachers that are used code responses together; see `ask_each` and `joint_labelling`."""
        labellings = self.ask_each(self.used, responses, what, votes=votes)
        return joint_labelling(responses, labellings, self.weights)

    def _ask(self, teacher: TeacherSection, responses: tuple[Response, ...], what: str, votes: int | None) -> Labelling:
        def told(progress: Progress) -> None:
            self.advance(what, progress.done, progress.total)

        with AnswerCache(self.project.folder / teacher.cache) as cache:
            return label_responses(
                responses,
                self.codebook,
                teacher if votes is None else teacher.model_copy(update={"votes": votes}),
                cache,
                examples=self._choosers[teacher.called],
                offline=self.offline,
                progress=told,
                budget=self._budgets[teacher.called],
            )
