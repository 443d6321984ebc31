"""Agreement on multilabel tasks: statistics of label sets, and Krippendorff's alpha with the MASI distance.

LabelSets        indicator matrix of rows and labels
LabelSetCounts   numbers of rows, of exact matches, and a 2 x 2 table per label

The MASI distance of two sets is 1 - J M: J is the Jaccard index, M is 1 for equal sets, 2/3 if one contains the other,
1/3 if they overlap otherwise, else 0 (Passonneau 2006, "Measuring Agreement on Set-valued Items (MASI) for Semantic and
Pragmatic Annotation"). Two empty sets are equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import krippendorff
import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import interval_estimate, optional_estimate, row_weights
from edgedistill.agreement.confusion import Counts, Statistic, Values, alphas, f1s, kappas, precisions, recalls
from edgedistill.agreement.types import Agreement, Averages, Estimate, LabelAgreement
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task, split_labels

LabelSets: TypeAlias = NDArray[np.bool_]
"""Indicator matrix (rows, labels): whether a row has a label; labels in codebook order."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelSetCounts:
    """Row counts of n resamples.

    Attributes:
        rows: Rows, (n,).
        same: Rows with equal label sets in both codings, (n,).
        tables: Rows per label by whether the reference and the coding have it, (n, labels, 2, 2).
    """

    rows: Counts
    same: Counts
    tables: Counts


LabelSetStatistic: TypeAlias = Callable[[LabelSetCounts], Values]
"""Maps the counts of n resamples to a value each, (n,); NaN if undefined."""


def encode_label_sets(coding: Sequence[str], task: Task, name: str) -> LabelSets:
    """Return the label sets of a coding.

    Args:
        coding: The labels of each row, joined as by `edgedistill_serve.task.task.join_labels`.
        task: Defines the labels.
        name: Name of the coding for messages.

    Raises:
        DataError: A label is not in the task.
    """
    sets = np.zeros((len(coding), len(task.names)), dtype=np.bool_)
    columns = {label: column for column, label in enumerate(task.names)}
    for row, code in enumerate(coding):
        try:
            sets[row, [columns[label] for label in split_labels(code, task)]] = True
        except DataError as error:
            raise DataError(error.what, where=f"{name} label {row + 1}", hint=error.hint) from None
    return sets


def count_label_sets(reference: LabelSets, coded: LabelSets, weights: Counts) -> LabelSetCounts:
    """Count the rows of n resamples.

    Args:
        reference: Label sets of the reference.
        coded: Label sets of the other coding.
        weights: Number of draws of each row, (n, rows).
    """
    cells = np.eye(4)[2 * reference.astype(np.int64) + coded]
    same = (reference == coded).all(axis=1)
    # Counts are exact in floating point, and products of integer matrices are slow.
    sums = weights.astype(np.float64) @ np.column_stack([cells.reshape(len(reference), -1), same])
    counts = np.rint(sums).astype(np.int64)
    return LabelSetCounts(weights.sum(axis=1), counts[:, -1], counts[:, :-1].reshape(len(weights), -1, 2, 2))


def concatenate_counts(parts: Sequence[LabelSetCounts]) -> LabelSetCounts:
    """Concatenate the counts of one or more blocks of resamples."""
    return LabelSetCounts(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "same", "tables"))
    )


def count_all_rows(reference: LabelSets, coded: LabelSets) -> LabelSetCounts:
    """Count every row once (n = 1)."""
    return count_label_sets(reference, coded, np.ones((1, len(reference)), dtype=np.int64))


