"""Figures of two codings on the rows and on each resample: of confusion matrices, and of their labels.

LabelDraws       per label, rows assigned correctly, in the coding, and in the reference: precision, recall, F1
ConfusionDraws   confusion matrices: accuracy, κ and other coefficients, and the figures of the labels

The additional row of `edgedistill.agreement.bootstrap` is distributed over the cells of the matrix by how often the
labels occur; for the figures of a label it belongs to that label; for a mean over L labels each label has one, with a
weight of 1 / √L, because the errors of labels partly cancel.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np

from edgedistill.agreement.bootstrap import COEFFICIENT, SHARE, Figure, Rows, share_figure, share_values
from edgedistill.agreement.confusion import Counts, Statistic, Values, alphas, kappas, mccs
from edgedistill.agreement.types import Averages, LabelAgreement

LabelFigure: TypeAlias = Literal["precision", "recall", "f1"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelDraws:
    """Counts per label: first those of the rows, then the weights of each resample, each (1 + resamples, labels).

    Attributes:
        correct: Rows with the label in both codings.
        coded: Rows with the label in the coding.
        reference: Rows with the label in the reference.
        additional: The weight of the additional row, (1 + resamples,).
        rows: The rows.
    """

    correct: Values
    coded: Values
    reference: Values
    additional: Values
    rows: Rows

    def label(self, name: LabelFigure, label: int) -> Figure:
        """Return precision, recall or F1 of one label; undefined if no row has it where the figure counts."""
        hits, misses = self.correct[:, label], self._misses(name)[:, label]
        return share_figure(hits, misses, self.additional, self.rows, f1=name == "f1")

    def macro(self, name: LabelFigure) -> Figure:
        """Return the mean over the labels that occur in either coding; the undefined figure of a label counts as 0."""
        occurs = (self.coded[0] + self.reference[0] > 0).astype(np.float64)
        scale = 1 / np.sqrt(max(occurs.sum(), 1))
        return self._mean(name, np.broadcast_to(occurs, self.correct.shape), np.full(len(occurs), scale))

    def weighted(self, name: LabelFigure) -> Figure:
        """Return the mean over labels weighted by support; the undefined figure of a label counts as 0."""
        return self._mean(name, self.reference, self.reference[0] / max(self.reference[0].sum(), 1))

    def micro(self, name: LabelFigure) -> Figure:
        """Return the figure of the decisions on all labels together; a row has several."""
        hits, misses = self.correct.sum(axis=1), self._misses(name).sum(axis=1)
        per_row = (hits[0] + misses[0]) / self.rows.count
        return share_figure(hits, misses, self.additional * per_row, self.rows, f1=name == "f1", exact=False)

    def _mean(self, name: LabelFigure, weights: Values, scale: Values) -> Figure:
        total = weights.sum(axis=1)
        ends = []
        for end in (0, 1):
            additional = self.additional[:, None] * scale
            values = share_values(self.correct, self._misses(name), additional, end, f1=name == "f1")
            summed = (np.nan_to_num(values) * weights).sum(axis=1)
            ends.append(np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0))
        figure = Figure(ends[0], ends[1], SHARE)
        return figure.without_interval() if self.rows.unknown else figure

    def _misses(self, name: LabelFigure) -> Values:
        wrongly_coded, missed = self.coded - self.correct, self.reference - self.correct
        found = {"precision": wrongly_coded, "recall": missed, "f1": wrongly_coded + missed}[name]
        return np.maximum(found, 0)  # rounding errors of sums


def averages_of(figure: Callable[[LabelFigure], Figure]) -> Averages:
    """Return precision, recall and F1 of one kind, such as `LabelDraws.macro`."""
    return Averages(figure("precision").estimate(), figure("recall").estimate(), figure("f1").estimate())


def label_agreement(counts: LabelDraws, label: int) -> LabelAgreement:
    """Return precision, recall and F1 of one label."""
    found = asdict(averages_of(lambda name: counts.label(name, label)))
    defined = {name: each for name, each in found.items() if each}
    return LabelAgreement(
        **{name: each and each["value"] for name, each in found.items()},
        support=round(float(counts.reference[0, label])),
        intervals={name: (each["low"], each["high"]) for name, each in defined.items()},
    )


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionDraws:
    """Confusion matrices, reference by coded label: first that of the rows, then one of weights per resample.

    Attributes:
        tables: Shape (1 + resamples, labels, labels).
        additional: The weight of the additional row, (1 + resamples,).
        rows: The rows.
    """

    tables: Values
    additional: Values
    rows: Rows

    @property
    def labels(self) -> LabelDraws:
        """The counts per label."""
        correct = np.diagonal(self.tables, axis1=1, axis2=2)
        return LabelDraws(correct, self.tables.sum(axis=1), self.tables.sum(axis=2), self.additional, self.rows)

    def accuracy(self) -> Figure:
        """Return the share of rows with equal labels."""
        hits = np.trace(self.tables, axis1=1, axis2=2)
        misses = np.maximum(self.tables.sum(axis=(1, 2)) - hits, 0)
        return share_figure(hits, misses, self.additional, self.rows)

    def kappa(self, *, quadratic: bool) -> Figure:
        """Return Cohen's κ, or quadratic weighted κ."""
        wrong, right = additional_rows(self.tables[0])
        if quadratic:
            right = correct_by_distance(self.tables[0])
        return self.moved(lambda tables: kappas(tables, quadratic=quadratic), wrong, right, COEFFICIENT)

    def mcc(self) -> Figure:
        """Return Matthews' correlation."""
        return self.statistic(mccs)

    def alpha(self, *, ordinal: bool) -> Figure:
        """Return Krippendorff's alpha."""
        return self.statistic(lambda tables: alphas(tables, ordinal=ordinal))

    def statistic(self, statistic: Statistic, bounds: tuple[float, float] = COEFFICIENT) -> Figure:
        """Return a statistic that rises with agreement."""
        wrong, right = additional_rows(self.tables[0])
        return self.moved(statistic, wrong, right, bounds)

    def moved(self, statistic: Statistic, low: Values, high: Values, bounds: tuple[float, float]) -> Figure:
        """Return a statistic with an additional row that is distributed as ``low`` or ``high``, (labels, labels).

        The weights of each resample are scaled to the number of rows, because some statistics depend on it.
        """

        def ending(cells: Values) -> Values:
            tables = self.tables + self.additional[:, None, None] * cells
            return statistic(tables * (self.rows.count / tables.sum(axis=(1, 2), keepdims=True)))

        figure = Figure(ending(low), ending(high), bounds)
        return figure.without_interval() if self.rows.unknown else figure


