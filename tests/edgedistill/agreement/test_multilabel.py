"""Agreement on multilabel tasks equals that of scikit-learn, krippendorff and the paper on MASI."""

import json

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from edgedistill.agreement import (
    Agreement,
    agreement,
    change,
    compare,
    human_agreement,
    inter_coder_agreement,
    prevalence,
    probability_metrics,
    subgroups,
)
from edgedistill.agreement.multilabel import encode_label_sets, masi_distances
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task, join_labels

NAMES = ("cause", "effect", "example")
TASK = Task(kind="multilabel", labels=tuple(map(Label, NAMES)), inputs=("response",))
SETS = st.sets(st.sampled_from(NAMES)).map(lambda labels: join_labels(labels, TASK))
PAIRS = st.lists(st.tuples(SETS, SETS), min_size=2, max_size=40)


def coded(rows, seed, wrong=0.15):
    """Two codings: one at random, the other with some labels changed."""
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, 3)) < (0.5, 0.3, 0.1)
    other = truth ^ (rng.random((rows, 3)) < wrong)
    return tuple(
        [join_labels([name for name, sets in zip(NAMES, row, strict=True) if sets], TASK) for row in each]
        for each in (truth, other)
    )


REFERENCE, CODED = coded(200, 0)
FOUND = agreement(REFERENCE, CODED, TASK, positive="effect")


def test_figures_of_all_labels_are_scikit_learn_s():
    truth, predicted = encode_label_sets(REFERENCE, TASK, "a"), encode_label_sets(CODED, TASK, "b")
    assert FOUND.accuracy.value == pytest.approx(accuracy_score(truth, predicted))
    assert FOUND.macro_f1.value == pytest.approx(f1_score(truth, predicted, average="macro"))
    for average in ("micro", "macro", "weighted"):
        expected = precision_recall_fscore_support(truth, predicted, average=average)[:3]
        found = FOUND.averages[average]
        assert (found.precision.value, found.recall.value, found.f1.value) == pytest.approx(expected)


def test_each_label_s_figures_are_those_of_whether_it_holds():
    truth, predicted = encode_label_sets(REFERENCE, TASK, "a"), encode_label_sets(CODED, TASK, "b")
    for place, name in enumerate(NAMES):
        one, other, found = truth[:, place], predicted[:, place], FOUND.per_label[name]
        precision, recall, f1, support = precision_recall_fscore_support(one, other, labels=[True])
        assert (found.precision, found.recall, found.f1) == pytest.approx((precision[0], recall[0], f1[0]))
        assert found.support == support[0]
        assert found.kappa.value == pytest.approx(cohen_kappa_score(one, other))
        table = np.array([one, other], dtype=float)
        assert found.alpha.value == pytest.approx(krippendorff.alpha(table, level_of_measurement="nominal"))
        assert found.table == tuple(
            map(
                tuple,
                [
                    [int((~one & ~other).sum()), int((~one & other).sum())],
                    [int((one & ~other).sum()), int((one & other).sum())],
                ],
            )
        )


def test_kappa_is_the_mean_over_labels_and_says_so():
    assert FOUND.kappa_name == "mean kappa over labels"
    assert FOUND.kappa.value == pytest.approx(np.mean([FOUND.per_label[name].kappa.value for name in NAMES]))


def test_what_does_not_apply_is_absent():
    assert FOUND.mcc is None
    assert FOUND.confusion == ()


def test_the_figures_of_the_positive_label_are_reported():
    assert FOUND.averages["binary"].f1.value == pytest.approx(FOUND.per_label["effect"].f1)


def test_intervals_hold_their_figures_and_depend_on_the_seed_alone():
    again = agreement(REFERENCE, CODED, TASK, positive="effect")
    assert again == FOUND
    for found in (FOUND.accuracy, FOUND.macro_f1, FOUND.kappa, FOUND.alpha):
        assert found.low < found.value < found.high


