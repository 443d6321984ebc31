"""The commands of `edgedistill`."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.backbones import backbones_app
from edgedistill.cli.cache import cache_app
from edgedistill.cli.code import code
from edgedistill.cli.compare import (
    ComparedOn,
    ComparedOut,
    ComparedProject,
    ComparedTarget,
    CompareOptions,
    NewBundle,
    PartColumns,
    PartRows,
    Served,
    compare_on,
    show_comparison,
    with_served,
)
from edgedistill.cli.dispatch import BatchInOption, BatchOption, BatchOutOption, DispatchOptions, EstimateOption
from edgedistill.cli.doctor import doctor
from edgedistill.cli.estimate import estimate
from edgedistill.cli.evaluate import (
    Clusters,
    CodedFileOptions,
    Coders,
    Groups,
    On,
    Out,
    Positive,
    ProjectOption,
    Smallest,
    Target,
    evaluate_on,
)
from edgedistill.cli.export import (
    CheckBrowser,
    DryRun,
    Public,
    PublishOptions,
    Push,
    Sign,
    Web,
    check_publish_options,
    web,
)
from edgedistill.cli.init import init
from edgedistill.cli.monitor import monitor
from edgedistill.cli.project_argument import ProjectFile, complete_commands, typed
from edgedistill.cli.report import preregister, report
from edgedistill.cli.review import review_app
from edgedistill.cli.study import study_app
from edgedistill.cli.table_options import TableOptions, reads_table
from edgedistill.cli.teacher import teacher_app
from edgedistill.cli.terminal import Terminal
from edgedistill.data import read_records
from edgedistill.errors import ArgumentError, EdgeDistillError, Paused
from edgedistill.project.reading import PROJECT_FILE
from edgedistill.runnable_project import Project
from edgedistill_serve.cli.terminal import end_with, one_line, prepare_streams
from edgedistill_serve.task.task import INPUTS

if TYPE_CHECKING:  # the stages import torch, which `--help` and a wrong project file should not wait for
    from edgedistill.pipeline import Run, StageResult

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turn an LLM's judgement of open responses into a classifier that runs on a school's computer.",
)
app.add_typer(cache_app, name="cache")
app.add_typer(backbones_app, name="backbones")
app.add_typer(study_app, name="study")
app.add_typer(teacher_app, name="teacher")
app.add_typer(review_app, name="review")

Offline = Annotated[bool, typer.Option("--offline", help="Use cached answers only; report what is missing.")]
Accept = Annotated[bool, typer.Option("--accept-teacher", help="Continue with a teacher that the gate refused.")]
ShowPrompt = Annotated[
    str | None, typer.Option("--show-prompt", metavar="ID", help="Print the prompt for this response; send nothing.")
]
Tune = Annotated[bool, typer.Option("--tune", help="Try all int8 recipes; serve the fastest within max_flip_rate.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(invoke_without_command=True)
def _root(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show:
        typer.echo(version("edgedistill"))
        raise typer.Exit


app.command("init")(init)


@app.command()
def run(
    project: ProjectFile,
    until: Annotated[str, typer.Option(metavar="STAGE", help="The last stage to run.")] = "report",
    served: Served = None,
    offline: Offline = False,
    accept_teacher: Accept = False,
    as_json: AsJson = False,
) -> None:
    """Run all stages of a project; finished stages are skipped.

    Stages: gate, label, generate, mix, train, evaluate, export, compare, report.

    Example: edgedistill run praise/project.yaml
    """

    def work(run: "Run", on_step: "Callable[[StageResult], None]") -> None:
        from edgedistill.pipeline import run_stages

        run_stages(run, until=until, on_step=on_step)

    _run_stages(project, Terminal(as_json=as_json), work, StageOptions(offline, accept_teacher, served=served))


def _next_steps(last: str, project: Path, folder: Path, entry: Mapping[str, Any]) -> list[str]:
    """What to do after the last stage that a command ran; empty after stages in between."""
    if last == "gate":
        return [f"edgedistill run {typed(project)}"]
    if last == "export":
        return [f"edgedistill report {typed(project)}"]
    if last != "report":
        return []
    serve = f"edgedistill-serve serve {typed(_near(folder / 'bundle'))}"
    untrained = bool(entry.get("only_label"))
    tried = [f"{serve}, a page to try it"] if (folder / "bundle").exists() and not untrained else []
    file = project / PROJECT_FILE if project.is_dir() else project
    named = f"{file.resolve().parent.name}/{file.name}"  # as the report, which is read in any folder, names it
    steps = [step.replace(f" {named}", f" {typed(project)}") for step in entry.get("next_steps", ())]
    return [f"open {typed(_near(folder / 'report.html'))}", *steps, *tried]


def _near(path: Path) -> Path:
    """The path as seen from here, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@dataclass(frozen=True, slots=True)
