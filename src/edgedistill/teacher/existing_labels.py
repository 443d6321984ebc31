"""Labels that exist already: a table with an LLM's labels takes the place of a teacher that is asked.

ExistingLabels          the teacher; `code`, `label` and `gate` as those of `edgedistill.teacher.teacher.Teacher`
├── read_label_table    a table's rows by id, each with its votes or shares, or the reason why it has no label
└── join                what became of every row of the table in a project
"""

import difflib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from edgedistill.data.given_tables import fold_code
from edgedistill.data.project_tables import read_label_file, read_labels
from edgedistill.data.reading import RowCounts
from edgedistill.data.splitting import Splits
from edgedistill.data.spreadsheet_cells import cells_hint
from edgedistill.data.tables import is_empty_row
from edgedistill.data.twins import fold_text
from edgedistill.data.types import LabelSource, Response, SetAside, TeacherLabel, countable_labels
from edgedistill.errors import ArgumentError, DataError
from edgedistill.frames import Column, Rows, check_task, frame_of, responses_of, table_rows
from edgedistill.project.reading import checked_section
from edgedistill.project.schema import Project
from edgedistill.project.teacher import ExistingLabelsSection
from edgedistill.task import Task
from edgedistill.teacher.gating import GateVerdict, check_gate
from edgedistill.teacher.labelling import Labelling, LabellingProgress
from edgedistill.teacher.matching import match_label, match_labels
from edgedistill.teacher.parsing import FailureCause
from edgedistill.teacher.spending import Usage
from edgedistill.teacher.voting import Vote, count_multilabel_votes, count_votes
from edgedistill_serve.grading.header_rows import HeaderRows
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.task.task import Task as ScoredTask
from edgedistill_serve.task.task import join_labels, quote_columns, quote_label

if TYPE_CHECKING:  # pandas is imported only where a DataFrame is used
    from pandas import DataFrame

_SHOWN = 5  # values, rows or ids in a message
_ROUNDING = 0.005  # of a share, as in 0.33, 0.33, 0.33


class NoLabel(StrEnum):
    """Why a response has no label, beside those of `FailureCause` that apply."""

    NO_ROW = "no row in the table of labels"
    BLANK = "no label in the table of labels"
    MISSING_VOTE = "no label in one of the columns of votes"
    UNMATCHED = "a label that is not in the codebook"
    TIE = "the shares tie"


