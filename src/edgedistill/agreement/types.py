"""Results of comparing two codings.

Estimate          a figure with its 95 % interval
LabelAgreement    precision, recall and F1 of one label
Averages          precision, recall and F1 averaged over labels
Agreement         overall figures, averages, figures per label, confusion matrix

An undefined figure is None, never NaN or a substitute such as 0; each attribute says when it is undefined.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # pandas is imported only when a DataFrame is requested
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % percentile bootstrap interval.

    Attributes:
        value: The figure on the original rows.
        low: 2.5th percentile over the resamples.
        high: 97.5th percentile over the resamples.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """Agreement on one label.

    Attributes:
        precision: Share of the rows coded with the label that have it in the reference, in [0, 1]; None if no row is
            coded with it.
        recall: Share of the rows with the label in the reference that are coded with it, in [0, 1]; None if no row has
            it in the reference.
        f1: ``2 tp / (2 tp + fp + fn)``, in [0, 1]; None if the label occurs in neither coding.
        support: Rows with the label in the reference.
        intervals: Limits of the 95 % interval by figure (``precision``, ``recall``, ``f1``), without undefined figures.
        kappa: For multilabel tasks, Cohen's κ of whether the label is assigned; None if both codings assign it to every
            row or to none. For other tasks None.
        alpha: Krippendorff's alpha, likewise.
        table: For multilabel tasks, row counts ``[in the reference][in the coding]``, index 1 for rows with the label.
            For other tasks None.
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
    """Average precision, recall and F1, in [0, 1]; None if undefined."""

    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None


@dataclass(frozen=True, slots=True, repr=False)
class Agreement:
    """Agreement of a coding with a reference coding of the same rows; its repr is a table.

    Attributes:
        rows: Rows compared, at least 1.
        accuracy: Share of the rows with equal labels; for multilabel tasks with equal label sets (exact match).
        macro_f1: Mean F1 over the labels that occur in either coding (scikit-learn's default). None if no label occurs,
            which is possible in multilabel tasks.
        kappa: Chance-corrected agreement, in [-1, 1]. None if it is undefined (0/0), because both codings use the same
            single label throughout, or if it is undefined in every resample; its interval ignores resamples in which
            it is undefined. For multilabel tasks the mean over labels, without labels whose κ is undefined.
        kappa_name: ``Cohen's kappa`` (Cohen 1960); for ordinal tasks ``quadratic weighted kappa`` (Cohen 1968), with
            equal steps between the labels in codebook order; for multilabel tasks ``mean kappa over labels``.
        per_label: By label name, in codebook order.
        confusion: Row counts; ``confusion[i][j]`` rows have reference label *i* and are coded *j*, in codebook order.
            Empty for multilabel tasks, which have a table per label.
        resamples: Number of bootstrap resamples of every interval.
        groups: Number of groups in a cluster bootstrap; None if rows were resampled. With 1, every interval is the
            whole range of its figure.
        mcc: Matthews' correlation coefficient, in [-1, 1]; None if a coding uses one label throughout, and for
            multilabel tasks.
        alpha: Krippendorff's alpha (Krippendorff 2011), nominal or ordinal as the task, for multilabel tasks with the
            MASI distance (Passonneau 2006); None if it is undefined, as κ.
        averages: ``macro`` (over the labels that occur in either coding, an undefined figure counted as 0),
            ``weighted`` (by support), for multilabel tasks also ``micro`` (over all decisions), and with a positive
            label ``binary``: the figures of that label.
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
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return an agreement from the output of `as_dict`, also after a round trip through JSON."""
        figures = {
            name: _estimate(values[name])
            for name in ("accuracy", "macro_f1", "kappa", "mcc", "alpha")
            if name in values
        }
        averages = {
            name: Averages(**{figure: _estimate(each) for figure, each in average.items()})
            for name, average in values.get("averages", {}).items()
        }
        per_label = {name: _label(label) for name, label in values["per_label"].items()}
        confusion = tuple(tuple(counts) for counts in values["confusion"])
        return cls(**{**values, **figures, "averages": averages, "per_label": per_label, "confusion": confusion})


def _estimate(values: Mapping[str, float] | None) -> Estimate | None:
    return None if values is None else Estimate(**values)


def _label(values: Mapping[str, Any]) -> LabelAgreement:
    intervals = {figure: (low, high) for figure, (low, high) in values.get("intervals", {}).items()}
    figures = {name: _estimate(values.get(name)) for name in ("kappa", "alpha")}
    table = values.get("table") and tuple(tuple(counts) for counts in values["table"])
    return LabelAgreement(**{**values, **figures, "intervals": intervals, "table": table})
