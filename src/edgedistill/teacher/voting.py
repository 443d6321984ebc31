"""From the votes on one response to the teacher's label."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from edgedistill.records.types import TeacherLabel


def count_votes(
    response_id: str, votes: Sequence[str], ties: Literal["set_aside", "first_vote"], teacher: str
) -> TeacherLabel | None:
    """Return the mode of the votes with its consistency, or None for a tie that is to be set aside.

    Args:
        response_id: The response's id.
        votes: The labels, in the order of the votes; at least one.
        ties: What two or more labels with the most votes become; ``first_vote`` takes the one that was voted first.
        teacher: The model's name.
    """
    counts = Counter(votes)
    most = max(counts.values())
    modes = [label for label, count in counts.items() if count == most]  # in the order of their first votes
    if len(modes) > 1 and ties == "set_aside":
        return None
    shares = {label: count / len(votes) for label, count in counts.items()}
    return TeacherLabel(response_id, modes[0], shares[modes[0]], shares, tuple(votes), teacher)