@dataclass(frozen=True, slots=True)
class TableLabel:
    """A row of the table.

    Attributes:
        row: Its number.
        label: Its label; None if it has none.
        reason: Why it has none.
        detail: More about the reason.
    """

    row: int
    label: TeacherLabel | None
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A table with an LLM's labels.

    Attributes:
        file: Its name.
        sha256: Of the file; of its cells for a DataFrame.
        read: Number of rows.
        labels: By id, its row.
        empty: Rows without any text.
        notes: What was assumed when it was read.
    """

    file: str
    sha256: str
    read: int
    labels: Mapping[str, TableLabel]
    empty: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableRows:
    """What became of every row of a table in a project; the counts are those of its other files.

    Attributes:
        counts: Rows by their use, and by the reason why they are not used.
        set_aside: The latter.
        unknown_ids: Ids that no row of the project has.
        notes: What was assumed when the table was read.
    """

    counts: RowCounts
    set_aside: tuple[SetAside, ...]
    unknown_ids: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def describe(self) -> Iterator[str]:
        """Yield what a person should read: the counts, and the ids that are not in the data."""
        used = ", ".join(f"{count} {what}" for what, count in self.counts.used.items())
        aside = ", ".join(f"{count} {reason}" for reason, count in self.counts.set_aside.items())
        more = f" + {len(self.set_aside)} set aside ({aside})" if aside else ""
        yield f"{self.counts.file}: {self.counts.read} rows read = {used}{more}"
        yield from self.notes
        if self.unknown_ids:
            yield (
                f"{self.counts.file}: {len(self.unknown_ids)} ids are not in the data: "
                f"{_some(map(repr, self.unknown_ids))}"
            )


class ExistingLabels:
    """A teacher whose labels exist already; nothing is asked and nothing is paid.

    Created by `Teacher.from_labels`, or for a project file's section ``teacher: {labels: FILE}``.

    Attributes:
        section: Its settings.
        task: The task.
        table: The labels.
    """

    def __init__(self, section: ExistingLabelsSection, task: ScoredTask, table: LabelTable) -> None:
        self.section, self.task, self.table = section, task, table

    @classmethod
    def from_project(cls, project: Project, section: ExistingLabelsSection) -> Self:
        """Read the table of one of a project's teachers.

        Raises:
            DataError: The table cannot be used; the message names its rows.
        """
        file, task = project.folder / section.labels, project.task.task
        read = read_label_file(project, section.labels, _columns(section, task), section.sheet)
        table = read_label_table(file.name, read.rows, section, task, lambda: _digest(file))
        return cls(section, task, replace(table, notes=read.notes))

    @classmethod
    def from_labels(
        cls, labels: "DataFrame | Path | str", *, task: Task, id_column: str = "id", **settings: Any
    ) -> Self:
        """Read a table; see `Teacher.from_labels`.

        Raises:
            ArgumentError: A setting is unknown or invalid.
            DataError: The table cannot be used; the message names its rows.
        """
        check_task(task)
        where = "Teacher.from_labels"
        is_file = isinstance(labels, str | Path)
        if not is_file and not hasattr(labels, "columns"):
            raise ArgumentError(f"labels must be a DataFrame or a file, not {type(labels).__name__}", where=where)
        given = {"labels": Path(labels) if isinstance(labels, str | Path) else Path("labels"), "id_column": id_column}
        section = checked_section(ExistingLabelsSection, {**given, **settings}, where)
        if isinstance(labels, str | Path):
            file = Path(labels)
            read = read_labels(file, _columns(section, task), HeaderRows(sheet=section.sheet))
            table = read_label_table(file.name, read.rows, section, task, lambda: _digest(file))
            return cls(section, task, replace(table, notes=read.notes))
        rows = list(table_rows(labels, id_column))
        digest = hashlib.sha256(json.dumps([[row.row, row.values] for row in rows]).encode()).hexdigest()
        return cls(section, task, read_label_table("labels", rows, section, task, lambda: digest))

    @property
    def source(self) -> LabelSource:
        """Where the labels come from."""
        section, table = self.section, self.table
        form: Literal["label", "votes", "shares"] = (
            "shares" if section.shares is not None else "votes" if section.votes else "label"
        )
        columns = section.columns or tuple(f"{section.shares}{name}" for name in self.task.names)
        return LabelSource(table.file, table.sha256, table.read, columns, form, section.model)

    def __repr__(self) -> str:
        usable = sum(each.label is not None for each in self.table.labels.values())
        return f"ExistingLabels({self.section.called!r}, rows={self.table.read}, labels={usable})"

    def code(
        self,
        responses: Sequence[Response],
        *,
        on_progress: Callable[[LabellingProgress], None] | None = None,
    ) -> Labelling:
        """Return the labels of responses, found by their ids.

        Args:
            responses: The responses.
            on_progress: Called once.
        """
        found = [self._of(response) for response in responses]
        if on_progress:
            on_progress(LabellingProgress(len(found), len(found), _NO_COST))
        return Labelling(
            tuple(each for each in found if isinstance(each, TeacherLabel)),
            tuple(each for each in found if isinstance(each, SetAside)),
            _NO_COST,
        )

    def _of(self, response: Response) -> TeacherLabel | SetAside:
        found = self.table.labels.get(response.id)
        if found is None:
            return SetAside(response.file, response.row, response.id, NoLabel.NO_ROW, self.table.file)
        if found.label is None:
            place = f"{self.table.file}, row {found.row}"
            detail = f"{place}: {found.detail}" if found.detail else place
            return SetAside(response.file, response.row, response.id, found.reason, detail)
        return found.label

    def label(self, X: Rows) -> "DataFrame":  # noqa: N803
        """Return the labels of responses.

        Args:
            X: As for `Teacher.label`; a row is found by its column ``id``, or by the index if it has none.

        Returns:
            ``X`` with the columns that `Teacher.label` adds.

        Raises:
            ArgumentError: The rows cannot be used, have one id twice, or already have one of these columns.
        """
        from edgedistill.teacher.teacher import label_frame, require_free_columns  # which creates this class

        frame = frame_of(X, self.task)
        confidence = bool(self.section.confidence)
        require_free_columns(frame, self.task, confidence=confidence)
        return label_frame(
            frame, self._labelling(frame, responses_of(frame, self.task)), self.task, confidence=confidence
        )

    def gate(
        self,
        X: Rows,  # noqa: N803
        y: Column = "label",
        *,
        groups: Column | None = None,
        coders: Sequence[str] = (),
        epsilon: float = 0.15,
    ) -> GateVerdict:
        """Compare the labels with human codes; the arguments are those of `Teacher.gate`.

        Raises:
            ArgumentError: Rows or codes cannot be used.
        """
        from edgedistill.teacher.teacher import gate_rows  # which creates this class

        frame, rows = gate_rows(X, y, self.task, groups, coders)
        labelling = self._labelling(frame, tuple(row.response for row in rows))
        return check_gate(self.section, labelling, rows, self.task, coders=coders, epsilon=epsilon)

    def _labelling(self, frame: "DataFrame", responses: Sequence[Response]) -> Labelling:
        """Return the labels of a frame's rows, whose responses have their positions as ids."""
        names = [str(each).strip() for each in frame.get("id", frame.index)]
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ArgumentError(
                f"two rows have the id {repeated[0]!r}", hint="Give each row a unique id in the column id."
            )
        places = {name: response.id for name, response in zip(names, responses, strict=True)}
        found = self.code([replace(response, id=name) for name, response in zip(names, responses, strict=True)])
        return Labelling(
            tuple(replace(each, id=places[each.id]) for each in found.labels),
            tuple(replace(each, id=places[each.id]) for each in found.set_aside),
            found.usage,
        )

    def join(self, splits: Splits, unlabelled: Sequence[Response], set_aside: Sequence[SetAside]) -> TableRows:
        """Return what became of every row of the table in a project.

        Raises:
            DataError: No id of the table is in the data.
        """
        table = self.table
        uses = {
            **{row.id: "" for row in set_aside if row.id},
            **{response.id: _TRAIN for response in splits.train.responses},
            **{response.id: "validation" for response in splits.validation.responses},
            **{response.id: "test" for response in splits.test.responses},
            **{response.id: "unlabelled" for response in unlabelled},
        }
        unknown = tuple(ident for ident in table.labels if ident not in uses)
        if len(unknown) == len(table.labels):
            own = _some((repr(ident) for ident in uses), 2) or "none"
            raise DataError(
                f"none of its {len(unknown)} ids ({_some(map(repr, unknown), 2)}) is in the data, whose ids are {own}",
                where=table.file,
                hint=f"Name the column of ids in id_column; it is {self.section.id_column!r} now.",
            )
        used: Counter[str] = Counter()
        aside = [SetAside(table.file, row, "", "empty row") for row in table.empty]
        for ident, found in table.labels.items():
            use = uses.get(ident)
            reason, detail = found.reason, found.detail
            if use is None:
                reason, detail = "id that is not in the data", ""
            elif not use:
                reason, detail = "label of a row that is set aside", ""
            elif use == _TRAIN:
                reason, detail = _TRAIN, ""
            if reason:
                aside.append(SetAside(table.file, found.row, ident, reason, detail))
            else:
                used[str(use)] += 1
        reasons = dict(Counter(each.reason for each in aside))
        return TableRows(
            RowCounts(table.file, table.sha256, table.read, dict(used), reasons), tuple(aside), unknown, table.notes
        )