ConfusionFigure: TypeAlias = Callable[[ConfusionDraws], Figure]
"""Computes a figure of confusion matrices."""


def additional_rows(table: Values) -> tuple[Values, Values]:
    """Return how the additional row is distributed, wrongly and correctly coded, over each matrix (…, labels, labels).

    By how often the labels occur in both codings; where a single label does, evenly.
    """
    labels = table.shape[-1]
    identity = np.eye(labels)
    occurs = table.sum(axis=-1) + table.sum(axis=-2)
    shares = occurs / np.maximum(occurs.sum(axis=-1, keepdims=True), 1)
    wrong = shares[..., :, None] * shares[..., None, :] * (1 - identity)
    total = wrong.sum(axis=(-2, -1), keepdims=True)
    even = np.broadcast_to((1 - identity) / (labels * (labels - 1)), wrong.shape)
    return np.where(total > 0, wrong / np.where(total > 0, total, 1), even), shares[..., :, None] * identity


def correct_by_distance(table: Values) -> Values:
    """Return how the additional correct row is distributed for quadratic weighted κ, (labels, labels).

    By how often the labels occur and by their squared distance from the mean label: a correct row counts by how much
    disagreement it would have had by chance. Where a single label occurs, all of it.
    """
    occurs = table.sum(axis=1) + table.sum(axis=0)
    places = np.arange(len(table))
    weights = occurs * (places - occurs @ places / max(occurs.sum(), 1)) ** 2
    counted = weights if weights.sum() > 1e-12 else occurs
    return np.diag(counted / max(counted.sum(), 1e-12))


def draw_confusions(
    reference: Counts, coded: Counts, labels: int, groups: Sequence[str] | None, resamples: int, seed: int
) -> ConfusionDraws:
    """Resample rows with one label in each coding; labels are indices from 0."""
    rng = np.random.default_rng(seed)
    rows = Rows.of(len(reference), groups)
    cells = rows.draw_cells(reference * labels + coded, labels**2, resamples, rng)
    additional = rows.draw_additional((reference == coded).astype(np.float64), resamples, rng)
    return ConfusionDraws(cells.reshape(-1, labels, labels), additional, rows)


def single_label_figures(*, ordinal: bool) -> dict[str, ConfusionFigure]:
    """Return the figures for comparing two codings by name; κ is quadratic weighted if ``ordinal``."""
    return {
        "accuracy": lambda draws: draws.accuracy(),
        "macro_f1": lambda draws: draws.labels.macro("f1"),
        "macro_precision": lambda draws: draws.labels.macro("precision"),
        "macro_recall": lambda draws: draws.labels.macro("recall"),
        "kappa": lambda draws: draws.kappa(quadratic=ordinal),
        "mcc": lambda draws: draws.mcc(),
    }
