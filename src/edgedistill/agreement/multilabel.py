"""Agreement on multilabel tasks: which labels hold, statistics of label sets, Krippendorff's alpha with MASI distance.

LabelSets        of each row and label, whether the row has the label
LabelSetCounts   numbers of rows, of exact matches, and a 2 x 2 table per label

Two sets are at distance 1 - J M: J is the size of their intersection over that of their union (Jaccard), M is 1 for
equal sets, 2/3 where one holds the other, 1/3 where they overlap otherwise, else 0 (Passonneau 2006, "Measuring
Agreement on Set-valued Items (MASI) for Semantic and Pragmatic Annotation"). Two empty sets are equal.
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
"""Shape (rows, labels), labels in codebook order."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelSetCounts:
    """What rows count together, of many resamples at once.

    Attributes:
        rows: How many there are, (n,).
        same: How many have the same labels in both codings, (n,).
        tables: Of each label, rows by whether it holds in the reference and in the coding, (n, labels, 2, 2).
    """

    rows: Counts
    same: Counts
    tables: Counts


LabelSetStatistic: TypeAlias = Callable[[LabelSetCounts], Values]
"""From tallies of n resamples to a figure of each, (n,); NaN where it is undefined."""


def encode_label_sets(coding: Sequence[str], task: Task, name: str) -> LabelSets:
    """Return which labels hold of each row.

    Args:
        coding: A code per row, as `edgedistill_serve.task.task.join_labels` writes it.
        task: Names the labels.
        name: What a message calls the coding.

    Raises:
        DataError: A code that the task does not have.
    """
    held = np.zeros((len(coding), len(task.names)), dtype=np.bool_)
    places = {label: place for place, label in enumerate(task.names)}
    for row, code in enumerate(coding):
        try:
            held[row, [places[label] for label in split_labels(code, task)]] = True
        except DataError as error:
            raise DataError(error.what, where=f"{name} label {row + 1}", hint=error.hint) from None
    return held


def count_label_sets(reference: LabelSets, coded: LabelSets, weights: Counts) -> LabelSetCounts:
    """Count rows, each as often as its weight says.

    Args:
        reference: What holds in the one coding.
        coded: What holds in the other.
        weights: Per resample how often each row was drawn, (n, rows).
    """
    cells = np.eye(4)[2 * reference.astype(np.int64) + coded]
    same = (reference == coded).all(axis=1)
    # As floating-point numbers, which hold such counts without fault, for matrices of integers are multiplied slowly.
    counted = weights.astype(np.float64) @ np.column_stack([cells.reshape(len(reference), -1), same])
    counts = np.rint(counted).astype(np.int64)
    return LabelSetCounts(weights.sum(axis=1), counts[:, -1], counts[:, :-1].reshape(len(weights), -1, 2, 2))


def concatenate_counts(parts: Sequence[LabelSetCounts]) -> LabelSetCounts:
    """Return the tallies of several blocks of resamples, at least one, as one."""
    return LabelSetCounts(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "same", "tables"))
    )


def count_all_rows(reference: LabelSets, coded: LabelSets) -> LabelSetCounts:
    """Count every row once, as one resample."""
    return count_label_sets(reference, coded, np.ones((1, len(reference)), dtype=np.int64))


