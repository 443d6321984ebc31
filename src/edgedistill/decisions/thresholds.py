"""Decision rules: review thresholds per label, chosen on validation rows for a stated aim.

For multilabel tasks there is one threshold for all labels, on `Score.probability`: the confidence in the least certain
label.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import COEFFICIENT, TAILS, Rows
from edgedistill.agreement.confusion import kappas
from edgedistill.agreement.draws import additional_rows
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.decisions.calibration import Scores, ValidationScores
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.task import Task

TIE_TOLERANCE = 1e-6
"""Confidences that differ by no more are ties. Logits are float32, whose spacing near 8 is 1e-6."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Rows in descending order of confidence, in blocks of ties; thresholds lie between blocks.

    The distance of a threshold from every confidence is at least half of `TIE_TOLERANCE`, far more than the rounding
    error of ``least - shift``, about 1e-16, with which a bundle compares probabilities.

    Attributes:
        places: Indices of the rows in the scores, the most confident first. Ties are sorted by human code, label and
            group, so that the order of the input has no effect.
        descending: The confidences in descending order, (rows,).
        ends: Cumulative numbers of rows of the blocks of ties; empty without rows.
    """

    places: NDArray[np.int64]
    descending: NDArray[np.float64]
    ends: NDArray[np.int64]

    def round_up(self, rows: int) -> int:
        """Return the number of rows in the fewest blocks that contain at least this many rows."""
        return int(self.ends[np.searchsorted(self.ends, rows)])

    def threshold(self, end: int) -> float | None:
        """Return the confidence midway between this many rows and the next; None if these are all rows.

        Args:
            end: One of `ends`.
        """
        return None if end == len(self.descending) else float(self.descending[end - 1 : end + 1].mean())


def rank_rows(scores: Scores, confidences: NDArray[np.float64], places: NDArray[np.int64]) -> Ranking:
    """Rank rows by confidence.

    Args:
        scores: Of all rows.
        confidences: Of all rows, (rows,).
        places: Indices of the rows to rank.
    """
    by_confidence = places[np.argsort(-confidences[places], kind="stable")]
    descending = confidences[by_confidence]
    last = np.append(descending[:-1] - descending[1:] > TIE_TOLERANCE, True)[: len(descending)]
    blocks = (last.cumsum() - last).tolist()
    labels, groups = scores.labels, scores.groups or ("",) * len(scores)
    order = sorted(
        (block, scores.codes[place], labels[place], groups[place], place)
        for block, place in zip(blocks, by_confidence.tolist(), strict=True)
    )
    return Ranking(np.array([row[-1] for row in order], dtype=np.int64), descending, np.flatnonzero(last) + 1)


PSEUDO_ROWS = 20
"""Perfectly calibrated pseudo-rows per label that shrink its shift towards 0."""

_MAX_CANDIDATES = 200
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class KeepKappa:
    """Accept as many rows as possible with a lower limit of κ of at least ``at_least``."""

    at_least: float
    aim: Literal["keep_kappa"] = "keep_kappa"


@dataclass(frozen=True, slots=True)
class AtMostToPeople:
    """Send at most this share of the rows to people, the least confident first."""

    share: float
    aim: Literal["at_most_to_people"] = "at_most_to_people"


ReviewAim: TypeAlias = KeepKappa | AtMostToPeople


@dataclass(frozen=True, slots=True)
class ChosenRule:
    """A review rule and how it was chosen.

    Attributes:
        rule: The rule of the bundle.
        aim: Its aim; None if there is none and no threshold was chosen.
        met: Whether the validation rows meet the aim; None without an aim.
        least_chance: Lowest accepted value of `adjusted_confidences`; None if no threshold is needed.
        label_shifts: By label, the value added to the probability for the adjusted confidence; empty for multilabel
            tasks.
        notes: Warnings for the reader.
    """

    rule: ReviewRule = field(default_factory=ReviewRule)
    aim: ReviewAim | None = None
    met: bool | None = None
    least_chance: float | None = None
    label_shifts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def label_shifts(scores: ValidationScores, temperature: float) -> dict[str, float]:
    """Return the underconfidence of each label: its accuracy minus its mean probability, in [-1, 1].

    One temperature applies to all labels, so that a rare label may still be overconfident. The mean is over the
    validation rows assigned the label and `PSEUDO_ROWS` pseudo-rows with a difference of 0, which keep the shift near 0
    if there are few rows. Multilabel tasks have no shifts, because their confidence is not a probability.
    """
    if scores.task.kind == "multilabel":
        return {}
    probabilities = scores.probabilities(temperature)
    assigned = np.array(scores.labels)
    gaps = (assigned == np.array(scores.codes)) - probabilities.max(axis=1)
    # An exact sum does not depend on the order of the rows.
    return {
        label: math.fsum(gaps[assigned == label]) / (int((assigned == label).sum()) + PSEUDO_ROWS)
        for label in scores.task.names
    }


def adjusted_confidences(scores: Scores, temperature: float, shifts: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the estimated probability that each label is correct, (rows,): confidence plus the shift of the label."""
    shift = [shifts.get(label, 0.0) for label in scores.labels]
    return np.asarray(scores.confidences(temperature) + shift, dtype=np.float64)


