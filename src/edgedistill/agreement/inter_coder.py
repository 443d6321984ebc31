"""Agreement among human coders, and a student beside them."""

from collections.abc import Mapping, Sequence
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
from edgedistill_serve.task.task import Task


@dataclass(frozen=True, slots=True)
class PairwiseKappa:
    """Two coders on the rows that both coded.

    Attributes:
        first: One coder's name.
        second: The other's.
        rows: Rows that both coded.
        kappa: Cohen's κ, for an ordinal task weighted quadratically, for a multilabel task the mean over labels, with
            its 95 % interval; None if it is undefined.
    """

    first: str
    second: str
    rows: int
    kappa: Estimate | None


@dataclass(frozen=True, slots=True)
class InterCoderAgreement:
    """The agreement of two or more coders.

    Attributes:
        pairs: Every two of them.
        alpha: Krippendorff's alpha (Krippendorff 2011), nominal or ordinal as the task is, for a multilabel task with
            the MASI distance, in [-1, 1]; None where it is undefined: no row was coded by two, or all codes of such
            rows are the same.
        rows: Rows that at least two of them coded; alpha is over these.
    """

    pairs: tuple[PairwiseKappa, ...]
    alpha: float | None
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        return {**asdict(self), "pairs": [asdict(pair) for pair in self.pairs]}


def inter_coder_agreement(codings: Mapping[str, Mapping[str, str]], task: Task) -> InterCoderAgreement:
    """Compare the codings of several coders.

    Args:
        codings: By coder, at least two: a label per row's id. Rows that a coder left out are missing values.
        task: Its labels, in codebook order, are the only ones allowed.

    Raises:
        DataError: A label that the task does not have.
    """
    pairs = tuple(_pair(first, second, codings, task) for first, second in combinations(codings, 2))
    ids = dict.fromkeys(ident for coding in codings.values() for ident in coding)
    if task.kind == "multilabel":
        sets = [
            [encode_label_sets([coding[ident]], task, name)[0] if ident in coding else None for ident in ids]
            for name, coding in codings.items()
        ]
        shared = sum(sum(ident in coding for coding in codings.values()) >= 2 for ident in ids)
        return InterCoderAgreement(pairs, masi_alpha(sets), shared)
    places = {name: float(place) for place, name in enumerate(task.names)}
    table = np.array([[places[coding[i]] if i in coding else np.nan for i in ids] for coding in codings.values()])
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    return InterCoderAgreement(pairs, _alpha(table, "ordinal" if task.kind == "ordinal" else "nominal"), table.shape[1])


def _pair(first: str, second: str, codings: Mapping[str, Mapping[str, str]], task: Task) -> PairwiseKappa:
    one, other = codings[first], codings[second]
    shared = [ident for ident in one if ident in other]
    if not shared:
        return PairwiseKappa(first, second, 0, None)
    found = agreement([one[ident] for ident in shared], [other[ident] for ident in shared], task)
    return PairwiseKappa(first, second, len(shared), found.kappa)


def _alpha(table: np.ndarray[Any, np.dtype[np.float64]], level: Literal["nominal", "ordinal"]) -> float | None:
    if len(np.unique(table[~np.isnan(table)])) < 2:
        return None
    return float(krippendorff.alpha(table, level_of_measurement=level))


@dataclass(frozen=True, slots=True)
class PairwiseAgreement:
    """Two human coders on the rows that both coded; no agreement where there are none.

    The first counts as the reference, which matters for precision and recall alone.
    """

    first: str
    second: str
    rows: int
    agreement: Agreement | None


@dataclass(frozen=True, slots=True)
class StudentVersusHuman:
    """A human coder and a student, both against another human coder, on the same rows.

    Attributes:
        reference: The coder who counts as right here.
        human: The coder that the student is compared with.
        comparison: ``first`` is the human, ``second`` the student: a difference above 0 says that the student agrees
            with the reference better than the human does.
    """

    reference: str
    human: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class HumanAgreement:
    """Human coders among themselves.

    Attributes:
        coders: Their names.
        rows: Rows that at least two coded.
        alpha: Krippendorff's alpha of all of them; None where it is undefined.
        pairs: Every two of them.
        beside_humans: The student beside each; empty where no student's labels were given.
    """

    coders: tuple[str, ...]
    rows: int
    alpha: float | None
    pairs: tuple[PairwiseAgreement, ...]
    beside_humans: tuple[StudentVersusHuman, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON."""
        return {
            "coders": list(self.coders),
            "rows": self.rows,
            "alpha": self.alpha,
            "pairs": [
                {**asdict(pair), "agreement": pair.agreement and pair.agreement.as_dict()} for pair in self.pairs
            ],
            "beside_humans": [
                {"reference": each.reference, "first": each.human, "second": "student", **each.comparison.as_dict()}
                for each in self.beside_humans
            ],
        }


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
    """Compare human coders with one another, and a student with each of them.

    Args:
        codings: By coder, at least two: a label per row's id. Rows that a coder left out are missing.
        task: Its labels are the only ones allowed.
        student: The student's label per row's id, or none.
        groups: By row's id what it belongs to; whole groups are then drawn.
        positive: As in `agreement`.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: Fewer than two coders; a label that the task does not have.
    """
    if len(codings) < 2:
        raise DataError("agreement among human coders needs at least two coders", hint="Name the columns of both.")
    between = inter_coder_agreement(codings, task)
    drawing: dict[str, Any] = {"resamples": resamples, "seed": seed}
    pairs = []
    for first, second in combinations(codings, 2):
        rows = [row for row in codings[first] if row in codings[second]]
        found = rows and agreement(
            [codings[first][row] for row in rows],
            [codings[second][row] for row in rows],
            task,
            groups=_of(rows, groups),
            positive=positive,
            **drawing,
        )
        pairs.append(PairwiseAgreement(first, second, len(rows), found or None))
    beside = []
    for reference, human in permutations(codings, 2):
        rows = [row for row in codings[reference] if row in codings[human] and row in (student or {})]
        if student is not None and rows:
            wanted, other, own = (
                [coding[row] for row in rows] for coding in (codings[reference], codings[human], student)
            )
            compared = compare(wanted, other, own, task, groups=_of(rows, groups), **drawing)
            beside.append(StudentVersusHuman(reference, human, compared))
    return HumanAgreement(tuple(codings), between.rows, between.alpha, tuple(pairs), tuple(beside))


def _of(rows: Sequence[str], groups: Mapping[str, str] | None) -> list[str] | None:
    return [groups[row] for row in rows] if groups else None
