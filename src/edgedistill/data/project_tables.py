"""The tables of a project as people have them: columns, ids, texts and labels as the project file says they are read.

Every reader of a data file of a project calls `read_project_table`; what it assumed is in the notes, which a run keeps
in `run.json`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgedistill.errors import DataError
from edgedistill.project.data import DataSection
from edgedistill.project.schema import Project
from edgedistill.task import fold_label
from edgedistill_serve.grading.column_names import find_column, matching_columns
from edgedistill_serve.grading.detected_table import DetectedTable, read_detected
from edgedistill_serve.grading.dialects import Dialect
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows
from edgedistill_serve.grading.sources import Reading
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.task.html_text import has_html, html_to_text
from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL, Task

_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)[.,]0+")


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


def read_project_table(project: Project, file: Path) -> ProjectTable:
    """Read a data file as the project file says.

    The file `data.human` must have all of the columns that `data.columns` names; in others a column may have the name
    of its key instead, as in the tables that EdgeDistill writes.

    Args:
        project: Its settings.
        file: Relative to the project file's folder, or absolute.

    Raises:
        DataError: The file cannot be read, or has no column of a name that `data.columns` gives; the message has the
            closest names.
    """
    path, data, task = project.folder / file, project.data, project.task.task
    if data.reviewed is not None and _same_file(path, project.folder / data.reviewed):
        data = DataSection(human=data.human)  # EdgeDistill writes it
    is_human = _same_file(path, project.folder / data.human)
    of_people = (data.human, data.unlabelled, project.evaluation.population)
    named_in_project = any(each is not None and _same_file(path, project.folder / each) for each in of_people)
    header = data.header if named_in_project else HEADER_FIRST  # EdgeDistill writes coding sheets and the like
    needed = (*task.inputs, *(["label"] if is_human else []))
    wanted = {key: name for key, name in data.columns.items() if is_human or key != "label"}
    table = read_detected(path, Reading(needed, columns=wanted, header=header))
    named = _find_columns(table, data.columns, strict=is_human)
    rows, notes = list(table.rows), [*table.notes]
    if named:
        rows = [replace(row, values=_renamed(row.values, named)) for row in rows]
        notes.append(f"{table.name}: {', '.join(f'{key} is the column {column!r}' for key, column in named.items())}")
    rows, of_ids = _with_ids(path, table, rows, data, is_human=is_human)
    rows, of_html = _without_html(table.name, rows, task.inputs, remove=data.html == "remove")
    notes += [*of_ids, *of_html]
    if data.label_spelling == "folded":
        coded = ["label", *(name for name in project.evaluation.coders if name in table.columns)]
        rows, of_labels = _folded(table.name, rows, coded, task)
        notes += of_labels
    return ProjectTable(
        table.name,
        table.columns,
        named,
        tuple(rows),
        tuple(notes),
        table.dialect,
        header,
        path.stem if of_ids else None,
    )


def read_label_file(project: Project, file: Path, columns: Sequence[str]) -> DetectedTable:
    """Read a table of labels that exist already; of the project's settings, only those of ids apply.

    Args:
        project: Its settings.
        file: Relative to the project file's folder, or absolute. If it is `data.human`, its header is there as well.
        columns: The columns that are needed.

    Raises:
        DataError: The file cannot be read.
    """
    path, data = project.folder / file, project.data
    is_human = _same_file(path, project.folder / data.human)
    header = data.header if is_human else HEADER_FIRST
    table = read_detected(path, Reading(tuple(columns), header=header))
    rows = list(table.rows)
    if "id" not in table.columns and "id" in data.columns:
        named = _find_columns(table, {"id": data.columns["id"]}, strict=False)
        rows = [replace(row, values=_renamed(row.values, named)) for row in rows]
    rows, _ = _with_ids(path, table, rows, data, is_human=is_human)
    return replace(table, rows=tuple(rows))


def _with_ids(
    path: Path, table: DetectedTable, rows: list[TableRow], data: DataSection, *, is_human: bool
) -> tuple[list[TableRow], list[str]]:
    """Return rows whose ids are row numbers, where the project says so and a table of others has no ids of its own."""
    if data.ids == "column" or not rows or (not is_human and "id" in table.columns):
        return rows, []
    numbered = [replace(row, values={**row.values, "id": f"{path.stem}:{row.row}"}) for row in rows]
    return numbered, [f"{table.name}: the id of a row is its number, such as {path.stem}:{rows[0].row}"]


def _same_file(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def _find_columns(table: DetectedTable, columns: Mapping[str, str], *, strict: bool) -> dict[str, str]:
    """Return the column of each key that `data.columns` names and the table has."""
    named: dict[str, str] = {}
    for key, name in columns.items():
        if not strict and not matching_columns(name, table.columns) and (key in table.columns or key in _OPTIONAL):
            continue
        named[key] = find_column(name, table.columns, where=table.name, key=f"data.columns.{key}")
    of_column: dict[str, str] = {}
    for key, column in named.items():
        if (other := of_column.setdefault(column, key)) != key:
            raise DataError(
                f"data.columns maps the column {column!r} twice, to {other} and to {key}",
                where=table.name,
                hint="Name another column for one of them, or leave one out.",
            )
    return named


_OPTIONAL = ("id", "label", "split", "question", "reference_answer", "rubric")
"""Keys whose absence is reported where a row is read."""


def _renamed(values: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    """Return the values with those of the keys, which take precedence over a column of the same name."""
    return {**values, **{key: values[column] for key, column in named.items() if column in values}}


def _without_html(
    name: str, rows: list[TableRow], inputs: Sequence[str], *, remove: bool
) -> tuple[list[TableRow], list[str]]:
    """Return rows whose texts are without HTML, if it is to be removed, and a note if there is any."""
    having = [any(has_html(row.values.get(key, "")) for key in inputs) for row in rows]
    if not any(having):
        return rows, []
    count = f"{sum(having)} of {len(rows)} rows have HTML, such as <p> or &nbsp;"
    if not remove:
        return rows, [f"{name}: {count}, which is read as text; data.html: remove reads what it shows"]
    cleaned = [
        replace(
            row, values={**row.values, **{key: html_to_text(row.values[key]) for key in inputs if key in row.values}}
        )
        if has
        else row
        for row, has in zip(rows, having, strict=True)
    ]
    return cleaned, [f"{name}: {count}, which was removed"]


def fold_code(text: str) -> str:
    """Return a label as `data.label_spelling: folded` compares it: as `fold_label`, and ``1.0`` is ``1``."""
    folded = fold_label(text)
    number = _WHOLE_NUMBER.fullmatch(folded)
    return number[1] if number else folded


def _folded(name: str, rows: list[TableRow], columns: Sequence[str], task: Task) -> tuple[list[TableRow], list[str]]:
    """Return rows whose labels are spelled as in the codebook, and a note for every other spelling."""
    of_fold: dict[str, str | None] = {}
    for label in (*task.names, *([NO_LABEL] if task.kind == "multilabel" else [])):
        fold = fold_code(label)
        of_fold[fold] = None if fold in of_fold else label  # two labels that only an exact comparison tells apart
    respelled: Counter[tuple[str, str]] = Counter()

    def respell(text: str) -> str:
        parts = text.split(LABEL_SEPARATOR) if task.kind == "multilabel" else [text]
        return LABEL_SEPARATOR.join(map(respell_one, parts))

    def respell_one(text: str) -> str:
        given = text.strip()
        label = of_fold.get(fold_code(given)) if given and given not in task.names else None
        if label is None:
            return text
        respelled[given, label] += 1
        return label

    read = [
        replace(
            row, values={**row.values, **{each: respell(row.values[each]) for each in columns if each in row.values}}
        )
        for row in rows
    ]
    return read, [f"{name}: {line}" for line in _respellings(respelled)]


def _respellings(respelled: Counter[tuple[str, str]]) -> Iterator[str]:
    if respelled:
        shown = ", ".join(f"{_spelling(given, label)} ({count})" for (given, label), count in respelled.most_common(5))
        more = f" and {len(respelled) - 5} more" if len(respelled) > 5 else ""
        yield f"labels in another spelling are read as those of the codebook: {shown}{more}"


def _spelling(given: str, label: str) -> str:
    """Return both spellings of a label, or that they look the same."""
    if unicodedata.normalize("NFC", given) == unicodedata.normalize("NFC", label):
        return f"{label!r} in another Unicode form"
    return f"{given!r} as {label!r}"
