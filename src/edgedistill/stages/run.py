"""One run of a project: what every stage is handed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from edgedistill.errors import ProjectFileError
from edgedistill.project.sections import Project, TeacherSection
from edgedistill.records.reading import Records
from edgedistill.records.types import CodedResponse, Response
from edgedistill.stages.folder import RunFolder
from edgedistill.teacher import AnswerCache, Budget, Codebook, Labelling, Progress, choose_examples, label_responses

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
    def teacher(self) -> TeacherSection:
        """The teacher's section.

        Raises:
            ProjectFileError: The project has none.
        """
        if self.project.teacher is None:
            raise ProjectFileError(
                "there is no teacher",
                where=str(self.project.path),
                mend="Add the section teacher, or leave this stage out.",
            )
        return self.project.teacher

    @cached_property
    def codebook(self) -> Codebook:
        """What the teacher is told to look for."""
        task = self.project.task.task
        return Codebook(self.project.task.instructions, task.labels, task.inputs)

    @cached_property
    def examples(self) -> tuple[CodedResponse, ...]:
        """The coded examples in every coding prompt, from human train rows."""
        return choose_examples(self.records.splits.train, self.codebook.names, self.teacher.few_shot)

    @cached_property
    def budget(self) -> Budget:
        """One cap for all stages of this run."""
        return Budget.of(self.teacher)

    @property
    def cache_folder(self) -> Path:
        """Where the teacher's answers are kept."""
        return self.project.folder / self.teacher.cache

    def ask_teacher(self, responses: tuple[Response, ...], what: str, *, votes: int | None = None) -> Labelling:
        """Have the teacher code responses; answers that the cache holds are not asked for again.

        Args:
            responses: What is to be coded.
            what: What it is for, for the progress.
            votes: Answers per response; None: as many as the project file says.
        """

        def told(progress: Progress) -> None:
            self.advance(what, progress.done, progress.total)

        with AnswerCache(self.cache_folder) as cache:
            return label_responses(
                responses,
                self.codebook,
                self.teacher if votes is None else self.teacher.model_copy(update={"votes": votes}),
                cache,
                examples=self.examples,
                offline=self.offline,
                progress=told,
                budget=self.budget,
            )
