"""What changed since a table was coded last: the codebook, the responses, and cells that somebody edited."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from edgedistill.coding.codings import Codings
from edgedistill.coding.journal import AnyEvent, Coded, Drafted, Finalized, Opened
from edgedistill.coding.table import CodingTable
from edgedistill.data.types import canonical_code, countable_labels
from edgedistill.errors import DataError
from edgedistill_serve.task.task import LABEL_SEPARATOR, Task


def withdraw_unknown_labels(codings: Codings, task: Task) -> tuple[list[str], list[AnyEvent]]:
    """Find codes, drafts and final labels that the codebook no longer has.

    Returns:
        The unknown labels of codes and final labels, and the events that give their rows back to their coders.
    """
    unknown: dict[str, None] = {}
    events: list[AnyEvent] = []
    reopened: set[str] = set()
    for coder, rows in codings.by_coder.items():
        for ident, coding in rows.items():
            if names := unknown_labels(coding.code, task):
                unknown |= dict.fromkeys(names)
                reopened.add(ident)
                events.append(Coded(by=coder, id=ident, source="recode"))
            elif unknown_labels(coding.draft, task):
                events.append(Drafted(by=coder, id=ident))
    for ident, final in codings.finals.items():
        if names := unknown_labels(final.label, task):
            unknown |= dict.fromkeys(names)
            reopened.add(ident)
    return list(unknown), [*events, *_reopen(codings, reopened)]


def withdraw_rows(codings: Codings, ids: Iterable[str]) -> list[AnyEvent]:
    """Return the events that give rows back to their coders."""
    rows = list(ids)
    codes = [Coded(by=coder, id=ident, source="recode") for ident in rows for coder in codings.codes(ident)]
    return [*codes, *_reopen(codings, rows)]


def _reopen(codings: Codings, ids: Collection[str]) -> list[AnyEvent]:
    closed = [ident for ident in codings.plan if ident in ids and codings.is_closed(ident)]
    return [Finalized(by="", id=ident, source="recode") for ident in closed]


def unknown_labels(code: str, task: Task) -> list[str]:
    """Return the labels of a code that the codebook does not have."""
    known = countable_labels(task)
    names = code.split(LABEL_SEPARATOR) if task.kind == "multilabel" else [code]
    return [name for name in names if name and name not in known]


def describe_codebook_changes(before: Opened, now: Opened) -> list[str]:
    """Return what differs between two codebooks, in words; empty if nothing does."""
    return [
        *(f"new label {name}" for name in now.labels if name not in before.labels),
        *(f"label {name} removed" for name in before.labels if name not in now.labels),
        *(f"definition of {name}" for name, text in now.labels.items() if before.labels.get(name, text) != text),
        *(["instructions"] if now.instructions != before.instructions else []),
    ]


def read_edited_cells(
    codings: Codings, table: CodingTable, ids: Collection[str], label_column: str, task: Task
) -> list[AnyEvent]:
    """Return the codes and labels of the table that this program did not write, as events.

    Raises:
        DataError: A cell is not a code of the task.
    """
    events: list[AnyEvent] = []
    for coder in dict.fromkeys((*codings.coders, *codings.by_coder)):
        written = codings.written.get(coder, {})
        events += [
            Coded(by=coder, id=ident, code=code, source="file")
            for ident, code in table.codes(coder, task, written).items()
            if ident in ids and code != codings.coding(coder, ident).code
        ]
    written = codings.written.get(label_column, {})
    events += [
        Finalized(by="", id=ident, label=label, source="file")
        for ident, label in table.codes(label_column, task, written).items()
        if ident in ids and label != codings.label(ident)
    ]
    return events


@dataclass(frozen=True, slots=True)
class CellChanges:
    """Cells of a table by column and id.

    Attributes:
        new: Values to be written; the cell is as it was written last.
        same: Values that the cell has already, without having been written.
        by_hand: Number of cells that somebody changed since they were written, and that differ from the codes.
    """

    new: dict[str, dict[str, str]] = field(default_factory=dict)
    same: dict[str, dict[str, str]] = field(default_factory=dict)
    by_hand: int = 0


def compare_cells(codings: Codings, table: CodingTable, label_column: str, task: Task) -> CellChanges:
    """Compare the codes with the table; a column that it lacks is in `CellChanges.new`, if only without values."""
    ids = [ident for ident in table.responses if ident in codings.plan]
    coders = dict.fromkeys((*codings.coders, *(name for name, rows in codings.by_coder.items() if rows)))
    wanted = {coder: {ident: codings.coding(coder, ident).code for ident in ids} for coder in coders}
    wanted[label_column] = {ident: codings.label(ident) for ident in ids}
    new: dict[str, dict[str, str]] = {column: {} for column in wanted if column not in table.columns}
    same: dict[str, dict[str, str]] = {}
    by_hand = 0
    for column, values in wanted.items():
        written = codings.written.get(column, {})
        for ident, value in values.items():
            cell, before = _canonical(table.cell(column, ident), task), written.get(ident, "")
            if cell == value:
                if before != value:
                    same.setdefault(column, {})[ident] = value
            elif cell == before:
                new.setdefault(column, {})[ident] = value
            else:
                by_hand += 1
    return CellChanges(new, same, by_hand)


def merge(first: Mapping[str, Mapping[str, str]], second: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Return the cells of both."""
    return {column: {**first.get(column, {}), **second.get(column, {})} for column in {**first, **second}}


def _canonical(text: str, task: Task) -> str:
    try:
        return canonical_code(text, task) if text else ""
    except DataError:
        return text
