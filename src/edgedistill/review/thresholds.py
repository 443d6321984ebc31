"""Which scores a person looks at: a threshold per label, chosen on validation rows by a stated aim.

Of a multilabel task the threshold is one for all labels: the least `Score.probability`, which there is the certainty of
the label that is least sure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import row_shares
from edgedistill.agreement.label_sets import held_labels
from edgedistill.agreement.statistics import kappas
from edgedistill.review.scores import Scores, ValidationScores
from edgedistill_serve.manifest import ReviewRule
from edgedistill_serve.task import Task

STEADYING = 20
"""Imaginary rows of each label whose probabilities are right, against which its validation rows count."""

_CANDIDATES = 200
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class KeepKappa:
    """Accept as much as keeps κ with the human codes at ``at_least``."""

    at_least: float
    aim: Literal["keep_kappa"] = "keep_kappa"


@dataclass(frozen=True, slots=True)
class AtMostToPeople:
    """Accept what is surest, and send the share of the rows that people have time for."""

    share: float
    aim: Literal["at_most_to_people"] = "at_most_to_people"


Aim: TypeAlias = KeepKappa | AtMostToPeople


@dataclass(frozen=True, slots=True)
class Choice:
    """A rule, and how it came about.

    Attributes:
        rule: What the bundle holds.
        aim: What was asked for; None: nothing, and no threshold was chosen.
        met: Whether validation rows could meet the aim; None without one.
        least_chance: The least estimated chance of being right that is accepted, of a multilabel task the least
            certainty; None where no threshold was needed.
        label_shifts: By label what is added to its probability to estimate that chance; empty for a multilabel task.
        notes: What a reader must know.
    """

    rule: ReviewRule = field(default_factory=ReviewRule)
    aim: Aim | None = None
    met: bool | None = None
    least_chance: float | None = None
    label_shifts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def label_shifts(scores: ValidationScores, temperature: float) -> dict[str, float]:
    """Say by how much each label is right more often than its probability says, in [-1, 1].

    One temperature serves all labels, and a rare one may still be surer than it should be. A label's shift is the mean
    of right (1) or wrong (0) less the probability, over the validation rows that got the label and `STEADYING`
    imaginary rows without a difference: with few rows it stays near 0. Of a multilabel task there is none: a certainty
    is no chance, it only orders rows.
    """
    if scores.task.kind == "multilabel":
        return {}
    probabilities = scores.probabilities(temperature)
    given = np.array(scores.labels)
    gaps = (given == np.array(scores.codes)) - probabilities.max(axis=1)
    return {
        label: float(gaps[given == label].sum() / ((given == label).sum() + STEADYING)) for label in scores.task.names
    }


def chances(scores: Scores, temperature: float, shifts: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the estimated chance that each row's label is right: its probability and its label's shift, (rows,)."""
    shift = [shifts.get(label, 0.0) for label in scores.labels]
    return np.asarray(scores.certainties(temperature) + shift, dtype=np.float64)


def choose_rule(scores: ValidationScores, temperature: float, aim: Aim | None, *, seed: int = 0) -> Choice:
    """Choose the thresholds that meet an aim, so that all labels are accepted at the same estimated chance.

    Blank and truncated responses go to a person whatever the aim.

    `KeepKappa`: of all accepted shares the largest whose κ on validation rows is `at_least` or more at the lower end of
    its 95 % interval, as at the gate. Where there is none, every response goes to a person. The interval is that of a
    Bayesian bootstrap (Rubin 1981) with one imaginary row that is coded by chance: a plain bootstrap would call a
    handful of rows without a mistake certain.

    `AtMostToPeople`: the threshold that sends this share of the validation rows to people, or just less. Where more are
    truncated anyway, no threshold is set and the aim is not met. The share on other rows scatters around it.

    Args:
        scores: Validation rows, at least one.
        temperature: Divides the logits.
        aim: What is asked for; None: no thresholds.
        seed: Of the resampling.
    """
    shifts = label_shifts(scores, temperature)
    if aim is None:
        return Choice(label_shifts=shifts)
    chance = chances(scores, temperature, shifts)
    readable = np.array([not encoded.truncated for encoded in scores.encoded])
    if isinstance(aim, KeepKappa):
        return _keep_kappa(scores, chance, readable, shifts, aim, seed)
    return _at_most(scores.task, chance, readable, shifts, aim)


