"""Decision rules: a threshold for each label, chosen on validation rows by a stated aim.

Of a multilabel task the threshold is one for all labels: the least `Score.probability`, which there is the certainty of
the label that is least sure.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import bayesian_row_weights
from edgedistill.agreement.confusion import kappas
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.decisions.calibration import Scores, ValidationScores
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.task import Task

TIE_TOLERANCE = 1e-6
"""Chances that lie no further apart are equal. Logits are float32, and near 8 the next one lies 1e-6 away."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Rows by their chance, falling, in blocks of equal chance: a threshold lies between two blocks, never in one.

    Half of `TIE` or more lies between a threshold and any row's chance. So the rounding of ``least - shift``, which a
    bundle holds against a probability, moves no row to the other side: that is about 1e-16.

    Attributes:
        places: Where each row stands in the scores, the surest first. Rows of a block stand by human code, label and
            group; which of them came first shows nowhere.
        falling: The chances, the highest first, (rows,).
        ends: How many rows the surest block has, the two surest, and so on to all rows; empty where there are none.
    """

    places: NDArray[np.int64]
    descending: NDArray[np.float64]
    ends: NDArray[np.int64]

    def at_least(self, rows: int) -> int:
        """Return how many rows the fewest blocks hold that hold this many rows, which is at most all."""
        return int(self.ends[np.searchsorted(self.ends, rows)])

    def threshold(self, end: int) -> float | None:
        """Return the chance midway between this many rows and the next; None where these are all.

        Args:
            end: One of `ends`.
        """
        return None if end == len(self.descending) else float(self.descending[end - 1 : end + 1].mean())


def rank_rows(scores: Scores, chance: NDArray[np.float64], places: NDArray[np.int64]) -> Ranking:
    """Rank some rows.

    Args:
        scores: Of all rows.
        chance: How surely each of them is right, (all rows,).
        places: Which rows to rank.
    """
    by_chance = places[np.argsort(-chance[places], kind="stable")]
    descending = chance[by_chance]
    last = np.append(descending[:-1] - descending[1:] > TIE_TOLERANCE, True)[: len(descending)]
    blocks = (last.cumsum() - last).tolist()
    labels, groups = scores.labels, scores.groups or ("",) * len(scores)
    order = sorted(
        (block, scores.codes[place], labels[place], groups[place], place)
        for block, place in zip(blocks, by_chance.tolist(), strict=True)
    )
    return Ranking(np.array([row[-1] for row in order], dtype=np.int64), descending, np.flatnonzero(last) + 1)


PSEUDO_ROWS = 20
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


ReviewAim: TypeAlias = KeepKappa | AtMostToPeople


@dataclass(frozen=True, slots=True)
class ChosenRule:
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
    aim: ReviewAim | None = None
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
    # Summed without rounding, so that the order of the rows leaves no trace in the thresholds.
    return {
        label: math.fsum(gaps[given == label]) / (int((given == label).sum()) + PSEUDO_ROWS)
        for label in scores.task.names
    }


def adjusted_confidences(scores: Scores, temperature: float, shifts: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the estimated chance that each row's label is right: its probability and its label's shift, (rows,)."""
    shift = [shifts.get(label, 0.0) for label in scores.labels]
    return np.asarray(scores.confidences(temperature) + shift, dtype=np.float64)


def choose_rule(scores: ValidationScores, temperature: float, aim: ReviewAim | None, *, seed: int = 0) -> ChosenRule:
    """Choose the thresholds that meet an aim, so that all labels are accepted at the same estimated chance.

    Blank and truncated responses go to a person whatever the aim. Rows of equal chance (`ranking.TIE`) are accepted
    together or not at all, since a threshold cannot tell them apart; their order changes nothing.

    `KeepKappa`: of all accepted shares the largest whose κ on validation rows is `at_least` or more at the lower end of
    its 95 % interval, as at the gate. Where there is none, every response goes to a person, but for one whose
    probability is exactly 1. The interval is that of a Bayesian bootstrap (Rubin 1981) with one imaginary row that is
    coded by chance: a plain bootstrap would call a handful of rows without a mistake certain.

    `AtMostToPeople`: the threshold that sends this share of the validation rows to people, or less: just less, unless
    many are of equal chance. Where more are blank or truncated anyway, no threshold is set and the aim is not met. The
    share on other rows scatters around it.

    Args:
        scores: Validation rows, at least one.
        temperature: Divides the logits.
        aim: What is asked for; None: no thresholds.
        seed: Of the resampling.
    """
    shifts = label_shifts(scores, temperature)
    if aim is None:
        return ChosenRule(label_shifts=shifts)
    readable = np.array([score.decision == "accept" for score in scores.apply_rule(temperature, ReviewRule())])
    ranking = rank_rows(scores, adjusted_confidences(scores, temperature, shifts), np.flatnonzero(readable))
    if isinstance(aim, KeepKappa):
        return _keep_kappa(scores, temperature, ranking, shifts, aim, seed)
    return _at_most(scores, ranking, shifts, aim)