_TRAIN = "label of a train row, which has a human code"
_NO_COST = Usage(nano_dollars=0)
_Label: TypeAlias = TeacherLabel | tuple[str, str]
"""A label, or the reason why there is none, with a detail."""


def read_label_table(
    file: str, rows: Iterable[TableRow], section: ExistingLabelsSection, task: ScoredTask, digest: Callable[[], str]
) -> LabelTable:
    """Read a table with an LLM's labels.

    A label is recognized in a cell as in a teacher's answer (`edgedistill.teacher.matching`). For a multilabel task a
    cell names all labels that hold, separated by ``;``, commas or line breaks, or as a JSON list.

    Args:
        file: Its name.
        rows: Its rows.
        section: Where the labels are.
        task: The codebook.
        digest: Returns the SHA-256, once the table is known to be valid.

    Raises:
        DataError: A column is missing, an id is missing or repeated, a share or confidence is not valid, or a label is
            not in the codebook.
    """
    reader = _Reader(file, section, task)
    found: dict[str, TableLabel] = {}
    empty: list[int] = []
    read = 0
    for row in rows:
        read += 1
        reader.require_columns(row)
        if is_empty_row(row):
            empty.append(row.row)
            continue
        ident = row.values[section.id_column].strip()
        if not ident:
            reader.fault(row.row, "the id is empty")
        elif ident in found:
            reader.fault(row.row, f"the id {ident!r} is already used in row {found[ident].row}")
        else:
            label = reader.label(ident, row)
            found[ident] = (
                TableLabel(row.row, label) if isinstance(label, TeacherLabel) else TableLabel(row.row, None, *label)
            )
    if not read:
        raise DataError("has no rows", where=file)
    reader.raise_if_any(found)
    return LabelTable(file, digest(), read, found, tuple(empty))


