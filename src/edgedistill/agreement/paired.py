"""Paired comparisons of two codings with a reference: differences on the same resamples, and McNemar's test.

compare()    differences of statistics, and McNemar's test
change()     changed labels and lost κ from one coding to another
mcnemar()    exact and mid-p McNemar test
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.stats import binom, binomtest

from edgedistill.agreement.bootstrap import Figure, Rows, required, share_figure
from edgedistill.agreement.confusion import Counts, Values, check_groups, check_lengths, encode_labels
from edgedistill.agreement.draws import ConfusionDraws, ConfusionFigure, single_label_figures
from edgedistill.agreement.multilabel import LabelSetFigure, draw_label_sets, encode_label_sets, label_set_figures
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two codings of the same rows on the same resamples.

    For the lower end of a difference the additional row is one that the first coding has correctly and the second
    wrongly, for the upper end the other way round: where both codings are equal, they may still differ on other rows.

    Attributes:
        first_correct: Whether the first coding equals the reference, (rows,).
        second_correct: Whether the second does, (rows,).
        differ: Whether the two codings differ, (rows,).
        flip_rate: Share of the rows on which they differ.
        draws: The draws of the first and of the second coding, `ConfusionDraws` or `LabelSetDraws`.
    """

    first_correct: NDArray[np.bool_]
    second_correct: NDArray[np.bool_]
    differ: NDArray[np.bool_]
    flip_rate: Figure
    draws: tuple[Any, Any]

    def difference(self, figure: Callable[[Any], Figure]) -> Estimate | None:
        """Return the figure of the second coding minus that of the first; None if either is undefined."""
        first, second = map(figure, self.draws)
        return (second - first).estimate()


