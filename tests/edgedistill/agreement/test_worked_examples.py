"""Every statistic reproduces a published example."""

import numpy as np
import pytest

from edgedistill.agreement import (
    LabelAgreement,
    agreement,
    inter_coder_agreement,
    mcnemar,
    prevalence,
    probability_metrics,
)
from edgedistill_serve.task.task import Label, Task

# scikit-learn's documentation, sklearn.metrics.classification_report, first example: its printed table.
REPORT_TRUE = [0, 1, 2, 2, 2]
REPORT_CODED = [0, 0, 2, 2, 1]


def coded_as(kind, codes):
    return Task(kind=kind, labels=tuple(Label(str(code)) for code in codes), inputs=("response",))


def compare(reference, coded, kind="nominal", codes=None, positive=None):
    task = coded_as(kind, codes or sorted({*reference, *coded}))
    return agreement(
        [str(code) for code in reference], [str(code) for code in coded], task, positive=positive, resamples=50
    )


def compare_table(shares, rows):
    """Two codings from the joint shares of their labels."""
    pairs = [(i, j) for i, row in enumerate(shares) for j, share in enumerate(row) for _ in range(round(share * rows))]
    assert len(pairs) == rows
    return compare(*zip(*pairs, strict=True))


def metrics_of(reference, probabilities, labels):
    return probability_metrics(
        [str(code) for code in reference], np.array(probabilities), coded_as("nominal", labels), resamples=50
    )


def two_sided(probabilities):
    return [[1 - share, share] for share in probabilities]


def test_accuracy_is_that_of_the_scikit_learn_documentation():
    assert compare(REPORT_TRUE, REPORT_CODED).accuracy.value == pytest.approx(0.60, abs=0.005)


def test_macro_f1_is_that_of_the_scikit_learn_documentation():
    assert compare(REPORT_TRUE, REPORT_CODED).macro_f1.value == pytest.approx(0.49, abs=0.005)


@pytest.mark.parametrize(
    ("label", "precision", "recall", "f1", "support"),
    [("0", 0.50, 1.00, 0.67, 1), ("1", 0.00, 0.00, 0.00, 1), ("2", 1.00, 0.67, 0.80, 3)],
)
def test_precision_recall_and_f1_are_those_of_the_scikit_learn_documentation(label, precision, recall, f1, support):
    found = compare(REPORT_TRUE, REPORT_CODED).per_label[label]
    assert (round(found.precision, 2), round(found.recall, 2), round(found.f1, 2)) == (precision, recall, f1)
    assert found.support == support


def test_the_confusion_matrix_is_that_of_the_scikit_learn_documentation():
    # sklearn.metrics.confusion_matrix, first example.
    found = compare([2, 0, 2, 2, 0, 1], [0, 0, 2, 2, 0, 2])
    assert found.confusion == ((2, 0, 0), (0, 0, 1), (1, 0, 2))


def test_cohens_kappa_is_that_of_the_two_readers_of_fifty_applications():
    # Wikipedia, "Cohen's kappa", simple example: both yes 20, A alone 5, B alone 10, both no 15; kappa 0.4.
    first = [1] * 20 + [1] * 5 + [0] * 10 + [0] * 15
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    found = compare(first, second)
    assert found.kappa.value == pytest.approx(0.4)
    assert found.kappa_name == "Cohen's kappa"


def test_cohens_kappa_is_that_of_two_doctors():
    # easycalculation.com, "Cohen's Kappa Index": 12 and 2, 4 and 2 of 20 patients; (0.7 - 0.62) / (1 - 0.62) = 0.21.
    found = compare([1] * 14 + [0] * 6, [1] * 12 + [0] * 2 + [1] * 4 + [0] * 2)
    assert found.kappa.value == pytest.approx(0.08 / 0.38)


@pytest.mark.parametrize(
    ("first", "second", "kappa"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 1], [1, 2, 2], 0.4),
        ([1, 2, 3, 1, 2, 2, 3], [1, 2, 3, 1, 2, 3, 2], 0.75),
    ],
)
def test_quadratic_weighted_kappa_is_that_of_ml_metrics(first, second, kappa):
    # Ben Hamner, ml_metrics (the scorer of Kaggle's automated essay contest), test_quadratic_weighted_kappa.
    found = compare(first, second, kind="ordinal")
    assert found.kappa.value == pytest.approx(kappa)
    assert found.kappa_name == "quadratic weighted kappa"


