"""Decision rules: review thresholds per label, chosen on validation rows for a stated aim.

For multilabel tasks there is one threshold for all labels, on `Score.probability`: the confidence in the least certain
label.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import COEFFICIENT, Rows
from edgedistill.agreement.confusion import kappas
from edgedistill.agreement.draws import additional_rows
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.decisions.calibration import Scores, ValidationScores
from edgedistill.decisions.guarantee import (
    POWER,
    Evidence,
    Mask,
    least_rows,
    rows_needed,
    stated_sizes,
    walk,
)
from edgedistill.errors import ArgumentError
from edgedistill_serve.bundle.guarantee import Guarantee, GuaranteedPart, Scope, Unit
from edgedistill_serve.bundle.manifest import NEVER_ACCEPTED, Precision, ReviewRule
from edgedistill_serve.task.contexts import shown_hashes
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

KAPPA_STARTS = (0.25, 0.5, 0.75)
"""`KeepKappa` walks from each of these shares of the rows, because κ of few rows is too uncertain and that of many too
low."""
KAPPA_LEVEL = 0.05
"""The probability that κ is below the aim; each of the sequences has its part of it."""
_STEP = 0.05
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class KeepKappa:
    """Accept many rows with a lower limit of κ of at least ``at_least``."""

    at_least: float
    aim: Literal["keep_kappa"] = "keep_kappa"


@dataclass(frozen=True, slots=True)
class AtMostToPeople:
    """Send at most this share of the rows to people, the least confident first."""

    share: float
    aim: Literal["at_most_to_people"] = "at_most_to_people"


@dataclass(frozen=True, slots=True)
class AtMostWrong:
    """Accept many rows of which, with a stated confidence, at most a share differs from the human code.

    Attributes:
        share: The largest share of wrong codes among accepted responses, in (0, 1).
        confidence: The probability with which the promise is kept, in (0, 1).
        per_label: Whether it must hold for each label of the student; each then has its own threshold.
        groups: The column of groups in each of which it must hold; None for no groups.
    """

    share: float
    confidence: float = 0.95
    per_label: bool = False
    groups: str | None = None
    aim: Literal["at_most_wrong"] = "at_most_wrong"


@dataclass(frozen=True, slots=True)
class LeastProbability:
    """Accept what has at least this calibrated probability, whatever the validation rows are.

    It is the rule of a project that states none (docs/decisions/0078-a-rule-where-none-is-stated.md), and optimal where
    looking at a response costs ``1 - at_least`` times as much as a wrong code (Chow 1970,
    doi:10.1109/TIT.1970.1054406).

    Attributes:
        at_least: The smallest `Score.probability` that is accepted, in (0, 1].
    """

    at_least: float
    aim: Literal["least_probability"] = "least_probability"


ReviewAim: TypeAlias = KeepKappa | AtMostToPeople | AtMostWrong | LeastProbability


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a promise about other responses depends on besides the validation rows' scores.

    Attributes:
        compared: Number of students (checkpoints, settings, seeds) that were compared on the validation rows; the best
            of many is lucky on them.
        trained_contexts: `context_hash` of the questions of training rows.
        held_out: Whether the validation rows answer questions that were held out as a whole, which stand for new ones.
        graph: The graph whose scores are given; None for the student in PyTorch.
        others: The scores of the same rows by the bundle's other graphs, which must keep the promise, too.
    """

    compared: int = 1
    trained_contexts: Set[str] = frozenset()
    held_out: bool = False
    graph: Precision | None = None
    others: Mapping[Precision, ValidationScores] = field(default_factory=dict)


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
        guarantee: What is promised of the accepted responses; None if nothing is.
        labels_tested: For a promise that holds for each label: the number of labels among which the level of the tests
            was divided; else 0.
    """

    rule: ReviewRule = field(default_factory=ReviewRule)
    aim: ReviewAim | None = None
    met: bool | None = None
    least_chance: float | None = None
    label_shifts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    guarantee: Guarantee | None = None
    labels_tested: int = 0


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
    circumstances: Circumstances = Circumstances(),  # frozen
    seed: int = 0,
) -> ChosenRule:
    """Choose the thresholds that meet an aim.

    Responses that a person reviews in any case (blank, unreadable, truncated, to a new question, unlike training) are
    never accepted. Ties (`TIE_TOLERANCE`) are accepted together or not
    at all, so that the order of the rows has no effect.

    `AtMostWrong` is the only aim that makes a promise about other responses; see docs/decision-rules.md. Numbers of the
    most confident rows, stated before the codes are looked at, are tested from few to many by exact binomial bounds
    until the first fails (`edgedistill.decisions.guarantee`). The confidence is the calibrated probability, without
    label shifts. The responses of a learner and copies of a row are not independent, and count as one. The level is
    divided by the number of students that were compared on the same rows. If nothing can be promised, every response
    goes to a person, and a note says how many more rows would be expected to be enough.

    `KeepKappa` tests shares of the validation rows from few to many until the first for which the lower confidence
    limit of κ is below `at_least`; of three such sequences, from a quarter, half and three quarters of the rows on,
    each at a third of the level, the largest share that passed is accepted. If there is none, every response goes to a
    person. The limit is that of `edgedistill.agreement`, with copies of a row (equal tokens) resampled together if
    there are no groups. Rows that all belong to one group show nothing about others.

    `AtMostToPeople` sends at most this share of the validation rows to people, and less only because of ties. If more
    rows go to people in any case, no threshold is set and the aim is not met. The share on other rows varies around it.

    `LeastProbability` is one threshold for all labels, which no row chooses.

    Args:
        scores: Of the validation rows, at least one.
        temperature: Divides the logits.
        aim: The aim; None for no thresholds.
        always: The rule without thresholds.
        circumstances: What a promise depends on besides.
        seed: Of the resampling.

    Raises:
        ArgumentError: The aim names groups, and the scores have none.
    """
    if isinstance(aim, AtMostWrong):
        return _at_most_wrong(scores, temperature, aim, always, circumstances)
    if isinstance(aim, LeastProbability):
        no_shifts = dict.fromkeys(scores.task.names if scores.task.kind != "multilabel" else (), 0.0)
        rule = _threshold_rule(scores.task, always, {ALL_LABELS: aim.at_least}, per_label=False)
        return ChosenRule(rule, aim, True, aim.at_least, no_shifts)
    shifts = label_shifts(scores, temperature)
    if aim is None:
        return ChosenRule(always, label_shifts=shifts)
    readable = _readable(scores, temperature, always)
    ranking = rank_rows(scores, adjusted_confidences(scores, temperature, shifts), np.flatnonzero(readable))
    if isinstance(aim, KeepKappa):
        chosen = _keep_kappa(scores, temperature, ranking, shifts, aim, circumstances.compared, seed)
    else:
        chosen = _at_most(scores, ranking, shifts, aim, _unfit_reasons(scores, temperature, always))
    return replace(chosen, rule=_with_thresholds(always, chosen.rule.thresholds, chosen.rule.least_certainty))


def _with_thresholds(always: ReviewRule, thresholds: Mapping[str, float], least_certainty: float = 0.0) -> ReviewRule:
    return msgspec.structs.replace(always, thresholds=dict(thresholds), least_certainty=least_certainty)


def _readable(scores: Scores, temperature: float, always: ReviewRule) -> Mask:
    return np.array([score.decision == "accept" for score in scores.apply_rule(temperature, always)])


def _unfit_reasons(scores: Scores, temperature: float, always: ReviewRule) -> Counter[str]:
    """Return how many rows go to people whatever their label is, by reason."""
    return Counter(score.reason for score in scores.apply_rule(temperature, always) if score.reason is not None)


ALL_LABELS = ""
"""The name of the part of the rows that holds all labels, where a promise is not made for each label."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The rows of a label, or all: their ranking, the sizes to test, and how many sizes have passed."""

    ranking: Ranking
    sizes: list[int]
    passed: int = 0

    @property
    def least(self) -> float | None:
        """The least confidence that is accepted; None if all are."""
        return self.ranking.threshold(self.sizes[self.passed - 1]) if self.passed else NEVER_ACCEPTED

    def least_at(self, step: int) -> float:
        """Return the least confidence that is accepted at a step."""
        least = self.ranking.threshold(self.sizes[step])
        return 0.0 if least is None else least


