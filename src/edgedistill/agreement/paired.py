"""Two codings of the same rows against a third: what one gains or loses, with paired intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array

from edgedistill.agreement.bootstrap import confusion_of, defined, estimate, resample_cells
from edgedistill.agreement.checking import check_groups, check_kind, check_lengths, indices
from edgedistill.agreement.mcnemar import McNemar, mcnemar
from edgedistill.agreement.statistics import Counts, Statistic, kappas, statistics_of
from edgedistill.agreement.types import Estimate
from edgedistill_serve.task import Task


@dataclass(frozen=True, slots=True)
class Change:
    """From one coding to another, on the same rows.

    Attributes:
        rows: Rows compared, at least 1.
        flips: Rows whose label differs.
        flip_rate: Their share, with its interval.
        kappa_lost: The first coding's agreement with the reference less the second's: Cohen's κ, quadratic weighted for
            an ordinal task. The interval is paired: both are recomputed on the same resampled rows. None where either
            is undefined.
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
            undefined.
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
    drawn = _draw(reference, before, after, task, _several(groups), resamples, seed)
    flips = int((drawn.first != drawn.second).sum())
    quadratic = task.kind == "ordinal"
    lost = drawn.difference(lambda confusions: -kappas(confusions, quadratic=quadratic))
    return Change(len(drawn.truth), flips, estimate(flips / len(drawn.truth), drawn.flip_rates), lost)


def compare(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    statistics: Mapping[str, Statistic] | None = None,
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
        groups: What each row belongs to; whole groups are then drawn. None, or one group: every row stands for itself.
        statistics: What is compared, by name; None for accuracy, macro-F1, macro precision, macro recall, κ and MCC.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As `agreement` says.
    """
    groups = _several(groups)
    drawn = _draw(reference, first, second, task, groups, resamples, seed)
    one, other = drawn.first == drawn.truth, drawn.second == drawn.truth
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    wanted = statistics_of(ordinal=task.kind == "ordinal") if statistics is None else statistics
    return Comparison(
        rows=len(drawn.truth),
        both_right=int((one & other).sum()),
        only_first_right=only_first,
        only_second_right=only_second,
        neither_right=int((~one & ~other).sum()),
        differences={name: drawn.difference(statistic) for name, statistic in wanted.items()},
        mcnemar=mcnemar(only_first, only_second) if groups is None else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Rows and their resamples: label indices per row, and per resample how often each kind of row was drawn.

    Rows are of one kind where all three labels are the same; there are far fewer kinds than there could be.
    """

    truth: Counts
    first: Counts
    second: Counts
    kinds: Counts
    drawn: Counts
    labels: int

    @property
    def flip_rates(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        first, second = self.kinds // self.labels % self.labels, self.kinds % self.labels
        return np.asarray(self.drawn[:, first != second].sum(axis=1) / self.drawn.sum(axis=1), dtype=np.float64)

    def difference(self, statistic: Statistic) -> Estimate | None:
        """The statistic of the second coding less that of the first."""
        truth, first, second = self.kinds // self.labels**2, self.kinds // self.labels % self.labels, self.kinds
        resampled = statistic(self._confusions(truth, second % self.labels)) - statistic(self._confusions(truth, first))
        value = statistic(confusion_of(self.truth, self.second, self.labels)[None]) - statistic(
            confusion_of(self.truth, self.first, self.labels)[None]
        )
        return defined(float(value[0]), resampled)

    def _confusions(self, truth: Counts, coded: Counts) -> Counts:
        places = (np.arange(len(self.kinds)), truth * self.labels + coded)
        of_kind = coo_array((np.ones(len(self.kinds), dtype=np.int64), places), shape=(len(self.kinds), self.labels**2))
        return np.asarray(self.drawn @ of_kind.tocsr()).reshape(-1, self.labels, self.labels)


def _draw(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> _Drawn:
    check_kind(task)
    check_lengths(reference, first=first, second=second)
    check_groups(len(reference), groups, resamples)
    truth, one, other = (
        indices(coding, task, name) for name, coding in (("reference", reference), ("first", first), ("second", second))
    )
    labels = len(task.names)
    kinds, kind_of_row = np.unique((truth * labels + one) * labels + other, return_inverse=True)
    drawn = resample_cells(kind_of_row, len(kinds), groups, resamples, np.random.default_rng(seed))
    return _Drawn(truth, one, other, kinds, drawn, labels)


def _several(groups: Sequence[str] | None) -> Sequence[str] | None:
    return groups if groups is not None and len(set(groups)) > 1 else None