@pytest.mark.parametrize(
    ("first", "second", "kappa"),
    [([1, 2, 4], [1, 2, 2], 0.4), ([1, 1, 4, 4], [2, 2, 3, 3], 0.6), ([1, 2, 3, 3, 2, 1], [1, 1, 1, 2, 2, 2], 0.0)],
)
def test_steps_between_ordinal_labels_count_in_codebook_order_even_where_a_label_is_unused(first, second, kappa):
    # SKLL (ETS), tests/test_utilities, kappa_inputs with the outputs of quadratic weights.
    assert compare(first, second, kind="ordinal", codes=[1, 2, 3, 4]).kappa.value == pytest.approx(kappa)


def test_a_label_in_neither_coding_has_no_figures_and_leaves_macro_f1_alone():
    found = compare(REPORT_TRUE, REPORT_CODED, codes=[0, 1, 2, 3])
    assert found.per_label["3"] == LabelAgreement(None, None, None, 0)
    assert found.macro_f1.value == compare(REPORT_TRUE, REPORT_CODED).macro_f1.value


def test_a_label_that_is_never_coded_has_no_precision():
    found = compare([0, 1, 1], [0, 0, 0])
    (_, recall), (_, f1) = (found.per_label["1"].intervals[name] for name in ("recall", "f1"))
    assert recall == pytest.approx(1 - 0.025 ** (1 / 2))
    assert found.per_label["1"] == LabelAgreement(None, 0.0, 0.0, 2, {"recall": (0.0, recall), "f1": (0.0, f1)})


def test_a_label_that_is_only_coded_has_no_recall():
    found = compare([0, 0, 0], [0, 1, 1])
    (_, precision), (_, f1) = (found.per_label["1"].intervals[name] for name in ("precision", "f1"))
    assert precision == pytest.approx(1 - 0.025 ** (1 / 2))
    assert found.per_label["1"] == LabelAgreement(0.0, None, 0.0, 0, {"precision": (0.0, precision), "f1": (0.0, f1)})


def test_kappa_of_one_label_throughout_is_undefined():
    found = compare([1, 1, 1], [1, 1, 1], codes=[0, 1])
    assert found.kappa is None
    assert found.accuracy.value == 1.0


def test_kappa_of_two_constant_codings_that_differ_is_zero():
    assert compare([1, 1, 1], [0, 0, 0]).kappa.value == 0.0


def test_cohens_kappa_is_that_of_cohens_weighted_kappa_paper():
    # Cohen 1968, Psychological Bulletin 70, table 1, unweighted: 200 cases, observed .70, by chance .41, kappa .492.
    found = compare_table([[0.44, 0.07, 0.09], [0.05, 0.20, 0.05], [0.01, 0.03, 0.06]], 200)
    assert found.accuracy.value == pytest.approx(0.70)
    assert found.kappa.value == pytest.approx(0.492, abs=0.0005)


def test_cohens_kappa_is_that_of_fleiss_two_raters_of_a_hundred_subjects():
    # Fleiss, Statistical Methods for Rates and Proportions, table on two raters' diagnoses: .89, .66, kappa .68.
    found = compare_table([[0.75, 0.01, 0.04], [0.05, 0.04, 0.01], [0.00, 0.00, 0.10]], 100)
    assert found.kappa.value == pytest.approx(0.68, abs=0.005)


# scikit-learn's documentation, sklearn.metrics.precision_recall_fscore_support, example.
PETS_TRUE = ["cat", "dog", "pig", "cat", "dog", "pig"]
PETS_CODED = ["cat", "pig", "dog", "cat", "cat", "dog"]


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_averages_are_those_of_the_scikit_learn_documentation(average):
    found = compare(PETS_TRUE, PETS_CODED).averages[average]
    assert (found.precision.value, found.recall.value, found.f1.value) == pytest.approx((0.22, 0.33, 0.27), abs=0.005)


def test_binary_figures_are_those_of_the_positive_label():
    # sklearn.metrics.classification_report, first example again: its line of class 2.
    found = compare(REPORT_TRUE, REPORT_CODED, positive="2").averages["binary"]
    assert (found.precision.value, found.recall.value, found.f1.value) == pytest.approx((1.00, 0.67, 0.80), abs=0.005)


def test_matthews_correlation_is_that_of_the_scikit_learn_documentation():
    # sklearn.metrics.matthews_corrcoef, example: -0.33.
    assert compare([1, 1, 1, 0], [1, 0, 1, 1]).mcc.value == pytest.approx(-0.33, abs=0.005)


