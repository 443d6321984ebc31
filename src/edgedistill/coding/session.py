"""A project that is being coded: everything that the page can do, as methods, each on disk before it returns."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.coding.changes import (
    compare_cells,
    describe_codebook_changes,
    merge,
    read_edited_cells,
    unknown_labels,
    withdraw_rows,
    withdraw_unknown_labels,
)
from edgedistill.coding.codings import Coding, Codings, plan_rows, work_list
from edgedistill.coding.figures import FOLDER, CodingSummary, coder_agreement, journal_file
from edgedistill.coding.journal import (
    AnyEvent,
    Coded,
    CoderJoined,
    CoderLeft,
    Drafted,
    Finalized,
    Flagged,
    Journal,
    Memo,
    Noted,
    Opened,
    Planned,
    Revealed,
    Skipped,
    Written,
)
from edgedistill.coding.table import CodingTable, read_table, write_cells
from edgedistill.data.twins import fold_text
from edgedistill.data.types import CODE_COLUMN, canonical_code
from edgedistill.decisions.coding_sheet import PROBABILITY_COLUMN, SUGGESTION_COLUMNS
from edgedistill.errors import ArgumentError, DataError, EdgeDistillError, RunError
from edgedistill.project.schema import Project
from edgedistill_serve.bundle.atomic_folder import replace_file
from edgedistill_serve.grading.delimited import write_records
from edgedistill_serve.grading.formula_cells import looks_like_formula
from edgedistill_serve.task.task import INPUTS, list_some, quote_label

DOUBLE_SHARE = 0.2
KAPPA_AFTER = 20
AGREEMENT_STEP = 5
_LABEL = "label"
_RESERVED = ("id", "split", _LABEL, CODE_COLUMN, PROBABILITY_COLUMN, *INPUTS, *SUGGESTION_COLUMNS)
_NAME_CHARACTERS = 60
_TEXT_CHARACTERS = 5000


class Conflict(EdgeDistillError):
    """A row was changed in another tab, or does not change any more.

    Args:
        what: The problem.
        row: The row as it is now.
    """

    def __init__(self, what: str, row: Mapping[str, Any]) -> None:
        super().__init__(what)
        self.row = row


@dataclass(frozen=True, slots=True, kw_only=True)
class CodingOptions:
    """How a table is coded.

    Attributes:
        sheet: A coding sheet of `edgedistill review`; None: the rows of ``data.human`` without a label.
        coders: Names of coders, besides those of ``evaluation.coders``; others can join on the page.
        double_share: Share of the rows coded by two, in [0, 1]; None: as before, at first `DOUBLE_SHARE`.
        seed: Decides which rows are coded twice, who codes what and in which order; None: as before, at first 0.
        kappa_after: Number of double-coded rows from which on the page shows agreement, at least 1.
        recode: Whether to give rows back to their coders whose codes do not fit any more, because the codebook lost
            their label or their response was changed. Otherwise that is an error.

    Raises:
        ArgumentError: A number is outside its range.
    """

    sheet: Path | None = None
    coders: tuple[str, ...] = ()
    double_share: float | None = None
    seed: int | None = None
    kappa_after: int = KAPPA_AFTER
    recode: bool = False

    def __post_init__(self) -> None:
        if self.double_share is not None and not 0 <= self.double_share <= 1:
            raise ArgumentError(f"the share of double-coded rows must be from 0 to 1, not {self.double_share}")
        if self.kappa_after < 1:
            raise ArgumentError(f"agreement is shown from at least 1 row on, not {self.kappa_after}")


class CodingSession:
    """A table that is being coded; use it as a context manager, and from one thread.

    Every method that changes something returns after the change is in the journal, synced to the disk. Only one process
    at a time can open a project for coding.

    Args:
        project: The project.
        options: How the table is coded.

    Attributes:
        project: The project.
        codings: The state.
        table: The table, as it was read when the session was opened.
        notices: What coders should know, such as a changed codebook.

    Raises:
        RunError: Another process codes this project.
        DataError: The table or the journal cannot be used, there is nothing to code, or codes do not fit any more.
    """

    def __init__(self, project: Project, options: CodingOptions | None = None) -> None:
        options = options or CodingOptions()
        self.project = project
        self.notices: list[str] = []
        self._task = project.task.task
        self._options = options
        self._path = (project.folder / project.data.human) if options.sheet is None else options.sheet.resolve()
        self._agreement: tuple[dict[str, Any], bool] | None = None
        self._name = Path(os.path.relpath(self._path, project.folder)).as_posix()
        journal = journal_file(project, options.sheet)
        self._folder = journal.parent
        self._lock = self._acquire()
        try:
            self._journal = Journal(journal)
        except BaseException:
            self._lock.release()
            raise
        try:
            self.codings = Codings()
            for event in self._journal.events:
                self.codings.apply(event)
            self.table = self._read_table()
            self._open()
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the table and let other processes open the project.

        Raises:
            DataError: The table cannot be written; all codes are in the journal.
        """
        try:
            self.write()
        finally:
            self._release()

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the rows that are to be coded, in file order."""
        return tuple(ident for ident in self.table.responses if ident in self.codings.plan)

    @property
    def label_column(self) -> str:
        """The column for the label on which the coders agree."""
        return CODE_COLUMN if self._options.sheet is not None and CODE_COLUMN in self.table.columns else _LABEL

    # What the page shows

    def overview(self) -> dict[str, Any]:
        """Return what everybody may see: codebook, coders and their progress, memos, notices."""
        settings = self._settings
        return {
            "project": self.project.name,
            "file": self._path.name,
            "kind": self._task.kind,
            "instructions": self.project.task.instructions,
            "labels": [{"name": label.name, "definition": label.definition} for label in self._task.labels],
            "inputs": list(self._task.inputs),
            "coders": [{"name": coder, **self._progress(coder)} for coder in self.codings.coders],
            "memos": [
                {"by": each.by, "label": each.label, "text": each.text, "time": each.time}
                for each in self.codings.memos
            ],
            "notices": self.notices,
            "double_share": settings.double_share,
            "totals": self._totals(),
        }

    def rows(self, coder: str) -> list[dict[str, Any]]:
        """Return the rows of a coder in their order, with this coder's codes only.

        Raises:
            DataError: Nobody of this name codes.
        """
        self._known(coder)
        order = work_list(coder, self.codings, self.ids, self._settings.seed)
        return [{**self._row(coder, ident), "inputs": dict(self.table.responses[ident].inputs)} for ident in order]

    def agreement(self) -> dict[str, Any]:
        """Return the agreement of the coders on double-coded rows, with 95 % intervals, and messages about it.

        The figures are absent until `CodingOptions.kappa_after` rows are double-coded. Then they stay as they are until
        `AGREEMENT_STEP` more rows are, or all: who changes a single code must not see from them whether it is another
        coder's.
        """
        ids = self.ids
        is_all = all(self._is_finished(ident) for ident in ids)
        if self._agreement is not None:
            shown, was_all = self._agreement
            double_coded = sum(len(self.codings.codes(ident)) > 1 for ident in ids)
            if double_coded < shown["rows"] + AGREEMENT_STEP and (was_all or not is_all):
                return shown
        found = coder_agreement(self.codings, ids, self._task, groups=self._groups(), needed=self._options.kappa_after)
        if found["rows"] >= found["needed"]:
            self._agreement = found, is_all
        return found

    def disputes(self) -> list[dict[str, Any]]:
        """Return the revealed rows with all codes and notes, those without a final label first."""
        ids = [ident for ident in self.ids if ident in self.codings.revealed]
        ids.sort(key=lambda ident: ident in self.codings.finals)
        return [self._dispute(ident) for ident in ids]

    # What the page does

    def join(self, coder: str) -> None:
        """Add a coder; rows that nobody has coded are distributed again.

        Raises:
            DataError: The name cannot be the name of a column.
            NotSaved: The disk does not take it.
        """
        if coder in self.codings.coders:
            return
        is_free = coder in self.codings.by_coder or not any(self.table.cell(coder, i) for i in self.table.responses)
        self._check_name(coder, is_column=is_free)
        self._save(CoderJoined(by=coder))
        self._plan()

    def leave(self, coder: str) -> None:
        """Give the rows that a coder has not coded to the others; the coder's codes stay.

        Raises:
            DataError: Nobody of this name codes.
            NotSaved: The disk does not take it.
        """
        self._known(coder)
        self._save(CoderLeft(by="", coder=coder))
        self._plan()

    def code(self, coder: str, ident: str, code: str, seen: int) -> dict[str, Any]:
        """Give a row a code; an empty one withdraws it.

        Args:
            coder: Who codes.
            ident: The row's id.
            code: A label; for a multilabel task labels joined by ``;``, or ``none``.
            seen: The revision of the row that the coder sees.

        Returns:
            The row.

        Raises:
            Conflict: The row has changed since, or is in adjudication.
            DataError: Coder, id or code is unknown.
            NotSaved: The disk does not take it; the code does not count.
        """
        code = canonical_code(code, self._task) if code else ""
        return self._act(coder, ident, seen, lambda coding: coding.code == code, Coded(by=coder, id=ident, code=code))

    def draft(self, coder: str, ident: str, code: str, seen: int) -> dict[str, Any]:
        """Save labels of a multilabel row that are not confirmed; as `code`."""
        code = canonical_code(code, self._task) if code else ""
        return self._act(
            coder, ident, seen, lambda coding: coding.draft == code, Drafted(by=coder, id=ident, code=code)
        )

    def note(self, coder: str, ident: str, text: str, seen: int) -> dict[str, Any]:
        """Save a coder's note on a row; as `code`."""
        text = _checked_text(text)
        event = Noted(by=coder, id=ident, text=text)
        return self._act(coder, ident, seen, lambda coding: coding.note == text, event, is_code=False)

    def flag(self, coder: str, ident: str, on: bool, seen: int) -> dict[str, Any]:
        """Ask for a discussion of a row, or no longer; as `code`."""
        event = Flagged(by=coder, id=ident, on=on)
        return self._act(coder, ident, seen, lambda coding: coding.flagged == on, event)

    def skip(self, coder: str, ident: str, seen: int) -> dict[str, Any]:
        """Leave a row for later; as `code`."""
        return self._act(coder, ident, seen, lambda coding: coding.skipped > 0, Skipped(by=coder, id=ident))

    def undo(self, coder: str) -> dict[str, Any] | None:
        """Take back the coder's last code, and return its row; None if there is nothing to take back.

        Raises:
            Conflict: The row is in adjudication.
            DataError: Nobody of this name codes.
            NotSaved: The disk does not take it.
        """
        self._known(coder)
        history = self.codings.history.get(coder, [])
        while history and history[-1][0] not in self.table.responses:
            history.pop()
        if not history:
            return None
        ident, before = history[-1]
        self._open_for_codes(coder, ident)
        if unknown_labels(before, self._task):
            before = ""  # the codebook has lost it since
        self._save(Coded(by=coder, id=ident, code=before, source="undo"))
        return self._row(coder, ident)

    def memo(self, by: str, label: str, text: str) -> None:
        """Add a memo on a label, or on the codebook, that all coders see from then on.

        Raises:
            DataError: The label is unknown, or there is no text.
            NotSaved: The disk does not take it.
        """
        if label and label not in self._task.names:
            raise DataError(f"the codebook has no label {quote_label(label)}")
        if not text.strip():
            raise DataError("the memo has no text")
        self._save(Memo(by=by, label=label, text=_checked_text(text)))

    def reveal(self, by: str) -> list[dict[str, Any]]:
        """Open the adjudication of all disputed rows; their codes do not change any more.

        Returns:
            As `disputes`.

        Raises:
            NotSaved: The disk does not take it.
        """
        ids = tuple(ident for ident in self.ids if self._is_new_dispute(ident))
        if ids:
            self._save(Revealed(by=by, ids=ids))
        return self.disputes()

    def finalize(self, by: str, ident: str, label: str, note: str, seen: int) -> dict[str, Any]:
        """Decide the label of a revealed row.

        Args:
            by: Who decides.
            ident: The row's id.
            label: The label; empty to reopen the decision.
            note: Why.
            seen: The revision of the decision that the page shows; 0 for none.

        Returns:
            The row with all codes.

        Raises:
            Conflict: The decision has changed since.
            DataError: The row is not revealed, or the label is unknown.
            NotSaved: The disk does not take it.
        """
        if ident not in self.codings.revealed or ident not in self.table.responses:
            raise DataError(f"the row {ident!r} is not in adjudication")
        label, note = canonical_code(label, self._task) if label else "", _checked_text(note)
        final = self.codings.finals.get(ident)
        if (final.revision if final else 0) != seen:
            if final and (final.label, final.note) == (label, note):
                return self._dispute(ident)
            raise Conflict("this decision was changed in another tab", self._dispute(ident))
        self._save(Finalized(by=by, id=ident, label=label, note=note))
        return self._dispute(ident)

    def write(self) -> int:
        """Write codes and labels into the table, and all codes and notes into ``codings.csv``.

        Cells that somebody changed by hand since they were last written are left as they are; they are read when the
        project is opened for coding again.

        Returns:
            The number of cells that were left.

        Raises:
            DataError: The table cannot be read or written; all codes are in the journal.
        """
        table = self._read_table()  # as it is now
        changes = compare_cells(self.codings, table, self.label_column, self._task)
        version = write_cells(table, changes.new, self._folder / "versions") if changes.new else ""
        if version or changes.same:
            self._save(Written(by="", cells=merge(changes.same, changes.new), version=version))
            self._write_codings()
        return changes.by_hand

    def summary(self) -> CodingSummary:
        """Return where the codes come from so far."""
        return CodingSummary.from_codings(self.codings, self.ids)

    # Opening

    def _acquire(self) -> FileLock:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.project.folder / FOLDER / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                "another process codes this project",
                where=str(self.project.path),
                hint="Several coders use the page of one `edgedistill code`: open its link, or end it first.",
            ) from None
        except OSError as error:
            raise DataError(f"cannot be written ({error.strerror})", where=str(self._folder)) from None
        return lock

    def _release(self) -> None:
        self._journal.close()
        self._lock.release()

    def _read_table(self) -> CodingTable:
        return read_table(self.project, self._path)

    def _open(self) -> None:
        before = self.codings.codebook
        if before and before.file != self._name and (self.project.folder / before.file).exists():
            raise DataError(
                f"these codes belong to {before.file}", where=str(self._folder), hint="Give the sheet another name."
            )
        self._recode()
        self._compare_codebook(before)
        self._add_coders()
        labels = self.table.codes(self.label_column, self._task, self.codings.written.get(self.label_column, {}))
        free = [ident for ident in self.table.responses if ident in self.codings.plan or ident not in labels]
        if not free:
            raise DataError(
                f"every row has a {self.label_column}: there is nothing to code",
                where=self._path.name,
                hint="Add rows with an empty label.",
            )
        if edited := read_edited_cells(self.codings, self.table, set(free), self.label_column, self._task):
            self._save(*edited)
        self._plan(free)
        if gone := [ident for ident in self.codings.plan if ident not in self.table.responses]:
            self.notices.append(
                f"{len(gone)} rows that were planned or coded are no longer in {self._path.name} ({list_some(gone)}); "
                "their codes are kept in the journal and count again when the rows are back."
            )
        self.write()

    def _recode(self) -> None:
        """Withdraw codes that do not fit any more, if that is wanted."""
        unknown, events = withdraw_unknown_labels(self.codings, self._task)
        if unknown and not self._options.recode:
            count = len({event.id for event in events if isinstance(event, Coded | Finalized)})
            raise DataError(
                f"{count} rows were coded with an older codebook, by labels that it no longer has: "
                f"{', '.join(map(quote_label, unknown))}",
                where=str(self._journal.path),
                hint="Put the labels back into the project file, or give these rows back to their coders with "
                "--recode; the codes stay in the journal.",
            )
        if events:
            self._save(*events)
        texts, codings = self.table.texts, self.codings
        changed = [i for i, text in codings.texts.items() if i in texts and texts[i] != text and codings.codes(i)]
        if changed and not self._options.recode:
            raise DataError(
                f"the responses of {len(changed)} rows were changed after they were coded: {list_some(changed)}",
                where=self._path.name,
                hint="Restore the responses, or give these rows back to their coders with --recode; the codes stay in "
                "the journal.",
            )
        if changed:
            self._save(*withdraw_rows(codings, changed))

    def _compare_codebook(self, before: Opened | None) -> None:
        options, task = self._options, self._task
        now = Opened(
            by="",
            file=self._name,
            kind=task.kind,
            labels={label.name: label.definition for label in task.labels},
            instructions=hashlib.sha256(self.project.task.instructions.encode()).hexdigest(),
            seed=options.seed if options.seed is not None else before.seed if before else 0,
            double_share=(
                options.double_share
                if options.double_share is not None
                else before.double_share
                if before
                else DOUBLE_SHARE
            ),
        )
        if before:
            parts = describe_codebook_changes(before, now)
            if parts and any(self.codings.by_coder.values()):
                self.notices.append(
                    f"The codebook has changed since {before.time[:10]} ({', '.join(parts)}). Codes given before "
                    "follow the older one: look through your rows again."
                )
        if not before or _settings_of(now) != _settings_of(before):
            self._save(now)

    def _add_coders(self) -> None:
        for coder in dict.fromkeys((*self.project.evaluation.coders, *self._options.coders)):
            if coder not in self.codings.coders and coder not in self.codings.by_coder:
                self._check_name(coder, is_column=True)
                self._save(CoderJoined(by=coder))

    def _plan(self, ids: Iterable[str] | None = None) -> None:
        rows = tuple(self.ids if ids is None else ids)
        settings = self._settings
        plan = plan_rows(rows, self.codings.coders, settings.double_share, settings.seed, self.codings)
        texts = {i: self.table.texts[i] for i in rows if self.codings.texts.get(i) != self.table.texts[i]}
        changed = {ident: coders for ident, coders in plan.items() if self.codings.plan.get(ident) != coders}
        if changed or texts:
            self._save(Planned(by="", rows=changed, texts=texts))

    # Parts of the methods above

    @property
    def _settings(self) -> Opened:
        assert self.codings.codebook is not None  # noqa: S101  # set when the session was opened
        return self.codings.codebook

    def _save(self, *events: AnyEvent) -> None:
        for event in self._journal.append(*events):
            self.codings.apply(event)

    def _known(self, coder: str) -> None:
        if coder not in self.codings.coders:
            raise DataError(f"this project has no coder {coder!r}", hint="Choose a name, or add it.")

    def _check_name(self, coder: str, *, is_column: bool) -> None:
        taken = {fold_text(name): name for name in (*_RESERVED, *self.project.evaluation.subgroups)}
        if self.project.data.group_by:
            taken[fold_text(self.project.data.group_by)] = self.project.data.group_by
        if not is_column:
            taken |= {fold_text(name): name for name in self.table.columns}
        taken |= {fold_text(name): name for name in self.codings.by_coder if name != coder}
        taken |= {fold_text(name): name for name in self.codings.coders if name != coder}
        if not coder.strip() or coder != coder.strip() or not coder.isprintable() or looks_like_formula(coder):
            raise DataError(f"{quote_label(coder)} cannot be a coder's name", hint="Use letters and digits.")
        if len(coder) > _NAME_CHARACTERS:
            raise DataError(f"a coder's name has at most {_NAME_CHARACTERS} characters")
        if other := taken.get(fold_text(coder)):
            raise DataError(
                f"there is already a coder or a column {other!r}",
                where=self._path.name,
                hint="Choose another name. If the column has this coder's codes, name it in evaluation.coders.",
            )

    def _act(
        self,
        coder: str,
        ident: str,
        seen: int,
        is_done: Callable[[Coding], bool],
        event: AnyEvent,
        *,
        is_code: bool = True,
    ) -> dict[str, Any]:
        self._known(coder)
        if ident not in self.table.responses or ident not in self.codings.plan:
            raise DataError(f"there is no row {ident!r} to code", where=self._path.name)
        coding = self.codings.coding(coder, ident)
        if is_done(coding) and coding.revision:
            return self._row(coder, ident)  # the answer to the first request was lost, or another tab did the same
        if is_code:
            self._open_for_codes(coder, ident)
        if coding.revision != seen:
            raise Conflict("this row was changed in another tab; nothing was saved", self._row(coder, ident))
        self._save(event)
        if isinstance(event, Coded) and coder not in self.codings.plan[ident]:  # it was given to somebody else since
            self._plan()
        return self._row(coder, ident)

    def _open_for_codes(self, coder: str, ident: str) -> None:
        if self.codings.is_closed(ident):
            raise Conflict("this row is in adjudication; its codes do not change any more", self._row(coder, ident))

    def _row(self, coder: str, ident: str) -> dict[str, Any]:
        coding = self.codings.coding(coder, ident)
        return {
            "id": ident,
            "code": coding.code,
            "draft": coding.draft,
            "note": coding.note,
            "flagged": coding.flagged,
            "skipped": coding.skipped,
            "revision": coding.revision,
            "closed": self.codings.is_closed(ident),
        }

    def _dispute(self, ident: str) -> dict[str, Any]:
        final = self.codings.finals.get(ident)
        codings = {coder: rows[ident] for coder, rows in self.codings.by_coder.items() if ident in rows}
        return {
            "id": ident,
            "inputs": dict(self.table.responses[ident].inputs),
            "codes": [
                {"coder": coder, "code": each.code, "note": each.note, "flagged": each.flagged}
                for coder, each in codings.items()
            ],
            "label": final.label if final else "",
            "note": final.note if final else "",
            "by": final.by if final else "",
            "revision": final.revision if final else 0,
        }

    def _is_new_dispute(self, ident: str) -> bool:
        codings = self.codings
        return not codings.is_closed(ident) and codings.is_disputed(ident)

    def _progress(self, coder: str) -> dict[str, int]:
        mine = work_list(coder, self.codings, self.ids, 0)
        return {"rows": len(mine), "coded": sum(bool(self.codings.coding(coder, ident).code) for ident in mine)}

    def _is_finished(self, ident: str) -> bool:
        return self.codings.is_complete(ident) or self.codings.is_closed(ident)

    def _totals(self) -> dict[str, int]:
        """Return numbers of rows that depend on no code, since every coder sees them at any time."""
        ids = self.ids
        return {
            "rows": len(ids),
            "finished": sum(map(self._is_finished, ids)),
            "adjudicated": sum(ident in self.codings.finals for ident in ids),
        }

    def _groups(self) -> dict[str, str] | None:
        groups = bootstrap_groups([self.table.responses[ident].group for ident in self.ids])
        return dict(zip(self.ids, groups, strict=True)) if groups else None

    def _write_codings(self) -> None:
        """Write every code and note as one line, for readers of the paper."""
        lines: list[list[object]] = [
            ["id", "coder", "code", "time", "note", "flagged", "label", "adjudicator", "reason"]
        ]
        for coder, rows in self.codings.by_coder.items():
            for ident, coding in rows.items():
                final = self.codings.finals.get(ident)
                decided = (final.by, final.note) if final else ("", "")
                values = (coding.code, coding.time, coding.note, "yes" if coding.flagged else "")
                lines.append([ident, coder, *values, self.codings.label(ident), *decided])
        text = io.StringIO(newline="")
        write_records(text, lines)
        try:
            replace_file(self._folder / "codings.csv", text.getvalue().encode())
        except OSError as error:
            raise DataError(
                f"cannot be written ({error.strerror}); the codes are safe in the journal",
                where=str(self._folder / "codings.csv"),
            ) from None


def _settings_of(event: Opened) -> dict[str, Any]:
    return {name: getattr(event, name) for name in ("file", "kind", "labels", "instructions", "seed", "double_share")}


def _checked_text(text: str) -> str:
    if len(text) > _TEXT_CHARACTERS:
        raise DataError(f"a note has at most {_TEXT_CHARACTERS} characters")
    return text


__all__ = ["CodingOptions", "CodingSession", "Conflict"]
