"""Two codings of the same rows compared with a third: paired differences on the same resamples, and McNemar's test.

Drawn
├── resample_single_labels()   of a nominal or ordinal task: one confusion matrix per resample and coding
└── resample_both_label_sets()     of a multilabel task: tallies per resample and coding
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
    """Two codings of the same rows and resamples.

    Attributes:
        first_right: Per row whether the first coding has the reference's labels, (rows,).
        second_right: The same of the second.
        flipped: Per row whether the two differ.
        flip_rates: Share of the rows on which they differ, per resample.
        own: What statistics read of the rows themselves, of the first coding and of the second.
        drawn: The same of every resample.
    """

    first_right: NDArray[np.bool_]
    second_right: NDArray[np.bool_]
    flipped: NDArray[np.bool_]
    flip_rates: Values
    own: tuple[Any, Any]
    drawn: tuple[Any, Any]

    def difference(self, statistic: Callable[[Any], Values]) -> Estimate | None:
        """The statistic of the second coding less that of the first; None where either is undefined."""
        (first,), (second,) = map(statistic, self.own)
        before, after = map(statistic, self.drawn)
        return optional_estimate(float(second - first), after - before)


def resample_single_labels(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> PairedResamples:
    """Draw rows that have one label each; statistics read confusion matrices (n, labels, labels).

    Rows are of one kind where all three labels are the same; there are far fewer kinds than there could be.

    Raises:
        DataError: A label that the task does not have.
    """
    truth, one, other = (
        encode_labels(coding, task, name)
        for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    labels = len(task.names)
    kinds, kind_of_row = np.unique((truth * labels + one) * labels + other, return_inverse=True)
    drawn = resample_cells(kind_of_row, len(kinds), groups, resamples, np.random.default_rng(seed))
    of_truth, of_first, of_second = kinds // labels**2, kinds // labels % labels, kinds % labels

    def confusions(coded: Counts) -> Counts:
        places = (np.arange(len(kinds)), of_truth * labels + coded)
        of_kind = coo_array((np.ones(len(kinds), dtype=np.int64), places), shape=(len(kinds), labels**2))
        return np.asarray(drawn @ of_kind.tocsr()).reshape(-1, labels, labels)

    return PairedResamples(
        first_right=one == truth,
        second_right=other == truth,
        flipped=one != other,
        flip_rates=np.asarray(drawn[:, of_first != of_second].sum(axis=1) / drawn.sum(axis=1), dtype=np.float64),
        own=(confusion_matrix(truth, one, labels)[None], confusion_matrix(truth, other, labels)[None]),
        drawn=(confusions(of_first), confusions(of_second)),
    )


def resample_both_label_sets(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> PairedResamples:
    """Draw rows of which any number of labels hold; statistics read `LabelSetCounts`.

    Raises:
        DataError: A label that the task does not have.
    """
    truth, one, other = (
        encode_label_sets(coding, task, name)
        for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    pairs = [(truth, one), (truth, other), (one, other)]
    before, after, between = resample_label_sets(pairs, groups, resamples, np.random.default_rng(seed))
    return PairedResamples(
        first_right=(one == truth).all(axis=1),
        second_right=(other == truth).all(axis=1),
        flipped=(one != other).any(axis=1),
        flip_rates=np.asarray(1 - between.same / between.rows, dtype=np.float64),
        own=(count_all_rows(truth, one), count_all_rows(truth, other)),
        drawn=(before, after),
    )


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two-sided p-values of the hypothesis that both codings are right equally often, in [0, 1].

    Attributes:
        exact_p: The exact conditional test's; never too small, on few rows larger than need be.
        mid_p: The mid-p test's, which Fagerland, Lydersen & Laake (2013) recommend.
    """

    exact_p: float
    mid_p: float


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Test the two counts of rows on which exactly one coding is right (McNemar 1947, doi:10.1007/BF02295996).

    The rows must be independent: with several rows of one learner the p-values are too small. Mid-p is the exact value
    less the probability of the counts themselves, or one less half of it where they are equal (Fagerland, Lydersen &
    Laake 2013, doi:10.1186/1471-2288-13-91).

    Args:
        only_first: Rows on which the first coding alone is right.
        only_second: Rows on which the second alone is.

    Raises:
        DataError: A count below 0.
    """
    if min(only_first, only_second) < 0:
        raise DataError("a count of rows is below 0", where=f"McNemar's test of {only_first} and {only_second}")
    rows = only_first + only_second
    if not rows:
        return McNemar(1.0, 1.0)
    exact = float(binomtest(only_first, rows, 0.5).pvalue)
    here = float(binom.pmf(only_first, rows, 0.5))
    return McNemar(exact, 1 - here / 2 if only_first == only_second else exact - here)


@dataclass(frozen=True, slots=True)
class Change:
    """From one coding to another, on the same rows.

    Attributes:
        rows: Rows compared, at least 1.
        flips: Rows whose label differs.
        flip_rate: Their share, with its interval.
        kappa_lost: The first coding's agreement with the reference less the second's: Cohen's κ, quadratic weighted for
            an ordinal task, the mean over labels for a multilabel one. The interval is paired: both are recomputed on
            the same resampled rows. None where either is undefined.
    """

    rows: int
    flips: int
    flip_rate: Estimate
    kappa_lost: Estimate | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two codings against one reference, on the same rows.

    Attributes:
        rows: Rows compared, at least 1.
        both_right: Rows on which both have the reference's label.
        only_first_right: Rows on which the first alone has it.
        only_second_right: Rows on which the second alone has it.
        neither_right: The others.
        differences: By statistic, the second coding's less the first's, with its paired interval; None where either is
            undefined, and where all rows belong to one group, which bears no interval.
        mcnemar: Whether one is right more often; None where rows come in groups, for the test supposes independent
            rows.
    """

    rows: int
    both_right: int
    only_first_right: int
    only_second_right: int
    neither_right: int
    differences: Mapping[str, Estimate | None]
    mcnemar: McNemar | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, numbers and None, ready for JSON; the keys are the attributes' names."""
        return asdict(self)


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
        reference: The label per row that counts as right; at least one row.
        before: The first coding.
        after: The second.
        task: Its labels are the only ones in all three.
        groups: What each row belongs to; whole groups are then drawn. None, or one group: every row stands for itself.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As `agreement` says.
    """
    drawn = _draw(reference, before, after, task, groups, resamples, seed)
    flips, rows = int(drawn.flipped.sum()), len(drawn.flipped)
    kappa = _kappa(task)
    lost = drawn.difference(lambda found: -kappa(found))
    return Change(rows, flips, interval_estimate(flips / rows, drawn.flip_rates), lost)


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
    """Say what the second of two codings gains against the first, both against the reference.

    Both are recomputed on the same resampled rows, so that what makes a row hard counts for both alike.

    Args:
        reference: The label per row that counts as right; at least one row.
        first: One coding, such as the teacher's.
        second: The other, such as the student's.
        task: Its labels are the only ones in all three.
        groups: What each row belongs to; whole groups are then drawn. None: every row stands for itself.
        statistics: What is compared, by name; None for accuracy, macro-F1, macro precision, macro recall, κ and MCC, of
            a multilabel task `label_set_statistics`.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As `agreement` says.
    """
    drawn = _draw(reference, first, second, task, groups, resamples, seed)
    one_group = groups is not None and len(set(groups)) == 1
    one, other = drawn.first_right, drawn.second_right
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    wanted: Mapping[str, Callable[[Any], Any]] | None = statistics
    if wanted is None:
        wanted = (
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
        differences={name: None if one_group else drawn.difference(each) for name, each in wanted.items()},
        mcnemar=mcnemar(only_first, only_second) if groups is None else None,
    )


def _kappa(task: Task) -> Callable[[Any], Any]:
    if task.kind == "multilabel":
        return mean_kappas
    quadratic = task.kind == "ordinal"
    return lambda confusions: kappas(confusions, quadratic=quadratic)


def _draw(
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
    draw = resample_both_label_sets if task.kind == "multilabel" else resample_single_labels
    return draw(reference, first, second, task, groups, resamples, seed)
