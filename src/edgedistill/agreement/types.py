"""What a comparison of two codings says.

Estimate          a figure with its 95 % interval
LabelAgreement    precision, recall and F1 of one label
Agreement         the comparison: headline figures, single labels, confusion matrix

A figure that is undefined is None, never NaN and never a stand-in such as 0: see the attribute for when that is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % percentile bootstrap interval.

    Attributes:
        value: The figure on the rows themselves.
        low: 2.5th percentile over the resamples.
        high: 97.5th percentile over the resamples.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """How one label fares.

    Attributes:
        precision: Share of the rows coded with the label whose reference is the label, in [0, 1]; None where no row is
            coded with it.
        recall: Share of the rows whose reference is the label that are coded with it, in [0, 1]; None where no
            reference is the label.
        f1: ``2 tp / (2 tp + fp + fn)``, in [0, 1]; None where the label occurs in neither coding.
        support: Rows whose reference is the label.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a coding agrees with a reference coding of the same rows.

    Attributes:
        rows: Rows compared, at least 1.
        accuracy: Share of the rows with equal labels.
        macro_f1: Mean F1 of the labels that occur in either coding; a label that occurs in neither has no F1 and is
            left out of the mean (scikit-learn's default).
        kappa: Agreement beyond chance, in [-1, 1]. None where it is undefined (0/0): both codings use one and the same
            label throughout. Resamples in which it is undefined are left out of its interval; None where none is left.
        kappa_name: ``Cohen's kappa`` (Cohen 1960), for an ordinal task ``quadratic weighted kappa`` (Cohen 1968) with
            the labels at equal steps in codebook order.
        per_label: By label name, in codebook order.
        confusion: Row counts, ``confusion[i][j]`` those with reference label *i* coded as label *j*, in codebook order.
        resamples: Bootstrap resamples behind every interval.
        groups: How many groups were resampled as wholes; None where single rows were.
    """

    rows: int
    accuracy: Estimate
    macro_f1: Estimate
    kappa: Estimate | None
    kappa_name: str
    per_label: Mapping[str, LabelAgreement]
    confusion: tuple[tuple[int, ...], ...]
    resamples: int
    groups: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names in codebook order."""
        return tuple(self.per_label)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        return {
            **asdict(self),
            "per_label": {name: asdict(label) for name, label in self.per_label.items()},
            "confusion": [list(counts) for counts in self.confusion],
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Return the agreement that `as_dict` told, as JSON gives it back."""
        figures = {name: given[name] and Estimate(**given[name]) for name in ("accuracy", "macro_f1", "kappa")}
        per_label = {name: LabelAgreement(**label) for name, label in given["per_label"].items()}
        confusion = tuple(tuple(counts) for counts in given["confusion"])
        return cls(**{**given, **figures, "per_label": per_label, "confusion": confusion})
