"""Agreement among several coders, and of a student with human coders."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from typing import Any, Literal

import krippendorff
import numpy as np

from edgedistill.agreement.agreement import agreement
from edgedistill.agreement.multilabel import encode_label_sets, masi_alpha
from edgedistill.agreement.paired import Comparison, compare
from edgedistill.agreement.types import Agreement, Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task, split_labels


@dataclass(frozen=True, slots=True)
class PairwiseKappa:
    """κ of two coders on the rows that both coded.

    Attributes:
        first: Name of one coder.
        second: Name of the other.
        rows: Rows that both coded.
        kappa: Cohen's κ, quadratic weighted for ordinal tasks, the mean over labels for multilabel tasks, with its 95 %
            interval; None if it is undefined.
    """

    first: str
    second: str
    rows: int
    kappa: Estimate | None


@dataclass(frozen=True, slots=True)
class InterCoderAgreement:
    """Agreement of two or more coders.

    Attributes:
        pairs: κ of each pair of coders.
        alpha: Krippendorff's alpha (Krippendorff 2011), nominal or ordinal as the task, for multilabel tasks with the
            MASI distance, in [-1, 1]; None if no row was coded by two coders or all codes of such rows are equal.
        rows: Rows coded by at least two coders, on which alpha is computed.
    """

    pairs: tuple[PairwiseKappa, ...]
    alpha: float | None
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        return {**asdict(self), "pairs": [asdict(pair) for pair in self.pairs]}


def inter_coder_agreement(
    codings: Mapping[str, Mapping[str, str]], task: Task, *, groups: Mapping[str, str] | None = None
) -> InterCoderAgreement:
    """Compare the codings of several coders.

    Args:
        codings: By coder, at least two: the label by row id. Rows that a coder did not code are missing values.
        task: Defines the allowed labels and their order.
        groups: The group of each row by id; whole groups are then resampled. None: rows are independent.

    Raises:
        DataError: A label is not in the task.
    """
    pairs = tuple(_pair(first, second, codings, task, groups) for first, second in combinations(codings, 2))
    ids = dict.fromkeys(ident for coding in codings.values() for ident in coding)
    if task.kind == "multilabel":
        sets = [
            [encode_label_sets([coding[ident]], task, name)[0] if ident in coding else None for ident in ids]
            for name, coding in codings.items()
        ]
        shared = sum(sum(ident in coding for coding in codings.values()) >= 2 for ident in ids)
        return InterCoderAgreement(pairs, masi_alpha(sets), shared)
    codes = {name: float(code) for code, name in enumerate(task.names)}
    table = np.array([[codes[coding[i]] if i in coding else np.nan for i in ids] for coding in codings.values()])
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    return InterCoderAgreement(pairs, _alpha(table, "ordinal" if task.kind == "ordinal" else "nominal"), table.shape[1])


def _pair(
    first: str, second: str, codings: Mapping[str, Mapping[str, str]], task: Task, groups: Mapping[str, str] | None
) -> PairwiseKappa:
    one, other = codings[first], codings[second]
    shared = [ident for ident in one if ident in other]
    if not shared:
        return PairwiseKappa(first, second, 0, None)
    labels, others = ([coding[ident] for ident in shared] for coding in (one, other))
    kappa = agreement(labels, others, task, groups=_groups_at(shared, groups)).kappa
    return PairwiseKappa(first, second, len(shared), kappa)


def _alpha(table: np.ndarray[Any, np.dtype[np.float64]], level: Literal["nominal", "ordinal"]) -> float | None:
    if len(np.unique(table[~np.isnan(table)])) < 2:
        return None
    return float(krippendorff.alpha(table, level_of_measurement=level))


@dataclass(frozen=True, slots=True)
class PairwiseAgreement:
    """Agreement of two human coders on the rows that both coded; None without such rows.

    The first coder is the reference, which matters only for precision and recall.
    """

    first: str
    second: str
    rows: int
    agreement: Agreement | None


@dataclass(frozen=True, slots=True)
class StudentVersusHuman:
    """A human coder and a student, each compared with another human coder on the same rows.

    Attributes:
        reference: The coder with whom both are compared.
        human: The other human coder.
        comparison: ``first`` is the human coder, ``second`` the student: above 0, the student agrees better with the
            reference.
    """

    reference: str
    human: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class HumanAgreement:
    """Agreement among human coders, and of a student with each of them.

    Attributes:
        coders: Names of the coders.
        rows: Rows coded by at least two coders.
        alpha: Krippendorff's alpha of all coders; None if it is undefined.
        pairs: Agreement of each pair of coders.
        beside_humans: Comparisons of the student with each coder; empty without a student.
        notes: What a reader must know of the codes; see `coder_notes`.
    """

    coders: tuple[str, ...]
    rows: int
    alpha: float | None
    pairs: tuple[PairwiseAgreement, ...]
    beside_humans: tuple[StudentVersusHuman, ...]
    notes: tuple[str, ...] = ()


def human_agreement(
    codings: Mapping[str, Mapping[str, str]],
    task: Task,
    *,
    student: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    positive: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> HumanAgreement:
    """Compare human coders with each other, and a student with each of them.

    Args:
        codings: By coder, at least two: the label by row id. Rows that a coder did not code are missing values.
        task: Defines the allowed labels and their order.
        student: The student's label by row id, or None.
        groups: The group of each row by id; whole groups are then resampled.
        positive: As in `agreement`.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: There are fewer than two coders, or a label is not in the task.
    """
    if len(codings) < 2:
        raise DataError("agreement among human coders needs at least two coders", hint="Name the columns of both.")
    overall = inter_coder_agreement(codings, task, groups=groups)
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    pairs = []
    for first, second in combinations(codings, 2):
        rows = [row for row in codings[first] if row in codings[second]]
        compared = rows and agreement(
            [codings[first][row] for row in rows],
            [codings[second][row] for row in rows],
            task,
            groups=_groups_at(rows, groups),
            positive=positive,
            **options,
        )
        pairs.append(PairwiseAgreement(first, second, len(rows), compared or None))
    versus_humans = []
    for reference, human in permutations(codings, 2):
        rows = [row for row in codings[reference] if row in codings[human] and row in (student or {})]
        if student is not None and rows:
            labels, other, predicted = (
                [coding[row] for row in rows] for coding in (codings[reference], codings[human], student)
            )
            comparison = compare(labels, other, predicted, task, groups=_groups_at(rows, groups), **options)
            versus_humans.append(StudentVersusHuman(reference, human, comparison))
    notes = tuple(coder_notes(codings, task, groups))
    return HumanAgreement(tuple(codings), overall.rows, overall.alpha, tuple(pairs), tuple(versus_humans), notes)


def coder_notes(
    codings: Mapping[str, Mapping[str, str]], task: Task, groups: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Yield a sentence on everything that makes the agreement of coders undefined or of little value.

    Coders without a code or with a single label, rows that no two coders coded or that belong to one group, and labels
    that no coder uses.

    Args:
        codings: By coder, the label by row id.
        task: Defines the labels.
        groups: The group of each row by id.
    """
    for name, coding in codings.items():
        if not coding:
            yield f"{name} coded none of the rows"
    yield from one_label_notes({name: tuple(coding.values()) for name, coding in codings.items()})
    coders_of_row = Counter(row for coding in codings.values() for row in coding)
    shared = [row for row, number in coders_of_row.items() if number > 1]
    if not shared:
        yield "no row has the codes of two coders: their agreement is unknown; let two coders code the same rows"
    elif groups and len({groups[row] for row in shared}) == 1:
        yield (
            f"all {len(shared)} rows with the codes of two coders belong to the group {groups[shared[0]]!r}, which "
            "shows nothing about others"
        )
    used = {code for coding in codings.values() for code in coding.values()}
    if task.kind == "multilabel":
        used = {name for code in used for name in split_labels(code, task)}
    if used and (unused := [name for name in task.names if name not in used]):
        names = ", ".join(map(repr, unused))
        yield f"no coder uses the label{'s' * (len(unused) > 1)} {names}, on which their agreement is therefore unknown"


def one_label_notes(codes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a sentence on each coder who gave all rows the same label; codes are by coder."""
    for name, column in codes.items():
        if len(column) > 1 and len(set(column)) == 1:
            same = f"{name} gave all {len(column)} rows the label {column[0]!r}"
            yield f"{same}; agreement with this coder shows little"


def _groups_at(rows: Sequence[str], groups: Mapping[str, str] | None) -> list[str] | None:
    return [groups[row] for row in rows] if groups else None
