"""Machine codes of all responses and human codes of a few, read from tables and checked row by row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.data.given_tables import GivenTable, spelling_hint
from edgedistill.data.types import canonical_code
from edgedistill.errors import ArgumentError, DataError
from edgedistill.estimates.estimators import Flags, Places, Values
from edgedistill.task import Label, Task
from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL, list_some, quote_columns, quote_label, split_labels
from edgedistill_serve.task.task import Task as ScoredTask

if TYPE_CHECKING:  # pandas is loaded where a DataFrame is made
    from pandas import DataFrame

INCLUSION_PROBABILITY = "inclusion_probability"
"""Column with the probability that a row was drawn for coding, as `edgedistill review next` writes it."""
_TRAINING_SPLITS = ("train", "validation")
_SHOWN = 5
_ROW, _NAME = "row", "edgedistill.table"
"""Name of the index of a table from a file, and the attribute with the file's name, for messages."""
_NOTED = 0.5
"""Share of the human codes below which their effective number (Kish 1965) is noted."""


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The columns of the tables.

    Attributes:
        machine: Machine label.
        human: Human label.
        id: Id of a response, if there are two tables.
        clusters: Cluster of a response, such as its learner; None: responses are independent.
        by: Group whose estimates are compared; None: no groups.
    """

    machine: str = "label"
    human: str = "label"
    id: str = "id"
    clusters: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Codes of the responses that are counted.

    Attributes:
        task: Labels and kind.
        frame: The rows of the machine table that are counted, with an index from 0.
        machine: Whether the machine assigned a label, 0 or 1, (rows, labels).
        human: The same of people, NaN in rows without a human code, (rows, labels).
        machine_codes: Machine code of each row.
        human_codes: Human code of each row, or None.
        probabilities: The machine's probabilities, (rows, labels), or None.
        weights: Inverse inclusion probability of the human-coded rows, 0 for the others and for known ones, (rows,).
        known: Rows with a human code on which the model was trained or selected, (rows,).
        clusters: Cluster of each row, from 0, (rows,); its position if rows are independent.
        clustered: Whether there are clusters.
        equal: Whether the inclusion probabilities are equal.
        notes: What is assumed, and which rows were not used.
    """

    task: ScoredTask
    frame: "DataFrame"
    machine: Values
    human: Values
    machine_codes: Sequence[str]
    human_codes: Sequence[str | None]
    probabilities: Values | None
    weights: Values
    known: Flags
    clusters: Places
    clustered: bool
    equal: bool
    notes: tuple[str, ...]

    @property
    def coded(self) -> Flags:
        """Rows whose human codes correct the machine codes, (rows,)."""
        return np.asarray(self.weights > 0)


