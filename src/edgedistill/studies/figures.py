"""From what students said to figures: of one student, and of a condition over its seeds.

measured(plan, outcome, material) -> Lines      one student on one set of test rows each, with intervals over the rows
summaries(lines, material) -> Summaries         a condition over its seeds, with intervals over rows and seeds

A condition's interval is a bootstrap in which test rows and seeds are both drawn with replacement: the spread of test
rows and the spread of students are in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.agreement import Estimate, agreement, probability_figures
from edgedistill.agreement.bootstrap import groups_of
from edgedistill.records import TestRows
from edgedistill.studies.gains import Gain, gain_over
from edgedistill.studies.material import Material
from edgedistill.studies.resampling import RESAMPLES, coded_rows, figures_of, over_seeds
from edgedistill.studies.types import Figures, Line, Outcome, Plan, Scored, TestSet


@dataclass(frozen=True, slots=True)
class Summary:
    """A condition over its seeds, on one set of test rows.

    Attributes:
        lines: Its students, one per seed, in the order of the seeds.
        macro_f1, kappa, f1, precision, recall: Means over seeds, with 95 % intervals over rows and seeds; None where
            undefined. The last three are the positive label's, or means over labels.
        auc: Mean over seeds; None where undefined.
        spread: Standard deviation of macro-F1 over seeds; None of a single one.
        gain: How much it is above the condition that it is compared with; None without one.
    """

    lines: tuple[Line, ...]
    macro_f1: Estimate | None
    kappa: Estimate | None
    f1: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    auc: float | None
    spread: float | None
    gain: Gain | None

    @property
    def first(self) -> Line:
        """The line that names it."""
        return self.lines[0]


def measured(plan: Plan, outcome: Outcome, material: Material) -> Iterator[Line]:
    """Yield a line for each student and each set of test rows."""
    for point in outcome.points:
        for scored in point.scored:
            yield Line(plan, point, scored, _figures(scored, material))


def _figures(scored: Scored, material: Material) -> Figures:
    rows = material.tests[scored.test]
    coded = [place for place, label in enumerate(scored.labels) if label is not None]
    truth = [rows.labels[place] for place in coded]
    groups = _groups(rows, coded)
    found = agreement(
        truth,
        [label for label in scored.labels if label is not None],
        material.task,
        groups=groups,
        positive=material.positive,
        resamples=RESAMPLES,
    )
    return Figures(
        found, found.averages["binary" if material.positive else "macro"], _auc(scored, truth, material, groups)
    )


def _auc(scored: Scored, truth: Sequence[str], material: Material, groups: list[str] | None) -> Estimate | None:
    if scored.probabilities is None:
        return None
    probabilities = np.array(scored.probabilities)
    if material.task.kind != "multilabel":
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = probability_figures(truth, probabilities, material.task, groups=groups, resamples=RESAMPLES)
    return found.auc_per_label[material.positive] if material.positive else found.auc


def _groups(rows: TestRows, coded: Sequence[int]) -> list[str] | None:
    responses = rows.responses
    return groups_of([responses[place].group for place in coded])


def summaries(lines: Iterable[Line], materials: Mapping[str, Material]) -> list[Summary]:
    """Return every condition of every task on each of its sets of test rows, in the order of the lines."""
    # By seed as well: a run that is told twice counts once.
    conditions: dict[tuple[str, TestSet, str, int], dict[int, Line]] = {}
    for line in lines:
        key = (line.plan.task, line.scored.test, line.plan.condition, line.point.block)
        conditions.setdefault(key, {})[line.plan.seed] = line
    students = {key: tuple(found[seed] for seed in sorted(found)) for key, found in conditions.items()}
    return [
        _summary(found, students.get((*key[:2], *_compared_with(found[0]))), materials[key[0]])
        for key, found in students.items()
    ]


def _compared_with(line: Line) -> tuple[str, int]:
    """The condition and block that a line is compared with: a student that went on, with what it was before."""
    return (line.plan.condition, 0) if line.point.block else (line.plan.reference, 0)


def _summary(lines: tuple[Line, ...], others: tuple[Line, ...] | None, material: Material) -> Summary:
    scores = [line.figures.agreement.macro_f1.value for line in lines if line.figures.agreement.macro_f1]
    areas = [line.figures.auc.value for line in lines if line.figures.auc]
    found = {name: over_seeds(values) for name, values in figures_of(lines, coded_rows(lines), material).items()}
    return Summary(
        lines=lines,
        **found,
        auc=float(np.mean(areas)) if areas else None,
        spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        gain=gain_over(lines, others, material) if others else None,
    )
