"""All rows of a project, read once: splits of the coded ones, the ones to label, and an account of every row."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from edgedistill.data.splitting import Splits, split_rows
from edgedistill.data.tables import Columns, Reading, folded, read_coded, read_reviewed, read_uncoded
from edgedistill.data.types import CodedResponse, Population, Response, SetAside, TrainRows
from edgedistill.errors import DataError
from edgedistill.project.schema import Project
from edgedistill_serve.grading.table_reader import read_rows


@dataclass(frozen=True, slots=True)
class Account:
    """Where a file's rows went: ``read == sum(used.values()) + set_aside``."""

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
        unlabelled: Responses for the teacher; none repeats a human-coded row or belongs to a group that is locked away.
        set_aside: Rows that are not used, with the reason.
        accounts: One per file.
    """

    splits: Splits
    unlabelled: tuple[Response, ...]
    set_aside: tuple[SetAside, ...]
    accounts: tuple[Account, ...]


def read_records(project: Project) -> Records:
    """Read a project's files.

    Raises:
        DataError: A file or a row cannot be used; the message names file, row and fix.
    """
    data = project.data
    columns = _columns(project)
    human_file = project.folder / data.human
    coded = read_coded(data.human.name, read_rows(human_file), columns)
    splits = split_rows(data.human.name, coded.rows, data.split, project.task.task)
    sizes = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    accounts, aside = [_account(human_file, coded.read, sizes, coded.set_aside)], [*coded.set_aside]
    if data.reviewed is not None and (file := project.folder / data.reviewed).exists():
        reviewed = _learnt(read_reviewed(data.reviewed.name, read_rows(file), columns), splits)
        splits = replace(splits, train=TrainRows((*splits.train, *reviewed.rows)))
        accounts.append(_account(file, reviewed.read, {"train": len(reviewed.rows)}, reviewed.set_aside))
        aside += reviewed.set_aside
    if data.unlabelled is None:
        return Records(splits, (), tuple(aside), tuple(accounts))
    uncoded = read_responses(project, data.unlabelled, splits)
    file = project.folder / data.unlabelled
    accounts.append(_account(file, uncoded.read, {"to label": len(uncoded.rows)}, uncoded.set_aside))
    return Records(splits, uncoded.rows, (*aside, *uncoded.set_aside), tuple(accounts))


def read_responses(project: Project, file: Path, splits: Splits) -> Reading[Response]:
    """Read a file of uncoded responses; those that repeat a human-coded row, or whose group is locked, are set aside.

    Args:
        project: Says what its columns mean.
        file: From the project file's folder, or absolute.
        splits: The human-coded rows.

    Raises:
        DataError: The file or a row cannot be used; the message names file, row and fix.
    """
    return _apart(read_uncoded(file.name, read_rows(project.folder / file), _columns(project)), splits)


def read_population(project: Project, file: Path, splits: Splits) -> Population:
    """Read a file of responses whose shares of labels are to be told; every one counts, however often it is repeated.

    A response that repeats a human-coded one, of whichever split, has its human code. Where a text has several, its
    repeats have them in turn, in the order of the human-coded rows.

    Args:
        project: Says what its columns mean.
        file: From the project file's folder, or absolute.
        splits: The human-coded rows.

    Raises:
        DataError: The file or a row cannot be used, or none can be counted; the message names file, row and fix.
    """
    uncoded = read_uncoded(file.name, read_rows(project.folder / file), _columns(project))
    if not uncoded.rows:
        reasons = "; ".join(f"{rows} {reason}" for reason, rows in _by_reason(uncoded.set_aside).items())
        raise DataError(
            f"none of its {uncoded.read} rows can be counted ({reasons})",
            where=file.name,
            hint="Name another file in evaluation.population, or leave the key out.",
        )
    coded = [row for rows in (splits.train, splits.validation, splits.test) for row in rows]
    ids = {row.response.id: row.response for row in coded}
    codes: dict[str, list[str]] = {}
    for row in coded:
        codes.setdefault(_whole(row.response), []).append(row.label)
    in_turn = {text: cycle(of_text) for text, of_text in codes.items()}
    known, others = [], []
    for response in uncoded.rows:
        if twin := ids.get(response.id):
            _expect_same(twin, response)
        if human := in_turn.get(_whole(response)):
            known.append(next(human))
        else:
            others.append(response)
    return Population(uncoded.file, uncoded.read, tuple(known), tuple(others), uncoded.set_aside)


def _columns(project: Project) -> Columns:
    data, evaluation = project.data, project.evaluation
    return Columns(project.task.task, data.group_by, data.max_characters, evaluation.coders, evaluation.subgroups)


def _learnt(reviewed: Reading[CodedResponse], splits: Splits) -> Reading[CodedResponse]:
    """Set aside the reviewed rows that a test or validation row forbids to learn from, and those that repeat any."""
    responses = tuple(row.response for row in reviewed.rows)
    kept = _apart(Reading(reviewed.file, reviewed.read, responses, reviewed.set_aside), splits)
    ids = {response.id for response in kept.rows}
    return replace(reviewed, rows=tuple(r for r in reviewed.rows if r.response.id in ids), set_aside=kept.set_aside)


def _apart(uncoded: Reading[Response], splits: Splits) -> Reading[Response]:
    """Set aside the rows that repeat a human-coded one or whose group is in validation or test."""
    coded = {
        (name, key): row.response
        for name, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
        for row in rows
        for key in (f"id {row.response.id}", _whole(row.response))
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
                reason, detail = f"repeats a {name} row", twin.place
            elif twin := coded.get((name, _whole(response))):
                reason, detail = f"repeats a {name} row", twin.place
            elif response.group is not None and locked.get(response.group) == name:
                reason, detail = f"its group has {name} rows", f"group {response.group}"
            if reason:
                aside.append(SetAside(response.file, response.row, response.id, reason, detail))
                break
        else:
            used.append(response)
    return replace(uncoded, rows=tuple(used), set_aside=tuple(aside))


def _expect_same(twin: Response, response: Response) -> None:
    """Refuse a response whose id is another's."""
    if _whole(twin) != _whole(response):
        raise DataError(
            f"the id {response.id!r} stands in {twin.place} already, with another text",
            where=response.place,
            hint="Ids are unique over both files.",
        )


def _whole(response: Response) -> str:
    """Every input folded: the same answer to another question is another row."""
    return "text " + "\x1f".join(folded(text) for text in response.inputs.values())


def _account(path: Path, read: int, used: dict[str, int], aside: tuple[SetAside, ...]) -> Account:
    if read != sum(used.values()) + len(aside):
        raise AssertionError(f"{path.name}: {read} rows read, {used} used, {len(aside)} set aside")
    return Account(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), read, used, _by_reason(aside))


def _by_reason(aside: Iterable[SetAside]) -> dict[str, int]:
    return dict(Counter(row.reason for row in aside))
