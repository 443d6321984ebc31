"""Parses answers to votes, and counts votes to one label for each response.

The consistency of a row is the share of the votes that equal its label. For a multilabel task, a label holds if more
than half of the votes name it.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edgedistill.data.types import TeacherLabel
from edgedistill.teacher.codebook import FIRST_ID, AnswerShape
from edgedistill.teacher.parsing import (
    Failure,
    FailureCause,
    compute_label_probabilities,
    extract_text,
    get_labels_value,
    match_label,
    match_labels,
    parse_label,
    parse_labels,
    unusable_answer,
)
from edgedistill_serve.task.task import Task, join_labels, split_labels


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote on one response.

    Attributes:
        label: One of the codebook's labels; for a multilabel task, all that hold, joined.
        probabilities: Per label, in (0, 1], summing to 1, without labels of unknown probability; None if the answer
            has no probabilities.
    """

    label: str
    probabilities: Mapping[str, float] | None = None


Votes: TypeAlias = Mapping[str, Vote]
"""The votes of one answer, by the id of the response in its request."""

_CODING_LINE = re.compile(r"^\W*([0-9]+)\s*[:.)\]]+\s*(.+)$")


def parse_votes(answer: Mapping[str, Any], shape: AnswerShape) -> Votes | Failure:
    """Return the votes in a chat completion, at least one.

    An entry of an answer to several responses counts if its id is unique and its label is one of the codebook's; the
    others are skipped, and their votes are requested again.

    Args:
        answer: The whole chat completion.
        shape: The requested content.
    """
    if not shape.multiple_responses:
        label = _parse_single_label(answer, shape)
        if isinstance(label, Failure):
            return label
        return {FIRST_ID: Vote(label, _get_probabilities(answer, [label], shape)[0])}
    content = extract_text(answer)
    if isinstance(content, Failure):
        return content
    entries = list(_entries(content, shape))
    if not entries:
        return unusable_answer(FailureCause.UNREADABLE, answer)
    labels = [_match(value, shape) for _, value in entries]
    probabilities = _get_probabilities(answer, labels, shape)
    times = Counter(ident for ident, _ in entries)
    votes = {
        ident: Vote(label, probable)
        for (ident, _), label, probable in zip(entries, labels, probabilities, strict=True)
        if label is not None and times[ident] == 1
    }
    return votes or unusable_answer(FailureCause.NO_SUCH_LABEL, answer)


def parse_single_vote(answer: Mapping[str, Any], shape: AnswerShape) -> Votes | Failure:
    """Return the votes like `parse_votes`, or a failure if the first response, which was sent alone, has none."""
    votes = parse_votes(answer, shape)
    return (
        votes if isinstance(votes, Failure) or FIRST_ID in votes else unusable_answer(FailureCause.UNREADABLE, answer)
    )


def _get_probabilities(
    answer: Mapping[str, Any], chosen: Sequence[str | None], shape: AnswerShape
) -> Sequence[Mapping[str, float] | None]:
    return [None] * len(chosen) if shape.multilabel else compute_label_probabilities(answer, chosen, shape.labels)


def _match(value: object, shape: AnswerShape) -> str | None:
    if shape.multilabel:
        return match_labels(value, shape.labels)
    readable = isinstance(value, str | int) and not isinstance(value, bool)
    return match_label(str(value), shape.labels) if readable else None


def _parse_single_label(answer: Mapping[str, Any], shape: AnswerShape) -> str | Failure:
    label = parse_labels(answer, shape.labels) if shape.multilabel else parse_label(answer, shape.labels)
    if not (shape.reasoning and isinstance(label, Failure)):
        return label
    content = extract_text(answer)  # in plain text, the label is in the last line
    last = content.splitlines()[-1].casefold() if isinstance(content, str) and content else ""
    return _match(last.removeprefix("labels:").removeprefix("label:"), shape) or label


