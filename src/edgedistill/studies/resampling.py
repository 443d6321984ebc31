"""Figures of students on resampled test rows and seeds; every condition of a task is computed on the same ones."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement import Estimate
from edgedistill.agreement.bootstrap import defined, groups_of, row_weights
from edgedistill.agreement.label_sets import figure_of, held_labels, macro_of, mean_kappas, tallies
from edgedistill.agreement.statistics import Counts, Values, f1s, kappas, macro, macro_f1s, precisions, recalls
from edgedistill.studies.material import Material
from edgedistill.studies.types import Line, Scored

RESAMPLES = 2000
_OF_LABELS = {"f1": f1s, "precision": precisions, "recall": recalls}

Counted: TypeAlias = NDArray[np.bool_]
"""Of each test row, whether it counts, (rows,)."""


def coded_rows(lines: Sequence[Line]) -> Counted:
    """Return the test rows that every line codes; there is at least one line, and all are on the same test rows."""
    codings = zip(*(line.scored.labels for line in lines), strict=True)
    return np.array([None not in coding for coding in codings])


def figures_of(lines: Sequence[Line], counted: Counted, material: Material) -> dict[str, Values]:
    """Return every figure of each line: of the rows as they are, then of each resample.

    Args:
        lines: Students of one task on one set of test rows.
        counted: The rows that count; each line codes them.
        material: The task.

    Returns:
        `macro_f1`, `kappa`, `f1`, `precision` and `recall`, each (lines, 1 + RESAMPLES); NaN where undefined. The last
        three are the positive label's, or means over labels.
    """
    rows = material.tests[lines[0].scored.test]
    weights = _weights(len(rows), _hashable(groups_of([response.group for response in rows.responses])))
    of_one = _set_figures if material.task.kind == "multilabel" else _label_figures
    found = [of_one(rows.labels, line.scored, weights, counted, material) for line in lines]
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def over_seeds(values: Values) -> Estimate | None:
    """Return the mean over seeds, with the interval over resampled rows and resampled seeds; None where undefined.

    Args:
        values: A figure, or the difference of two, as `figures_of` returns it: a line for each seed.
    """
    seeds = np.random.default_rng(1).integers(len(values), size=(RESAMPLES, len(values)))
    resampled = values[:, 1:][seeds, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    return defined(float(values[:, 0].mean()), resampled)


def _hashable(groups: list[str] | None) -> tuple[str, ...] | None:
    return None if groups is None else tuple(groups)


@lru_cache(maxsize=2)  # a task's test rows and those of its transfer set
def _weights(rows: int, groups: tuple[str, ...] | None) -> Counts:
    """How often each row counts, (1 + RESAMPLES, rows): first once, then as often as it was drawn."""
    drawn = row_weights(rows, groups, RESAMPLES, np.random.default_rng(0))
    return np.concatenate([np.ones((1, rows), dtype=np.int64), *drawn])


def _label_figures(
    truth: Sequence[str], scored: Scored, weights: Counts, counted: Counted, material: Material
) -> dict[str, Values]:
    names = material.task.names
    said = np.array([0 if label is None else names.index(label) for label in scored.labels])
    wanted = np.array([names.index(label) for label in truth])
    cells = np.eye(len(names) ** 2)[wanted * len(names) + said] * counted[:, None]
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


def _set_figures(
    truth: Sequence[str], scored: Scored, weights: Counts, counted: Counted, material: Material
) -> dict[str, Values]:
    """The same of a multilabel task."""
    pairs = [(wanted, said) for wanted, said, counts in zip(truth, scored.labels, counted, strict=True) if counts]
    reference = held_labels([wanted for wanted, _ in pairs], material.task, "reference")
    coded = held_labels([said for _, said in pairs if said is not None], material.task, "coded")
    counts = tallies(reference, coded, weights[:, counted])
    found = {"macro_f1": macro_of(f1s)(counts), "kappa": mean_kappas(counts)}
    for name, statistic in _OF_LABELS.items():
        if material.positive is None:
            found[name] = macro_of(statistic)(counts)
        else:
            found[name] = np.nan_to_num(figure_of(statistic, material.task.names.index(material.positive))(counts))
    return found