def choose_rule(
    scores: ValidationScores,
    temperature: float,
    aim: ReviewAim | None,
    *,
    always: ReviewRule = ReviewRule(),  # noqa: B008  # frozen
    seed: int = 0,
) -> ChosenRule:
    """Choose the thresholds that meet an aim, with the same adjusted confidence for all labels.

    Blank, unreadable and truncated responses always go to a person. Ties (`TIE_TOLERANCE`) are accepted together or not
    at all, so that the order of the rows has no effect.

    `KeepKappa` accepts the largest share of the validation rows for which the lower limit of the 95 % interval of κ is
    at least `at_least`. If there is none, every response goes to a person, except for a probability of exactly 1. The
    interval is that of `edgedistill.agreement`, with copies of a row (equal tokens) resampled together if there are no
    groups. Rows that all belong to one group show nothing about others.

    `AtMostToPeople` sends at most this share of the validation rows to people, and less only because of ties. If more
    rows are blank or truncated, no threshold is set and the aim is not met. The share on other rows varies around it.

    Args:
        scores: Of the validation rows, at least one.
        temperature: Divides the logits.
        aim: The aim; None for no thresholds.
        always: The rule without thresholds.
        seed: Of the resampling.
    """
    shifts = label_shifts(scores, temperature)
    if aim is None:
        return ChosenRule(always, label_shifts=shifts)
    readable = np.array([score.decision == "accept" for score in scores.apply_rule(temperature, always)])
    ranking = rank_rows(scores, adjusted_confidences(scores, temperature, shifts), np.flatnonzero(readable))
    if isinstance(aim, KeepKappa):
        chosen = _keep_kappa(scores, temperature, ranking, shifts, aim, seed)
    else:
        chosen = _at_most(scores, ranking, shifts, aim)
    thresholds, least = chosen.rule.thresholds, chosen.rule.least_certainty
    return replace(chosen, rule=msgspec.structs.replace(always, thresholds=thresholds, least_certainty=least))


def _at_most(scores: Scores, ranking: Ranking, shifts: Mapping[str, float], aim: AtMostToPeople) -> ChosenRule:
    readable = len(ranking.places)
    unreadable = len(scores) - readable
    to_people = int(aim.share * len(scores) + 1e-9) - unreadable
    if to_people < 0:
        note = (
            f"{unreadable} of {len(scores)} validation rows are blank, unreadable or truncated and always go to "
            "people, which is more than the aim allows."
        )
        return ChosenRule(aim=aim, met=False, label_shifts=shifts, notes=(note,))
    end = ranking.round_up(readable - to_people)
    notes: tuple[str, ...] = ()
    if readable - end < to_people:
        note = (
            f"{readable - end} of the {readable} readable validation rows go to people, although the aim allows "
            f"{to_people}: the next tied group would exceed your limit."
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
        f"No share of the {len(confidences)} readable validation rows has a lower limit of kappa of at least "
        f"{aim.at_least:g} (the highest is {best:.2f}), so every response goes to a person. Code more validation rows, "
        "improve the student, or lower the aim."
    )
    certain = int((confidences == 1).sum())
    if certain:
        note += f" A probability of exactly 1, which {certain} validation rows have, passes any threshold."
    return ChosenRule(_rule(scores.task, 1.0, {}), aim, False, None, shifts, (note,))


