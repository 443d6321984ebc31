"""Reads a coded table on which finished bundles are measured."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.data.given_tables import GivenTable, ReadingOptions, read_given_table, spelling_hint
from edgedistill.data.tables import Columns, read_labelled
from edgedistill.data.types import CodedResponse
from edgedistill.errors import ArgumentError, DataError
from edgedistill.frames import table_rows
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.task.task import Task, quote_columns

if TYPE_CHECKING:  # pandas is imported only where a DataFrame is used
    from pandas import DataFrame

_LONGEST = 1_000_000  # characters; the bundle decides what is too long for it
_CHOSEN_BY = ("train", "validation")
"""Values of a column ``split`` whose rows trained a student or selected it."""


@dataclass(frozen=True, slots=True)
class CodedColumns:
    """The columns of a coded file.

    Attributes:
        label: The human codes.
        id: The ids; without such a column the row numbers are the ids.
        groups: Columns for whose values agreement is reported.
        coders: Columns with the codes of single coders.
        clusters: A column of learners or classes, whose responses are related.
    """

    label: str = "label"
    id: str = "id"
    groups: tuple[str, ...] = ()
    coders: tuple[str, ...] = ()
    clusters: str | None = None


@dataclass(frozen=True, slots=True)
class CodedTable:
    """A coded table: ``read == len(rows) + sum(set_aside.values())``.

    Attributes:
        file: Its name.
        sha256: Of the file, or of the cells of a DataFrame.
        read: Its rows.
        rows: Those with a human code that can be used.
        set_aside: Number of the others, by reason.
        has_ids: Whether it has a column of ids.
        columns: Its columns, under their whole names.
        notes: What was assumed when it was read.
    """

    file: str
    sha256: str
    read: int
    rows: tuple[CodedResponse, ...]
    set_aside: Mapping[str, int]
    has_ids: bool
    columns: CodedColumns = CodedColumns()
    notes: tuple[str, ...] = ()


def read_coded_file(
    file: Path, reading: ReadingOptions, inputs: Sequence[str], task: Task, coders: Sequence[str] = ()
) -> GivenTable:
    """Read the file of a coded table, with the keys ``id``, ``label``, ``split`` and the inputs.

    Args:
        file: The table.
        reading: How it is read.
        inputs: The inputs that it must have.
        task: The labels.
        coders: Columns with the codes of single coders.

    Raises:
        DataError: It cannot be read, or a column is missing.
    """
    return read_given_table(
        file,
        reading,
        needed=("label", *inputs),
        optional=("id", "split"),
        texts=inputs,
        codes=("label",),
        coders=coders,
        task=task,
    )


def read_coded_table(
    coded: "DataFrame | GivenTable | Path | str", columns: CodedColumns, task: Task, bundle: str
) -> CodedTable:
    """Read a coded table.

    Rows whose column ``split`` is ``train`` or ``validation`` are set aside.

    Args:
        coded: A table file, also one that is read already, or a DataFrame.
        columns: Its columns; of a file, they may be named as a person does.
        task: The inputs that it must have, and the labels that it may have.
        bundle: The bundle that reads the inputs, for messages.

    Raises:
        ArgumentError: It is neither a file nor a DataFrame.
        DataError: It cannot be read, a column is missing, a label is unknown, or no row is coded.
    """
    if isinstance(coded, str | Path):
        named = {key: name for key, name in (("label", columns.label), ("id", columns.id)) if key != name}
        coded = read_coded_file(Path(coded), ReadingOptions(named), task.inputs, task, columns.coders)
    notes: tuple[str, ...] = ()
    if isinstance(coded, GivenTable):
        name, lines, notes = coded.name, list(coded.rows), coded.notes
        sha256 = hashlib.sha256(coded.path.read_bytes()).hexdigest()
        columns = _whole_names(coded, columns)
    elif hasattr(coded, "columns"):
        name, lines = "coded", list(table_rows(coded, columns.id))
        sha256 = hashlib.sha256(json.dumps([[line.row, line.values] for line in lines]).encode()).hexdigest()
    else:
        raise ArgumentError(f"coded must be a DataFrame or a file, not {type(coded).__name__}", where="coded")
    if not lines:
        raise DataError("has no rows", where=name)
    _require_columns(name, lines, columns, task, bundle)
    has_ids = any(columns.id in line.values for line in lines)
    measured = [line for line in lines if line.values.get("split", "").strip() not in _CHOSEN_BY]
    used = [_renamed(line, columns, task.inputs) for line in measured]
    meaning = Columns(task, columns.clusters, _LONGEST, columns.coders, columns.groups)
    try:
        found = read_labelled(name, used, meaning)
    except DataError as error:
        hint = f"Fix these rows; the labels of the bundle are {', '.join(task.names)}."
        if isinstance(coded, GivenTable):
            codes = (line.values[column] for line in used for column in ("label", *columns.coders))
            hint += f" The codes are in the column {coded.describe('label')}.{spelling_hint(codes, task)}"
        raise DataError(error.what, where=error.where, hint=hint) from None
    set_aside = Counter(each.reason for each in found.set_aside)
    if chosen_by := len(lines) - len(measured):
        set_aside["train or validation row, by its column split"] = chosen_by
    rows = tuple(row.coded for row in found.rows)
    require_rows(len(rows), name, len(lines), set_aside)
    return CodedTable(name, sha256, len(lines), rows, dict(set_aside), has_ids, columns, notes)


def _whole_names(table: GivenTable, columns: CodedColumns) -> CodedColumns:
    """Return the columns of a table with the keys ``label`` and ``id``, under their whole names."""
    return CodedColumns(
        groups=tuple(table.find(name, "--group") for name in columns.groups),
        coders=tuple(table.find(name, "--coder") for name in columns.coders),
        clusters=table.find(columns.clusters, "--clusters") if columns.clusters else None,
    )


def _require_columns(name: str, lines: Sequence[TableRow], columns: CodedColumns, task: Task, bundle: str) -> None:
    meanings = {
        columns.label: "of human codes",
        **dict.fromkeys(task.inputs, "that the bundle reads"),
        **dict.fromkeys(columns.coders, "of a coder (--coder)"),
        **dict.fromkeys(columns.groups, "of groups (--group)"),
        **({columns.clusters: "of clusters (--clusters)"} if columns.clusters else {}),
    }
    for line in lines:
        for column, meaning in meanings.items():
            if column not in line.values:
                raise DataError(
                    f"there is no column {column!r} {meaning}; the columns are {quote_columns(line.values)}",
                    where=f"{name}, row {line.row}",
                    hint=f"The bundle {bundle} reads {', '.join(task.inputs)}.",
                )


def _renamed(line: TableRow, columns: CodedColumns, inputs: Sequence[str]) -> TableRow:
    """Return a row with the columns that are read, the codes in ``label`` and the ids in ``id``."""
    others = (*inputs, *columns.coders, *columns.groups, *([columns.clusters] if columns.clusters else []))
    values = {name: line.values[name] for name in others}
    ids = {"id": line.values.get(columns.id, "" if columns.id in line.values else str(line.row))}
    return TableRow(line.row, {**values, **ids, "label": line.values[columns.label]}, {})


def require_rows(rows: int, file: str, read: int, set_aside: Mapping[str, int]) -> None:
    """Raise a `DataError` with the reasons if no row of a file can be measured."""
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in set_aside.items())
        raise DataError(f"none of its {read} rows can be measured ({reasons})", where=file)
