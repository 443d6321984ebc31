"""A project file whose stages can be run from Python, as `edgedistill run` does."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edgedistill.data import Records, read_records
from edgedistill.progress import OnProgress
from edgedistill.project import Project as ProjectFile
from edgedistill.project.reading import find_project_file, read_checked
from edgedistill_serve.task.task import Kind

if TYPE_CHECKING:  # the stages import torch, and an invalid project file should fail without it
    from edgedistill.decisions.learning_curve import LearningCurve
    from edgedistill.pipeline import Run, StageResult
    from edgedistill.pipeline.next_rows import NextRows
    from edgedistill.teacher import DispatchMode
    from edgedistill.teacher.canaries import Look


class Project(ProjectFile):
    """A validated project file whose stages can be run.

    Example:
        run = Project.load("praise/project.yaml").run()
        run.evaluation, run.bundle, run.report_html
    """

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a project file.

        Args:
            path: The YAML file, or its folder. Relative paths in it start from that folder.

        Raises:
            ProjectFileError: The file does not exist or is not valid YAML, or a key is unknown, missing or invalid.
        """
        return read_checked(find_project_file(Path(path)), cls, "`edgedistill init NAME` writes a new one.")

    @classmethod
    def from_file(
        cls,
        table: Path | str,
        folder: Path | str | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        header_row: int | None = None,
        first_row: int | None = None,
        sheet: str | None = None,
        kind: Kind | None = None,
        remove_html: bool | None = None,
        uncoded: bool = False,
        on_message: Callable[[str], None] = print,
    ) -> Self:
        """Write a project for a table as people have it, as `edgedistill init --from` does, and read it.

        Args:
            table: An xlsx, CSV, TSV, JSONL or Parquet file, such as an export of Google Forms, Microsoft Forms, Moodle,
                Canvas, Qualtrics or Label Studio; or a JSON export of Label Studio.
            folder: The folder to create; None: one with the name of the table, in the working folder.
            columns: By key (``id``, ``question``, ``reference_answer``, ``rubric``, ``response``, ``label``,
                ``split``), the name of its column; others are found.
            header_row: The row with the names of the columns, from 1; None to find it.
            first_row: The first row of responses; None: the one after the header.
            sheet: Of an xlsx file; None: the one with the most responses.
            kind: Of the task; None to find it by the labels.
            remove_html: Whether to read the text that HTML shows; None: if there is any.
            uncoded: Whether no column has human codes.
            on_message: Called with what was assumed, a sentence each.

        Raises:
            ArgumentError: An argument is not valid.
            DataError: The table cannot be read, or no column looks like responses; the message has the fix.
            ProjectFileError: The folder exists and is not empty, or cannot be written.

        Example:
            Project.from_file("responses.xlsx", "praise", columns={"label": "Code (AM)"}).run()
        """
        from edgedistill.new_project import NewProjectOptions, project_from_table
        from edgedistill_serve.grading.header_rows import HeaderRows

        header = HeaderRows(header_row or 1, first_row) if header_row or first_row else None
        options = NewProjectOptions(columns or {}, header, kind, remove_html, uncoded, sheet)
        new = project_from_table(Path(table), None if folder is None else Path(folder), options)
        for note in (*new.notes, *([new.problem] if new.problem else [])):
            on_message(note)
        return cls.load(new.file)

    def run(
        self,
        *,
        until: str = "report",
        served: Path | str | None = None,
        offline: bool = False,
        accept_teacher: bool = False,
        on_progress: OnProgress = lambda *_: None,
        on_message: Callable[[str], None] = lambda _: None,
        on_step: "Callable[[StageResult], None]" = lambda _: None,
    ) -> "Run":
        """Run all unfinished stages up to ``until``, in order.

        Args:
            until: The last stage: gate, label, generate, mix, train, evaluate, export, compare or report.
            served: The folder of the bundle in use, with which the new one is compared; None: that of
                ``report.compare_with``, if the project file names one.
            offline: Use cached answers only.
            accept_teacher: Continue with a teacher that the gate refused.
            on_progress: Progress callback; see `edgedistill.progress_bars`.
            on_message: Called with messages for the user.
            on_step: Called after each stage.

        Returns:
            The run, with its folder, ``evaluation``, ``served_evaluation``, ``bundle``, ``comparison`` and
            ``report_html``.

        Raises:
            GateRefused: The teacher's agreement is below the gate.
            EdgeDistillError: Any error of a stage; earlier stages stay finished.
        """
        from edgedistill.pipeline import run_stages

        project = self
        if served is not None:
            report = self.report.model_copy(update={"compare_with": Path(served).absolute()})
            project = self.model_copy(update={"report": report})
        run = project.start(
            offline=offline, accept_teacher=accept_teacher, on_progress=on_progress, on_message=on_message
        )
        run_stages(run, until=until, on_step=on_step)
        return run

    def review_next(
        self,
        rows: int = 50,
        *,
        out: Path | str | None = None,
        responses: Path | str | None = None,
        strategy: str | None = None,
        purpose: str = "train",
        random_share: float | None = None,
        seed: int = 0,
    ) -> "NextRows":
        """Draw uncoded rows for people to code, as `edgedistill review next` does.

        Args:
            rows: How many; all that can be drawn, if these are fewer.
            out: The coding sheet to write, in the table format of its suffix; it must not exist. None writes none.
            responses: A file of responses; None for those of the project.
            strategy: ``random``, ``mixed`` or signals separated by commas (``uncertainty``, ``disagreement``,
                ``novelty``, ``coverage``); None: ``random``.
            purpose: ``train``, ``validation`` or ``both``: what the codes are for.
            random_share: Share of the rows drawn at random, in (0, 1]; None: 0.3, and 1 for the strategy ``random``.
            seed: Seed of the draw; at least 0.

        Returns:
            The draw, which is also in the run folder's `review-draws.jsonl`: ``responses``, ``probabilities``,
            ``to_frame()``.

        Raises:
            ArgumentError: An argument is not valid.
            DataError: There is no row to draw, or a file cannot be read or written.
            RunError: A signal that was asked for is not available, or the log of draws is damaged.

        Example:
            Project.load("praise/project.yaml").review_next(50, strategy="mixed").to_frame()
        """
        from edgedistill.pipeline.next_rows import draw_next

        return draw_next(
            self,
            read_records(self),
            rows,
            responses=Path(responses) if responses else None,
            strategy=strategy,
            purpose=purpose,
            random_share=random_share,
            seed=seed,
            out=Path(out) if out else None,
        )

    def watch_teacher(
        self,
        teacher: str = "",
        *,
        rows: int = 50,
        seed: int = 0,
        false_alarms: float = 0.05,
        renew: bool = False,
        on_progress: OnProgress = lambda *_: None,
        on_message: Callable[[str], None] = lambda _: None,
    ) -> "Look":
        """Ask a teacher's canary set again and compare the answers, as `edgedistill teacher watch` does.

        Args:
            teacher: The teacher's name; empty if the project has one with an endpoint.
            rows: Responses of a new set, at least 10.
            seed: Of the draw of a new set.
            false_alarms: Of a new set: the probability of any false alarm over all looks, in (0, 1).
            renew: Whether to draw a new set.
            on_progress: Progress callback; see `edgedistill.progress_bars`.
            on_message: Called with messages for the user, such as the cost estimate.

        Returns:
            The look, whose ``verdict`` is ``no change shown``, ``answers changed`` or ``model renamed``.

        Raises:
            EdgeDistillError: As `edgedistill.pipeline.teacher_watch.watch_teacher`.
        """
        from edgedistill.pipeline.teacher_watch import WatchOptions, watch_teacher

        options = WatchOptions(teacher, rows, seed, false_alarms, renew)
        return watch_teacher(self.start(on_progress=on_progress, on_message=on_message), options)

    def learning_curve(
        self, *, student: str = "frozen", seeds: int = 5, on_progress: OnProgress = lambda *_: None
    ) -> "LearningCurve":
        """Measure how agreement grows with human-coded train rows, as `edgedistill review curve` does.

        Args:
            student: ``frozen``: a classifier on the frozen encoder; ``fine-tuned``: the project's student.
            seeds: Random subsets per size, at least 2.
            on_progress: Progress callback; see `edgedistill.progress_bars`.

        Returns:
            The curve, which is also written to `learning_curve.json` in the run folder.

        Raises:
            ArgumentError: An argument is not valid.
            DataError: A file or row cannot be used.
            TrainingFailed: The backbone cannot be loaded, or a training failed.
        """
        from edgedistill.pipeline.learning_curve import measure_learning_curve

        return measure_learning_curve(self.start(on_progress=on_progress), student=student, seeds=seeds)

    def start(
        self,
        *,
        folder: Path | None = None,
        records: Records | None = None,
        offline: bool = False,
        accept_teacher: bool = False,
        on_progress: OnProgress = lambda *_: None,
        on_message: Callable[[str], None] = lambda _: None,
        dispatch: "Callable[[str], DispatchMode] | None" = None,
    ) -> "Run":
        """Read the rows and return a run, whose stages can be run one by one; see `run`.

        Args:
            folder: The run folder; None: ``runs/NAME`` next to the project file.
            records: The rows, if they have been read already.
            offline: As in `run`.
            accept_teacher: As in `run`.
            on_progress: As in `run`.
            on_message: As in `run`.
            dispatch: A function from a teacher's name to its dispatch mode; None sends requests one by one.

        Raises:
            DataError: A file or row cannot be used; the message names it.
        """
        from edgedistill.pipeline import Run, RunFolder

        return Run(
            self,
            records or read_records(self),
            RunFolder(folder or self.run_folder),
            offline=offline,
            accept_teacher=accept_teacher,
            on_progress=on_progress,
            on_message=on_message,
            dispatch=dispatch,
        )
