"""The training set: draws rows from each source in given shares."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from edgedistill.data.types import MixtureRow, Response, Source, TeacherLabel, TrainRows, code_shares
from edgedistill.errors import ProjectFileError
from edgedistill.project.training_set import MixSection, SharesSection
from edgedistill_serve.task.task import Task

SOURCES: tuple[Source, ...] = get_args(Source)
Counts: TypeAlias = Mapping[Source, Mapping[str, int]]
"""Number of available rows, by source and label."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The number of rows to draw from a source.

    Attributes:
        source: The source.
        label: The label of the rows; None for any.
        rows: Number of rows.
    """

    source: Source
    label: str | None
    rows: int

    def missing(self, counts: Counts) -> int:
        """Return how many rows the source lacks."""
        available = counts[self.source]
        return max(0, self.rows - (sum(available.values()) if self.label is None else available.get(self.label, 0)))


def compute_quotas(counts: Counts, labels: Sequence[str], section: MixSection) -> tuple[Quota, ...]:
    """Compute the number of rows of each source, human rows first.

    Shares of a size are rounded by the largest remainder method, so they sum to the size. A `synthetic_share` *s* with
    *n* other rows gives *n s* / (1 - *s*) rows, rounded. If a number is not a multiple of the number of labels, the
    first labels get one more.

    Args:
        counts: The available rows; every source is a key.
        labels: The task's labels, in codebook order.
        section: The settings.

    Raises:
        ProjectFileError: A source lacks rows, with label and number; or there would be no rows.
    """
    sizes = (
        _sizes_from_shares(section.shares, section.size or 0)
        if section.shares
        else _sizes_from_numbers(counts, labels, section)
    )
    quotas: list[Quota] = []
    for source in SOURCES:
        if source == "synthetic" or section.balance == "per_label":
            quotas += _split_evenly(source, sizes[source], labels)
        else:
            quotas.append(Quota(source, None, sizes[source]))
    _require_rows([quota for quota in quotas if quota.missing(counts)], counts)
    return tuple(quota for quota in quotas if quota.rows)


def _sizes_from_shares(shares: SharesSection, size: int) -> dict[Source, int]:
    exact = {source: getattr(shares, source) * size for source in SOURCES}
    # A share such as 0.7 of 10 is 7.000000000000001 or 6.999999999999999.
    whole = {source: int(rows + 1e-9) for source, rows in exact.items()}
    by_remainder = sorted(SOURCES, key=lambda source: whole[source] - exact[source])
    for source in by_remainder[: size - sum(whole.values())]:
        whole[source] += 1
    return whole


def _sizes_from_numbers(counts: Counts, labels: Sequence[str], section: MixSection) -> dict[Source, int]:
    human = _resolve_rows(section.human, counts["human"], labels, section)
    teacher = _resolve_rows(section.teacher, counts["teacher"], labels, section)
    if not human + teacher:
        raise ProjectFileError(
            "the training set would have no rows", where="mix", hint="Set mix.human or mix.teacher above 0."
        )
    share = section.synthetic_share
    return {"human": human, "teacher": teacher, "synthetic": round((human + teacher) * share / (1 - share))}


def _resolve_rows(
    setting: Literal["all"] | int, available: Mapping[str, int], labels: Sequence[str], section: MixSection
) -> int:
    if setting != "all":
        return setting
    if section.balance == "as_found" or not any(available.values()):
        return sum(available.values())
    # A label without rows is reported as missing, instead of leaving out all rows.
    return len(labels) * max(1, min(available.get(label, 0) for label in labels))


def _split_evenly(source: Source, rows: int, labels: Sequence[str]) -> list[Quota]:
    each, more = divmod(rows, len(labels))
    return [Quota(source, label, each + (index < more)) for index, label in enumerate(labels)]


def _require_rows(short: Sequence[Quota], counts: Counts) -> None:
    if not short:
        return
    missing = (
        f"{quota.missing(counts)} of the {quota.rows} {quota.source} rows"
        + (f" of the label {quota.label!r}" if quota.label is not None else "")
        for quota in short
    )
    raise ProjectFileError(
        f"the training set lacks {'; '.join(missing)}",
        where="mix",
        hint="Set fewer rows or another share, code or label more responses, or raise generate.per_label.",
    )


def human_rows(train: TrainRows, task: Task) -> tuple[MixtureRow, ...]:
    """Return the human-coded train rows."""
    return tuple(
        MixtureRow(row.response.id, row.response.inputs, row.label, "human", code_shares(row.label, task))
        for row in train
    )


def teacher_rows(
    responses: Iterable[Response],
    labels: Sequence[TeacherLabel],
    min_consistency: float = 0.0,
    min_confidence: float = 0.0,
) -> tuple[MixtureRow, ...]:
    """Return the responses with at least the required consistency and confidence, in the order of the labels.

    Args:
        responses: All labelled responses; may include others.
        labels: The teacher's labels.
        min_consistency: In [0, 1].
        min_confidence: In [0, 1]; above 0 it leaves out labels without a stated confidence, too.
    """
    by_id = {response.id: response for response in responses}
    return tuple(
        MixtureRow(
            row.id,
            by_id[row.id].inputs,
            row.label,
            "teacher",
            row.shares,
            {"teacher": row.teacher, "consistency": f"{row.consistency:g}"}
            | ({} if row.confidence is None else {"confidence": f"{row.confidence:g}"}),
        )
        for row in labels
        if row.consistency >= min_consistency and (row.confidence or 0.0) >= min_confidence
    )


def draw_mixture(
    available: Mapping[Source, Sequence[MixtureRow]], task: Task, section: MixSection
) -> tuple[MixtureRow, ...]:
    """Draw the training set: human, then teacher-labelled, then synthetic rows, each in their order.

    Rows are drawn by a hash of seed and id, so that a larger number includes the rows of a smaller one.

    Args:
        available: The rows of each source, with only sufficiently consistent teacher rows; sources may be missing.
        task: The task.
        section: The settings.

    Raises:
        ProjectFileError: A source lacks rows, with label and number; or there would be no rows.
    """
    rows = {source: available.get(source, ()) for source in SOURCES}
    counts = {source: Counter(row.label for row in of_source) for source, of_source in rows.items()}
    chosen: dict[Source, set[str]] = {source: set() for source in SOURCES}
    for quota in compute_quotas(counts, task.names, section):
        ids = [row.id for row in rows[quota.source] if quota.label in (None, row.label)]
        chosen[quota.source] |= draw_ids(ids, quota.rows, section.seed)
    drawn = [row for source in SOURCES for row in rows[source] if row.id in chosen[source]]
    return tuple(drawn) if section.labels == "soft" else tuple(_hardened(row, task) for row in drawn)


def draw_ids(ids: Iterable[str], count: int, seed: int) -> set[str]:
    """Return the ``count`` ids with the smallest hashes of seed and id."""
    return set(sorted(ids, key=lambda ident: hashlib.sha256(f"{seed}/{ident}".encode()).digest())[:count])


def _hardened(row: MixtureRow, task: Task) -> MixtureRow:
    return replace(row, shares=code_shares(row.label, task))
