"""From the votes on one response to the teacher's label."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from edgedistill.records.types import TeacherLabel
from edgedistill.teacher.votes import Vote

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
