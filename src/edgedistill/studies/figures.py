"""From what students said to figures: of one student, and of a condition over its seeds.

measured(plan, outcome, material) -> Lines      one student on one set of test rows each, with intervals over the rows
summaries(lines, material) -> Summaries         a condition over its seeds, with intervals over rows and seeds

A condition's interval is a bootstrap in which test rows and seeds are both drawn with replacement: the spread of test
rows and the spread of students are in it. All conditions of a task are computed on the same resampled rows, so that the
difference of two conditions is paired.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.agreement import Estimate, agreement, probability_figures
from edgedistill.agreement.bootstrap import defined, row_weights
from edgedistill.agreement.label_sets import figure_of, held_labels, macro_of, mean_kappas, tallies
from edgedistill.agreement.statistics import Counts, Values, f1s, kappas, macro, macro_f1s, precisions, recalls
from edgedistill.records import TestRows
from edgedistill.stages.gate import groups_of
from edgedistill.studies.material import Material
from edgedistill.studies.types import Figures, Line, Outcome, Plan, Scored, TestSet

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Summary:
    """A condition over its seeds, on one set of test rows.

    Attributes:
        lines: Its students, one per seed.
        macro_f1, kappa, f1, precision, recall: Means over seeds, with 95 % intervals over rows and seeds; None where
            undefined. The last three are the positive label's, or means over labels.
        auc: Mean over seeds; None where undefined.
        spread: Standard deviation of macro-F1 over seeds; None of a single one.
        gain: Macro-F1 less that of the condition that it is compared with, paired; None without one.
        f1_gain: The same of F1.
    """

    lines: tuple[Line, ...]
    macro_f1: Estimate | None
    kappa: Estimate | None
    f1: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    auc: float | None
    spread: float | None
    gain: Estimate | None
    f1_gain: Estimate | None

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
    conditions: dict[tuple[str, TestSet, str, int], list[Line]] = {}
    for line in lines:
        key = (line.plan.task, line.scored.test, line.plan.condition, line.point.block)
        conditions.setdefault(key, []).append(line)
    drawn: dict[tuple[str, TestSet, str, int], _Drawn] = {}
    for key, found in conditions.items():
        drawn[key] = _drawn(found, materials[key[0]])
    return [
        _summary(conditions[key], drawn[key], drawn.get((*key[:2], *_compared_with(conditions[key][0]))))
        for key in conditions
    ]


def _compared_with(line: Line) -> tuple[str, int]:
    """The condition and block that a line is compared with: a student that went on, with what it was before."""
    return (line.plan.condition, 0) if line.point.block else (line.plan.reference, 0)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A condition's figures: the mean over seeds, and the same of each resample."""

    means: Mapping[str, float]
    resampled: Mapping[str, Values]

    def estimate(self, name: str) -> Estimate | None:
        return defined(self.means[name], self.resampled[name])

    def gain(self, name: str, over: "_Drawn | None") -> Estimate | None:
        if over is None:
            return None
        return defined(self.means[name] - over.means[name], self.resampled[name] - over.resampled[name])


def _summary(lines: Sequence[Line], drawn: _Drawn, over: _Drawn | None) -> Summary:
    scores = [line.figures.agreement.macro_f1.value for line in lines if line.figures.agreement.macro_f1]
    areas = [line.figures.auc.value for line in lines if line.figures.auc]
    return Summary(
        lines=tuple(lines),
        macro_f1=drawn.estimate("macro_f1"),
        kappa=drawn.estimate("kappa"),
        f1=drawn.estimate("f1"),
        precision=drawn.estimate("precision"),
        recall=drawn.estimate("recall"),
        auc=float(np.mean(areas)) if areas else None,
        spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        gain=drawn.gain("macro_f1", over),
        f1_gain=drawn.gain("f1", over),
    )


def _drawn(lines: Sequence[Line], material: Material) -> _Drawn:
    """Compute every figure on the rows as they are and on resampled ones, then average over resampled seeds."""
    rows = material.tests[lines[0].scored.test]
    ones = np.ones((1, len(rows)), dtype=np.int64)
    # The same seed for every condition: they share the resampled rows and, as far as they have as many, the seeds.
    rng = np.random.default_rng(0)
    groups = groups_of([response.group for response in rows.responses])
    weights = np.concatenate(list(row_weights(len(rows), groups, RESAMPLES, rng)))
    figures_of = _set_figures if material.task.kind == "multilabel" else _label_figures
    by_seed = [figures_of(rows.labels, line.scored, np.concatenate([ones, weights]), material) for line in lines]
    seeds = np.random.default_rng(1).integers(len(lines), size=(RESAMPLES, len(lines)))
    means, resampled = {}, {}
    for name in by_seed[0]:
        values = np.array([each[name] for each in by_seed])
        means[name] = float(values[:, 0].mean())
        resampled[name] = values[:, 1:][seeds, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    return _Drawn(means, resampled)


def _label_figures(truth: Sequence[str], scored: Scored, weights: Counts, material: Material) -> dict[str, Values]:
    """Return every figure of each resample; rows that were left uncoded do not count."""
    names = material.task.names
    coded = np.array([label is not None for label in scored.labels])
    said = np.array([0 if label is None else names.index(label) for label in scored.labels])
    wanted = np.array([names.index(label) for label in truth])
    cells = np.eye(len(names) ** 2)[wanted * len(names) + said] * coded[:, None]
    confusions = np.rint(weights @ cells).astype(np.int64).reshape(-1, len(names), len(names))
    found = {
        "macro_f1": macro_f1s(confusions),
        "kappa": kappas(confusions, quadratic=material.task.kind == "ordinal"),
    }
    for name, statistic in _OF_LABELS.items():
        of_labels = statistic(confusions)
        if material.positive is None:
            found[name] = macro(of_labels, confusions)
        else:
            found[name] = np.nan_to_num(of_labels[:, names.index(material.positive)])
    return found


def _set_figures(truth: Sequence[str], scored: Scored, weights: Counts, material: Material) -> dict[str, Values]:
    """The same of a multilabel task."""
    coded = [place for place, label in enumerate(scored.labels) if label is not None]
    reference = held_labels([truth[place] for place in coded], material.task, "reference")
    said = held_labels([label for label in scored.labels if label is not None], material.task, "coded")
    counted = tallies(reference, said, weights[:, coded])
    found = {"macro_f1": macro_of(f1s)(counted), "kappa": mean_kappas(counted)}
    for name, statistic in _OF_LABELS.items():
        if material.positive is None:
            found[name] = macro_of(statistic)(counted)
        else:
            found[name] = np.nan_to_num(figure_of(statistic, material.task.names.index(material.positive))(counted))
    return found


_OF_LABELS = {"f1": f1s, "precision": precisions, "recall": recalls}
