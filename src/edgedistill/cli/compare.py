"""The command `edgedistill compare`: a new bundle and the one in use on the same coded rows."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from edgedistill.cli.evaluate import LONGEST_NAME, write_file
from edgedistill.cli.terminal import Terminal
from edgedistill.project import read_project

if TYPE_CHECKING:  # imported where it is called: scipy takes a second
    from edgedistill.evaluation.bundle_rows import BundleRows
    from edgedistill.evaluation.comparison import BundleComparison, ComparedParts


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD_BUNDLE", help="The bundle in use.")],
    new: Annotated[Path, typer.Argument(metavar="NEW_BUNDLE", help="The bundle that may replace it.")],
    on: Annotated[Path, typer.Option("--on", metavar="FILE", help="A coded table on which both are measured.")],
    project: Annotated[
        Path | None,
        typer.Option("--project", metavar="PROJECT.yaml", help="Leaves out the rows that either bundle learned from."),
    ] = None,
    label_column: Annotated[
        str, typer.Option("--label-column", metavar="NAME", help="Column of human codes.")
    ] = "label",
    id_column: Annotated[str, typer.Option("--id-column", metavar="NAME", help="Column of ids.")] = "id",
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="COLUMN", help="Differences for each of its values; may be repeated."),
    ] = None,
    clusters: Annotated[
        str | None,
        typer.Option("--clusters", metavar="COLUMN", help="Learners or classes, whose rows are related."),
    ] = None,
    smallest: Annotated[
        int | None, typer.Option("--smallest", min=1, metavar="ROWS", help="Fewer rows of a part have no figures.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Write comparison.json into this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a new bundle with the one in use on the same coded rows: better, worse, or undecided?

    The difference in kappa decides, with a paired 95 % interval. `edgedistill run` compares on the locked test rows if
    the project file names the bundle in use (report.compare_with), or with --served.

    Example: edgedistill compare served/praise runs/praise/bundle --on coded.csv --project praise.yaml
    """
    terminal = Terminal(as_json=as_json)
    opened = read_project(project) if project else None
    groups, coded_clusters = tuple(group or ()), clusters
    if opened:
        from edgedistill_serve.grading.table_reader import read_columns

        there = read_columns(on)
        coded_clusters = clusters or (opened.data.group_by if opened.data.group_by in there else None)
        groups = groups or tuple(name for name in opened.evaluation.subgroups if name in there)

    from edgedistill.evaluation.bundle_rows import read_bundle_rows
    from edgedistill.evaluation.coded_file import SMALLEST
    from edgedistill.evaluation.comparison import compare_bundles, describe_comparison
    from edgedistill.evaluation.files import to_plain
    from edgedistill_serve import Bundle

    def learned(bundle: Bundle) -> "BundleRows | None":
        return read_bundle_rows(opened.run_folder, bundle.manifest.version) if opened else None

    one, other = Bundle.load(old), Bundle.load(new)
    found = compare_bundles(
        one,
        other,
        on,
        label_column=label_column,
        id_column=id_column,
        groups=groups,
        clusters=coded_clusters,
        smallest=smallest or (opened.evaluation.smallest_subgroup if opened else SMALLEST),
        old_training=learned(one),
        new_training=learned(other),
    )
    show_comparison(found, terminal)
    for line in describe_comparison(found):
        terminal.say(f"  {line}")
    plain = to_plain(found)
    if out:
        file = out / "comparison.json"
        write_file(file, json.dumps(plain, ensure_ascii=False, indent=2) + "\n")
        terminal.say(f"wrote {file}")
    terminal.finish(plain)


def show_comparison(found: "BundleComparison", terminal: Terminal) -> None:
    """Print the agreement of both bundles, and the differences by question and group."""
    from edgedistill.agreement import agreement_table

    old, new = found.old, found.new
    terminal.say(
        f"old: {old.name} {old.version} ({old.precision}); new: {new.name} {new.version} ({new.precision}); on "
        f"{found.rows} rows of {found.file}"
    )
    terminal.console.print(agreement_table(found.agreement))
    for table in (*([found.questions] if found.questions else []), *found.groups):
        _show_parts(table, terminal)


def _show_parts(table: "ComparedParts", terminal: Terminal) -> None:
    shown = [part for part in table.parts if not part.suppressed]
    if shown:
        lines = Table(
            table.column,
            "rows",
            "only old right",
            "only new right",
            "difference in kappa",
            "",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for part in shown:
            name = part.value if len(part.value) <= LONGEST_NAME else f"{part.value[: LONGEST_NAME - 1]}\u2026"
            kappa = part.kappa
            figure = "undefined" if kappa is None else f"{kappa.value:+.3f} [{kappa.low:+.3f}, {kappa.high:+.3f}]"
            counts = (str(part.rows), str(part.only_old_right), str(part.only_new_right))
            lines.add_row(Text(name), *counts, figure, part.verdict if part.verdict != "undecided" else "")
        terminal.console.print(lines)
        terminal.say(
            f"  {table.column}: of {len(shown)} values with figures, {table.by_chance:.1f} would be called better or "
            "worse by chance on average"
        )
    if few := [part for part in table.parts if part.suppressed]:
        rows = sum(part.rows for part in few)
        terminal.say(
            f"  {table.column}: {len(few)} of {len(table.parts)} values have fewer than {table.smallest} rows or a "
            f"single cluster ({rows} rows), and no figures"
        )
    if table.rows_without:
        terminal.say(f"  {table.column}: {table.rows_without} rows have no value")
