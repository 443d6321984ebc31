"""What the model says of one response, and whether a person should look at it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.errors import EdgeDistillError
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.label_decoding import certainty
from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL, Task, join_labels

Reason: TypeAlias = Literal["blank", "truncated", "below threshold"]


class Score(msgspec.Struct, frozen=True, gc=False):
    """What the model says of one response.

    Attributes:
        label: The label of the largest probability; the first of them where two are equal. Of a multilabel task, the
            labels that hold as `task.join_labels` writes them: ``asks;praises``, or ``none``.
        probability: Its probability, in [0, 1]. Of a multilabel task, the certainty of the label that is least sure
            (`label_decoding.certainty`), in [0.5, 1].
        probabilities: Every label's probability, in the task's order; they sum to 1, but for those of a multilabel
            task.
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

    @property
    def labels(self) -> tuple[str, ...]:
        """The label, alone; of a multilabel task those that hold, in the task's order, or nothing."""
        if self.label in self.probabilities:
            return (self.label,)
        return () if self.label == NO_LABEL else tuple(self.label.split(LABEL_SEPARATOR))


Columns: TypeAlias = Mapping[str, type[str] | type[float] | type[int] | type[bool]]
"""The columns of a table of scores, and what their values are; any value may also be None."""


def score_columns(task: Task, prefix: str = "") -> Columns:
    """Return the columns that a table of scores has beside the responses, with their types.

    Args:
        task: Its labels have a column each.
        prefix: Begins the name of every column.
    """
    shares = {f"{prefix}probability_{name}": float for name in task.names}
    return {
        f"{prefix}label": str,
        f"{prefix}probability": float,
        **shares,
        f"{prefix}decision": str,
        f"{prefix}reason": str,
        f"{prefix}truncated": bool,
        f"{prefix}tokens": int,
        f"{prefix}error": str,
    }


def score_values(result: Score | EdgeDistillError, columns: Columns) -> dict[str, Any]:
    """Return a row of such a table; of a response that cannot be scored, the error alone."""
    if isinstance(result, EdgeDistillError):
        return {**dict.fromkeys(columns), list(columns)[-1]: str(result)}
    values = (
        result.label,
        result.probability,
        *result.probabilities.values(),
        result.decision,
        result.reason,
        result.truncated,
        result.tokens,
        None,
    )
    return dict(zip(columns, values, strict=True))


def build_score(
    probabilities: NDArray[np.float64],
    encoded: Encoded,
    task: Task,
    review: ReviewRule,
    *,
    blank: bool,
    thresholds: Sequence[float] = (),
) -> Score:
    """Name the label, and decide whether a person should look at it.

    Args:
        probabilities: Shape (labels,).
        encoded: The response as the model read it.
        task: Names the labels.
        review: Which scores go to a person.
        blank: Whether there is nothing to read in the response.
        thresholds: Of a multilabel task, for each label in its order the probability from which it holds.
    """
    shares = dict(zip(task.names, probabilities.tolist(), strict=True))
    if task.kind == "multilabel":
        label, probability, least = *_labels(shares, task, thresholds), review.least_certainty
    else:
        label = max(shares, key=shares.__getitem__)
        probability, least = shares[label], review.thresholds.get(label, 0.0)
    reason: Reason | None = None
    if blank and review.blank:
        reason = "blank"
    elif encoded.truncated and review.truncated:
        reason = "truncated"
    elif probability < least:
        reason = "below threshold"
    decision: Literal["accept", "review"] = "accept" if reason is None else "review"
    return Score(label, probability, shares, decision, reason, encoded.truncated, encoded.tokens)


def _labels(shares: Mapping[str, float], task: Task, thresholds: Sequence[float]) -> tuple[str, float]:
    """The labels that hold as one text, and the certainty of the least sure."""
    measured = list(zip(shares.items(), thresholds, strict=True))
    held = [name for (name, share), threshold in measured if share >= threshold]
    # One text for all equal ones: scores are remembered by the thousand.
    label = sys.intern(join_labels(held, task))
    return label, min(certainty(share, threshold) for (_, share), threshold in measured)
