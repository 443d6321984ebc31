"""Metrics of students and of conditions, on the same resampled test rows and seeds, and differences between conditions.

result_rows(plan, outcome, inputs) -> Lines      one student on one set of test rows each, with intervals over the rows
summaries(lines, inputs) -> Summaries         a condition over its seeds, with intervals over rows and seeds

A condition's interval is a bootstrap in which test rows and seeds are both drawn with replacement: the spread of test
rows and the spread of students are in it.
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
"""Of each test row, whether it counts, (rows,)."""


def coded_rows(lines: Sequence[ResultRow]) -> RowMask:
    """Return the test rows that every line codes; there is at least one line, and all are on the same test rows."""
    codings = zip(*(line.scored.labels for line in lines), strict=True)
    return np.array([None not in coding for coding in codings])


def resampled_metrics(lines: Sequence[ResultRow], counted: RowMask, inputs: TaskInputs) -> dict[str, Values]:
    """Return every figure of each line: of the rows as they are, then of each resample.

    Args:
        lines: Students of one task on one set of test rows.
        counted: The rows that count; each line codes them.
        inputs: The task.

    Returns:
        `macro_f1`, `kappa`, `f1`, `precision` and `recall`, each (lines, 1 + RESAMPLES); NaN where undefined. The last
        three are the positive label's, or means over labels.
    """
    rows = inputs.tests[lines[0].scored.test]
    weights = _weights(len(rows), _hashable(bootstrap_groups([response.group for response in rows.responses])))
    of_one = _set_figures if inputs.task.kind == "multilabel" else _label_figures
    found = [of_one(rows.labels, line.scored, weights, counted, inputs) for line in lines]
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def mean_over_seeds(values: Values) -> Estimate | None:
    """Return the mean over seeds, with the interval over resampled rows and resampled seeds; None where undefined.

    Args:
        values: A figure, or the difference of two, as `resampled_metrics` returns it: a line for each seed.
    """
    seeds = np.random.default_rng(1).integers(len(values), size=(RESAMPLES, len(values)))
    resampled = values[:, 1:][seeds, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    return optional_estimate(float(values[:, 0].mean()), resampled)


def _hashable(groups: list[str] | None) -> tuple[str, ...] | None:
    return None if groups is None else tuple(groups)


@lru_cache(maxsize=2)  # a task's test rows and those of its transfer set
def _weights(rows: int, groups: tuple[str, ...] | None) -> Counts:
    """How often each row counts, (1 + RESAMPLES, rows): first once, then as often as it was drawn."""
    drawn = row_weights(rows, groups, RESAMPLES, np.random.default_rng(0))
    return np.concatenate([np.ones((1, rows), dtype=np.int64), *drawn])


def _label_figures(
    truth: Sequence[str], scored: Predictions, weights: Counts, counted: RowMask, inputs: TaskInputs
) -> dict[str, Values]:
    names = inputs.task.names
    said = np.array([0 if label is None else names.index(label) for label in scored.labels])
    wanted = np.array([names.index(label) for label in truth])
    cells = np.eye(len(names) ** 2)[wanted * len(names) + said] * counted[:, None]
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


def _set_figures(
    truth: Sequence[str], scored: Predictions, weights: Counts, counted: RowMask, inputs: TaskInputs
) -> dict[str, Values]:
    """The same of a multilabel task."""
    pairs = [(wanted, said) for wanted, said, counts in zip(truth, scored.labels, counted, strict=True) if counts]
    reference = encode_label_sets([wanted for wanted, _ in pairs], inputs.task, "reference")
    coded = encode_label_sets([said for _, said in pairs if said is not None], inputs.task, "coded")
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
    """The difference of two conditions, paired by seed and by test row.

    Attributes:
        macro_f1, f1: Difference of the means over the seeds that both have, on the rows that both code, with a 95 %
            interval over these seeds and rows; None where undefined.
        seeds: How many seeds both have, and how many either has.
        rows: How many test rows both code, and how many there are.
    """

    macro_f1: Estimate | None
    f1: Estimate | None
    seeds: tuple[int, int]
    rows: tuple[int, int]

    @property
    def part(self) -> str:
        """What it stands on where that is not all: ``2 of 3 seeds, 14 of 20 rows``; else empty."""
        counts = {"seeds": self.seeds, "rows": self.rows}
        return ", ".join(f"{both} of {there} {what}" for what, (both, there) in counts.items() if both < there)


def difference_to(lines: Sequence[ResultRow], others: Sequence[ResultRow], inputs: TaskInputs) -> Difference:
    """Return how much a condition is above another one.

    Args:
        lines: The condition's students on one set of test rows, at least one.
        others: Those of the other condition on the same rows, at least one.
        inputs: Their task.
    """
    ours, theirs = _by_seed(lines, others), _by_seed(others, lines)
    shared = sorted(ours.keys() & theirs.keys())
    seeds = (len(shared), len(ours.keys() | theirs.keys()))
    pairs = [ours[seed] for seed in shared], [theirs[seed] for seed in shared]
    counted = coded_rows([*pairs[0], *pairs[1]] or lines)
    rows = (int(counted.sum()), len(counted))
    if not shared or not rows[0]:
        return Difference(None, None, seeds, rows)
    above, below = (resampled_metrics(each, counted, inputs) for each in pairs)
    return Difference(
        mean_over_seeds(above["macro_f1"] - below["macro_f1"]), mean_over_seeds(above["f1"] - below["f1"]), seeds, rows
    )


def _by_seed(lines: Sequence[ResultRow], others: Sequence[ResultRow]) -> dict[int, ResultRow]:
    """Lines by seed; the teacher itself has no seed and stands beside each of the others'."""
    if lines[0].plan.learner == "teacher":
        return {other.plan.seed: lines[0] for other in others}
    return {line.plan.seed: line for line in lines}


