"""Effect of a review rule on human-coded rows, and risk-coverage curves over all possible thresholds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement import Agreement, Estimate, agreement
from edgedistill.agreement.bootstrap import Rows, required, share_figure
from edgedistill.data.types import labels_in
from edgedistill.decisions.calibration import Scores
from edgedistill.decisions.thresholds import Ranking, adjusted_confidences, rank_rows
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import Task

_COVERAGES = np.linspace(1.0, 0.05, 20)
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """Effect of a rule on the rows that the student assigns one label.

    Attributes:
        rows: Rows assigned the label.
        accepted: Number of accepted rows.
        share_accepted: Their share; None if no row is assigned the label.
        accuracy: Share of the accepted rows with the label in the human code; None if none was accepted.
    """

    rows: int
    accepted: int
    share_accepted: Estimate | None
    accuracy: Estimate | None


@dataclass(frozen=True, slots=True)
class NoveltyOutcome:
    """Rows that are unlike the training texts, and the others.

    Attributes:
        limit: The largest accepted novelty (`ReviewRule.max_novelty`).
        flagged: Number of rows beyond it, whatever else sends them to a person.
        agreement_of_flagged: Agreement of the student with the human codes of these rows; None if there are none.
        agreement_of_others: The same of all other rows.
    """

    limit: float
    flagged: int
    agreement_of_flagged: Agreement | None
    agreement_of_others: Agreement | None


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """Effect of a rule on human-coded rows.

    Attributes:
        rows: Number of rows, at least 1.
        accepted: Number of accepted rows.
        share_accepted: Their share.
        reasons: Number of reviewed rows by reason.
        agreement: Agreement of the student with the human codes on accepted rows; None without accepted rows.
        agreement_of_reviewed: The same on reviewed rows; None without reviewed rows.
        per_label: Effect by label of the student.
        novelty: Effect of the limit of novelty; None if there is none.
    """

    rows: int
    accepted: int
    share_accepted: Estimate
    reasons: Mapping[str, int]
    agreement: Agreement | None
    agreement_of_reviewed: Agreement | None
    per_label: Mapping[str, LabelOutcome]
    novelty: NoveltyOutcome | None = None


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Agreement on the most confident rows; tied rows are included together, as by a threshold.

    Attributes:
        coverage: Share of the rows, in (0, 1].
        rows: Number of rows.
        least_chance: Lowest adjusted confidence among them.
        accuracy: Share of them whose label equals the human code.
        kappa: κ on these rows; None if it is undefined.
    """

    coverage: float
    rows: int
    least_chance: float
    accuracy: Estimate
    kappa: Estimate | None


@dataclass(frozen=True, slots=True)
class RiskCoverageCurve:
    """Risk-coverage curve (El-Yaniv & Wiener 2010), from all rows to the most confident 5 %.

    Attributes:
        points: In descending order of coverage.
        aurc: Area under the curve, in [0, 1]: mean error rate over coverages of 1, 2, … all rows (Geifman, Uziel &
            El-Yaniv 2019). For ties it is the expected value over their random order: if w of m tied rows and e of the
            s more confident rows are wrong, the first s + j rows contain e + j · w / m errors on average.
    """

    points: tuple[CoveragePoint, ...]
    aurc: float


