"""`reference.json`: how the model scored its validation rows, in counts, with which `edgedistill monitor` compares.

No count is of a single learner: there is a cell for all rows, and one for each question with enough rows and learners;
labels and bins of few rows are put together.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from edgedistill_serve.bundle.files import MANIFEST_FILE
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.bundle.migrations import decode_json
from edgedistill_serve.bundle.response_counts import CUTS, ResponseCounts
from edgedistill_serve.errors import BundleError

REFERENCE_FILE = "reference.json"
REFERENCE_VERSION = 1
SMALLEST_CELL = 20
"""Fewer rows make no cell."""
FEWEST_LEARNERS = 10
"""Rows of fewer learners make no cell, where the learners are known."""
SMALLEST_GROUP = 5
"""Labels and bins of fewer rows are put together with others."""


class LabelGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows with any of some labels."""

    labels: tuple[str, ...]
    rows: int


class Bins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows by a number.

    Attributes:
        cuts: The largest value of each bin but the last; some of `CUTS`, in ascending order.
        rows: Rows in each bin.
    """

    cuts: tuple[float, ...]
    rows: tuple[int, ...]


class ReferenceCell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Validation rows, all of them or those of one question.

    Attributes:
        item: `context_hash` of the question; empty for all rows.
        rows: Number of rows.
        labels: By label.
        reviewed: Rows that go to a person; None where there are a few.
        bins: By probability, novelty and tokens; without novelty if it is not measured.
        means: The means of the same numbers.
    """

    item: str
    rows: int
    labels: tuple[LabelGroup, ...]
    reviewed: int | None
    bins: dict[str, Bins]
    means: dict[str, float]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`reference.json`.

    Attributes:
        reference_version: `REFERENCE_VERSION`.
        precision: The graph that scored the rows.
        design_effect: By how much the responses of a learner being alike multiplies the variance of a share, at least
            1; 1 if learners are not known.
        every: All rows.
        items: Questions with enough rows, in ascending order.
    """

    reference_version: int
    precision: Precision
    design_effect: float
    every: ReferenceCell
    items: tuple[ReferenceCell, ...] = ()


class _Version(msgspec.Struct):
    reference_version: int


def reference_cell(item: str, counts: ResponseCounts) -> ReferenceCell:
    """Return a cell of counts; groups of fewer than `SMALLEST_GROUP` rows are put together with others.

    The labels of all rows together, and how many are reviewed, are not: the card has them, too.
    """
    smallest = SMALLEST_GROUP if item else 1
    means = dict(zip(CUTS, (total / counts.rows for total in counts.sums), strict=True))
    measured = [name for name in CUTS if sum(getattr(counts, name)) == counts.rows]
    return ReferenceCell(
        item,
        counts.rows,
        _label_groups(counts.labels, smallest),
        counts.reviewed if not 0 < counts.reviewed < smallest else None,
        {name: _merged_bins(CUTS[name], getattr(counts, name)) for name in measured},
        {name: means[name] for name in measured},
    )


def _label_groups(labels: dict[str, int], smallest: int) -> tuple[LabelGroup, ...]:
    few: list[str] = []
    groups = []
    # In ascending order of rows: what is put together is as little as possible.
    for label, rows in sorted(labels.items(), key=lambda each: (each[1], each[0])):
        if rows < smallest or (few and sum(labels[name] for name in few) < smallest):
            few.append(label)
        else:
            groups.append(LabelGroup((label,), rows))
    if few:
        groups.append(LabelGroup(tuple(sorted(few)), sum(labels[name] for name in few)))
    return tuple(sorted(groups, key=lambda group: group.labels))


def _merged_bins(cuts: Sequence[float], rows: Sequence[int]) -> Bins:
    kept: list[float] = []
    found = [0]
    for count, cut in zip(rows, (*cuts, None), strict=True):
        found[-1] += count
        if cut is not None and found[-1] >= SMALLEST_GROUP:
            kept.append(cut)
            found.append(0)
    if kept and found[-1] < SMALLEST_GROUP:
        kept.pop()
        found[-2:] = [found[-2] + found[-1]]
    return Bins(tuple(kept), tuple(found))


def read_reference(bundle: Bundle) -> Reference | None:
    """Return the reference of a bundle; None if it has none, as bundles of older exports.

    Raises:
        BundleError: The file is of a newer version, or not valid.
    """
    if REFERENCE_FILE not in bundle.manifest.files:
        return None
    content = bundle.read_listed_file(REFERENCE_FILE)
    version = decode_json(content, _Version, REFERENCE_FILE).reference_version
    if version != REFERENCE_VERSION:
        raise BundleError(
            f"the reference has version {version}, this program reads version {REFERENCE_VERSION}",
            where=REFERENCE_FILE,
            hint="Install the edgedistill version that the bundle was exported with.",
        )
    found = decode_json(content, Reference, REFERENCE_FILE)
    for fault in _faults(found):
        raise BundleError(fault, where=f"{REFERENCE_FILE} of {MANIFEST_FILE}", hint="Export the bundle again.")
    return found


def _faults(reference: Reference) -> Iterator[str]:
    if not 1 <= reference.design_effect < float("inf"):
        yield "the design effect is less than 1"
    for cell in (reference.every, *reference.items):
        numbers = [cell.rows - 1, *(group.rows for group in cell.labels), cell.reviewed or 0]
        if min(numbers) < 0 or (cell.reviewed or 0) > cell.rows:
            yield "a number of rows is not possible"
        if sum(group.rows for group in cell.labels) != cell.rows:
            yield "the labels do not add up to the rows"
        for name, bins in cell.bins.items():
            if name not in CUTS or not set(bins.cuts) <= set(CUTS[name]) or any(a >= b for a, b in pairwise(bins.cuts)):
                yield "a bin has another cut than those of journals"
            elif len(bins.rows) != len(bins.cuts) + 1 or min(bins.rows) < 0 or sum(bins.rows) != cell.rows:
                yield "the bins do not add up to the rows"