def _entries(content: str, shape: AnswerShape) -> Iterator[tuple[str, object]]:
    """Yield the id and the label or labels of every entry."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        for line in content.splitlines():
            if match := _CODING_LINE.match(line):
                yield match[1], match[2].rsplit("|", 1)[-1]
        return
    if isinstance(value, dict):
        value = next((each for each in value.values() if isinstance(each, list) and _contains_objects(each)), [value])
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict) and isinstance(ident := entry.get("id"), str | int):
            yield str(ident).strip(), get_labels_value(entry) if shape.multilabel else entry.get("label")


def _contains_objects(listed: Sequence[object]) -> bool:
    return all(isinstance(each, dict) for each in listed)


Ties: TypeAlias = Literal["set_aside", "first_vote", "logprobs"]


def count_votes(response_id: str, votes: Sequence[Vote], ties: Ties, teacher: str) -> TeacherLabel | None:
    """Return the mode of the votes with its consistency, or None for a tie that is set aside.

    The soft label is the mean of the votes' probabilities if every vote has them, else the share of the votes.

    Args:
        response_id: The response's id.
        votes: In their order; at least one.
        ties: How a tie is broken: ``first_vote`` selects the first of the tied labels, ``logprobs`` the most probable
            one, or none if probabilities are missing or equal; ``set_aside`` selects none.
        teacher: The teacher's name.
    """
    labels = tuple(vote.label for vote in votes)
    counts = Counter(labels)
    most = max(counts.values())
    modes = [label for label, count in counts.items() if count == most]  # in the order of their first votes
    probable = _mean_probabilities(votes)
    label = modes[0] if len(modes) == 1 else _break_tie(modes, ties, probable)
    if label is None:
        return None
    shares = probable or {label: count / len(votes) for label, count in counts.items()}
    consistency = counts[label] / len(votes)
    soft: Literal["votes", "logprobs"] = "logprobs" if probable else "votes"
    return TeacherLabel(response_id, label, consistency, shares, labels, teacher, soft)


def _break_tie(modes: Sequence[str], ties: Ties, probable: Mapping[str, float] | None) -> str | None:
    if ties == "first_vote":
        return modes[0]
    if ties == "set_aside" or probable is None:
        return None
    best, second = sorted(modes, key=lambda label: -probable.get(label, 0.0))[:2]
    return best if probable.get(best, 0.0) > probable.get(second, 0.0) else None


def _mean_probabilities(votes: Sequence[Vote]) -> Mapping[str, float] | None:
    known = [vote.probabilities for vote in votes if vote.probabilities is not None]
    if len(known) < len(votes):
        return None
    labels = dict.fromkeys(label for probabilities in known for label in probabilities)
    return {label: sum(each.get(label, 0.0) for each in known) / len(known) for label in labels}


def count_multilabel_votes(
    response_id: str,
    votes: Sequence[str],
    ties: Ties,
    teacher: str,
    task: Task,
) -> TeacherLabel | None:
    """Return the labels that more than half of the votes name, or None for a tie that is set aside.

    Args:
        response_id: The response's id.
        votes: The labels of each vote, joined, in order; at least one.
        ties: What happens if exactly half of the votes name a label: with ``first_vote`` it holds if the first vote
            names it, else the response is set aside.
        teacher: The teacher's name.
        task: A multilabel task.
    """
    named = [split_labels(vote, task) for vote in votes]
    shares = {name: sum(name in vote for vote in named) / len(named) for name in task.names}
    if ties != "first_vote" and 0.5 in shares.values():
        return None
    holding = [name for name, share in shares.items() if share > 0.5 or (share == 0.5 and name in named[0])]
    label = join_labels(holding, task)
    return TeacherLabel(
        id=response_id,
        label=label,
        consistency=votes.count(label) / len(votes),
        shares={name: share for name, share in shares.items() if share},
        votes=tuple(votes),
        teacher=teacher,
    )


def combine_multilabel(opinions: Mapping[str, TeacherLabel], weights: Mapping[str, float], task: Task) -> str | None:
    """Return the labels of teachers with more than half of the weight; None if exactly half of it gives one.

    Args:
        opinions: The label of each teacher; at least one.
        weights: By teacher, 0 or more.
        task: A multilabel task.
    """
    total = math.fsum(weights[name] for name in opinions)
    holding = []
    for label in task.names:
        weight = math.fsum(
            weights[name] for name, opinion in opinions.items() if label in split_labels(opinion.label, task)
        )
        if math.isclose(2 * weight, total):
            return None
        if 2 * weight > total:
            holding.append(label)
    return join_labels(holding, task)
