"""Metrics of students and conditions, on the same resampled test rows and seeds, and differences between conditions.

score_result(plan, result, inputs)     one row per student and set of test rows, with intervals over the test rows
summarize_conditions(lines, inputs)    one summary per condition, with intervals over test rows and seeds

The interval of a condition is a bootstrap in which test rows and seeds are both resampled with replacement, so it
includes the sampling of test rows and the variation between students.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement import Estimate, agreement, probability_metrics
from edgedistill.agreement.bootstrap import bootstrap_groups, optional_estimate, row_weights
from edgedistill.agreement.confusion import Counts, Values, f1s, kappas, macro, macro_f1s, precisions, recalls
from edgedistill.agreement.multilabel import (
    count_label_sets,
    encode_label_sets,
    label_statistic,
    macro_statistic,
    mean_kappas,
)
from edgedistill.data import TestRows
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.types import Metrics, Predictions, ResultRow, RunPlan, RunResult, TestSet

RESAMPLES = 2000
_OF_LABELS = {"f1": f1s, "precision": precisions, "recall": recalls}

RowMask: TypeAlias = NDArray[np.bool_]
"""Whether each test row is included, (rows,)."""


def rows_coded_by_all(lines: Sequence[ResultRow]) -> RowMask:
    """Return which test rows every student labels; all of the results, at least one, are on the same test rows."""
    codings = zip(*(line.predictions.labels for line in lines), strict=True)
    return np.array([None not in coding for coding in codings])


def resampled_metrics(lines: Sequence[ResultRow], counted: RowMask, inputs: TaskInputs) -> dict[str, Values]:
    """Return every metric of each student: first on the test rows, then on each resample.

    Args:
        lines: Students of one task on one set of test rows.
        counted: The rows to include; every student labels them.
        inputs: The task.

    Returns:
        `macro_f1`, `kappa`, `f1`, `precision` and `recall`, each (students, 1 + RESAMPLES); NaN where undefined. The
        last three are of the positive label, or means over labels.
    """
    rows = inputs.tests[lines[0].predictions.test]
    weights = _weights(len(rows), _hashable(bootstrap_groups([response.group for response in rows.responses])))
    compute = _multilabel_metrics if inputs.task.kind == "multilabel" else _single_label_metrics
    metrics = [compute(rows.labels, line.predictions, weights, counted, inputs) for line in lines]
    return {name: np.array([each[name] for each in metrics]) for name in metrics[0]}


def mean_over_seeds(values: Values) -> Estimate | None:
    """Return the mean over seeds, with the interval over resampled rows and seeds; None if undefined.

    Args:
        values: A metric, or a difference of two, as `resampled_metrics` returns it: (seeds, 1 + RESAMPLES).
    """
    seeds = np.random.default_rng(1).integers(len(values), size=(RESAMPLES, len(values)))
    resampled = values[:, 1:][seeds, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    return optional_estimate(float(values[:, 0].mean()), resampled)


def _hashable(groups: list[str] | None) -> tuple[str, ...] | None:
    return None if groups is None else tuple(groups)


@lru_cache(maxsize=2)  # a task's test rows and those of its transfer set
def _weights(rows: int, groups: tuple[str, ...] | None) -> Counts:
    """The weight of each row, (1 + RESAMPLES, rows): first 1, then how often each resample contains the row."""
    drawn = row_weights(rows, groups, RESAMPLES, np.random.default_rng(0))
    return np.concatenate([np.ones((1, rows), dtype=np.int64), *drawn])


def _single_label_metrics(
    truth: Sequence[str], scored: Predictions, weights: Counts, counted: RowMask, inputs: TaskInputs
) -> dict[str, Values]:
    names = inputs.task.names
    predicted = np.array([0 if label is None else names.index(label) for label in scored.labels])
    true = np.array([names.index(label) for label in truth])
    cells = np.eye(len(names) ** 2)[true * len(names) + predicted] * counted[:, None]
    confusions = np.rint(weights @ cells).astype(np.int64).reshape(-1, len(names), len(names))
    found = {
        "macro_f1": macro_f1s(confusions),
        "kappa": kappas(confusions, quadratic=inputs.task.kind == "ordinal"),
    }
    for name, statistic in _OF_LABELS.items():
        of_labels = statistic(confusions)
        if inputs.positive is None:
            found[name] = macro(of_labels, confusions)
        else:
            found[name] = np.nan_to_num(of_labels[:, names.index(inputs.positive)])
    return found


def _multilabel_metrics(
    truth: Sequence[str], scored: Predictions, weights: Counts, counted: RowMask, inputs: TaskInputs
) -> dict[str, Values]:
    """The same metrics for a multilabel task."""
    pairs = [(true, label) for true, label, included in zip(truth, scored.labels, counted, strict=True) if included]
    reference = encode_label_sets([true for true, _ in pairs], inputs.task, "reference")
    coded = encode_label_sets([label for _, label in pairs if label is not None], inputs.task, "coded")
    counts = count_label_sets(reference, coded, weights[:, counted])
    found = {"macro_f1": macro_statistic(f1s)(counts), "kappa": mean_kappas(counts)}
    for name, statistic in _OF_LABELS.items():
        if inputs.positive is None:
            found[name] = macro_statistic(statistic)(counts)
        else:
            found[name] = np.nan_to_num(label_statistic(statistic, inputs.task.names.index(inputs.positive))(counts))
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two conditions, paired by seed and by test row.

    Attributes:
        macro_f1, f1: Difference of the means over the shared seeds, on the test rows that both label, with a 95 %
            interval over these seeds and rows; None if undefined.
        seeds: Number of shared seeds, and of seeds of either condition.
        rows: Number of test rows that both label, and of all test rows.
    """

    macro_f1: Estimate | None
    f1: Estimate | None
    seeds: tuple[int, int]
    rows: tuple[int, int]

    @property
    def coverage(self) -> str:
        """The seeds and rows included, if these are not all: ``2 of 3 seeds, 14 of 20 rows``; otherwise empty."""
        counts = {"seeds": self.seeds, "rows": self.rows}
        return ", ".join(f"{shared} of {total} {name}" for name, (shared, total) in counts.items() if shared < total)


