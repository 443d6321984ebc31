"""From a raw answer to the votes that it holds.

Vote    a label, and how probable it and the others were where the endpoint says so
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgedistill.teacher.formats import FIRST_ID, AnswerShape
from edgedistill.teacher.logprobs import label_probabilities
from edgedistill.teacher.parsing import (
    Cause,
    Failure,
    content_of,
    label_among,
    labels_among,
    labels_given,
    read_label,
    read_labels,
    unusable,
)


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
        return {FIRST_ID: Vote(label, _probabilities(answer, [label], shape)[0])}
    content = content_of(answer)
    if isinstance(content, Failure):
        return content
    entries = list(_entries(content, shape))
    if not entries:
        return unusable(Cause.UNREADABLE, answer)
    labels = [_code(given, shape) for _, given in entries]
    probabilities = _probabilities(answer, labels, shape)
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


def _probabilities(
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