class StageOptions:
    """Options that change how stages run.

    Attributes:
        offline: Use cached answers only.
        accept_teacher: Continue with a teacher that the gate refused.
        dispatch: How requests reach the teacher.
        publishing: What happens to the finished bundle.
        tune: Whether the export tries every recipe, regardless of the project file.
        served: The bundle in use, in place of that of the project file.
    """

    offline: bool = False
    accept_teacher: bool = False
    dispatch: DispatchOptions = field(default_factory=DispatchOptions)
    publishing: PublishOptions = field(default_factory=PublishOptions)
    tune: bool = False
    served: Path | None = None


def _run_stages(
    path: Path,
    terminal: Terminal,
    work: "Callable[[Run, Callable[[StageResult], None]], None]",
    options: StageOptions,
) -> None:
    """Load a project, run some of its stages, and show the results."""
    project = Project.load(path)
    if options.tune:
        tuned = project.export.model_copy(update={"precision": "auto"})
        project = project.model_copy(update={"export": tuned})
    if options.served:
        project = with_served(project, options.served)
    records = read_records(project)
    terminal.opening(project, records)

    steps: list[StageResult] = []

    def on_step(step: "StageResult") -> None:
        steps.append(step)
        terminal.step(step)
        _show_results(step, job, terminal)

    with terminal.progress() as advance:
        job = project.start(
            records=records,
            offline=options.offline,
            accept_teacher=options.accept_teacher,
            on_progress=advance,
            on_message=terminal.say,
            dispatch=options.dispatch.dispatch(terminal),
        )
        folder = job.folder
        try:
            work(job, on_step)
        except Paused as stop:
            terminal.say(str(stop))
            terminal.finish({"run": str(folder.path), **stop.result})
            return
    result: dict[str, Any] = {"run": str(folder.path), "stages": {step.stage: step.entry for step in steps}}
    if exported := next((step for step in steps if step.stage == "export"), None):
        bundle = folder / "bundle"
        size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
        terminal.console.print(f"bundle  {bundle}  {size / 1e6:.1f} MB, serves {exported.entry['served']}")
        result["bundle"] = {"path": str(bundle), "bytes": size} | options.publishing.publish(job, terminal)
    if steps:
        terminal.next_steps(*_next_steps(steps[-1].stage, path, folder.path, steps[-1].entry))
    terminal.finish(result)


def _show_results(step: "StageResult", run: "Run", terminal: Terminal) -> None:
    """Show the tables of a stage."""
    show = {
        "gate": terminal.gate,
        "generate": terminal.generation,
        "evaluate": terminal.agreement,
        "export": terminal.fidelity,
    }.get(step.stage)
    file = {"gate": "gate.json", "generate": "generation.json", "evaluate": "evaluation.json"}.get(step.stage)
    if show:
        show(run.folder.read_json(file) if file else step.entry)
    if step.stage == "label":
        terminal.between(step.entry.get("between"))
    if step.stage == "compare" and (comparison := run.comparison):
        show_comparison(comparison, terminal)


def _stage_command(name: str, summary: str) -> None:
    def command(
        project: ProjectFile, offline: Offline = False, accept_teacher: Accept = False, as_json: AsJson = False
    ) -> None:
        def work(run: "Run", on_step: "Callable[[StageResult], None]") -> None:
            from edgedistill.pipeline import run_stage

            run_stage(run, name, on_step=on_step)

        _run_stages(project, Terminal(as_json=as_json), work, StageOptions(offline, accept_teacher))

    command.__doc__ = f"{summary}\n\nExample: edgedistill {name} praise/project.yaml"
    app.command(name)(command)


