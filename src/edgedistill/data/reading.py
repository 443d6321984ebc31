"""Reads all rows of a project: the splits of coded rows, the rows to label, and counts for every file."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from edgedistill.data.splitting import Splits, split_rows
from edgedistill.data.tables import Columns, FileRows, normalize_text, read_coded, read_reviewed, read_uncoded
from edgedistill.data.types import CodedResponse, Population, Response, SetAside, TrainRows
from edgedistill.errors import DataError
from edgedistill.project.schema import Project
from edgedistill_serve.grading.table_reader import read_rows


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
        unlabelled: Responses for the teacher. None duplicates a human-coded row, or shares a group with validation or
            test rows.
        set_aside: Rows that are not used, with reasons.
        row_counts: One per file.
    """

    splits: Splits
    unlabelled: tuple[Response, ...]
    set_aside: tuple[SetAside, ...]
    row_counts: tuple[RowCounts, ...]


def read_records(project: Project) -> Records:
    """Read a project's files.

    Raises:
        DataError: A file or row cannot be used; the message names the file, the row and the fix.
    """
    data = project.data
    columns = _columns(project)
    human_file = project.folder / data.human
    coded = read_coded(data.human.name, read_rows(human_file), columns)
    splits = split_rows(data.human.name, coded.rows, data.split, project.task.task)
    sizes = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    row_counts, aside = [_row_counts(human_file, coded.read, sizes, coded.set_aside)], [*coded.set_aside]
    if data.reviewed is not None and (file := project.folder / data.reviewed).exists():
        reviewed = _trainable(read_reviewed(data.reviewed.name, read_rows(file), columns), splits)
        splits = replace(splits, train=TrainRows((*splits.train, *reviewed.rows)))
        row_counts.append(_row_counts(file, reviewed.read, {"train": len(reviewed.rows)}, reviewed.set_aside))
        aside += reviewed.set_aside
    if data.unlabelled is None:
        return Records(splits, (), tuple(aside), tuple(row_counts))
    uncoded = read_responses(project, data.unlabelled, splits)
    file = project.folder / data.unlabelled
    row_counts.append(_row_counts(file, uncoded.read, {"to label": len(uncoded.rows)}, uncoded.set_aside))
    return Records(splits, uncoded.rows, (*aside, *uncoded.set_aside), tuple(row_counts))


def read_responses(project: Project, file: Path, splits: Splits) -> FileRows[Response]:
    """Read uncoded responses.

    Those that duplicate a human-coded row, or share a group with validation or test rows, are set aside.

    Args:
        project: Defines its columns.
        file: Relative to the project file's folder, or absolute.
        splits: The human-coded rows.

    Raises:
        DataError: The file or a row cannot be used; the message names the file, the row and the fix.
    """
    return _without_duplicates(read_uncoded(file.name, read_rows(project.folder / file), _columns(project)), splits)


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
    uncoded = read_uncoded(file.name, read_rows(project.folder / file), _columns(project))
    if not uncoded.rows:
        reasons = "; ".join(f"{rows} {reason}" for reason, rows in _by_reason(uncoded.set_aside).items())
        raise DataError(
            f"none of its {uncoded.read} rows can be used ({reasons})",
            where=file.name,
            hint="Name another file in evaluation.population, or remove the key.",
        )
    coded = [row for rows in (splits.train, splits.validation, splits.test) for row in rows]
    ids = {row.response.id: row.response for row in coded}
    codes: dict[str, list[str]] = {}
    for row in coded:
        codes.setdefault(_duplicate_key(row.response), []).append(row.label)
    in_turn = {text: cycle(of_text) for text, of_text in codes.items()}
    known, others = [], []
    for response in uncoded.rows:
        if twin := ids.get(response.id):
            _expect_same(twin, response)
        if human := in_turn.get(_duplicate_key(response)):
            known.append(next(human))
        else:
            others.append(response)
    return Population(uncoded.file, uncoded.read, tuple(known), tuple(others), uncoded.set_aside)


def _columns(project: Project) -> Columns:
    data, evaluation = project.data, project.evaluation
    return Columns(project.task.task, data.group_by, data.max_characters, evaluation.coders, evaluation.subgroups)


def _trainable(reviewed: FileRows[CodedResponse], splits: Splits) -> FileRows[CodedResponse]:
    """Set aside reviewed rows that duplicate a human-coded row or share a group with validation or test rows."""
    responses = tuple(row.response for row in reviewed.rows)
    kept = _without_duplicates(FileRows(reviewed.file, reviewed.read, responses, reviewed.set_aside), splits)
    ids = {response.id for response in kept.rows}
    return replace(reviewed, rows=tuple(r for r in reviewed.rows if r.response.id in ids), set_aside=kept.set_aside)


def _without_duplicates(uncoded: FileRows[Response], splits: Splits) -> FileRows[Response]:
    """Set aside rows that duplicate a human-coded row or share a group with validation or test rows."""
    coded = {
        (name, key): row.response
        for name, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
        for row in rows
        for key in (f"id {row.response.id}", _duplicate_key(row.response))
    }
    locked = {
        row.response.group: name
        for name, rows in (("validation", splits.validation), ("test", splits.test))
        for row in rows
        if row.response.group is not None
    }
    used, aside = [], list(uncoded.set_aside)
    for response in uncoded.rows:
        reason, detail = "", ""
        for name in ("test", "validation", "train"):
            if twin := coded.get((name, f"id {response.id}")):
                _expect_same(twin, response)
                reason, detail = f"duplicates a {name} row", twin.place
            elif twin := coded.get((name, _duplicate_key(response))):
                reason, detail = f"duplicates a {name} row", twin.place
            elif response.group is not None and locked.get(response.group) == name:
                reason, detail = f"shares a group with {name} rows", f"group {response.group}"
            if reason:
                aside.append(SetAside(response.file, response.row, response.id, reason, detail))
                break
        else:
            used.append(response)
    return replace(uncoded, rows=tuple(used), set_aside=tuple(aside))


def _expect_same(twin: Response, response: Response) -> None:
    """Raise where an id is used for two texts."""
    if _duplicate_key(twin) != _duplicate_key(response):
        raise DataError(
            f"the id {response.id!r} is already used in {twin.place}, with another text",
            where=response.place,
            hint="Make ids unique across files.",
        )


def _duplicate_key(response: Response) -> str:
    """All inputs, normalized: the same response to another question is a different row."""
    return "text " + "\x1f".join(normalize_text(text) for text in response.inputs.values())


def _row_counts(path: Path, read: int, used: dict[str, int], aside: tuple[SetAside, ...]) -> RowCounts:
    if read != sum(used.values()) + len(aside):
        raise AssertionError(f"{path.name}: {read} rows read, {used} used, {len(aside)} set aside")
    return RowCounts(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), read, used, _by_reason(aside))


def _by_reason(aside: Iterable[SetAside]) -> dict[str, int]:
    return dict(Counter(row.reason for row in aside))
