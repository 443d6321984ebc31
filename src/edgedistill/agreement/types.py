"""What a comparison of two codings says.

Estimate          a figure with its 95 % interval
LabelAgreement    precision, recall and F1 of one label
Averages          precision, recall and F1 over labels
Agreement         the comparison: headline figures, averages, single labels, confusion matrix

A figure that is undefined is None, never NaN and never a stand-in such as 0: see the attribute for when that is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # pandas is loaded where a DataFrame is asked for
    from pandas import DataFrame


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
        intervals: By figure (``precision``, ``recall``, ``f1``) the ends of its 95 % interval; an undefined figure has
            none.
        kappa: Of a label of a multilabel task, Cohen's κ of whether it holds; None where both codings give it to every
            row or to none. Of other tasks None.
        alpha: Of a label of a multilabel task, Krippendorff's alpha likewise.
        table: Of a label of a multilabel task, row counts ``[in the reference][in the coding]``: 0 where it does not
            hold, 1 where it does. Of other tasks None.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    kappa: Estimate | None = None
    alpha: Estimate | None = None
    table: tuple[tuple[int, int], tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True)
class Averages:
    """Precision, recall and F1 in one figure each, in [0, 1]; None where it is undefined."""

    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None


@dataclass(frozen=True, slots=True, repr=False)
class Agreement:
    """How far a coding agrees with a reference coding of the same rows; its repr is a table.

    Attributes:
        rows: Rows compared, at least 1.
        accuracy: Share of the rows with equal labels; of a multilabel task those with just the same labels (exact
            match).
        macro_f1: Mean F1 of the labels that occur in either coding; a label that occurs in neither has no F1 and is
            left out of the mean (scikit-learn's default). None where none occurs, which a multilabel task allows.
        kappa: Agreement beyond chance, in [-1, 1]. None where it is undefined (0/0): both codings use one and the same
            label throughout. Resamples in which it is undefined are left out of its interval; None where none is left.
            Of a multilabel task the mean over labels of each label's κ, labels without one left out.
        kappa_name: ``Cohen's kappa`` (Cohen 1960), for an ordinal task ``quadratic weighted kappa`` (Cohen 1968) with
            the labels at equal steps in codebook order, for a multilabel task ``mean kappa over labels``.
        per_label: By label name, in codebook order.
        confusion: Row counts, ``confusion[i][j]`` those with reference label *i* coded as label *j*, in codebook order.
            Of a multilabel task empty: each label has a table of its own.
        resamples: Bootstrap resamples behind every interval.
        groups: How many groups were resampled as wholes; None where single rows were. With 1 every interval is the
            figure's whole range.
        mcc: Matthews' correlation, in [-1, 1]; None where a coding uses one label throughout, and of a multilabel task.
        alpha: Krippendorff's alpha of the two codings (Krippendorff 2011), nominal or ordinal as the task is, of a
            multilabel task with the MASI distance of the two sets of labels (Passonneau 2006); None where κ is.
        averages: ``macro`` (the mean over labels that occur in either coding, an undefined figure counted as 0),
            ``weighted`` (the mean over references), of a multilabel task ``micro`` (all labels' decisions together)
            and, where a label counts as positive, ``binary``: that label's own.
    """

    rows: int
    accuracy: Estimate
    macro_f1: Estimate | None
    kappa: Estimate | None
    kappa_name: str
    per_label: Mapping[str, LabelAgreement]
    confusion: tuple[tuple[int, ...], ...]
    resamples: int
    groups: int | None = None
    mcc: Estimate | None = None
    alpha: Estimate | None = None
    averages: Mapping[str, Averages] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names in codebook order."""
        return tuple(self.per_label)

    def __repr__(self) -> str:
        from edgedistill.agreement.agreement import agreement_table  # the table is made of these types
        from edgedistill.displays import plain_text

        return plain_text(agreement_table({"agreement": self}))

    def _repr_html_(self) -> str:
        from edgedistill.agreement.agreement import agreement_html

        return agreement_html({"agreement": self})

    def to_frame(self) -> "DataFrame":
        """Return a DataFrame with a row per figure: ``figure``, ``label``, ``value``, ``low``, ``high``, ``rows``."""
        from edgedistill.agreement.agreement import agreement_frame

        return agreement_frame(self)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        per_label = {name: asdict(label) for name, label in self.per_label.items()}
        for label in per_label.values():
            label["intervals"] = {figure: list(ends) for figure, ends in label["intervals"].items()}
            if label["table"]:
                label["table"] = [list(counts) for counts in label["table"]]
            else:
                del label["kappa"], label["alpha"], label["table"]
        return {
            **asdict(self),
            "per_label": per_label,
            "confusion": [list(counts) for counts in self.confusion],
            "averages": {name: asdict(figures) for name, figures in self.averages.items()},
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Return the agreement that `as_dict` told, as JSON gives it back."""
        figures = {
            name: _estimate(given[name]) for name in ("accuracy", "macro_f1", "kappa", "mcc", "alpha") if name in given
        }
        averages = {
            name: Averages(**{figure: _estimate(each) for figure, each in average.items()})
            for name, average in given.get("averages", {}).items()
        }
        per_label = {name: _label(label) for name, label in given["per_label"].items()}
        confusion = tuple(tuple(counts) for counts in given["confusion"])
        return cls(**{**given, **figures, "averages": averages, "per_label": per_label, "confusion": confusion})


def _estimate(given: Mapping[str, float] | None) -> Estimate | None:
    return None if given is None else Estimate(**given)


def _label(given: Mapping[str, Any]) -> LabelAgreement:
    intervals = {figure: (low, high) for figure, (low, high) in given.get("intervals", {}).items()}
    figures = {name: _estimate(given.get(name)) for name in ("kappa", "alpha")}
    table = given.get("table") and tuple(tuple(counts) for counts in given["table"])
    return LabelAgreement(**{**given, **figures, "intervals": intervals, "table": table})
