"""Several teachers' labels of the same responses, made into one label each; one teacher's labels are what they are."""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

from edgedistill.records.types import Response, SetAside, Soft, TeacherLabel
from edgedistill.teacher.label_votes import joint_label
from edgedistill.teacher.labelling import Labelling
from edgedistill.teacher.parsing import Cause
from edgedistill_serve.task import Task


def joint_labelling(
    responses: Sequence[Response], labellings: Mapping[str, Labelling], weights: Mapping[str, float], task: Task
) -> Labelling:
    """Return the labels that the teachers give together.

    A response's label is the one with the greatest weight of the teachers that gave it; of a multilabel task each label
    holds that teachers with more than half of the weight give. A teacher that set the response aside has no say in it.
    Equal weights are a tie, and the response is set aside. Shares and consistency are the weighted means of the
    teachers' shares, and of the shares of their votes that equal the label.

    Args:
        responses: What was coded.
        labellings: What each teacher made of them, by its name; at least one.
        weights: By teacher, 0 or more.
        task: What was coded for.
    """
    if len(labellings) == 1:
        return next(iter(labellings.values()))
    by_id = {name: {label.id: label for label in labelling.labels} for name, labelling in labellings.items()}
    reasons = {name: {row.id: row.reason for row in labelling.set_aside} for name, labelling in labellings.items()}
    found = [
        _joint(
            response,
            {name: labels[response.id] for name, labels in by_id.items() if response.id in labels},
            {name: rows[response.id] for name, rows in reasons.items() if response.id in rows},
            weights,
            task,
        )
        for response in responses
    ]
    return Labelling(
        tuple(row for row in found if isinstance(row, TeacherLabel)),
        tuple(row for row in found if isinstance(row, SetAside)),
        reduce(add, (labelling.usage for labelling in labellings.values())),
    )


def _joint(
    response: Response,
    opinions: Mapping[str, TeacherLabel],
    reasons: Mapping[str, str],
    weights: Mapping[str, float],
    task: Task,
) -> TeacherLabel | SetAside:
    if not opinions:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return SetAside(response.file, response.row, response.id, str(Cause.NO_TEACHER), told)
    best = joint_label(opinions, weights, task) if task.kind == "multilabel" else _heaviest(opinions, weights)
    if best is None:
        told = ", ".join(f"{name}: {opinion.label}" for name, opinion in opinions.items())
        return SetAside(response.file, response.row, response.id, str(Cause.TEACHERS_TIE), told)
    return _label(best, opinions, weights)


def _heaviest(opinions: Mapping[str, TeacherLabel], weights: Mapping[str, float]) -> str | None:
    """The label with the greatest weight; None where two have it, or none has any."""
    given = {
        label: math.fsum(weights[name] for name, opinion in opinions.items() if opinion.label == label)
        for label in dict.fromkeys(opinion.label for opinion in opinions.values())
    }
    best = max(given, key=given.__getitem__)
    tied = any(label != best and math.isclose(weight, given[best]) for label, weight in given.items())
    return best if given[best] and not tied else None


def _label(label: str, opinions: Mapping[str, TeacherLabel], weights: Mapping[str, float]) -> TeacherLabel:
    total = math.fsum(weights[name] for name in opinions)

    def mean(of: Mapping[str, float]) -> float:
        return math.fsum(weights[name] * of[name] for name in opinions) / total

    every = tuple(opinions.values())
    names = dict.fromkeys(name for opinion in every for name in opinion.shares)
    shares = {name: mean({who: opinion.shares.get(name, 0.0) for who, opinion in opinions.items()}) for name in names}
    soft: set[Soft] = {opinion.soft for opinion in every}
    return TeacherLabel(
        id=every[0].id,
        label=label,
        consistency=mean({who: one.votes.count(label) / len(one.votes) for who, one in opinions.items()}),
        shares={name: share for name, share in shares.items() if share > 0},
        votes=tuple(vote for opinion in every for vote in opinion.votes),
        teacher=" + ".join(opinions),
        soft=soft.pop() if len(soft) == 1 else "mixed",
        opinions=every,
    )
