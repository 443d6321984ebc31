"""Which quantities of which items have changed.

The probability of any false alarm is split: half of it for the ranges that references allow, half for the evidence of
the stream. Of each half, one half is for all responses together; the other is shared by the items whose reference is in
the bundle, and by items that are compared with their own first weeks. Within an item, the quantities have equal parts,
and within a quantity the shares that stand for it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from edgedistill.monitoring.results import QUANTITIES, Alarm, Interval, Quantity, WatchedItem
from edgedistill.monitoring.sequential import allowed_range, always_valid_limits, evidence_by_week
from edgedistill_serve.bundle.reference import Reference, ReferenceCell, reference_cell
from edgedistill_serve.bundle.response_counts import CUTS, ResponseCounts
from edgedistill_serve.task.task import Task, split_labels

BASELINE_ROWS = 100
"""An item without a reference is compared with its first weeks, until they have so many responses."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The stated false-alarm probability, and the tolerated difference of a share."""

    false_alarms: float
    tolerance: float


@dataclass(frozen=True, slots=True, eq=False)
class TestedShare:
    """A share of responses, in a reference and in each week.

    Attributes:
        what: The property, in words.
        reference: Rows of the reference with the property.
        reference_rows: Rows of the reference.
        count: Responses with the property, (weeks,).
        rows: Responses, (weeks,).
    """

    what: str
    reference: int
    reference_rows: int
    count: NDArray[np.float64]
    rows: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """The responses of an item from some week on, and their reference.

    Attributes:
        item: The item; empty for all responses.
        weeks: Mondays, in ascending order.
        counts: Responses of each week.
        reference: What they are compared with.
        compared_with: ``validation rows`` or ``first weeks``.
        part: The part of the false-alarm probability, in (0, 1).
        design_effect: Divides all counts.
    """

    item: str
    weeks: Sequence[str]
    counts: Sequence[ResponseCounts]
    reference: ReferenceCell
    compared_with: str
    part: float
    design_effect: float = 1.0


def watch_items(
    weekly: Mapping[str, Mapping[str, ResponseCounts]], reference: Reference, last_week: str
) -> Iterator[Watched]:
    """Yield what is compared with what.

    Args:
        weekly: Responses by item and week, the empty item for all of them.
        reference: That of the bundle.
        last_week: The last week of the journal; it may not be over, and is in no baseline.
    """
    cells = {cell.item: cell for cell in reference.items}
    every = weekly[""]
    yield Watched(
        "", list(every), list(every.values()), reference.every, "validation rows", 0.5, reference.design_effect
    )
    for item, cell in cells.items():
        if item in weekly:
            found = weekly[item]
            yield Watched(item, list(found), list(found.values()), cell, "validation rows", 0.25 / len(cells))
    yield from _watch_by_first_weeks(
        {item: weeks for item, weeks in weekly.items() if item and item not in cells},
        sorted(every),
        last_week,
        0.25 if cells else 0.5,
    )


def _watch_by_first_weeks(
    weekly: Mapping[str, Mapping[str, ResponseCounts]], all_weeks: Sequence[str], last_week: str, part: float
) -> Iterator[Watched]:
    """Yield items with enough responses in weeks that are over; those of the n-th week share 1 / (n (n + 1))."""
    ready: dict[str, list[tuple[str, ResponseCounts]]] = {}
    for item, weeks in weekly.items():
        baseline = ResponseCounts()
        for week, counts in weeks.items():
            if week >= last_week:
                break
            baseline.add(counts)
            if baseline.rows >= BASELINE_ROWS:
                ready.setdefault(week, []).append((item, baseline))
                break
    for week, items in ready.items():
        number = all_weeks.index(week) + 1
        for item, baseline in items:
            after = {each: counts for each, counts in weekly[item].items() if each > week}
            if after:
                share = part / (number * (number + 1)) / len(items)
                cell = reference_cell(item, baseline)
                yield Watched(item, list(after), list(after.values()), cell, "first weeks", share)


def tested_shares(watched: Watched, task: Task) -> dict[Quantity, tuple[list[TestedShare], int]]:
    """Return for each quantity the shares that stand for it, and the number among which its part is split."""
    cell, counts = watched.reference, watched.counts
    rows = np.array([each.rows for each in counts], np.float64)
    found: dict[Quantity, tuple[list[TestedShare], int]] = {"label": _label_shares(cell, counts, rows, task)}
    if cell.reviewed is not None:
        reviewed = np.array([each.reviewed for each in counts], np.float64)
        found["review"] = ([TestedShare("reviewed", cell.reviewed, cell.rows, reviewed, rows)], 1)
    for name, bins in cell.bins.items():
        below = np.cumsum([getattr(each, name) for each in counts], axis=1, dtype=np.float64)
        places = [CUTS[name].index(cut) for cut in bins.cuts]
        reference = np.cumsum(bins.rows).tolist()
        shares = [
            TestedShare(f"{name} at most {cut:g}", reference[order], cell.rows, below[:, place], below[:, -1])
            for order, (cut, place) in enumerate(zip(bins.cuts, places, strict=True))
        ]
        quantity = next(each for each in QUANTITIES if each == name)
        found[quantity] = (shares, len(CUTS[name]))
    return found


