"""The command `edgedistill estimate`."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.project_argument import remember_project
from edgedistill.cli.table_options import TableOptions, reads_table
from edgedistill.cli.terminal import Terminal
from edgedistill.data import read_records
from edgedistill.data.given_tables import GivenTable, ReadingOptions, fold_labels, read_given_table
from edgedistill.data.twins import same_row
from edgedistill.data.types import CODE_COLUMN
from edgedistill.errors import ArgumentError, DataError
from edgedistill.project import Project, read_project
from edgedistill.task import Label, Task
from edgedistill_serve.bundle.atomic_folder import replace_file
from edgedistill_serve.task.task import Task as ScoredTask
from edgedistill_serve.task.task import task_inputs

if TYPE_CHECKING:  # imported where it is called: pandas and scipy take a second
    from edgedistill.estimates import EstimateTable

_KEYS = ("machine", "human")
"""The keys of the columns of codes; both are called ``label`` in the tables that EdgeDistill writes."""
FILES = ("estimates.json", "estimates.csv", "estimates.tex", "estimates_rows.json")
"""What the command writes into the run folder or the folder of `--out`."""

ProjectFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[PROJECT]",
        help="The project: labels, learners, rows that trained the student.",
        callback=remember_project,
    ),
]
Machine = Annotated[
    Path, typer.Option("--machine", metavar="FILE", help="Table with a machine code of every response, as of `grade`.")
]
Human = Annotated[
    Path | None,
    typer.Option("--human", metavar="FILE", help="Table with human codes of some, by id; default: the same table."),
]
Labels = Annotated[str | None, typer.Option("--labels", metavar="A,B,…", help="The labels, if there is no project.")]
Multilabel = Annotated[
    bool, typer.Option("--multilabel", help="A response has any number of labels, separated by ';'; or none.")
]
Clusters = Annotated[
    str | None,
    typer.Option("--clusters", metavar="NAME", help="Column of learners or classes, whose responses are related."),
]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Column of groups that are compared.")]
Reference = Annotated[
    str | None, typer.Option("--reference", metavar="GROUP", help="The group with which others are compared.")
]
FormulaOption = Annotated[
    str | None, typer.Option("--formula", metavar="FORMULA", help='A regression, such as "score ~ condition + grade".')
]
ModelOption = Annotated[str, typer.Option("--model", metavar="ols|logistic", help="The model of the formula.")]
Scores = Annotated[
    str | None,
    typer.Option("--scores", metavar="A=0,B=1,…", help="Scores of the labels; default: 0, 1, … for ordinal tasks."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the folds and resamples.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help=f"Write {', '.join(FILES)} here; default: the run folder, if any."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@reads_table("id", *_KEYS, of="Of the human codes: ", texts=False)
def estimate(
    machine: Machine,
    table: TableOptions,
    project_file: ProjectFile = None,
    human: Human = None,
    labels: Labels = None,
    multilabel: Multilabel = False,
    clusters: Clusters = None,
    by: By = None,
    reference: Reference = None,
    formula: FormulaOption = None,
    model: ModelOption = "ols",
    scores: Scores = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Estimate shares, means, differences or regressions from machine codes, corrected by human codes of some rows.

    Example: edgedistill estimate praise/project.yaml --machine graded.csv --human coded.csv --by condition
    """
    terminal = Terminal(as_json=as_json)
    project = read_project(project_file) if project_file else None
    given_scores = _parse_scores(scores)
    task = _task(project, labels, given_scores, multilabel=multilabel)

    from edgedistill.estimates import estimate as estimate_table
    from edgedistill.estimates.codes import ColumnNames, read_codes, read_frame
    from edgedistill.estimates.rows import record_rows

    reading = _usual_names(table.reading(project), in_two_tables=human is not None)
    if human is None and not {"human"} & {*reading.columns, *reading.usual_columns}:
        raise ArgumentError(
            "the human codes are missing",
            hint='Name their table: --human FILE; or their column: --column human="NAME".',
        )
    by_text = project is not None and project.data.ids == "row_numbers"
    texts = project.task.inputs if project and by_text else ()
    of_machine = reading
    if human:
        of_machine = replace(reading.of_another_file(), columns=reading.of_keys("machine").columns)
    read = _read(machine, of_machine, ("machine",) if human else _KEYS, task, texts)
    trained = _trained_ids(project, read if by_text else None) if project else frozenset()
    spelled = task or (_labels_used(read) if reading.fold_labels else None)
    of_people = _read(human, reading.of_keys("id", "human"), ("human",), spelled) if human else None
    if task is None and of_people is None and spelled is not None:
        spelled_rows, of_labels = fold_labels(read.name, list(read.rows), ["human"], spelled)
        read = replace(read, rows=tuple(spelled_rows), notes=(*read.notes, *of_labels))
    notes = [note for each in (read, of_people) if each for note in each.notes]
    for note in notes:
        terminal.say(f"note: {note}")
    clusters = read.find(clusters, "--clusters") if clusters else None
    by = read.find(by, "--by") if by else None
    if clusters is None and project and project.data.group_by in read.columns:
        clusters = project.data.group_by
    as_text = [name for name in ("id", *_KEYS, clusters, by, "split") if name]
    frame = read_frame(read, as_text)
    coded = read_frame(of_people, as_text) if of_people else None
    columns = ColumnNames("machine", "human", "id", clusters, by)
    options: dict[str, Any] = {
        "by": by,
        "reference": reference,
        "formula": formula,
        "model": model,
        "scores": given_scores,
        "random_state": seed,
    }
    result = estimate_table(
        frame,
        coded,
        task=task,
        machine_column="machine",
        human_column="human",
        clusters=clusters,
        trained=trained,
        **options,
    )
    terminal.console.print(result.table())
    for remark in result.remarks:
        terminal.say(f"  {remark}")
    folder = out or (project.run_folder if project else None)
    codes = read_codes(frame, coded, columns, task, trained=trained)
    rows = json.dumps(record_rows(codes, **options), ensure_ascii=False) if folder else ""
    written = _write(result, rows, folder)
    for file in written:
        terminal.say(f"wrote {file}")
    terminal.finish({"files": [str(file) for file in written], "assumed": notes, **result.as_dict()})


