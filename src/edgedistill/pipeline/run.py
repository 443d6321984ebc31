"""A run of a project: its settings, its rows and its folder, which every stage gets."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgedistill.data.reading import Records
from edgedistill.data.types import Response, TrainRows, ValidationRows
from edgedistill.errors import AnswersMissing, Paused, ProjectFileError, RunError, together
from edgedistill.evaluation import Evaluation, Fidelity, read_evaluation, read_fidelity
from edgedistill.evaluation.comparison import COMPARISON, BundleComparison, read_comparison
from edgedistill.pipeline.folder import SHRUNK, STUDENT, RunFolder
from edgedistill.pipeline.inputs import RestrictedView, StageFolder, StageInputs, digest_records, restrict_codes
from edgedistill.progress import OnProgress
from edgedistill.project.schema import Project
from edgedistill.project.student import StudentSection
from edgedistill.project.teacher import AnyTeacher, ExistingLabelsSection, TeacherSection
from edgedistill.teacher import DispatchMode, Labelling, LabellingProgress, SendNow, StageSpending, combine_labellings
from edgedistill.teacher.existing_labels import ExistingLabels, TableRows
from edgedistill.teacher.teacher import Teacher
from edgedistill_export.counting import count_rows
from edgedistill_serve import Bundle
from edgedistill_serve.task.task import Label, Task


def shows_examples(project: Project) -> bool:
    """Return whether a teacher's prompts show human-coded train rows."""
    return any(teacher.few_shot or teacher.few_shot_ids for teacher in project.asked)


