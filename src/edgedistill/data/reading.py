"""Reads all rows of a project: the splits of coded rows, the rows to label, and counts for every file."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from edgedistill.data.project_tables import ProjectTable, read_project_table
from edgedistill.data.splitting import Splits, split_rows
from edgedistill.data.tables import CodedRow, Columns, FileRows, read_coded, read_reviewed, read_uncoded
from edgedistill.data.twins import NEAR_DUPLICATE, Twin, find_twins, same_group, same_row
from edgedistill.data.types import Population, Response, SetAside, TrainRows, ValidationRows
from edgedistill.errors import DataError
from edgedistill.project.data import SheetOf
from edgedistill.project.schema import Project


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Row counts of a file: ``read == sum(used.values()) + sum(set_aside.values())``."""

    file: str
    sha256: str
    read: int
    used: dict[str, int]
    set_aside: dict[str, int]


@dataclass(frozen=True, slots=True)
class Records:
    """Every row of a project.

    Attributes:
        splits: The human-coded rows.
        unlabelled: Responses for the teacher. None is the same to a student as a human-coded row, nearly the same as a
            validation or test row, or shares a group with them.
        set_aside: Rows that are not used, with reasons.
        row_counts: One per file.
        notes: What was assumed when the files were read, such as their encoding; and the notes of the splits.
    """

    splits: Splits
    unlabelled: tuple[Response, ...]
    set_aside: tuple[SetAside, ...]
    row_counts: tuple[RowCounts, ...]
    notes: tuple[str, ...] = ()


def read_records(project: Project) -> Records:
    """Read a project's files.

    Raises:
        DataError: A file or row cannot be used; the message names the file, the row and the fix.
    """
    data = project.data
    columns = _columns(project)
    human_file = project.folder / data.human
    table = read_project_table(project, data.human, "human")
    notes = [*table.notes]
    coded = read_coded(data.human.name, table.rows, columns)
    near = near_duplicate(project)
    splits = split_rows(data.human.name, coded.rows, data.split, project.task.task, near, held_out=held_out(project))
    sizes = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    row_counts, aside = [_row_counts(human_file, coded.read, sizes, coded.set_aside)], [*coded.set_aside]
    if data.reviewed is not None and (file := project.folder / data.reviewed).exists():
        table = read_project_table(project, data.reviewed)
        notes += table.notes
        reviewed = read_reviewed(data.reviewed.name, table.rows, columns)
        splits, used, reviewed_aside = _with_reviewed(reviewed, splits, near, held_out=held_out(project))
        row_counts.append(_row_counts(file, reviewed.read, used, reviewed_aside))
        aside += reviewed_aside
    if data.unlabelled is None:
        return Records(splits, (), tuple(aside), tuple(row_counts), (*notes, *splits.notes))
    table = read_project_table(project, data.unlabelled, "unlabelled")
    notes += [note for note in table.notes if note not in notes]
    uncoded = _read_responses(project, data.unlabelled, table, splits)
    file = project.folder / data.unlabelled
    row_counts.append(_row_counts(file, uncoded.read, {"to label": len(uncoded.rows)}, uncoded.set_aside))
    return Records(splits, uncoded.rows, (*aside, *uncoded.set_aside), tuple(row_counts), (*notes, *splits.notes))


def read_responses(project: Project, file: Path, splits: Splits) -> FileRows[Response]:
    """Read uncoded responses.

    Those that are the same to a student as a human-coded row, nearly the same as a validation or test row, or that
    share a group with such rows, are set aside; see `edgedistill.data.twins`.

    Args:
        project: Defines its columns.
        file: Relative to the project file's folder, or absolute.
        splits: The human-coded rows.

    Raises:
        DataError: The file or a row cannot be used; the message names the file, the row and the fix.
    """
    return _read_responses(project, file, read_project_table(project, file, _kind(project, file)), splits)


def _read_responses(project: Project, file: Path, table: ProjectTable, splits: Splits) -> FileRows[Response]:
    uncoded = read_uncoded(file.name, table.rows, _columns(project))
    return _without_twins(uncoded, splits, near_duplicate(project), held_out=held_out(project))


