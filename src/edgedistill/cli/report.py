"""The command `edgedistill report`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgedistill.cli.terminal import Terminal
from edgedistill.runnable_project import Project

Examples = Annotated[
    int | None,
    typer.Option(
        "--examples", min=0, max=1000, metavar="N", help="Show N wrongly coded test responses with what was written."
    ),
]
StudyFolder = Annotated[
    Path | None,
    typer.Option("--study", metavar="FOLDER", help="Show the curve of a study: the folder of its runs.csv."),
]


def report(
    project_file: Annotated[Path, typer.Argument(metavar="PROJECT.yaml", help="The project file.")],
    examples: Examples = None,
    study: StudyFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write report.html from what is in the run folder: may the model be used, for which labels, with how much review?

    Example: edgedistill report praise/project.yaml --examples 5
    """
    terminal = Terminal(as_json=as_json)
    run = _as_asked(Project.load(project_file), examples, study).start()

    from edgedistill.pipeline import run_stage

    folder, step = run.folder, run_stage(run, "report")
    terminal.step(step)
    terminal.say(f"report  {folder / 'report.html'}")
    terminal.finish({"run": str(folder.path), "report": str(folder / "report.html"), "stages": {"report": step.entry}})


def _as_asked(project: Project, examples: int | None, study: Path | None) -> Project:
    """The project with what the command line says in the place of its section `report`."""
    asked: dict[str, Any] = {}
    if examples is not None:
        asked["examples"] = examples
    if study is not None:
        asked["study"] = study.absolute()
    return project.model_copy(update={"report": project.report.model_copy(update=asked)})