def test_whole_groups_are_resampled():
    clustered = agreement(REFERENCE, CODED, TASK, groups=[str(row // 20) for row in range(200)])
    assert clustered.groups == 10
    assert clustered.kappa.value == FOUND.kappa.value
    assert clustered.kappa != FOUND.kappa


def test_an_agreement_survives_json():
    assert Agreement.from_dict(json.loads(json.dumps(FOUND.as_dict()))) == FOUND


def test_a_label_that_occurs_nowhere_is_left_out_of_the_means():
    found = agreement(["cause", "none", "cause"], ["cause", "cause", "none"], TASK)
    assert found.macro_f1.value == pytest.approx(0.5)
    assert found.per_label["effect"].kappa is None
    assert found.kappa.value == found.per_label["cause"].kappa.value


def test_rows_without_any_label_leave_figures_of_labels_undefined():
    found = agreement(["none", "none"], ["none", "none"], TASK)
    assert (found.macro_f1, found.kappa, found.alpha) == (None, None, None)
    assert found.accuracy.value == 1.0


def test_a_code_that_the_task_does_not_have_is_named_with_its_row():
    with pytest.raises(DataError, match="coded label 2: 'reason' is not a label"):
        agreement(["cause", "none"], ["cause", "cause;reason"], TASK)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("cause", "cause", 0.0),
        ("cause", "cause;effect", 1 - 1 / 2 * 2 / 3),
        ("cause;effect", "effect;example", 1 - 1 / 3 * 1 / 3),
        ("cause", "effect", 1.0),
        ("none", "none", 0.0),
        ("none", "cause", 1.0),
    ],
)
def test_masi_is_passonneau_s_distance(one, other, distance):
    sets = encode_label_sets([one, other], TASK, "a")
    assert masi_distances(sets)[0, 1] == masi_distances(sets)[1, 0] == pytest.approx(distance)


@settings(deadline=None, max_examples=40)
@given(PAIRS)
def test_alpha_of_two_codings_is_krippendorff_s_with_the_masi_distance(pairs):
    one, other = [first for first, _ in pairs], [second for _, second in pairs]
    found = agreement(one, other, TASK, resamples=1).alpha
    expected = inter_coder_agreement({"a": dict(enumerate(one)), "b": dict(enumerate(other))}, TASK).alpha
    if expected is None:
        assert found is None
    elif found is not None:  # a single resample may leave it undefined
        assert found.value == pytest.approx(expected)


def test_coders_who_left_rows_out_are_compared_on_those_that_two_coded():
    codings = {
        "x": {"1": "cause", "2": "none", "3": "effect"},
        "y": {"1": "cause", "2": "none"},
        "z": {"2": "none", "4": "example"},
    }
    found = inter_coder_agreement(codings, TASK)
    assert (found.rows, found.alpha) == (2, pytest.approx(1.0))
    assert [pair.rows for pair in found.pairs] == [2, 1, 1]


def test_human_agreement_compares_the_student_with_human_coders():
    ids = [str(row) for row in range(60)]
    first, second = coded(60, 1)
    student = coded(60, 1, wrong=0.05)[1]
    found = human_agreement(
        {"x": dict(zip(ids, first, strict=True)), "y": dict(zip(ids, second, strict=True))},
        TASK,
        student=dict(zip(ids, student, strict=True)),
        resamples=50,
    )
    against_x = next(each for each in found.beside_humans if each.reference == "x")
    assert against_x.comparison.differences["kappa"].value > 0


def test_a_flip_is_a_row_whose_labels_differ():
    found = change(["cause", "none", "effect"], ["cause", "none", "effect"], ["cause;effect", "none", "none"], TASK)
    assert (found.rows, found.flips) == (3, 2)
    assert found.flip_rate.value == pytest.approx(2 / 3)


def test_kappa_lost_is_the_difference_of_the_means_on_the_same_resamples():
    worse = coded(200, 0, wrong=0.3)[1]
    found = change(REFERENCE, CODED, worse, TASK)
    gap = FOUND.kappa.value - agreement(REFERENCE, worse, TASK).kappa.value
    assert found.kappa_lost.value == pytest.approx(gap)
    assert found.kappa_lost.low < gap < found.kappa_lost.high


def test_a_coding_changed_into_itself_loses_little_at_most():
    found = change(REFERENCE, CODED, CODED, TASK)
    assert (found.flips, found.kappa_lost.value) == (0, 0.0)
    assert -0.1 < found.kappa_lost.low < 0 < found.kappa_lost.high < 0.1


def test_two_codings_are_right_where_all_labels_are():
    found = compare(
        ["cause;effect", "none", "effect"], ["cause", "none", "none"], ["cause;effect", "none", "none"], TASK
    )
    counts = (found.both_right, found.only_first_right, found.only_second_right, found.neither_right)
    assert counts == (1, 0, 1, 1)
    assert set(found.differences) == {"accuracy", "macro_f1", "micro_f1", "macro_precision", "macro_recall", "kappa"}
    assert found.differences["accuracy"].value == pytest.approx(1 / 3)


def test_groups_of_learners_have_exact_match_mean_kappa_and_a_gap_per_label():
    values = ["a"] * 100 + ["b"] * 95 + ["c"] * 5
    found = {each.value: each for each in subgroups(REFERENCE, CODED, values, TASK)}
    own = agreement(REFERENCE[:100], CODED[:100], TASK)
    assert found["a"].accuracy.value == own.accuracy.value
    assert found["a"].kappa.value == own.kappa.value
    assert found["c"].suppressed
    truth, predicted = (encode_label_sets(each[:100], TASK, "a")[:, 1].astype(float) for each in (REFERENCE, CODED))
    gap = (predicted.mean() - truth.mean()) / np.sqrt((predicted.var(ddof=1) + truth.var(ddof=1)) / 2)
    assert found["a"].smd["effect"].value == pytest.approx(gap)


def probabilities(seed=0):
    rng = np.random.default_rng(seed)
    sets = encode_label_sets(REFERENCE, TASK, "a")
    return np.clip(np.where(sets, 0.7, 0.3) + rng.normal(scale=0.25, size=sets.shape), 0.01, 0.99)


def test_probabilities_are_judged_label_by_label_as_scikit_learn_does():
    sets, given = encode_label_sets(REFERENCE, TASK, "a"), probabilities()
    found = probability_metrics(REFERENCE, given, TASK, resamples=200)
    areas = [roc_auc_score(sets[:, place], given[:, place]) for place in range(3)]
    assert [found.auc_per_label[name].value for name in NAMES] == pytest.approx(areas)
    assert found.auc.value == pytest.approx(np.mean(areas))
    assert found.brier.value == pytest.approx(
        np.mean([brier_score_loss(sets[:, place], given[:, place]) for place in range(3)])
    )
    assert found.log_loss.value == pytest.approx(
        np.mean([log_loss(sets[:, place], given[:, place]) for place in range(3)])
    )


def test_bins_hold_every_label_of_every_row():
    found = probability_metrics(REFERENCE, probabilities(), TASK, resamples=50)
    assert sum(each.rows for each in found.reliability) == 3 * len(REFERENCE)
    gaps = [each.rows * abs(each.accuracy.value - each.mean_probability) for each in found.reliability]
    assert found.ece.value == pytest.approx(sum(gaps) / (3 * len(REFERENCE)))


def test_probabilities_outside_0_and_1_are_refused():
    with pytest.raises(DataError, match=r"and be in \[0, 1\]$"):
        probability_metrics(["cause"], np.array([[1.2, 0.0, 0.0]]), TASK)


def test_each_label_s_share_is_corrected_by_its_own_error_rates():
    rows = [("none", "none")] * 80 + [("none", "cause")] * 20 + [("cause", "none")] * 10 + [("cause", "cause")] * 90
    scored = ["cause"] * 540 + ["cause;effect"] * 10 + ["none"] * 450
    found = prevalence(scored, *zip(*rows, strict=True), TASK)
    assert found.observed["cause"].value == 0.55
    assert found.corrected["cause"].value == pytest.approx((0.55 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert "effect" not in found.corrected
    assert found.fails.startswith("effect: no coded row has the label effect")


def test_a_known_set_of_labels_counts_for_each_of_them():
    rows = [(code, code) for code in ("none", "cause", "effect", "example", "cause;effect")] * 20
    found = prevalence(["none"] * 50, *zip(*rows, strict=True), TASK, known=["cause;effect"] * 30 + ["none"] * 20)
    assert (found.rows, found.known) == (100, 50)
    assert [found.corrected[name].value for name in NAMES] == pytest.approx([0.3, 0.3, 0])
    assert found.corrected["example"].high > 0
