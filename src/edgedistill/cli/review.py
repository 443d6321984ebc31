"""The commands of `edgedistill review`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.label_studio import label_studio_app
from edgedistill.cli.project_argument import ProjectFile, typed
from edgedistill.cli.table_options import TableOptions, reads_table
from edgedistill.cli.terminal import Terminal
from edgedistill.data import read_records
from edgedistill.data.given_tables import spelling_hint
from edgedistill.data.types import CODE_COLUMN
from edgedistill.errors import ArgumentError, DataError
from edgedistill.project import read_project
from edgedistill.runnable_project import Project
from edgedistill_serve.task.task import INPUTS, quote_label

review_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Export responses for human coding, as a coding sheet or for Label Studio, and import the codes.",
)

Responses = Annotated[
    Path | None,
    typer.Option("--responses", metavar="FILE", help="File of uncoded responses (default: those of the project)."),
]
review_app.add_typer(label_studio_app, name="label-studio")
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


@review_app.command("next")
def next_rows(
    project_file: ProjectFile,
    rows: Annotated[int, typer.Option("--rows", help="How many rows to draw.", min=1)] = 50,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="OUT.csv", help="The sheet to write (default: to-code-WAVE.csv).")
    ] = None,
    responses: Responses = None,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="random, mixed, or signals separated by commas: uncertainty, disagreement, novelty, coverage.",
        ),
    ] = "random",
    purpose: Annotated[
        str, typer.Option("--for", metavar="PURPOSE", help="What the codes are for: train, validation or both.")
    ] = "train",
    random_share: Annotated[
        float | None,
        typer.Option("--random-share", help="Share of the rows drawn at random (default 0.3; 1 with random)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draw.", min=0)] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="Write the sheet of the last draw again; draw nothing.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Discard the last draw, which nobody will code; draw nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Draw uncoded rows for people to code, with known inclusion probabilities, and write a coding sheet.

    The draw is logged in the run folder (review-draws.jsonl), so that the codes may train the student and estimate
    label shares, and so that anybody can make it again.

    Example: edgedistill review next praise/project.yaml --rows 50 --strategy mixed
    """
    project = read_project(project_file)
    records = read_records(project)

    from edgedistill.decisions.draws_log import read_log
    from edgedistill.pipeline.next_rows import discard_last, draw_again, draw_next

    terminal = Terminal(as_json=as_json)
    if again and discard:
        raise ArgumentError("--again and --discard cannot be combined", hint="Give one of them.")
    if discard:
        gone = discard_last(project, records)
        terminal.say(
            f"wave {gone.wave} is discarded: its {len(gone.ids)} rows can be drawn again. The log keeps it; do not "
            "code its sheet."
        )
        terminal.finish({"discarded_wave": gone.wave, "rows": len(gone.ids)})
        return
    log = read_log(project.run_folder)
    wave = log.draws[-1].wave if again and log.draws else log.waves + 1
    sheet = out or project.folder / f"to-code-{wave}.csv"
    if again:
        drawn = draw_again(project, responses=responses, out=sheet)
    else:
        drawn = draw_next(
            project,
            records,
            rows,
            responses=responses,
            strategy=strategy,
            purpose=purpose,
            random_share=random_share,
            seed=seed,
            out=sheet,
            on_message=terminal.say,
        )
    first, *others = drawn.summary()
    terminal.say(first)
    for line in others:
        terminal.say(f"  {line}")
    terminal.say(f"wrote {sheet}; `edgedistill review merge {typed(project_file)} {typed(sheet)}` imports the codes")
    if project.data.reviewed is None:
        terminal.say(
            f"  first add `reviewed: reviewed.csv` to the section data of {project.path}: the codes go into that file"
        )
    terminal.finish({"sheet": str(sheet), **drawn.as_dict()})


