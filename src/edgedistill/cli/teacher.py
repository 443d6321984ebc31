"""The command `edgedistill teacher watch`: is the model behind the teacher's name still the same?"""

from typing import Annotated

import typer

from edgedistill.cli.dispatch import DispatchOptions, EstimateOption
from edgedistill.cli.project_argument import ProjectFile
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import Paused, TeacherChanged
from edgedistill.runnable_project import Project

teacher_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Watch the teacher's model.")


@teacher_app.callback()
def _teacher() -> None:
    """Keep `watch` a command of its own."""


@teacher_app.command()
def watch(
    project_file: ProjectFile,
    teacher: Annotated[str, typer.Option("--teacher", metavar="NAME", help="One of several teachers.")] = "",
    rows: Annotated[int, typer.Option("--rows", min=10, help="Responses of a new canary set.")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw of a new set.")] = 0,
    false_alarms: Annotated[
        float,
        typer.Option(
            "--false-alarms", metavar="RATE", help="Of a new set: probability of any false alarm over all looks."
        ),
    ] = 0.05,
    renew: Annotated[bool, typer.Option("--renew", help="Draw a new canary set in place of the present one.")] = False,
    estimate: EstimateOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask some responses again, past the cache, and compare the answers with those that were paid for.

    The first call draws the canary set. Exit code 6 if the answers changed, or the endpoint names another model.

    Example, once a week: edgedistill teacher watch praise/project.yaml
    """
    terminal = Terminal(as_json=as_json)
    project = Project.load(project_file)

    from edgedistill.evaluation.files import to_plain
    from edgedistill.pipeline.teacher_watch import WATCH, WatchOptions, watch_teacher
    from edgedistill.teacher.canaries import describe_look

    options = WatchOptions(teacher, rows, seed, false_alarms, renew)
    with terminal.progress() as advance:
        run = project.start(on_progress=advance, on_message=terminal.say)
        dispatch = DispatchOptions(estimate=estimate).dispatch(terminal)
        try:
            look = watch_teacher(run, options, dispatch=dispatch("") if dispatch else None)
        except Paused as stop:
            terminal.say(str(stop))
            terminal.finish(dict(stop.result))
            return
    first, *others = describe_look(look)
    terminal.say(first)
    for line in others:
        terminal.say(f"  {line}")
    terminal.finish(to_plain(look))
    if look.verdict != "no change shown":
        history = run.folder.path / WATCH / look.teacher / "history.jsonl"
        raise TeacherChanged(
            first,
            where=str(history),
            hint="Labels from before and from now on come from two teachers: ask the gate again with another "
            "teacher.cache before you label more, and then draw a new set with --renew.",
        )
