"""Which scores a person looks at, and what becomes of the codes that people give.

scores.py        ValidationScores, TestScores: the student's logits of human-coded rows
ranking.py       ranked(): rows from the surest to the least sure, those of equal chance together
calibration.py   fit_temperature(): probabilities that mean what they say
thresholds.py    choose_rule(): a threshold per label, by a stated aim
coverage.py      outcome(), risk_coverage(): what a rule does, and every rule there could be
sheet.py         sheet(), read_sheet(): responses leave to be coded, and codes come back
round_trip.py    write_sheet(), read_codes(), merge_codes(): the same with a project's bundle and files
"""

from edgedistill.decisions.calibration import Calibration, Scores, TestScores, ValidationScores, fit_temperature
from edgedistill.decisions.coding_sheet import HumanCode, Merging, SheetFault, read_sheet, sheet
from edgedistill.decisions.coverage import Curve, LabelOutcome, Outcome, outcome, risk_coverage
from edgedistill.decisions.thresholds import Aim, AtMostToPeople, Choice, KeepKappa, choose_rule, label_shifts

__all__ = [
    "Aim",
    "AtMostToPeople",
    "Calibration",
    "Choice",
    "Curve",
    "HumanCode",
    "KeepKappa",
    "LabelOutcome",
    "Merging",
    "Outcome",
    "Scores",
    "SheetFault",
    "TestScores",
    "ValidationScores",
    "choose_rule",
    "fit_temperature",
    "label_shifts",
    "outcome",
    "read_sheet",
    "risk_coverage",
    "sheet",
]