def pair_labels(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> Pair:
    """Resample rows with one label each; rows with the same three labels are counted together.

    Raises:
        DataError: A label is not in the task.
    """
    truth, one, other = (
        encode_labels(coding, task, name)
        for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    labels, rows, rng = len(task.names), Rows.of(len(truth), groups), np.random.default_rng(seed)
    patterns, row_patterns = np.unique((truth * labels + one) * labels + other, return_inverse=True)
    drawn = rows.draw_cells(row_patterns.reshape(-1), len(patterns), resamples, rng)
    additional = rows.draw_additional(_advantage(one == truth, other == truth), resamples, rng)
    true_labels, first_labels, second_labels = patterns // labels**2, patterns // labels % labels, patterns % labels

    def confusions(coded: Counts) -> ConfusionDraws:
        cells = (np.arange(len(patterns)), true_labels * labels + coded)
        indicator = coo_array((np.ones(len(patterns)), cells), shape=(len(patterns), labels**2))
        return ConfusionDraws(np.asarray(drawn @ indicator.tocsr()).reshape(-1, labels, labels), additional, rows)

    return Pair(
        first_correct=one == truth,
        second_correct=other == truth,
        differ=one != other,
        flip_rate=_flip_rate(drawn, first_labels != second_labels, one != other, rows, rng),
        draws=(confusions(first_labels), confusions(second_labels)),
    )


def pair_label_sets(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> Pair:
    """Resample rows of a multilabel task.

    Raises:
        DataError: A label is not in the task.
    """
    truth, one, other = (
        encode_label_sets(coding, task, name)
        for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    first_correct, second_correct = ((coding == truth).all(axis=1) for coding in (one, other))
    alike = _advantage(first_correct, second_correct)
    draws = draw_label_sets(truth, [one, other], groups, resamples, seed, alike)
    differ, rng = (one != other).any(axis=1), np.random.default_rng(seed)
    apart = (draws[0].pairs[1] != draws[1].pairs[1]).any(axis=1)
    return Pair(
        first_correct=first_correct,
        second_correct=second_correct,
        differ=differ,
        flip_rate=_flip_rate(draws[0].weights, apart, differ, draws[0].rows, rng),
        draws=(draws[0], draws[1]),
    )


def _advantage(first_correct: NDArray[np.bool_], second_correct: NDArray[np.bool_]) -> Values:
    """Return by row 1 if only the second coding is correct, -1 if only the first is, else 0."""
    return second_correct.astype(np.float64) - first_correct


def _flip_rate(
    weights: Values, apart: NDArray[np.bool_], differ: NDArray[np.bool_], rows: Rows, rng: np.random.Generator
) -> Figure:
    """Return the share of rows that differ: of the patterns with these weights those that are ``apart``."""
    additional = rows.draw_additional(differ.astype(np.float64), len(weights) - 1, rng)
    return share_figure(weights @ apart, weights @ ~apart, additional, rows)


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two-sided p-values of the hypothesis that both codings are correct equally often, in [0, 1].

    Attributes:
        exact_p: Of the exact conditional test, which is conservative on few rows.
        mid_p: Of the mid-p test, which Fagerland, Lydersen & Laake (2013) recommend.
    """

    exact_p: float
    mid_p: float


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Test the counts of rows on which exactly one coding is correct (McNemar 1947, doi:10.1007/BF02295996).

    The rows must be independent: with several rows per learner the p-values are too small. The mid-p value is the exact
    p-value minus the probability of the observed counts; for equal counts it is 1 minus half of that probability
    (Fagerland, Lydersen & Laake 2013, doi:10.1186/1471-2288-13-91).

    Args:
        only_first: Rows on which only the first coding is correct.
        only_second: Rows on which only the second is.

    Raises:
        DataError: A count is negative.
    """
    if min(only_first, only_second) < 0:
        raise DataError("a row count is negative", where=f"McNemar's test of {only_first} and {only_second}")
    rows = only_first + only_second
    if not rows:
        return McNemar(1.0, 1.0)
    exact = float(binomtest(only_first, rows, 0.5).pvalue)
    observed = float(binom.pmf(only_first, rows, 0.5))
    return McNemar(exact, 1 - observed / 2 if only_first == only_second else exact - observed)


@dataclass(frozen=True, slots=True)
class Change:
    """Change from one coding to another on the same rows.

    Attributes:
        rows: Rows compared, at least 1.
        flips: Rows whose label differs.
        flip_rate: Their share.
        kappa_lost: κ of the first coding with the reference minus that of the second: Cohen's κ, quadratic weighted for
            ordinal tasks, the mean over labels for multilabel tasks. The interval is paired: both are computed on the
            same resamples. None if either is undefined.
    """

    rows: int
    flips: int
    flip_rate: Estimate
    kappa_lost: Estimate | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two codings compared with one reference on the same rows.

    Attributes:
        rows: Rows compared, at least 1.
        both_right: Rows on which both equal the reference.
        only_first_right: Rows on which only the first does.
        only_second_right: Rows on which only the second does.
        neither_right: The other rows.
        differences: By statistic, the second coding minus the first, with a paired interval; None if either is
            undefined or all rows belong to one group, for which no interval can be estimated.
        mcnemar: McNemar's test; None with groups, because it assumes independent rows.
    """

    rows: int
    both_right: int
    only_first_right: int
    only_second_right: int
    neither_right: int
    differences: Mapping[str, Estimate | None]
    mcnemar: McNemar | None


def change(
    reference: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Change:
    """Compare two codings of the same rows, with 95 % paired intervals.

    Args:
        reference: The correct label of each row; at least one row.
        before: The first coding.
        after: The second coding.
        task: Defines the allowed labels and their order.
        groups: The group of each row; whole groups are then resampled; with a single group every interval is the whole
            range of its figure. None: independent rows.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As for `agreement`.
    """
    pair = _resample(reference, before, after, task, groups, resamples, seed)
    flips, rows = int(pair.differ.sum()), len(pair.differ)
    kappa = _figures(task)["kappa"]
    return Change(rows, flips, required(pair.flip_rate.estimate()), pair.difference(lambda draws: -kappa(draws)))


def compare(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    figures: Mapping[str, ConfusionFigure] | Mapping[str, LabelSetFigure] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two codings with a reference, the second minus the first, with 95 % paired intervals.

    Both codings are evaluated on the same resamples, so that the difficulty of the rows cancels.

    Args:
        reference: The correct label of each row; at least one row.
        first: One coding, such as that of the teacher.
        second: The other, such as that of the student.
        task: Defines the allowed labels and their order.
        groups: The group of each row; whole groups are then resampled. None: rows are independent.
        figures: Figures by name. None: accuracy, macro-F1, macro precision, macro recall, κ and MCC; for multilabel
            tasks `label_set_figures`.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As for `agreement`.
    """
    pair = _resample(reference, first, second, task, groups, resamples, seed)
    one_group = groups is not None and len(set(groups)) == 1
    one, other = pair.first_correct, pair.second_correct
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    compared: Mapping[str, Callable[[Any], Figure]] = _figures(task) if figures is None else figures
    return Comparison(
        rows=len(one),
        both_right=int((one & other).sum()),
        only_first_right=only_first,
        only_second_right=only_second,
        neither_right=int((~one & ~other).sum()),
        differences={name: None if one_group else pair.difference(each) for name, each in compared.items()},
        mcnemar=mcnemar(only_first, only_second) if groups is None else None,
    )


def _figures(task: Task) -> Mapping[str, Callable[[Any], Figure]]:
    return label_set_figures() if task.kind == "multilabel" else single_label_figures(ordinal=task.kind == "ordinal")


def _resample(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> Pair:
    check_lengths(reference, first=first, second=second)
    check_groups(len(reference), groups, resamples)
    resample = pair_label_sets if task.kind == "multilabel" else pair_labels
    return resample(reference, first, second, task, groups, resamples, seed)
