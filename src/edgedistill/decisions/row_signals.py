"""Signals by which uncoded rows are drawn for people: each a value of at least 0 per row, the larger the more useful.

uncertainty     of the student: √(Σ p (1 - p)) over the labels' probabilities
disagreement    among the teacher's votes, and between teacher and student
novelty         the rank of a score's novelty
coverage        questions and learners of whom few rows are coded
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from edgedistill.agreement.confusion import Values
from edgedistill.data.types import TeacherLabel, labels_in
from edgedistill_serve.task.task import Task


def uncertainty(probabilities: Values) -> Values:
    """Return √(Σ p (1 - p)) of each row.

    This is the standard deviation of the row's code given the student's probabilities, summed over labels as variances
    are. Drawing in proportion to it is Neyman's optimal allocation for the shares of the labels (Neyman 1934,
    doi:10.2307/2342192; for model predictions Zrnic & Candès 2024, arXiv:2403.03208), if the probabilities are
    calibrated.

    Args:
        probabilities: Of each label, shape (rows, labels); for a multilabel task they need not sum to 1.
    """
    return np.asarray(np.sqrt((probabilities * (1 - probabilities)).sum(axis=1)), dtype=np.float64)


def disagreement(
    ids: Sequence[str], teacher: Mapping[str, TeacherLabel], student: Mapping[str, str] | None, task: Task
) -> Values:
    """Return how much the teacher's votes disagree, and whether its label is another than the student's.

    The mean of two values in [0, 1]: 1 - consistency, and 1 where student and teacher differ (for a multilabel task the
    share of labels that only one of them assigns); without a student the first alone. A row that the teacher did not
    code has the mean of the others.

    Args:
        ids: The rows.
        teacher: Labels by id.
        student: The student's label by id; None without a student.
        task: The task.
    """

    def of_row(ident: str) -> float:
        label = teacher.get(ident)
        if label is None:
            return np.nan
        votes = 1 - label.consistency
        if student is None:
            return votes
        assigned, other = set(labels_in(label.label, task)), set(labels_in(student[ident], task))
        return (votes + len(assigned ^ other) / len(assigned | other)) / 2

    found = np.array([of_row(ident) for ident in ids], dtype=np.float64)
    known = found[~np.isnan(found)]
    return np.asarray(np.nan_to_num(found, nan=float(known.mean()) if len(known) else 0.0), dtype=np.float64)


def novelty_ranks(novelty: Values) -> Values:
    """Return the mid-rank of each row's novelty, divided by the number of rows, in (0, 1]."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(novelty) / len(novelty), dtype=np.float64)


def coverage(strata: Sequence[Sequence[str | None]], coded: Sequence[Sequence[str | None]]) -> Values | None:
    """Return sizes by which each question, and each learner, has a share that falls with its coded rows.

    A question with m coded rows and n uncoded ones gives each of these 1 / (n (1 + m)); likewise for learners, and the
    two, each with a sum of 1, are added.

    Args:
        strata: For each uncoded row the value of every kind of stratum, such as its question and its learner; None
            where it has none.
        coded: The same for each coded row.

    Returns:
        Shape (rows,); None if no kind of stratum has two values or more.
    """
    total: Values | None = None
    for kind in range(len(strata[0]) if strata else 0):
        uncoded = Counter(row[kind] for row in strata)
        known = Counter(row[kind] for row in coded)
        if len(uncoded) < 2:
            continue
        sizes = np.array([1 / (uncoded[row[kind]] * (1 + known[row[kind]])) for row in strata], dtype=np.float64)
        total = sizes / sizes.sum() + (0 if total is None else total)
    return total
