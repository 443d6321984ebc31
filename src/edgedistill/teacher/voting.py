"""Parses answers to votes, and counts votes to one label for each response.

The consistency of a row is the share of the votes that equal its label. For a multilabel task, a label holds if more
than half of the votes name it.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edgedistill.data.types import Soft, TeacherLabel
from edgedistill.teacher.codebook import AnswerShape
from edgedistill.teacher.matching import match_label, match_labels
from edgedistill.teacher.parsing import (
    Failure,
    FailureCause,
    FoundObjects,
    compute_label_probabilities,
    extract_text,
    find_coded,
    find_objects,
    label_text,
    parse_confidence,
    parse_label,
    parse_labels,
    read_confidence,
    split_confidence,
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
        confidence: The stated probability that a human coder gives the same, in [0, 1]; None if none was stated.
    """

    label: str
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Votes:
    """The votes of one answer.

    Attributes:
        entries: The id of each entry, None if it has none, and its vote, None if its label is none of the codebook's.
    """

    entries: tuple[tuple[str | None, Vote | None], ...]

    def assign(self, ids: Sequence[str]) -> list[Vote | None]:
        """Return the vote of each response, in the order of the ids.

        An id that was not sent, is missing, or occurs twice shows that the entries may be misplaced: then no response
        gets a vote. The only entry of an answer to one response is that response's, whatever its id.

        Args:
            ids: The ids in the request.
        """
        if len(ids) == len(self.entries) == 1:
            return [self.entries[0][1]]
        by_id = {_fold_id(ident): vote for ident, vote in self.entries if ident is not None}
        whole = len(self.entries) == len(by_id) == len(ids) and by_id.keys() == set(ids)
        return [by_id[ident] if whole else None for ident in ids]


def _fold_id(ident: str) -> str:
    return ident.strip(" \t\n\"'`*#.[]()<>").casefold()


_CODING_LINE = re.compile(r"""[^\w\n]{0,12}(\w{1,12})["'`*_\])]{0,6}\s*[:.)\]|=]+(?:["'`*_]{1,3}(?=\s))?(.+)""")


def parse_votes(answer: Mapping[str, Any], shape: AnswerShape) -> Votes | Failure:
    """Return the votes in a chat completion, at least one of them valid.

    Args:
        answer: The whole chat completion.
        shape: The requested content.
    """
    if not shape.multiple_responses:
        parse = parse_labels if shape.multilabel else parse_label
        label = parse(answer, shape.labels, after_reason=shape.reasoning, confidence=shape.confidence)
        if isinstance(label, Failure):
            return label
        confidence = parse_confidence(answer, several=shape.multilabel) if shape.confidence else None
        return Votes(((None, Vote(label, _get_probabilities(answer, [label], shape)[0], confidence)),))
    content = extract_text(answer)
    if isinstance(content, Failure):
        return content
    found = find_objects(content)
    entries = [] if found is None else list(_entries(content, found, shape))
    if not entries:
        return unusable_answer(FailureCause.UNREADABLE, answer)
    labels = [_match(named, shape) for _, named, _ in entries]
    if not any(labels):
        return unusable_answer(FailureCause.NO_SUCH_LABEL, answer)
    probabilities = _get_probabilities(answer, labels, shape)
    return Votes(
        tuple(
            (ident, None if label is None else Vote(label, probable, confidence if shape.confidence else None))
            for (ident, _, confidence), label, probable in zip(entries, labels, probabilities, strict=True)
        )
    )


def parse_single_vote(answer: Mapping[str, Any], shape: AnswerShape) -> Votes | Failure:
    """Return the vote of a response that was sent alone, or a failure if the answer has several entries."""
    votes = parse_votes(answer, shape)
    if isinstance(votes, Failure) or len(votes.entries) == 1:
        return votes
    return unusable_answer(FailureCause.UNREADABLE, answer)


def _get_probabilities(
    answer: Mapping[str, Any], chosen: Sequence[str | None], shape: AnswerShape
) -> Sequence[Mapping[str, float] | None]:
    return [None] * len(chosen) if shape.multilabel else compute_label_probabilities(answer, chosen, shape.labels)


def _match(value: object, shape: AnswerShape) -> str | None:
    if shape.multilabel:
        return match_labels(value, shape.labels)
    text = label_text(value, shape.labels)
    return None if text is None else match_label(text, shape.labels)


def _entries(
    content: str, found: FoundObjects, shape: AnswerShape
) -> Iterator[tuple[str | None, object, float | None]]:
    """Yield the id, the label or labels and the confidence of every entry."""
    if found.objects:
        for coded in find_coded(found.objects, several=shape.multilabel):
            yield coded.ident, coded.named, read_confidence(coded.confidence)
        return
    for line in content.splitlines():
        if entry := _CODING_LINE.match(line):
            parts, confidence = entry[2].split("|"), None
            if shape.confidence and len(parts) > 1:
                last, confidence = split_confidence(parts[-1])
                parts = parts if last else parts[:-1]
            yield entry[1], parts[-1].strip(), confidence


