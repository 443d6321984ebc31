"""The commands of `edgedistill`."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.cache import cache_app
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import EdgeDistillError
from edgedistill.project import read_project
from edgedistill.project.starter import start_project
from edgedistill.records import read_records

if TYPE_CHECKING:  # the stages import torch, which `--help` and a wrong project file should not wait for
    from edgedistill.stages import Run, Step

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turn an LLM's judgement of open responses into a classifier small enough for a classroom.",
)
app.add_typer(cache_app, name="cache")

ProjectFile = Annotated[Path, typer.Argument(metavar="PROJECT.yaml", help="The project file.")]
Offline = Annotated[bool, typer.Option("--offline", help="Answer from the cache alone; name what is missing.")]
Accept = Annotated[bool, typer.Option("--accept-teacher", help="Go on with a teacher that the gate refuses.")]
ShowPrompt = Annotated[
    str | None, typer.Option("--show-prompt", metavar="ID", help="Print what is sent about this response; ask nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(invoke_without_command=True)
def _root(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show:
        typer.echo(version("edgedistill"))
        raise typer.Exit


@app.command()
def init(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The new folder.")], as_json: AsJson = False
) -> None:
    """Make a new project folder with a commented project file.

    Example: edgedistill init praise
    """
    files = start_project(name)
    terminal = Terminal(as_json=as_json)
    for file in files:
        terminal.console.print(f"wrote {file}")
    terminal.finish({"files": [str(file) for file in files]})


@app.command()
def run(
    project: ProjectFile,
    until: Annotated[str, typer.Option(metavar="STAGE", help="The last stage to run.")] = "export",
    offline: Offline = False,
    accept_teacher: Accept = False,
    as_json: AsJson = False,
) -> None:
    """Run all stages of a project; stages that are done are skipped.

    Stages: gate, label, generate, mix, train, evaluate, export.

    Example: edgedistill run praise/project.yaml
    """

    def work(run: "Run", told: "Callable[[Step], None]") -> None:
        from edgedistill.stages import run_stages

        run_stages(run, until=until, told=told)

    _work(
        project,
        Terminal(as_json=as_json),
        work,
        offline=offline,
        accept_teacher=accept_teacher,
    )


def _work(
    path: Path,
    terminal: Terminal,
    work: "Callable[[Run, Callable[[Step], None]], None]",
    *,
    offline: bool = False,
    accept_teacher: bool = False,
) -> None:
    """Read a project, do some of its stages, and show what came of them."""
    project = read_project(path)
    records = read_records(project)
    terminal.opening(project, records)

    from edgedistill.stages import Run, RunFolder, Step

    folder = RunFolder(project.run_folder)
    steps: list[Step] = []

    def told(step: Step) -> None:
        steps.append(step)
        terminal.step(step)
        show = {
            "gate": terminal.gate,
            "generate": terminal.generation,
            "evaluate": terminal.agreement,
            "export": terminal.chain,
        }.get(step.stage)
        file = {"gate": "gate.json", "generate": "generation.json", "evaluate": "evaluation.json"}.get(step.stage)
        if show:
            show(folder.read_json(file) if file else step.entry)
        if step.stage == "label":
            terminal.between(step.entry.get("between"))

    with terminal.progress() as advance:
        job = Run(project, records, folder, offline=offline, accept_teacher=accept_teacher, advance=advance)
        work(job, told)
    result: dict[str, Any] = {"run": str(folder.path), "stages": {step.stage: step.entry for step in steps}}
    if steps and steps[-1].stage == "export":
        bundle = folder / "bundle"
        size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
        terminal.console.print(f"bundle  {bundle}  {size / 1e6:.1f} MB, serves {steps[-1].entry['served']}")
        result["bundle"] = {"path": str(bundle), "bytes": size}
    terminal.finish(result)


def _stage_command(name: str, does: str) -> None:
    def command(
        project: ProjectFile, offline: Offline = False, accept_teacher: Accept = False, as_json: AsJson = False
    ) -> None:
        def work(run: "Run", told: "Callable[[Step], None]") -> None:
            from edgedistill.stages import run_stage

            told(run_stage(run, name))

        _work(
            project,
            Terminal(as_json=as_json),
            work,
            offline=offline,
            accept_teacher=accept_teacher,
        )

    command.__doc__ = f"{does}\n\nExample: edgedistill {name} praise/project.yaml"
    app.command(name)(command)


def _coding_command(name: str, does: str) -> None:
    """A stage in which teachers code responses, whose prompts can be looked at."""

    def command(
        project: ProjectFile,
        show_prompt: ShowPrompt = None,
        offline: Offline = False,
        accept_teacher: Accept = False,
        as_json: AsJson = False,
    ) -> None:
        def work(run: "Run", told: "Callable[[Step], None]") -> None:
            from edgedistill.stages import run_stage

            told(run_stage(run, name))

        terminal = Terminal(as_json=as_json)
        if show_prompt is not None:
            _show_prompt(project, terminal, show_prompt)
        else:
            _work(project, terminal, work, offline=offline, accept_teacher=accept_teacher)

    command.__doc__ = (
        f"{does}\n\nExample: edgedistill {name} praise/project.yaml\n\n"
        f"What would be sent about one response: edgedistill {name} praise/project.yaml --show-prompt r7"
    )
    app.command(name)(command)


def _show_prompt(path: Path, terminal: Terminal, ident: str) -> None:
    """Print what each teacher would be sent about a response; ask nothing."""
    project = read_project(path)
    records = read_records(project)

    from edgedistill.stages import Run, RunFolder, prompts_of

    prompts = prompts_of(Run(project, records, RunFolder(project.run_folder)), ident)
    for prompt in prompts:
        terminal.prompt(prompt)
    terminal.finish({"id": ident, "prompts": [{"teacher": each.teacher, **each.request.content()} for each in prompts]})


for _name, _does in (
    ("gate", "Compare the teacher with the human codes of the validation rows."),
    ("label", "Have the teacher code the unlabelled responses."),
):
    _coding_command(_name, _does)
for _name, _does in (
    ("generate", "Have the teacher write synthetic responses, screen them and code them again."),
    ("mix", "Draw the training set."),
    ("train", "Fine-tune the student on the training set."),
    ("evaluate", "Compare student and teacher with the human codes of the locked test rows."),
    ("export", "Export the student to a checked ONNX bundle."),
):
    _stage_command(_name, _does)


def main() -> None:
    """Run the command line; an error of ours becomes one line and its exit code."""
    try:
        app()
    except EdgeDistillError as error:
        sys.stderr.write(f"edgedistill: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("edgedistill: stopped; what was done is kept, the same command goes on from there\n")
        sys.exit(130)
