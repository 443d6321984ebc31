"""The tables of a project as people have them: columns, ids, texts and labels as the project file says they are read.

Every reader of a data file of a project calls `read_project_table`; what it assumed is in the notes, which a run keeps
in `run.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgedistill.data.given_tables import find_columns, fold_labels, remove_html, rename_columns, require_distinct
from edgedistill.project.data import DataSection, SheetOf
from edgedistill.project.schema import Project
from edgedistill_serve.grading.column_names import matching_columns
from edgedistill_serve.grading.detected_table import DetectedTable, read_detected
from edgedistill_serve.grading.dialects import Dialect
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows
from edgedistill_serve.grading.sources import Reading
from edgedistill_serve.grading.table_reader import TableRow


@dataclass(frozen=True, slots=True)
class ProjectTable:
    """A data file of a project.

    Attributes:
        name: The file's name.
        columns: The columns of the file.
        named: By key, such as ``response``, the column of the file that has it; ids of row numbers have none.
        rows: Its rows. Their values have the keys besides the columns of the file.
        notes: What was assumed, a sentence each.
        dialect: How its text is read; None for xlsx and Parquet.
        header: Where its header is.
        id_prefix: What stands before the row number in ids that are row numbers; None if a column has the ids.
    """

    name: str
    columns: tuple[str, ...]
    named: Mapping[str, str]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]
    dialect: Dialect | None
    header: HeaderRows
    id_prefix: str | None


def read_project_table(project: Project, file: Path, kind: SheetOf | None = None) -> ProjectTable:
    """Read a data file as the project file says.

    The file `data.human` must have all of the columns that `data.columns` names; in others a column may have the name
    of its key instead, as in the tables that EdgeDistill writes.

    Args:
        project: Its settings.
        file: Relative to the project file's folder, or absolute.
        kind: Which file of the project it is, if it may be another sheet of the same workbook; None to find it.

    Raises:
        DataError: The file cannot be read, or has no column of a name that `data.columns` gives; the message has the
            closest names.
    """
    path, data, task = project.folder / file, project.data, project.task.task
    if data.reviewed is not None and _same_file(path, project.folder / data.reviewed):
        data = DataSection(human=data.human)  # EdgeDistill writes it
    is_human = _same_file(path, project.folder / data.human)
    of_people: dict[SheetOf, Path | None] = {
        "human": data.human,
        "unlabelled": data.unlabelled,
        "population": project.evaluation.population,
    }
    found = [each for each, other in of_people.items() if other and _same_file(path, project.folder / other)]
    kind = kind or next(iter(found), None)
    header = data.header_of(kind) if kind else HEADER_FIRST  # EdgeDistill writes coding sheets and the like
    if path.suffix.lower() != ".xlsx":
        header = replace(header, sheet=None)
    is_human = is_human and (kind is None or data.header_of(kind).sheet == data.header.sheet)
    needed = (*task.inputs, *(["label"] if is_human else []))
    wanted = {key: name for key, name in data.columns.items() if is_human or key != "label"}
    table = read_detected(path, Reading(needed, columns=wanted, header=header))
    named = _find_columns(table, data.columns, strict=is_human)
    for name in (*project.evaluation.coders, *project.evaluation.subgroups, data.group_by, data.question_by):
        table.check(name or "")
    rows, notes = rename_columns(table, named)
    others = len(found) > 1 and not isinstance(data.sheet, str) and data.sheet is not None
    prefix = f"{path.stem}/{header.sheet}" if others and header.sheet else path.stem  # two sheets have equal numbers
    rows, of_ids = _with_ids(prefix, table, rows, data, is_human=is_human)
    rows, of_html = remove_html(
        table.name, rows, task.inputs, remove=data.html == "remove", setting="data.html: remove"
    )
    notes += [*of_ids, *of_html]
    if data.label_spelling == "folded":
        coded = ["label", *(name for name in project.evaluation.coders if name in table.columns)]
        rows, of_labels = fold_labels(table.name, rows, coded, task)
        notes += of_labels
    return ProjectTable(
        table.name,
        table.columns,
        named,
        tuple(rows),
        tuple(notes),
        table.dialect,
        header,
        prefix if of_ids else None,
    )


def read_label_file(project: Project, file: Path, columns: Sequence[str], sheet: str | None = None) -> DetectedTable:
    """Read a table of labels that exist already; of the project's settings, only those of ids apply.

    Args:
        project: Its settings.
        file: Relative to the project file's folder, or absolute. If it is `data.human`, its header is there as well.
        columns: The columns that are needed, as for `read_labels`.
        sheet: Of an xlsx file; None for that of `data.human`, if it is this file, or the first one with the columns.

    Raises:
        DataError: The file cannot be read.
    """
    path, data = project.folder / file, project.data
    is_human = _same_file(path, project.folder / data.human)
    header = data.header if is_human else HEADER_FIRST
    header = replace(header, sheet=(sheet or header.sheet) if path.suffix.lower() == ".xlsx" else None)
    table = read_labels(path, columns, header)
    rows, notes = list(table.rows), [*table.notes]
    if "id" not in table.columns and "id" in data.columns:
        named = _find_columns(table, {"id": data.columns["id"]}, strict=False)
        rows, notes = rename_columns(table, named)
    rows, of_ids = _with_ids(path.stem, table, rows, data, is_human=is_human)
    notes += of_ids
    return replace(table, rows=tuple(rows), notes=tuple(notes))


def read_labels(path: Path, columns: Sequence[str], header: HeaderRows = HEADER_FIRST) -> DetectedTable:
    """Read a table of labels as it is.

    Args:
        path: The file.
        columns: The columns that are needed, as a person gives their names; the rows have these names. One that is not
            there is no error.
        header: Where its header is.

    Raises:
        DataError: The file cannot be read.
    """
    table = read_detected(path, Reading(tuple(columns), header=header))
    found = {name: matching_columns(name, table.columns) for name in columns}
    rows, notes = rename_columns(
        table, {name: names[0] for name, names in found.items() if len(names) == 1 and names != (name,)}
    )
    return replace(table, rows=tuple(rows), notes=tuple(notes))


def _with_ids(
    prefix: str, table: DetectedTable, rows: list[TableRow], data: DataSection, *, is_human: bool
) -> tuple[list[TableRow], list[str]]:
    """Return rows whose ids are row numbers, where the project says so and a table of others has no ids of its own."""
    if data.ids == "column" or not rows or (not is_human and "id" in table.columns):
        return rows, []
    numbered = [replace(row, values={**row.values, "id": f"{prefix}:{row.row}"}) for row in rows]
    return numbered, [f"{table.name}: the id of a row is its number, such as {prefix}:{rows[0].row}"]


def _same_file(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def _find_columns(table: DetectedTable, columns: Mapping[str, str], *, strict: bool) -> dict[str, str]:
    """Return the column of each key that `data.columns` names and the table has."""
    named = find_columns(
        table,
        {
            key: name
            for key, name in columns.items()
            if strict or matching_columns(name, table.columns) or not (key in table.columns or key in _OPTIONAL)
        },
        "data.columns.",
    )
    require_distinct(named, table.name, "data.columns")
    return named


_OPTIONAL = ("id", "label", "split", "question", "reference_answer", "rubric")
"""Keys whose absence is reported where a row is read."""