def _label_shares(
    cell: ReferenceCell, counts: Sequence[ResponseCounts], rows: NDArray[np.float64], task: Task
) -> tuple[list[TestedShare], int]:
    groups = {group.labels: group.rows for group in cell.labels}
    if task.kind == "multilabel" and all(len(labels) == 1 for labels in groups):
        shares = [
            TestedShare(
                f"label {name}",
                sum(number for (code,), number in groups.items() if name in split_labels(code, task)),
                cell.rows,
                np.array([_with_label(each, name, task) for each in counts], np.float64),
                rows,
            )
            for name in task.names
        ]
        return shares, len(shares)
    shares = [
        TestedShare(
            f"label {' or '.join(labels)}",
            number,
            cell.rows,
            np.array([sum(each.labels.get(name, 0) for name in labels) for each in counts], np.float64),
            rows,
        )
        for labels, number in groups.items()
    ]
    if len(groups) < len(task.names) or task.kind == "multilabel":
        known = rows if not shares else np.sum([each.count for each in shares], axis=0)
        shares.append(TestedShare("a label that no row of the reference has", 0, cell.rows, rows - known, rows))
    return shares, len(groups) + 1


def _with_label(counts: ResponseCounts, name: str, task: Task) -> int:
    return sum(number for code, number in counts.labels.items() if name in split_labels(code, task))


def find_changes(watched: Watched, task: Task, rate: Rate) -> tuple[WatchedItem, list[Alarm]]:
    """Test all quantities of an item."""
    alarms: list[Alarm] = []
    evidence: dict[str, tuple[float, float]] = {}
    allowed: dict[str, tuple[float, float]] = {}
    part = rate.false_alarms / 2 * watched.part / len(QUANTITIES)
    threshold = -math.log(part)
    for quantity, (shares, number) in tested_shares(watched, task).items():
        if not shares:
            continue
        tested = [_Tested.of(share, watched.design_effect, part / number, rate.tolerance) for share in shares]
        allowed |= {each.share.what: each.allowed for each in tested}
        by_share = np.array([each.evidence for each in tested])
        together = np.asarray(logsumexp(by_share, axis=0)) - math.log(number)
        evidence[quantity] = (float(together[-1] / math.log(10)), threshold / math.log(10))
        reached = np.flatnonzero(together >= threshold)
        if len(reached):
            first = int(reached[0])
            best = int(by_share[:, first].argmax())
            alarms.append(tested[best].alarm(watched, quantity, first))
    rows = sum(each.rows for each in watched.counts)
    item = WatchedItem(watched.item, rows, watched.compared_with, watched.reference.rows, evidence, allowed)
    return item, alarms


@dataclass(frozen=True, slots=True, eq=False)
class _Tested:
    """A share, with the evidence that it has left its range at the end of each week."""

    share: TestedShare
    allowed: tuple[float, float]
    evidence: NDArray[np.float64]
    began: NDArray[np.int64]
    design_effect: float
    level: float

    @classmethod
    def of(cls, share: TestedShare, design_effect: float, level: float, tolerance: float) -> "_Tested":
        allowed = allowed_range(share.reference / design_effect, share.reference_rows / design_effect, level, tolerance)
        evidence, began = evidence_by_week(share.count / design_effect, share.rows / design_effect, *allowed)
        return cls(share, allowed, evidence, began, design_effect, level)

    def alarm(self, watched: Watched, quantity: Quantity, first: int) -> Alarm:
        """Return the alarm for evidence that was enough at the end of a week."""
        share = self.share
        begin = int(self.began[first])
        count, rows = float(share.count[begin:].sum()), float(share.rows[begin:].sum())
        low, high = always_valid_limits(count / self.design_effect, rows / self.design_effect, self.level)
        return Alarm(
            item=watched.item,
            quantity=quantity,
            what=share.what,
            reference=share.reference / share.reference_rows,
            allowed=self.allowed,
            now=Interval(count / rows, low, high),
            since=watched.weeks[begin],
            found=watched.weeks[first],
            compared_with=watched.compared_with,
        )