@review_app.command()
def curve(
    project_file: ProjectFile,
    student: Annotated[
        str, typer.Option(metavar="KIND", help="frozen (seconds) or fine-tuned (the project's student; slow).")
    ] = "frozen",
    seeds: Annotated[int, typer.Option(help="Random subsets per size.", min=2)] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure how agreement grows with the number of human-coded train rows, and predict what more would bring.

    Students are trained on nested subsets (1/8, 1/4, 1/2 and all of the rows) and compared with the validation rows.
    The curve is written to learning_curve.json in the run folder, and the report shows it.

    Example: edgedistill review curve praise/project.yaml
    """
    project = Project.load(project_file)
    terminal = Terminal(as_json=as_json)

    from edgedistill.pipeline.learning_curve import measure_learning_curve

    with terminal.progress() as advance:
        run = project.start(on_progress=advance)
        measured = measure_learning_curve(run, student=student, seeds=seeds)
    for line in measured.summary():
        terminal.say(line)
    terminal.finish(asdict(measured))


@review_app.command()
@reads_table("id", *INPUTS, CODE_COLUMN, of="Of the sheet: ", texts=False)
def merge(
    project_file: ProjectFile,
    table: TableOptions,
    coded: Annotated[Path, typer.Argument(metavar="SHEET", help="The sheet with the column human_code filled in.")],
    responses: Responses = None,
    skip_uncoded: Annotated[
        bool, typer.Option("--skip-uncoded", help="Import the coded rows and ignore rows without a code.")
    ] = False,
    accept_older_codebook: Annotated[
        bool, typer.Option("--accept-older-codebook", help="Import a sheet drawn before the codebook was changed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add the codes of a sheet to the file data.reviewed; its rows are train or validation rows, never test rows.

    Rows that `review next` drew are used for what they were drawn for; all others train. If a row cannot be imported,
    all such rows are listed and nothing is imported.

    Example: edgedistill review merge praise/project.yaml to-code.csv
    """
    project = read_project(project_file)
    records = read_records(project)

    from edgedistill.decisions.coding_sheet import merge_codes, read_codes

    terminal = Terminal(as_json=as_json)
    sheet = read_codes(
        project,
        records,
        coded,
        responses=responses,
        reading=table.reading(project),
        accept_older_codebook=accept_older_codebook,
    )
    for note in sheet.notes:
        terminal.say(f"  note: {note}")
    for fault in sheet.faults:
        terminal.say(f"  row {fault.row}, id {fault.id!r}: {fault.fault}")
    missing = () if skip_uncoded else sheet.uncoded
    for ident in missing:
        terminal.say(f"  id {ident!r}: no code")
    if sheet.faults or missing:
        faults = [asdict(fault) for fault in sheet.faults]
        terminal.finish({"faults": faults, "uncoded": list(sheet.uncoded), "assumed": list(sheet.notes)})
        labels = ", ".join(map(quote_label, sheet.unknown_labels))
        spelling = spelling_hint(sheet.unknown_labels, project.task.task)
        raise DataError(
            f"{len(sheet.faults)} rows are invalid and {len(missing)} have no code; nothing was imported",
            where=coded.name,
            hint=(f"The codebook does not have {labels}; use its labels.{spelling} " if labels else "")
            + "Fix them, or ignore rows without a code with --skip-uncoded.",
        )
    result = merge_codes(project, sheet)
    uncoded = f", {len(result.uncoded)} rows have no code" if result.uncoded else ""
    of_validation = f" ({result.validation} validation rows)" if result.validation else ""
    terminal.say(f"{result.added} codes added{of_validation} to {result.file}, {result.known} already present{uncoded}")
    for wave, rows in result.open_rows.items():
        terminal.say(
            f"  wave {wave}: {rows} drawn rows have no code; estimates that use inclusion probabilities need them"
        )
    about = {"file": str(result.file), "uncoded": list(result.uncoded), "assumed": list(sheet.notes)}
    terminal.finish({**asdict(result), **about})
