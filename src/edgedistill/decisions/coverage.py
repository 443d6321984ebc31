"""What a rule does: how much it accepts, and how good that is; and the same for every rule there could be."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement import Agreement, Estimate, agreement
from edgedistill.agreement.bootstrap import optional_estimate, row_weights
from edgedistill.data.types import labels_in
from edgedistill.decisions.calibration import Scores
from edgedistill.decisions.thresholds import Ranking, adjusted_confidences, rank_rows
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.task import Task

_COVERAGES = np.linspace(1.0, 0.05, 20)
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """What became of the rows that got one label.

    Attributes:
        rows: Rows that the student gave the label, of a multilabel task beside others or not.
        accepted: How many of them were accepted.
        share_accepted: Their share; None where no row got the label.
        accuracy: Share of the accepted ones whose human code is the label or has it; None where none was accepted.
    """

    rows: int
    accepted: int
    share_accepted: Estimate | None
    accuracy: Estimate | None


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What a rule does on human-coded rows.

    Attributes:
        rows: Rows, at least 1.
        accepted: How many were accepted.
        share_accepted: Their share.
        reasons: Why the others go to a person, with row counts.
        agreement: The student's labels of the accepted rows against the human codes; None where none was accepted.
        agreement_of_reviewed: The same of the others: what people are spared from; None where there are none.
        per_label: By the label that the student gave.
    """

    rows: int
    accepted: int
    share_accepted: Estimate
    reasons: Mapping[str, int]
    agreement: Agreement | None
    agreement_of_reviewed: Agreement | None
    per_label: Mapping[str, LabelOutcome]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        agreements = {
            name: found and found.as_dict()
            for name, found in (
                ("agreement", self.agreement),
                ("agreement_of_reviewed", self.agreement_of_reviewed),
            )
        }
        plain = {
            "rows": self.rows,
            "accepted": self.accepted,
            "share_accepted": asdict(self.share_accepted),
            "reasons": dict(self.reasons),
            "per_label": {label: asdict(found) for label, found in self.per_label.items()},
        }
        return {**plain, **agreements}


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """The rows of the highest chances: of rows of equal chance all or none, as a threshold accepts them.

    Attributes:
        coverage: Their share of all rows, in (0, 1].
        rows: How many they are.
        least_chance: The lowest chance among them.
        accuracy: Share of them that have the human code.
        kappa: Their κ; None where it is undefined.
    """

    coverage: float
    rows: int
    least_chance: float
    accuracy: Estimate
    kappa: Estimate | None


@dataclass(frozen=True, slots=True)
class RiskCoverageCurve:
    """Risk against coverage (El-Yaniv & Wiener 2010): from all rows to the surest twentieth.

    Attributes:
        points: From all rows to few.
        aurc: Mean error rate over the coverages of 1, 2 … all rows (Geifman, Uziel & El-Yaniv 2019), in [0, 1]. Of rows
            of equal chance it is the expected value over their orders, all of which are as likely: where w of m such
            rows are wrong and e of the s surer ones, the surest s + j rows hold e + j · w / m wrong ones on average,
            the mean of a draw of j from m without putting back.
    """

    points: tuple[CoveragePoint, ...]
    aurc: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        return {"points": [asdict(point) for point in self.points], "aurc": self.aurc}


def risk_coverage(
    scores: Scores, temperature: float, shifts: Mapping[str, float], *, seed: int = 0
) -> RiskCoverageCurve:
    """Say how good the surest rows are, for every share that could be accepted.

    Args:
        scores: Human-coded rows, at least one.
        temperature: Divides the logits.
        shifts: By label, as `label_shifts` found them on validation rows.
        seed: Of the resampling.
    """
    ranking = rank_rows(scores, adjusted_confidences(scores, temperature, shifts), np.arange(len(scores)))
    points = []
    for rows in dict.fromkeys(ranking.at_least(max(1, round(share * len(scores)))) for share in _COVERAGES):
        found = _agreement(scores, ranking.places[:rows], seed)
        least = float(ranking.descending[rows - 1])
        points.append(CoveragePoint(rows / len(scores), rows, least, found.accuracy, found.kappa))
    return RiskCoverageCurve(tuple(points), _aurc(scores, ranking))


def _aurc(scores: Scores, ranking: Ranking) -> float:
    wrong = np.array([one != other for one, other in zip(scores.labels, scores.codes, strict=True)])[ranking.places]
    ends = np.concatenate(([0], ranking.ends))
    rows = np.arange(1, len(scores) + 1)
    expected = np.interp(rows, ends, np.concatenate(([0], wrong.cumsum()))[ends])
    return float((expected / rows).mean())


def rule_outcome(
    scores: Scores, temperature: float, rule: ReviewRule, *, positive: str | None = None, seed: int = 0
) -> RuleOutcome:
    """Say what a rule does on human-coded rows.

    Args:
        scores: The rows, at least one.
        temperature: Divides the logits.
        rule: Which scores go to a person.
        positive: As in `agreement`.
        seed: Of the resampling.
    """
    judged = scores.apply_rule(temperature, rule)
    accepted = np.array([score.decision == "accept" for score in judged])
    given = _having([score.label for score in judged], scores.task)
    right = _having(scores.codes, scores.task)
    drawn = list(
        row_weights(len(scores), scores.groups_at(range(len(scores))), _RESAMPLES, np.random.default_rng(seed))
    )
    share = _share(drawn, np.ones(len(scores), dtype=np.bool_), accepted)
    if share is None:
        raise AssertionError("a share of at least one row is defined")
    return RuleOutcome(
        rows=len(scores),
        accepted=int(accepted.sum()),
        share_accepted=share,
        reasons=dict(Counter(score.reason for score in judged if score.reason)),
        agreement=_agreement(scores, np.flatnonzero(accepted), seed, positive) if accepted.any() else None,
        agreement_of_reviewed=_agreement(scores, np.flatnonzero(~accepted), seed, positive)
        if not accepted.all()
        else None,
        per_label={
            label: LabelOutcome(
                int(given[label].sum()),
                int((accepted & given[label]).sum()),
                _share(drawn, given[label], accepted),
                _share(drawn, accepted & given[label], right[label]),
            )
            for label in scores.task.names
        },
    )


def _having(codes: Sequence[str], task: Task) -> dict[str, NDArray[np.bool_]]:
    """By label, whether each code is it or has it."""
    labels = [labels_in(code, task) for code in codes]
    return {name: np.array([name in of_row for of_row in labels]) for name in task.names}


def _agreement(scores: Scores, places: NDArray[np.int64], seed: int, positive: str | None = None) -> Agreement:
    labels = scores.labels
    return agreement(
        [scores.codes[place] for place in places],
        [labels[place] for place in places],
        scores.task,
        groups=scores.groups_at(places),
        positive=positive,
        seed=seed,
    )


def _share(drawn: Sequence[NDArray[np.int64]], among: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Estimate | None:
    """The share of some rows for which something holds; None where there are none."""
    if not among.any():
        return None
    resampled = []
    for weights in drawn:
        rows, held = weights[:, among].sum(axis=1), weights[:, among & counted].sum(axis=1)
        resampled.append(np.divide(held, rows, out=np.full(len(rows), np.nan), where=rows > 0))
    return optional_estimate(float(counted[among].mean()), np.concatenate(resampled))
