"""How far two codings of the same responses agree, with intervals.

types.py          Estimate, LabelAgreement, Averages, Agreement
measuring.py      agreement(): from two codings to an Agreement
one_group.py      of_one_group(): what an agreement says where all rows belong to one group
between.py        agreement_between(): from the codings of several coders to how far they agree with one another
ceiling.py        ceiling(): human coders among themselves, and a student beside them
paired.py         compare(), change(): two codings of the same rows against a third
mcnemar.py        mcnemar(): is one of two codings right more often?
probabilities.py  probability_figures(): AUC, Brier score, log loss, calibration error, reliability
subgroups.py      subgroups(): agreement and mean difference per group of learners
prevalence.py     prevalence(): class shares corrected for error rates
statistics.py     statistics of many confusion matrices at once
label_sets.py     of a multilabel task: which labels hold, and statistics of them
set_measuring.py  agreement() of a multilabel task
masi.py           Krippendorff's alpha of sets of labels
pairs.py          two codings on the same resamples
ranking.py        the area under the ROC curve
bootstrap.py      resampled rows and groups, and intervals
checking.py       what every comparison asks of its codings
table.py          agreement_table(), agreement_html(): several Agreements side by side
"""

from edgedistill.agreement.agreement import agreement, agreement_html, agreement_table
from edgedistill.agreement.inter_coder import (
    BesideHumans,
    Between,
    Ceiling,
    CoderPair,
    Pair,
    agreement_between,
    ceiling,
)
from edgedistill.agreement.paired import Change, Comparison, McNemar, change, compare, mcnemar
from edgedistill.agreement.prevalence import Prevalence, prevalence
from edgedistill.agreement.probabilities import Probabilities, ReliabilityBin, probability_figures
from edgedistill.agreement.subgroups import Subgroup, subgroups
from edgedistill.agreement.types import Agreement, Averages, Estimate, LabelAgreement

__all__ = [
    "Agreement",
    "Averages",
    "BesideHumans",
    "Between",
    "Ceiling",
    "Change",
    "CoderPair",
    "Comparison",
    "Estimate",
    "LabelAgreement",
    "McNemar",
    "Pair",
    "Prevalence",
    "Probabilities",
    "ReliabilityBin",
    "Subgroup",
    "agreement",
    "agreement_between",
    "agreement_html",
    "agreement_table",
    "ceiling",
    "change",
    "compare",
    "mcnemar",
    "prevalence",
    "probability_figures",
    "subgroups",
]
