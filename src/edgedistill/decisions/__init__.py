"""Decision rules: which responses a person reviews, and how human codes come back.

calibration    ValidationScores, TestScores: the student's logits of human-coded rows; fit_temperature()
thresholds     choose_rule(): a review threshold per label, chosen for a stated aim
guarantee      Evidence, stated_sizes(), walk(): a bound on wrong codes among accepted responses
coverage       rule_outcome(): the effect of a rule on coded rows; risk_coverage(): that of every possible threshold
sampling       inclusion_probabilities(), systematic_sample(), effective_probabilities(): draws with known probabilities
row_signals    uncertainty(), disagreement(), coverage(): by what rows are drawn for people
draws_log      Draw, read_draws(): the log of draws
coding_sheet   build_sheet(), write_sheet(), read_sheet(), merge_codes(): export responses for coding, import the codes
"""

from edgedistill.decisions.calibration import Calibration, Scores, TestScores, ValidationScores, fit_temperature
from edgedistill.decisions.coding_sheet import (
    HumanCode,
    ParsedSheet,
    SheetFault,
    build_drawn_sheet,
    build_sheet,
    read_sheet,
)
from edgedistill.decisions.coverage import (
    LabelOutcome,
    RiskCoverageCurve,
    RuleOutcome,
    decision_outcome,
    risk_coverage,
    rule_outcome,
)
from edgedistill.decisions.thresholds import (
    AtMostToPeople,
    AtMostWrong,
    ChosenRule,
    Circumstances,
    KeepKappa,
    LeastProbability,
    ReviewAim,
    choose_rule,
    label_shifts,
)

__all__ = [
    "AtMostToPeople",
    "AtMostWrong",
    "Calibration",
    "ChosenRule",
    "Circumstances",
    "HumanCode",
    "KeepKappa",
    "LabelOutcome",
    "LeastProbability",
    "ParsedSheet",
    "ReviewAim",
    "RiskCoverageCurve",
    "RuleOutcome",
    "Scores",
    "SheetFault",
    "TestScores",
    "ValidationScores",
    "build_drawn_sheet",
    "build_sheet",
    "choose_rule",
    "decision_outcome",
    "fit_temperature",
    "label_shifts",
    "read_sheet",
    "risk_coverage",
    "rule_outcome",
]
