"""The ceiling: how far human coders agree among themselves, and whether a student agrees with one as another does."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from typing import Any

from edgedistill.agreement.between import agreement_between
from edgedistill.agreement.measuring import agreement
from edgedistill.agreement.paired import Comparison, compare
from edgedistill.agreement.types import Agreement
from edgedistill.errors import DataError
from edgedistill_serve.task import Task


@dataclass(frozen=True, slots=True)
class CoderPair:
    """Two human coders on the rows that both coded; no agreement where there are none.

    The first counts as the reference, which matters for precision and recall alone.
    """

    first: str
    second: str
    rows: int
    agreement: Agreement | None


@dataclass(frozen=True, slots=True)
class BesideHumans:
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
class Ceiling:
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
    pairs: tuple[CoderPair, ...]
    beside_humans: tuple[BesideHumans, ...]

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


def ceiling(
    codings: Mapping[str, Mapping[str, str]],
    task: Task,
    *,
    student: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    positive: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Ceiling:
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
        raise DataError("a ceiling takes two human coders", mend="Name the columns of both.")
    between = agreement_between(codings, task)
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
        pairs.append(CoderPair(first, second, len(rows), found or None))
    beside = []
    for reference, human in permutations(codings, 2):
        rows = [row for row in codings[reference] if row in codings[human] and row in (student or {})]
        if student is not None and rows:
            wanted, other, own = (
                [coding[row] for row in rows] for coding in (codings[reference], codings[human], student)
            )
            compared = compare(wanted, other, own, task, groups=_of(rows, groups), **drawing)
            beside.append(BesideHumans(reference, human, compared))
    return Ceiling(tuple(codings), between.rows, between.alpha, tuple(pairs), tuple(beside))


def _of(rows: Sequence[str], groups: Mapping[str, str] | None) -> list[str] | None:
    return [groups[row] for row in rows] if groups else None