def read_codes(
    machine: "DataFrame",
    human: "DataFrame | None",
    columns: ColumnNames,
    task: ScoredTask | None = None,
    *,
    trained: Collection[str] = (),
) -> Codes:
    """Combine the tables.

    Args:
        machine: A row per response, with its machine label.
        human: A row per human-coded response; None: the human labels are a column of ``machine``.
        columns: Names of the columns.
        task: The labels; None: nominal, with the labels that the machine used.
        trained: Ids of responses on whose human codes the model was trained or selected.

    Raises:
        DataError: A column is missing, an id is empty or a duplicate, a label is unknown, an inclusion probability is
            missing or not in (0, 1], or no row has both codes.
    """
    tables = _Tables(machine, human, columns)
    task = task or _task(tables)
    machine_codes = _canonical(tables.machine_labels, task, tables.machine_name, tables.machine_places)
    human_codes = _canonical(tables.human_labels, task, tables.human_name, tables.human_places)
    place = {ident: row for row, ident in enumerate(tables.machine_ids)}
    of_row: list[str | None] = [None] * len(machine)
    source: dict[int, int] = {}
    absent = 0
    for coded, (ident, code) in enumerate(zip(tables.human_ids, human_codes, strict=True)):
        if code is None:
            continue
        if (row := place.get(ident)) is None:
            absent += 1
        else:
            of_row[row], source[row] = code, coded
    notes = [f"{absent} human-coded rows are not in the machine table and were not used"] if absent else []
    known = _trained_rows(tables, source, set(trained))
    used = np.array([code is not None for code in machine_codes], np.bool_)
    unscored = sum(code is not None and not kept for code, kept in zip(of_row, used, strict=True))
    if blank := int((~used).sum()):
        also = f", {unscored} of them with a human code" if unscored else ""
        notes.append(f"{blank} rows have no machine code and were not counted{also}")
    has_human = np.array([code is not None for code in of_row], np.bool_)
    if lost := int((known & ~has_human & used).sum()):
        notes.append(f"{lost} rows on which the model was trained have no human code here and were not counted")
    used &= has_human | ~known
    weights = _weights(tables, source, has_human & ~known & used, notes)
    keep = np.flatnonzero(used)
    known = (known & has_human)[keep]
    if not (weights[keep] > 0).any():
        raise DataError(
            "no human code can correct the machine codes"
            + (
                f": the model was trained on, or selected by, all {int(known.sum())} human-coded rows"
                if known.any()
                else ": no response has both codes"
            ),
            hint="Have people code rows on which the model was not trained; ids must be the same in both tables.",
        )
    if known.any():
        notes.append(
            f"{int(known.sum())} human-coded rows trained or selected the model: machine codes are too good there, so "
            "these rows count with their human codes and do not correct the others"
        )
    clusters, clustered = _clusters(machine, columns, keep, notes)
    picked = [of_row[row] for row in keep]
    frame = machine.iloc[keep].reset_index(drop=True)
    return Codes(
        task=task,
        frame=frame,
        machine=_indicators([machine_codes[row] for row in keep], task),
        human=_indicators(picked, task),
        machine_codes=[str(machine_codes[row]) for row in keep],
        human_codes=picked,
        probabilities=_probabilities(frame, task),
        weights=weights[keep],
        known=known,
        clusters=clusters,
        clustered=clustered,
        equal=bool(np.ptp(weights[keep][weights[keep] > 0]) < 1e-9 * weights.max()),
        notes=tuple(notes),
    )


class _Tables:
    """The cells of both tables that say which code a response has."""

    def __init__(self, machine: "DataFrame", human: "DataFrame | None", columns: ColumnNames) -> None:
        self.one = human is None
        if human is None and columns.machine == columns.human:
            raise ArgumentError(
                f"the machine and the human label cannot both be the column {columns.machine!r}",
                hint="Name the column of the human labels, or give them in a second table.",
            )
        self.human = machine if human is None else human
        self.machine = machine
        self.machine_name = machine.attrs.get(_NAME, "machine table")
        self.human_name = self.human.attrs.get(_NAME, "human codes")
        self.machine_labels = _column(machine, columns.machine, self.machine_name)
        self.human_labels = _column(self.human, columns.human, self.human_name)
        for name in filter(None, (columns.clusters, columns.by)):
            _column(machine, name, self.machine_name)
        if human is None and columns.id not in machine.columns:
            self.machine_ids = [str(row) for row in range(len(machine))]
        else:
            self.machine_ids = _ids(machine, columns.id, self.machine_name)
        self.human_ids = self.machine_ids if human is None else _ids(human, columns.id, self.human_name)
        self.machine_places = _places(machine, self.machine_ids)
        self.human_places = self.machine_places if human is None else _places(human, self.human_ids)

    def optional(self, name: str) -> list[Any] | None:
        """Cells of a column of the human codes, or else of the machine table by row of the human codes."""
        if name in self.human.columns:
            return list(self.human[name])
        if not self.one and name in self.machine.columns:
            by_id = dict(zip(self.machine_ids, self.machine[name], strict=True))
            return [by_id.get(ident) for ident in self.human_ids]
        return None


def _column(frame: "DataFrame", name: str, table: str) -> list[Any]:
    if name not in frame.columns:
        raise DataError(
            f"there is no column {name!r}; the columns are {quote_columns(frame.columns)}",
            where=table,
            hint="Name an existing column.",
        )
    cells = frame[name]
    if cells.ndim > 1:
        raise DataError(f"there are several columns {name!r}", where=table, hint="Give each column its own name.")
    return list(cells)