@pytest.mark.parametrize(
    ("first", "second", "alpha"),
    [("0100000010", "1110010000", 0.095), ("aabbdcccedda", "babbbccceddd", 0.692)],
)
def test_alpha_of_two_coders_is_krippendorffs(first, second, alpha):
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": examples A (binary) and B (nominal).
    assert compare(list(first), list(second)).alpha.value == pytest.approx(alpha, abs=0.0005)


@pytest.mark.parametrize(("kind", "alpha"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_of_four_coders_with_gaps_is_krippendorffs(kind, alpha):
    # Krippendorff 2011, example C and its metrics; a dot is a missing value.
    observers = {"A": "123321412...", "B": "1233224125.3", "C": ".3332342251.", "D": "12332441251."}
    codings = {
        name: {str(unit): code for unit, code in enumerate(codes) if code != "."} for name, codes in observers.items()
    }
    found = inter_coder_agreement(codings, coded_as(kind, [1, 2, 3, 4, 5]))
    assert found.alpha == pytest.approx(alpha, abs=0.0005)
    assert found.rows == 11


def test_auc_is_that_of_the_scikit_learn_documentation():
    # sklearn.metrics.roc_auc_score and roc_curve, example of four scores: 0.75.
    assert metrics_of([0, 0, 1, 1], two_sided([0.1, 0.4, 0.35, 0.8]), [0, 1]).auc.value == pytest.approx(0.75)


def test_the_brier_score_is_that_of_the_scikit_learn_documentation():
    # sklearn.metrics.brier_score_loss, examples: 0.0375 of two labels.
    found = metrics_of([0, 1, 1, 0], two_sided([0.1, 0.9, 0.8, 0.3]), [0, 1])
    assert found.brier.value == pytest.approx(0.0375)


def test_the_brier_score_of_three_labels_is_that_of_the_scikit_learn_documentation():
    # sklearn.metrics.brier_score_loss, multiclass example: 0.146 of eggs, ham and spam.
    found = metrics_of([0, 1, 2], [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.2, 0.2, 0.6]], [0, 1, 2])
    assert found.brier.value == pytest.approx(0.146, abs=0.001)


def test_the_log_loss_is_that_of_the_scikit_learn_documentation():
    # sklearn.metrics.log_loss, example: 0.21616 of spam and ham.
    found = metrics_of([1, 0, 0, 1], [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]], [0, 1])
    assert found.log_loss.value == pytest.approx(0.21616, abs=0.00001)


@pytest.mark.parametrize(
    ("only_first", "only_second", "exact_p", "mid_p"), [(1, 7, 0.070, 0.039), (7, 1, 0.070, 0.039), (3, 3, 1.0, 0.844)]
)
def test_mcnemars_p_values_are_those_of_fagerland_lydersen_and_laake(only_first, only_second, exact_p, mid_p):
    # 2013, doi:10.1186/1471-2288-13-91: 21 children before and after transplantation; equal counts by their rule.
    found = mcnemar(only_first, only_second)
    assert (found.exact_p, found.mid_p) == pytest.approx((exact_p, mid_p), abs=0.0005)


def test_mcnemars_p_value_of_the_prime_ministers_rating_is_agrestis_to_the_normal_approximation():
    # Agresti, Categorical Data Analysis, table 10.1: 150 and 86 changed their mind, z = -4.17, p < .0001.
    assert mcnemar(150, 86).exact_p < 0.0001


def test_rogan_and_gladens_prevalence_is_that_of_the_brucellosis_example():
    # epiR, epi.prev (after Rogan & Gladen 1978): 23 of 150 cows positive, sensitivity .96, specificity .89; about 5 %.
    names = ("no", "yes")
    cells = {("no", "no"): 890, ("no", "yes"): 110, ("yes", "no"): 40, ("yes", "yes"): 960}
    reference, coded = zip(*(cell for cell, rows in cells.items() for _ in range(rows)), strict=True)
    found = prevalence(["no"] * 127 + ["yes"] * 23, reference, coded, coded_as("nominal", names), resamples=50)
    assert found.method == "Rogan-Gladen"
    assert found.corrected["yes"].value == pytest.approx((23 / 150 + 0.89 - 1) / (0.96 + 0.89 - 1))
    assert found.corrected["yes"].value == pytest.approx(0.051, abs=0.0005)
