"""Which scores a person looks at: a threshold per label, chosen on validation rows by a stated aim."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import row_shares
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
        least_chance: The least estimated chance of being right that is accepted; None where no threshold was needed.
        label_shifts: By label what is added to its probability to estimate that chance.
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
    imaginary rows without a difference: with few rows it stays near 0.
    """
    probabilities = scores.probabilities(temperature)
    given = np.array(scores.labels)
    gaps = (given == np.array(scores.codes)) - probabilities.max(axis=1)
    return {
        label: float(gaps[given == label].sum() / ((given == label).sum() + STEADYING)) for label in scores.task.names
    }


def chances(scores: Scores, temperature: float, shifts: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the estimated chance that each row's label is right: its probability and its label's shift, (rows,)."""
    surest = scores.probabilities(temperature).max(axis=1)
    return np.asarray(surest + [shifts[label] for label in scores.labels], dtype=np.float64)


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
    everything = ReviewRule(thresholds=dict.fromkeys(scores.task.names, 1.0))
    return Choice(everything, aim, False, None, shifts, (note,))


def _kappa_lows(
    scores: Scores, chance: NDArray[np.float64], readable: NDArray[np.bool_], seed: int
) -> dict[int, float]:
    """The lower end of κ among the accepted rows, by how many of the readable rows go to people, from few to many."""
    if not readable.any():
        return {}
    labels = len(scores.task.names)
    order = np.flatnonzero(readable)[np.argsort(-chance[readable], kind="stable")]
    truth = np.array([scores.task.names.index(code) for code in scores.codes])[order]
    given = scores.logits.argmax(axis=1)[order]
    cells = np.eye(labels * labels)[truth * labels + given]
    shares, imaginary = row_shares(len(order), scores.groups_of(order), _RESAMPLES, np.random.default_rng(seed))
    lows = {}
    for to_people in np.unique(np.linspace(0, len(order) - 1, _CANDIDATES).astype(int)):
        accepted = len(order) - to_people
        drawn = (shares[:, :accepted] @ cells[:accepted]).reshape(-1, labels, labels)
        own = cells[:accepted].sum(axis=0).reshape(labels, labels)
        by_chance = np.outer(own.sum(axis=1), own.sum(axis=0)) / accepted**2
        found = kappas(drawn + imaginary[:, None, None] * by_chance, quadratic=scores.task.kind == "ordinal")
        if not np.isnan(found).any():
            lows[int(to_people)] = float(np.percentile(found, 2.5))
    return lows


def _between(rising: NDArray[np.float64], to_people: int) -> float | None:
    """The chance midway between the last row that goes to people and the first that does not; None where none goes."""
    if to_people == 0:
        return None
    return float(rising[to_people - 1 : to_people + 1].mean()) if to_people < len(rising) else float(rising[-1])


def _chosen(task: Task, aim: Aim, least: float | None, shifts: Mapping[str, float]) -> Choice:
    if least is None:
        return Choice(aim=aim, met=True, label_shifts=shifts, notes=("No response needs a threshold to meet the aim.",))
    thresholds = {label: min(1.0, max(0.0, least - shifts[label])) for label in task.names}
    return Choice(ReviewRule(thresholds=thresholds), aim, True, least, shifts)
