"""The alternative annotator test: may a machine's labels take the place of a human coder's?

Calderon, Reichart & Dror 2025 (ACL, arXiv 2501.10970). Each coder in turn is left out. On every row that the coder and
at least one other coder coded, machine and coder are compared by how well each agrees with the other coders. The
machine's advantage probability is the share of the rows on which it agrees with them at least as well as the coder, the
coder's likewise; ties count for both. A coder is beaten if the coder's probability less the machine's is significantly
below ε, the advantage that is granted to the machine because it is cheap. The machine passes if it beats at least half
of the coders, with the false discovery rate over coders controlled (Benjamini & Yekutieli 2001).

The difference of the two probabilities is that of paired proportions, and ε a margin of noninferiority. The paper tests
it with a t-test, which rejects too often where most rows are ties (docs/decisions/0049). Here the test is exact: the
score statistic of Tango (1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B) with its largest
p-value over all shares of ties (Hsueh, Liu & Chen 2001, doi:10.1111/j.0006-341X.2001.00478.x).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from html import escape
from typing import Any, Literal, TypeAlias

import numpy as np
from rich import box
from rich.table import Table
from scipy.special import gammaln, xlogy
from scipy.stats import false_discovery_control, norm, t

from edgedistill.agreement.agreement import is_missing
from edgedistill.agreement.bootstrap import Rows, bootstrap_groups, mean_figure, required, share_figure
from edgedistill.agreement.confusion import Counts, Values, check_groups, check_rows, encode_labels
from edgedistill.agreement.inter_coder import one_label_notes
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.agreement.types import Estimate
from edgedistill.displays import html_table, plain_text
from edgedistill.errors import ArgumentError, DataError
from edgedistill_serve.task.task import Label, Task

FEWEST_CODERS = 3
"""With two coders there is no group that machine and coder could represent (section 5 of the paper)."""
LEAST_ROWS = 30
"""Rows that each coder must share with another one, as the paper recommends."""

_EXACT_ROWS = 1000
"""Up to so many rows the test is exact; then the score statistic is normally distributed for all practical purposes."""
_TIE_SHARES = 60
"""Number of shares of ties over which the largest p-value is searched."""

Decision: TypeAlias = Literal["exact", "t"]


@dataclass(frozen=True, slots=True)
class CoderComparison:
    """The machine against one coder, by agreement with the other coders.

    Attributes:
        coder: The coder's name.
        rows: Rows coded by this coder and at least one other.
        advantage: The machine's advantage probability: the share of the rows on which it agrees with the other coders
            at least as well as this coder, with its 95 % interval.
        coder_advantage: The coder's, likewise.
        p: Of the hypothesis that the coder's advantage probability exceeds the machine's by at least ε, in [0, 1].
        p_t: The same by the t-test of the paper; with groups by a t-test of group sums.
        beaten: Whether the hypothesis is rejected, with the false discovery rate over all coders controlled.
    """

    coder: str
    rows: int
    advantage: Estimate
    coder_advantage: Estimate
    p: float
    p_t: float
    beaten: bool


@dataclass(frozen=True, slots=True, repr=False)
class AltTest:
    """The result of the alternative annotator test; its repr is a table.

    Attributes:
        coders: A comparison with each coder that can be tested.
        winning_rate: Share of these coders that the machine beats.
        passed: Whether it is at least one half.
        advantage: Mean of the machine's advantage probabilities over coders, with its 95 % interval; compare machines
            by this figure.
        epsilon: The advantage granted to the machine.
        alpha: The false discovery rate.
        decision: The test that decides, ``exact`` or ``t``.
        alignment: How agreement on a row is measured: ``accuracy``, ``-rmse`` or ``jaccard``.
        rows: Rows with the codes of at least two coders.
        uncoded: Rows of these that the machine did not label; each counts as lost.
        groups: Number of groups; None if rows are independent.
        notes: Coders that were left out, and why; coders whose codes show little.
    """

    coders: tuple[CoderComparison, ...]
    winning_rate: float
    passed: bool
    advantage: Estimate
    epsilon: float
    alpha: float
    decision: Decision
    alignment: str
    rows: int
    uncoded: int
    groups: int | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists and numbers, ready for JSON; the keys are the attributes' names."""
        return {**asdict(self), "coders": [asdict(each) for each in self.coders], "notes": list(self.notes)}

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        return alt_test_verdict(self.as_dict())

    def __repr__(self) -> str:
        table = Table(*_HEADS, box=box.SIMPLE_HEAD, pad_edge=False)
        for cells in self._lines():
            table.add_row(*cells)
        return plain_text(table) + "\n".join((self.verdict, *self.notes))

    def _repr_html_(self) -> str:
        sentences = "".join(f"<p>{escape(each)}</p>" for each in (self.verdict, *self.notes))
        return html_table(_HEADS, self._lines()) + sentences

    def _lines(self) -> Iterator[tuple[str, ...]]:
        for each in self.coders:
            figures = (_interval(each.advantage), _interval(each.coder_advantage), f"{each.p:.3g}")
            yield each.coder, str(each.rows), *figures, "yes" if each.beaten else "no"


