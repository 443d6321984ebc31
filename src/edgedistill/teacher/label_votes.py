"""From votes that may each name any number of labels to the labels that hold.

A label holds where more than half of the votes name it. The row's consistency is the share of the votes that name just
the labels that hold; a label's own share, or what is left of it to 1, says how far the votes agree on that label.
"""

import math
from collections.abc import Mapping, Sequence

from edgedistill.records.types import TeacherLabel
from edgedistill.teacher.voting import Ties
from edgedistill_serve.task import Task, join_labels, split_labels


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