def resample_label_sets(
    pairs: Sequence[tuple[LabelSets, LabelSets]], groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> list[LabelSetCounts]:
    """Return the counts of each pair of codings on the same resamples; see `row_weights`."""
    blocks = [
        [count_label_sets(one, other, weights) for one, other in pairs]
        for weights in row_weights(len(pairs[0][0]), groups, resamples, rng)
    ]
    return [concatenate_counts(parts) for parts in zip(*blocks, strict=True)]


def exact_matches(counts: LabelSetCounts) -> Values:
    """Return the share of rows with equal label sets, (n,)."""
    return np.asarray(counts.same / counts.rows, dtype=np.float64)


def label_statistics(statistic: Callable[[Counts], Values], counts: LabelSetCounts) -> Values:
    """Return a statistic per label, (n, labels); of a statistic with a value per class, that of the assigned class."""
    labels = counts.tables.shape[1]
    values = statistic(counts.tables.reshape(-1, 2, 2))
    return (values[:, 1] if values.ndim == 2 else values).reshape(-1, labels)


def label_kappas(tables: Counts) -> Values:
    """Return Cohen's κ of each table (n, 2, 2)."""
    return kappas(tables, quadratic=False)


def mean_kappas(counts: LabelSetCounts) -> Values:
    """Return the mean κ over the labels whose κ is defined, (n,); NaN if there is none."""
    values = label_statistics(label_kappas, counts)
    return _mean(np.nan_to_num(values), ~np.isnan(values))


def macro_statistic(statistic: Statistic) -> LabelSetStatistic:
    """Return the statistic averaged over the labels that occur in either coding; undefined values count as 0."""

    def statistic_of(counts: LabelSetCounts) -> Values:
        return _mean(
            np.nan_to_num(label_statistics(statistic, counts)),
            counts.tables.sum(axis=(2, 3)) > counts.tables[..., 0, 0],
        )

    return statistic_of


def weighted_statistic(statistic: Statistic) -> LabelSetStatistic:
    """Return the statistic averaged over labels, weighted by support; undefined values count as 0."""

    def statistic_of(counts: LabelSetCounts) -> Values:
        return _mean(np.nan_to_num(label_statistics(statistic, counts)), counts.tables[..., 1, :].sum(axis=2))

    return statistic_of


def micro_statistic(statistic: Statistic) -> LabelSetStatistic:
    """Return the statistic of the summed tables of all labels."""
    return lambda counts: statistic(counts.tables.sum(axis=1))[:, 1]


def label_statistic(statistic: Statistic, label: int) -> LabelSetStatistic:
    """Return the statistic of one label, given by its index."""
    return lambda counts: label_statistics(statistic, counts)[:, label]


def label_set_statistics() -> dict[str, LabelSetStatistic]:
    """Return the statistics for comparing two codings of a multilabel task by name."""
    return {
        "accuracy": exact_matches,
        "macro_f1": macro_statistic(f1s),
        "micro_f1": micro_statistic(f1s),
        "macro_precision": macro_statistic(precisions),
        "macro_recall": macro_statistic(recalls),
        "kappa": mean_kappas,
    }


def _mean(values: Values, weights: NDArray[np.bool_] | Counts) -> Values:
    total = weights.sum(axis=1).astype(np.float64)
    summed = (values * weights).sum(axis=1)
    return np.asarray(np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0), dtype=np.float64)


def masi_distances(sets: LabelSets) -> Values:
    """Return the pairwise MASI distances of n label sets, (n, n), in [0, 1]."""
    members = sets.astype(np.float64)
    shared, sizes = members @ members.T, members.sum(axis=1)
    union = sizes[:, None] + sizes[None, :] - shared
    jaccard = np.divide(shared, union, out=np.ones_like(shared), where=union > 0)
    nested = shared == np.minimum(sizes[:, None], sizes[None, :])
    monotone = np.where(union == shared, 1.0, np.where(nested, 2 / 3, np.where(shared > 0, 1 / 3, 0.0)))
    return np.asarray(1 - jaccard * monotone, dtype=np.float64)


def masi_alphas(reference: LabelSets, coded: LabelSets, weights: Counts) -> Values:
    """Return Krippendorff's alpha of two codings for each resample (n,); NaN if only one set occurs.

    Args:
        reference: Label sets of one coding.
        coded: Label sets of the other.
        weights: Number of draws of each row, (n, rows).
    """
    sets, numbers = np.unique(np.concatenate([reference, coded]), axis=0, return_inverse=True)
    one, other = np.split(numbers.reshape(-1), 2)
    distances = masi_distances(sets)
    totals = weights @ (np.eye(len(sets))[one] + np.eye(len(sets))[other])
    observed = 2 * (weights @ distances[one, other])
    expected = ((totals @ distances) * totals).sum(axis=1)
    ratio = np.divide(observed, expected, out=np.full(len(observed), np.nan), where=expected > 0)
    return np.asarray(1 - (totals.sum(axis=1) - 1) * ratio, dtype=np.float64)