def alt_test_verdict(tested: Mapping[str, Any]) -> str:
    """Return the outcome in a sentence.

    Args:
        tested: From `AltTest.as_dict`.
    """
    beaten = sum(each["beaten"] for each in tested["coders"])
    advantage = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**tested["advantage"])
    return (
        f"alternative annotator test {'passed' if tested['passed'] else 'not passed'}: beats {beaten} of "
        f"{len(tested['coders'])} coders (winning rate {tested['winning_rate']:.2f}, 0.50 required, epsilon "
        f"{tested['epsilon']:g}); average advantage probability {advantage} on {tested['rows']} rows"
    )


_HEADS = ("coder", "rows", "advantage of the machine", "of the coder", "p", "beaten")


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def alt_test(
    labels: Iterable[str | None],
    coders: Mapping[str, Iterable[str | None]],
    task: Task | None = None,
    *,
    epsilon: float = 0.15,
    alpha: float = 0.05,
    least_rows: int = LEAST_ROWS,
    decision: Decision = "exact",
    groups: Sequence[str | None] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> AltTest:
    """Test whether a machine's labels may take the place of a human coder's.

    The agreement with the other coders on a row is the share of them with the same label; for an ordinal task the
    negative root mean squared difference in steps of the scale; for a multilabel task the mean Jaccard index of the
    label sets, which is 1 for two empty sets.

    Args:
        labels: The machine's label of each row; a missing one (None, NaN, empty) counts as a lost row.
        coders: By coder, at least three: the code of each row, in the same order; a DataFrame, too. Missing codes are
            None, NaN or empty.
        task: Defines the allowed labels and their order. None: a nominal task of the labels that occur.
        epsilon: The advantage granted to the machine, in [0, 1). The paper suggests 0.2 in place of experts, 0.15 of
            skilled coders such as trained students, 0.1 of crowd workers. State it before the labels are known.
        alpha: The false discovery rate over coders, in (0, 1).
        least_rows: A coder with fewer rows that another coder coded, too, is left out.
        decision: ``exact``, or the paper's ``t``. With groups, ``exact`` takes the larger p of the exact test and of a
            t-test of group sums.
        groups: The group of each row, such as a learner; a row whose group is missing is its own. None: rows are
            independent.
        resamples: Bootstrap resamples of the intervals that are not exact, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: Fewer than three coders can be tested, a label is not in the task, or lengths differ.
        ArgumentError: A number is out of its range.

    Example:
        >>> from edgedistill.agreement import alt_test
        >>> codes = ["a", "b"] * 20
        >>> alt_test(codes, {"one": codes, "two": codes, "three": ["b", "b"] * 20}).winning_rate
        0.3333333333333333
    """
    _check_numbers(epsilon, alpha, least_rows, decision)
    machine = _texts(labels, "labels")
    codes = {str(name): _texts(column, str(name)) for name, column in coders.items()}
    _check_coders(machine, codes)
    if groups is not None:
        check_rows(groups, "groups", "a group")
    check_groups(len(machine), None if groups is None else ["" for _ in groups], resamples)
    named = None if groups is None else bootstrap_groups([None if is_missing(each) else each for each in groups])
    if task is None:
        task = Task("nominal", tuple(map(Label, sorted(_occurring(machine, codes)))), ("response",))
    coded = np.array([[code is not None for code in column] for column in codes.values()])
    shared = coded.sum(axis=0) >= 2
    if not shared.any():
        raise DataError(
            "no row has the codes of two coders", hint=f"Let each coder code {least_rows} rows that others code, too."
        )
    rows = Rows.of(int(shared.sum()), None if named is None else [named[row] for row in np.flatnonzero(shared)])
    kept, reasons = _testable(tuple(codes), coded[:, shared], rows, least_rows)
    _require_coders(kept, reasons, least_rows)
    present = np.array([label is not None for label in machine])
    agreed = _alignments(machine, codes, task)
    wins = [_compare(agreed, coder, coded, present)[:, shared] for coder in kept]
    tested = [_Tested.of(won, coded[coder, shared], rows, epsilon) for coder, won in zip(kept, wins, strict=True)]
    decisive = [each.p_t if decision == "t" else each.p for each in tested]
    adjusted = false_discovery_control(decisive, method="by")
    shares, mean = _advantages(wins, coded[kept][:, shared], rows, resamples, seed)
    names = tuple(codes)
    compared = tuple(
        CoderComparison(names[coder], each.rows, mine, theirs, p, each.p_t, bool(corrected <= alpha))
        for coder, each, (mine, theirs), p, corrected in zip(kept, tested, shares, decisive, adjusted, strict=True)
    )
    rate = sum(each.beaten for each in compared) / len(compared)
    return AltTest(
        compared,
        rate,
        rate >= 0.5,
        mean,
        epsilon,
        alpha,
        decision,
        {"ordinal": "-rmse", "multilabel": "jaccard"}.get(task.kind, "accuracy"),
        rows.count,
        int((shared & ~present).sum()),
        None if rows.groups is None else rows.units,
        (
            *reasons.values(),
            *one_label_notes({name: [code for code in column if code is not None] for name, column in codes.items()}),
        ),
    )


def alt_test_by_id(
    machine: Mapping[str, str],
    codings: Mapping[str, Mapping[str, str]],
    task: Task,
    *,
    epsilon: float,
    groups: Mapping[str, str] | None = None,
) -> tuple[AltTest | None, str]:
    """Run the test on labels and codes by row id, where enough coders coded enough rows.

    Args:
        machine: The machine's label by row id; rows that it lacks count as lost.
        codings: By coder, the code by row id.
        task: Defines the labels.
        epsilon: As in `alt_test`.
        groups: The group of each row by id.

    Returns:
        The result and an empty text; or None and the reason, which is empty if fewer than three coders are named.
    """
    if len(codings) < FEWEST_CODERS:
        return None, ""
    ids = list(dict.fromkeys(ident for coding in codings.values() for ident in coding))
    columns = {name: [coding.get(ident) for ident in ids] for name, coding in codings.items()}
    labels, grouped = [machine.get(ident) for ident in ids], groups and [groups[ident] for ident in ids]
    try:
        return alt_test(labels, columns, task, epsilon=epsilon, groups=grouped or None), ""
    except DataError as error:
        return None, error.what


def _check_numbers(epsilon: float, alpha: float, least_rows: int, decision: str) -> None:
    if not 0 <= epsilon < 1:
        raise ArgumentError(f"epsilon must be in [0, 1), not {epsilon!r}", hint="The paper suggests 0.1, 0.15 or 0.2.")
    if not 0 < alpha < 1:
        raise ArgumentError(f"alpha must be in (0, 1), not {alpha!r}")
    if not isinstance(least_rows, int) or least_rows < 1:
        raise ArgumentError(f"least_rows must be a positive integer, not {least_rows!r}")
    if decision not in ("exact", "t"):
        raise ArgumentError(f"decision must be 'exact' or 't', not {decision!r}")


def _texts(column: Iterable[str | None], name: str) -> list[str | None]:
    """Return the labels of a column, None for missing ones."""
    check_rows(column, name)
    texts: list[str | None] = []
    for place, value in enumerate(column, start=1):
        missing = is_missing(value) or (isinstance(value, str) and not value.strip())
        if not missing and not isinstance(value, str):
            raise DataError(
                f"the label {value!r} is not text", where=f"{name} label {place}", hint="Convert numbers to text."
            )
        texts.append(None if missing else value)
    return texts


def _check_coders(machine: Sequence[object], codes: Mapping[str, Sequence[object]]) -> None:
    if len(codes) < FEWEST_CODERS:
        raise DataError(
            f"the alternative annotator test needs at least {FEWEST_CODERS} coders, not {len(codes)}",
            hint="With two coders, compare κ of the machine with κ of the coders.",
        )
    for name, column in codes.items():
        if len(column) != len(machine):
            raise DataError(f"{name} has {len(column)} codes for {len(machine)} labels of the machine")


def _occurring(machine: Iterable[str | None], codes: Mapping[str, Iterable[str | None]]) -> set[str]:
    every = {label for column in (machine, *codes.values()) for label in column if label is not None}
    if len(every) < 2:
        raise DataError("all labels and codes are equal or missing", hint="Pass the task, which names all labels.")
    return every


def _testable(names: Sequence[str], coded: Counts, rows: Rows, least_rows: int) -> tuple[list[int], dict[str, str]]:
    """Return the places of the coders that can be tested, and why each of the others cannot."""
    kept, reasons = [], {}
    for place, (name, own) in enumerate(zip(names, coded, strict=True)):
        count = int(own.sum())
        if count < least_rows:
            reasons[name] = (
                f"{name} is left out: {count} of this coder's rows have the code of another coder, {least_rows} are "
                f"needed ({least_rows - count} more)"
            )
        elif rows.groups is not None and len(np.unique(rows.groups[own.astype(bool)])) < 2:
            reasons[name] = f"{name} is left out: all rows of this coder belong to one group, others are needed"
        else:
            kept.append(place)
    return kept, reasons


def _require_coders(kept: Sequence[int], reasons: Mapping[str, str], least_rows: int) -> None:
    if len(kept) < FEWEST_CODERS:
        raise DataError(
            f"the alternative annotator test needs {FEWEST_CODERS} coders with {least_rows} rows each: "
            + "; ".join(reasons.values()),
            hint="Let these coders code more of the rows that others coded.",
        )


def _alignments(machine: Sequence[str | None], codes: Mapping[str, Sequence[str | None]], task: Task) -> Values:
    """Return how much each pair agrees on each row: the machine, then the coders, by coder, (1 + coders, coders, rows).

    Where a code is missing the value means nothing.
    """
    columns = (("labels", machine), *codes.items())
    filled = ((name, [label or task.names[0] for label in column]) for name, column in columns)
    if task.kind == "multilabel":
        sets = np.array([encode_label_sets(column, task, name) for name, column in filled], dtype=np.float64)
        both = np.einsum("arl,brl->abr", sets, sets[1:])
        sizes = sets.sum(axis=2)
        either = sizes[:, None] + sizes[None, 1:] - both
        return np.asarray(np.divide(both, either, out=np.ones_like(both), where=either > 0), dtype=np.float64)
    numbers = np.array([encode_labels(column, task, name) for name, column in filled])
    if task.kind == "ordinal":
        # The square, because the root of a mean of squares orders machine and coder as the sum of squares does.
        return np.asarray(-((numbers[:, None] - numbers[None, 1:]) ** 2), dtype=np.float64)
    return np.asarray(numbers[:, None] == numbers[None, 1:], dtype=np.float64)


def _compare(agreed: Values, coder: int, coded: Counts, present: Counts) -> Counts:
    """Return on which rows the machine, and on which the coder, agrees with the other coders at least as well.

    Returns:
        Shape (2, rows), 0 or 1; 0 in both where the coder or all others have no code.
    """
    others = coded.copy()
    others[coder] = False
    counted = coded[coder] & others.any(axis=0)
    # Sums over the same coders order like means; rounding makes ties of what differs by the order of summation.
    machine, human = (np.round((agreed[place] * others).sum(axis=0), 9) for place in (0, coder + 1))
    return np.array([counted & present & (machine >= human), counted & (~present | (human >= machine))])


@dataclass(frozen=True, slots=True)
class _Tested:
    rows: int
    p: float
    p_t: float

    @classmethod
    def of(cls, won: Counts, own: Counts, rows: Rows, epsilon: float) -> "_Tested":
        """Test one coder; `won` is from `_compare`, `own` the rows that the coder coded."""
        places = np.flatnonzero(own)
        differences = won[1, places].astype(np.int64) - won[0, places].astype(np.int64)
        groups = None if rows.groups is None else rows.groups[places]
        p = exact_p(int((differences > 0).sum()), int((differences < 0).sum()), len(places), epsilon)
        p_t = t_test_p(differences, epsilon, groups)
        return cls(len(places), p if groups is None else max(p, p_t), p_t)


def t_test_p(differences: Counts, epsilon: float, groups: Counts | None = None) -> float:
    """Return the p-value of a one-sided t-test of the hypothesis that the mean is at least ε.

    Args:
        differences: -1, 0 or 1 by row, (rows,).
        epsilon: In [0, 1).
        groups: The group of each row; the standard error is then that of sums over groups, with G - 1 degrees of
            freedom. None: rows are independent.
    """
    count, mean = len(differences), float(differences.mean())
    units = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    number = int(units.max()) + 1
    if number < 2:
        return 1.0
    sums = np.bincount(units, weights=differences - mean)
    error = float(np.sqrt(number / (number - 1) * (sums**2).sum())) / count
    if error == 0:
        return 0.0 if mean < epsilon else 1.0
    return float(t.cdf((mean - epsilon) / error, number - 1))


@lru_cache(maxsize=10_000)
def exact_p(more: int, fewer: int, rows: int, epsilon: float) -> float:
    """Return the p-value of the exact test of the hypothesis that a mean of -1, 0 and 1 is at least ε.

    The statistic is Tango's score; the p-value is the largest over all shares of rows that are not 0. Beyond
    `_EXACT_ROWS` rows it is that of the normal distribution.

    Args:
        more: Rows with 1, on which only the coder agrees with the others best.
        fewer: Rows with -1, on which only the machine does.
        rows: All rows, at least 1.
        epsilon: In [0, 1).
    """
    observed = float(_score(np.array([more]), np.array([fewer]), rows, epsilon)[0])
    if rows > _EXACT_ROWS:
        return float(norm.cdf(observed))
    ones, minus = np.divmod(np.arange((rows + 1) ** 2), rows + 1)
    possible = ones + minus <= rows
    ones, minus = ones[possible], minus[possible]
    extreme = _score(ones, minus, rows, epsilon) <= observed + 1e-9
    ones, minus = ones[extreme][:, None], minus[extreme][:, None]
    zeros = rows - ones - minus
    ways = gammaln(rows + 1) - gammaln(ones + 1) - gammaln(minus + 1) - gammaln(zeros + 1)
    largest = 0.0
    for unequal in np.linspace(max(epsilon, 1e-6), 1, _TIE_SHARES):
        chances = xlogy(ones, (unequal + epsilon) / 2) + xlogy(minus, (unequal - epsilon) / 2)
        largest = max(largest, float(np.exp(ways + chances + xlogy(zeros, 1 - unequal)).sum()))
    return min(1.0, largest)


def _score(more: Counts, fewer: Counts, rows: int, epsilon: float) -> Values:
    """Return Tango's score: mean less ε, over its standard error at the most likely share of rows that are not 0."""
    linear = more * (1 + epsilon) + fewer * (1 - epsilon)
    constant = epsilon * (fewer - more) + epsilon**2 * (rows - more - fewer)
    unequal = (linear + np.sqrt(np.maximum(linear**2 + 4 * rows * constant, 0))) / (2 * rows)
    variance = np.clip(unequal, epsilon, 1) - epsilon**2
    above = (more - fewer) / rows - epsilon
    error = np.sqrt(np.maximum(variance, 0) / rows)
    certain = np.where(above < 0, -np.inf, np.where(above > 0, np.inf, 0.0))
    return np.asarray(np.divide(above, error, out=certain, where=error > 1e-12), dtype=np.float64)


def _advantages(
    wins: Sequence[Counts], own: Counts, rows: Rows, resamples: int, seed: int
) -> tuple[list[tuple[Estimate, Estimate]], Estimate]:
    """Return the advantage probabilities of the machine and of each coder, and the machine's mean over coders."""
    rng = np.random.default_rng(seed)
    columns = np.concatenate([np.array(wins, dtype=np.float64).reshape(-1, rows.count), own]).T
    counts = len(wins)
    mean_win = np.array([won[0] for won in wins]).sum(axis=0) / np.maximum(own.sum(axis=0), 1)
    additional = rows.draw_additional(mean_win, resamples, rng)
    sums = [columns.sum(axis=0)[None]]
    sums += [weights @ columns for weights in rows.draw_rows(resamples, rng)]
    drawn = np.concatenate(sums)
    figures = []
    for place in range(counts):
        total = drawn[:, 2 * counts + place]
        figures.append(
            [share_figure(hits, np.maximum(total - hits, 0), additional, rows) for hits in drawn[:, 2 * place :].T[:2]]
        )
    shares = [(required(mine.estimate()), required(theirs.estimate())) for mine, theirs in figures]
    return shares, required(mean_figure([mine for mine, _ in figures]).estimate())
