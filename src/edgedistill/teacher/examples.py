"""Which human-coded responses the teacher is shown as examples."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgedistill.errors import ProjectFileError
from edgedistill.project.sections import TeacherSection
from edgedistill.records.codes import counted_names, labels_in
from edgedistill.records.types import CodedResponse, Response, TrainRows
from edgedistill_serve.task import NO_LABEL, Task

Chooser: TypeAlias = Callable[[Sequence[Response]], list[tuple[CodedResponse, ...]]]
"""Says which examples each of some responses is shown."""

Vectors: TypeAlias = npt.NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[Mapping[str, str]]], Vectors]
"""Turns the inputs of rows into vectors of length 1, of shape (rows, width)."""

_DIGITS = 4  # of a similarity: what differs by less is a tie, so that another processor chooses the same


def example_chooser(section: TeacherSection, rows: TrainRows, task: Task, embed: Embed) -> Chooser:
    """Return what `few_shot_choice` names.

    Args:
        section: How many examples, and which.
        rows: Human-coded train rows; no other split may be shown to the teacher.
        task: What is coded.
        embed: Called for ``similar`` alone.

    Raises:
        ProjectFileError: There are too few train rows, or an id of `few_shot_ids` is none of a train row.
    """
    if section.few_shot_choice == "similar":
        return _similar(rows, section.few_shot, embed)
    if section.few_shot_choice == "fixed":
        return shared(named_examples(rows, section.few_shot_ids))
    return shared(choose_examples(rows, task, section.few_shot))


def shared(examples: Sequence[CodedResponse]) -> Chooser:
    """Return a chooser that shows every response the same examples."""
    same = tuple(examples)
    return lambda responses: [same] * len(responses)


def choose_examples(rows: TrainRows, task: Task, few_shot: int) -> tuple[CodedResponse, ...]:
    """Return the examples, as many of each label as of any other, give or take one.

    Within a label the rows with the smallest SHA-256 of their id are taken. Other rows come and go without changing
    the choice, unless one of them has a smaller hash, so prompts that were paid for mostly stay the same. In a
    multilabel task a row may have several labels and is an example of the first that it is taken for; rows of which no
    label holds, where there are any, count as another label.

    Args:
        rows: Human-coded train rows; no other split may be shown to the teacher.
        task: Its labels; where ``few_shot`` is no multiple of their number, the first get one more.
        few_shot: How many examples, 0 or more.

    Returns:
        The examples, the labels taking turns in codebook order.

    Raises:
        ProjectFileError: A label has fewer train rows than examples are wanted of it.
    """
    ranked = sorted(rows, key=lambda row: _rank(row.response.id))
    held = {row.response.id: labels_in(row.label, task) for row in ranked}
    labels = [name for name in counted_names(task) if name != NO_LABEL or (name,) in held.values()]
    chosen: list[list[CodedResponse]] = []
    for place, label in enumerate(labels):
        of_label = [row for row in ranked if label in held.get(row.response.id, ())]
        wanted = few_shot // len(labels) + (place < few_shot % len(labels))
        if wanted > len(of_label):
            raise ProjectFileError(
                f"{few_shot} examples need {wanted} train rows of the label {label!r}, and there are {len(of_label)}",
                where="teacher.few_shot",
                mend="Lower few_shot, or code more responses of this label.",
            )
        chosen.append(of_label[:wanted])
        for row in chosen[-1]:
            del held[row.response.id]
    rounds = max((len(of_label) for of_label in chosen), default=0)
    return tuple(of_label[turn] for turn in range(rounds) for of_label in chosen if turn < len(of_label))


def named_examples(rows: TrainRows, ids: Sequence[str]) -> tuple[CodedResponse, ...]:
    """Return the train rows with these ids, in this order.

    Raises:
        ProjectFileError: An id is none of a train row.
    """
    by_id = {row.response.id: row for row in rows}
    if strange := [ident for ident in ids if ident not in by_id]:
        raise ProjectFileError(
            f"{strange[0]!r} is the id of no human-coded train row",
            where="teacher.few_shot_ids",
            mend="Examples come from train rows alone; `few_shot_choice: balanced` chooses some.",
        )
    return tuple(by_id[ident] for ident in ids)


def _similar(rows: TrainRows, few_shot: int, embed: Embed) -> Chooser:
    """Show each response the train rows most like it by cosine, the most similar last, never one with its own text."""
    if few_shot >= len(rows):
        raise ProjectFileError(
            f"{few_shot} similar examples are wanted, and there are {len(rows)} train rows",
            where="teacher.few_shot",
            mend="Lower few_shot, or code more responses.",
        )
    ranked = sorted(rows, key=lambda row: _rank(row.response.id))  # of equally similar rows, the first is taken
    vectors = embed([row.response.inputs for row in ranked])

    def choose(responses: Sequence[Response]) -> list[tuple[CodedResponse, ...]]:
        near = np.round(embed([response.inputs for response in responses]) @ vectors.T, _DIGITS)
        orders = np.argsort(-near, axis=1, kind="stable")
        return [
            _first_others(response, (ranked[place] for place in order), few_shot)
            for response, order in zip(responses, orders, strict=True)
        ]

    return choose


def _first_others(response: Response, ordered: Iterator[CodedResponse], few_shot: int) -> tuple[CodedResponse, ...]:
    others = (row for row in ordered if row.response.inputs != response.inputs and row.response.id != response.id)
    return tuple(islice(others, few_shot))[::-1]


def _rank(ident: str) -> str:
    return hashlib.sha256(ident.encode("utf-8", "surrogatepass")).hexdigest()