def read_all_responses(project: Project, file: Path) -> tuple[Response, ...]:
    """Read uncoded responses, also those that `read_responses` sets aside because of human-coded rows.

    Args:
        project: Defines its columns.
        file: Relative to the project file's folder, or absolute.

    Raises:
        DataError: The file or a row cannot be used; the message names the file, the row and the fix.
    """
    return read_uncoded(file.name, read_project_table(project, file, _kind(project, file)).rows, _columns(project)).rows


def read_population(project: Project, file: Path, splits: Splits) -> Population:
    """Read the responses on which label prevalence is estimated; duplicates count every time.

    A response that duplicates a human-coded one of any split takes its human code. Where a text has several codes, its
    duplicates take them in turn, in the order of the human-coded rows.

    Args:
        project: Defines its columns.
        file: Relative to the project file's folder, or absolute.
        splits: The human-coded rows.

    Raises:
        DataError: The file or a row cannot be used, or no row can; the message names the file, the row and the fix.
    """
    columns = replace(_columns(project), question_by=None)  # nothing is trained or chosen on these rows
    uncoded = read_uncoded(file.name, read_project_table(project, file, "population").rows, columns)
    if not uncoded.rows:
        reasons = "; ".join(f"{rows} {reason}" for reason, rows in _by_reason(uncoded.set_aside).items())
        raise DataError(
            f"none of its {uncoded.read} rows can be used ({reasons})",
            where=file.name,
            hint="Name another file in evaluation.population, or remove the key.",
        )
    coded = [row for rows in (splits.train, splits.validation, splits.test) for row in rows]
    ids = {row.response.id: row.response for row in coded}
    codes: dict[tuple[str, ...], list[str]] = {}
    for row in coded:
        codes.setdefault(same_row(row.response.inputs), []).append(row.label)
    in_turn = {text: cycle(of_text) for text, of_text in codes.items()}
    known, others = [], []
    for response in uncoded.rows:
        if twin := ids.get(response.id):
            _expect_same(twin, response)
        if human := in_turn.get(same_row(response.inputs)):
            known.append(next(human))
        else:
            others.append(response)
    return Population(uncoded.file, uncoded.read, tuple(known), tuple(others), uncoded.set_aside)


def _kind(project: Project, file: Path) -> SheetOf | None:
    """Return ``unlabelled`` for that file, which may be another sheet of the workbook of `data.human`."""
    return "unlabelled" if file == project.data.unlabelled else None


def _columns(project: Project) -> Columns:
    data, evaluation = project.data, project.evaluation
    groups = (project.review.groups,) if project.review and project.review.groups else ()
    subgroups = tuple(dict.fromkeys((*evaluation.subgroups, *groups)))
    return Columns(
        project.task.task, data.group_by, data.max_characters, evaluation.coders, subgroups, data.question_by
    )


def held_out(project: Project) -> bool:
    """Whether whole questions of a project are held out."""
    return project.data.questions == "held_out"


def near_duplicate(project: Project) -> float:
    """Return the similarity from which two rows of a project are nearly the same."""
    return project.generate.near_duplicate if project.generate else NEAR_DUPLICATE


def _with_reviewed(
    reviewed: FileRows[CodedRow], splits: Splits, near: float, *, held_out: bool
) -> tuple[Splits, dict[str, int], tuple[SetAside, ...]]:
    """Return the splits with the reviewed rows, their numbers by split, and those set aside.

    A validation row that repeats a train or test row, or shares a group with one, is set aside; then a train row that
    repeats a validation or test row, likewise.
    """
    aside = list(reviewed.set_aside)
    used: dict[str, int] = {}
    for split, locked in (("validation", ("train", "test")), ("train", _LOCKED)):
        rows = {row.coded.response.id: row.coded for row in reviewed.rows if row.split == split}
        responses = tuple(row.response for row in rows.values())
        kept = _without_twins(
            FileRows(reviewed.file, len(rows), responses, ()), splits, near, locked, held_out=held_out
        )
        added = tuple(rows[response.id] for response in kept.rows)
        aside += kept.set_aside
        if rows or split == "train":
            used[split] = len(added)
        splits = replace(splits, reviewed=(*splits.reviewed, *(row.response.id for row in added)))
        if split == "train":
            splits = replace(splits, train=TrainRows((*splits.train, *added)))
        elif added:
            splits = replace(splits, validation=ValidationRows((*splits.validation, *added)))
    return splits, used, tuple(aside)


_LOCKED = ("validation", "test")


