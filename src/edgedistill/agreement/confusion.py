"""Confusion matrices of two codings, and statistics of many matrices at once.

A matrix counts rows by reference label and coded label. Each statistic equals that of scikit-learn or krippendorff on
the rows of the matrix; undefined values are NaN.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import ArgumentError, DataError
from edgedistill_serve.task.task import Task, quote_label

Counts: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[np.float64]
Tables: TypeAlias = NDArray[np.int64] | NDArray[np.float64]
"""Counts or weights of rows."""
Statistic: TypeAlias = Callable[[Values], Values]
"""Maps matrices (n, labels, labels) to a value each, (n,)."""


def confusion_matrix(reference: Counts, coded: Counts, labels: int) -> Counts:
    """Return the matrix (labels, labels) of row counts, reference by coded; label indices count from 0."""
    cells = np.bincount(reference * labels + coded, minlength=labels * labels)
    return cells.reshape(labels, labels).astype(np.int64)


def accuracies(confusions: Tables) -> Values:
    """Return the accuracy of each matrix (n, labels, labels)."""
    correct = np.trace(confusions, axis1=1, axis2=2)
    return np.asarray(correct / confusions.sum(axis=(1, 2)), dtype=np.float64)


def precisions(confusions: Tables) -> Values:
    """Return each label's precision (n, labels); NaN if no row is coded with it."""
    return _shares(_correct(confusions), confusions.sum(axis=1))


def recalls(confusions: Tables) -> Values:
    """Return each label's recall (n, labels); NaN if no row has it in the reference."""
    return _shares(_correct(confusions), confusions.sum(axis=2))


def f1s(confusions: Tables) -> Values:
    """Return each label's F1 (n, labels); NaN if it occurs in neither coding."""
    return _shares(2 * _correct(confusions), confusions.sum(axis=1) + confusions.sum(axis=2))


def macro(label_values: Values, confusions: Tables) -> Values:
    """Return the mean over the labels that occur in either coding, (n,); undefined values count as 0.

    Args:
        label_values: Values per label, (n, labels).
        confusions: Their matrices, (n, labels, labels).
    """
    occurs = confusions.sum(axis=1) + confusions.sum(axis=2) > 0
    return np.asarray((np.nan_to_num(label_values) * occurs).sum(axis=1) / occurs.sum(axis=1), dtype=np.float64)


def weighted(label_values: Values, confusions: Tables) -> Values:
    """Return the mean over labels weighted by support, (n,); undefined values count as 0."""
    support = confusions.sum(axis=2)
    return np.asarray((np.nan_to_num(label_values) * support).sum(axis=1) / support.sum(axis=1), dtype=np.float64)


def macro_f1s(confusions: Tables) -> Values:
    """Return the macro-F1 of each matrix (n, labels, labels), over the labels that occur in it."""
    return macro(f1s(confusions), confusions)


def kappas(confusions: Tables, *, quadratic: bool) -> Values:
    """Return κ of each matrix (n, labels, labels); NaN if only one label occurs (0/0).

    One minus observed over expected disagreement (Cohen 1968, doi:10.1037/h0026256). The weight of a disagreement is 1,
    with ``quadratic`` the squared distance of the two labels.
    """
    steps = np.arange(confusions.shape[1])
    distance = np.abs(steps[:, None] - steps[None, :])
    weights = (distance**2 if quadratic else distance > 0).astype(np.float64)
    observed = (weights * confusions).sum(axis=(1, 2))
    by_chance = np.einsum("ni,ij,nj->n", confusions.sum(axis=2), weights, confusions.sum(axis=1))
    return 1 - _shares(observed, by_chance / confusions.sum(axis=(1, 2)))


def mccs(confusions: Tables) -> Values:
    """Return Matthews' correlation of each matrix, in [-1, 1]; NaN if a coding uses one label throughout.

    Multiclass form of Gorodkin (2004, doi:10.1016/j.compbiolchem.2004.09.006).
    """
    rows = confusions.sum(axis=(1, 2)).astype(np.float64)
    reference, coded = confusions.sum(axis=2).astype(np.float64), confusions.sum(axis=1).astype(np.float64)
    together = _correct(confusions).sum(axis=1) * rows - (reference * coded).sum(axis=1)
    alone = (rows**2 - (reference**2).sum(axis=1)) * (rows**2 - (coded**2).sum(axis=1))
    return _shares(together, np.sqrt(alone))