@dataclass(frozen=True, slots=True)
class ConditionSummary:
    """A condition over its seeds, on one set of test rows.

    Attributes:
        lines: Its students, one per seed, in the order of the seeds.
        macro_f1, kappa, f1, precision, recall: Means over seeds, with 95 % intervals over rows and seeds; None where
            undefined. The last three are the positive label's, or means over labels.
        auc: Mean over seeds; None where undefined.
        spread: Standard deviation of macro-F1 over seeds; None of a single one.
        gain: How much it is above the condition that it is compared with; None without one.
    """

    lines: tuple[ResultRow, ...]
    macro_f1: Estimate | None
    kappa: Estimate | None
    f1: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    auc: float | None
    spread: float | None
    gain: Difference | None

    @property
    def first(self) -> ResultRow:
        """The line that names it."""
        return self.lines[0]


def result_rows(plan: RunPlan, outcome: RunResult, inputs: TaskInputs) -> Iterator[ResultRow]:
    """Yield a line for each student and each set of test rows."""
    for point in outcome.points:
        for scored in point.scored:
            yield ResultRow(plan, point, scored, _figures(scored, inputs))


def _figures(scored: Predictions, inputs: TaskInputs) -> Metrics:
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


def summaries(lines: Iterable[ResultRow], task_inputs: Mapping[str, TaskInputs]) -> list[ConditionSummary]:
    """Return every condition of every task on each of its sets of test rows, in the order of the lines."""
    # By seed as well: a run that is told twice counts once.
    conditions: dict[tuple[str, TestSet, str, int], dict[int, ResultRow]] = {}
    for line in lines:
        key = (line.plan.task, line.scored.test, line.plan.condition, line.point.block)
        conditions.setdefault(key, {})[line.plan.seed] = line
    students = {key: tuple(found[seed] for seed in sorted(found)) for key, found in conditions.items()}
    return [
        _summary(found, students.get((*key[:2], *_compared_with(found[0]))), task_inputs[key[0]])
        for key, found in students.items()
    ]


def _compared_with(line: ResultRow) -> tuple[str, int]:
    """The condition and block that a line is compared with: a student that went on, with what it was before."""
    return (line.plan.condition, 0) if line.point.block else (line.plan.reference, 0)


def _summary(
    lines: tuple[ResultRow, ...], others: tuple[ResultRow, ...] | None, inputs: TaskInputs
) -> ConditionSummary:
    scores = [line.figures.agreement.macro_f1.value for line in lines if line.figures.agreement.macro_f1]
    areas = [line.figures.auc.value for line in lines if line.figures.auc]
    found = {
        name: mean_over_seeds(values) for name, values in resampled_metrics(lines, coded_rows(lines), inputs).items()
    }
    return ConditionSummary(
        lines=lines,
        **found,
        auc=float(np.mean(areas)) if areas else None,
        spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        gain=difference_to(lines, others, inputs) if others else None,
    )
