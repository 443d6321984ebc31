"""Agreement and mean difference per group of learners, with small groups suppressed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.agreement.confusion import Tables, Values, check_lengths, encode_labels
from edgedistill.agreement.draws import ConfusionDraws, draw_confusions
from edgedistill.agreement.multilabel import LabelSetDraws, draw_label_sets, encode_label_sets
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task

MIN_SUBGROUP_ROWS = 20
"""Default number of rows below which a group is suppressed."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Agreement in one group.

    Attributes:
        value: Name of the group, such as ``preservice``.
        rows: Number of rows.
        suppressed: Whether the group has too few rows or a single learner; it then has no figures, which would reflect
            individual learners and chance.
        accuracy: Share of equal labels.
        kappa: As in `Agreement`.
        smd: Standardised mean differences: for ordinal tasks of the ``score``, else of the indicator of each label. See
            `mean_differences`.
    """

    value: str
    rows: int
    suppressed: bool
    accuracy: Estimate | None
    kappa: Estimate | None
    smd: dict[str, Estimate | None]


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
    """Compare a coding with the reference in each group of learners, with 95 % intervals.

    Args:
        reference: The correct label of each row.
        coded: The label of each row to be compared.
        values: The subgroup of each row; rows with an empty value are ignored.
        task: Defines the allowed labels and their order.
        smallest: Subgroups of fewer rows are suppressed.
        groups: The cluster of each row, such as a learner; whole clusters are resampled, and a subgroup with a single
            one is suppressed. None: rows are independent.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Returns:
        The subgroups, sorted by value.

    Raises:
        DataError: As for `agreement`; also if the number of values is not the number of rows.
    """
    check_lengths(reference, coded=coded)
    if len(values) != len(reference):
        raise DataError(f"there are {len(reference)} rows but {len(values)} subgroup values")
    multilabel = task.kind == "multilabel"
    encode = encode_label_sets if multilabel else encode_labels
    truth, predicted = encode(reference, task, "reference"), encode(coded, task, "coded")
    results = []
    for value in sorted({value for value in values if value}):
        inside = np.array([each == value for each in values])
        rows = int(inside.sum())
        clusters = (
            None
            if groups is None
            else [group for group, value_of in zip(groups, values, strict=True) if value_of == value]
        )
        if rows < smallest or (clusters and len(set(clusters)) == 1):
            results.append(Subgroup(value, rows, True, None, None, {}))
            continue
        one, other = truth[inside], predicted[inside]
        if multilabel:
            same = (one == other).all(axis=1).astype(np.float64)
            (sets,) = draw_label_sets(one, [other], clusters, resamples, seed, same)
            results.append(_label_set_figures(value, rows, sets, task))
            continue
        draws = draw_confusions(one, other, len(task.names), clusters, resamples, seed)
        results.append(_figures(value, rows, draws, task))
    return tuple(results)


def mean_differences(confusions: Tables, scores: Values) -> Values:
    """Return the standardised mean difference of each confusion matrix.

    The mean score of the coding minus that of the reference, divided by the square root of the mean of both variances
    (n - 1), as Williamson, Xi & Breyer (2012, doi:10.1111/j.1745-3992.2011.00223.x) recommend for automated scores;
    they flag subgroups beyond 0.10.

    Args:
        confusions: Row counts, or weights, (n, labels, labels), reference by coded label.
        scores: Score of each label, (labels,).

    Returns:
        Shape (n,); NaN if neither coding varies or there is only one row.
    """
    rows = confusions.sum(axis=(1, 2)).astype(np.float64)
    sides = [confusions.sum(axis=axis) for axis in (1, 2)]
    means = [side @ scores / rows for side in sides]
    spread = sum(
        np.maximum(side @ scores**2 - rows * mean**2, 0) / np.maximum(rows - 1, 1)
        for side, mean in zip(sides, means, strict=True)
    )
    root = np.sqrt(spread / 2)
    difference = np.divide(means[0] - means[1], root, out=np.full(len(rows), np.nan), where=root > 1e-12)
    return np.asarray(difference, dtype=np.float64)


def _mean_difference(draws: ConfusionDraws, scores: Values) -> Estimate | None:
    """Return the mean difference; the additional row is coded too low for its lower end, too high for the upper one."""
    table = draws.tables[0]
    shares = (table.sum(axis=0) + table.sum(axis=1)) / 2 / table.sum()
    higher = scores[None, :] > scores[:, None]
    apart = shares[:, None] * shares[None, :]
    ends = []
    for end in (higher.T, higher):
        added = apart * end if (apart * end).any() else end.astype(np.float64)
        ends.append(added / added.sum())
    figure = draws.moved(lambda tables: mean_differences(tables, scores), ends[0], ends[1], (-np.inf, np.inf))
    return figure.estimate()


def _figures(value: str, rows: int, draws: ConfusionDraws, task: Task) -> Subgroup:
    ordinal, labels = task.kind == "ordinal", len(task.names)
    scores = {"score": np.arange(labels)} if ordinal else dict(zip(task.names, np.eye(labels), strict=True))
    return Subgroup(
        value,
        rows,
        False,
        draws.accuracy().estimate(),
        draws.kappa(quadratic=ordinal).estimate(),
        {name: _mean_difference(draws, score.astype(np.float64)) for name, score in scores.items()},
    )


def _label_set_figures(value: str, rows: int, draws: LabelSetDraws, task: Task) -> Subgroup:
    indicator = np.array([0.0, 1.0])
    return Subgroup(
        value,
        rows,
        False,
        draws.accuracy().estimate(),
        draws.mean_kappa().estimate(),
        {name: _mean_difference(draws.label(place), indicator) for place, name in enumerate(task.names)},
    )
