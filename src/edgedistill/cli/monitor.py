"""The command `edgedistill monitor`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.evaluate import write_file
from edgedistill.cli.table_options import TableOptions, reads_table
from edgedistill.cli.terminal import Terminal
from edgedistill.data.types import CODE_COLUMN
from edgedistill.errors import ArgumentError
from edgedistill_serve.task.task import INPUTS

ALARM = 5
"""Exit code if something changed, kappa is lower, or the promise is withdrawn."""


@reads_table("id", *INPUTS, CODE_COLUMN, of="Of --codes, or with --sheet of --responses: ", sheet=("--sheet-name",))
def monitor(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle in use.")],
    table: TableOptions,
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
        float, typer.Option("--false-alarms", help="Largest probability of any alarm if nothing changes.")
    ] = 0.05,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Largest change of a share that raises no alarm.")
    ] = 0.05,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Write monitor.json and monitor.html here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --sheet: replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether a bundle in use still works as at its release: what changed, since when, and what to do.

    The exit code is 0 if no change is shown, 5 if something changed, kappa is lower or the promise is withdrawn, and 2
    if the question cannot be answered.

    Example: edgedistill monitor bundle journal/ --out report/
    """
    terminal = Terminal(as_json=as_json)
    if sheet is None and (responses or sheet_rows or force):
        raise ArgumentError("--responses, --sheet-rows and --force need --sheet")

    if (given := ", ".join(table.given())) and codes is None and responses is None:
        raise ArgumentError(f"{given} needs a table, and none is given", hint="Name it with --codes or --responses.")
    reading = table.reading()

    from edgedistill.monitoring.codes import read_coded_file
    from edgedistill.monitoring.monitor import monitor as monitor_bundle
    from edgedistill.monitoring.monitor import read_responses_file, write_sheet
    from edgedistill.monitoring.text import describe_report, html_page
    from edgedistill_serve import Bundle

    loaded = Bundle.load(bundle)
    of_texts = reading.of_keys("id", *loaded.task.inputs)
    texts = responses and read_responses_file(responses, of_texts, loaded.task.inputs)
    of_codes = reading.of_another_file() if responses else reading
    coded = codes and read_coded_file(codes, of_codes, loaded.task)
    if sheet is not None:
        rows, notes = write_sheet(
            loaded,
            *journals,
            sheet=sheet,
            responses=texts,
            codes=coded,
            rows=sheet_rows,
            overwrite=force,
        )
        for note in notes:
            terminal.say(f"note: {note}")
        terminal.say(f"wrote {sheet}: {rows} drawn responses, to be coded in the column {CODE_COLUMN}")
        terminal.finish({"sheet": str(sheet), "rows": rows, "notes": notes})
        return
    report = monitor_bundle(
        loaded,
        *journals,
        codes=coded,
        since=since,
        false_alarms=false_alarms,
        tolerance=tolerance,
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
