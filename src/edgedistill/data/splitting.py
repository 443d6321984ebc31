"""Splits human-coded rows into train, validation and test; no text and no group is in two random splits."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgedistill.data.tables import SPLITS, CodedRow
from edgedistill.data.twins import NEAR_DUPLICATE, SplitTwins, find_split_twins, same_group, same_text
from edgedistill.data.types import CodedResponse, TestRows, TrainRows, ValidationRows, labels_in
from edgedistill.errors import DataError
from edgedistill.project.schema import SplitSection
from edgedistill_serve.task.task import Task

_Labels = Mapping[str, tuple[str, ...]]
"""The labels of each row, by its id."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits, and how they were made.

    Attributes:
        predefined: Whether the file's `split` column defines them.
        twins: The rows that are the same, or nearly the same, as a row of an earlier split; those of a random split are
            only nearly the same.
        repeated_groups: Groups with rows in test and in another split; 0 for a random split.
        notes: Messages for the summary.
    """

    train: TrainRows
    validation: ValidationRows
    test: TestRows
    predefined: bool
    twins: SplitTwins
    repeated_groups: int
    notes: tuple[str, ...]


def _why_empty(rows: Sequence[CodedRow]) -> str:
    """Return why a random split of many rows can leave a split empty; empty if it is their number only."""
    if len({same_text(row.coded.response.text) for row in rows}) == 1:
        return ": all rows have the same text, and rows with the same text stay in one split"
    if len(groups := {row.coded.response.group for row in rows}) == 1 and None not in groups:
        return ": all rows have the same group, and a group stays in one split"
    return ""


def split_rows(
    file: str, rows: Sequence[CodedRow], section: SplitSection, task: Task, near: float = NEAR_DUPLICATE
) -> Splits:
    """Split coded rows by the file's `split` column, or at random by the section's shares where it has none.

    A random split keeps rows whose responses are the same to a student (`same_text`) or that have the same group
    together. It is stratified by label as far
    as these clusters allow, and depends on the seed and the ids, not on row order. A row of a multilabel task counts
    for each of its labels.

    Args:
        file: The file's name, for messages.
        rows: Its rows.
        section: The shares.
        task: The task.
        near: Similarity from which two rows are nearly the same; such rows are counted.

    Raises:
        DataError: A split is empty.
    """
    predefined = rows[0].split is not None
    labels = {row.coded.response.id: labels_in(row.coded.label, task) for row in rows}
    if predefined:
        sides, notes = _predefined_splits(rows, section, labels)
    else:
        shares = {"train": section.train, "validation": section.validation, "test": section.test}
        sides, notes = _random_splits([row.coded for row in rows], shares, section.seed, labels), []
    known = {label for of_row in labels.values() for label in of_row}
    for name, side in sides.items():
        if not side:
            raise DataError(
                f"the {name} split is empty{'' if predefined else _why_empty(rows)}",
                where=file,
                hint="Code more rows, change data.split, or name every split in the split column.",
            )
        if absent := sorted(known - {label for row in side for label in labels[row.response.id]}):
            notes.append(f"no {name} row has the label {', '.join(absent)}")
    ungrouped = sum(row.coded.response.group is None for row in rows)
    if 0 < ungrouped < len(rows):
        notes.append(f"human-coded rows without a group: {ungrouped}; each counts as its own group")
    groups = _shared_groups([*sides["train"], *sides["validation"]], sides["test"])
    train, validation, test = ([(row.response.id, row.response.inputs) for row in sides[name]] for name in SPLITS)
    twins = find_split_twins(train, validation, test, near=near)
    notes += _twin_notes(twins, len(sides["validation"]), len(sides["test"]))
    if groups:
        notes.append(f"{groups} groups have rows in test and in another split (predefined split)")
    return Splits(
        train=TrainRows(tuple(sides["train"])),
        validation=ValidationRows(tuple(sides["validation"])),
        test=TestRows(tuple(sides["test"])),
        predefined=predefined,
        twins=twins,
        repeated_groups=groups,
        notes=tuple(notes),
    )


def held_out(
    rows: Sequence[CodedResponse], share: float, seed: int, task: Task
) -> tuple[tuple[CodedResponse, ...], tuple[CodedResponse, ...]]:
    """Hold a share of coded rows out, at random, with the clusters and the stratification of `split_rows`.

    Args:
        rows: At least one.
        share: Of the rows, in (0, 1).
        seed: Of the shuffling.
        task: Its labels.

    Returns:
        The rows that stay, and those held out; either may be empty where rows are few.
    """
    labels = {row.response.id: labels_in(row.label, task) for row in rows}
    dealt = _random_splits(rows, {"kept": 1 - share, "held out": share}, seed, labels)
    return tuple(dealt["kept"]), tuple(dealt["held out"])


def _predefined_splits(
    rows: Sequence[CodedRow], section: SplitSection, labels: _Labels
) -> tuple[dict[str, list[CodedResponse]], list[str]]:
    """The file's splits; without validation rows, a random part of the train rows becomes the validation split."""
    sides = {name: [row.coded for row in rows if row.split == name] for name in SPLITS}
    if sides["validation"] or not sides["train"]:
        return sides, []
    share = section.validation / (section.train + section.validation)
    sides |= _random_splits(sides["train"], {"train": 1 - share, "validation": share}, section.seed, labels)
    return sides, [f"the split column has no validation rows: {len(sides['validation'])} train rows were used"]


