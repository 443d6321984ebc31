"""`edgedistill init`: a new project folder, with a template or for a table as people have it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from edgedistill.cli.project_argument import typed
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import ArgumentError
from edgedistill.new_project import NewProject, NewProjectOptions, project_from_table
from edgedistill.project.data import COLUMN_KEYS
from edgedistill.project.template import write_template
from edgedistill_serve.grading.column_names import parse_columns
from edgedistill_serve.grading.header_rows import HeaderRows

_SHOWN_CHARACTERS = 70
_KINDS = ("nominal", "ordinal", "multilabel")

Name = Annotated[
    Path | None, typer.Argument(metavar="[NAME]", help="The new folder; with --from, by default the name of the table.")
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="TABLE",
        help="A table: xlsx, CSV of any kind, JSONL, Parquet; an export of Google Forms, Microsoft Forms, Moodle, "
        "Canvas, Qualtrics or Label Studio (JSON, too).",
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="KEY=NAME",
        help=f'The column of {", ".join(COLUMN_KEYS)}, such as response="2. Explain\u2026"; by default, it is found.',
    ),
]
HeaderRow = Annotated[
    int | None, typer.Option("--header-row", min=1, help="Row of the column names; by default, it is found.")
]
FirstRow = Annotated[
    int | None, typer.Option("--first-row", min=2, help="First row of responses; by default, the one after the header.")
]
SheetOption = Annotated[
    str | None,
    typer.Option("--sheet", metavar="NAME", help="Sheet of an xlsx file; by default, the one with the most responses."),
]
KindOption = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help=f"{', '.join(_KINDS)}; by default, found by the labels.")
]
Html = Annotated[
    bool | None, typer.Option("--remove-html/--keep-html", help="By default, HTML is removed if there is any.")
]
Uncoded = Annotated[bool, typer.Option("--uncoded", help="No column has human codes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def init(
    name: Name = None,
    table: From = None,
    column: ColumnOption = None,
    header_row: HeaderRow = None,
    first_row: FirstRow = None,
    sheet: SheetOption = None,
    kind: KindOption = None,
    html: Html = None,
    uncoded: Uncoded = False,
    as_json: AsJson = False,
) -> None:
    """Create a project folder with a commented project file.

    With --from, the project reads a table that exists: columns, labels and ids are found, and what is assumed is
    printed. The table stays where it is, and nothing is overwritten.

    Example: edgedistill init praise

    From a table: edgedistill init praise --from responses.xlsx --column label="Code (AM)"
    """
    terminal = Terminal(as_json=as_json)
    if table is None:
        if column or header_row or first_row or sheet or kind or html is not None or uncoded:
            raise ArgumentError(
                "--column, --header-row, --kind and the like need a table", hint="Name it: --from FILE."
            )
        if name is None:
            raise ArgumentError("the name of the new folder is missing", hint="Example: edgedistill init praise.")
        files = write_template(name)
        for file in files:
            terminal.say(f"wrote {file}")
        project, human = map(typed, files)
        terminal.next_steps(
            f"put your coded responses into {human}",
            f"describe your labels in {project}",
            f"edgedistill run {typed(name)}",
        )
        terminal.finish({"files": [str(file) for file in files]})
        return
    if kind is not None and kind not in _KINDS:
        raise ArgumentError(f"{kind!r} is not a kind of task", where="--kind", hint=f"Use {', '.join(_KINDS)}.")
    header = HeaderRows(header_row or 1, first_row) if header_row or first_row else None
    options = NewProjectOptions(parse_columns(column or (), COLUMN_KEYS), header, kind, html, uncoded, sheet)  # type: ignore[arg-type]
    new = project_from_table(table, name, options)
    _show(new, table, terminal)
    terminal.finish(_as_json(new))


def _show(new: NewProject, table: Path, terminal: Terminal) -> None:
    say, proposal = terminal.say, new.proposal
    say(str(table))
    for key, column in proposal.columns.items():
        say(f"  {key:<17} {_short(column)}")
    if proposal.row_ids:
        say("  id                row numbers")
    if proposal.labels:
        counts = ", ".join(f"{_short(label)} {count}" for label, count in proposal.labels.counts.items())
        say(f"{len(proposal.labels.counts)} labels ({proposal.labels.kind}): {counts}")
    terminal.console.print(_preview(new))
    say("Assumed:")
    for note in new.notes:
        say(f"  - {note}")
    if new.records:
        terminal.row_counts(new.records)
        for note in new.records.splits.notes:
            say(f"  note: {note}")
    own = new.table.parent == new.file.parent and new.table != table
    say(f"wrote {new.file}{f' and {new.table}' if own else ''}")
    say("Next:")
    for line in _next_steps(new):
        say(f"  {line}")


def _preview(new: NewProject) -> Table:
    shown = [key for key in ("row", *new.proposal.columns) if key != "split"]
    rows = Table(*shown, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in new.preview:
        rows.add_row(*(Text(_short(row.get(key, ""))) for key in shown))
    return rows


def _next_steps(new: NewProject) -> list[str]:
    file = typed(new.file)
    if new.proposal.labels is None:
        return [f"name the labels in {new.file}", f"edgedistill code {file}   # code a few hundred rows in the browser"]
    if new.records is None:
        return [f"`run` would stop: {new.problem}", f"correct this, then: edgedistill run {file}"]
    return [
        f"describe the labels in {new.file}, if an LLM is to code",
        f"edgedistill run {file}",
        f"edgedistill-serve grade {typed(new.bundle)} {_grading_options(new)}",
    ]


def _grading_options(new: NewProject) -> str:
    """Return the rest of the command that grades the same table."""
    columns = {key: new.proposal.columns[key] for key in new.proposal.inputs}
    options = [f"--column {typed(f'{key}={_short(name)}')}" for key, name in columns.items() if key != name]
    options += ["--html"] if new.proposal.html_rows else []
    options += [f"--header-row {new.header.header_row}"] if new.header.header_row > 1 else []
    options += [f"--first-row {new.header.first_row}"] if new.header.first_row else []
    options += [f"--sheet {typed(new.header.sheet)}"] if new.header.sheet else []
    return " ".join([typed(new.table), "graded.csv", *options])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 1].rstrip()}\u2026"


def _as_json(new: NewProject) -> dict[str, Any]:
    proposal = new.proposal
    return {
        "project": str(new.file),
        "table": str(new.table),
        "tool": proposal.export.tool or None,
        "columns": dict(proposal.columns),
        "sheet": new.header.sheet,
        "header_row": new.header.header_row,
        "first_row": new.header.first_row,
        "ids": "row_numbers" if proposal.row_ids else "column",
        "coders": list(proposal.coders),
        "group_by": proposal.group_by,
        "kind": proposal.labels.kind if proposal.labels else None,
        "labels": dict(proposal.labels.counts) if proposal.labels else {},
        "html_rows": proposal.html_rows,
        "preview": [dict(row) for row in new.preview],
        "assumed": list(new.notes),
        "problem": new.problem or None,
    }
