"""The commands of `edgedistill review label-studio`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.project_argument import ProjectFile, typed
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import ArgumentError
from edgedistill.project import read_project

if TYPE_CHECKING:  # pandas and scikit-learn, which `--help` should not wait for
    from edgedistill.label_studio import ImportedCodes

label_studio_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Code in Label Studio: export tasks with a labelling interface, and import the annotations.",
)

_SHOWN = 10
Sheet = Annotated[
    Path | None,
    typer.Option("--sheet", metavar="FILE", help="A sheet of `edgedistill review` instead of data.human."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@label_studio_app.command("export")
def export_command(
    project_file: ProjectFile,
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="The folder to write.")],
    sheet: Sheet = None,
    all_rows: Annotated[bool, typer.Option("--all", help="Export rows that have a label, too.")] = False,
    control: Annotated[
        str, typer.Option("--control", metavar="TAG", help="choices, rating (ordinal tasks) or taxonomy.")
    ] = "choices",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an earlier export.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the uncoded rows as tasks of Label Studio, and the labelling interface of the codebook.

    Tasks hold the inputs, redacted as the project requires, and no label, prediction or code of anybody.

    Example: edgedistill review label-studio export praise/project.yaml label-studio/
    """
    project = read_project(project_file)

    from edgedistill.label_studio import Control, export_tasks

    controls: dict[str, Control] = {"choices": "choices", "rating": "rating", "taxonomy": "taxonomy"}
    if control not in controls:
        raise ArgumentError(f"--control cannot be {control!r}", hint=f"Choose {', '.join(controls)}.")
    terminal = Terminal(as_json=as_json)
    done = export_tasks(project, out, sheet=sheet, all_rows=all_rows, control=controls[control], overwrite=overwrite)
    terminal.say(f"{done.rows} rows to code; {done.labelled} with a label were left out")
    for reason, rows in done.set_aside.items():
        terminal.say(f"  set aside: {rows} {reason}")
    terminal.say(f"wrote {done.configuration}: paste it into Settings > Labeling Interface > Code")
    terminal.say(f"wrote {done.tasks}: import it, and keep it to yourself, since it holds the responses")
    terminal.finish(done.as_dict())


@label_studio_app.command("import")
def import_command(
    project_file: ProjectFile,
    export: Annotated[Path, typer.Argument(metavar="EXPORT.json", help="A JSON or JSON-MIN export of Label Studio.")],
    sheet: Sheet = None,
    coders: Annotated[
        list[str] | None,
        typer.Option("--coder", metavar="WHO=COLUMN", help="Column of an annotator (e-mail or number); repeatable."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace codes in the table that differ.")] = False,
    skip_faults: Annotated[
        bool, typer.Option("--skip-faults", help="Import the other rows if some cannot be imported.")
    ] = False,
    ground_truth: Annotated[
        bool, typer.Option("--ground-truth", help="A code marked as ground truth is the label of its row.")
    ] = False,
    control: Annotated[str, typer.Option("--control", metavar="NAME", help="Name of the tag with the code.")] = "code",
    id_field: Annotated[
        str, typer.Option("--id-field", metavar="KEY", help="Key of the row's id in a task's data.")
    ] = "response_id",
    as_json: AsJson = False,
) -> None:
    """Write the codes of people into coder columns of the human file, and the label where all coders agree.

    Predictions, drafts and skipped tasks are not codes. The table as it was before is kept in the folder coding.

    Example: edgedistill review label-studio import praise/project.yaml project-1.json --coder 3=anna
    """
    project = read_project(project_file)
    names = dict(_pair(each) for each in coders or ())

    from edgedistill.label_studio import import_codes

    terminal = Terminal(as_json=as_json)
    done = import_codes(
        project,
        export,
        sheet=sheet,
        coders=names,
        replace=replace,
        skip_faults=skip_faults,
        ground_truth=ground_truth,
        control=control,
        id_field=id_field,
    )
    for line in _lines(done):
        terminal.say(line)
    if sheet is None and (new := [name for name in done.coders if name not in project.evaluation.coders]):
        terminal.say(f"To compare the coders, add {', '.join(new)} to evaluation.coders in {project.path.name}.")
    if done.disputed:
        terminal.say(f"To decide on the others, adjudicate them: edgedistill code {typed(project_file)}")
    terminal.finish(done.as_dict())


def _pair(text: str) -> tuple[str, str]:
    who, separator, column = text.rpartition("=")
    if not separator or not who or not column:
        raise ArgumentError(f"--coder cannot be {text!r}", hint="Write it as WHO=COLUMN, such as 3=anna.")
    return who, column


def _lines(done: "ImportedCodes") -> list[str]:
    lines = [
        f"{done.tasks} tasks, {done.without_code} rows without a code",
        f"{done.new} new codes and {done.replaced} replaced in {done.table}",
        *(f"  {coder}: {rows} codes" for coder, rows in done.coders.items()),
        *(f"  no code: {number} annotations ({reason})" for reason, number in done.left_out.items()),
        *(f"  not imported: {fault.id!r}: {fault.fault}" for fault in done.skipped[:_SHOWN]),
    ]
    if len(done.skipped) > _SHOWN:
        lines.append(f"  not imported: {len(done.skipped) - _SHOWN} more rows")
    if done.ground_truth:
        lines.append(f"  {done.ground_truth} codes were marked as ground truth")
    lines.append(f"{done.labels} rows got a label; on {len(done.disputed)} rows the coders disagree")
    if done.emptied:
        lines.append(f"  {done.emptied} labels of earlier imports were emptied, because the coders no longer agree")
    if done.kept:
        lines.append(f"  {len(done.kept)} rows keep another label, which no import has written: {done.kept[0]!r} …")
    if done.agreement is not None:
        for pair in done.agreement.pairs:
            kappa = pair.agreement.kappa if pair.agreement else None
            figure = f"κ {kappa.value:.2f} [{kappa.low:.2f}, {kappa.high:.2f}]" if kappa else "κ undefined"
            lines.append(f"  {pair.first} and {pair.second}: {figure} on {pair.rows} rows")
        if done.agreement.alpha is not None and len(done.agreement.coders) > 2:
            lines.append(f"  Krippendorff's alpha of all: {done.agreement.alpha:.2f} on {done.agreement.rows} rows")
        lines += [f"  note: {note}" for note in done.agreement.notes]
    return lines