def _at_most_wrong(
    scores: ValidationScores, temperature: float, aim: AtMostWrong, always: ReviewRule, given: Circumstances
) -> ChosenRule:
    refused = _Refusal(scores.task, aim, always)
    if reason := _no_promise(scores, aim, always, given):
        return refused.because(reason)
    graphs = [_Graph.of(each, temperature, always) for each in (scores, *given.others.values())]
    first = graphs[0]
    evidence = _evidence(scores, aim, first.wrong, scope := _scope(scores, always))
    level = (1 - aim.confidence) / given.compared
    labels = np.array(scores.labels)
    parts = {
        label: np.flatnonzero(first.readable & (labels == label) if label else first.readable)
        for label in (scores.task.names if aim.per_label else (ALL_LABELS,))
    }
    rankings = {label: rank_rows(scores, first.confidences, places) for label, places in parts.items()}
    tested = _stated(rankings, evidence, aim.share, level)

    def passes(label: str, least: float, at: float) -> bool:
        """Test rows of a label down to a confidence, with the scores of each graph."""
        masks = ((graph, graph.accepted(label, least)) for graph in graphs)
        return all(evidence.of(graph.wrong).p_value(mask, aim.share) <= at for graph, mask in masks)

    tested = _walk_labels(tested, level, passes)
    if not any(part.passed for part in tested.values()):
        return refused.because(_not_enough(rankings, evidence, aim, level, given.compared))
    thresholds = {label: (0.0 if part.least is None else part.least) for label, part in tested.items() if part.passed}
    accepted = np.zeros(len(scores), dtype=np.bool_)
    for label, least in thresholds.items():
        accepted |= first.accepted(label, least)
    at = level / max(len(tested), 1)

    def shown(rows: Mask, at: float) -> GuaranteedPart:
        part = evidence.part(rows, at)
        return msgspec.structs.replace(part, bound=min(part.bound, aim.share))

    part = shown(accepted, level)
    guarantee = Guarantee(
        share=aim.share,
        confidence=aim.confidence,
        rows=len(scores),
        accepted=part.accepted,
        wrong=part.wrong,
        bound=part.bound,
        unit=_unit(scores, scope),
        units=evidence.units(accepted),
        scope=scope,
        questions=len(set(scores.questions or scores.contexts)),
        compared=given.compared,
        graphs=(*([given.graph] if given.graph else []), *given.others),
        labels={name: shown(first.accepted(name, least), at) for name, least in thresholds.items() if name},
        group_column=aim.groups or "",
        groups={name: shown(accepted & rows, level) for name, rows in evidence.groups.items()},
    )
    notes = _never_accepted(tested, rankings, aim, level) if aim.per_label else ()
    return ChosenRule(
        _threshold_rule(scores.task, always, thresholds, per_label=aim.per_label),
        aim,
        True,
        None if aim.per_label else thresholds[ALL_LABELS] or None,
        dict.fromkeys(scores.task.names if scores.task.kind != "multilabel" else (), 0.0),
        notes,
        guarantee,
        len(tested) if aim.per_label else 0,
    )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The rule that accepts nothing, because nothing can be promised."""

    task: Task
    aim: AtMostWrong
    always: ReviewRule

    def because(self, reason: str) -> ChosenRule:
        """Return the rule with the reason as its note."""
        return ChosenRule(
            _threshold_rule(self.task, self.always, {}, per_label=False),
            self.aim,
            False,
            None,
            dict.fromkeys(self.task.names if self.task.kind != "multilabel" else (), 0.0),
            (f"{reason} So every response goes to a person.",),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """The scores of the validation rows by one graph."""

    labels: NDArray[np.str_]
    wrong: Mask
    confidences: NDArray[np.float64]
    readable: Mask

    @classmethod
    def of(cls, scores: ValidationScores, temperature: float, always: ReviewRule) -> "_Graph":
        labels = np.array(scores.labels)
        wrong = labels != np.array(scores.codes)
        return cls(labels, wrong, scores.confidences(temperature), _readable(scores, temperature, always))

    def accepted(self, label: str, least: float) -> Mask:
        """Return which rows are accepted with a least confidence; `ALL_LABELS`: of any label."""
        accepted = self.readable & (self.confidences >= least)
        return accepted & (self.labels == label) if label else accepted


def _threshold_rule(task: Task, always: ReviewRule, thresholds: Mapping[str, float], *, per_label: bool) -> ReviewRule:
    """Return the rule with these least confidences; what is missing is never accepted."""
    common = thresholds.get(ALL_LABELS, NEVER_ACCEPTED)
    if task.kind == "multilabel":
        return _with_thresholds(always, {}, common)
    of = {label: thresholds.get(label, NEVER_ACCEPTED) if per_label else common for label in task.names}
    return _with_thresholds(always, of if any(of.values()) else {})


def _scope(scores: Scores, always: ReviewRule) -> Scope:
    if scores.questions:
        return "new questions"
    if not scores.contexts:
        return "responses"
    return "validated questions" if shown_hashes(scores.contexts).closed and always.new_question else "new questions"


def _unit(scores: Scores, scope: Scope) -> Unit:
    if scope == "new questions":
        return "learners and questions" if scores.groups else "questions"
    return "learners" if scores.groups else "rows"


def _no_promise(scores: Scores, aim: AtMostWrong, always: ReviewRule, given: Circumstances) -> str:
    """Return why nothing can be promised, whatever the codes are; empty if something may be."""
    if aim.groups and not scores.subgroups:
        raise ArgumentError(
            f"the validation rows have no column {aim.groups!r}", where="review.groups", hint="Name another column."
        )
    if aim.groups and not any(scores.subgroups):
        return f"No validation row has a value in the column {aim.groups!r}, in whose groups the promise must hold."
    if _scope(scores, always) != "new questions":
        return ""
    questions = set(scores.contexts)
    trained = questions & given.trained_contexts
    if trained:
        return (
            f"A promise about new questions needs validation questions that were not trained on; {len(trained)} of the "
            f"{len(questions)} are among the training rows. Hold out whole questions (data.questions: held_out)"
            f"{', or set new_questions: review' if shown_hashes(scores.contexts).closed else ''}."
        )
    return ""


def _evidence(scores: Scores, aim: AtMostWrong, wrong: Mask, scope: Scope) -> Evidence:
    clusters = [_numbered(scores.groups)] if scores.groups else [np.arange(len(scores))]
    if scope == "new questions":
        questions = _numbered(scores.questions or scores.contexts)
        clusters = [*clusters[: len(clusters) if scores.groups else 0], questions]
    copies = None if scores.groups else _numbered([str(row.ids) for row in scores.encoded])
    values = np.array(scores.subgroups if aim.groups else ())
    groups = {str(name): values == name for name in sorted(set(values.tolist())) if name}
    return Evidence(wrong, tuple(clusters), copies, groups)


def _numbered(names: Sequence[str]) -> NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _stated(rankings: Mapping[str, Ranking], evidence: Evidence, share: float, level: float) -> dict[str, _Part]:
    """Return the parts that are tested, with their sizes.

    Labels with too few rows for any test are left out, the smallest first, and the level is divided among the others.
    This uses the student's labels, not the human codes.
    """
    left = sorted(rankings, key=lambda label: len(rankings[label].places))
    while left:
        stated = {
            label: stated_sizes(rankings[label].places, rankings[label].ends, evidence, share, level / len(left))
            for label in left
        }
        if all(stated.values()):
            return {label: _Part(rankings[label], sizes) for label, sizes in stated.items()}
        left.remove(next(label for label in left if not stated[label]))
    return {}


def _walk_labels(
    tested: Mapping[str, _Part], level: float, passes: Callable[[str, float, float], bool]
) -> dict[str, _Part]:
    """Test the sizes of each part; the level of a part of which all sizes passed goes to the others.

    Passing on the level of a finished sequence keeps the probability of any wrong rejection at the level (Bretz et al.
    2009, doi:10.1002/sim.3495).
    """
    parts = dict(tested)
    while True:
        finished = [label for label, part in parts.items() if part.passed == len(part.sizes)]
        if len(finished) == len(parts):
            return parts
        at = level / (len(parts) - len(finished))
        walked = {label: replace(part, passed=_passed(label, part, at, passes)) for label, part in parts.items()}
        if all(walked[label].passed == parts[label].passed for label in parts):
            return parts
        parts = walked


def _passed(label: str, part: _Part, level: float, passes: Callable[[str, float, float], bool]) -> int:
    """Return how many sizes of a part pass at a level."""
    return walk(range(len(part.sizes)), lambda step: passes(label, part.least_at(step), level), part.passed)


def _never_accepted(
    tested: Mapping[str, _Part], rankings: Mapping[str, Ranking], aim: AtMostWrong, level: float
) -> tuple[str, ...]:
    at = level / max(len(tested), 1)
    few = [label for label in rankings if label not in tested]
    failed = [label for label, part in tested.items() if not part.passed]
    notes = []
    if few:
        counts = ", ".join(f"{label} ({len(rankings[label].places)} rows)" for label in few)
        notes.append(
            f"Too few validation rows for a promise about {counts}: at least {least_rows(aim.share, at)} independent "
            "ones without an error are needed. Responses with this label go to a person."
        )
    if failed:
        notes.append(f"The promise cannot be made for {', '.join(failed)}: responses with this label go to a person.")
    return tuple(notes)


def _not_enough(
    rankings: Mapping[str, Ranking], evidence: Evidence, aim: AtMostWrong, level: float, compared: int
) -> str:
    """Return that no threshold keeps the promise, and how many more rows would be expected to."""
    rows = sum(len(ranking.places) for ranking in rankings.values())
    if not rows:
        return f"Each of the {len(evidence.wrong)} validation rows goes to a person whatever its label is."
    at = level / len(rankings)
    text = (
        f"No threshold shows, on the {rows} validation rows that can be accepted, that at most {aim.share:.3g} of the "
        f"accepted codes are wrong with {aim.confidence:.0%} confidence."
    )
    least = least_rows(aim.share, at)
    text += f" At least {least} independent accepted rows without an error are needed"
    text += f" ({compared} students were compared on the same rows, which takes more)." if compared > 1 else "."
    few = {name: int(mask.sum()) for name, mask in evidence.groups.items() if mask.sum() < least}
    if few:
        text += f" Too small: {', '.join(f'{name} ({count})' for name, count in few.items())} in {aim.groups!r}."
    everything = np.ones(len(evidence.wrong), dtype=np.bool_)
    if (units := evidence.units(everything)) < len(evidence.wrong):
        text += f" The rows count like {math.floor(evidence.effective(everything))} independent ones ({units} units)."
    growth = [
        needed / len(ranking.places)
        for ranking in rankings.values()
        if len(ranking.places) and (needed := rows_needed(ranking.places, ranking.ends, evidence, aim.share, at))
    ]
    if growth:
        more = max(math.ceil((min(growth) - 1) * len(evidence.wrong)), 1)
        return (
            f"{text} About {more} more coded validation rows like these would be enough with a probability of "
            f"{POWER:.0%}, if the student errs on them as on these."
        )
    return f"{text} The student errs too often for more rows to help: improve it, or allow a larger share."


def _at_most(
    scores: Scores, ranking: Ranking, shifts: Mapping[str, float], aim: AtMostToPeople, unfit: Counter[str]
) -> ChosenRule:
    fit = len(ranking.places)
    to_people = int(aim.share * len(scores) + 1e-9) - unfit.total()
    if to_people < 0:
        counts = ", ".join(f"{number} {reason}" for reason, number in unfit.most_common())
        note = (
            f"{unfit.total()} of {len(scores)} validation rows always go to people ({counts}), which is more than the "
            "aim allows."
        )
        return ChosenRule(aim=aim, met=False, label_shifts=shifts, notes=(note,))
    end = ranking.round_up(fit - to_people)
    notes: tuple[str, ...] = ()
    if fit - end < to_people:
        note = (
            f"{fit - end} of the {fit} validation rows that can be accepted go to people, although the aim allows "
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
    compared: int,
    seed: int,
) -> ChosenRule:
    rows = len(ranking.places)
    parts = compared * len(KAPPA_STARTS)
    low = kappa_low(scores, scores.confidences(temperature)[ranking.places], ranking, shifts, parts, seed)
    lows: dict[int, float] = {}

    def passes(size: int) -> bool:
        if size not in lows:
            lows[size] = math.nan if low is None else low(size)
        return lows[size] >= aim.at_least

    accepted = 0
    for start in KAPPA_STARTS if rows else ():
        shares = np.arange(start, 1 + _STEP / 2, _STEP)
        sizes = list(dict.fromkeys(ranking.round_up(min(rows, math.ceil(share * rows))) for share in shares))
        if passed := walk(sizes, passes):
            accepted = max(accepted, sizes[passed - 1])
    if accepted:
        return _chosen(scores.task, aim, ranking.threshold(accepted), shifts)
    best = max((each for each in lows.values() if not math.isnan(each)), default=math.nan)
    note = (
        f"Among the most confident of the {rows} validation rows that can be accepted, the lower limit of kappa is "
        f"{'unknown' if math.isnan(best) else f'at most {best:.2f}'}, below {aim.at_least:g}, so every response goes "
        "to a person. Code more validation rows, improve the student, or lower the aim."
    )
    rule = _threshold_rule(scores.task, ReviewRule(), {}, per_label=False)
    return ChosenRule(rule, aim, False, None, shifts, (note,))


def kappa_low(
    scores: Scores,
    confidences: NDArray[np.float64],
    ranking: Ranking,
    shifts: Mapping[str, float],
    parts: int,
    seed: int,
) -> Callable[[int], float] | None:
    """Return the lower limit of κ among a number of the most confident rows, as a function; None if it is unknown.

    Its level is `KAPPA_LEVEL` divided by ``parts``.
    """
    rows = len(ranking.places)
    if not rows:
        return None
    cells = _cells(scores)[ranking.places]
    labels = np.array(scores.labels)[ranking.places].tolist()
    # Without groups, copies of a row are resampled together: the student labels them alike.
    groups = scores.groups_at(ranking.places) or [str(scores.encoded[place].ids) for place in ranking.places]
    sample, rng = Rows.of(rows, groups), np.random.default_rng(seed)
    if sample.unknown:  # nothing can be inferred from one group
        return None
    weights = np.concatenate(list(sample.draw_rows(_RESAMPLES, rng)))
    equal = np.array([one == other for one, other in zip(scores.labels, scores.codes, strict=True)], dtype=np.float64)
    additional = sample.draw_additional(equal[ranking.places], _RESAMPLES, rng)[1:]
    ordinal = scores.task.kind == "ordinal"

    def low(end: int) -> float:
        accepted = confidences >= _least_probabilities(scores.task, ranking.threshold(end), shifts, labels)
        counted = cells * accepted[:, None, None, None]
        observed = counted.sum(axis=0)
        defined = ~np.isnan(kappas(observed, quadratic=ordinal))
        if not defined.any():
            return math.nan
        drawn = (weights @ counted.reshape(rows, -1)).reshape(-1, *cells.shape[1:])
        wrong = additional_rows(observed)[0] / np.sqrt(defined.sum())
        tables = (drawn + additional[:, None, None, None] * wrong)[:, defined]
        resampled = kappas(tables.reshape(-1, *cells.shape[2:]), quadratic=ordinal).reshape(len(drawn), -1)
        lows = np.nan_to_num(resampled, nan=COEFFICIENT[0]).mean(axis=1)
        return float(np.quantile(lows, KAPPA_LEVEL / parts, method="lower"))

    return low


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
