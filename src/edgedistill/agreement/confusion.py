"""Confusion matrices of two codings, and the statistics of many of them at once.

A matrix counts rows, reference by coded label. Each statistic of one matrix is scikit-learn's, or krippendorff's, of
the rows that the matrix counts; a figure that is undefined is NaN here.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task

Counts: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Counts], Values]
"""From matrices (n, labels, labels) to a figure of each, (n,)."""


def confusion_matrix(reference: Counts, coded: Counts, labels: int) -> Counts:
    """Return the matrix (labels, labels) of row counts, reference by coded; label indices count from 0."""
    cells = np.bincount(reference * labels + coded, minlength=labels * labels)
    return cells.reshape(labels, labels).astype(np.int64)


def accuracies(confusions: Counts) -> Values:
    """Return the accuracy of each matrix (n, labels, labels)."""
    correct = np.trace(confusions, axis1=1, axis2=2)
    return np.asarray(correct / confusions.sum(axis=(1, 2)), dtype=np.float64)


def precisions(confusions: Counts) -> Values:
    """Return each label's precision (n, labels); NaN where no row is coded with it."""
    return _shares(_correct(confusions), confusions.sum(axis=1))


def recalls(confusions: Counts) -> Values:
    """Return each label's recall (n, labels); NaN where no reference is the label."""
    return _shares(_correct(confusions), confusions.sum(axis=2))


def f1s(confusions: Counts) -> Values:
    """Return each label's F1 (n, labels); NaN where the label occurs in neither coding."""
    return _shares(2 * _correct(confusions), confusions.sum(axis=1) + confusions.sum(axis=2))


def macro(of_labels: Values, confusions: Counts) -> Values:
    """Return the mean figure over the labels that occur in either coding, an undefined one counted as 0.

    Args:
        of_labels: A figure of each label, (n, labels).
        confusions: The matrices that it is of.
    """
    occurs = confusions.sum(axis=1) + confusions.sum(axis=2) > 0
    return np.asarray((np.nan_to_num(of_labels) * occurs).sum(axis=1) / occurs.sum(axis=1), dtype=np.float64)


def weighted(of_labels: Values, confusions: Counts) -> Values:
    """Return the mean figure over the references, each counting its label's, an undefined one counted as 0."""
    support = confusions.sum(axis=2)
    return np.asarray((np.nan_to_num(of_labels) * support).sum(axis=1) / support.sum(axis=1), dtype=np.float64)


def macro_f1s(confusions: Counts) -> Values:
    """Return the macro-F1 of each matrix (n, labels, labels), over the labels that occur in it."""
    return macro(f1s(confusions), confusions)


def kappas(confusions: Counts, *, quadratic: bool) -> Values:
    """Return κ of each matrix (n, labels, labels); NaN where one label alone occurs (0/0).

    One minus observed over expected disagreement (Cohen 1968, doi:10.1037/h0026256), each disagreement weighing 1 or,
    ``quadratic``, the squared distance of the two labels.
    """
    steps = np.arange(confusions.shape[1])
    distance = np.abs(steps[:, None] - steps[None, :])
    weights = (distance**2 if quadratic else distance > 0).astype(np.float64)
    observed = (weights * confusions).sum(axis=(1, 2))
    by_chance = np.einsum("ni,ij,nj->n", confusions.sum(axis=2), weights, confusions.sum(axis=1))
    return 1 - _shares(observed, by_chance / confusions.sum(axis=(1, 2)))


def mccs(confusions: Counts) -> Values:
    """Return Matthews' correlation of each matrix, in [-1, 1]; NaN where a coding uses one label throughout.

    The form for any number of labels is Gorodkin's (2004, doi:10.1016/j.compbiolchem.2004.09.006).
    """
    rows = confusions.sum(axis=(1, 2)).astype(np.float64)
    reference, coded = confusions.sum(axis=2).astype(np.float64), confusions.sum(axis=1).astype(np.float64)
    together = _correct(confusions).sum(axis=1) * rows - (reference * coded).sum(axis=1)
    alone = (rows**2 - (reference**2).sum(axis=1)) * (rows**2 - (coded**2).sum(axis=1))
    return _shares(together, np.sqrt(alone))


def alphas(confusions: Counts, *, ordinal: bool) -> Values:
    """Return Krippendorff's alpha of the two codings of each matrix; NaN where one label alone occurs.

    Two coders without missing values, by the coincidences of Krippendorff 2011 ("Computing Krippendorff's
    Alpha-Reliability"); the ordinal difference of two labels is his, by how many values lie between them.
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
    """Return the statistics by which two codings are compared, by name; κ is quadratic weighted if ``ordinal``."""
    return {
        "accuracy": accuracies,
        "macro_f1": macro_f1s,
        "macro_precision": lambda confusions: macro(precisions(confusions), confusions),
        "macro_recall": lambda confusions: macro(recalls(confusions), confusions),
        "kappa": lambda confusions: kappas(confusions, quadratic=ordinal),
        "mcc": mccs,
    }


def _correct(confusions: Counts) -> Counts:
    return np.diagonal(confusions, axis1=1, axis2=2)


def _shares(part: Counts | Values, whole: Counts | Values) -> Values:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def check_lengths(reference: Sequence[str], **codings: Sequence[str]) -> None:
    """Check that there are rows, and as many of each coding.

    Args:
        reference: The coding that counts as right.
        codings: The others, by the name that a message gives them.

    Raises:
        DataError: No rows, or a coding of another length.
    """
    if not reference:
        raise DataError("there are no rows to compare")
    for name, coding in codings.items():
        if len(coding) != len(reference):
            raise DataError(f"{len(reference)} reference labels stand against {len(coding)} {name} ones")


def check_groups(rows: int, groups: Sequence[str] | None, resamples: int) -> None:
    """Check that rows can be resampled.

    Raises:
        DataError: Not as many groups as rows, or no resamples.
    """
    if groups is not None and len(groups) != rows:
        raise DataError(f"{rows} rows come with {len(groups)} groups")
    if resamples < 1:
        raise DataError(f"{resamples} resamples give no interval", hint="Ask for 1 or more; 2000 is usual.")


def encode_labels(coding: Sequence[str], task: Task, name: str) -> Counts:
    """Return the place of each label in the task's labels.

    Args:
        coding: A label per row.
        task: Names the labels.
        name: What a message calls the coding.

    Raises:
        DataError: A label that the task does not have.
    """
    places = {label: place for place, label in enumerate(task.names)}
    for row, label in enumerate(coding, start=1):
        if label not in places:
            raise DataError(
                f"the task has no label {label!r}",
                where=f"{name} label {row}",
                hint=f"Its labels: {', '.join(task.names)}.",
            )
    return np.array([places[label] for label in coding], dtype=np.int64)
