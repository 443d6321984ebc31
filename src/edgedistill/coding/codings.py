"""The state of a coding after the events of its journal, and which coders code which rows."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgedistill.coding.journal import (
    AnyEvent,
    Coded,
    CoderJoined,
    CoderLeft,
    Drafted,
    Finalized,
    Flagged,
    Memo,
    Noted,
    Opened,
    Planned,
    Revealed,
    Skipped,
    Written,
)


@dataclass(frozen=True, slots=True)
class Coding:
    """What one coder did with one row.

    Attributes:
        code: The code; empty if there is none.
        draft: Labels of a multilabel row that are not confirmed.
        note: The coder's note.
        flagged: Whether the coder wants the row to be discussed.
        skipped: Number of the event that left it for later; 0 for none.
        revision: Number of the last event; 0 for none. A tab that has seen an earlier one is out of date.
        time: When the code was given (UTC, ISO 8601).
        source: Where the code comes from: ``page``, ``undo``, or ``file`` for a cell of the table.
    """

    code: str = ""
    draft: str = ""
    note: str = ""
    flagged: bool = False
    skipped: int = 0
    revision: int = 0
    time: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Final:
    """The label of a row after adjudication.

    Attributes:
        label: The label.
        note: Why.
        by: Who decided; empty if it was found in the table.
        revision: Number of the event.
    """

    label: str
    note: str
    by: str
    revision: int


@dataclass
class Codings:
    """The state after all events so far; `apply` adds one.

    Attributes:
        coders: Names of the coders who code, in the order in which they joined.
        plan: The coders of each row by id.
        texts: The SHA-256 of each planned row's response, as it was planned.
        by_coder: By coder and id; coders who left are kept.
        revealed: Ids whose codes were shown for adjudication.
        finals: By id.
        memos: In order.
        written: The last value that was written to each cell of the table, by column and id.
        history: By coder: ids that were coded, with the code before, for undo.
        codebook: The last codebook and settings.
        versions: Copies of the table that were kept.
    """

    coders: list[str] = field(default_factory=list)
    plan: dict[str, tuple[str, ...]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    by_coder: dict[str, dict[str, Coding]] = field(default_factory=dict)
    revealed: set[str] = field(default_factory=set)
    finals: dict[str, Final] = field(default_factory=dict)
    memos: list[Memo] = field(default_factory=list)
    written: dict[str, dict[str, str]] = field(default_factory=dict)
    history: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    codebook: Opened | None = None
    versions: list[str] = field(default_factory=list)

    def coding(self, coder: str, ident: str) -> Coding:
        """Return what a coder did with a row so far."""
        return self.by_coder.get(coder, {}).get(ident, Coding())

    def codes(self, ident: str) -> dict[str, str]:
        """Return the codes of a row by coder."""
        return {coder: rows[ident].code for coder, rows in self.by_coder.items() if ident in rows and rows[ident].code}

    def codes_by_coder(self, ids: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the codes of some rows by coder and id, for `edgedistill.agreement`; coders without one are absent."""
        known = set(ids)
        return {
            coder: codes
            for coder, rows in self.by_coder.items()
            if (codes := {ident: coding.code for ident, coding in rows.items() if coding.code and ident in known})
        }

    def is_complete(self, ident: str) -> bool:
        """Return whether every coder of a row has coded it."""
        codes = self.codes(ident)
        return bool(codes) and all(coder in codes for coder in self.plan.get(ident, ()))

    def is_flagged(self, ident: str) -> bool:
        """Return whether a coder wants the row to be discussed."""
        return any(rows[ident].flagged for rows in self.by_coder.values() if ident in rows)

    def is_disputed(self, ident: str) -> bool:
        """Return whether a complete row needs adjudication: its codes differ, or a coder flagged it."""
        return self.is_complete(ident) and (len(set(self.codes(ident).values())) > 1 or self.is_flagged(ident))

    def is_closed(self, ident: str) -> bool:
        """Return whether the codes of a row do not change any more, because somebody has seen or decided them."""
        return ident in self.revealed or ident in self.finals

    def label(self, ident: str) -> str:
        """Return the label of a row: the adjudicated one, or the code on which all its coders agree, or nothing."""
        if final := self.finals.get(ident):
            return final.label
        if not self.is_complete(ident) or self.is_disputed(ident):
            return ""
        return next(iter(self.codes(ident).values()))

    def apply(self, event: AnyEvent) -> None:
        """Add an event."""
        _APPLY[type(event)](self, event)

    def _change(self, event: AnyEvent, ident: str, change: Callable[[Coding], Coding]) -> None:
        rows = self.by_coder.setdefault(event.by, {})
        rows[ident] = replace(change(rows.get(ident, Coding())), revision=event.n)

    def _opened(self, event: Opened) -> None:
        self.codebook = event

    def _planned(self, event: Planned) -> None:
        self.plan.update(event.rows)
        self.texts.update(event.texts)

    def _joined(self, event: CoderJoined) -> None:
        if event.by not in self.coders:
            self.coders.append(event.by)

    def _left(self, event: CoderLeft) -> None:
        self.coders.remove(event.coder)

    def _coded(self, event: Coded) -> None:
        history = self.history.setdefault(event.by, [])
        if event.source == "undo":
            # Rows that have left the table since are passed over, and are not undone later either.
            while history and history.pop()[0] != event.id:
                pass
        elif event.source == "recode":
            # The code before was for another text or codebook.
            history[:] = [entry for entry in history if entry[0] != event.id]
        elif event.source == "page":
            history.append((event.id, self.coding(event.by, event.id).code))
        # A withdrawn code of several labels stays as a draft, so that nothing has to be selected again.
        self._change(
            event,
            event.id,
            lambda coding: replace(
                coding,
                code=event.code,
                draft="" if event.code or event.source == "recode" else coding.code or coding.draft,
                skipped=0,
                time=event.time if event.code else "",
                source=event.source if event.code else "",
            ),
        )

    def _drafted(self, event: Drafted) -> None:
        self._change(event, event.id, lambda coding: replace(coding, draft=event.code))

    def _noted(self, event: Noted) -> None:
        self._change(event, event.id, lambda coding: replace(coding, note=event.text))

    def _flagged(self, event: Flagged) -> None:
        self._change(event, event.id, lambda coding: replace(coding, flagged=event.on))

    def _skipped(self, event: Skipped) -> None:
        self._change(event, event.id, lambda coding: replace(coding, skipped=event.n))

    def _memo(self, event: Memo) -> None:
        self.memos.append(event)

    def _revealed(self, event: Revealed) -> None:
        self.revealed.update(event.ids)

    def _finalized(self, event: Finalized) -> None:
        if event.label:
            self.finals[event.id] = Final(event.label, event.note, event.by, event.n)
        else:
            self.finals.pop(event.id, None)
        if event.source == "recode":
            self.revealed.discard(event.id)

    def _written(self, event: Written) -> None:
        for column, cells in event.cells.items():
            self.written.setdefault(column, {}).update(cells)
        if event.version:
            self.versions.append(event.version)


