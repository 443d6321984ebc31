"""Does a coding serve every group of learners alike? Agreement per group, small groups suppressed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgedistill.agreement.bootstrap import optional_estimate, resample_confusions
from edgedistill.agreement.confusion import (
    Counts,
    Values,
    accuracies,
    check_lengths,
    confusion_matrix,
    encode_labels,
    kappas,
)
from edgedistill.agreement.multilabel import (
    LabelSetCounts,
    count_all_rows,
    encode_label_sets,
    exact_matches,
    label_statistics,
    mean_kappas,
    resample_label_sets,
)
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task

MIN_SUBGROUP_ROWS = 20
"""Rows below which a group's figures are suppressed, unless said otherwise."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The rows of one group.

    Attributes:
        value: What they have in common, such as ``preservice``.
        rows: How many they are.
        suppressed: Whether they are too few, or all of one learner: then there are no figures, which would say more of
            single learners, and of chance, than of the group.
        accuracy: Share of equal labels.
        kappa: As in `Agreement`.
        smd: Standardised mean differences by name: of an ordinal task one, ``score``; else one per label, which counts
            1 where the label is given and 0 where it is not. See `mean_differences`.
    """

    value: str
    rows: int
    suppressed: bool
    accuracy: Estimate | None
    kappa: Estimate | None
    smd: dict[str, Estimate | None]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, numbers and None, ready for JSON; the keys are the attributes' names."""
        return asdict(self)


def subgroups(
    reference: Sequence[str],
    coded: Sequence[str],
    values: Sequence[str],
    task: Task,
    *,
    smallest: int = MIN_SUBGROUP_ROWS,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """Compare a coding with the reference in each group of learners, with 95 % percentile bootstrap intervals.

    Args:
        reference: The label per row that counts as right.
        coded: The label per row that is judged.
        values: Per row the group; rows with an empty one are left out.
        task: Its labels are the only ones allowed.
        smallest: Groups of fewer rows are suppressed.
        groups: What each row belongs to, such as a learner; whole ones are drawn, and a subgroup of one is suppressed.
            None: every row stands for itself.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Returns:
        The groups, by value.

    Raises:
        DataError: As `agreement` says.
    """
    check_lengths(reference, coded=coded)
    if len(values) != len(reference):
        raise DataError(f"{len(reference)} rows come with {len(values)} subgroup values")
    multilabel = task.kind == "multilabel"
    place_of = encode_label_sets if multilabel else encode_labels
    truth, judged = place_of(reference, task, "reference"), place_of(coded, task, "coded")
    found = []
    for value in sorted({value for value in values if value}):
        inside = np.array([each == value for each in values])
        rows = int(inside.sum())
        clusters = (
            None
            if groups is None
            else [group for group, value_of in zip(groups, values, strict=True) if value_of == value]
        )
        if rows < smallest or (clusters and len(set(clusters)) == 1):
            found.append(Subgroup(value, rows, True, None, None, {}))
            continue
        rng = np.random.default_rng(seed)
        one, other = truth[inside], judged[inside]
        if multilabel:
            (sets_drawn,) = resample_label_sets([(one, other)], clusters, resamples, rng)
            found.append(_set_figures(value, rows, count_all_rows(one, other), sets_drawn, task))
            continue
        drawn = resample_confusions(one, other, len(task.names), clusters, resamples, rng)
        own = confusion_matrix(one, other, len(task.names))[None]
        found.append(_figures(value, rows, own, drawn, task))
    return tuple(found)


def mean_differences(confusions: Counts, scores: Values) -> Values:
    """Return the standardised mean difference of each confusion matrix.

    The coding's mean score less the reference's, over the root of the mean of both variances (n - 1), as Williamson, Xi
    & Breyer ask of automated scores (2012, doi:10.1111/j.1745-3992.2011.00223.x; they flag a subgroup beyond 0.10).

    Args:
        confusions: Row counts (n, labels, labels), reference by coded.
        scores: What each label counts, (labels,).

    Returns:
        (n,); NaN where neither coding varies, or there is one row.
    """
    rows = confusions.sum(axis=(1, 2)).astype(np.float64)
    sides = [confusions.sum(axis=axis) for axis in (1, 2)]
    means = [side @ scores / rows for side in sides]
    spread = sum(
        np.maximum(side @ scores**2 - rows * mean**2, 0) / np.maximum(rows - 1, 1)
        for side, mean in zip(sides, means, strict=True)
    )
    root = np.sqrt(spread / 2)
    found = np.divide(means[0] - means[1], root, out=np.full(len(rows), np.nan), where=root > 1e-12)
    return np.asarray(found, dtype=np.float64)


def _figures(value: str, rows: int, own: Counts, drawn: Counts, task: Task) -> Subgroup:
    ordinal = task.kind == "ordinal"

    def told(statistic: Any) -> Estimate | None:
        return optional_estimate(float(statistic(own)[0]), statistic(drawn))

    labels = len(task.names)
    scores = {"score": np.arange(labels)} if ordinal else dict(zip(task.names, np.eye(labels), strict=True))
    return Subgroup(
        value,
        rows,
        False,
        told(accuracies),
        told(lambda confusions: kappas(confusions, quadratic=ordinal)),
        {
            name: told(lambda confusions, score=score: mean_differences(confusions, score.astype(np.float64)))
            for name, score in scores.items()
        },
    )


def _set_figures(value: str, rows: int, own: LabelSetCounts, drawn: LabelSetCounts, task: Task) -> Subgroup:
    def gaps(found: LabelSetCounts) -> Values:
        return label_statistics(lambda tables: mean_differences(tables, np.array([0.0, 1.0])), found)

    own_gaps, drawn_gaps = gaps(own)[0], gaps(drawn)
    return Subgroup(
        value,
        rows,
        False,
        optional_estimate(float(exact_matches(own)[0]), exact_matches(drawn)),
        optional_estimate(float(mean_kappas(own)[0]), mean_kappas(drawn)),
        {name: optional_estimate(float(own_gaps[at]), drawn_gaps[:, at]) for at, name in enumerate(task.names)},
    )
