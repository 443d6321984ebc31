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

from edgedistill.agreement.bootstrap import interval_estimate, optional_estimate, resample_cells
from edgedistill.agreement.confusion import (
    Counts,
    Statistic,
    Values,
    check_groups,
    check_lengths,
    confusion_matrix,
    encode_labels,
    kappas,
    single_label_statistics,
)
from edgedistill.agreement.multilabel import (
    LabelSetStatistic,
    count_all_rows,
    encode_label_sets,
    label_set_statistics,
    mean_kappas,
    resample_label_sets,
)
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class PairedResamples:
    """Counts of two codings on the same rows and resamples.

    Attributes:
        first_correct: Whether the first coding equals the reference, (rows,).
        second_correct: Whether the second does, (rows,).
        differ: Whether the two codings differ, (rows,).
        flip_rates: Share of the rows on which they differ, (resamples,).
        observed: The counts of the original rows, of the first and of the second coding.
        resampled: The counts of the resamples, of the first and of the second coding.
    """

    first_correct: NDArray[np.bool_]
    second_correct: NDArray[np.bool_]
    differ: NDArray[np.bool_]
    flip_rates: Values
    observed: tuple[Any, Any]
    resampled: tuple[Any, Any]

    def difference(self, statistic: Callable[[Any], Values]) -> Estimate | None:
        """Return the statistic of the second coding minus that of the first; None if either is undefined."""
        (first,), (second,) = map(statistic, self.observed)
        before, after = map(statistic, self.resampled)
        return optional_estimate(float(second - first), after - before)


def resample_label_pairs(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> PairedResamples:
    """Resample rows with one label each; the counts are confusion matrices (n, labels, labels).

    Rows with the same three labels are counted together; few of the possible combinations occur.

    Raises:
        DataError: A label is not in the task.
    """
    truth, one, other = (
        encode_labels(coding, task, name)
        for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    labels = len(task.names)
    patterns, row_patterns = np.unique((truth * labels + one) * labels + other, return_inverse=True)
    drawn = resample_cells(row_patterns, len(patterns), groups, resamples, np.random.default_rng(seed))
    true_labels, first_labels, second_labels = patterns // labels**2, patterns // labels % labels, patterns % labels

    def confusions(coded: Counts) -> Counts:
        cells = (np.arange(len(patterns)), true_labels * labels + coded)
        indicator = coo_array((np.ones(len(patterns), dtype=np.int64), cells), shape=(len(patterns), labels**2))
        return np.asarray(drawn @ indicator.tocsr()).reshape(-1, labels, labels)

    return PairedResamples(
        first_correct=one == truth,
        second_correct=other == truth,
        differ=one != other,
        flip_rates=np.asarray(
            drawn[:, first_labels != second_labels].sum(axis=1) / drawn.sum(axis=1), dtype=np.float64
        ),
        observed=(confusion_matrix(truth, one, labels)[None], confusion_matrix(truth, other, labels)[None]),
        resampled=(confusions(first_labels), confusions(second_labels)),
    )


def resample_label_set_pairs(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> PairedResamples:
    """Resample rows of a multilabel task; the counts are `LabelSetCounts`.

    Raises:
        DataError: A label is not in the task.
    """
    truth, one, other = (
        encode_label_sets(coding, task, name)
        for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    pairs = [(truth, one), (truth, other), (one, other)]
    before, after, between = resample_label_sets(pairs, groups, resamples, np.random.default_rng(seed))
    return PairedResamples(
        first_correct=(one == truth).all(axis=1),
        second_correct=(other == truth).all(axis=1),
        differ=(one != other).any(axis=1),
        flip_rates=np.asarray(1 - between.same / between.rows, dtype=np.float64),
        observed=(count_all_rows(truth, one), count_all_rows(truth, other)),
        resampled=(before, after),
    )


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
    """Compare two codings of the same rows, with 95 % paired percentile bootstrap intervals.

    Args:
        reference: The correct label of each row; at least one row.
        before: The first coding.
        after: The second coding.
        task: Defines the allowed labels and their order.
        groups: The group of each row; whole groups are then resampled. None or a single group: independent rows.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As for `agreement`.
    """
    pairs = _resample(reference, before, after, task, groups, resamples, seed)
    flips, rows = int(pairs.differ.sum()), len(pairs.differ)
    kappa = _kappa(task)
    lost = pairs.difference(lambda counts: -kappa(counts))
    return Change(rows, flips, interval_estimate(flips / rows, pairs.flip_rates), lost)


def compare(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    statistics: Mapping[str, Statistic] | Mapping[str, LabelSetStatistic] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two codings with a reference, the second minus the first, with 95 % paired bootstrap intervals.

    Both codings are evaluated on the same resamples, so that the difficulty of the rows cancels.

    Args:
        reference: The correct label of each row; at least one row.
        first: One coding, such as that of the teacher.
        second: The other, such as that of the student.
        task: Defines the allowed labels and their order.
        groups: The group of each row; whole groups are then resampled. None: rows are independent.
        statistics: Statistics by name. None: accuracy, macro-F1, macro precision, macro recall, κ and MCC; for
            multilabel tasks `label_set_statistics`.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As for `agreement`.
    """
    pairs = _resample(reference, first, second, task, groups, resamples, seed)
    one_group = groups is not None and len(set(groups)) == 1
    one, other = pairs.first_correct, pairs.second_correct
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    compared: Mapping[str, Callable[[Any], Any]] | None = statistics
    if compared is None:
        compared = (
            label_set_statistics()
            if task.kind == "multilabel"
            else single_label_statistics(ordinal=task.kind == "ordinal")
        )
    return Comparison(
        rows=len(one),
        both_right=int((one & other).sum()),
        only_first_right=only_first,
        only_second_right=only_second,
        neither_right=int((~one & ~other).sum()),
        differences={name: None if one_group else pairs.difference(each) for name, each in compared.items()},
        mcnemar=mcnemar(only_first, only_second) if groups is None else None,
    )


def _kappa(task: Task) -> Callable[[Any], Any]:
    if task.kind == "multilabel":
        return mean_kappas
    quadratic = task.kind == "ordinal"
    return lambda confusions: kappas(confusions, quadratic=quadratic)


def _resample(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> PairedResamples:
    check_lengths(reference, first=first, second=second)
    check_groups(len(reference), groups, resamples)
    resample = resample_label_set_pairs if task.kind == "multilabel" else resample_label_pairs
    return resample(reference, first, second, task, groups, resamples, seed)
