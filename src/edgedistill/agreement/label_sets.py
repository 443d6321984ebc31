"""Two codings of a multilabel task: which labels hold of each row, and what the rows of many resamples count together.

Held       of each row and label, whether it holds
Tallies    how many rows there are, how many have the same labels in both codings, and a table of both for each label
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import row_weights
from edgedistill.agreement.statistics import Counts, Statistic, Values, f1s, kappas, precisions, recalls
from edgedistill.errors import DataError
from edgedistill_serve.task import Task, split_labels

Held: TypeAlias = NDArray[np.bool_]
"""Shape (rows, labels), labels in codebook order."""


@dataclass(frozen=True, slots=True, eq=False)
class Tallies:
    """What rows count together, of many resamples at once.

    Attributes:
        rows: How many there are, (n,).
        same: How many have the same labels in both codings, (n,).
        tables: Of each label, rows by whether it holds in the reference and in the coding, (n, labels, 2, 2).
    """

    rows: Counts
    same: Counts
    tables: Counts


SetStatistic: TypeAlias = Callable[[Tallies], Values]
"""From tallies of n resamples to a figure of each, (n,); NaN where it is undefined."""


def held_labels(coding: Sequence[str], task: Task, name: str) -> Held:
    """Return which labels hold of each row.

    Args:
        coding: A code per row, as `edgedistill_serve.task.join_labels` writes it.
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
            raise DataError(error.what, where=f"{name} label {row + 1}", mend=error.mend) from None
    return held


def tallies(reference: Held, coded: Held, weights: Counts) -> Tallies:
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
    return Tallies(weights.sum(axis=1), counts[:, -1], counts[:, :-1].reshape(len(weights), -1, 2, 2))


def together(parts: Sequence[Tallies]) -> Tallies:
    """Return the tallies of several blocks of resamples, at least one, as one."""
    return Tallies(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "same", "tables")))


def all_rows(reference: Held, coded: Held) -> Tallies:
    """Count every row once, as one resample."""
    return tallies(reference, coded, np.ones((1, len(reference)), dtype=np.int64))


def resampled(
    pairs: Sequence[tuple[Held, Held]], groups: Sequence[str] | None, resamples: int, rng: np.random.Generator
) -> list[Tallies]:
    """Count the same resamples of rows, or of whole groups, for each pair of codings; see `row_weights`."""
    blocks = [
        [tallies(one, other, weights) for one, other in pairs]
        for weights in row_weights(len(pairs[0][0]), groups, resamples, rng)
    ]
    return [together(parts) for parts in zip(*blocks, strict=True)]


def exact_matches(found: Tallies) -> Values:
    """Return the share of rows with the same labels in both codings."""
    return np.asarray(found.same / found.rows, dtype=np.float64)


def by_label(statistic: Callable[[Counts], Values], found: Tallies) -> Values:
    """Return a statistic of each label (n, labels): of its table, or of its row that holds where it has one per row."""
    labels = found.tables.shape[1]
    values = statistic(found.tables.reshape(-1, 2, 2))
    return (values[:, 1] if values.ndim == 2 else values).reshape(-1, labels)


def label_kappas(tables: Counts) -> Values:
    """Return Cohen's κ of each table (n, 2, 2)."""
    return kappas(tables, quadratic=False)


def mean_kappas(found: Tallies) -> Values:
    """Return the mean of the labels' κ, those without one left out; NaN where none has one."""
    values = by_label(label_kappas, found)
    return _mean(np.nan_to_num(values), ~np.isnan(values))


def macro_of(statistic: Statistic) -> SetStatistic:
    """Return the mean of a label figure over the labels that occur in either coding, an undefined one counted as 0."""

    def statistic_of(found: Tallies) -> Values:
        return _mean(np.nan_to_num(by_label(statistic, found)), found.tables.sum(axis=(2, 3)) > found.tables[..., 0, 0])

    return statistic_of


def weighted_of(statistic: Statistic) -> SetStatistic:
    """Return the mean of a label figure over the labels of the reference, each as often as it holds there."""

    def statistic_of(found: Tallies) -> Values:
        return _mean(np.nan_to_num(by_label(statistic, found)), found.tables[..., 1, :].sum(axis=2))

    return statistic_of


def micro_of(statistic: Statistic) -> SetStatistic:
    """Return a label figure of all labels' tables together."""
    return lambda found: statistic(found.tables.sum(axis=1))[:, 1]


def figure_of(statistic: Statistic, place: int) -> SetStatistic:
    """Return a label figure of the label at a place."""
    return lambda found: by_label(statistic, found)[:, place]


def set_statistics() -> dict[str, SetStatistic]:
    """Return the statistics by which two codings of a multilabel task are compared, by name."""
    return {
        "accuracy": exact_matches,
        "macro_f1": macro_of(f1s),
        "micro_f1": micro_of(f1s),
        "macro_precision": macro_of(precisions),
        "macro_recall": macro_of(recalls),
        "kappa": mean_kappas,
    }


def _mean(values: Values, weights: NDArray[np.bool_] | Counts) -> Values:
    total = weights.sum(axis=1).astype(np.float64)
    summed = (values * weights).sum(axis=1)
    return np.asarray(np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0), dtype=np.float64)