Ties: TypeAlias = Literal["set_aside", "first_vote", "logprobs", "confidence"]


def count_votes(
    response_id: str,
    votes: Sequence[Vote],
    ties: Ties,
    teacher: str,
    *,
    soft_labels: Literal["votes", "logprobs", "confidence"] | None = None,
    labels: Sequence[str] = (),
) -> TeacherLabel | None:
    """Return the mode of the votes with its consistency, or None for a tie that is set aside.

    Args:
        response_id: The response's id.
        votes: In their order; at least one.
        ties: How a tie is broken: ``first_vote`` selects the first of the tied labels, ``logprobs`` and ``confidence``
            the most probable one, or none if probabilities or confidences are missing or equal; ``set_aside`` none.
        teacher: The teacher's name.
        soft_labels: Source of the soft label. None: log probabilities if every vote has them, else the votes. If a vote
            lacks what this source needs, the votes.
        labels: The codebook's labels, among which a confidence leaves the rest.
    """
    named = tuple(vote.label for vote in votes)
    counts = Counter(named)
    most = max(counts.values())
    modes = [label for label, count in counts.items() if count == most]  # in the order of their first votes
    probable = _mean_probabilities(votes)
    stated = _mean_confidences(votes, labels or tuple(counts))
    label = modes[0] if len(modes) == 1 else _break_tie(modes, ties, stated if ties == "confidence" else probable)
    if label is None:
        return None
    shares: Mapping[str, float] = {name: count / len(votes) for name, count in counts.items()}
    soft: Soft = "votes"
    if probable and soft_labels in (None, "logprobs"):
        shares, soft = probable, "logprobs"
    elif stated and soft_labels == "confidence":
        shares, soft = stated, "confidence"
    return TeacherLabel(
        response_id,
        label,
        counts[label] / len(votes),
        shares,
        named,
        teacher,
        soft,
        confidences=stated_confidences(votes),
        confidence=mean_confidence(label, votes),
        probability=probable.get(label, 0.0) if probable else None,
    )


def stated_confidences(votes: Sequence[Vote]) -> tuple[float | None, ...]:
    """Return the confidence of each vote; empty if none has one."""
    stated = tuple(vote.confidence for vote in votes)
    return stated if any(each is not None for each in stated) else ()


def mean_confidence(label: str, votes: Sequence[Vote]) -> float | None:
    """Return the confidence in a label: the mean of its votes' confidences, a vote for another label counted as 0.

    Votes without a confidence are left out. None if no vote for the label has one.
    """
    known = [(vote.label == label, vote.confidence) for vote in votes if vote.confidence is not None]
    if not any(same for same, _ in known):
        return None
    return math.fsum(confidence for same, confidence in known if same) / len(known)


def _mean_confidences(votes: Sequence[Vote], labels: Sequence[str]) -> Mapping[str, float] | None:
    """Return the mean of the votes' probabilities; None if a vote has no confidence.

    A vote's own label has the confidence, each of the others an equal share of the rest.
    """
    sums = dict.fromkeys(labels, 0.0)
    for vote in votes:
        if vote.confidence is None:
            return None
        for label in labels:
            rest = (1 - vote.confidence) / max(1, len(labels) - 1)
            sums[label] += (vote.confidence if label == vote.label else rest) / len(votes)
    return {label: share for label, share in sums.items() if share > 0}


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
    confidences: Sequence[float | None] = (),
) -> TeacherLabel | None:
    """Return the labels that more than half of the votes name, or None for a tie that is set aside.

    Args:
        response_id: The response's id.
        votes: The labels of each vote, joined, in order; at least one.
        ties: What happens if exactly half of the votes name a label: with ``first_vote`` it holds if the first vote
            names it, else the response is set aside.
        teacher: The teacher's name.
        task: A multilabel task.
        confidences: The confidence of each vote in its set of labels; empty if none was requested.
    """
    named = [split_labels(vote, task) for vote in votes]
    shares = {name: sum(name in vote for vote in named) / len(named) for name in task.names}
    if ties != "first_vote" and 0.5 in shares.values():
        return None
    holding = [name for name, share in shares.items() if share > 0.5 or (share == 0.5 and name in named[0])]
    label = join_labels(holding, task)
    stated = [Vote(vote, None, each) for vote, each in zip(votes, confidences or [None] * len(votes), strict=True)]
    return TeacherLabel(
        id=response_id,
        label=label,
        consistency=votes.count(label) / len(votes),
        shares={name: share for name, share in shares.items() if share},
        votes=tuple(votes),
        teacher=teacher,
        confidences=stated_confidences(stated),
        confidence=mean_confidence(label, stated),
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