def masi_alpha(codings: Sequence[Sequence[LabelSets | None]]) -> float | None:
    """Return Krippendorff's alpha of any number of coders; None if it is undefined.

    Args:
        codings: By coder and row, an indicator vector (labels,); None if the coder did not code the row.
    """
    coded = np.array([row for coding in codings for row in coding if row is not None])
    if not len(coded):
        return None
    sets, numbers = np.unique(coded, axis=0, return_inverse=True)
    remaining = iter(numbers.reshape(-1).tolist())
    table = np.array([[np.nan if row is None else float(next(remaining)) for row in coding] for coding in codings])
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    if len(np.unique(table[~np.isnan(table)])) < 2:
        return None
    distances = masi_distances(sets)

    def distance(first: NDArray[np.float64], second: NDArray[np.float64], *_: Any, **__: Any) -> Values:
        return np.asarray(distances[first.astype(int), second.astype(int)], dtype=np.float64)

    return float(krippendorff.alpha(table, level_of_measurement=distance))


KAPPA_NAME = "mean kappa over labels"
_FIGURES = {"precision": precisions, "recall": recalls, "f1": f1s}


def label_set_agreement(
    reference: LabelSets,
    coded: LabelSets,
    task: Task,
    groups: Sequence[str] | None,
    positive: str | None,
    resamples: int,
    seed: int,
) -> Agreement:
    """Compare two codings of a multilabel task; for the arguments see `agreement`."""
    own = count_all_rows(reference, coded)
    parts = [
        (count_label_sets(reference, coded, weights), masi_alphas(reference, coded, weights))
        for weights in row_weights(len(reference), groups, resamples, np.random.default_rng(seed))
    ]
    drawn = concatenate_counts([counts for counts, _ in parts])
    alpha = masi_alphas(reference, coded, np.ones((1, len(reference)), dtype=np.int64))[0]

    def estimate(statistic: LabelSetStatistic) -> Estimate | None:
        return optional_estimate(float(statistic(own)[0]), statistic(drawn))

    averages = {
        "macro": Averages(*(estimate(macro_statistic(each)) for each in _FIGURES.values())),
        "micro": Averages(*(estimate(micro_statistic(each)) for each in _FIGURES.values())),
        "weighted": Averages(*(estimate(weighted_statistic(each)) for each in _FIGURES.values())),
    }
    if positive is not None:
        place = task.names.index(positive)
        averages["binary"] = Averages(*(estimate(label_statistic(each, place)) for each in _FIGURES.values()))
    return Agreement(
        rows=len(reference),
        accuracy=interval_estimate(float(exact_matches(own)[0]), exact_matches(drawn)),
        macro_f1=estimate(macro_statistic(f1s)),
        kappa=estimate(mean_kappas),
        kappa_name=KAPPA_NAME,
        per_label=_per_label(own, drawn, task),
        confusion=(),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
        alpha=optional_estimate(float(alpha), np.concatenate([alphas for _, alphas in parts])),
        averages=averages,
    )


def _per_label(own: LabelSetCounts, drawn: LabelSetCounts, task: Task) -> dict[str, LabelAgreement]:
    def values(statistic: Statistic) -> tuple[Values, Values]:
        return label_statistics(statistic, own)[0], label_statistics(statistic, drawn)

    figures = {name: values(statistic) for name, statistic in _FIGURES.items()}
    kappas, label_alphas = values(label_kappas), values(_nominal_alphas)
    per_label = {}
    for place, name in enumerate(task.names):
        found = {
            figure: optional_estimate(float(value[place]), of[:, place]) for figure, (value, of) in figures.items()
        }
        table = own.tables[0, place]
        precision, recall, f1 = (each.value if each else None for each in found.values())
        per_label[name] = LabelAgreement(
            precision,
            recall,
            f1,
            support=int(table[1].sum()),
            intervals={figure: (each.low, each.high) for figure, each in found.items() if each},
            kappa=optional_estimate(float(kappas[0][place]), kappas[1][:, place]),
            alpha=optional_estimate(float(label_alphas[0][place]), label_alphas[1][:, place]),
            table=((int(table[0, 0]), int(table[0, 1])), (int(table[1, 0]), int(table[1, 1]))),
        )
    return per_label


def _nominal_alphas(tables: Counts) -> Values:
    return alphas(tables, ordinal=False)