def _kappa_lows(
    scores: Scores, confidences: NDArray[np.float64], ranking: Ranking, shifts: Mapping[str, float], seed: int
) -> Iterator[tuple[float | None, float]]:
    """Yield minimum confidences, and the lower limit of κ among the rows accepted with each, from many rows to few."""
    rows = len(ranking.places)
    if not rows:
        return
    cells = _cells(scores)[ranking.places]
    labels = np.array(scores.labels)[ranking.places].tolist()
    # Without groups, copies of a row are resampled together: the student labels them alike.
    groups = scores.groups_at(ranking.places) or [str(scores.encoded[place].ids) for place in ranking.places]
    sample, rng = Rows.of(rows, groups), np.random.default_rng(seed)
    if sample.unknown:  # nothing can be inferred from one group
        return
    weights = np.concatenate(list(sample.draw_rows(_RESAMPLES, rng)))
    equal = np.array([one == other for one, other in zip(scores.labels, scores.codes, strict=True)], dtype=np.float64)
    additional = sample.draw_additional(equal[ranking.places], _RESAMPLES, rng)[1:]
    sizes = rows - np.linspace(0, rows - 1, _MAX_CANDIDATES).astype(int)
    for end in dict.fromkeys(map(ranking.round_up, sizes)):
        least = ranking.threshold(end)
        accepted = confidences >= _least_probabilities(scores.task, least, shifts, labels)
        counted = cells * accepted[:, None, None, None]
        drawn = (weights @ counted.reshape(rows, -1)).reshape(-1, *cells.shape[1:])
        observed = counted.sum(axis=0)
        ordinal = scores.task.kind == "ordinal"
        defined = ~np.isnan(kappas(observed, quadratic=ordinal))
        if not defined.any():
            continue
        wrong = additional_rows(observed)[0] / np.sqrt(defined.sum())
        tables = (drawn + additional[:, None, None, None] * wrong)[:, defined]
        resampled = kappas(tables.reshape(-1, *cells.shape[2:]), quadratic=ordinal).reshape(len(drawn), -1)
        lows = np.nan_to_num(resampled, nan=COEFFICIENT[0]).mean(axis=1)
        yield least, float(np.quantile(lows, TAILS[0]))


def _least_probabilities(
    task: Task, least: float | None, shifts: Mapping[str, float], labels: Sequence[str]
) -> NDArray[np.float64]:
    """Return the threshold of each row, as applied by `edgedistill_serve.scoring.score.judge`."""
    rule = ReviewRule() if least is None else _rule(task, least, shifts)
    return np.array([rule.thresholds.get(label, rule.least_certainty) for label in labels])


def _cells(scores: Scores) -> NDArray[np.float64]:
    """Return the contribution of each row to the confusion matrix, or to the tables of labels: (rows, tables, k, k)."""
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
        notes = (*notes, "The aim is met without a threshold.")
        return ChosenRule(aim=aim, met=True, label_shifts=shifts, notes=notes)
    return ChosenRule(_rule(task, least, shifts), aim, True, least, shifts, notes)


def _rule(task: Task, least: float, shifts: Mapping[str, float]) -> ReviewRule:
    if task.kind == "multilabel":
        return ReviewRule(least_certainty=least)
    return ReviewRule(thresholds={label: min(1.0, max(0.0, least - shifts.get(label, 0.0))) for label in task.names})