_APPLY: Mapping[type, Callable[..., None]] = {
    Opened: Codings._opened,
    Planned: Codings._planned,
    CoderJoined: Codings._joined,
    CoderLeft: Codings._left,
    Coded: Codings._coded,
    Drafted: Codings._drafted,
    Noted: Codings._noted,
    Flagged: Codings._flagged,
    Skipped: Codings._skipped,
    Memo: Codings._memo,
    Revealed: Codings._revealed,
    Finalized: Codings._finalized,
    Written: Codings._written,
}


def plan_rows(
    ids: Sequence[str], coders: Sequence[str], double_share: float, seed: int, codings: Codings
) -> dict[str, tuple[str, ...]]:
    """Return the coders of each row.

    A share of the rows, drawn by a hash of the seed and the id, has two coders, so that a larger share adds rows and
    replaces none. Coders who have coded a row stay; every open place goes to the coder with the fewest rows.

    Args:
        ids: Rows to be coded.
        coders: Coders, possibly none.
        double_share: Share of the rows coded by two, in [0, 1]; rounded up to whole rows.
        seed: Decides which rows are coded twice and who codes what.
        codings: Codes so far.
    """
    order = sorted(ids, key=lambda ident: draw(seed, "rows", ident))
    doubled = set(order[: math.ceil(double_share * len(order) - 1e-9)])
    owners = {ident: list(codings.codes(ident)) for ident in order}
    load = {coder: sum(coder in each for each in owners.values()) for coder in coders}
    for ident in order:
        wanted = 2 if ident in doubled else 1
        while len(owners[ident]) < wanted and (free := [coder for coder in coders if coder not in owners[ident]]):
            least = min(free, key=lambda coder: (load[coder], draw(seed, coder, ident)))
            owners[ident].append(least)
            load[least] += 1
    return {ident: tuple(owners[ident]) for ident in ids}


def draw(seed: int, purpose: str, ident: str) -> bytes:
    """Return a pseudo-random number as bytes, by which rows are ordered: the SHA-256 of its arguments."""
    return hashlib.sha256(f"{seed}\n{purpose}\n{ident}".encode()).digest()


def work_list(coder: str, codings: Codings, ids: Iterable[str], seed: int) -> list[str]:
    """Return the ids of a coder's rows in the coder's own order, in which neighbours in the file are not neighbours.

    A row that the coder has coded stays in the list, also if it was given to somebody else since. A row that
    has got its label otherwise needs no code any more.
    """
    mine = [
        ident
        for ident in ids
        if codings.coding(coder, ident).code or (coder in codings.plan.get(ident, ()) and not codings.is_closed(ident))
    ]
    return sorted(mine, key=lambda ident: draw(seed, f"order of {coder}", ident))
