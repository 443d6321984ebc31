"""How far several coders agree with one another, none of them being the reference."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import krippendorff
import numpy as np

from edgedistill.agreement.label_sets import held_labels
from edgedistill.agreement.masi import masi_alpha
from edgedistill.agreement.measuring import agreement
from edgedistill.agreement.types import Estimate
from edgedistill_serve.task import Task


@dataclass(frozen=True, slots=True)
class Pair:
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
class Between:
    """The agreement of two or more coders.

    Attributes:
        pairs: Every two of them.
        alpha: Krippendorff's alpha (Krippendorff 2011), nominal or ordinal as the task is, for a multilabel task with
            the MASI distance, in [-1, 1]; None where it is undefined: no row was coded by two, or all codes of such
            rows are the same.
        rows: Rows that at least two of them coded; alpha is over these.
    """

    pairs: tuple[Pair, ...]
    alpha: float | None
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        return {**asdict(self), "pairs": [asdict(pair) for pair in self.pairs]}


def agreement_between(codings: Mapping[str, Mapping[str, str]], task: Task) -> Between:
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
            [held_labels([coding[ident]], task, name)[0] if ident in coding else None for ident in ids]
            for name, coding in codings.items()
        ]
        shared = sum(sum(ident in coding for coding in codings.values()) >= 2 for ident in ids)
        return Between(pairs, masi_alpha(sets), shared)
    places = {name: float(place) for place, name in enumerate(task.names)}
    table = np.array([[places[coding[i]] if i in coding else np.nan for i in ids] for coding in codings.values()])
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    return Between(pairs, _alpha(table, "ordinal" if task.kind == "ordinal" else "nominal"), table.shape[1])


def _pair(first: str, second: str, codings: Mapping[str, Mapping[str, str]], task: Task) -> Pair:
    one, other = codings[first], codings[second]
    shared = [ident for ident in one if ident in other]
    if not shared:
        return Pair(first, second, 0, None)
    found = agreement([one[ident] for ident in shared], [other[ident] for ident in shared], task)
    return Pair(first, second, len(shared), found.kappa)


def _alpha(table: np.ndarray[Any, np.dtype[np.float64]], level: Literal["nominal", "ordinal"]) -> float | None:
    if len(np.unique(table[~np.isnan(table)])) < 2:
        return None
    return float(krippendorff.alpha(table, level_of_measurement=level))
