"""A project file that can be run from Python, as `edgedistill run` does."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edgedistill.data import Records, read_records
from edgedistill.progress import OnProgress
from edgedistill.project import Project as ProjectFile
from edgedistill.project.reading import read_checked

if TYPE_CHECKING:  # the stages load torch, which a wrong project file should not wait for
    from edgedistill.pipeline import Run, Step
    from edgedistill.teacher import DispatchMode


class Project(ProjectFile):
    """A project file, read and checked, whose stages can be run.

    Example:
        run = Project.load("praise/project.yaml").run()
        run.evaluation, run.bundle, run.report_html
    """

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a project file.

        Args:
            path: The YAML file. Relative paths in it start from its folder.

        Raises:
            ProjectFileError: There is no such file, it is not YAML, or a key is unknown, missing or impossible.
        """
        return read_checked(Path(path), cls, "`edgedistill init NAME` writes a new one.")

    def run(
        self,
        *,
        until: str = "report",
        offline: bool = False,
        accept_teacher: bool = False,
        on_progress: OnProgress = lambda *_: None,
        on_message: Callable[[str], None] = lambda _: None,
        on_step: "Callable[[Step], None]" = lambda _: None,
    ) -> "Run":
        """Run every stage up to ``until`` that is not done, in order.

        Args:
            until: The last stage: gate, label, generate, mix, train, evaluate, export or report.
            offline: Answer from the cache alone.
            accept_teacher: Go on with a teacher that the gate refuses.
            on_progress: Called while work goes on; see `edgedistill.progress_bars`.
            on_message: Called with a line that a person should read.
            on_step: Called after each stage.

        Returns:
            The run, which knows its folder, ``evaluation``, ``bundle`` and ``report_html``.

        Raises:
            GateRefused: The teacher does not reach the bar and nobody accepted it.
            EdgeDistillError: Whatever a stage raises; the stages before it stay done.
        """
        from edgedistill.pipeline import run_stages

        run = self.start(offline=offline, accept_teacher=accept_teacher, on_progress=on_progress, on_message=on_message)
        run_stages(run, until=until, told=on_step)
        return run

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
        """Read the rows and return a run whose stages are still to be done, one by one; see `run`.

        Args:
            folder: Where the stages write; None: ``runs/NAME`` beside the project file.
            records: The rows, where they were read already.
            offline: As in `run`.
            accept_teacher: As in `run`.
            on_progress: As in `run`.
            on_message: As in `run`.
            dispatch: A function from a teacher's name to its dispatch mode; None sends requests one by one.

        Raises:
            DataError: A file or a row cannot be used; the message names it.
        """
        from edgedistill.pipeline import Run, RunFolder

        return Run(
            self,
            records or read_records(self),
            RunFolder(folder or self.run_folder),
            offline=offline,
            accept_teacher=accept_teacher,
            advance=on_progress,
            say=on_message,
            dispatch=dispatch,
        )
