"""Metrics of students and conditions, on the same resampled test rows and seeds, and differences between conditions.

score_result(plan, result, inputs)     one row per student and set of test rows, with intervals over the test rows
summarize_conditions(lines, inputs)    one summary per condition, with intervals over test rows and seeds

The interval of a condition is a bootstrap in which test rows and seeds are both resampled (the rows as described in
`edgedistill.agreement.bootstrap`), so it includes the sampling of test rows and the variation between students.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement import Estimate, agreement, probability_metrics
from edgedistill.agreement.bootstrap import Figure, Rows, bootstrap_groups
from edgedistill.agreement.confusion import Values, encode_labels
from edgedistill.agreement.draws import ConfusionDraws, LabelFigure
from edgedistill.agreement.multilabel import LabelSetDraws, encode_label_sets
from edgedistill.data import TestRows
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.types import Metrics, Predictions, ResultRow, RunPlan, RunResult, TestSet
from edgedistill_serve.task.task import Task

RESAMPLES = 2000
_OF_LABELS: tuple[LabelFigure, ...] = ("f1", "precision", "recall")

RowMask: TypeAlias = NDArray[np.bool_]
"""Whether each test row is included, (rows,)."""


def rows_coded_by_all(lines: Sequence[ResultRow]) -> RowMask:
    """Return which test rows every student labels; all of the results, at least one, are on the same test rows."""
    codings = zip(*(line.predictions.labels for line in lines), strict=True)
    return np.array([None not in coding for coding in codings])


def resampled_metrics(lines: Sequence[ResultRow], counted: RowMask, inputs: TaskInputs) -> dict[str, list[Figure]]:
    """Return every metric of each student, on the test rows and on resamples that all students share.

    Args:
        lines: Students of one task on one set of test rows.
        counted: The rows to include; every student labels them.
        inputs: The task.

    Returns:
        `macro_f1`, `kappa`, `f1`, `precision` and `recall` of each student. The last three are of the positive label,
        or means over labels.
    """
    rows = inputs.tests[lines[0].predictions.test]
    places = np.flatnonzero(counted)
    truth = [rows.labels[place] for place in places]
    sample = Rows.of(len(places), _groups(rows, places))
    codings = [[line.predictions.labels[place] or "" for place in places] for line in lines]
    metrics = [_resample(truth, coded, sample, inputs) for coded in codings]
    return {name: [each[name] for each in metrics] for name in metrics[0]}


def mean_over_seeds(figures: Sequence[Figure]) -> Estimate | None:
    """Return the mean over seeds, with the interval over resampled rows and seeds; None if undefined.

    Args:
        figures: A metric, or a difference of two, of each seed's student.
    """
    seeds = np.random.default_rng(1).integers(len(figures), size=(RESAMPLES, len(figures)))
    ends = []
    for end in ("low", "high"):
        values = np.array([getattr(figure, end) for figure in figures])
        resampled = values[:, 1:][seeds, np.arange(RESAMPLES)[:, None]].mean(axis=1)
        ends.append(np.concatenate([values[:, 0].mean(keepdims=True), resampled]))
    exact = figures[0].limits if len(figures) == 1 else None
    return Figure(ends[0], ends[1], figures[0].bounds, exact).estimate()


def _resample(truth: Sequence[str], coded: Sequence[str], rows: Rows, inputs: TaskInputs) -> dict[str, Figure]:
    """Return the metrics of one student; the weights of the rows are the same for all students."""
    task, positive, draws = inputs.task, inputs.positive, _draw(truth, coded, rows, inputs.task)
    labels = draws.labels
    found = {
        "macro_f1": labels.macro("f1"),
        "kappa": draws.mean_kappa()
        if isinstance(draws, LabelSetDraws)
        else draws.kappa(quadratic=task.kind == "ordinal"),
    }
    for name in _OF_LABELS:
        if positive is None:
            found[name] = labels.macro(name)
        else:
            found[name] = labels.label(name, task.names.index(positive)).with_undefined(0.0)
    return found


def _draw(truth: Sequence[str], coded: Sequence[str], rows: Rows, task: Task) -> ConfusionDraws | LabelSetDraws:
    weights = _weights(rows.count, None if rows.groups is None else tuple(rows.groups.tolist()))
    correct = np.array([one == other for one, other in zip(truth, coded, strict=True)], dtype=np.float64)
    additional = rows.draw_additional(correct, RESAMPLES, np.random.default_rng(2))
    if task.kind == "multilabel":
        sets = np.stack([encode_label_sets(each, task, "coding") for each in (truth, coded)])
        return LabelSetDraws.of(sets, weights, additional, rows)
    size = len(task.names)
    cells = np.eye(size**2)[encode_labels(truth, task, "reference") * size + encode_labels(coded, task, "coded")]
    return ConfusionDraws((weights @ cells).reshape(-1, size, size), additional, rows)


@lru_cache(maxsize=2)  # a task's test rows and those of its transfer set
def _weights(count: int, groups: tuple[int, ...] | None) -> Values:
    """Return the weight of each row, (1 + RESAMPLES, rows): first 1, then those of the resamples."""
    rows = Rows(count, None if groups is None else np.array(groups))
    return np.concatenate([np.ones((1, count)), *rows.draw_rows(RESAMPLES, np.random.default_rng(0))])


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
    macro_f1, f1 = (
        mean_over_seeds([one - other for one, other in zip(above[name], below[name], strict=True)])
        for name in ("macro_f1", "f1")
    )
    return Difference(
        macro_f1,
        f1,
        seeds,
        rows,
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


def _groups(rows: TestRows, coded: Iterable[int]) -> list[str] | None:
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
    counted = rows_coded_by_all(lines)
    names = ("macro_f1", "kappa", *_OF_LABELS)
    figures = resampled_metrics(lines, counted, inputs) if counted.any() else {}
    found = {name: mean_over_seeds(figures[name]) if figures else None for name in names}
    return ConditionSummary(
        lines=lines,
        **found,
        auc=float(np.mean(areas)) if areas else None,
        spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        difference=condition_difference(lines, others, inputs) if others else None,
    )