def condition_difference(lines: Sequence[ResultRow], others: Sequence[ResultRow], inputs: TaskInputs) -> Difference:
    """Return the difference of a condition from another one.

    Args:
        lines: Students of the condition on one set of test rows, at least one.
        others: Students of the other condition on the same rows, at least one.
        inputs: Their task.
    """
    ours, theirs = _by_seed(lines, others), _by_seed(others, lines)
    shared = sorted(ours.keys() & theirs.keys())
    seeds = (len(shared), len(ours.keys() | theirs.keys()))
    pairs = [ours[seed] for seed in shared], [theirs[seed] for seed in shared]
    counted = rows_coded_by_all([*pairs[0], *pairs[1]] or lines)
    rows = (int(counted.sum()), len(counted))
    if not shared or not rows[0]:
        return Difference(None, None, seeds, rows)
    above, below = (resampled_metrics(each, counted, inputs) for each in pairs)
    return Difference(
        mean_over_seeds(above["macro_f1"] - below["macro_f1"]), mean_over_seeds(above["f1"] - below["f1"]), seeds, rows
    )


def _by_seed(lines: Sequence[ResultRow], others: Sequence[ResultRow]) -> dict[int, ResultRow]:
    """Students by seed; the teacher has no seed and is paired with every seed of the others."""
    if lines[0].plan.learner == "teacher":
        return {other.plan.seed: lines[0] for other in others}
    return {line.plan.seed: line for line in lines}


