"""Predictions of what more codes bring, against what they do bring."""

import numpy as np
import pytest

from edgedistill.agreement import agreement
from edgedistill.decisions import expected_gain
from edgedistill.decisions.expected_gain import expected_interval, expected_width
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", tuple(map(Label, "abc")), ("response",))
SEVERAL = Task("multilabel", tuple(map(Label, "ab")), ("response",))
TABLE = np.array([[0.3, 0.05, 0.02], [0.04, 0.25, 0.04], [0.03, 0.05, 0.22]])


def codings(rng, rows, table=TABLE):
    cells = rng.choice(9, size=rows, p=table.ravel())
    return ["abc"[cell // 3] for cell in cells], ["abc"[cell % 3] for cell in cells]


def measured(rng, rows):
    return agreement(*codings(rng, rows), TASK, resamples=400)


def test_the_predicted_range_holds_nine_of_ten_future_lower_ends(monkeypatch):
    monkeypatch.setattr(expected_gain, "SIMULATIONS", 60)
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(20):
        truth, coded = codings(rng, 80)
        before = agreement(truth, coded, TASK, resamples=400)
        expected = expected_interval(before, "kappa", 80)
        more = codings(rng, 80)
        after = agreement(truth + more[0], coded + more[1], TASK, resamples=400)
        inside.append(expected.low[0] <= after.kappa.low <= expected.low[2])
    assert np.mean(inside) >= 0.75


def test_more_rows_raise_the_lower_end_and_narrow_the_interval():
    now = measured(np.random.default_rng(0), 100)
    few, many = (expected_interval(now, "kappa", rows, at_least=0.6) for rows in (40, 400))
    assert few.low[1] < many.low[1] < now.kappa.value
    assert many.width < few.width < now.kappa.high - now.kappa.low
    assert many.reaches > few.reaches
    assert expected_interval(now, "kappa", 20).reaches is None


@pytest.mark.parametrize("metric", ["kappa", "accuracy", "macro_f1"])
def test_every_metric_of_the_gate_is_predicted(metric):
    found = expected_interval(measured(np.random.default_rng(1), 60), metric, 60)
    assert found.low[0] < found.low[1] < found.low[2]


def test_rows_of_few_learners_bring_less():
    rng = np.random.default_rng(2)
    truth, coded = codings(rng, 120)
    learners = [f"s{row // 12}" for row in range(120)]
    order = np.argsort([a == b for a, b in zip(truth, coded, strict=True)], kind="stable")
    truth, coded = [truth[i] for i in order], [coded[i] for i in order]
    alone = expected_interval(agreement(truth, coded, TASK), "kappa", 60)
    grouped = expected_interval(agreement(truth, coded, TASK, groups=learners), "kappa", 60)
    assert grouped.width > alone.width


def test_label_sets_are_predicted_by_the_square_root_of_the_rows():
    truth, coded = ["a", "b", "a;b", "none"] * 20, ["a", "b", "a", "none"] * 20
    now = agreement(truth, coded, SEVERAL)
    found = expected_interval(now, "kappa", 240)
    assert found.width == pytest.approx((now.kappa.high - now.kappa.low) / 2, rel=0.1)


@pytest.mark.parametrize("groups", [None, ["s1"] * 40])
def test_nothing_is_predicted_from_one_learner_or_an_undefined_figure(groups):
    labels = ["a"] * 40 if groups is None else ["a", "b"] * 20
    assert expected_interval(agreement(labels, labels, TASK, groups=groups), "kappa", 20) is None


def test_the_width_of_an_estimate_is_that_of_its_simulation():
    rng = np.random.default_rng(4)
    big = agreement(*codings(rng, 20_000), TASK, resamples=10)
    found = expected_width(big, [{f"r{n}": 0.05 for n in range(2000)}], [100])
    assert found.codes == 100
    table = np.array(big.confusion) / 20_000
    place = "abc".index(found.label)
    given = table[:, place].sum()
    slope = (table[place, place] - table[place].sum() * given) / (given * (1 - given))
    errors, alone = [], []
    for _ in range(2000):
        truth, coded = codings(rng, 100)
        hits = np.array([code == found.label for code in truth]), np.array([code == found.label for code in coded])
        errors.append((hits[0] - slope * hits[1]).mean())
        alone.append(hits[0].mean())
    assert found.corrected == pytest.approx(1.96 * np.std(errors), rel=0.08)
    assert found.human_only == pytest.approx(1.96 * np.std(alone), rel=0.08)


def test_unequal_probabilities_count_as_fewer_codes():
    now = measured(np.random.default_rng(0), 100)
    equal = expected_width(now, [{f"r{n}": 0.1 for n in range(100)}], [10])
    unequal = expected_width(now, [{f"r{n}": 0.05 if n % 2 else 0.15 for n in range(100)}], [10])
    assert unequal.corrected > equal.corrected
    two = expected_width(now, [{f"r{n}": 0.1 for n in range(100)}] * 2, [10, 10])
    assert two.corrected == pytest.approx(equal.corrected / np.sqrt(2))


def test_a_student_at_chance_makes_no_estimate_wider():
    table = np.full((3, 3), 1 / 9)
    found = expected_width(agreement(*codings(np.random.default_rng(0), 5000, table), TASK), [{"r": 0.5}], [1])
    assert 0.99 * found.human_only < found.corrected <= found.human_only


def test_label_sets_have_a_width_too():
    now = agreement(["a", "b", "a;b", "none"] * 20, ["a", "b", "a", "none"] * 20, SEVERAL)
    found = expected_width(now, [{f"r{n}": 0.5 for n in range(80)}], [40])
    assert found.label == "b"
    assert found.corrected < found.human_only
