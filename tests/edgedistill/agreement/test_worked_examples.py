"""Every figure against an example that somebody else published."""

import pytest

from edgedistill.agreement import LabelAgreement, agreement
from edgedistill_serve.task import Label, Task

# scikit-learn's documentation, sklearn.metrics.classification_report, first example: its printed table.
REPORT_TRUE = [0, 1, 2, 2, 2]
REPORT_CODED = [0, 0, 2, 2, 1]


def coded_as(kind, codes):
    return Task(kind=kind, labels=tuple(Label(str(code)) for code in codes), inputs=("response",))


def compare(reference, coded, kind="nominal", codes=None):
    task = coded_as(kind, codes or sorted({*reference, *coded}))
    return agreement([str(code) for code in reference], [str(code) for code in coded], task, resamples=50)


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
    assert found.per_label["1"] == LabelAgreement(None, 0.0, 0.0, 2)


def test_a_label_that_is_only_coded_has_no_recall():
    found = compare([0, 0, 0], [0, 1, 1])
    assert found.per_label["1"] == LabelAgreement(0.0, None, 0.0, 0)


def test_kappa_of_one_label_throughout_is_undefined():
    found = compare([1, 1, 1], [1, 1, 1], codes=[0, 1])
    assert found.kappa is None
    assert found.accuracy.value == 1.0


def test_kappa_of_two_constant_codings_that_differ_is_zero():
    assert compare([1, 1, 1], [0, 0, 0]).kappa.value == 0.0