def cell_texts(values: Sequence[Any]) -> list[str]:
    """Return cells as text without surrounding white space; empty for missing ones."""
    from pandas import isna

    column = np.empty(len(values), object)
    column[:] = values
    return ["" if missing else str(value).strip() for value, missing in zip(values, isna(column), strict=True)]


def _ids(frame: "DataFrame", name: str, table: str) -> list[str]:
    ids = cell_texts(_column(frame, name, table))
    first: dict[str, int] = {}
    rows = [int(row) for row in frame.index] if frame.index.name == _ROW else range(1, len(ids) + 1)
    for row, ident in zip(rows, ids, strict=True):
        if not ident:
            raise DataError("the id is empty", where=f"{table}, row {row}", hint="Give every row a unique id.")
        if (earlier := first.setdefault(ident, row)) != row:
            raise DataError(
                f"the id {ident!r} is already used in row {earlier}",
                where=f"{table}, row {row}",
                hint="Give every row a unique id; decide which of several human codes counts.",
            )
    return ids


def _places(frame: "DataFrame", ids: Sequence[str]) -> list[str]:
    """Return how messages name the rows: by their numbers in the file, or by their ids."""
    if frame.index.name == _ROW:
        return [f"row {row}" for row in frame.index]
    return [f"id {ident!r}" for ident in ids]


def _task(tables: _Tables) -> ScoredTask:
    """The task of tables without a codebook: its labels are those that the machine used."""
    seen = sorted({*cell_texts(tables.machine_labels)} - {""})
    first = dict(reversed([*zip(cell_texts(tables.human_labels), tables.human_places, strict=True)]))
    if not seen:
        raise DataError(
            "no row has a machine code", where=tables.machine_name, hint="Name the column of the machine codes."
        )
    if unknown := sorted(first.keys() - {"", *seen}):
        raise DataError(
            "the human codes have labels that the machine never used: "
            f"{', '.join(f'{quote_label(label)} ({first[label]})' for label in unknown[:_SHOWN])}; "
            f"the machine used {', '.join(map(quote_label, seen[:_SHOWN]))}",
            hint="Name the labels if the machine may miss one; else correct their spelling."
            + (spelling_hint(unknown, Task("nominal", labels=[*map(Label, seen)])) if len(seen) > 1 else ""),
        )
    if len(seen) < 2:
        raise DataError(
            f"the machine used {len(seen)} label(s), so there is nothing to estimate",
            where=tables.machine_name,
            hint="Name the labels.",
        )
    return Task("nominal", labels=[Label(name) for name in seen])


def _canonical(values: Sequence[Any], task: ScoredTask, table: str, places: Sequence[str]) -> list[str | None]:
    """The codes in canonical form; None for empty cells."""
    texts = cell_texts(values)
    codes: dict[str, str | None] = {"": None}
    unknown: dict[str, str] = {}
    for text, place in zip(texts, places, strict=True):
        if text not in codes and text not in unknown:
            try:
                codes[text] = canonical_code(text, task)
            except DataError:
                unknown[text] = place
    if unknown:
        raise DataError(
            f"unknown labels: {list_some(f'{quote_label(label)} ({place})' for label, place in unknown.items())}",
            where=table,
            hint=f"The labels are {', '.join(task.names)}."
            + (
                f" They are separated by {LABEL_SEPARATOR!r}; {NO_LABEL!r} means none."
                if task.kind == "multilabel"
                else ""
            )
            + spelling_hint(unknown, task),
        )
    return [codes[text] for text in texts]


def _indicators(codes: Sequence[str | None], task: ScoredTask) -> Values:
    """Whether each label was assigned, 0 or 1, (rows, labels); NaN in rows without a code."""
    rows: dict[str | None, Values] = {None: np.full(len(task.names), np.nan)}
    for code in {*codes} - {None}:
        labels = split_labels(str(code), task) if task.kind == "multilabel" else (code,)
        rows[code] = np.array([float(name in labels) for name in task.names])
    return np.array([rows[code] for code in codes]).reshape(-1, len(task.names))


