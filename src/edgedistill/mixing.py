"""The training set: which rows of each source it takes, by stated shares."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from edgedistill.data.types import MixtureRow, Response, Source, TeacherLabel, TrainRows, code_shares
from edgedistill.errors import ProjectFileError
from edgedistill.project.schema import MixSection, SharesSection
from edgedistill_serve.task.task import Task

SOURCES: tuple[Source, ...] = get_args(Source)
Counts: TypeAlias = Mapping[Source, Mapping[str, int]]
"""Rows that there are, by source and label."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Rows that a source gives.

    Attributes:
        source: The source.
        label: Of this label; None: of any.
        rows: How many.
    """

    source: Source
    label: str | None
    rows: int

    def missing(self, counts: Counts) -> int:
        """Return how many of them the source does not have."""
        there = counts[self.source]
        return max(0, self.rows - (sum(there.values()) if self.label is None else there.get(self.label, 0)))


def quotas(counts: Counts, labels: Sequence[str], section: MixSection) -> tuple[Quota, ...]:
    """Return what each source is to give, human rows first.

    Shares of a size are rounded by largest remainders, so that the sizes sum to it. A `synthetic_share` *s* beside *n*
    other rows is *n s* / (1 - *s*) rows, rounded. Where a number is no multiple of the labels, the first get one more.

    Args:
        counts: What there is; every source is a key.
        labels: The task's labels, in codebook order.
        section: What is wanted.

    Raises:
        ProjectFileError: A source lacks rows, and of which label and how many; or there would be none at all.
    """
    sizes = _of_shares(section.shares, section.size or 0) if section.shares else _of_numbers(counts, labels, section)
    wanted: list[Quota] = []
    for source in SOURCES:
        if source == "synthetic" or section.balance == "per_label":
            wanted += _evenly(source, sizes[source], labels)
        else:
            wanted.append(Quota(source, None, sizes[source]))
    _refuse_what_is_missing([quota for quota in wanted if quota.missing(counts)], counts)
    return tuple(quota for quota in wanted if quota.rows)


def _of_shares(shares: SharesSection, size: int) -> dict[Source, int]:
    exact = {source: getattr(shares, source) * size for source in SOURCES}
    # A share such as 0.7 of 10 is 7.000000000000001 or 6.999999999999999.
    whole = {source: int(rows + 1e-9) for source, rows in exact.items()}
    by_remainder = sorted(SOURCES, key=lambda source: whole[source] - exact[source])
    for source in by_remainder[: size - sum(whole.values())]:
        whole[source] += 1
    return whole


def _of_numbers(counts: Counts, labels: Sequence[str], section: MixSection) -> dict[Source, int]:
    human = _rows(section.human, counts["human"], labels, section)
    teacher = _rows(section.teacher, counts["teacher"], labels, section)
    if not human + teacher:
        raise ProjectFileError("mix leaves no row to train on", hint="Let mix.human or mix.teacher be above 0.")
    share = section.synthetic_share
    return {"human": human, "teacher": teacher, "synthetic": round((human + teacher) * share / (1 - share))}


def _rows(wanted: Literal["all"] | int, there: Mapping[str, int], labels: Sequence[str], section: MixSection) -> int:
    if wanted != "all":
        return wanted
    if section.balance == "as_found" or not any(there.values()):
        return sum(there.values())
    # A label without a row is told as missing, instead of leaving every row out.
    return len(labels) * max(1, min(there.get(label, 0) for label in labels))


def _evenly(source: Source, rows: int, labels: Sequence[str]) -> list[Quota]:
    each, more = divmod(rows, len(labels))
    return [Quota(source, label, each + (place < more)) for place, label in enumerate(labels)]


def _refuse_what_is_missing(short: Sequence[Quota], counts: Counts) -> None:
    if not short:
        return
    told = (
        f"{quota.missing(counts)} of the {quota.rows} {quota.source} rows"
        + (f" of the label {quota.label!r}" if quota.label is not None else "")
        for quota in short
    )
    raise ProjectFileError(
        f"the training set lacks {'; '.join(told)}",
        where="mix",
        hint="Ask for fewer rows or another share, code or label more, or raise generate.per_label.",
    )


def human_rows(train: TrainRows, task: Task) -> tuple[MixtureRow, ...]:
    """Return the human-coded train rows."""
    return tuple(
        MixtureRow(row.response.id, row.response.inputs, row.label, "human", code_shares(row.label, task))
        for row in train
    )


def teacher_rows(
    responses: Iterable[Response], labels: Sequence[TeacherLabel], min_consistency: float = 0.0
) -> tuple[MixtureRow, ...]:
    """Return the responses that a teacher coded with the consistency asked for, in the labels' order.

    Args:
        responses: Every response that was coded; others may stand among them.
        labels: What the teacher made of them.
        min_consistency: In [0, 1].
    """
    by_id = {response.id: response for response in responses}
    return tuple(
        MixtureRow(
            row.id,
            by_id[row.id].inputs,
            row.label,
            "teacher",
            row.shares,
            {"teacher": row.teacher, "consistency": f"{row.consistency:g}"},
        )
        for row in labels
        if row.consistency >= min_consistency
    )


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
    return replace(row, shares=code_shares(row.label, task))
