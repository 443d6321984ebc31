"""The command `edgedistill evaluate` with `--on`: a finished bundle on any coded file."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from edgedistill.cli.project_argument import remember_project
from edgedistill.cli.table_options import TableOptions
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import ArgumentError, DataError
from edgedistill.project import Project, read_project
from edgedistill.project.reading import names_a_project
from edgedistill_serve.bundle.atomic_folder import replace_file

if TYPE_CHECKING:  # imported where it is called: scipy takes a second
    from pandas import DataFrame

    from edgedistill.evaluation.coded_file import BundleEvaluation
    from edgedistill.evaluation.types import SubgroupTable

Target = Annotated[
    Path,
    typer.Argument(metavar="PROJECT|BUNDLE", help="A project; with --on also a bundle.", callback=remember_project),
]
On = Annotated[
    Path | None, typer.Option("--on", metavar="FILE", help="A coded table, on which a finished bundle is measured.")
]
ProjectOption = Annotated[
    Path | None,
    typer.Option("--project", metavar="PROJECT", help="With --on: leaves out the rows that trained the bundle."),
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="COLUMN", help="With --on: agreement for each of its values; may be repeated."),
]
Coders = Annotated[
    list[str] | None,
    typer.Option("--coder", metavar="COLUMN", help="With --on: codes of a single coder; may be repeated."),
]
Clusters = Annotated[
    str | None,
    typer.Option("--clusters", metavar="COLUMN", help="With --on: learners or classes, whose rows are related."),
]
Positive = Annotated[
    str | None,
    typer.Option("--positive", metavar="LABEL", help="With --on: label whose precision and recall are reported."),
]
Smallest = Annotated[
    int | None,
    typer.Option("--smallest", min=1, metavar="ROWS", help="With --on: groups with fewer rows have no figures."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="With --on: write evaluation.json into this folder.")
]


@dataclass(frozen=True, slots=True)
class CodedFileOptions:
    """The options of `evaluate --on`; None and empty if they are not given."""

    project: Path | None = None
    groups: tuple[str, ...] = ()
    coders: tuple[str, ...] = ()
    clusters: str | None = None
    positive: str | None = None
    smallest: int | None = None
    out: Path | None = None

    def given(self) -> Iterator[str]:
        """Yield the options that are given, as on the command line."""
        for name in (
            "project",
            "groups",
            "coders",
            "clusters",
            "positive",
            "smallest",
            "out",
        ):
            if getattr(self, name) not in (None, ()):
                yield f"--{name.removesuffix('s') if name in ('groups', 'coders') else name.replace('_', '-')}"


def evaluate_on(target: Path, coded: Path, options: CodedFileOptions, table: TableOptions, terminal: Terminal) -> None:
    """Measure a bundle on a coded file.

    Args:
        target: The bundle's folder, or a project file, whose bundle it is.
        coded: The table.
        options: Columns, and what is reported.
        table: How the table is read.
        terminal: Prints the result.

    Raises:
        ArgumentError: An option cannot be used.
        EdgeDistillError: As `evaluate_bundle`.
    """
    is_project = target.exists() and names_a_project(target)
    if is_project and options.project:
        raise ArgumentError("the project is given twice", hint="Leave out --project.")
    project_file = target if is_project else options.project
    project = read_project(project_file) if project_file else None
    bundle = project.run_folder / "bundle" if project and is_project else target
    evaluation = project.evaluation if project else None
    clusters, groups, coders = options.clusters, options.groups, options.coders
    reading = table.reading(project)

    from edgedistill.evaluation.coded_file import SMALLEST, describe_evaluation, evaluate_bundle
    from edgedistill.evaluation.coded_rows import read_coded_file
    from edgedistill.evaluation.files import to_plain
    from edgedistill_serve import Bundle

    loaded = Bundle.load(bundle)
    read = read_coded_file(
        coded, reading, loaded.task.inputs, loaded.task, coders or (evaluation.coders if evaluation else ())
    )
    if project and evaluation:
        clusters = clusters or (project.data.group_by if project.data.group_by in read.columns else None)
        groups = groups or tuple(name for name in evaluation.subgroups if name in read.columns)
        coders = coders or tuple(name for name in evaluation.coders if name in read.columns)
    found = evaluate_bundle(
        loaded,
        read,
        groups=groups,
        coders=coders,
        clusters=clusters,
        positive=options.positive or (evaluation.positive if evaluation else None),
        smallest=options.smallest or (evaluation.smallest_subgroup if evaluation else SMALLEST),
        training=_training_rows(project) if project else None,
    )
    _show(found, terminal)
    for line in describe_evaluation(found):
        terminal.say(f"  {line}")
    plain = to_plain(found)
    if options.out:
        file = options.out / "evaluation.json"
        write_file(file, json.dumps(plain, ensure_ascii=False, indent=2) + "\n")
        terminal.say(f"wrote {file}")
    terminal.finish(plain)


def _training_rows(project: Project) -> "DataFrame":
    """Return the rows that trained the student of the project's run, and the validation rows, which selected it.

    Without a training set in the run folder these are the human-coded train rows. Ids that are row numbers are left
    out: they name other rows in another file.
    """
    from pandas import DataFrame

    from edgedistill.data import read_records
    from edgedistill.pipeline.folder import MIXTURE, RunFolder
    from edgedistill.pipeline.mix import read_mixture

    splits, folder = read_records(project).splits, RunFolder(project.run_folder)
    rows = [{"id": each.id, **each.inputs} for each in (*splits.train.responses, *splits.validation.responses)]
    if folder.has(MIXTURE):
        rows += [{"id": row.id, **row.inputs} for row in read_mixture(folder, project.task.inputs)]
    columns = [*(["id"] if project.data.ids == "column" else []), *project.task.inputs]
    return DataFrame(rows, columns=columns, dtype=object)


def _show(found: "BundleEvaluation", terminal: Terminal) -> None:
    from edgedistill.agreement import agreement_table

    bundle = found.bundle
    terminal.say(f"{bundle.name} {bundle.version} ({bundle.precision}) on {found.rows} rows of {found.file}")
    terminal.say("Agreement with the human codes, 95 % intervals")
    terminal.console.print(agreement_table({"bundle": found.agreement["student"]}))
    for table in (*([found.questions] if found.questions else []), *found.subgroups):
        _show_groups(table, terminal)


LONGEST_NAME = 60


def _show_groups(table: "SubgroupTable", terminal: Terminal) -> None:
    """Show the groups that have figures, and how many have none."""
    shown = [group for group in table.groups if not group.suppressed]
    if shown:
        lines = Table(table.column, "rows", "accuracy", "kappa", box=box.SIMPLE_HEAD, pad_edge=False)
        for group in shown:
            name = group.value if len(group.value) <= LONGEST_NAME else f"{group.value[: LONGEST_NAME - 1]}\u2026"
            figures = [
                "undefined" if each is None else f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"
                for each in (group.accuracy, group.kappa)
            ]
            lines.add_row(Text(name), str(group.rows), *figures)
        terminal.console.print(lines)
    if few := [group for group in table.groups if group.suppressed]:
        rows = sum(group.rows for group in few)
        terminal.say(
            f"  {table.column}: {len(few)} of {len(table.groups)} values have fewer than {table.smallest} rows or a "
            f"single cluster ({rows} rows), and no figures"
        )
    if table.rows_without:
        terminal.say(f"  {table.column}: {table.rows_without} rows have no value")


def write_file(file: Path, text: str) -> None:
    """Write a result atomically; one that cannot be written is a `DataError`."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode())
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", where=str(error.filename or file)) from None
