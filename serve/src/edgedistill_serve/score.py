"""What the model says of one response, and whether a person should look at it."""

from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.encoding import Encoded
from edgedistill_serve.manifest import ReviewRule
from edgedistill_serve.task import Task

Reason: TypeAlias = Literal["blank", "truncated", "below threshold"]


class Score(msgspec.Struct, frozen=True):
    """What the model says of one response.

    Attributes:
        label: The label of the largest probability; the first of them where two are equal.
        probability: Its probability, in [0, 1].
        probabilities: Every label's probability, in the task's order; they sum to 1.
        decision: ``accept``, or ``review``: a person should look at it.
        reason: Why it should be reviewed, else None.
        truncated: Whether the model read only the response's beginning.
        tokens: How many tokens the response has, before any cut.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    decision: Literal["accept", "review"]
    reason: Reason | None
    truncated: bool
    tokens: int


def judge(
    probabilities: NDArray[np.float64], encoded: Encoded, task: Task, review: ReviewRule, *, blank: bool
) -> Score:
    """Name the label, and decide whether a person should look at it.

    Args:
        probabilities: Shape (labels,).
        encoded: The response as the model read it.
        task: Names the labels.
        review: Which scores go to a person.
        blank: Whether there is nothing to read in the response.
    """
    shares = dict(zip(task.names, probabilities.tolist(), strict=True))
    label = max(shares, key=shares.__getitem__)
    reason: Reason | None = None
    if blank and review.blank:
        reason = "blank"
    elif encoded.truncated and review.truncated:
        reason = "truncated"
    elif shares[label] < review.thresholds.get(label, 0.0):
        reason = "below threshold"
    decision: Literal["accept", "review"] = "accept" if reason is None else "review"
    return Score(label, shares[label], shares, decision, reason, encoded.truncated, encoded.tokens)