def _coding_command(name: str, summary: str) -> None:
    """A stage in which teachers code responses, with `--show-prompt`."""

    def command(
        project: ProjectFile,
        show_prompt: ShowPrompt = None,
        estimate: EstimateOption = False,
        batch: BatchOption = False,
        batch_out: BatchOutOption = None,
        batch_in: BatchInOption = None,
        offline: Offline = False,
        accept_teacher: Accept = False,
        as_json: AsJson = False,
    ) -> None:
        dispatch = DispatchOptions(estimate, batch, batch_out, tuple(batch_in or ()))
        terminal = Terminal(as_json=as_json)
        if show_prompt is not None:
            _show_prompt(project, terminal, show_prompt)
        else:
            _run_stages(
                project,
                terminal,
                _dispatch_work(name, estimate=estimate),
                StageOptions(offline, accept_teacher, dispatch),
            )

    command.__doc__ = (
        f"{summary}\n\nExample: edgedistill {name} praise/project.yaml\n\n"
        f"Show the prompt for one response: edgedistill {name} praise/project.yaml --show-prompt r7"
    )
    app.command(name)(command)


def _dispatch_work(name: str, *, estimate: bool) -> "Callable[[Run, Callable[[StageResult], None]], None]":
    """Run a stage; an estimate does not require the stages before it."""

    def work(run: "Run", on_step: "Callable[[StageResult], None]") -> None:
        from edgedistill.pipeline import run_stage, try_stage

        if estimate:
            try_stage(run, name)
        else:
            run_stage(run, name, on_step=on_step)

    return work


def _generate(
    project: ProjectFile,
    estimate: EstimateOption = False,
    batch: BatchOption = False,
    batch_out: BatchOutOption = None,
    batch_in: BatchInOption = None,
    offline: Offline = False,
    accept_teacher: Accept = False,
    as_json: AsJson = False,
) -> None:
    """Let the teacher write synthetic responses, screen them and code them again.

    The estimate covers the writing; the estimate for coding follows before the coding starts.

    Example: edgedistill generate praise/project.yaml
    """
    dispatch = DispatchOptions(estimate, batch, batch_out, tuple(batch_in or ()))
    work = _dispatch_work("generate", estimate=estimate)
    _run_stages(project, Terminal(as_json=as_json), work, StageOptions(offline, accept_teacher, dispatch))


def _export(
    project: ProjectFile,
    offline: Offline = False,
    accept_teacher: Accept = False,
    tune: Tune = False,
    web: Web = None,
    check_browser: CheckBrowser = False,
    sign: Sign = None,
    push: Push = None,
    dry_run: DryRun = False,
    public: Public = False,
    as_json: AsJson = False,
) -> None:
    """Export the student to a checked ONNX bundle.

    Example: edgedistill export praise/project.yaml --sign maker --push school/praise --dry-run
    """

    def work(run: "Run", on_step: "Callable[[StageResult], None]") -> None:
        from edgedistill.pipeline import run_stage

        run_stage(run, "export", on_step=on_step)

    publishing = check_publish_options(sign, push, web, dry_run=dry_run, public=public, check_browser=check_browser)
    _run_stages(
        project,
        Terminal(as_json=as_json),
        work,
        StageOptions(offline, accept_teacher, publishing=publishing, tune=tune),
    )


@reads_table("id", *INPUTS, "label", of="With --on: ")
def _compare(
    target: ComparedTarget,
    table: TableOptions,
    new: NewBundle = None,
    on: ComparedOn = None,
    served: Served = None,
    project: ComparedProject = None,
    group: PartColumns = None,
    clusters: Clusters = None,
    smallest: PartRows = None,
    out: ComparedOut = None,
    offline: Offline = False,
    accept_teacher: Accept = False,
    as_json: AsJson = False,
) -> None:
    """Compare a new bundle with the one in use on the same coded rows: better, worse, or undecided?

    The difference in kappa decides, with a paired 95 % interval.

    Two bundles on any coded file: edgedistill compare served runs/praise/bundle --on coded.csv --project praise.yaml

    Example, on a project's locked test rows: edgedistill compare praise.yaml --served served
    """
    terminal = Terminal(as_json=as_json)
    options = CompareOptions(project, tuple(group or ()), clusters, smallest, out)
    if new is not None or on is not None:
        if served is not None:
            raise ArgumentError("--served is for a project; to compare two bundles, name both")
        compare_on(target, new, on, options, table, terminal)
        return
    if target.is_dir():
        raise ArgumentError(
            "two bundles are compared on a coded file",
            where=str(target),
            hint="Example: edgedistill compare OLD_BUNDLE NEW_BUNDLE --on coded.csv.",
        )
    if given := ", ".join((*options.given(), *table.given())):
        raise ArgumentError(f"{given} needs two bundles and --on, a coded file")

    def work(run: "Run", on_step: "Callable[[StageResult], None]") -> None:
        from edgedistill.pipeline import run_stage

        run_stage(run, "compare", on_step=on_step)

    _run_stages(target, terminal, work, StageOptions(offline, accept_teacher, served=served))


