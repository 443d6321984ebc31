"""Calibration, label thresholds and review rule: chosen on validation rows, shown on test rows."""

from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

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
from edgedistill.student.thresholds import Thresholds, choose_thresholds

S = TypeVar("S", bound=Scores)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the validation rows chose; thresholds of labels where the task is multilabel."""

    calibration: Calibration
    thresholds: Thresholds | None
    review: Choice

    @property
    def temperature(self) -> float:
        """What the logits are divided by."""
        return self.calibration.temperature

    @property
    def notes(self) -> list[str]:
        """What a reader must know."""
        return [*self.calibration.notes, *(self.thresholds.notes if self.thresholds else ()), *self.review.notes]

    def applied(self, scores: S) -> S:
        """Return scores whose labels are given by the thresholds."""
        return _with_thresholds(scores, self.thresholds, self.temperature)


def choose(scores: ValidationScores, evaluation: EvaluationSection, review: ReviewSection | None) -> Chosen:
    """Fit the temperature and choose the thresholds, as the project file says."""
    calibration = fit_temperature(scores) if evaluation.calibrate else Calibration()
    temperature = calibration.temperature
    thresholds = None
    if scores.task.kind == "multilabel":
        thresholds = choose_thresholds(scores.probabilities(temperature), scores.codes, scores.task)
    rule = choose_rule(_with_thresholds(scores, thresholds, temperature), temperature, _aim(review))
    return Chosen(calibration, thresholds, rule)


def told_thresholds(chosen: Chosen, labels: tuple[str, ...]) -> dict[str, Any] | None:
    """Say from which probability each label holds, for `evaluation.json`; None where a response has one label."""
    found = chosen.thresholds
    if found is None:
        return None
    return {
        "values": dict(zip(labels, found.values, strict=True)),
        "f1_on_validation": dict(zip(labels, found.f1, strict=True)),
        "notes": list(found.notes),
    }


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


def _with_thresholds(scores: S, thresholds: Thresholds | None, temperature: float) -> S:
    return replace(scores, thresholds=thresholds.values, calibrated=temperature) if thresholds else scores


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