class _Reader:
    """Reads the labels of one table, and collects what is wrong with it."""

    def __init__(self, file: str, section: ExistingLabelsSection, task: ScoredTask) -> None:
        self._file, self._section, self._task = file, section, task
        self._faults: list[str] = []
        self._unmatched: dict[str, list[int]] = {}
        self._shares = _share_columns(section, task)
        self._columns = _columns(section, task)

    def fault(self, row: int, what: str) -> None:
        self._faults.append(f"row {row}: {what}")

    def require_columns(self, row: TableRow) -> None:
        missing = next((name for name in self._columns if name not in row.values), None)
        if missing is None:
            return
        there = [name for name in row.values if name in row.raw]  # and no key that stands for another column
        others = [name for name in there if name not in self._columns]
        near = difflib.get_close_matches(missing, others, n=1)
        raise DataError(
            f"there is no column {missing!r}; the columns are {quote_columns(there)}",
            where=f"{self._file}, row {row.row}",
            hint=(f"Did you mean {near[0]!r}? " if near else "") + _key_of(missing, self._section),
        )

    def raise_if_any(self, found: Mapping[str, TableLabel]) -> None:
        if self._faults:
            raise DataError(_some(self._faults, separator="; "), where=self._file, hint="Fix these rows.")
        if self._unmatched and (self._section.unmatched == "error" or not any(each.label for each in found.values())):
            known = countable_labels(self._task)
            raise DataError(
                f"labels that are not in the codebook: {_some(self._describe_unmatched(known), separator='; ')}",
                where=self._file,
                hint=f"The codebook has {', '.join(known)}. Rename them; or empty these cells, or write `unmatched: "
                f"set_aside`, and their rows are set aside.{cells_hint(self._unmatched)}",
            )
        if found and not any(each.label for each in found.values()):
            reasons = Counter(each.reason for each in found.values()).most_common()
            raise DataError(
                f"no row has a label ({', '.join(f'{count}: {reason}' for reason, count in reasons)})", where=self._file
            )

    def _describe_unmatched(self, known: Sequence[str]) -> Iterator[str]:
        spellings = {fold_text(name): name for name in known}
        for text, rows in self._unmatched.items():
            near = difflib.get_close_matches(fold_text(text), list(spellings), n=1)
            meant = f" (did you mean {spellings[near[0]]!r}?)" if near else ""
            yield f"{quote_label(text)} in {'row' if len(rows) == 1 else 'rows'} {_some(map(str, rows))}{meant}"

    def label(self, ident: str, row: TableRow) -> _Label:
        """Return the label of a row, or the reason why it has none."""
        return self._of_shares(ident, row) if self._shares else self._of_votes(ident, row)

    def _of_votes(self, ident: str, row: TableRow) -> _Label:
        section, task = self._section, self._task
        cells = [row.values[name] for name in section.columns]
        blank = [name for name, cell in zip(section.columns, cells, strict=True) if not cell.strip()]
        if len(blank) == len(cells):
            return NoLabel.BLANK, ""
        if blank:
            return NoLabel.MISSING_VOTE, ", ".join(blank)
        labels = [self._match(cell, row.row) for cell in cells]
        confidences = self._confidences(row)
        if None in labels:
            wrong = next(cell for cell, label in zip(cells, labels, strict=True) if label is None)
            return NoLabel.UNMATCHED, quote_label(wrong.strip())
        votes = [
            Vote(label, None, confidence)
            for label, confidence in zip(labels, confidences, strict=True)
            if label is not None
        ]
        if task.kind == "multilabel":
            names = [vote.label for vote in votes]
            found = count_multilabel_votes(ident, names, section.ties, section.called, task, confidences)
        else:
            found = count_votes(
                ident, votes, section.ties, section.called, soft_labels=section.soft_labels, labels=task.names
            )
        return found or (FailureCause.TIE, ", ".join(vote.label for vote in votes))

    def _match(self, cell: str, row: int) -> str | None:
        names = self._task.names
        if self._task.kind == "multilabel":
            matched = match_labels(_listed(cell), names) or match_labels(cell, names)
        else:
            matched = match_label(cell, names) or match_label(fold_code(cell), names)  # 1.0 of a column of numbers is 1
        if matched is None:
            self._unmatched.setdefault(cell.strip(), []).append(row)
        return matched

    def _confidences(self, row: TableRow) -> list[float | None]:
        columns = self._section.confidence
        return [self._share(row, name, blank=True) for name in columns] or [None] * len(self._section.columns)

    def _share(self, row: TableRow, column: str, *, blank: bool = False) -> float | None:
        """Return the number in [0, 1] in a column; None, with a fault, if it is none."""
        text = row.values[column].strip()
        if not text and blank:
            return None
        try:
            number = float(text.replace(",", "."))  # a spreadsheet may have put a decimal comma
        except ValueError:
            number = math.nan
        if not 0 <= number <= 1:
            percent = "; write percent as a share" if 2 <= number <= 100 else ""
            found = f"is {quote_label(text)}" if text else "is missing"
            self.fault(row.row, f"{column} {found}, which must be a number from 0 to 1{percent}")
            return None
        return number

    def _of_shares(self, ident: str, row: TableRow) -> _Label:
        task = self._task
        if not any(row.values[column].strip() for column in self._shares.values()):
            return NoLabel.BLANK, ""
        read = {name: self._share(row, column) for name, column in self._shares.items()}
        shares = {name: share for name, share in read.items() if share is not None}
        if len(shares) < len(read):
            return NoLabel.BLANK, ""  # a fault, so that the table is not used
        if task.kind == "multilabel":
            return self._label_set(ident, shares)
        total = math.fsum(shares.values())
        if abs(total - 1) > _ROUNDING * len(shares) + 1e-9:
            self.fault(row.row, f"the shares sum to {total:.6g}; they must sum to 1")
            return NoLabel.BLANK, ""
        shares = {name: share / total for name, share in shares.items() if share}
        best, *others = sorted(shares, key=lambda name: -shares[name])
        if others and math.isclose(shares[best], shares[others[0]], rel_tol=1e-9):
            return NoLabel.TIE, ", ".join(name for name in shares if math.isclose(shares[name], shares[best]))
        return self._from_shares(ident, best, shares[best], shares)

    def _label_set(self, ident: str, shares: Mapping[str, float]) -> _Label:
        if tied := [name for name, share in shares.items() if share == 0.5]:
            return NoLabel.TIE, ", ".join(tied)
        label = join_labels([name for name, share in shares.items() if share > 0.5], self._task)
        # The share of votes for just this set is not known; it is at most the smallest of these.
        consistency = min(max(share, 1 - share) for share in shares.values())
        return self._from_shares(ident, label, consistency, {name: share for name, share in shares.items() if share})

    def _from_shares(self, ident: str, label: str, consistency: float, shares: Mapping[str, float]) -> TeacherLabel:
        return TeacherLabel(ident, label, consistency, shares, (label,), self._section.called, "shares")


