"""Calibration and review rule: chosen on validation rows, shown on test rows."""

from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from edgedistill.agreement import probability_figures
from edgedistill.project.evaluation_section import EvaluationSection, ReviewSection
from edgedistill.review import (
    Aim,
    AtMostToPeople,
    Calibration,
    Choice,
    KeepKappa,
    Scores,
    TestScores,
    ValidationScores,
    choose_rule,
    fit_temperature,
    outcome,
    risk_coverage,
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the validation rows chose."""

    calibration: Calibration
    review: Choice

    @property
    def temperature(self) -> float:
        """What the logits are divided by."""
        return self.calibration.temperature


def choose(scores: ValidationScores, evaluation: EvaluationSection, review: ReviewSection | None) -> Chosen:
    """Fit the temperature and choose the thresholds, as the project file says."""
    calibration = fit_temperature(scores) if evaluation.calibrate else Calibration()
    return Chosen(calibration, choose_rule(scores, calibration.temperature, _aim(review)))


def told_calibration(chosen: Chosen, validation: ValidationScores, test: TestScores) -> dict[str, Any]:
    """Say what calibration changes, for `evaluation.json`."""
    return {
        **asdict(chosen.calibration),
        "notes": list(chosen.calibration.notes),
        "validation": _before_and_after(validation, chosen.temperature),
        "test": _before_and_after(test, chosen.temperature),
    }


def told_review(chosen: Chosen, validation: ValidationScores, test: TestScores, positive: str | None) -> dict[str, Any]:
    """Say what the rule is and what it does, for `evaluation.json`."""
    choice, temperature = chosen.review, chosen.temperature
    sides: dict[str, Scores] = {"validation": validation, "test": test}
    return {
        "aim": choice.aim and asdict(choice.aim),
        "met": choice.met,
        "rule": msgspec.to_builtins(choice.rule),
        "least_chance": choice.least_chance,
        "label_shifts": dict(choice.label_shifts),
        "notes": list(choice.notes),
        **{
            name: outcome(scores, temperature, choice.rule, positive=positive).as_dict()
            for name, scores in sides.items()
        },
        "risk_coverage": {
            name: risk_coverage(scores, temperature, choice.label_shifts).as_dict() for name, scores in sides.items()
        },
    }


def _aim(section: ReviewSection | None) -> Aim | None:
    if section is None:
        return None
    if section.at_least is not None:
        return KeepKappa(section.at_least)
    return AtMostToPeople(section.share or 0.0)


def _before_and_after(scores: Scores, temperature: float) -> dict[str, Any]:
    return {"before": _trust(scores, 1.0), "after": _trust(scores, temperature)}


def _trust(scores: Scores, temperature: float) -> dict[str, Any]:
    groups = scores.groups_of(range(len(scores)))
    found = probability_figures(scores.codes, scores.probabilities(temperature), scores.task, groups=groups).as_dict()
    return {name: found[name] for name in ("log_loss", "brier", "ece")}
