"""The commands `edgedistill report` and `edgedistill preregister`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgedistill.cli.compare import Served, with_served
from edgedistill.cli.project_argument import ProjectFile
from edgedistill.cli.terminal import Terminal
from edgedistill.runnable_project import Project

Examples = Annotated[
    int | None,
    typer.Option(
        "--examples", min=0, max=1000, metavar="N", help="Include the texts of N misclassified test responses."
    ),
]
StudyFolder = Annotated[
    Path | None,
    typer.Option("--study", metavar="FOLDER", help="Include the plot of a study; FOLDER contains its runs.csv."),
]
Methods = Annotated[
    bool, typer.Option("--methods", help="Also write the methods section and tables of a paper, in runs/NAME/paper.")
]
Replication = Annotated[
    Path | None,
    typer.Option("--replication", metavar="OUT.zip", help="Pack what computes every table again, without responses."),
]
Texts = Annotated[bool, typer.Option("--texts", help="With --replication: pack responses, answers and ids, too.")]
Logits = Annotated[
    bool,
    typer.Option(
        "--logits/--no-logits",
        help="With --replication: pack the student's logits, with which a guessed text can be confirmed.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="With --replication: replace OUT.zip.")]


def report(
    project_file: ProjectFile,
    examples: Examples = None,
    study: StudyFolder = None,
    served: Served = None,
    methods: Methods = False,
    replication: Replication = None,
    texts: Texts = False,
    logits: Logits = True,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write report.html from the run folder: may the model be used, for which labels, with how much human review?

    Example: edgedistill report praise/project.yaml --examples 5
    """
    terminal = Terminal(as_json=as_json)
    if replication is None and (texts or overwrite or not logits):
        raise typer.BadParameter("--texts, --no-logits and --overwrite need --replication")
    if replication is not None and replication.exists() and not overwrite:
        raise typer.BadParameter(f"{replication} exists already; name another file, or use --overwrite")
    project = _with_options(Project.load(project_file), examples, study)
    run = (with_served(project, served) if served else project).start()

    from edgedistill.pipeline import run_stage

    if run.project.report.compare_with:
        terminal.step(run_stage(run, "compare"))
    folder, step = run.folder, run_stage(run, "report")
    terminal.step(step)
    terminal.say(f"report  {folder / 'report.html'}")
    written: dict[str, Any] = {"run": str(folder.path), "report": str(folder / "report.html")}
    if replication is not None:
        written["replication"] = str(run.replication(replication, texts=texts, logits=logits, overwrite=overwrite))
        terminal.say(f"replication  {replication}{' (with responses and ids)' if texts else ''}")
    if methods:
        written["methods"] = str(run.methods())
        terminal.say(f"methods  {written['methods']}")
    terminal.finish({**written, "stages": {"report": step.entry}})


def preregister(
    project_file: ProjectFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Lay down the plan of a study, with hashes and a date, before its test rows are evaluated.

    Example: edgedistill preregister praise/project.yaml
    """
    terminal = Terminal(as_json=as_json)
    file = Project.load(project_file).start(offline=True).preregister()
    terminal.say(f"preregistration  {file}")
    terminal.finish({"preregistration": str(file), "text": str(file.with_suffix(".md"))})


def _with_options(project: Project, examples: int | None, study: Path | None) -> Project:
    """Return the project with the options of the command line in its section `report`."""
    options: dict[str, Any] = {}
    if examples is not None:
        options["examples"] = examples
    if study is not None:
        options["study"] = study.absolute()
    return project.model_copy(update={"report": project.report.model_copy(update=options)})
