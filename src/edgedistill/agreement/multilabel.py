"""Agreement on multilabel tasks: statistics of label sets, and Krippendorff's alpha with the MASI distance.

LabelSets       indicator matrix of rows and labels
LabelSetDraws   the label sets of two codings and a 2 x 2 table per label, of the rows and of each resample

The MASI distance of two sets is 1 - J M: J is the Jaccard index, M is 1 for equal sets, 2/3 if one contains the other,
1/3 if they overlap otherwise, else 0 (Passonneau 2006, "Measuring Agreement on Set-valued Items (MASI) for Semantic and
Pragmatic Annotation"). Two empty sets are equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import krippendorff
import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import COEFFICIENT, Figure, Rows, mean_figure, required, share_figure
from edgedistill.agreement.confusion import Values, kappas
from edgedistill.agreement.draws import ConfusionDraws, LabelDraws, averages_of, label_agreement
from edgedistill.agreement.types import Agreement, LabelAgreement
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task, split_labels

LabelSets: TypeAlias = NDArray[np.bool_]
"""Indicator matrix (rows, labels): whether a row has a label; labels in codebook order."""


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


def masi_distances(sets: LabelSets) -> Values:
    """Return the pairwise MASI distances of n label sets, (n, n), in [0, 1]."""
    members = sets.astype(np.float64)
    shared, sizes = members @ members.T, members.sum(axis=1)
    union = sizes[:, None] + sizes[None, :] - shared
    jaccard = np.divide(shared, union, out=np.ones_like(shared), where=union > 0)
    nested = shared == np.minimum(sizes[:, None], sizes[None, :])
    monotone = np.where(union == shared, 1.0, np.where(nested, 2 / 3, np.where(shared > 0, 1 / 3, 0.0)))
    return np.asarray(1 - jaccard * monotone, dtype=np.float64)


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


@dataclass(frozen=True, slots=True, eq=False)
class LabelSetDraws:
    """Label sets of two codings: first the counts of the rows, then the weights of each resample.

    Attributes:
        same: Rows with equal label sets in both codings, (1 + resamples,).
        tables: Rows per label by whether the reference and the coding have it, (1 + resamples, labels, 2, 2).
        weights: Rows by pair of label sets, (1 + resamples, pairs).
        pairs: The label sets of each pair, (2, pairs, labels).
        additional: The weight of the additional row, (1 + resamples,).
        rows: The rows.
    """

    same: Values
    tables: Values
    weights: Values
    pairs: LabelSets
    additional: Values
    rows: Rows

    @classmethod
    def of(cls, pairs: LabelSets, weights: Values, additional: Values, rows: Rows) -> "LabelSetDraws":
        """Count the rows of each pair of label sets, with the weights of the pairs."""
        cells = np.eye(4)[2 * pairs[0].astype(np.int64) + pairs[1]]
        same = (pairs[0] == pairs[1]).all(axis=1)
        tables = (weights @ cells.reshape(len(same), -1)).reshape(len(weights), -1, 2, 2)
        return cls(weights @ same, tables, weights, pairs, additional, rows)

    @property
    def labels(self) -> LabelDraws:
        """The counts per label."""
        tables = self.tables
        correct, coded, reference = tables[..., 1, 1], tables[..., 1].sum(axis=2), tables[..., 1, :].sum(axis=2)
        return LabelDraws(correct, coded, reference, self.additional, self.rows)

    def accuracy(self) -> Figure:
        """Return the share of rows with equal label sets."""
        misses = np.maximum(self.weights.sum(axis=1) - self.same, 0)
        return share_figure(self.same, misses, self.additional, self.rows)

    def label(self, label: int) -> ConfusionDraws:
        """Return the tables of one label."""
        return ConfusionDraws(self.tables[:, label], self.additional, self.rows)

    def mean_kappa(self) -> Figure:
        """Return the mean κ over the labels whose κ is defined on the rows; undefined if there is none."""
        labels = range(self.tables.shape[1])
        defined = [label for label in labels if not np.isnan(_kappas(self.tables[:1, label])[0])]
        if not defined:
            nothing = np.full(len(self.weights), np.nan)
            return Figure(nothing, nothing, COEFFICIENT)
        additional = self.additional / np.sqrt(len(defined))
        return mean_figure(
            [ConfusionDraws(self.tables[:, label], additional, self.rows).statistic(_kappas) for label in defined]
        )

    def alpha(self) -> Figure:
        """Return Krippendorff's alpha of both codings with the MASI distance; undefined if only one set occurs.

        One minus observed over expected disagreement. The additional row has two different sets, at the distance that
        is to be expected of these, or the same one.
        """
        sets, numbers = np.unique(np.concatenate(self.pairs), axis=0, return_inverse=True)
        one, other = np.split(numbers.reshape(-1), 2)
        distances = masi_distances(sets)
        weights = self.weights * (self.rows.count / self.weights.sum(axis=1, keepdims=True))
        totals = weights @ (np.eye(len(sets))[one] + np.eye(len(sets))[other])
        expected = ((totals @ distances) * totals).sum(axis=1)
        values = 2.0 * self.rows.count
        by_chance = np.divide(expected, values * (values - 1), out=np.full(len(expected), np.nan), where=expected > 0)
        observed = 2 * (weights @ distances[one, other])
        shares = totals[0] / values
        unequal = 1 - float((shares**2).sum())
        apart = float(by_chance[0]) / unequal if unequal > 0 else 0.0
        total = values + 2 * self.additional
        low, high = (1 - (observed + 2 * self.additional * far) / total / by_chance for far in (apart, 0.0))
        figure = Figure(low, high, COEFFICIENT)
        return figure.without_interval() if self.rows.unknown else figure


LabelSetFigure: TypeAlias = Callable[[LabelSetDraws], Figure]
"""Computes a figure of label sets."""


def draw_label_sets(
    reference: LabelSets,
    codings: Sequence[LabelSets],
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
    alike: Values,
) -> list[LabelSetDraws]:
    """Compare each coding with the reference on the same resamples.

    Args:
        reference: Label sets of the reference.
        codings: Label sets of one or more codings of the same rows.
        groups: The group of each row; None for independent rows.
        resamples: Number of resamples.
        seed: Of the resampling.
        alike: What may be alike in the rows of a group, (rows,).
    """
    rng = np.random.default_rng(seed)
    rows = Rows.of(len(reference), groups)
    patterns, cells = np.unique(np.stack([reference, *codings], axis=1), axis=0, return_inverse=True)
    weights = rows.draw_cells(cells.reshape(-1), len(patterns), resamples, rng)
    additional = rows.draw_additional(alike, resamples, rng)
    return [
        LabelSetDraws.of(np.stack([patterns[:, 0], patterns[:, place]]), weights, additional, rows)
        for place in range(1, len(codings) + 1)
    ]


def count_label_sets(reference: LabelSets, coded: LabelSets) -> LabelSetDraws:
    """Return the counts of the rows, without resamples."""
    return draw_label_sets(reference, [coded], None, 0, 0, np.zeros(len(reference)))[0]


def label_set_figures() -> dict[str, LabelSetFigure]:
    """Return the figures for comparing two codings of a multilabel task by name."""
    return {
        "accuracy": lambda draws: draws.accuracy(),
        "macro_f1": lambda draws: draws.labels.macro("f1"),
        "micro_f1": lambda draws: draws.labels.micro("f1"),
        "macro_precision": lambda draws: draws.labels.macro("precision"),
        "macro_recall": lambda draws: draws.labels.macro("recall"),
        "kappa": lambda draws: draws.mean_kappa(),
    }


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
    same = (reference == coded).all(axis=1).astype(np.float64)
    (draws,) = draw_label_sets(reference, [coded], groups, resamples, seed, same)
    counts = draws.labels
    averages = {name: averages_of(getattr(counts, name)) for name in ("macro", "micro", "weighted")}
    if positive is not None:
        place = task.names.index(positive)
        averages["binary"] = averages_of(lambda name: counts.label(name, place))
    return Agreement(
        rows=len(reference),
        accuracy=required(draws.accuracy().estimate()),
        macro_f1=averages["macro"].f1,
        kappa=draws.mean_kappa().estimate(),
        kappa_name=KAPPA_NAME,
        per_label={name: _label(draws, place) for place, name in enumerate(task.names)},
        confusion=(),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
        alpha=draws.alpha().estimate(),
        averages=averages,
    )


def _label(draws: LabelSetDraws, label: int) -> LabelAgreement:
    own, table = draws.label(label), np.rint(draws.tables[0, label]).astype(int).tolist()
    return replace(
        label_agreement(draws.labels, label),
        kappa=own.kappa(quadratic=False).estimate(),
        alpha=own.alpha(ordinal=False).estimate(),
        table=((table[0][0], table[0][1]), (table[1][0], table[1][1])),
    )


def _kappas(tables: Values) -> Values:
    return kappas(tables, quadratic=False)
