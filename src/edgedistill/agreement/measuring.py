"""From two codings of the same rows to their agreement."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, precision_recall_fscore_support

from edgedistill.agreement.bootstrap import (
    Counts,
    accuracies,
    confusion_of,
    estimate,
    kappas,
    macro_f1s,
    resample_groups,
    resample_rows,
)
from edgedistill.agreement.types import Agreement, Estimate, LabelAgreement
from edgedistill.errors import DataError
from edgedistill_serve.task import Task


def agreement(
    reference: Sequence[str],
    coded: Sequence[str],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Compare a coding with a reference coding of the same rows.

    The figures are scikit-learn's; the intervals are 95 % percentile bootstrap intervals (Efron 1979).

    Args:
        reference: The label per row that counts as right, such as a human code.
        coded: The label per row that is judged, such as a student's.
        task: Its labels, in codebook order, are the only ones allowed.
        groups: What each row belongs to, such as a learner. With groups the bootstrap draws whole groups, so that the
            interval is honest about rows that resemble each other. None: every row stands for itself.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling; the same seed gives the same intervals.

    Raises:
        DataError: No rows; lengths that differ; a label that the task does not have; a multilabel task; a single
            group, from which no interval can be had.
    """
    _check(reference, coded, task, groups, resamples)
    index = {name: number for number, name in enumerate(task.names)}
    truth = np.array([_known(label, index, "reference", row) for row, label in enumerate(reference, start=1)])
    judged = np.array([_known(label, index, "coded", row) for row, label in enumerate(coded, start=1)])
    quadratic = task.kind == "ordinal"
    confusion = confusion_of(truth, judged, len(index))
    resampled = _resample(truth, judged, confusion, groups, resamples, np.random.default_rng(seed))
    return Agreement(
        rows=len(truth),
        accuracy=estimate(float(accuracy_score(truth, judged)), accuracies(resampled)),
        macro_f1=estimate(float(f1_score(truth, judged, average="macro")), macro_f1s(resampled)),
        kappa=_kappa(truth, judged, resampled, len(index), quadratic=quadratic),
        kappa_name="quadratic weighted kappa" if quadratic else "Cohen's kappa",
        per_label=_per_label(truth, judged, task),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
    )


def _check(
    reference: Sequence[str], coded: Sequence[str], task: Task, groups: Sequence[str] | None, resamples: int
) -> None:
    if task.kind == "multilabel":
        raise DataError(
            "the agreement of multilabel codings is not built yet",
            mend="Compare one label at a time as a nominal task.",
        )
    if not reference:
        raise DataError("there are no rows to compare")
    if len(coded) != len(reference):
        raise DataError(f"{len(reference)} reference labels stand against {len(coded)} coded ones")
    if groups is not None and len(groups) != len(reference):
        raise DataError(f"{len(reference)} rows come with {len(groups)} groups")
    if groups is not None and len(set(groups)) < 2:
        raise DataError(
            "all rows belong to one group, and an interval over groups needs two",
            mend="Compare rows of more groups, or compare without groups.",
        )
    if resamples < 1:
        raise DataError(f"{resamples} resamples give no interval", mend="Ask for 1 or more; 2000 is usual.")


def _known(label: str, index: dict[str, int], coding: str, row: int) -> int:
    try:
        return index[label]
    except KeyError:
        raise DataError(
            f"the task has no label {label!r}", where=f"{coding} label {row}", mend=f"Its labels: {', '.join(index)}."
        ) from None


def _resample(
    truth: Counts,
    judged: Counts,
    confusion: Counts,
    groups: Sequence[str] | None,
    resamples: int,
    rng: np.random.Generator,
) -> Counts:
    if groups is None:
        return resample_rows(confusion, resamples, rng)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    members = np.array([numbers[group] for group in groups])
    return resample_groups(truth, judged, members, len(confusion), resamples, rng)


def _kappa(truth: Counts, judged: Counts, resampled: Counts, labels: int, *, quadratic: bool) -> Estimate | None:
    if len(np.union1d(truth, judged)) == 1:
        return None
    value = cohen_kappa_score(truth, judged, labels=range(labels), weights="quadratic" if quadratic else None)
    found = kappas(resampled, quadratic=quadratic)
    defined = found[~np.isnan(found)]
    return estimate(float(value), defined) if len(defined) else None


def _per_label(truth: Counts, judged: Counts, task: Task) -> dict[str, LabelAgreement]:
    figures = precision_recall_fscore_support(truth, judged, labels=range(len(task.names)), zero_division=np.nan)
    return {
        name: LabelAgreement(_or_none(precision), _or_none(recall), _or_none(f1), int(support))
        for name, precision, recall, f1, support in zip(task.names, *figures, strict=True)
    }


def _or_none(figure: float) -> float | None:
    return None if np.isnan(figure) else float(figure)
