"""Human-coded rows into train, validation and test, without a text or a group on both sides."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill.errors import DataError
from edgedistill.project.sections import SplitSection
from edgedistill.records.coding import SPLITS, SplitCode, folded
from edgedistill.records.types import CodedResponse, TestRows, TrainRows, ValidationRows


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


def split_rows(file: str, rows: Sequence[SplitCode], section: SplitSection) -> Splits:
    """Split coded rows: by the file's `split` column where it has one, else at random by the section's shares.

    A random split keeps rows with the same folded response text, and rows of one group, together; it is stratified by
    label as far as these clusters allow, and depends on the seed and the ids, not on the order of the file.

    Raises:
        DataError: A split would be empty.
    """
    predefined = rows[0].split is not None
    notes: list[str] = []
    coded: dict[str, list[CodedResponse]] = {name: [] for name in SPLITS}
    if predefined:
        for row in rows:
            coded[str(row.split)].append(row.coded)
        if not coded["validation"] and coded["train"]:
            share = section.validation / (section.train + section.validation)
            parts = _random(coded["train"], {"train": 1 - share, "validation": share}, section.seed)
            coded |= parts
            notes.append(f"the split column names no validation rows: {len(parts['validation'])} train rows became them")
    else:
        shares = {"train": section.train, "validation": section.validation, "test": section.test}
        coded |= _random([row.coded for row in rows], shares, section.seed)
    for name in SPLITS:
        if not coded[name]:
            raise DataError(
                f"the {name} split is empty",
                where=file,
                mend="Code more rows, change data.split, or give rows of every split in the split column.",
            )
        if absent := sorted({row.coded.label for row in rows} - {row.label for row in coded[name]}):
            notes.append(f"no {name} row has the label {', '.join(absent)}")
    learnt, locked = [*coded["train"], *coded["validation"]], coded["test"]
    texts = {folded(row.response.text) for row in learnt}
    groups = {row.response.group for row in learnt} & {row.response.group for row in locked} - {None}
    repeated = sum(folded(row.response.text) in texts for row in locked)
    if repeated:
        notes.append(f"{repeated} of {len(locked)} test responses also stand in train or validation (predefined split)")
    if groups:
        notes.append(f"{len(groups)} groups have test rows and others (predefined split)")
    return Splits(
        train=TrainRows(tuple(coded["train"])),
        validation=ValidationRows(tuple(coded["validation"])),
        test=TestRows(tuple(locked)),
        predefined=predefined,
        repeated_texts=repeated,
        repeated_groups=len(groups),
        notes=tuple(notes),
    )


def _random(rows: Sequence[CodedResponse], shares: dict[str, float], seed: int) -> dict[str, list[CodedResponse]]:
    """Deal clusters, the largest first, each to the split that lacks its labels most."""
    clusters = _clusters(sorted(rows, key=lambda row: row.response.id))
    random.Random(seed).shuffle(clusters)  # noqa: S311 - a split, not a secret
    clusters.sort(key=len, reverse=True)
    totals = Counter(row.label for row in rows)
    dealt: dict[str, list[CodedResponse]] = {name: [] for name in shares}
    had: dict[str, Counter[str]] = {name: Counter() for name in shares}

    def lack(name: str, cluster: list[CodedResponse]) -> float:
        """Mean share of this split's quota that is still open, over the labels of the cluster's rows."""
        return sum(1 - had[name][row.label] / (shares[name] * totals[row.label]) for row in cluster) / len(cluster)

    for cluster in clusters:
        name = max(shares, key=lambda name: lack(name, cluster))
        dealt[name] += cluster
        had[name].update(row.label for row in cluster)
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
