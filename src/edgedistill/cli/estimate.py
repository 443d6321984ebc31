"""The command `edgedistill estimate`."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.project_argument import remember_project
from edgedistill.cli.terminal import Terminal
from edgedistill.data import read_records
from edgedistill.errors import ArgumentError, DataError
from edgedistill.project import Project, read_project
from edgedistill.task import Label, Task
from edgedistill_serve.task.task import Task as ScoredTask

if TYPE_CHECKING:  # imported where it is called: pandas and scipy take a second
    from edgedistill.estimates import EstimateTable

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
LabelColumn = Annotated[str, typer.Option("--label-column", metavar="NAME", help="Column of the machine codes.")]
HumanColumn = Annotated[str, typer.Option("--human-column", metavar="NAME", help="Column of the human codes.")]
IdColumn = Annotated[str, typer.Option("--id-column", metavar="NAME", help="Column of the responses' ids.")]
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


def estimate(
    machine: Machine,
    project_file: ProjectFile = None,
    human: Human = None,
    label_column: LabelColumn = "label",
    human_column: HumanColumn = "label",
    id_column: IdColumn = "id",
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
    trained = _trained_ids(project) if project else frozenset()

    from edgedistill.estimates import estimate as estimate_table
    from edgedistill.estimates.codes import ColumnNames, read_codes, read_frame
    from edgedistill.estimates.rows import record_rows

    texts = [name for name in (id_column, label_column, human_column, clusters, by, "split") if name]
    table = read_frame(machine, texts)
    if clusters is None and project and project.data.group_by in table.columns:
        clusters = project.data.group_by
    coded = read_frame(human, texts) if human else None
    columns = ColumnNames(label_column, human_column, id_column, clusters, by)
    options: dict[str, Any] = {
        "by": by,
        "reference": reference,
        "formula": formula,
        "model": model,
        "scores": given_scores,
        "random_state": seed,
    }
    result = estimate_table(
        table,
        coded,
        task=task,
        machine_column=label_column,
        human_column=human_column,
        id_column=id_column,
        clusters=clusters,
        trained=trained,
        **options,
    )
    terminal.console.print(result.table())
    for remark in result.remarks:
        terminal.say(f"  {remark}")
    folder = out or (project.run_folder if project else None)
    codes = read_codes(table, coded, columns, task, trained=trained)
    rows = json.dumps(record_rows(codes, **options), ensure_ascii=False) if folder else ""
    written = _write(result, rows, folder)
    for file in written:
        terminal.say(f"wrote {file}")
    terminal.finish({"files": [str(file) for file in written], **result.as_dict()})


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


def _trained_ids(project: Project) -> Collection[str]:
    """Ids of the rows whose human codes trained the student of the project's run, or selected it.

    These are the human-coded rows of the run's training set and the validation rows of that time, or the present
    training and validation rows if there is no run yet.
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
    return trained | ({row.response.id for row in splits.validation} if selected is None else set(selected))


def _write(result: "EstimateTable", rows: str, folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    files = [folder / name for name in FILES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, (result.to_json(), result.to_csv(), result.to_latex(), f"{rows}\n"), strict=True):
            part = file.with_name(f".{file.name}.part")
            part.write_text(text, "utf-8", newline="")
            part.replace(file)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", where=str(error.filename or folder)) from None
    return files
