"""The score of one response, and the decision whether a person should review it."""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.bundle.verdict import NOT_VALIDATED, BundleVerdict, ScoreVerdict
from edgedistill_serve.errors import EdgeDistillError, ScoringFailed
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.label_decoding import certainty
from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL, Task, join_labels

Reason: TypeAlias = Literal["blank", "unreadable", "truncated", "new question", "unlike training", "below threshold"]


class Score(msgspec.Struct, frozen=True, gc=False):
    """The score of one response.

    Attributes:
        label: The most probable label; the first one if two are equally probable. For a multilabel task, the assigned
            labels in the form of `task.join_labels`: ``asks;praises``, or ``none``.
        probability: Probability of the label, in [0, 1]. For a multilabel task, the smallest certainty of any label
            (`label_decoding.certainty`), in [0.5, 1].
        probabilities: Probability of every label, in the task's order. They sum to 1, except for a multilabel task.
        decision: ``accept``, or ``review`` if a person should look at the response.
        reason: Reason for a review, else None.
        truncated: Whether the model read only the beginning of the response.
        tokens: Number of tokens of the response before truncation.
        unknown_share: Share of the response that the model's vocabulary cannot represent, in [0, 1]: of its tokens, or
            of its letters, digits and symbols if that is larger; of what the model read.
        context_tokens: Number of tokens of what the model reads before the response, before truncation.
        context_tokens_lost: Number of them that the model did not read, because the input was too long.
        novelty: Distance of what the model read from its training texts; a typical response has 1
            (`docs/novelty.md`). None for bundles that do not compute it.
        verdict: ``validated`` if the verdict of the bundle covers the label, else ``not validated``: then ``accept``
            means only that the decision rule has no objection.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    decision: Literal["accept", "review"]
    reason: Reason | None
    truncated: bool
    tokens: int
    unknown_share: float = 0.0
    context_tokens: int = 0
    context_tokens_lost: int = 0
    novelty: float | None = None
    verdict: ScoreVerdict = "not validated"

    @property
    def context_truncated(self) -> bool:
        """Whether the model did not read all of the question and the reference answer."""
        return self.context_tokens_lost > 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The label as a tuple; for a multilabel task the assigned labels in the task's order, possibly none."""
        return _labels(self.label, self.probabilities)


def _labels(label: str, names: Collection[str]) -> tuple[str, ...]:
    """Return the labels that the text of a score names."""
    if label in names:
        return (label,)
    return () if label == NO_LABEL else tuple(label.split(LABEL_SEPARATOR))


Columns: TypeAlias = Mapping[str, type[str] | type[float] | type[int] | type[bool]]
"""Columns of a table of scores and the types of their values; any value may be None."""


def score_columns(task: Task, prefix: str = "") -> Columns:
    """Return the columns that scoring adds to a table of responses, with their types.

    Args:
        task: The scored task; each of its labels has a column.
        prefix: Prefix of every column name.
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
        f"{prefix}unknown_share": float,
        f"{prefix}context_tokens": int,
        f"{prefix}context_tokens_lost": int,
        f"{prefix}novelty": float,
        f"{prefix}error": str,
    }


def score_values(result: Score | EdgeDistillError, columns: Columns) -> dict[str, Any]:
    """Return one row of a table of scores; for a response that cannot be scored, only the error."""
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
        result.unknown_share,
        result.context_tokens,
        result.context_tokens_lost,
        result.novelty,
        None,
    )
    return dict(zip(columns, values, strict=True))


def build_score(
    probabilities: NDArray[np.float64],
    encoded: Encoded,
    task: Task,
    review: ReviewRule,
    *,
    thresholds: Sequence[float] = (),
    new_question: bool = False,
    novelty: float | None = None,
    verdict: BundleVerdict = NOT_VALIDATED,
) -> Score:
    """Assign the label, and decide whether a person should review it.

    Args:
        probabilities: Shape (labels,).
        encoded: The encoded response.
        task: The scored task.
        review: Decides which scores a person should review.
        thresholds: For a multilabel task, the probability from which each label is assigned, in the task's order.
        new_question: Whether the decision rule was not shown for the response's question.
        novelty: The graph's second output; None if it has none.
        verdict: That of the bundle.

    Raises:
        ScoringFailed: A probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise ScoringFailed("the probabilities of this response are not finite")
    shares = dict(zip(task.names, probabilities.tolist(), strict=True))
    if task.kind == "multilabel":
        label, probability, minimum = *_assign_labels(shares, task, thresholds), review.least_certainty
    else:
        label = max(shares, key=shares.__getitem__)
        probability, minimum = shares[label], review.thresholds.get(label, 0.0)
    reason: Reason | None = _unfit_reason(encoded, review, new_question=new_question, novelty=novelty)
    # Written so that a value that is not a number is reviewed.
    if reason is None and not probability >= minimum:
        reason = "below threshold"
    decision: Literal["accept", "review"] = "accept" if reason is None else "review"
    return Score(
        label,
        probability,
        shares,
        decision,
        reason,
        encoded.truncated,
        encoded.tokens,
        encoded.unknown_share,
        encoded.context_tokens,
        encoded.context_tokens_lost,
        novelty,
        verdict.of_score(_labels(label, shares), task.names) if verdict.is_validated else "not validated",
    )


def _unfit_reason(
    encoded: Encoded, review: ReviewRule, *, new_question: bool = False, novelty: float | None = None
) -> Reason | None:
    """Return why a person should review a response whatever its label; None without a reason.

    Args:
        encoded: The encoded response.
        review: Decides which scores a person should review.
        new_question: As for `build_score`.
        novelty: As for `build_score`.
    """
    if encoded.blank and review.blank:
        return "blank"
    # Written so that a value that is not a number is reviewed.
    if not encoded.unknown_share <= review.max_unknown_share:
        return "unreadable"
    if encoded.truncated and review.truncated:
        return "truncated"
    if new_question and review.new_question:
        return "new question"
    is_near = review.max_novelty is None or (novelty is not None and novelty <= review.max_novelty)
    has_letters = not review.min_letters or encoded.letters.share(review.scripts) >= review.min_letters
    return None if is_near and has_letters else "unlike training"


def _assign_labels(shares: Mapping[str, float], task: Task, thresholds: Sequence[float]) -> tuple[str, float]:
    """Return the assigned labels as one text, and the smallest certainty of any label."""
    pairs = list(zip(shares.items(), thresholds, strict=True))
    assigned = [name for (name, share), threshold in pairs if share >= threshold]
    # Interned, because thousands of scores with equal labels are cached.
    label = sys.intern(join_labels(assigned, task))
    return label, min(certainty(share, threshold) for (_, share), threshold in pairs)