def _share_columns(section: ExistingLabelsSection, task: ScoredTask) -> dict[str, str]:
    """Return the column of each label's shares; none if there are no shares."""
    return {} if section.shares is None else {name: f"{section.shares}{name}" for name in task.names}


def _columns(section: ExistingLabelsSection, task: ScoredTask) -> tuple[str, ...]:
    """Return all columns that are read, that of the ids first."""
    return (section.id_column, *section.columns, *_share_columns(section, task).values(), *section.confidence)


def _listed(cell: str) -> object:
    """Return a JSON list of labels, as LLMs write it; else None."""
    text = cell.strip()
    if not text.startswith("["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _key_of(column: str, section: ExistingLabelsSection) -> str:
    if column == section.id_column:
        return "Name the column of ids in id_column."
    if section.votes or column in section.confidence:
        return "votes and confidence name columns of the table."
    if section.shares is not None:
        return "shares is how the names of the columns begin: `shares: share_` for share_LABEL, one for each label."
    return "Name the column of labels in label_column, columns of votes in votes, or columns of shares in shares."


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _some(items: Iterable[str], shown: int = _SHOWN, separator: str = ", ") -> str:
    """Join the first items, and say how many more there are."""
    every = list(items)
    more = f"{separator}and {len(every) - shown} more" if len(every) > shown else ""
    return separator.join(every[:shown]) + more


def describe_missing_rows(verdict: Mapping[str, Any]) -> str:
    """Return which validation rows a table of labels lacks; empty if none, or if the teacher was asked.

    Args:
        verdict: Its entry in `gate.json`.
    """
    files = [row["detail"] for row in verdict["set_aside"] if row["reason"] == NoLabel.NO_ROW]
    if not files:
        return ""
    return f"Add the labels of {len(files)} validation row{'s' * (len(files) != 1)} to {files[0]}."
