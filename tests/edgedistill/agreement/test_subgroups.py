"""Groups of learners have the figures of their rows, and small groups have none."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from edgedistill.agreement import subgroups
from edgedistill.agreement.subgroups import mean_differences
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task

TWO = Task("nominal", (Label("no"), Label("yes")), ("response",))
LEVELS = Task("ordinal", (Label("low"), Label("middle"), Label("high")), ("response",))
HUMAN = ["no", "yes", "yes", "no"] * 15
CODED = ["no", "yes", "no", "no"] * 10 + ["no", "yes", "yes", "yes"] * 5
WHO = ["college"] * 40 + ["preservice"] * 20


def test_each_group_has_the_figures_of_its_own_rows():
    college, preservice = subgroups(HUMAN, CODED, WHO, TWO)
    assert (college.value, college.rows, preservice.value, preservice.rows) == ("college", 40, "preservice", 20)
    assert college.accuracy.value == pytest.approx(0.75)
    assert college.kappa.value == pytest.approx(cohen_kappa_score(HUMAN[:40], CODED[:40]))
    assert preservice.kappa.low <= preservice.kappa.value <= preservice.kappa.high


def test_a_group_below_the_smallest_is_counted_and_has_no_figures():
    college, preservice = subgroups(HUMAN, CODED, WHO, TWO, smallest=21)
    assert not college.suppressed
    assert (preservice.rows, preservice.suppressed) == (20, True)
    assert (preservice.accuracy, preservice.kappa, preservice.smd) == (None, None, {})


def test_rows_without_a_value_belong_to_no_group():
    assert [each.rows for each in subgroups(HUMAN, CODED, ["x"] * 30 + [""] * 30, TWO)] == [30]


def test_the_mean_difference_of_a_label_is_its_share_too_much_over_the_spread():
    college, preservice = subgroups(HUMAN, CODED, WHO, TWO)
    human, coded = (np.array([label == "yes" for label in labels[:40]]) for labels in (HUMAN, CODED))
    expected = (coded.mean() - human.mean()) / np.sqrt((coded.var(ddof=1) + human.var(ddof=1)) / 2)
    assert college.smd["yes"].value == pytest.approx(expected)
    assert college.smd["no"].value == pytest.approx(-expected)
    assert preservice.smd["yes"].value > 0


def test_an_ordinal_task_has_one_mean_difference_of_scores():
    human, coded = ["low", "middle", "high", "high"] * 6, ["middle", "middle", "high", "high"] * 6
    (found,) = subgroups(human, coded, ["x"] * 24, LEVELS)
    scores = [np.array([LEVELS.names.index(label) for label in labels]) for labels in (human, coded)]
    spread = np.sqrt((scores[0].var(ddof=1) + scores[1].var(ddof=1)) / 2)
    assert set(found.smd) == {"score"}
    assert found.smd["score"].value == pytest.approx((scores[1].mean() - scores[0].mean()) / spread)


def test_the_mean_difference_is_cohens_d_of_a_textbook():
    # Means 2 apart and standard deviations of 2 in both codings give 1.0: scores 0, 4 against 2, 6 of equal counts.
    confusion = np.zeros((1, 4, 4), dtype=np.int64)
    confusion[0, 0, 1] = confusion[0, 2, 3] = 5000
    assert mean_differences(confusion, np.array([0.0, 2.0, 4.0, 6.0]))[0] == pytest.approx(1.0, abs=0.001)


def test_a_mean_difference_without_spread_is_none():
    (found,) = subgroups(["no"] * 25, ["no"] * 25, ["x"] * 25, TWO)
    assert found.smd == {"no": None, "yes": None}
    assert found.kappa is None
    assert found.accuracy.value == 1.0


def test_a_group_of_one_learner_is_counted_and_has_no_figures():
    college, _ = subgroups(
        HUMAN, CODED, WHO, TWO, groups=["s1" if who == "college" else str(n) for n, who in enumerate(WHO)]
    )
    assert (college.suppressed, college.kappa, college.rows) == (True, None, WHO.count("college"))


def test_whole_learners_are_resampled_in_a_group_with_several():
    learners = [str(row // 10) for row in range(60)]
    alone, clustered = (subgroups(HUMAN, CODED, WHO, TWO, groups=groups)[0] for groups in (None, learners))
    assert clustered.accuracy.value == alone.accuracy.value
    assert clustered.accuracy != alone.accuracy


def test_a_value_per_row_is_required():
    with pytest.raises(DataError, match="there are 60 rows but 3 subgroup values"):
        subgroups(HUMAN, CODED, ["x"] * 3, TWO)
