"""The commands of `edgedistill review`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.terminal import Terminal
from edgedistill.data import read_records
from edgedistill.errors import DataError
from edgedistill.project import read_project

review_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Export responses for human review as a coding sheet, and import the codes.",
)

ProjectFile = Annotated[Path, typer.Argument(metavar="PROJECT.yaml", help="The project file.")]
Responses = Annotated[
    Path | None,
    typer.Option("--responses", metavar="FILE", help="File of uncoded responses (default: those of the project)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@review_app.command("sheet")
def write(
    project_file: ProjectFile,
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The sheet to write.")],
    responses: Responses = None,
    show_suggestions: Annotated[
        bool, typer.Option("--show-suggestions", help="Show the student's labels, which bias coders.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the uncoded responses that the review rule sends to people, with an empty column human_code.

    Example: edgedistill review sheet praise/project.yaml to-code.csv
    """
    project = read_project(project_file)
    records = read_records(project)

    from edgedistill.decisions.coding_sheet import write_sheet

    terminal = Terminal(as_json=as_json)
    summary = write_sheet(project, records, out, responses=responses, suggestions=show_suggestions)
    reasons = ", ".join(f"{rows} {reason}" for reason, rows in summary.to_people.items())
    terminal.say(
        f"{sum(summary.to_people.values())} of {summary.responses} responses go to people ({reasons}); wrote {out}"
    )
    for reason, rows in summary.set_aside.items():
        terminal.say(f"  set aside: {rows} {reason}")
    terminal.finish({"sheet": str(out), **asdict(summary)})


@review_app.command()
def merge(
    project_file: ProjectFile,
    coded: Annotated[Path, typer.Argument(metavar="SHEET.csv", help="The sheet with the column human_code filled in.")],
    responses: Responses = None,
    skip_uncoded: Annotated[
        bool, typer.Option("--skip-uncoded", help="Import the coded rows and ignore rows without a code.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add the codes of a sheet to the file data.reviewed; its rows are used for training, never for testing.

    If a row cannot be imported, all such rows are listed and nothing is imported.

    Example: edgedistill review merge praise/project.yaml to-code.csv
    """
    project = read_project(project_file)
    records = read_records(project)

    from edgedistill.decisions.coding_sheet import merge_codes, read_codes

    terminal = Terminal(as_json=as_json)
    sheet = read_codes(project, records, coded, responses=responses)
    for fault in sheet.faults:
        terminal.say(f"  row {fault.row}, id {fault.id!r}: {fault.fault}")
    missing = () if skip_uncoded else sheet.uncoded
    for ident in missing:
        terminal.say(f"  id {ident!r}: no code")
    if sheet.faults or missing:
        terminal.finish({"faults": [asdict(fault) for fault in sheet.faults], "uncoded": list(sheet.uncoded)})
        raise DataError(
            f"{len(sheet.faults)} rows are invalid and {len(missing)} have no code; nothing was imported",
            where=coded.name,
            hint="Fix them, or ignore rows without a code with --skip-uncoded.",
        )
    result = merge_codes(project, sheet)
    uncoded = f", {len(result.uncoded)} rows have no code" if result.uncoded else ""
    terminal.say(f"{result.added} codes added to {result.file}, {result.known} already present{uncoded}")
    terminal.finish({**asdict(result), "file": str(result.file), "uncoded": list(result.uncoded)})