@reads_table("id", *INPUTS, "label", of="With --on: ")
def _evaluate(
    target: Target,
    table: TableOptions,
    on: On = None,
    project: ProjectOption = None,
    group: Groups = None,
    coder: Coders = None,
    clusters: Clusters = None,
    positive: Positive = None,
    smallest: Smallest = None,
    out: Out = None,
    offline: Offline = False,
    accept_teacher: Accept = False,
    as_json: AsJson = False,
) -> None:
    """Compare student and teacher with the human codes of the locked test rows; or a bundle with those of a file.

    Example: edgedistill evaluate praise/project.yaml

    A finished bundle on any coded file: edgedistill evaluate BUNDLE --on coded.csv --group school
    """
    options = CodedFileOptions(project, tuple(group or ()), tuple(coder or ()), clusters, positive, smallest, out)
    terminal = Terminal(as_json=as_json)
    if on is not None:
        if offline or accept_teacher:
            raise ArgumentError("--offline and --accept-teacher cannot be used with --on: it asks no teacher")
        evaluate_on(target, on, options, table, terminal)
        return
    if target.is_dir():
        raise ArgumentError(
            "a bundle is measured on a coded file", where=str(target), hint="Name the file: --on coded.csv."
        )
    if given := ", ".join((*options.given(), *table.given())):
        raise ArgumentError(f"{given} needs --on, a coded file", hint="Example: edgedistill evaluate BUNDLE --on FILE.")

    def work(run: "Run", on_step: "Callable[[StageResult], None]") -> None:
        from edgedistill.pipeline import run_stage

        run_stage(run, "evaluate", on_step=on_step)

    _run_stages(target, terminal, work, StageOptions(offline, accept_teacher))


def _show_prompt(path: Path, terminal: Terminal, ident: str) -> None:
    """Print each teacher's prompt for a response; send nothing."""
    run = Project.load(path).start()

    from edgedistill.pipeline import build_prompts

    prompts = build_prompts(run, ident)
    for prompt in prompts:
        terminal.prompt(prompt)
    terminal.finish({"id": ident, "prompts": [{"teacher": each.teacher, **each.request.content()} for each in prompts]})


for _name, _summary in (
    ("gate", "Compare the teacher with the human codes of the validation rows."),
    ("label", "Let the teacher code the unlabelled responses."),
):
    _coding_command(_name, _summary)
app.command("generate")(_generate)
for _name, _summary in (
    ("mix", "Draw the training set."),
    ("train", "Fine-tune the student on the training set."),
):
    _stage_command(_name, _summary)
app.command("evaluate")(_evaluate)
app.command("export")(_export)
app.command("compare")(_compare)
app.command("code")(code)
app.command("doctor")(doctor)
app.command("estimate")(estimate)
app.command("monitor")(monitor)
app.command("report")(report)
app.command("preregister")(preregister)
app.command("web")(web)


def main() -> None:
    """Run the command line; an `EdgeDistillError` becomes one line and its exit code."""
    prepare_streams()
    try:
        app()
    except EdgeDistillError as error:
        sys.stderr.write(f"edgedistill: {one_line(complete_commands(str(error)))}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        end_with(error, "edgedistill")
    except KeyboardInterrupt:
        sys.stderr.write("edgedistill: stopped; finished work is kept, and the same command continues from there\n")
        sys.exit(130)