def alphas(confusions: Tables, *, ordinal: bool) -> Values:
    """Return Krippendorff's alpha of the two codings of each matrix; NaN if only one label occurs.

    Two coders without missing values, by the coincidences of Krippendorff 2011 ("Computing Krippendorff's
    Alpha-Reliability"), with his ordinal difference, which depends on the number of values between two labels.
    """
    coincidences = (confusions + confusions.swapaxes(1, 2)).astype(np.float64)
    totals = coincidences.sum(axis=2)
    values = totals.sum(axis=1)
    if ordinal:
        middle = totals.cumsum(axis=1) - totals / 2
        differences = (middle[:, :, None] - middle[:, None, :]) ** 2
    else:
        differences = np.broadcast_to(1 - np.eye(totals.shape[1]), coincidences.shape)
    observed = (coincidences * differences).sum(axis=(1, 2))
    expected = np.einsum("ni,nij,nj->n", totals, differences, totals)
    return np.asarray(1 - (values - 1) * _shares(observed, expected), dtype=np.float64)


def single_label_statistics(*, ordinal: bool) -> dict[str, Statistic]:
    """Return the statistics for comparing two codings by name; κ is quadratic weighted if ``ordinal``."""
    return {
        "accuracy": accuracies,
        "macro_f1": macro_f1s,
        "macro_precision": lambda confusions: macro(precisions(confusions), confusions),
        "macro_recall": lambda confusions: macro(recalls(confusions), confusions),
        "kappa": lambda confusions: kappas(confusions, quadratic=ordinal),
        "mcc": mccs,
    }


def _correct(confusions: Tables) -> Values:
    return np.diagonal(confusions, axis1=1, axis2=2).astype(np.float64)


def _shares(part: Tables, whole: Tables) -> Values:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def check_lengths(reference: Sequence[object], **codings: Sequence[object]) -> None:
    """Check that there are rows and that all codings have the same length.

    Args:
        reference: The reference coding.
        codings: The other codings by name, for messages.

    Raises:
        ArgumentError: A coding is not a list, an array or a Series.
        DataError: There are no rows, or lengths differ.
    """
    for name, coding in {"reference": reference, **codings}.items():
        check_rows(coding, name)
    if len(reference) == 0:
        raise DataError("there are no rows to compare")
    for name, coding in codings.items():
        if len(coding) != len(reference):
            raise DataError(f"there are {len(reference)} reference labels but {len(coding)} {name} labels")


def check_rows(given: object, name: str, what: str = "a label") -> None:
    """Check that an argument has a value per row, in the order of the rows.

    Raises:
        ArgumentError: It is one text, whose letters would be rows, a mapping, a set, a table, or not iterable.
    """
    unordered = isinstance(given, (str, bytes, bytearray, Mapping, Set))
    if unordered or not isinstance(given, Iterable) or getattr(given, "ndim", 1) != 1:
        raise ArgumentError(f"{name} must be a list, an array or a Series with {what} per row")


def check_groups(rows: int, groups: Sequence[str] | None, resamples: int) -> None:
    """Check the arguments of a bootstrap.

    Raises:
        ArgumentError: The groups are not a list, an array or a Series.
        DataError: The number of groups is not the number of rows, or there are no resamples.
    """
    if groups is not None:
        check_rows(groups, "groups", "a group")
    if groups is not None and len(groups) != rows:
        raise DataError(f"there are {rows} rows but {len(groups)} groups")
    if resamples < 1:
        raise DataError(f"resamples must be at least 1, not {resamples}", hint="2000 is usual.")


def encode_labels(coding: Sequence[str], task: Task, name: str) -> Counts:
    """Return the index of each label in the task.

    Args:
        coding: A label per row.
        task: Defines the labels.
        name: Name of the coding for messages.

    Raises:
        DataError: A label is not in the task.
    """
    codes = {label: code for code, label in enumerate(task.names)}
    for row, label in enumerate(coding, start=1):
        if label not in codes:
            raise DataError(
                f"the task has no label {quote_label(label)}",
                where=f"{name} label {row}",
                hint=f"Its labels: {', '.join(task.names)}.",
            )
    return np.array([codes[label] for label in coding], dtype=np.int64)