def risk_coverage(
    scores: Scores, temperature: float, shifts: Mapping[str, float], *, seed: int = 0
) -> RiskCoverageCurve:
    """Return the agreement on the most confident rows for all coverages.

    Args:
        scores: Of human-coded rows, at least one.
        temperature: Divides the logits.
        shifts: By label, from `label_shifts` on validation rows.
        seed: Of the resampling.
    """
    ranking = rank_rows(scores, adjusted_confidences(scores, temperature, shifts), np.arange(len(scores)))
    points = []
    for rows in dict.fromkeys(ranking.round_up(max(1, round(share * len(scores)))) for share in _COVERAGES):
        accepted = _agreement(scores, ranking.places[:rows], seed)
        least = float(ranking.descending[rows - 1])
        points.append(CoveragePoint(rows / len(scores), rows, least, accepted.accuracy, accepted.kappa))
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
    """Return the effect of a rule on human-coded rows.

    Args:
        scores: Of the rows, at least one.
        temperature: Divides the logits.
        rule: The review rule.
        positive: As in `agreement`.
        seed: Of the resampling.
    """
    groups = scores.groups_at(range(len(scores)))
    decided = scores.apply_rule(temperature, rule)
    return decision_outcome(
        decided, scores.codes, scores.task, groups=groups, limit=rule.max_novelty, positive=positive, seed=seed
    )


def decision_outcome(
    decided: Sequence[Score],
    codes: Sequence[str],
    task: Task,
    *,
    groups: Sequence[str] | None = None,
    limit: float | None = None,
    positive: str | None = None,
    seed: int = 0,
) -> RuleOutcome:
    """Return the outcome of decisions on human-coded rows.

    Args:
        decided: The score of each row, with the decision; at least one.
        codes: Their human codes.
        task: The task.
        groups: The group of each row; None if rows are independent.
        limit: The largest accepted novelty (`ReviewRule.max_novelty`).
        positive: As in `agreement`.
        seed: Of the resampling.
    """
    accepted = np.array([score.decision == "accept" for score in decided])
    labels = [score.label for score in decided]
    assigned = _indicators(labels, task)
    correct = _indicators(codes, task)
    rows = Rows.of(len(decided), groups)

    def share(among: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Estimate | None:
        """Return the share of the rows in ``among`` that are also in ``counted``; None without such rows."""
        rng = np.random.default_rng(seed)
        drawn = rows.draw_cells(2 * among.astype(np.int64) + counted, 4, _RESAMPLES, rng)
        additional = rows.draw_additional((among & ~counted).astype(np.float64), _RESAMPLES, rng)
        return share_figure(drawn[:, 3], drawn[:, 2], additional, rows).estimate()

    def agreement_of(chosen: NDArray[np.bool_]) -> Agreement | None:
        places = np.flatnonzero(chosen).tolist()
        if not places:
            return None
        return agreement(
            [codes[place] for place in places],
            [labels[place] for place in places],
            task,
            groups=[groups[place] for place in places] if groups else None,
            positive=positive,
            seed=seed,
        )

    distances = [score.novelty for score in decided]
    novelty = None
    if limit is not None and any(each is not None for each in distances):
        flagged = np.array([not (each is not None and each <= limit) for each in distances])
        novelty = NoveltyOutcome(limit, int(flagged.sum()), agreement_of(flagged), agreement_of(~flagged))
    return RuleOutcome(
        rows=len(decided),
        accepted=int(accepted.sum()),
        share_accepted=required(share(np.ones(len(decided), dtype=np.bool_), accepted)),
        reasons=dict(Counter(score.reason for score in decided if score.reason)),
        agreement=agreement_of(accepted),
        agreement_of_reviewed=agreement_of(~accepted),
        per_label={
            label: LabelOutcome(
                int(assigned[label].sum()),
                int((accepted & assigned[label]).sum()),
                share(assigned[label], accepted),
                share(accepted & assigned[label], correct[label]),
            )
            for label in task.names
        },
        novelty=novelty,
    )


def _indicators(codes: Sequence[str], task: Task) -> dict[str, NDArray[np.bool_]]:
    """Return by label whether each code includes it."""
    labels = [labels_in(code, task) for code in codes]
    return {name: np.array([name in row_labels for row_labels in labels]) for name in task.names}


def _agreement(scores: Scores, places: NDArray[np.int64], seed: int) -> Agreement:
    labels = scores.labels
    return agreement(
        [scores.codes[place] for place in places],
        [labels[place] for place in places],
        scores.task,
        groups=scores.groups_at(places),
        seed=seed,
    )
