"""How far two codings of the same responses agree, with intervals.

types.py       Estimate, LabelAgreement, Agreement
bootstrap.py   resampled confusion matrices and the statistics of many of them at once
measuring.py   agreement(): from two codings to an Agreement
between.py     agreement_between(): from the codings of several coders to how far they agree with one another
table.py       agreement_table(): several Agreements side by side in the terminal
"""

from edgedistill.agreement.between import Between, Pair, agreement_between
from edgedistill.agreement.measuring import agreement
from edgedistill.agreement.table import agreement_table
from edgedistill.agreement.types import Agreement, Estimate, LabelAgreement

__all__ = [
    "Agreement",
    "Between",
    "Estimate",
    "LabelAgreement",
    "Pair",
    "agreement",
    "agreement_between",
    "agreement_table",
]