def _at_most(scores: Scores, ranking: Ranking, shifts: Mapping[str, float], aim: AtMostToPeople) -> ChosenRule:
    readable = len(ranking.places)
    anyway = len(scores) - readable
    to_people = int(aim.share * len(scores) + 1e-9) - anyway
    if to_people < 0:
        note = (
            f"{anyway} of {len(scores)} validation rows are blank or truncated and go to people anyway, more than the "
            "aim."
        )
        return ChosenRule(aim=aim, met=False, label_shifts=shifts, notes=(note,))
    end = ranking.at_least(readable - to_people)
    notes: tuple[str, ...] = ()
    if readable - end < to_people:
        note = (
            f"People have time for {to_people} of the {readable} readable validation rows, and {readable - end} are "
            "sent: the next ones are equally sure, and all of them are too many."
        )
        notes = (note,)
    return _chosen(scores.task, aim, ranking.threshold(end), shifts, notes)


def _keep_kappa(
    scores: Scores,
    temperature: float,
    ranking: Ranking,
    shifts: Mapping[str, float],
    aim: KeepKappa,
    seed: int,
) -> ChosenRule:
    best = math.nan
    confidences = scores.confidences(temperature)[ranking.places]
    for least, low in _kappa_lows(scores, confidences, ranking, shifts, seed):
        if low >= aim.at_least:
            return _chosen(scores.task, aim, least, shifts)
        best = np.fmax(best, low)
    note = (
        f"No part of the {len(confidences)} readable validation rows has a kappa whose interval stays at "
        f"{aim.at_least:g} or above (the best lower end is {best:.2f}), so every response goes to a person. Code more "
        "validation rows, fix the student, or aim lower."
    )
    certain = int((confidences == 1).sum())
    if certain:
        note += f" But no threshold stops a probability of exactly 1, which {certain} validation rows have."
    return ChosenRule(_rule(scores.task, 1.0, {}), aim, False, None, shifts, (note,))


def _kappa_lows(
    scores: Scores, confidences: NDArray[np.float64], ranking: Ranking, shifts: Mapping[str, float], seed: int
) -> Iterator[tuple[float | None, float]]:
    """Yield a least chance and the lower end of κ among the rows that its rule accepts, from many rows to few."""
    rows = len(ranking.places)
    if not rows:
        return
    cells = _cells(scores)[ranking.places]
    labels = np.array(scores.labels)[ranking.places].tolist()
    shares, imaginary = bayesian_row_weights(
        rows, scores.groups_at(ranking.places), _RESAMPLES, np.random.default_rng(seed)
    )
    wanted = rows - np.linspace(0, rows - 1, _CANDIDATES).astype(int)
    for end in dict.fromkeys(map(ranking.at_least, wanted)):
        least = ranking.threshold(end)
        accepted = confidences >= _least_probabilities(scores.task, least, shifts, labels)
        counted = cells * accepted[:, None, None, None]
        drawn = (shares @ counted.reshape(rows, -1)).reshape(-1, *cells.shape[1:])
        own = counted.sum(axis=0)
        by_chance = own.sum(axis=2)[:, :, None] * own.sum(axis=1)[:, None, :] / accepted.sum() ** 2
        tables = drawn + imaginary[:, None, None, None] * by_chance
        ordinal = scores.task.kind == "ordinal"
        found = kappas(tables.reshape(-1, *cells.shape[2:]), quadratic=ordinal).reshape(len(drawn), -1)
        defined = ~np.isnan(found).any(axis=0)
        if defined.any():
            yield least, float(np.percentile(found[:, defined].mean(axis=1), 2.5))


def _least_probabilities(
    task: Task, least: float | None, shifts: Mapping[str, float], labels: Sequence[str]
) -> NDArray[np.float64]:
    """What a rule holds against each row's certainty, as `edgedistill_serve.scoring.score.judge` does."""
    rule = ReviewRule() if least is None else _rule(task, least, shifts)
    return np.array([rule.thresholds.get(label, rule.least_certainty) for label in labels])


def _cells(scores: Scores) -> NDArray[np.float64]:
    """Where each row counts: in one confusion matrix, or in a table for each label; (rows, tables, size, size)."""
    labels = len(scores.task.names)
    if scores.task.kind == "multilabel":
        reference = encode_label_sets(scores.codes, scores.task, "human").astype(int)
        places, shape = 2 * reference + encode_label_sets(scores.labels, scores.task, "student"), (-1, labels, 2, 2)
        return np.asarray(np.eye(4)[places].reshape(shape), dtype=np.float64)
    truth = np.array([scores.task.names.index(code) for code in scores.codes])
    cells = np.eye(labels * labels)[truth * labels + scores.logits.argmax(axis=1)]
    return np.asarray(cells.reshape(-1, 1, labels, labels), dtype=np.float64)


def _chosen(
    task: Task, aim: ReviewAim, least: float | None, shifts: Mapping[str, float], notes: tuple[str, ...] = ()
) -> ChosenRule:
    if least is None:
        notes = (*notes, "No response needs a threshold to meet the aim.")
        return ChosenRule(aim=aim, met=True, label_shifts=shifts, notes=notes)
    return ChosenRule(_rule(task, least, shifts), aim, True, least, shifts, notes)


def _rule(task: Task, least: float, shifts: Mapping[str, float]) -> ReviewRule:
    if task.kind == "multilabel":
        return ReviewRule(least_certainty=least)
    return ReviewRule(thresholds={label: min(1.0, max(0.0, least - shifts.get(label, 0.0))) for label in task.names})
