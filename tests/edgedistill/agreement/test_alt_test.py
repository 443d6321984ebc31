"""The alternative annotator test: its arithmetic by hand, its error rate, and coders that cannot be tested."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, multinomial, ttest_1samp
from scipy.stats import t as student

import edgedistill as ed
from edgedistill.agreement.alt_test import alt_test, exact_p, t_test_p
from edgedistill.errors import ArgumentError, DataError
from edgedistill_serve.task.task import Label, Task

NOMINAL, ORDINAL, SETS = (
    Task(kind, (Label("a"), Label("b"), Label("c")), ("response",)) for kind in ("nominal", "ordinal", "multilabel")
)


def codes(*runs):
    """Labels from pairs of a label and how often it comes."""
    return [label for label, times in runs for _ in range(times)]


# 24 rows alike; 8 on which only A differs; 4 on which only the machine differs; 4 on which B and the machine differ.
HAND = {
    "A": codes(("a", 24), ("b", 8), ("a", 4), ("a", 4)),
    "B": codes(("a", 24), ("a", 8), ("a", 4), ("b", 4)),
    "C": codes(("a", 24), ("a", 8), ("a", 4), ("a", 4)),
}
MACHINE = codes(("a", 24), ("a", 8), ("b", 4), ("b", 4))


def test_the_paper_s_test_is_what_a_reader_computes_by_hand():
    found = alt_test(MACHINE, HAND, NOMINAL, epsilon=0.2, decision="t")
    # Without A, the machine alone agrees with B and C on 8 rows, A alone on 4, and both equally on 28.
    assert [each.advantage.value for each in found.coders] == [36 / 40, 36 / 40, 36 / 40]
    assert [each.coder_advantage.value for each in found.coders] == [32 / 40, 1.0, 1.0]
    # Differences of A: 4 x 1, 8 x -1, mean -0.1, sum of squares 12 - 40 x 0.01; of B: 4 x 1, mean 0.1, 4 - 40 x 0.01.
    of_a = student.cdf((-0.1 - 0.2) / math.sqrt(11.6 / 39 / 40), 39)
    of_b = student.cdf((0.1 - 0.2) / math.sqrt(3.6 / 39 / 40), 39)
    assert [each.p for each in found.coders] == pytest.approx([of_a, of_b, of_b])
    assert of_b == pytest.approx(0.022, abs=0.0005)
    # Benjamini and Yekutieli: the largest of three p-values may be 0.05 / (1 + 1/2 + 1/3) = 0.0273.
    assert [each.beaten for each in found.coders] == [True, True, True]
    assert (found.winning_rate, found.passed, found.advantage.value) == (1.0, True, pytest.approx(0.9))
    assert (found.rows, found.uncoded, found.alignment) == (40, 0, "accuracy")


def test_the_exact_test_does_not_take_four_lost_rows_of_forty_for_a_proof():
    found = alt_test(MACHINE, HAND, NOMINAL, epsilon=0.2)
    # If a coder is better on a fifth of the rows and equal on the others, 4 or fewer of 40 have a chance of 7.6 %.
    assert found.coders[1].p >= binom.cdf(4, 40, 0.2) > 0.05
    assert [each.beaten for each in found.coders] == [True, False, False]
    assert (found.winning_rate, found.passed) == (pytest.approx(1 / 3), False)
    assert "not passed: beats 1 of 3 coders (winning rate 0.33, 0.50 required, epsilon 0.2)" in repr(found)


@pytest.mark.parametrize("rows", [30])
@pytest.mark.parametrize("ties", [0.8, 0.5, 0.0])
def test_the_exact_test_rejects_a_true_hypothesis_in_at_most_five_percent(rows, ties):
    epsilon, rejected, rejected_by_t = 0.2, 0.0, 0.0
    chances = [(1 - ties + epsilon) / 2, max(0.0, (1 - ties - epsilon) / 2), ties]
    for more in range(rows + 1):
        for fewer in range(rows + 1 - more if chances[1] else 1):
            chance = multinomial.pmf([more, fewer, rows - more - fewer], rows, chances)
            if chance > 1e-7:
                rejected += chance * (exact_p(more, fewer, rows, epsilon) <= 0.05)
                differences = np.repeat([1, -1, 0], [more, fewer, rows - more - fewer])
                rejected_by_t += chance * (t_test_p(differences, epsilon) <= 0.05)
    assert rejected <= 0.05
    if ties == 0.8 and rows == 30:
        assert rejected_by_t > 0.1  # why it does not decide


def test_beyond_a_thousand_rows_the_score_is_normal():
    exact, normal = exact_p(170, 30, 1000, 0.17), exact_p(170, 30, 1001, 0.17)
    assert exact == pytest.approx(normal, rel=0.15)


def test_the_t_test_is_that_of_scipy_and_of_group_sums_with_groups():
    rng = np.random.default_rng(0)
    differences = rng.integers(-1, 2, 60)
    assert t_test_p(differences, 0.1) == pytest.approx(ttest_1samp(differences, 0.1, alternative="less").pvalue)
    copied, groups = np.repeat(differences, 5), np.repeat(np.arange(60), 5)
    assert t_test_p(copied, 0.1, groups) == pytest.approx(t_test_p(differences, 0.1))
    assert t_test_p(np.zeros(30, dtype=int), 0.1) == 0
    assert t_test_p(np.zeros(30, dtype=int), 0.0) == 1


def test_copies_in_a_group_beat_nobody():
    alone = alt_test(MACHINE, HAND, NOMINAL, epsilon=0.2)
    copied = {name: column * 5 for name, column in HAND.items()}
    groups = [f"learner {place}" for place in range(40)] * 5
    grouped = alt_test(MACHINE * 5, copied, NOMINAL, epsilon=0.2, groups=groups)
    assert grouped.groups == 40
    assert [each.p for each in grouped.coders] == pytest.approx([each.p_t for each in alone.coders])
    width, exact_width = (each.advantage.high - each.advantage.low for each in (grouped, alone))
    assert width > 0.7 * exact_width


def test_ordinal_labels_are_compared_by_distance():
    others = ["a"] * 30
    near, far = ["b"] * 30, ["c"] * 30
    found = alt_test(near, {"far": far, "one": others, "two": others}, ORDINAL, epsilon=0.1)
    # b is at distance 1 of both others, c at 2; against one and two the machine has (1, 1) and the coder (0, 4).
    assert [each.advantage.value for each in found.coders] == [1.0, 1.0, 1.0]
    assert [each.coder_advantage.value for each in found.coders] == [0.0, 0.0, 0.0]
    assert found.alignment == "-rmse"
    nominal = alt_test(near, {"far": far, "one": others, "two": others}, NOMINAL, epsilon=0.1)
    assert [each.advantage.value for each in nominal.coders] == [1.0, 0.0, 0.0]


def test_label_sets_are_compared_by_their_jaccard_index():
    found = alt_test(
        ["a;b"] * 30 + ["none"] * 10,
        {"x": ["a"] * 30 + ["none"] * 10, "y": ["a;b;c"] * 30 + ["none"] * 10, "z": ["a;b"] * 40},
        SETS,
        epsilon=0.1,
    )
    # Against y and z: the machine 2/3 + 1, x 1/3 + 1/2. On the last rows against y and z: 1 + 0 for both.
    assert found.coders[0].advantage.value == 1.0
    assert found.coders[0].coder_advantage.value == 10 / 40
    # Against x and z: the machine 1/2 + 1, y 1/3 + 2/3. Against x and y: the machine 1/2 + 2/3, and so has z.
    assert [each.coder_advantage.value for each in found.coders[1:]] == [10 / 40, 30 / 40]
    assert found.alignment == "jaccard"


def test_blank_codes_are_missing_and_unlabelled_rows_are_lost():
    frame = pd.DataFrame(HAND)
    frame.loc[0, "A"], frame.loc[1, "B"], frame.loc[2, "C"] = None, float("nan"), " "
    frame.loc[3, ["A", "B"]] = ""
    labels = pd.Series(MACHINE)
    found = ed.alt_test(labels, frame, NOMINAL)
    assert [each.rows for each in found.coders] == [38, 38, 38]
    assert found.rows == 39
    labels[[4, 5]] = None
    lost = ed.alt_test(labels, frame, NOMINAL)
    assert lost.uncoded == 2
    for before, after in zip(found.coders, lost.coders, strict=True):
        assert after.advantage.value == pytest.approx(before.advantage.value - 2 / 38)
        assert after.coder_advantage.value == before.coder_advantage.value


def test_a_coder_with_few_shared_rows_is_left_out_by_name_and_number():
    few = [*HAND["C"][:12], *[None] * 28]
    found = alt_test(MACHINE, {**HAND, "D": few}, NOMINAL)
    assert [each.coder for each in found.coders] == ["A", "B", "C"]
    (note, same) = found.notes[:2]
    assert note == "D is left out: 12 of this coder's rows have the code of another coder, 30 are needed (18 more)"
    assert same == "C gave all 40 rows the label 'a'; agreement with this coder shows little"
    with pytest.raises(DataError, match=r"needs 3 coders with 30 rows each: D is left out: 12 .* \(18 more\)"):
        alt_test(MACHINE, {"A": HAND["A"], "B": HAND["B"], "D": few}, NOMINAL)


def test_a_coder_of_one_group_is_left_out():
    groups = ["x"] * 40
    with pytest.raises(DataError, match="A is left out: all rows of this coder belong to one group"):
        alt_test(MACHINE, HAND, NOMINAL, groups=groups)


@pytest.mark.parametrize(
    ("coders", "message"),
    [
        ({"A": HAND["A"], "B": HAND["B"]}, "needs at least 3 coders, not 2"),
        ({**HAND, "D": ["a"] * 39}, "D has 39 codes for 40 labels"),
        ({**HAND, "D": ["d"] * 40}, "the task has no label 'd'"),
        (
            {name: ["a" if row % 3 == place else None for row in range(40)] for place, name in enumerate("ABC")},
            "no row has the codes of two coders",
        ),
    ],
)
def test_codes_that_cannot_be_compared_are_errors(coders, message):
    with pytest.raises(DataError, match=message):
        alt_test(MACHINE, coders, NOMINAL)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 1.0}, {"epsilon": -0.1}, {"alpha": 0.0}, {"least_rows": 0}, {"decision": "z"}]
)
def test_numbers_out_of_range_are_errors(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        alt_test(MACHINE, HAND, NOMINAL, **wrong)


def test_a_label_that_is_not_text_is_named_with_its_row():
    with pytest.raises(DataError, match="the label 3 is not text") as error:
        alt_test(MACHINE, {**HAND, "A": [3, *HAND["A"][1:]]}, NOMINAL)
    assert "A label 1" in str(error.value)


def test_the_result_is_plain_data_and_a_table():
    found = alt_test(MACHINE, HAND)
    assert found.as_dict()["coders"][0]["advantage"]["value"] == 0.9
    assert "<td>0.90 [0.76, 0.97]</td>" in found._repr_html_()
