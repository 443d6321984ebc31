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
    help="Responses that people should code: out as a sheet, back as codes.",
)

ProjectFile = Annotated[Path, typer.Argument(metavar="PROJECT.yaml", help="The project file.")]
Responses = Annotated[
    Path | None,
    typer.Option("--responses", metavar="FILE", help="Uncoded responses; the project's own unless given."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@review_app.command("sheet")
def write(
    project_file: ProjectFile,
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The sheet to write.")],
    responses: Responses = None,
    show_suggestions: Annotated[
        bool, typer.Option("--show-suggestions", help="Show the student's label; coders then lean towards it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the uncoded responses that the bundle's rule sends to people, with an empty column human_code.

    Example: edgedistill review sheet praise/project.yaml to-code.csv
    """
    project = read_project(project_file)
    records = read_records(project)

    from edgedistill.decisions.coding_sheet import write_sheet

    terminal = Terminal(as_json=as_json)
    done = write_sheet(project, records, out, responses=responses, suggestions=show_suggestions)
    told = ", ".join(f"{rows} {reason}" for reason, rows in done.to_people.items())
    terminal.say(f"{sum(done.to_people.values())} of {done.responses} responses go to people ({told}); wrote {out}")
    for reason, rows in done.set_aside.items():
        terminal.say(f"  set aside: {rows} {reason}")
    terminal.finish({"sheet": str(out), **asdict(done)})


@review_app.command()
def merge(
    project_file: ProjectFile,
    coded: Annotated[Path, typer.Argument(metavar="SHEET.csv", help="The sheet, its column human_code filled in.")],
    responses: Responses = None,
    skip_uncoded: Annotated[
        bool, typer.Option("--skip-uncoded", help="Merge what is coded; rows without a code wait.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add a sheet's codes to the file that data.reviewed names; they become train rows, never test rows.

    Every row that cannot be merged is named, and then none is.

    Example: edgedistill review merge praise/project.yaml to-code.csv
    """
    project = read_project(project_file)
    records = read_records(project)

    from edgedistill.decisions.coding_sheet import merge_codes, read_codes

    terminal = Terminal(as_json=as_json)
    merging = read_codes(project, records, coded, responses=responses)
    for fault in merging.faults:
        terminal.say(f"  row {fault.row}, id {fault.id!r}: {fault.fault}")
    missing = () if skip_uncoded else merging.uncoded
    for ident in missing:
        terminal.say(f"  id {ident!r}: the code is missing")
    if merging.faults or missing:
        terminal.finish({"faults": [asdict(fault) for fault in merging.faults], "uncoded": list(merging.uncoded)})
        raise DataError(
            f"{len(merging.faults)} rows are wrong and {len(missing)} have no code; nothing was merged",
            where=coded.name,
            hint="Fix them, or leave rows without a code for later: --skip-uncoded.",
        )
    done = merge_codes(project, merging)
    waiting = f", {len(done.uncoded)} without a code" if done.uncoded else ""
    terminal.say(f"{done.added} codes added to {done.file}, {done.known} were there{waiting}")
    terminal.finish({**asdict(done), "file": str(done.file), "uncoded": list(done.uncoded)})