@dataclass(frozen=True, slots=True)
class ConditionSummary:
    """A condition over its seeds, on one set of test rows.

    Attributes:
        lines: Its students, one per seed, in the order of the seeds.
        macro_f1, kappa, f1, precision, recall: Means over seeds, with 95 % intervals over rows and seeds; None if
            undefined. The last three are of the positive label, or means over labels.
        auc: Mean over seeds; None if undefined.
        spread: Standard deviation of macro-F1 over seeds; None for a single seed.
        difference: Difference from the condition that it is compared with; None without one.
    """

    lines: tuple[ResultRow, ...]
    macro_f1: Estimate | None
    kappa: Estimate | None
    f1: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    auc: float | None
    spread: float | None
    difference: Difference | None

    @property
    def first(self) -> ResultRow:
        """The first student, which has the task and the condition of all."""
        return self.lines[0]


def score_result(plan: RunPlan, result: RunResult, inputs: TaskInputs) -> Iterator[ResultRow]:
    """Yield one row for each student and each set of test rows."""
    for student in result.students:
        for predictions in student.predictions:
            yield ResultRow(plan, student, predictions, _metrics(predictions, inputs))


def _metrics(scored: Predictions, inputs: TaskInputs) -> Metrics:
    rows = inputs.tests[scored.test]
    coded = [place for place, label in enumerate(scored.labels) if label is not None]
    truth = [rows.labels[place] for place in coded]
    groups = _groups(rows, coded)
    found = agreement(
        truth,
        [label for label in scored.labels if label is not None],
        inputs.task,
        groups=groups,
        positive=inputs.positive,
        resamples=RESAMPLES,
    )
    return Metrics(found, found.averages["binary" if inputs.positive else "macro"], _auc(scored, truth, inputs, groups))


def _auc(scored: Predictions, truth: Sequence[str], inputs: TaskInputs, groups: list[str] | None) -> Estimate | None:
    if scored.probabilities is None:
        return None
    probabilities = np.array(scored.probabilities)
    if inputs.task.kind != "multilabel":
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = probability_metrics(truth, probabilities, inputs.task, groups=groups, resamples=RESAMPLES)
    return found.auc_per_label[inputs.positive] if inputs.positive else found.auc


def _groups(rows: TestRows, coded: Sequence[int]) -> list[str] | None:
    responses = rows.responses
    return bootstrap_groups([responses[place].group for place in coded])


def summarize_conditions(lines: Iterable[ResultRow], task_inputs: Mapping[str, TaskInputs]) -> list[ConditionSummary]:
    """Return a summary of every condition of every task on each of its sets of test rows, in the order of the rows."""
    # By seed as well: a run that occurs twice counts once.
    conditions: dict[tuple[str, TestSet, str, int], dict[int, ResultRow]] = {}
    for line in lines:
        key = (line.plan.task, line.predictions.test, line.plan.condition, line.student.block)
        conditions.setdefault(key, {})[line.plan.seed] = line
    students = {key: tuple(found[seed] for seed in sorted(found)) for key, found in conditions.items()}
    return [
        _summary(found, students.get((*key[:2], *_compared_with(found[0]))), task_inputs[key[0]])
        for key, found in students.items()
    ]


def _compared_with(line: ResultRow) -> tuple[str, int]:
    """The condition and block to compare with: after continued training, the same student before it."""
    return (line.plan.condition, 0) if line.student.block else (line.plan.reference, 0)


def _summary(
    lines: tuple[ResultRow, ...], others: tuple[ResultRow, ...] | None, inputs: TaskInputs
) -> ConditionSummary:
    scores = [line.metrics.agreement.macro_f1.value for line in lines if line.metrics.agreement.macro_f1]
    areas = [line.metrics.auc.value for line in lines if line.metrics.auc]
    found = {
        name: mean_over_seeds(values)
        for name, values in resampled_metrics(lines, rows_coded_by_all(lines), inputs).items()
    }
    return ConditionSummary(
        lines=lines,
        **found,
        auc=float(np.mean(areas)) if areas else None,
        spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        difference=condition_difference(lines, others, inputs) if others else None,
    )
