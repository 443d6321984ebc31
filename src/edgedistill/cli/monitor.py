"""The command `edgedistill monitor`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.evaluate import write_file
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import ArgumentError

ALARM = 5
"""Exit code if something changed, kappa is lower, or the promise is withdrawn."""


def monitor(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle in use.")],
    journals: Annotated[
        list[Path], typer.Argument(metavar="JOURNAL...", help="Folders and files of serve --journal, grade --journal.")
    ],
    codes: Annotated[
        Path | None, typer.Option("--codes", metavar="FILE", help="Human codes of drawn responses, by id.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE", help="Write drawn responses without a code, for people; nothing else."),
    ] = None,
    responses: Annotated[
        Path | None,
        typer.Option("--responses", metavar="FILE", help="With --sheet: the platform's table with ids and texts."),
    ] = None,
    sheet_rows: Annotated[
        int | None, typer.Option("--sheet-rows", min=1, metavar="N", help="With --sheet: at most N rows, at random.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="The first day that counts, such as 2026-10-05.")
    ] = None,
    false_alarms: Annotated[
        float, typer.Option("--false-alarms", help="Probability of ever an alarm if nothing changes, at most.")
    ] = 0.05,
    tolerance: Annotated[float, typer.Option("--tolerance", help="A difference of a share that is no alarm.")] = 0.05,
    id_column: Annotated[str, typer.Option("--id-column", metavar="NAME", help="Column of ids.")] = "id",
    code_column: Annotated[
        str, typer.Option("--code-column", metavar="NAME", help="Column of human codes.")
    ] = "human_code",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Write monitor.json and monitor.html here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --sheet: replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether a bundle in use still does what it did at its release: what changed, since when, and what to do.

    The exit code is 0 if no change is shown, 5 if something changed, kappa is lower or the promise is withdrawn, and 2
    if the question cannot be answered.

    Example: edgedistill monitor bundle journal/ --out report/
    """
    terminal = Terminal(as_json=as_json)
    if sheet is None and (responses or sheet_rows or force):
        raise ArgumentError("--responses, --sheet-rows and --force need --sheet")

    from edgedistill.monitoring.monitor import monitor as monitor_bundle
    from edgedistill.monitoring.monitor import write_sheet
    from edgedistill.monitoring.text import describe_report, html_page

    if sheet is not None:
        rows, notes = write_sheet(
            bundle,
            *journals,
            sheet=sheet,
            responses=responses,
            codes=codes,
            rows=sheet_rows,
            id_column=id_column,
            code_column=code_column,
            overwrite=force,
        )
        for note in notes:
            terminal.say(f"note: {note}")
        terminal.say(f"wrote {sheet}: {rows} drawn responses, to be coded in the column {code_column}")
        terminal.finish({"sheet": str(sheet), "rows": rows, "notes": notes})
        return
    report = monitor_bundle(
        bundle,
        *journals,
        codes=codes,
        since=since,
        false_alarms=false_alarms,
        tolerance=tolerance,
        id_column=id_column,
        code_column=code_column,
    )
    for line in describe_report(report):
        terminal.say(line)
    if out:
        write_file(out / "monitor.json", json.dumps(report.as_dict(), ensure_ascii=False, indent=2) + "\n")
        write_file(out / "monitor.html", html_page(report))
        terminal.say(f"wrote {out / 'monitor.json'} and {out / 'monitor.html'}")
    terminal.finish(report.as_dict())
    if report.is_alarm:
        raise typer.Exit(ALARM)