def _trained_rows(tables: _Tables, source: Mapping[int, int], trained: Collection[str]) -> Flags:
    """Rows on which the model was trained or selected, by id or by the column ``split`` of either table."""
    known = np.array([ident in trained for ident in tables.machine_ids], np.bool_)
    if "split" in tables.machine.columns:
        known |= np.isin(cell_texts(list(tables.machine["split"])), _TRAINING_SPLITS)
    if not tables.one and "split" in tables.human.columns:
        splits = cell_texts(list(tables.human["split"]))
        for row, coded in source.items():
            known[row] |= splits[coded] in _TRAINING_SPLITS
    return known


def _weights(tables: _Tables, source: Mapping[int, int], sample: Flags, notes: list[str]) -> Values:
    """Inverse inclusion probabilities of the rows in the sample, 0 elsewhere."""
    weights = np.zeros(len(sample))
    cells = tables.optional(INCLUSION_PROBABILITY)
    texts = cell_texts(cells or [])
    if cells is None:
        weights[sample] = 1.0
        notes.append(
            "assumed: the human-coded rows are a simple random sample of the responses "
            f"(there is no column {INCLUSION_PROBABILITY})"
        )
        return weights
    faults: list[str] = []
    for row in np.flatnonzero(sample).tolist():
        text = texts[source[row]]
        try:
            probability = float(text.replace(",", "."))  # a spreadsheet may have put a decimal comma
        except ValueError:
            probability = 0.0
        if 0 < probability <= 1:
            weights[row] = 1 / probability
        else:
            faults.append(f"{text or 'missing'} ({tables.human_places[source[row]]})")
    if faults:
        raise DataError(
            f"inclusion probabilities of human-coded rows are not numbers in (0, 1]: {list_some(faults)}",
            where=tables.human_name,
            hint=f"Every human-coded row needs its {INCLUSION_PROBABILITY}; "
            "rows that were not drawn by chance cannot be used.",
        )
    notes.append(f"the human-coded rows are weighted by their inverse {INCLUSION_PROBABILITY}")
    coded, effective = int(sample.sum()), float(weights.sum() ** 2 / (weights**2).sum()) if sample.any() else 0.0
    if effective < _NOTED * coded:
        notes.append(f"the inclusion probabilities are so unequal that {coded} human codes count like {effective:.0f}")
    return weights


def _clusters(machine: "DataFrame", columns: ColumnNames, keep: Places, notes: list[str]) -> tuple[Places, bool]:
    if columns.clusters is None:
        return np.arange(len(keep)), False
    cells = cell_texts(list(machine[columns.clusters]))
    names = [cells[row] or f"\0{row}" for row in keep]
    if without := sum(name.startswith("\0") for name in names):
        notes.append(f"{without} rows have no {columns.clusters} and are clusters of one row")
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64), True


def _probabilities(frame: "DataFrame", task: ScoredTask) -> Values | None:
    """The columns that `grade` writes, or None unless there is a number for each label and row."""
    from pandas import to_numeric

    names = [f"probability_{name}" for name in task.names]
    if any(name not in frame.columns for name in names):
        return None
    found = np.column_stack([to_numeric(frame[name], errors="coerce").to_numpy(np.float64) for name in names])
    return found if np.isfinite(found).all() else None


def read_frame(table: GivenTable, texts: Collection[str]) -> "DataFrame":
    """Return a table as a DataFrame, whose index has the numbers of the rows.

    Args:
        table: The table.
        texts: Columns whose cells stay text. The cells of other columns are numbers if all of them are, or are empty.
    """
    from pandas import DataFrame, Index, to_numeric

    numbers = Index([row.row for row in table.rows], name=_ROW)
    frame = DataFrame([row.values for row in table.rows], index=numbers, dtype=object)
    frame.attrs[_NAME] = table.name
    for name in frame.columns:
        if name not in texts:
            cells = frame[name].replace("", None)
            try:
                frame[name] = to_numeric(cells)
            except (ValueError, TypeError):
                frame[name] = cells
    return frame
