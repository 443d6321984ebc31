"""From answers to votes, and from votes to one label for each response.

Vote    a label, and how probable it and the others were where the endpoint says so

A label holds where more than half of the votes name it. The row's consistency is the share of the votes that name just
the labels that hold; a label's own share, or what is left of it to 1, says how far the votes agree on that label.
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
    Cause,
    Failure,
    content_of,
    label_among,
    label_probabilities,
    labels_among,
    labels_given,
    read_label,
    read_labels,
    unusable,
)
from edgedistill_serve.task.task import Task, join_labels, split_labels


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote on one response.

    Attributes:
        label: One of the codebook's labels; where any number may hold, all that do, joined.
        probabilities: Per label, in (0, 1], summing to 1, labels of no known probability left out; None where the
            answer came without probabilities.
    """

    label: str
    probabilities: Mapping[str, float] | None = None


Votes: TypeAlias = Mapping[str, Vote]
"""The votes of one answer, by the id of the response in its request."""

_LINE = re.compile(r"^\W*([0-9]+)\s*[:.)\]]+\s*(.+)$")


def read_votes(answer: Mapping[str, Any], shape: AnswerShape) -> Votes | Failure:
    """Return the votes that a chat completion gives, at least one.

    An entry of an answer to several responses counts where its id stands there once and its label is one of the
    codebook's; the others are passed over, so that the vote is asked for again.

    Args:
        answer: The whole chat completion.
        shape: What was asked for.
    """
    if not shape.several:
        label = _single(answer, shape)
        if isinstance(label, Failure):
            return label
        return {FIRST_ID: Vote(label, _label_probabilities_of(answer, [label], shape)[0])}
    content = content_of(answer)
    if isinstance(content, Failure):
        return content
    entries = list(_entries(content, shape))
    if not entries:
        return unusable(Cause.UNREADABLE, answer)
    labels = [_code(given, shape) for _, given in entries]
    probabilities = _label_probabilities_of(answer, labels, shape)
    times = Counter(ident for ident, _ in entries)
    votes = {
        ident: Vote(label, probable)
        for (ident, _), label, probable in zip(entries, labels, probabilities, strict=True)
        if label is not None and times[ident] == 1
    }
    return votes or unusable(Cause.NO_SUCH_LABEL, answer)


def read_first_vote(answer: Mapping[str, Any], shape: AnswerShape) -> Votes | Failure:
    """Return the votes as `read_votes` does, or a failure where the first response, which was asked alone, has none."""
    votes = read_votes(answer, shape)
    return votes if isinstance(votes, Failure) or FIRST_ID in votes else unusable(Cause.UNREADABLE, answer)


def _label_probabilities_of(
    answer: Mapping[str, Any], chosen: Sequence[str | None], shape: AnswerShape
) -> Sequence[Mapping[str, float] | None]:
    return [None] * len(chosen) if shape.any_number else label_probabilities(answer, chosen, shape.labels)


def _code(given: object, shape: AnswerShape) -> str | None:
    if shape.any_number:
        return labels_among(given, shape.labels)
    readable = isinstance(given, str | int) and not isinstance(given, bool)
    return label_among(str(given), shape.labels) if readable else None


def _single(answer: Mapping[str, Any], shape: AnswerShape) -> str | Failure:
    label = read_labels(answer, shape.labels) if shape.any_number else read_label(answer, shape.labels)
    if not (shape.reasoning and isinstance(label, Failure)):
        return label
    content = content_of(answer)  # in plain text, the label stands in the last line
    last = content.splitlines()[-1].casefold() if isinstance(content, str) and content else ""
    return _code(last.removeprefix("labels:").removeprefix("label:"), shape) or label


def _entries(content: str, shape: AnswerShape) -> Iterator[tuple[str, object]]:
    """Yield the id of every entry, and what stands there as its label or labels."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        for line in content.splitlines():
            if found := _LINE.match(line):
                yield found[1], found[2].rsplit("|", 1)[-1]
        return
    if isinstance(value, dict):
        value = next((each for each in value.values() if isinstance(each, list) and _holds_objects(each)), [value])
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict) and isinstance(ident := entry.get("id"), str | int):
            yield str(ident).strip(), labels_given(entry) if shape.any_number else entry.get("label")


def _holds_objects(listed: Sequence[object]) -> bool:
    return all(isinstance(each, dict) for each in listed)


Ties: TypeAlias = Literal["set_aside", "first_vote", "logprobs"]


def count_votes(response_id: str, votes: Sequence[Vote], ties: Ties, teacher: str) -> TeacherLabel | None:
    """Return the mode of the votes with its consistency, or None for a tie that is to be set aside.

    The soft label is the mean of the votes' probabilities where every vote came with some, else the share of the votes.

    Args:
        response_id: The response's id.
        votes: In their order; at least one.
        ties: What two or more labels with the most votes become; ``first_vote`` takes the one that was voted first,
            ``logprobs`` the most probable one, and none where probabilities are missing or equal.
        teacher: The teacher's name.
    """
    labels = tuple(vote.label for vote in votes)
    counts = Counter(labels)
    most = max(counts.values())
    modes = [label for label, count in counts.items() if count == most]  # in the order of their first votes
    probable = _probabilities(votes)
    label = modes[0] if len(modes) == 1 else _broken(modes, ties, probable)
    if label is None:
        return None
    shares = probable or {label: count / len(votes) for label, count in counts.items()}
    consistency = counts[label] / len(votes)
    soft: Literal["votes", "logprobs"] = "logprobs" if probable else "votes"
    return TeacherLabel(response_id, label, consistency, shares, labels, teacher, soft)


def _broken(modes: Sequence[str], ties: Ties, probable: Mapping[str, float] | None) -> str | None:
    if ties == "first_vote":
        return modes[0]
    if ties == "set_aside" or probable is None:
        return None
    best, second = sorted(modes, key=lambda label: -probable.get(label, 0.0))[:2]
    return best if probable.get(best, 0.0) > probable.get(second, 0.0) else None


def _probabilities(votes: Sequence[Vote]) -> Mapping[str, float] | None:
    given = [vote.probabilities for vote in votes if vote.probabilities is not None]
    if len(given) < len(votes):
        return None
    names = dict.fromkeys(label for probabilities in given for label in probabilities)
    return {label: sum(each.get(label, 0.0) for each in given) / len(given) for label in names}


def count_label_votes(
    response_id: str,
    votes: Sequence[str],
    ties: Ties,
    teacher: str,
    task: Task,
) -> TeacherLabel | None:
    """Return the labels that more than half of the votes name, or None for a tie that is to be set aside.

    Args:
        response_id: The response's id.
        votes: The codes in their order; at least one.
        ties: What a label becomes that just half of the votes name: with ``first_vote`` it holds where the first vote
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


def joint_label(opinions: Mapping[str, TeacherLabel], weights: Mapping[str, float], task: Task) -> str | None:
    """Return the labels that teachers with more than half of the weight give; None where half of it gives one.

    Args:
        opinions: By teacher, at least one.
        weights: By teacher, 0 or more.
        task: A multilabel task.
    """
    total = math.fsum(weights[name] for name in opinions)
    holding = []
    for label in task.names:
        given = math.fsum(
            weights[name] for name, opinion in opinions.items() if label in split_labels(opinion.label, task)
        )
        if math.isclose(2 * given, total):
            return None
        if 2 * given > total:
            holding.append(label)
    return join_labels(holding, task)
