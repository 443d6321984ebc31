"""The reference of a bundle: how the served graph scores the validation rows, in counts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgedistill_export.authors import Author
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.bundle.reference import (
    FEWEST_LEARNERS,
    REFERENCE_VERSION,
    SMALLEST_CELL,
    SMALLEST_GROUP,
    Reference,
    reference_cell,
)
from edgedistill_serve.bundle.response_counts import ResponseCounts
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.contexts import context_hash, has_context
from edgedistill_serve.task.task import Task


def build_reference(
    scores: Sequence[Score],
    rows: Sequence[Mapping[str, str]],
    authors: Sequence[Author],
    task: Task,
    precision: Precision,
) -> Reference | None:
    """Return the reference; None if there are too few rows, or too few learners.

    Args:
        scores: Of the validation rows, by the graph and the rule that are served.
        rows: The inputs of the rows.
        authors: Who wrote each; empty or None if that is not known.
        task: The task.
        precision: The graph.
    """
    known = list(authors) if len(authors) == len(rows) else [None] * len(rows)
    if not _is_enough(known):
        return None
    by_item: dict[str, list[int]] = defaultdict(list)
    if has_context(task):
        for place, row in enumerate(rows):
            by_item[context_hash(row)].append(place)
    items = [
        reference_cell(item, _counted(scores[place] for place in places))
        for item, places in sorted(by_item.items())
        if _is_enough([known[place] for place in places])
    ]
    return Reference(
        REFERENCE_VERSION, precision, design_effect(scores, known), reference_cell("", _counted(scores)), tuple(items)
    )


def _is_enough(authors: Sequence[Author]) -> bool:
    learners = {author for author in authors if author is not None}
    return len(authors) >= SMALLEST_CELL and (not learners or len(learners) >= FEWEST_LEARNERS)


def _counted(scores: Iterable[Score]) -> ResponseCounts:
    counts = ResponseCounts()
    for each in scores:
        counts.count(each.label, each.probability, each.reason, each.tokens, each.novelty)
    return counts


def design_effect(scores: Sequence[Score], authors: Sequence[Author]) -> float:
    """Return by how much learners multiply the variance of a share: the most of any label's, and of the reviews'.

    The variance of a share over independent learners, divided by that over independent rows (Kish 1965); at least 1.
    A row without a learner is a learner of its own.
    """
    if all(author is None for author in authors):
        return 1.0
    names = [f" row {place}" if author is None else str(author) for place, author in enumerate(authors)]
    _, learner = np.unique(names, return_inverse=True)
    learners, rows = int(learner.max()) + 1, len(scores)
    flags = [np.array([score.label == label for score in scores]) for label in {score.label for score in scores}]
    flags.append(np.array([score.decision == "review" for score in scores]))
    found = [1.0]
    for flag in flags:
        if SMALLEST_GROUP <= flag.sum() <= rows - SMALLEST_GROUP:
            residual: npt.NDArray[np.float64] = flag - flag.mean()
            sums = np.bincount(learner, weights=residual)
            found.append(float((sums**2).sum() * learners / (learners - 1) / (residual**2).sum()))
    return max(found)
