"""Agreement of two codings of the same responses, with 95 % bootstrap intervals.

types          Estimate, LabelAgreement, Averages, Agreement
agreement      agreement(): compare a coding with a reference; agreement_table(), agreement_html(): show several
confusion      statistics of many confusion matrices at once
multilabel     label sets: their statistics, agreement, and Krippendorff's alpha with the MASI distance
bootstrap      resampled rows and groups, percentile intervals
paired         compare(), change(): two codings on the same resamples; mcnemar(): McNemar's test
inter_coder    inter_coder_agreement(), human_agreement(): agreement among coders, and of the student with each
probabilities  probability_metrics(): ROC AUC, Brier score, log loss, calibration error, reliability;
               certainty_metrics(): calibration of a stated probability of being right
subgroups      subgroups(): agreement and mean difference per group of learners
alt_test       alt_test(): may a machine's labels take the place of a human coder's?
prevalence     prevalence(): label shares corrected for misclassification
"""

import sys
from types import ModuleType

from edgedistill.agreement.agreement import agreement, agreement_html, agreement_table
from edgedistill.agreement.alt_test import AltTest, CoderComparison, alt_test
from edgedistill.agreement.inter_coder import (
    HumanAgreement,
    InterCoderAgreement,
    PairwiseAgreement,
    PairwiseKappa,
    StudentVersusHuman,
    human_agreement,
    inter_coder_agreement,
)
from edgedistill.agreement.paired import Change, Comparison, McNemar, change, compare, mcnemar
from edgedistill.agreement.prevalence import Prevalence, prevalence
from edgedistill.agreement.probabilities import (
    CertaintyMetrics,
    ProbabilityMetrics,
    ReliabilityBin,
    certainty_metrics,
    probability_metrics,
)
from edgedistill.agreement.subgroups import Subgroup, subgroups
from edgedistill.agreement.types import Agreement, Averages, Estimate, LabelAgreement

__all__ = [
    "Agreement",
    "AltTest",
    "Averages",
    "CertaintyMetrics",
    "Change",
    "CoderComparison",
    "Comparison",
    "Estimate",
    "HumanAgreement",
    "InterCoderAgreement",
    "LabelAgreement",
    "McNemar",
    "PairwiseAgreement",
    "PairwiseKappa",
    "Prevalence",
    "ProbabilityMetrics",
    "ReliabilityBin",
    "StudentVersusHuman",
    "Subgroup",
    "agreement",
    "agreement_html",
    "agreement_table",
    "alt_test",
    "certainty_metrics",
    "change",
    "compare",
    "human_agreement",
    "inter_coder_agreement",
    "mcnemar",
    "prevalence",
    "probability_metrics",
    "subgroups",
]


class _CalledAsItsFunction(ModuleType):
    """This package and the public function `edgedistill.agreement` share a name, so the package can be called."""

    __call__ = staticmethod(agreement)


sys.modules[__name__].__class__ = _CalledAsItsFunction