def _usual_names(reading: ReadingOptions, *, in_two_tables: bool) -> ReadingOptions:
    """Return how the tables are read: what the columns of codes are called by EdgeDistill, and in the project."""
    names = dict(reading.usual_columns)
    of_project = names.pop("label", ())
    if in_two_tables:
        names["human"] = (*of_project, "label", CODE_COLUMN)
    elif of_project:
        names["human"] = of_project
    return replace(reading, usual_columns=names | {"machine": ("label",)})


def _read(
    file: Path, reading: ReadingOptions, codes: Sequence[str], task: ScoredTask | None, texts: Sequence[str] = ()
) -> GivenTable:
    """Read a table with columns of codes; it needs ids unless it has both codes: then row numbers can be the ids."""
    ids = () if len(codes) == len(_KEYS) else ("id",)
    needed = (*ids, *codes, *texts)
    read = read_given_table(
        file, reading, needed=needed, optional=("id",), texts=texts, codes=codes, task=task
    ).without_empty_rows()
    if "id" in read.named or "id" in read.columns:
        return read
    return replace(read, rows=tuple(replace(row, values={"id": str(row.row), **row.values}) for row in read.rows))


def _labels_used(table: GivenTable) -> ScoredTask | None:
    """Return a task of the labels that the machine used, for their spelling; None if these are fewer than two."""
    names = sorted({row.values.get("machine", "").strip() for row in table.rows} - {""})
    return Task("nominal", labels=[*map(Label, names)]) if len(names) > 1 else None


def _task(
    project: Project | None, labels: str | None, scores: Mapping[str, float] | None, *, multilabel: bool
) -> ScoredTask | None:
    if project is not None:
        if labels or multilabel:
            raise ArgumentError("the labels are those of the project", hint="Leave out --labels and --multilabel.")
        return project.task.task
    names = [name.strip() for name in labels.split(",")] if labels else list(scores or ())
    if multilabel and not names:
        raise ArgumentError("--multilabel needs --labels", hint="Example: --labels effort,strategy,praise.")
    return Task("multilabel" if multilabel else "nominal", labels=[Label(name) for name in names]) if names else None


def _parse_scores(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    scores: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        try:
            scores[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise ArgumentError(f"--scores: {part.strip()!r} is not LABEL=NUMBER", hint='Example: "low=0,high=1".')
    return scores


def _trained_ids(project: Project, machine: GivenTable | None) -> Collection[str]:
    """Ids of the rows whose human codes trained the student of the project's run, or selected it.

    These are the human-coded rows of the run's training set and the validation rows of that time, or the present
    training and validation rows if there is no run yet.

    Args:
        project: The project.
        machine: A table whose ids are not those of the project: its rows are found by their texts. None if they are.
    """
    from edgedistill.pipeline.folder import MIXTURE, RunFolder

    splits = read_records(project).splits
    folder = RunFolder(project.run_folder)
    if folder.has(MIXTURE):
        trained = {row["id"] for row in folder.read_csv(MIXTURE) if row["source"] == "human"}
    else:
        trained = {row.response.id for row in splits.train}
    log = folder.read_json("run.json") if folder.has("run.json") else {}
    selected = log.get("stages", {}).get("train", {}).get("selected_by")
    trained |= {row.response.id for row in splits.validation} if selected is None else set(selected)
    if machine is None:
        return trained
    coded = (*splits.train, *splits.validation, *splits.test)
    texts = {same_row(row.response.inputs) for row in coded if row.response.id in trained}
    task = project.task.task
    return {row.values["id"] for row in machine.rows if same_row(task_inputs(row.values, task)) in texts}


def _write(result: "EstimateTable", rows: str, folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    files = [folder / name for name in FILES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, (result.to_json(), result.to_csv(), result.to_latex(), f"{rows}\n"), strict=True):
            replace_file(file, text.encode())
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", where=str(error.filename or folder)) from None
    return files
