"""The command `edgedistill code`: a page for human coders on this machine."""

import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.project_argument import ProjectFile
from edgedistill.cli.terminal import Terminal
from edgedistill.project import read_project


def code(
    project_file: ProjectFile,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE", help="Code a sheet of `edgedistill review` instead of data.human."),
    ] = None,
    coders: Annotated[
        list[str] | None, typer.Option("--coders", metavar="NAMES", help="Names of coders, separated by commas.")
    ] = None,
    double_share: Annotated[
        float | None,
        typer.Option("--double-share", metavar="SHARE", help="Share of the rows coded by two coders (default: 0.2)."),
    ] = None,
    kappa_after: Annotated[
        int, typer.Option("--kappa-after", metavar="ROWS", help="Show agreement from this many double-coded rows on.")
    ] = 20,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the orders and of the double-coded rows (default: 0).")
    ] = None,
    recode: Annotated[
        bool, typer.Option("--recode", help="Return rows to their coders if their label or response changed.")
    ] = False,
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="Port on 127.0.0.1; 0: any free one.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Code responses by hand: a page on this machine for several coders, blind to one another and to the model.

    Every keystroke is on the disk before it counts. Ctrl+C ends the page and writes the codes into the table; the same
    command continues.

    Example: edgedistill code praise/project.yaml --coders anna,ben --double-share 0.3
    """
    project = read_project(project_file)

    from edgedistill.coding import CodingOptions, CodingSession, serve_session

    names = tuple(name.strip() for each in coders or () for name in each.split(",") if name.strip())
    options = CodingOptions(
        sheet=sheet, coders=names, double_share=double_share, seed=seed, kappa_after=kappa_after, recode=recode
    )
    terminal = Terminal(as_json=as_json)

    def on_listening(url: str) -> None:
        typer.echo(f"Coding page: {url}", err=as_json)
        typer.echo("The link is secret: anyone who has it can read the responses. Ctrl+C ends the page.", err=as_json)
        if open_browser:
            webbrowser.open(url)

    with CodingSession(project, options) as session:
        for notice in session.notices:
            terminal.say(f"  note: {notice}")
        for row in session.table.set_aside:
            terminal.say(f"  not shown: {row.file}, row {row.row}: {row.reason}")
        serve_session(session, port=port, on_listening=on_listening)
        summary, by_hand = session.summary(), session.write()
    terminal.say(
        f"{summary.labelled} of {summary.rows} rows have a label; {summary.double_coded} were coded by two, "
        f"{summary.disputed} of them differently; {summary.adjudicated} adjudicated"
    )
    for coder, count in summary.coders.items():
        terminal.say(f"  {coder}: {count} rows")
    if by_hand:
        terminal.say(f"  {by_hand} cells were changed by hand meanwhile and left as they are; start again to read them")
    if sheet is None and (new := [name for name in summary.coders if name not in project.evaluation.coders]):
        terminal.say(f"  To compare the coders, add {', '.join(new)} to evaluation.coders in {project.path.name}.")
    terminal.finish({"table": str(sheet or project.data.human), **asdict(summary), "changed_by_hand": by_hand})
