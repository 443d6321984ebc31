"""Draws the training set from what the sources have."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from edgedistill.mixture.quotas import SOURCES, quotas
from edgedistill.project.sections import MixSection
from edgedistill.records.codes import certain_shares
from edgedistill.records.types import MixtureRow, Source
from edgedistill_serve.task import Task


def draw_mixture(
    offered: Mapping[Source, Sequence[MixtureRow]], task: Task, section: MixSection
) -> tuple[MixtureRow, ...]:
    """Draw rows as `section` says: human rows first, then teacher-labelled, then synthetic ones, each in their order.

    Rows are drawn by a hash of seed and id, so that a larger number keeps the rows of a smaller one.

    Args:
        offered: The rows that each source has; a source may be left out. Teacher rows that are not consistent enough
            have been left out already.
        task: Its labels, in codebook order.
        section: How many of each.

    Raises:
        ProjectFileError: A source lacks rows, and of which label and how many; or there would be none at all.
    """
    rows = {source: offered.get(source, ()) for source in SOURCES}
    counts = {source: Counter(row.label for row in there) for source, there in rows.items()}
    chosen: dict[Source, set[str]] = {source: set() for source in SOURCES}
    for quota in quotas(counts, task.names, section):
        of_label = [row.id for row in rows[quota.source] if quota.label in (None, row.label)]
        chosen[quota.source] |= drawn_ids(of_label, quota.rows, section.seed)
    drawn = [row for source in SOURCES for row in rows[source] if row.id in chosen[source]]
    return tuple(drawn) if section.labels == "soft" else tuple(_hardened(row, task) for row in drawn)


def drawn_ids(ids: Iterable[str], wanted: int, seed: int) -> set[str]:
    """Return the ids with the smallest hashes of seed and id."""
    return set(sorted(ids, key=lambda ident: hashlib.sha256(f"{seed}/{ident}".encode()).digest())[:wanted])


def _hardened(row: MixtureRow, task: Task) -> MixtureRow:
    return replace(row, shares=certain_shares(row.label, task))
