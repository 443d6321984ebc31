"""From two codings of the same rows to their agreement."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import krippendorff
import numpy as np
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

from edgedistill.agreement.bootstrap import confusion_of, defined, estimate, resample_confusions
from edgedistill.agreement.checking import check_groups, check_lengths, indices
from edgedistill.agreement.label_sets import held_labels
from edgedistill.agreement.one_group import of_one_group
from edgedistill.agreement.set_measuring import set_agreement
from edgedistill.agreement.statistics import (
    Counts,
    Values,
    accuracies,
    alphas,
    f1s,
    kappas,
    macro,
    macro_f1s,
    mccs,
    precisions,
    recalls,
    weighted,
)
from edgedistill.agreement.types import Agreement, Averages, Estimate, LabelAgreement
from edgedistill.errors import DataError
from edgedistill_serve.task import Label, Task

_FIGURES = ("precision", "recall", "f1")


def agreement(
    reference: Iterable[str],
    coded: Iterable[str],
    task: Task | None = None,
    *,
    groups: Sequence[str] | None = None,
    positive: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Compare a coding with a reference coding of the same rows.

    The figures are scikit-learn's, alpha is krippendorff's; the intervals are 95 % percentile bootstrap intervals
    (Efron 1979).

    Args:
        reference: The label per row that counts as right, such as a human code; of a multilabel task the labels that
            hold, joined.
        coded: The label per row that is judged, such as a student's.
        task: Its labels, in codebook order, are the only ones allowed. None: a nominal task of the labels that occur,
            sorted.
        groups: What each row belongs to, such as a learner. With groups the bootstrap draws whole groups, so that the
            interval is honest about rows that resemble each other; one group alone bears no interval, see
            `of_one_group`. None: every row stands for itself.
        positive: The label whose own precision, recall and F1 are told as ``averages["binary"]``.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling; the same seed gives the same intervals.

    Raises:
        DataError: No rows; lengths that differ; a label that the task does not have.
    """
    reference, coded = list(reference), list(coded)
    groups = None if groups is None else list(groups)
    task = task or _task_of(reference, coded)
    check_lengths(reference, coded=coded)
    check_groups(len(reference), groups, resamples)
    if positive is not None and positive not in task.names:
        raise DataError(f"the task has no label {positive!r}", mend=f"Its labels: {', '.join(task.names)}.")
    if task.kind == "multilabel":
        sets = held_labels(reference, task, "reference"), held_labels(coded, task, "coded")
        found = set_agreement(*sets, task, groups, positive, resamples, seed)
    else:
        found = _agreement(reference, coded, task, groups, positive, resamples, seed)
    return of_one_group(found) if found.groups == 1 else found


def _task_of(*codings: Sequence[str]) -> Task:
    found = {label for coding in codings for label in coding}
    if not all(isinstance(label, str) for label in found):
        raise DataError("a label is not text", mend="Leave out rows without a label; write numbers as text.")
    return Task("nominal", tuple(map(Label, sorted(found))), ("response",))


def _agreement(
    reference: Sequence[str],
    coded: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    positive: str | None,
    resamples: int,
    seed: int,
) -> Agreement:
    truth, judged = indices(reference, task, "reference"), indices(coded, task, "coded")
    labels, ordinal = len(task.names), task.kind == "ordinal"
    drawn = resample_confusions(truth, judged, labels, groups, resamples, np.random.default_rng(seed))
    figures = {"precision": precisions(drawn), "recall": recalls(drawn), "f1": f1s(drawn)}
    return Agreement(
        rows=len(truth),
        accuracy=estimate(float(accuracy_score(truth, judged)), accuracies(drawn)),
        macro_f1=estimate(float(f1_score(truth, judged, average="macro")), macro_f1s(drawn)),
        kappa=_kappa(truth, judged, drawn, ordinal=ordinal),
        kappa_name="quadratic weighted kappa" if ordinal else "Cohen's kappa",
        per_label=_per_label(truth, judged, task, figures),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion_of(truth, judged, labels)),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
        mcc=_mcc(truth, judged, drawn),
        alpha=_alpha(truth, judged, drawn, "ordinal" if ordinal else "nominal"),
        averages=_averages(truth, judged, drawn, figures, None if positive is None else task.names.index(positive)),
    )


def _kappa(truth: Counts, judged: Counts, drawn: Counts, *, ordinal: bool) -> Estimate | None:
    if len(np.union1d(truth, judged)) == 1:
        return None
    weights = "quadratic" if ordinal else None
    value = cohen_kappa_score(truth, judged, labels=range(drawn.shape[1]), weights=weights)
    return defined(value, kappas(drawn, quadratic=ordinal))


def _mcc(truth: Counts, judged: Counts, drawn: Counts) -> Estimate | None:
    if len(np.unique(truth)) == 1 or len(np.unique(judged)) == 1:
        return None
    return defined(matthews_corrcoef(truth, judged), mccs(drawn))


def _alpha(truth: Counts, judged: Counts, drawn: Counts, level: Literal["nominal", "ordinal"]) -> Estimate | None:
    if len(np.union1d(truth, judged)) == 1:
        return None
    table = np.array([truth, judged], dtype=np.float64)
    value = krippendorff.alpha(table, level_of_measurement=level)
    return defined(value, alphas(drawn, ordinal=level == "ordinal"))


def _averages(
    truth: Counts, judged: Counts, drawn: Counts, figures: Mapping[str, Values], positive: int | None
) -> dict[str, Averages]:
    found = {
        "macro": _scikit_learns(truth, judged, "macro", [macro(figures[name], drawn) for name in _FIGURES]),
        "weighted": _scikit_learns(truth, judged, "weighted", [weighted(figures[name], drawn) for name in _FIGURES]),
    }
    if positive is not None:
        own = precision_recall_fscore_support(truth, judged, labels=[positive], zero_division=np.nan)[:3]
        resampled = [figures[name][:, positive] for name in _FIGURES]
        found["binary"] = Averages(*(defined(float(value[0]), of) for value, of in zip(own, resampled, strict=True)))
    return found


def _scikit_learns(truth: Counts, judged: Counts, average: str, resampled: Sequence[Values]) -> Averages:
    values = precision_recall_fscore_support(truth, judged, average=average, zero_division=0)[:3]
    return Averages(*(estimate(float(value), of) for value, of in zip(values, resampled, strict=True)))


def _per_label(truth: Counts, judged: Counts, task: Task, figures: Mapping[str, Values]) -> dict[str, LabelAgreement]:
    found = precision_recall_fscore_support(truth, judged, labels=range(len(task.names)), zero_division=np.nan)
    per_label = {}
    for place, name in enumerate(task.names):
        values = {figure: float(of_labels[place]) for figure, of_labels in zip(_FIGURES, found[:3], strict=True)}
        estimates = {figure: defined(value, figures[figure][:, place]) for figure, value in values.items()}
        precision, recall, f1 = (None if np.isnan(value) else value for value in values.values())
        intervals = {figure: (each.low, each.high) for figure, each in estimates.items() if each}
        per_label[name] = LabelAgreement(precision, recall, f1, int(found[3][place]), intervals)
    return per_label
