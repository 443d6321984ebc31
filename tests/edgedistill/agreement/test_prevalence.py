"""Label shares corrected for misclassification recover the true shares, or there is a reason why not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.agreement import prevalence
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task

RATES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
ACCURATE = [[40, 10], [10, 40]]


def task_of(names):
    return Task("nominal", tuple(map(Label, names)), ("response",))


def repeated(counts):
    """Labels, each as often as its count says."""
    return [name for name, count in counts.items() for _ in range(count)]


def rows_of(confusion, names):
    """Coded rows, reference and coding, that a confusion counts."""
    cells = [(one, other, confusion[i][j]) for i, one in enumerate(names) for j, other in enumerate(names)]
    return [[cell[side] for cell in cells for _ in range(cell[2])] for side in (0, 1)]


def found_of(counts, confusion, **given):
    """The prevalence of responses with these counts, error rates being those of a confusion."""
    return prevalence(repeated(counts), *rows_of(confusion, list(counts)), task_of(counts), **given)


def counted(shares, rates, rows=100_000):
    return {name: round(rows * share) for name, share in zip("abc", np.array(shares) @ rates, strict=False)}


def of_learners(rng, learners, answers, positive):
    """Coded rows of learners whose answers are harder or easier, by 0 and 1, and whose each is."""
    right = np.repeat(rng.beta(1.6, 0.4, size=(learners, 2)), answers, axis=0)
    truth = (rng.random(learners * answers) < positive).astype(int)
    correct = rng.random(len(truth)) < right[np.arange(len(truth)), truth]
    groups = [str(row // answers) for row in range(len(truth))]
    return truth, np.where(correct, truth, 1 - truth), groups


def test_three_labels_get_their_true_shares_back():
    true = [0.5, 0.2, 0.3]
    found = found_of(counted(true, RATES), (RATES * 2000).round().astype(int).tolist())
    assert found.method == "confusion matrix inverted"
    for name, share in zip("abc", true, strict=True):
        corrected = found.corrected[name]
        assert corrected.value == pytest.approx(share, abs=0.001)
        assert corrected.low < share < corrected.high
    assert not found.clipped


def test_fewer_coded_rows_give_a_wider_interval():
    widths = []
    for rows in (100, 4000):
        found = found_of(counted([0.5, 0.2, 0.3], RATES), (RATES * rows).round().astype(int).tolist())
        widths.append(found.corrected["b"].high - found.corrected["b"].low)
    assert widths[0] > 4 * widths[1]


@pytest.mark.parametrize(("rows", "rates"), [((70, 50), (0.9, 0.75)), ((30, 10), (0.95, 0.95))])
def test_the_interval_holds_the_true_share_about_as_often_as_it_says(rows, rates):
    rng, true, covered, trials = np.random.default_rng(0), 0.3, 0, 0
    for trial in range(200):
        right = [int(rng.binomial(*each)) for each in zip(rows, rates, strict=True)]
        confusion = [[right[0], rows[0] - right[0]], [rows[1] - right[1], right[1]]]
        positive = int(rng.binomial(500, true * rates[1] + (1 - true) * (1 - rates[0])))
        found = found_of({"no": 500 - positive, "yes": positive}, confusion, resamples=300, seed=trial)
        if found.corrected:
            trials += 1
            covered += found.corrected["yes"].low <= true <= found.corrected["yes"].high
    assert trials > 190
    assert 0.91 <= covered / trials <= 0.99


def test_learners_who_differ_widen_the_interval_until_it_holds_the_true_share():
    rng, covered, names = np.random.default_rng(1), {True: 0, False: 0}, np.array(["no", "yes"])
    for trial in range(100):
        truth, coded, groups = of_learners(rng, 20, 20, 0.3)
        positive = int(rng.binomial(5000, 0.3 * 0.8 + 0.7 * 0.2))
        for grouped in covered:
            found = prevalence(
                repeated({"no": 5000 - positive, "yes": positive}),
                names[truth].tolist(),
                names[coded].tolist(),
                task_of(names),
                groups=groups if grouped else None,
                resamples=200,
                seed=trial,
            )
            covered[grouped] += found.corrected["yes"].low <= 0.3 <= found.corrected["yes"].high
    assert covered[True] >= 85 > covered[False]


def test_a_few_faultless_rows_are_not_certain():
    share = found_of({"a": 500, "b": 500}, [[5, 0], [0, 5]]).corrected["b"]
    assert share.value == 0.5
    assert share.low < 0.35
    assert share.high > 0.65


def test_many_faultless_rows_leave_hardly_more_than_the_counting():
    found = found_of({"a": 500, "b": 500}, [[5000, 0], [0, 5000]])
    widths = [each["b"].high - each["b"].low for each in (found.observed, found.corrected)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_groups_of_one_row_give_about_the_interval_of_rows():
    given, groups = ({"a": 300, "b": 700}, ACCURATE), [str(row) for row in range(100)]
    alone, grouped = (found_of(*given, groups=each).corrected["a"] for each in (None, groups))
    assert grouped.low == pytest.approx(alone.low, abs=0.02)
    assert grouped.high == pytest.approx(alone.high, abs=0.02)


def test_coded_rows_of_one_group_give_no_correction_and_a_reason():
    found = found_of({"a": 30, "b": 70}, ACCURATE, groups=["x"] * 100)
    assert found.corrected is None
    assert "one group" in found.fails


def test_the_observed_shares_are_those_of_the_counts():
    found = found_of({"a": 30, "b": 70}, [[9, 1], [1, 9]], resamples=100)
    assert (found.rows, found.known, found.error_rates_from) == (100, 0, 20)
    assert found.observed["a"].value == pytest.approx(0.3)


def test_known_codes_count_as_they_are_and_the_others_corrected():
    found = found_of({"a": 250, "b": 150}, ACCURATE, known=["b"] * 600)
    assert (found.rows, found.known) == (1000, 600)
    others = (250 / 400 + 0.8 - 1) / (0.8 + 0.8 - 1)
    assert found.corrected["a"].value == pytest.approx(0.4 * others)
    assert found.observed["a"].value == pytest.approx(0.25)


def test_known_codes_narrow_the_interval():
    few, many = (
        found_of({"a": 250, "b": 150}, ACCURATE, known=["a", "b"] * count).corrected["a"] for count in (1, 600)
    )
    assert many.high - many.low < (few.high - few.low) / 2


def test_where_every_code_is_known_no_error_rate_is_needed():
    found = found_of({"a": 0, "b": 0}, [[5, 5], [0, 0]], known=["a"] * 30 + ["b"] * 70)
    assert found.fails is None
    assert found.corrected == found.observed
    assert found.corrected["a"].value == pytest.approx(0.3)


def test_a_negative_share_is_clipped_to_zero_and_reported():
    found = found_of({"a": 99, "b": 1}, [[80, 20], [20, 80]], resamples=100)
    assert found.clipped
    assert (found.corrected["a"].value, found.corrected["b"].value) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("confusion", "why"),
    [
        ([[5, 5], [0, 0]], "no coded row has the label b"),
        ([[5, 5], [5, 5]], "do not show that the classifier is better than chance"),
        ([[1, 9], [9, 1]], "do not show that the classifier is better than chance"),
        ([[6, 5], [5, 6]], "too few coded rows"),
        ([[30, 20], [20, 30]], None),
    ],
)
def test_without_usable_error_rates_there_is_no_correction_but_a_reason(confusion, why):
    found = found_of({"a": 30, "b": 70}, confusion, resamples=200)
    if why is None:
        assert found.corrected is not None
    else:
        assert found.corrected is None
        assert why in found.fails


def test_too_few_coded_rows_are_reported():
    confusion = np.full((6, 6), 1) + np.eye(6, dtype=int)
    found = found_of(dict.fromkeys("abcdef", 10), confusion.tolist(), resamples=200)
    assert "too few coded rows" in found.fails


COUNTS = st.lists(st.integers(0, 50), min_size=3, max_size=3)


@given(COUNTS.filter(any), COUNTS, st.integers(0, 99))
def test_corrected_shares_are_shares(counts, known, seed):
    scored, known_counts = (dict(zip("abc", each, strict=True)) for each in (counts, known))
    found = found_of(
        scored, (RATES * 40).round().astype(int).tolist(), known=repeated(known_counts), resamples=20, seed=seed
    )
    assert found.corrected is not None
    assert sum(each.value for each in found.corrected.values()) == pytest.approx(1)
    assert all(0 <= each.low <= each.high <= 1 for each in found.corrected.values())


def test_no_responses_are_refused():
    with pytest.raises(DataError, match="there are no responses"):
        found_of({"a": 0, "b": 0}, [[1, 0], [0, 1]])


def test_a_label_that_the_task_lacks_is_refused():
    with pytest.raises(DataError, match="scored label 1: the task has no label 'c'"):
        prevalence(["c"], ["a", "b"], ["a", "b"], task_of("ab"))