@dataclass(frozen=True)
class Run:
    """A project, its rows and its run folder.

    Attributes:
        offline: Answer from the cache alone.
        accept_teacher: Continue with a teacher that the gate refuses.
        on_progress: Called while work goes on.
        on_message: Called with a line that a person should read.
        dispatch: By a teacher's name, if there are several, how its requests are dispatched; for a single teacher the
            name is empty. None: they are sent at once, after a message with their estimated cost.
    """

    project: Project
    records: Records
    folder: RunFolder
    offline: bool = False
    accept_teacher: bool = False
    on_progress: OnProgress = lambda *_: None
    on_message: Callable[[str], None] = lambda _: None
    dispatch: Callable[[str], DispatchMode] | None = None

    def __repr__(self) -> str:
        return f"Run({self.project.name!r}, folder={str(self.folder.path)!r})"

    def restricted(self, stage: str, inputs: StageInputs, own: Collection[str], available: Collection[str]) -> "Run":
        """Return this run as one stage sees it: only what it declares can be read; see `edgedistill.pipeline.inputs`.

        Args:
            stage: The stage's name.
            inputs: What it declares.
            own: Files that it writes.
            available: Files that the stages before it write in this project.
        """
        records = restrict_codes(self.records, inputs)
        return replace(
            self,
            project=RestrictedView.of(self.project, "project", stage, inputs),
            records=RestrictedView.of(records, "records", stage, inputs),
            folder=StageFolder(self.folder, stage, inputs, own, available),
        )

    @contextmanager
    def counting(self, what: str, rows: int) -> Iterator[None]:
        """Report the rows that models read in the block as progress, each phase of the work for itself.

        Args:
            what: The stage's name, a colon, and a description.
            rows: About how many rows they will read, at least 1.
        """
        stage = what.partition(":")[0]
        present = (what, rows)
        self.on_progress(what, 0, rows)

        def count(done: int) -> None:
            self.on_progress(present[0], min(done, present[1] - 1), present[1])  # one more is not yet the end

        def begin(name: str, number: int) -> None:
            nonlocal present
            self.on_progress(present[0], present[1], present[1])
            present = (f"{stage}: {name}", max(1, number))
            self.on_progress(present[0], 0, present[1])

        with count_rows(count, begin):
            yield
        self.on_progress(present[0], present[1], present[1])

    @cached_property
    def record_digests(self) -> Mapping[str, str]:
        """The digest of every part of the records; see `digest_records`."""
        return digest_records(self.records)

    @property
    def task(self) -> Task:
        """The task as a student knows it: without definitions."""
        task = self.project.task
        labels = tuple(Label(label.name) for label in task.labels)
        return Task(task.kind, labels, task.inputs, task.redact.redaction if task.redact else None)

    @property
    def max_tokens(self) -> int:
        """The longest input of the student in tokens: as the project file says, or as `mix` found it in the data.

        Raises:
            RunError: The project file does not say it, and mix is not done.
        """
        given = self.project.student.max_tokens
        found = self._result_of_mix("max_tokens") if given is None else given
        if found is None:
            raise RunError(
                "student.max_tokens is not set, and mix, which chooses it, is not done",
                where=str(self.project.path),
                hint="`edgedistill mix PROJECT` does it.",
            )
        return int(found)

    @property
    def student_section(self) -> StudentSection:
        """The section `student` with its longest input."""
        return self.project.student.model_copy(update={"max_tokens": self.max_tokens})

    @property
    def validation(self) -> ValidationRows:
        """The validation rows that the student can read; `mix` lists the others."""
        unreadable = set(self._result_of_mix("unreadable_validation_rows") or ())
        rows = self.records.splits.validation
        return ValidationRows(tuple(row for row in rows if row.response.id not in unreadable)) if unreadable else rows

    def _result_of_mix(self, name: str) -> Any:
        try:
            log = self.folder.read_json("run.json")
        except RunError:
            return None
        return log["stages"].get("mix", {}).get(name) if isinstance(log, dict) else None

    @property
    def exported_student(self) -> Path:
        """The folder of the student that is evaluated as the student, and exported."""
        shrink = self.project.student.shrink
        return self.folder / (SHRUNK if shrink and shrink.export else STUDENT)

    @property
    def panel(self) -> tuple[AnyTeacher, ...]:
        """All teachers of the project.

        Raises:
            ProjectFileError: The project has none.
        """
        if not self.project.panel:
            raise ProjectFileError(
                "the project has no teacher",
                where=str(self.project.path),
                hint="Add the section teacher, or do not run this stage.",
            )
        return self.project.panel

    @property
    def used(self) -> tuple[AnyTeacher, ...]:
        """The teachers that passed the gate or were accepted; before the gate, all of them.

        Raises:
            RunError: The gate was passed by other teachers than the project has now.
        """
        verdict = self.verdict
        if verdict is None:
            return self.panel
        used = tuple(each for each in self.panel if each.called in verdict["used"])
        if verdict["used"] and not used:
            raise RunError(
                f"the gate was passed by {', '.join(verdict['used'])}, which the project no longer has",
                where=str(self.folder / "gate.json"),
                hint="Run `edgedistill gate PROJECT`.",
            )
        return used

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each teacher in a combined label, by its name."""
        verdict = self.verdict
        return dict.fromkeys((each.called for each in self.panel), 1.0) if verdict is None else verdict["weights"]

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """The content of `gate.json`; None before the gate."""
        verdict = self.folder.read_json("gate.json") if self.folder.has("gate.json") else {}
        return verdict if "used" in verdict else None

    @property
    def teacher(self) -> TeacherSection:
        """The teacher that writes responses: the first with an endpoint that is used.

        Raises:
            ProjectFileError: The project has none with an endpoint.
            RunError: The gate was passed by labels alone that exist already.
        """
        if not self.project.asked:
            raise ProjectFileError(
                "the project has no teacher with an endpoint",
                where=str(self.project.path),
                hint="Add one to write synthetic responses.",
            )
        if not (used := self.used_asked):
            raise RunError(
                "no teacher with an endpoint passed the gate, and labels that exist already write no responses",
                where="generate",
                hint="Remove the section generate, or continue with --accept-teacher.",
            )
        return used[0]

    @property
    def used_asked(self) -> tuple[TeacherSection, ...]:
        """The teachers with an endpoint among `used`, which can code new texts."""
        return tuple(each for each in self.used if isinstance(each, TeacherSection))

    @cached_property
    def teachers(self) -> Mapping[str, Teacher | ExistingLabels]:
        """All teachers by name; tables of existing labels are read.

        Prompts show human-coded train rows, but none that was coded at review unless `few_shot_ids` names it: an answer
        that is paid for stays the answer to the same prompt when people code more rows.

        Raises:
            DataError: A table cannot be used.
        """
        return {
            each.called: ExistingLabels.from_project(self.project, each)
            if isinstance(each, ExistingLabelsSection)
            else Teacher.from_project(self.project, each, self._examples_of(each))
            for each in self.panel
        }

    def _examples_of(self, teacher: TeacherSection) -> TrainRows:
        """The train rows that a teacher's prompts may show."""
        if not shows_examples(self.project):
            return TrainRows(())
        splits = self.records.splits
        return splits.train if teacher.few_shot_choice == "fixed" else splits.first_train

    @property
    def asked(self) -> Mapping[str, Teacher]:
        """The teachers with an endpoint by name."""
        if not self.project.asked:
            return {}
        return {name: each for name, each in self.teachers.items() if isinstance(each, Teacher)}

    @cached_property
    def label_tables(self) -> tuple[TableRows, ...]:
        """What became of every row of the tables of labels that exist already.

        Raises:
            DataError: A table cannot be used, or has no row of the data.
        """
        records = self.records
        tables = self.teachers.values() if len(self.project.asked) < len(self.project.panel) else ()
        return tuple(
            each.join(records.splits, records.unlabelled, records.set_aside)
            for each in tables
            if isinstance(each, ExistingLabels)
        )

    @property
    def evaluation(self) -> Evaluation:
        """The figures of the locked test rows, which `evaluate` computed with the student in PyTorch.

        Raises:
            RunError: It is not done, or an older version did it.
        """
        return read_evaluation(self.folder / "evaluation.json")

    @property
    def fidelity(self) -> Fidelity | None:
        """What each step from the trained student to the bundle changes; None if this evaluation was not exported.

        Raises:
            RunError: The file is damaged, or an older version wrote it.
        """
        return read_fidelity(self.folder / "fidelity.json", self.folder / "evaluation.json")

    @property
    def served_evaluation(self) -> Evaluation | None:
        """`evaluation` with the served graph as its student, as the report and the bundle state it.

        None if this evaluation was not exported; see `Fidelity.of_served` for what remains the student's in PyTorch.

        Raises:
            RunError: A file is damaged, or an older version wrote it.
        """
        fidelity = self.fidelity
        return None if fidelity is None or fidelity.agreement is None else fidelity.of_served(self.evaluation)

    @property
    def bundle(self) -> Bundle:
        """The bundle that `export` wrote.

        Raises:
            BundleError: There is none, or it was changed.
        """
        return Bundle.load(self.folder / "bundle")

    @property
    def comparison(self) -> BundleComparison | None:
        """The bundle and the one in use on the locked test rows; None unless ``report.compare_with`` names one.

        Raises:
            RunError: It is not done, or an older version did it.
        """
        if self.project.report.compare_with is None:
            return None
        return read_comparison(self.folder / COMPARISON)

    @property
    def report_html(self) -> str:
        """The page that `report` wrote.

        Raises:
            RunError: It is not done.
        """
        return self.folder.read_text("report.html")

    def methods(self) -> Path:
        """Write the methods section and the tables of a paper about this run, as `edgedistill report --methods` does.

        Returns:
            The folder ``paper`` in the run folder: ``methods.md``, ``methods.tex``, ``references.bib``, ``tables/``.

        Raises:
            RunError: A stage is not done with the current settings and data, or a file cannot be written.
        """
        from edgedistill.pipeline.methods import write_methods  # which reads a run

        return write_methods(self)

    def preregister(self) -> Path:
        """Lay down codebook, splits, gate, training, decision rule and evaluation before the test rows are evaluated.

        Returns:
            The file ``NAME.preregistration.json`` beside the project file, next to which the same is written as
            Markdown; see `edgedistill.pipeline.preregistration`.

        Raises:
            RunError: There is one already, the test rows have been evaluated, or a file cannot be written.
        """
        from edgedistill.pipeline.preregistration import preregister  # which reads a run

        return preregister(self)

    def replication(
        self, target: Path | str, *, texts: bool = False, logits: bool = True, overwrite: bool = False
    ) -> Path:
        """Write a replication package, whose script computes every table again; see `write_replication`.

        Args:
            target: The ZIP file.
            texts: Whether to pack responses, answers of teachers and ids of rows as well.
            logits: Whether to pack the student's logits, from which whoever has the student can confirm a guessed text.
            overwrite: Whether to replace the file, if there is one.

        Raises:
            RunError: The file exists, a stage is not done, the codebook quotes a response, or a table differs.
            AnswersMissing: The cache lacks answers of a teacher.
        """
        from edgedistill.pipeline.replication import write_replication  # which reads a run

        return write_replication(self, Path(target), texts=texts, logits=logits, overwrite=overwrite)

    def record_spending(self) -> None:
        """Record in `run.json` what each stage has spent in all runs, summed over teachers."""
        total: dict[str, StageSpending] = {}
        for teacher in self.asked.values():
            teacher.spending_log.catch_up()
            for stage, spent in teacher.spending_log.stages().items():
                total[stage] = total[stage] + spent if stage in total else spent
        if total:
            self.folder.record_spending({stage: asdict(spent) for stage, spent in total.items()})

    def dispatch_for(self, teacher: TeacherSection) -> DispatchMode:
        """Return how a teacher's requests are dispatched."""
        name = teacher.called if len(self.panel) > 1 else ""
        if self.dispatch is None:
            prefix = f"{name}: " if name else ""
            return SendNow(lambda estimate: self.on_message(f"{prefix}{estimate.summary}"))
        return self.dispatch(name)

    def code_with_each(
        self,
        teachers: Sequence[AnyTeacher],
        responses: tuple[Response, ...],
        what: str,
        *,
        votes: int | None = None,
    ) -> dict[str, Labelling]:
        """Have teachers code responses, one teacher after the other; answers in the cache are not requested again.

        Args:
            teachers: Some of the panel.
            responses: The responses.
            what: The stage's name, a colon, and a description for progress, in which ``{}`` is the teacher's name.
            votes: Answers per response; None: the number in the project file.

        Returns:
            By teacher's name, its labels.

        Raises:
            Paused: The dispatch mode stops the stage before it is done.
            AnswersMissing: Answers are missing offline or in a file; raised after all teachers were tried.
        """
        labellings: dict[str, Labelling] = {}
        paused: list[Paused] = []
        missing: list[AnswersMissing] = []
        for each in teachers:
            try:
                labellings[each.called] = self._code(each, responses, what.format(each.called), votes)
            except Paused as stop:
                paused.append(stop)
            except AnswersMissing as error:
                missing.append(error)
        if missing:
            raise missing[0]
        if paused:
            raise together(paused)
        return labellings

    def code_jointly(self, responses: tuple[Response, ...], what: str, *, votes: int | None = None) -> Labelling:
        """Have the used teachers with an endpoint code new texts, and combine their labels; see `code_with_each`."""
        labellings = self.code_with_each(self.used_asked, responses, what, votes=votes)
        return combine_labellings(responses, labellings, self.weights, self.task)

    def _code(self, section: AnyTeacher, responses: tuple[Response, ...], what: str, votes: int | None) -> Labelling:
        def on_progress(progress: LabellingProgress) -> None:
            self.on_progress(what, progress.done, progress.total)

        teacher = self.teachers[section.called]
        if isinstance(teacher, ExistingLabels):
            return teacher.code(responses, on_progress=on_progress)
        return teacher.code(
            responses,
            what.partition(":")[0],
            votes=votes,
            offline=self.offline,
            dispatch=self.dispatch_for(teacher.section),
            on_progress=on_progress,
            on_message=self.on_message,
        )
