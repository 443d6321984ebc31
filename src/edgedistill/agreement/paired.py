"""Two codings of the same rows against a third: what one gains or loses, with paired intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgedistill.agreement.bootstrap import estimate
from edgedistill.agreement.checking import check_groups, check_lengths
from edgedistill.agreement.label_sets import SetStatistic, mean_kappas, set_statistics
from edgedistill.agreement.mcnemar import McNemar, mcnemar
from edgedistill.agreement.pairs import Drawn, draw_labels, draw_sets
from edgedistill.agreement.statistics import Statistic, kappas, statistics_of
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
    return Change(rows, flips, estimate(flips / rows, drawn.flip_rates), lost)


def compare(
    reference: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    statistics: Mapping[str, Statistic] | Mapping[str, SetStatistic] | None = None,
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
            a multilabel task `set_statistics`.
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
        wanted = set_statistics() if task.kind == "multilabel" else statistics_of(ordinal=task.kind == "ordinal")
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
) -> Drawn:
    check_lengths(reference, first=first, second=second)
    check_groups(len(reference), groups, resamples)
    draw = draw_sets if task.kind == "multilabel" else draw_labels
    return draw(reference, first, second, task, groups, resamples, seed)
