"""Splits human-coded rows into train, validation and test; no text and no group is in two random splits."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgedistill.data.tables import SPLITS, CodedRow
from edgedistill.data.twins import NEAR_DUPLICATE, SplitTwins, find_split_twins, same_group, same_text
from edgedistill.data.types import CodedResponse, TestRows, TrainRows, ValidationRows, labels_in
from edgedistill.errors import DataError
from edgedistill.project.data import SplitSection
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
        reviewed: Ids of the train and validation rows that were coded at review, after the others.
    """

    train: TrainRows
    validation: ValidationRows
    test: TestRows
    predefined: bool
    twins: SplitTwins
    repeated_groups: int
    notes: tuple[str, ...]
    reviewed: tuple[str, ...] = ()

    @property
    def first_train(self) -> TrainRows:
        """The train rows without those coded at review.

        Prompts show these: an example that came later would change the prompts, and answers to the earlier ones, which
        are paid for, would be requested again.
        """
        later = set(self.reviewed)
        return TrainRows(tuple(row for row in self.train if row.response.id not in later))

    @property
    def first_validation(self) -> ValidationRows:
        """The validation rows without those coded at review."""
        later = set(self.reviewed)
        return ValidationRows(tuple(row for row in self.validation if row.response.id not in later))


def _why_empty(rows: Sequence[CodedRow], held_out: bool) -> str:
    """Return why a random split of many rows can leave a split empty; empty if it is their number only."""
    if held_out:
        return ": data.questions: held_out keeps the rows of a question together"
    if len({same_text(row.coded.response.text) for row in rows}) == 1:
        return ": all rows have the same text, and rows with the same text stay in one split"
    if len(groups := {row.coded.response.group for row in rows}) == 1 and None not in groups:
        return ": all rows have the same group, and a group stays in one split"
    return ""