def _at_most(
    task: Task,
    chance: NDArray[np.float64],
    readable: NDArray[np.bool_],
    shifts: Mapping[str, float],
    aim: AtMostToPeople,
) -> Choice:
    anyway = int((~readable).sum())
    to_people = int(aim.share * len(chance) + 1e-9) - anyway
    if to_people < 0:
        note = f"{anyway} of {len(chance)} validation rows are truncated and go to people anyway, more than the aim."
        return Choice(aim=aim, met=False, label_shifts=shifts, notes=(note,))
    least = _between(np.sort(chance[readable]), to_people)
    return _chosen(task, aim, least, shifts)


def _keep_kappa(
    scores: ValidationScores,
    chance: NDArray[np.float64],
    readable: NDArray[np.bool_],
    shifts: Mapping[str, float],
    aim: KeepKappa,
    seed: int,
) -> Choice:
    lows = _kappa_lows(scores, chance, readable, seed)
    for to_people, low in lows.items():
        if low >= aim.at_least:
            least = _between(np.sort(chance[readable]), to_people)
            return _chosen(scores.task, aim, least, shifts)
    note = (
        f"No part of the {int(readable.sum())} readable validation rows has a kappa whose interval stays at "
        f"{aim.at_least:g} or above (the best lower end is {max(lows.values(), default=float('nan')):.2f}), so every "
        "response goes to a person. Code more validation rows, mend the student, or aim lower."
    )
    # Only a probability of exactly 1 would still be accepted, which logits of a student do not give.
    return Choice(_rule(scores.task, 1.0, {}), aim, False, None, shifts, (note,))


def _kappa_lows(
    scores: Scores, chance: NDArray[np.float64], readable: NDArray[np.bool_], seed: int
) -> dict[int, float]:
    """The lower end of κ among the accepted rows, by how many of the readable rows go to people, from few to many."""
    if not readable.any():
        return {}
    order = np.flatnonzero(readable)[np.argsort(-chance[readable], kind="stable")]
    cells = _cells(scores)[order]
    shares, imaginary = row_shares(len(order), scores.groups_of(order), _RESAMPLES, np.random.default_rng(seed))
    lows = {}
    for to_people in np.unique(np.linspace(0, len(order) - 1, _CANDIDATES).astype(int)):
        accepted = len(order) - to_people
        drawn = (shares[:, :accepted] @ cells[:accepted].reshape(accepted, -1)).reshape(-1, *cells.shape[1:])
        own = cells[:accepted].sum(axis=0)
        by_chance = own.sum(axis=2)[:, :, None] * own.sum(axis=1)[:, None, :] / accepted**2
        tables = drawn + imaginary[:, None, None, None] * by_chance
        ordinal = scores.task.kind == "ordinal"
        found = kappas(tables.reshape(-1, *cells.shape[2:]), quadratic=ordinal).reshape(len(drawn), -1)
        defined = ~np.isnan(found).any(axis=0)
        if defined.any():
            lows[int(to_people)] = float(np.percentile(found[:, defined].mean(axis=1), 2.5))
    return lows


def _cells(scores: Scores) -> NDArray[np.float64]:
    """Where each row counts: in one confusion matrix, or in a table for each label; (rows, tables, size, size)."""
    labels = len(scores.task.names)
    if scores.task.kind == "multilabel":
        reference = held_labels(scores.codes, scores.task, "human").astype(int)
        places, shape = 2 * reference + held_labels(scores.labels, scores.task, "student"), (-1, labels, 2, 2)
        return np.asarray(np.eye(4)[places].reshape(shape), dtype=np.float64)
    truth = np.array([scores.task.names.index(code) for code in scores.codes])
    cells = np.eye(labels * labels)[truth * labels + scores.logits.argmax(axis=1)]
    return np.asarray(cells.reshape(-1, 1, labels, labels), dtype=np.float64)


def _between(rising: NDArray[np.float64], to_people: int) -> float | None:
    """The chance midway between the last row that goes to people and the first that does not; None where none goes."""
    if to_people == 0:
        return None
    return float(rising[to_people - 1 : to_people + 1].mean()) if to_people < len(rising) else float(rising[-1])


def _chosen(task: Task, aim: Aim, least: float | None, shifts: Mapping[str, float]) -> Choice:
    if least is None:
        return Choice(aim=aim, met=True, label_shifts=shifts, notes=("No response needs a threshold to meet the aim.",))
    return Choice(_rule(task, least, shifts), aim, True, least, shifts)


def _rule(task: Task, least: float, shifts: Mapping[str, float]) -> ReviewRule:
    if task.kind == "multilabel":
        return ReviewRule(least_certainty=least)
    return ReviewRule(thresholds={label: min(1.0, max(0.0, least - shifts.get(label, 0.0))) for label in task.names})
