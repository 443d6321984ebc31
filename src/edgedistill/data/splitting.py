"""Human-coded rows into train, validation and test, without a text or a group on both sides."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgedistill.data.tables import SPLITS, SplitCode, folded
from edgedistill.data.types import CodedResponse, TestRows, TrainRows, ValidationRows, labels_in
from edgedistill.errors import DataError
from edgedistill.project.schema import SplitSection
from edgedistill_serve.task.task import Task

_Labels = Mapping[str, tuple[str, ...]]
"""By a row's id, the labels that its code counts as."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits and how they came about.

    Attributes:
        predefined: Whether the file's own `split` column made them.
        repeated_texts: Test rows whose response text (folded) also stands in train or validation; 0 for a random split.
        repeated_groups: Groups with rows in test and elsewhere; 0 for a random split.
        notes: What a reader of the summary should know.
    """

    train: TrainRows
    validation: ValidationRows
    test: TestRows
    predefined: bool
    repeated_texts: int
    repeated_groups: int
    notes: tuple[str, ...]


def split_rows(file: str, rows: Sequence[SplitCode], section: SplitSection, task: Task) -> Splits:
    """Split coded rows: by the file's `split` column where it has one, else at random by the section's shares.

    A random split keeps rows with the same folded response text, and rows of one group, together; it is stratified by
    label as far as these clusters allow, and depends on the seed and the ids, not on the order of the file. A row of a
    multilabel task counts for each of its labels.

    Raises:
        DataError: A split would be empty.
    """
    predefined = rows[0].split is not None
    labels = {row.coded.response.id: labels_in(row.coded.label, task) for row in rows}
    if predefined:
        sides, notes = _as_named(rows, section, labels)
    else:
        shares = {"train": section.train, "validation": section.validation, "test": section.test}
        sides, notes = _random([row.coded for row in rows], shares, section.seed, labels), []
    known = {label for of_row in labels.values() for label in of_row}
    for name, side in sides.items():
        if not side:
            raise DataError(
                f"the {name} split is empty",
                where=file,
                hint="Code more rows, change data.split, or give rows of every split in the split column.",
            )
        if absent := sorted(known - {label for row in side for label in labels[row.response.id]}):
            notes.append(f"no {name} row has the label {', '.join(absent)}")
    apart = sum(row.coded.response.group is None for row in rows)
    if 0 < apart < len(rows):
        notes.append(f"human-coded rows without a group: {apart}; each counts as a group of its own")
    texts, groups = _repeated([*sides["train"], *sides["validation"]], sides["test"])
    if texts:
        notes.append(
            f"{texts} of {len(sides['test'])} test responses also stand in train or validation (predefined split)"
        )
    if groups:
        notes.append(f"{groups} groups have test rows and others (predefined split)")
    return Splits(
        train=TrainRows(tuple(sides["train"])),
        validation=ValidationRows(tuple(sides["validation"])),
        test=TestRows(tuple(sides["test"])),
        predefined=predefined,
        repeated_texts=texts,
        repeated_groups=groups,
        notes=tuple(notes),
    )


def _as_named(
    rows: Sequence[SplitCode], section: SplitSection, labels: _Labels
) -> tuple[dict[str, list[CodedResponse]], list[str]]:
    """The file's own splits; where it names no validation rows, a random part of the train rows becomes them."""
    sides = {name: [row.coded for row in rows if row.split == name] for name in SPLITS}
    if sides["validation"] or not sides["train"]:
        return sides, []
    share = section.validation / (section.train + section.validation)
    sides |= _random(sides["train"], {"train": 1 - share, "validation": share}, section.seed, labels)
    return sides, [f"the split column names no validation rows: {len(sides['validation'])} train rows became them"]


def _repeated(learnt: Sequence[CodedResponse], locked: Sequence[CodedResponse]) -> tuple[int, int]:
    """How many locked rows have a text, and how many groups have rows, on both sides."""
    texts = {folded(row.response.text) for row in learnt}
    groups = {row.response.group for row in learnt} & {row.response.group for row in locked} - {None}
    return sum(folded(row.response.text) in texts for row in locked), len(groups)


def _random(
    rows: Sequence[CodedResponse], shares: dict[str, float], seed: int, labels: _Labels
) -> dict[str, list[CodedResponse]]:
    """Deal clusters, the largest first, each to the split that lacks its labels most."""
    clusters = _clusters(sorted(rows, key=lambda row: row.response.id))
    random.Random(seed).shuffle(clusters)  # noqa: S311 - a split, not a secret
    clusters.sort(key=len, reverse=True)
    totals = Counter(label for row in rows for label in labels[row.response.id])
    dealt: dict[str, list[CodedResponse]] = {name: [] for name in shares}
    had: dict[str, Counter[str]] = {name: Counter() for name in shares}

    def lack(name: str, cluster: list[CodedResponse]) -> float:
        """Mean share of this split's quota that is still open, over the labels of the cluster's rows."""
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
    """Rows that share a folded text or a group, directly or through others (union-find)."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, row in enumerate(rows):
        keys = [("text", folded(row.response.text))]
        if row.response.group is not None:
            keys.append(("group", row.response.group))
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    members: dict[int, list[CodedResponse]] = {}
    for i, row in enumerate(rows):
        members.setdefault(root(i), []).append(row)
    return list(members.values())