def split_rows(
    file: str,
    rows: Sequence[CodedRow],
    section: SplitSection,
    task: Task,
    near: float = NEAR_DUPLICATE,
    *,
    held_out: bool = False,
) -> Splits:
    """Split coded rows by the file's `split` column, or at random by the section's shares where it has none.

    A random split keeps rows whose responses are the same to a student (`same_text`) or that have the same group
    together. It is stratified by label as far
    as these clusters allow, and depends on the seed and the ids, not on row order. A row of a multilabel task counts
    for each of its labels.

    With held-out questions, no validation row answers a question of a train row, and neither do the test rows, except
    a share of them (``section.known_questions``) whose responses are the same as no train row's. Learners, who answer
    many questions, are then in several splits.

    Args:
        file: The file's name, for messages.
        rows: Its rows.
        section: The shares.
        task: The task.
        near: Similarity from which two rows are nearly the same; such rows are counted.
        held_out: Whether whole questions are held out.

    Raises:
        DataError: A split is empty, there are too few questions to hold any out, or the column ``split`` has train and
            validation rows of the same question.
    """
    predefined = rows[0].split is not None
    labels = {row.coded.response.id: labels_in(row.coded.label, task) for row in rows}
    sides, notes = _sides(file, rows, section, labels, held_out=held_out)
    known = {label for of_row in labels.values() for label in of_row}
    for name, side in sides.items():
        if not side:
            raise DataError(
                f"the {name} split is empty{'' if predefined else _why_empty(rows, held_out)}",
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
    if held_out:
        notes += _question_notes(sides)
    if groups:
        notes.append(
            f"{groups} groups have rows in test and in another split"
            f"{'' if held_out and not predefined else ' (predefined split)'}"
        )
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


def _sides(
    file: str, rows: Sequence[CodedRow], section: SplitSection, labels: _Labels, *, held_out: bool
) -> tuple[dict[str, list[CodedResponse]], list[str]]:
    """The rows of each split, and notes."""
    if rows[0].split is not None:
        return _predefined_splits(file, rows, section, labels, held_out=held_out)
    coded = [row.coded for row in rows]
    if held_out:
        return _hold_questions_out(file, coded, section, labels), []
    shares = {"train": section.train, "validation": section.validation, "test": section.test}
    return _random_splits(coded, shares, section.seed, labels), []


def _predefined_splits(
    file: str, rows: Sequence[CodedRow], section: SplitSection, labels: _Labels, *, held_out: bool
) -> tuple[dict[str, list[CodedResponse]], list[str]]:
    """The file's splits; without validation rows, a random part of the train rows becomes the validation split."""
    sides = {name: [row.coded for row in rows if row.split == name] for name in SPLITS}
    if sides["validation"] or not sides["train"]:
        if held_out and (shared := _questions(sides["train"]) & _questions(sides["validation"])):
            raise DataError(
                f"{_count(len(shared), 'question')} of the column 'split' have both train and validation rows, and "
                "data.questions: held_out needs validation rows of other questions than the train rows'",
                where=file,
                hint="Make all rows of a question train rows or validation rows, or leave out the validation rows: "
                "then whole questions are held out of the train rows.",
            )
        return sides, []
    share = section.validation / (section.train + section.validation)
    shares = {"train": 1 - share, "validation": share}
    if held_out:
        _require_questions(file, sides["train"], 2, "among the train rows of the column 'split'")
        sides |= _deal_questions(sides["train"], shares, section.seed, labels)
    else:
        sides |= _random_splits(sides["train"], shares, section.seed, labels)
    return sides, [f"the split column has no validation rows: {len(sides['validation'])} train rows were used"]


def _hold_questions_out(
    file: str, rows: Sequence[CodedResponse], section: SplitSection, labels: _Labels
) -> dict[str, list[CodedResponse]]:
    """Whole questions for validation and test, and test rows of the questions that remain for training."""
    _require_questions(file, rows, 3, "")
    known = section.test * section.known_questions
    shares = {"train": section.train + known, "validation": section.validation, "test": section.test - known}
    sides = _deal_questions(rows, shares, section.seed, labels)
    if known and sides["train"]:
        of_train = {"train": section.train / (section.train + known), "test": known / (section.train + known)}
        dealt = _random_splits(sides["train"], of_train, section.seed, labels)
        # A question of which every row would be a test row remains a question of train rows.
        trained = _questions(dealt["train"])
        train, test = [*dealt["train"]], [*sides["test"]]
        for cluster in _clusters(dealt["test"]):
            (test if _questions(cluster) <= trained else train).extend(cluster)
        sides = {**sides, "train": train, "test": test}
    return sides


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _require_questions(file: str, rows: Sequence[CodedResponse], needed: int, where: str) -> None:
    """Raise where there are too few questions to hold any out."""
    if (found := len(_questions(rows))) >= needed:
        return
    parts = "train and validation rows" if needed == 2 else "train, validation and test rows"
    among = f" {where}" if where else ""
    if found == 1:
        what = f"all {len(rows)} coded rows{among} answer the same question, so that no question can be held out"
    else:
        what = f"the coded rows{among} answer {_count(found, 'question')}, too few to hold any out"
    raise DataError(
        f"{what}; data.questions: held_out needs at least {needed}, for {parts}",
        where=file,
        hint="Add rows of other questions, or set data.questions: known.",
    )


def _questions(rows: Iterable[CodedResponse]) -> set[str]:
    return {row.response.question for row in rows}


def _deal_questions(
    rows: Sequence[CodedResponse], shares: dict[str, float], seed: int, labels: _Labels
) -> dict[str, list[CodedResponse]]:
    """Assign whole questions to splits; of at least as many questions, none is empty."""
    sides = _deal(list(_by_question(rows)), shares, seed, labels)
    for name in shares:
        if not sides[name]:  # of few questions, each split may lack labels less than another one
            of = {other: _by_question(side) for other, side in sides.items()}
            donor = max(shares, key=lambda other: len(of[other]))
            given = min(of[donor], key=len)
            sides[name] = given
            sides[donor] = [row for question in of[donor] if question is not given for row in question]
    return sides


def _by_question(rows: Sequence[CodedResponse]) -> list[list[CodedResponse]]:
    found: dict[str, list[CodedResponse]] = {}
    for row in sorted(rows, key=lambda row: row.response.id):
        found.setdefault(row.response.question, []).append(row)
    return [found[question] for question in sorted(found)]


def _question_notes(sides: Mapping[str, Sequence[CodedResponse]]) -> Iterator[str]:
    """How many questions each split has, and what that means."""
    train, validation, test = (_questions(sides[name]) for name in SPLITS)
    known = sum(row.response.question in train for row in sides["test"])
    yield (
        f"questions held out: {len(train)} in train rows, {len(validation)} others in validation rows; the test rows "
        f"answer {_count(len(test - train), 'unknown question')} ({len(sides['test']) - known} rows) and "
        f"{_count(len(test & train), 'known one')} ({known} rows)"
    )
    if shared := len((test - train) & validation):
        yield f"{_count(shared, 'unknown question')} of test rows are also questions of validation rows"


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
    return _deal(_clusters(sorted(rows, key=lambda row: row.response.id)), shares, seed, labels)


def _deal(
    clusters: list[list[CodedResponse]], shares: dict[str, float], seed: int, labels: _Labels
) -> dict[str, list[CodedResponse]]:
    rows = [row for cluster in clusters for row in cluster]
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
