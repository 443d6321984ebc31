"""Draws the training set from what the sources have."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgedistill.mixture.quotas import SOURCES, quotas
from edgedistill.project.sections import MixSection
from edgedistill.records.types import MixtureRow, Source


def draw_mixture(
    offered: Mapping[Source, Sequence[MixtureRow]], labels: Sequence[str], section: MixSection
) -> tuple[MixtureRow, ...]:
    """Draw rows as `section` says: human rows first, then teacher-labelled, then synthetic ones, each in their order.

    Rows are drawn by a hash of seed and id, so that a larger number keeps the rows of a smaller one.

    Args:
        offered: The rows that each source has; a source may be left out. Teacher rows that are not consistent enough
            have been left out already.
        labels: The task's labels, in codebook order.
        section: How many of each.

    Raises:
        ProjectFileError: A source lacks rows, and of which label and how many; or there would be none at all.
    """
    rows = {source: offered.get(source, ()) for source in SOURCES}
    counts = {source: Counter(row.label for row in there) for source, there in rows.items()}
    drawn: list[MixtureRow] = []
    for quota in quotas(counts, labels, section):
        of_label = [row for row in rows[quota.source] if quota.label in (None, row.label)]
        drawn += first_rows(of_label, quota.rows, section.seed)
    order = {id(row): place for source in SOURCES for place, row in enumerate(rows[source])}
    drawn.sort(key=lambda row: (SOURCES.index(row.source), order[id(row)]))
    return tuple(drawn) if section.labels == "soft" else tuple(_hardened(row) for row in drawn)


def first_rows(rows: Sequence[MixtureRow], wanted: int, seed: int) -> list[MixtureRow]:
    """Return the rows with the smallest hashes of seed and id, the smallest first."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.id}".encode()).digest())[:wanted]


def _hardened(row: MixtureRow) -> MixtureRow:
    return replace(row, shares={row.label: 1.0})