def resample_label_sets(
    pairs: Sequence[tuple[LabelSets, LabelSets]], groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> list[LabelSetCounts]:
    """Count the same resamples of rows, or of whole groups, for each pair of codings; see `row_weights`."""
    blocks = [
        [count_label_sets(one, other, weights) for one, other in pairs]
        for weights in row_weights(len(pairs[0][0]), groups, resamples, rng)
    ]
    return [concatenate_counts(parts) for parts in zip(*blocks, strict=True)]


def exact_matches(found: LabelSetCounts) -> Values:
    """Return the share of rows with the same labels in both codings."""
    return np.asarray(found.same / found.rows, dtype=np.float64)


def label_statistics(statistic: Callable[[Counts], Values], found: LabelSetCounts) -> Values:
    """Return a statistic of each label (n, labels): of its table, or of its row that holds where it has one per row."""
    labels = found.tables.shape[1]
    values = statistic(found.tables.reshape(-1, 2, 2))
    return (values[:, 1] if values.ndim == 2 else values).reshape(-1, labels)


def label_kappas(tables: Counts) -> Values:
    """Return Cohen's κ of each table (n, 2, 2)."""
    return kappas(tables, quadratic=False)


def mean_kappas(found: LabelSetCounts) -> Values:
    """Return the mean of the labels' κ, those without one left out; NaN where none has one."""
    values = label_statistics(label_kappas, found)
    return _mean(np.nan_to_num(values), ~np.isnan(values))


def macro_statistic(statistic: Statistic) -> LabelSetStatistic:
    """Return the mean of a label figure over the labels that occur in either coding, an undefined one counted as 0."""

    def statistic_of(found: LabelSetCounts) -> Values:
        return _mean(
            np.nan_to_num(label_statistics(statistic, found)), found.tables.sum(axis=(2, 3)) > found.tables[..., 0, 0]
        )

    return statistic_of


def weighted_statistic(statistic: Statistic) -> LabelSetStatistic:
    """Return the mean of a label figure over the labels of the reference, each as often as it holds there."""

    def statistic_of(found: LabelSetCounts) -> Values:
        return _mean(np.nan_to_num(label_statistics(statistic, found)), found.tables[..., 1, :].sum(axis=2))

    return statistic_of


def micro_statistic(statistic: Statistic) -> LabelSetStatistic:
    """Return a label figure of all labels' tables together."""
    return lambda found: statistic(found.tables.sum(axis=1))[:, 1]


def label_statistic(statistic: Statistic, place: int) -> LabelSetStatistic:
    """Return a label figure of the label at a place."""
    return lambda found: label_statistics(statistic, found)[:, place]


def label_set_statistics() -> dict[str, LabelSetStatistic]:
    """Return the statistics by which two codings of a multilabel task are compared, by name."""
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
    """Return the distance of every two sets (n, n), in [0, 1].

    Args:
        sets: Shape (n, labels), whether each label is in the set.
    """
    inside = sets.astype(np.float64)
    shared, sizes = inside @ inside.T, inside.sum(axis=1)
    union = sizes[:, None] + sizes[None, :] - shared
    jaccard = np.divide(shared, union, out=np.ones_like(shared), where=union > 0)
    within = shared == np.minimum(sizes[:, None], sizes[None, :])
    monotone = np.where(union == shared, 1.0, np.where(within, 2 / 3, np.where(shared > 0, 1 / 3, 0.0)))
    return np.asarray(1 - jaccard * monotone, dtype=np.float64)


def masi_alphas(reference: LabelSets, coded: LabelSets, weights: Counts) -> Values:
    """Return Krippendorff's alpha of two codings for each resample (n,); NaN where one and the same set alone occurs.

    Args:
        reference: The one coding, (rows, labels).
        coded: The other.
        weights: Per resample how often each row was drawn, (n, rows).
    """
    sets, numbers = np.unique(np.concatenate([reference, coded]), axis=0, return_inverse=True)
    one, other = np.split(numbers.reshape(-1), 2)
    distances = masi_distances(sets)
    held = np.eye(len(sets))[one] + np.eye(len(sets))[other]
    totals = weights @ held
    observed = 2 * (weights @ distances[one, other])
    expected = ((totals @ distances) * totals).sum(axis=1)
    ratio = np.divide(observed, expected, out=np.full(len(observed), np.nan), where=expected > 0)
    return np.asarray(1 - (totals.sum(axis=1) - 1) * ratio, dtype=np.float64)


def masi_alpha(codings: Sequence[Sequence[LabelSets | None]]) -> float | None:
    """Return Krippendorff's alpha of any number of coders; None where it is undefined.

    Args:
        codings: By coder, by row, which labels hold, of shape (labels,); None where the coder left the row out.
    """
    every = np.array([row for coding in codings for row in coding if row is not None])
    if not len(every):
        return None
    sets, numbers = np.unique(every, axis=0, return_inverse=True)
    waiting = iter(numbers.reshape(-1).tolist())
    table = np.array([[np.nan if row is None else float(next(waiting)) for row in coding] for coding in codings])
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
    """Compare two codings of which labels hold; `agreement` says what the arguments are."""
    own = count_all_rows(reference, coded)
    parts = [
        (count_label_sets(reference, coded, weights), masi_alphas(reference, coded, weights))
        for weights in row_weights(len(reference), groups, resamples, np.random.default_rng(seed))
    ]
    drawn = concatenate_counts([counted for counted, _ in parts])
    alpha = masi_alphas(reference, coded, np.ones((1, len(reference)), dtype=np.int64))[0]

    def told(statistic: LabelSetStatistic) -> Estimate | None:
        return optional_estimate(float(statistic(own)[0]), statistic(drawn))

    averages = {
        "macro": Averages(*(told(macro_statistic(each)) for each in _FIGURES.values())),
        "micro": Averages(*(told(micro_statistic(each)) for each in _FIGURES.values())),
        "weighted": Averages(*(told(weighted_statistic(each)) for each in _FIGURES.values())),
    }
    if positive is not None:
        place = task.names.index(positive)
        averages["binary"] = Averages(*(told(label_statistic(each, place)) for each in _FIGURES.values()))
    return Agreement(
        rows=len(reference),
        accuracy=interval_estimate(float(exact_matches(own)[0]), exact_matches(drawn)),
        macro_f1=told(macro_statistic(f1s)),
        kappa=told(mean_kappas),
        kappa_name=KAPPA_NAME,
        per_label=_per_label(own, drawn, task),
        confusion=(),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
        alpha=optional_estimate(float(alpha), np.concatenate([of_block for _, of_block in parts])),
        averages=averages,
    )


def _per_label(own: LabelSetCounts, drawn: LabelSetCounts, task: Task) -> dict[str, LabelAgreement]:
    def both(statistic: Statistic) -> tuple[Values, Values]:
        return label_statistics(statistic, own)[0], label_statistics(statistic, drawn)

    figures = {name: both(statistic) for name, statistic in _FIGURES.items()}
    kappas, label_alphas = both(label_kappas), both(_nominal_alphas)
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
