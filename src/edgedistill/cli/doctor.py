"""The command `edgedistill doctor`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from edgedistill.cli.terminal import Terminal

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    project: Annotated[
        Path | None, typer.Argument(metavar="[PROJECT.yaml]", help="Check this project and its teachers too.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Send nothing to the endpoints of teachers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this machine, this installation and a project; name what to fix, and how.

    With a project, each teacher's endpoint is asked for its list of models, which costs nothing. Keys are never shown.

    The exit code is 2 if there is a problem; warnings are none.

    Example: edgedistill doctor praise/project.yaml
    """
    from edgedistill.doctor import examine, worst

    terminal = Terminal(as_json=as_json)
    checks = []
    for check in examine(project, network=not offline):
        checks.append(check)
        head = (f"{check.status:<8}", _STYLES[check.status])
        terminal.console.print(Text.assemble(head, f" {check.name}: {check.found}"))
        if check.fix:
            terminal.console.print(f"{'':<9}fix: {check.fix}")
    counts = {status: sum(check.status == status for check in checks) for status in _STYLES}
    terminal.say(f"{len(checks)} checks: {counts['problem']} problems, {counts['warning']} warnings")
    status = worst(checks)
    terminal.finish({"status": status, "checks": [asdict(check) for check in checks]})
    if status == "problem":
        raise typer.Exit(2)
