"""The command `edgedistill compare`: a new bundle and the one in use on the same coded rows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from edgedistill.cli.evaluate import LONGEST_NAME, write_file
from edgedistill.cli.project_argument import remember_project
from edgedistill.cli.table_options import TableOptions
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import ArgumentError
from edgedistill.project import read_project
from edgedistill.runnable_project import Project

if TYPE_CHECKING:  # imported where it is called: scipy takes a second
    from edgedistill.evaluation.bundle_rows import BundleRows
    from edgedistill.evaluation.comparison import BundleComparison, ComparedParts


ComparedTarget = Annotated[
    Path,
    typer.Argument(metavar="OLD_BUNDLE|PROJECT", help="The bundle in use; or a project.", callback=remember_project),
]
NewBundle = Annotated[Path | None, typer.Argument(metavar="NEW_BUNDLE", help="The bundle that may replace it.")]
ComparedOn = Annotated[
    Path | None, typer.Option("--on", metavar="FILE", help="A coded table on which both bundles are measured.")
]
Served = Annotated[
    Path | None,
    typer.Option("--served", metavar="BUNDLE", help="The bundle in use, with which the new one is compared."),
]
ComparedProject = Annotated[
    Path | None,
    typer.Option(
        "--project", metavar="PROJECT", help="With --on: leaves out the rows that either bundle learned from."
    ),
]
PartColumns = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="COLUMN", help="With --on: differences for each of its values; may be repeated."),
]
PartRows = Annotated[
    int | None,
    typer.Option("--smallest", min=1, metavar="ROWS", help="With --on: groups with fewer rows have no figures."),
]
ComparedOut = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="With --on: write comparison.json into this folder.")
]


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """The options of two bundles on a coded file; None and empty if they are not given."""

    project: Path | None = None
    group: tuple[str, ...] = ()
    clusters: str | None = None
    smallest: int | None = None
    out: Path | None = None

    def given(self) -> Iterator[str]:
        """Yield the options that are given, as on the command line."""
        for each in fields(self):
            if getattr(self, each.name) not in (None, ()):
                yield f"--{each.name.replace('_', '-')}"


def with_served(project: Project, served: Path) -> Project:
    """Return a project that compares its bundle with this one."""
    report = project.report.model_copy(update={"compare_with": served.absolute()})
    return project.model_copy(update={"report": report})


def compare_on(
    old: Path, new: Path | None, on: Path | None, options: CompareOptions, table: TableOptions, terminal: Terminal
) -> None:
    """Compare two bundles on a coded file.

    Args:
        old: The folder of the bundle in use.
        new: That of the other one.
        on: The table.
        options: Columns, and what is reported.
        table: How the table is read.
        terminal: Prints the result.

    Raises:
        ArgumentError: A bundle or the table is missing, or both bundles are the same.
        EdgeDistillError: As `compare_bundles`.
    """
    if new is None or on is None:
        raise ArgumentError(
            "a coded file is missing (--on)" if on is None else "the second bundle is missing",
            hint="Example: edgedistill compare OLD_BUNDLE NEW_BUNDLE --on coded.csv.",
        )
    opened = read_project(options.project) if options.project else None
    groups, clusters, reading = options.group, options.clusters, table.reading(opened)

    from edgedistill.evaluation.bundle_rows import read_bundle_rows
    from edgedistill.evaluation.coded_file import SMALLEST
    from edgedistill.evaluation.coded_rows import read_coded_file
    from edgedistill.evaluation.compare_bundles import compare_bundles, joint_task
    from edgedistill.evaluation.comparison import COMPARISON
    from edgedistill.evaluation.files import to_plain
    from edgedistill_serve import Bundle

    def learned(bundle: Bundle) -> "BundleRows | None":
        return read_bundle_rows(opened.run_folder, bundle.manifest.version) if opened else None

    one, other = Bundle.load(old), Bundle.load(new)
    task = joint_task(one.task, other.task)
    read = read_coded_file(on, reading, task.inputs, task)
    if opened:
        clusters = clusters or (opened.data.group_by if opened.data.group_by in read.columns else None)
        groups = groups or tuple(name for name in opened.evaluation.subgroups if name in read.columns)
    found = compare_bundles(
        one,
        other,
        read,
        groups=groups,
        clusters=clusters,
        smallest=options.smallest or (opened.evaluation.smallest_subgroup if opened else SMALLEST),
        old_training=learned(one),
        new_training=learned(other),
    )
    show_comparison(found, terminal)
    plain = to_plain(found)
    if options.out:
        file = options.out / COMPARISON
        write_file(file, json.dumps(plain, ensure_ascii=False, indent=2) + "\n")
        terminal.say(f"wrote {file}")
    terminal.finish(plain)


def show_comparison(found: "BundleComparison", terminal: Terminal) -> None:
    """Print the verdict, the agreement of both bundles, and the differences, also by question and group."""
    from edgedistill.agreement import agreement_table
    from edgedistill.evaluation.comparison import describe_comparison

    old, new = found.old, found.new
    terminal.say(
        f"old: {old.name} {old.version} ({old.precision}); new: {new.name} {new.version} ({new.precision}); on "
        f"{found.rows} rows of {found.file}"
    )
    terminal.console.print(agreement_table(found.agreement))
    for table in (*([found.questions] if found.questions else []), *found.groups):
        _show_parts(table, terminal)
    for line in describe_comparison(found):
        terminal.say(f"  {line}")


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