def without_train_groups(
    rows: Sequence[Response], splits: Splits, near: float, *, held_out: bool
) -> FileRows[Response]:
    """Set aside uncoded rows whose codes could not be validation rows.

    Those that nearly repeat a train or test row, or share a group with one; with held-out questions those that share a
    question with a train row or with an unknown question of test rows.

    Args:
        rows: Rows of `read_responses`.
        splits: The human-coded rows.
        near: Similarity in (0, 1] from which two rows are nearly the same.
        held_out: Whether whole questions are held out.
    """
    name = rows[0].file if rows else ""
    given = FileRows(name, len(rows), tuple(rows), ())
    return _without_twins(given, splits, near, ("train", "test"), held_out=held_out)


def _without_twins(
    uncoded: FileRows[Response],
    splits: Splits,
    near: float,
    locked: tuple[str, ...] = _LOCKED,
    *,
    held_out: bool,
) -> FileRows[Response]:
    """Set aside rows that repeat a human-coded row, nearly repeat a locked one, or share a group with locked rows.

    By default validation and test rows are locked: a row that is nearly the same as a train row is kept. With held-out
    questions, locked are also the questions of locked rows, instead of the groups: learners answer many questions.
    """
    coded = _CodedRows(splits, locked, held_out=held_out)
    texts = [response.inputs for response in uncoded.rows]
    near_locked = find_twins(texts, [response.inputs for _, response in coded.locked], near)
    used, aside = [], list(uncoded.set_aside)
    for index, response in enumerate(uncoded.rows):
        if why := coded.reason(response, near_locked.get(index)):
            aside.append(SetAside(response.file, response.row, response.id, *why))
        else:
            used.append(response)
    return replace(uncoded, rows=tuple(used), set_aside=tuple(aside))


class _CodedRows:
    """The human-coded rows by id, by what a student reads, and by group or held-out question."""

    def __init__(self, splits: Splits, locked: tuple[str, ...], *, held_out: bool) -> None:
        sides = {"test": splits.test, "validation": splits.validation, "train": splits.train}
        named = [(name, row.response) for name, rows in sides.items() for row in rows]
        self.locked = [each for each in named if each[0] in locked]
        self._by_id = {response.id: (name, response) for name, response in reversed(named)}
        self._by_row = {same_row(response.inputs): (name, response) for name, response in reversed(named)}
        self._by_group = (
            {} if held_out else {same_group(response.group): name for name, response in reversed(self.locked)}
        )
        # A known question of test rows is one of the split that the rows are for.
        own = {response.question for name, response in named if name not in locked}
        self._by_question = {
            response.question: name
            for name, response in reversed(self.locked)
            if held_out and not (name == "test" and response.question in own)
        }

    def reason(self, response: Response, near: Twin | None) -> tuple[str, str] | None:
        """Return why an uncoded row is set aside, and the detail; None if it can be used.

        Args:
            response: The row.
            near: The locked row that it repeats.
        """
        if of_id := self._by_id.get(response.id):
            _expect_same(of_id[1], response)
        if found := of_id or self._by_row.get(same_row(response.inputs)):
            return f"duplicates a {found[0]} row", found[1].place
        if near is not None:
            name, other = self.locked[near.index]
            return f"nearly duplicates a {name} row", f"{other.place}, similarity {near.similarity:.2f}"
        group = same_group(response.group)
        if group is not None and group in self._by_group:
            return f"shares a group with {self._by_group[group]} rows", f"group {response.group}"
        if self._by_question and (split := self._by_question.get(response.question)):
            return f"answers a held-out question of {split} rows", ""
        return None


def _expect_same(twin: Response, response: Response) -> None:
    """Raise where an id is used for two texts."""
    if same_row(twin.inputs) != same_row(response.inputs):
        raise DataError(
            f"the id {response.id!r} is already used in {twin.place}, with another text",
            where=response.place,
            hint="Make ids unique across files.",
        )


def _row_counts(path: Path, read: int, used: dict[str, int], aside: tuple[SetAside, ...]) -> RowCounts:
    if read != sum(used.values()) + len(aside):
        raise AssertionError(f"{path.name}: {read} rows read, {used} used, {len(aside)} set aside")
    return RowCounts(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), read, used, _by_reason(aside))


def _by_reason(aside: Iterable[SetAside]) -> dict[str, int]:
    return dict(Counter(row.reason for row in aside))