def _shared_groups(others: Sequence[CodedResponse], test: Sequence[CodedResponse]) -> int:
    """The number of groups with rows in both."""
    return len(
        {same_group(row.response.group) for row in others} & {same_group(row.response.group) for row in test} - {None}
    )


def _twin_notes(twins: SplitTwins, validation: int, test: int) -> Iterator[str]:
    for ids, rows, what in (
        (twins.test_same, f"{test} test rows", "are the same to the student as a train or validation row"),
        (twins.test_near, f"{test} test rows", "are nearly the same as a train or validation row"),
        (twins.validation_same, f"{validation} validation rows", "are the same to the student as a train row"),
        (twins.validation_near, f"{validation} validation rows", "are nearly the same as a train row"),
    ):
        if ids:
            yield f"{len(ids)} of {rows} {what}"


def _random_splits(
    rows: Sequence[CodedResponse], shares: dict[str, float], seed: int, labels: _Labels
) -> dict[str, list[CodedResponse]]:
    """Assign clusters, largest first, each to the split that most lacks its labels."""
    clusters = _clusters(sorted(rows, key=lambda row: row.response.id))
    random.Random(seed).shuffle(clusters)  # noqa: S311 - a split, not a secret
    clusters.sort(key=len, reverse=True)
    totals = Counter(label for row in rows for label in labels[row.response.id])
    dealt: dict[str, list[CodedResponse]] = {name: [] for name in shares}
    had: dict[str, Counter[str]] = {name: Counter() for name in shares}

    def lack(name: str, cluster: list[CodedResponse]) -> float:
        """Mean share of the split's quota still open, over the labels of the cluster's rows."""
        open_of = [
            1 - had[name][label] / (shares[name] * totals[label])
            for row in cluster
            for label in labels[row.response.id]
        ]
        return sum(open_of) / len(open_of)

    for cluster in clusters:
        name = max(shares, key=lambda name: lack(name, cluster))
        dealt[name] += cluster
        had[name].update(label for row in cluster for label in labels[row.response.id])
    return dealt


def _clusters(rows: Sequence[CodedResponse]) -> list[list[CodedResponse]]:
    """Rows that share a response (`same_text`) or a group, directly or transitively (union-find)."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, row in enumerate(rows):
        keys = [("text", same_text(row.response.text))]
        if (group := same_group(row.response.group)) is not None:
            keys.append(("group", group))
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    members: dict[int, list[CodedResponse]] = {}
    for i, row in enumerate(rows):
        members.setdefault(root(i), []).append(row)
    return list(members.values())
