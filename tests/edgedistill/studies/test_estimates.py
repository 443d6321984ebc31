"""Metrics of students and of conditions over their seeds."""

import re

import pytest

from edgedistill.agreement import agreement
from edgedistill.studies.estimates import score_result, summarize_conditions
from edgedistill.studies.study_file import LabelSourceSection
from edgedistill.studies.summary import medians_table
from edgedistill.studies.tables import summary_tables
from edgedistill.studies.types import Predictions, RunPlan, RunResult, StudentResult

from .study_inputs import NAMES, TASK, inputs


def predictions(right):
    """Labels that are right on the first `right` of 20 test rows."""
    truth = [NAMES[i % 2] for i in range(20)]
    return tuple(label if i < right else NAMES[1 - i % 2] for i, label in enumerate(truth))


def lines(condition, rights, reference="", task=None, probabilities=True):
    task = task or inputs()
    found = []
    for seed, right in enumerate(rights):
        labels = predictions(right)
        shares = tuple((0.75, 0.25) if label == "yes" else (0.25, 0.75) for label in labels) if probabilities else None
        outcome = RunResult("id", (StudentResult(0, {"human": 5}, (Predictions("test", labels, shares),), 1.0),))
        plan = RunPlan("toy", condition, "fine-tuned", seed, reference=reference)
        found += score_result(plan, outcome, task)
    return found


def interval(difference):
    return difference.macro_f1.value, difference.macro_f1.low, difference.macro_f1.high


def summary(*found, task=None):
    return summarize_conditions([line for each in found for line in each], {"toy": task or inputs()})


def test_the_metric_of_a_condition_is_the_mean_over_its_seeds():
    (found,) = summary(lines("a", [18, 14, 16]))
    each = [line.metrics.agreement.macro_f1.value for line in found.lines]
    assert found.macro_f1.value == pytest.approx(sum(each) / 3)


def test_the_interval_includes_the_variation_between_seeds_and_between_rows():
    alike, apart = (summary(lines("a", rights))[0].macro_f1 for rights in ([15, 15, 15], [20, 15, 10]))
    assert apart.high - apart.low > 1.1 * (alike.high - alike.low)
    alone = agreement([NAMES[i % 2] for i in range(20)], predictions(15), TASK).macro_f1
    assert alike.high - alike.low == pytest.approx(alone.high - alone.low, abs=0.08)


def assert_no_difference(found):
    """Equal students differ by nothing on these rows, and perhaps a little on others."""
    value, low, high = interval(found)
    assert value == 0
    assert -0.2 < low < 0 < high < 0.2


def test_a_condition_does_not_differ_from_itself():
    _, found = summary(lines("a", [18, 14, 16]), lines("b", [18, 14, 16], reference="a"))
    assert_no_difference(found.difference)


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 1, 0)])
def test_a_difference_is_paired_by_seed_in_any_order_of_the_runs(order):
    ones, others = lines("a", [18, 12, 6]), lines("b", [18, 12, 6], reference="a")
    _, found = summary(ones, [others[place] for place in order])
    assert_no_difference(found.difference)
    assert [line.plan.seed for line in found.lines] == [0, 1, 2]


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_a_difference_covers_the_shared_seeds_and_reports_their_number(failed):
    ones, others = lines("a", [18, 12, 6]), lines("b", [18, 12, 6], reference="a")
    del others[failed]
    _, found = summary(ones, others)
    assert_no_difference(found.difference)
    assert found.difference.coverage == "2 of 3 seeds"


def test_conditions_without_a_shared_seed_have_no_difference():
    ones, others = lines("a", [18, 12, 6]), lines("b", [18, 12, 6], reference="a")
    _, found = summary(ones[:1], others[1:])
    assert (found.difference.macro_f1, found.difference.coverage) == (None, "0 of 3 seeds")


def teacher_itself(labels):
    plan = RunPlan("toy", "the teacher itself", "teacher", 0, coder="gpt")
    outcome = RunResult("id", (StudentResult(0, {}, (Predictions("test", labels),), 0.0),))
    return list(score_result(plan, outcome, inputs()))


def test_a_student_does_not_differ_from_an_identical_teacher_that_left_the_hard_rows_uncoded():
    silent = teacher_itself((*predictions(14)[:14], *[None] * 6))
    _, found = summary(silent, lines("b", [14, 14], reference="the teacher itself"))
    assert_no_difference(found.difference)
    assert found.difference.f1.value == 0
    assert found.difference.coverage == "14 of 20 rows"


def test_the_teacher_is_paired_with_every_seed():
    _, found = summary(teacher_itself(predictions(20)), lines("b", [20, 10, 0], reference="the teacher itself"))
    each = [line.metrics.agreement.macro_f1.value - 1 for line in found.lines]
    assert found.difference.macro_f1.value == pytest.approx(sum(each) / 3)
    assert found.difference.coverage == ""


def test_a_table_shows_the_rows_that_a_difference_covers():
    silent = teacher_itself((*predictions(14)[:14], *[None] * 6))
    (table,) = summary_tables("t", summary(silent, lines("b", [14, 14], reference="the teacher itself")))
    assert re.fullmatch(
        r"\+\.000 \[-\.1\d\d, \.1\d\d\] on 14 of 20 rows", table.rows[1][table.header.index("difference")]
    )


def test_the_difference_to_the_teacher_covers_the_rows_that_it_labelled():
    silent = teacher_itself((*predictions(14)[:14], *[None] * 6))
    found = summary(silent, lines("teacher 9", [14, 14], reference="the teacher itself"))
    notes = medians_table(found, LabelSourceSection(teacher=(9,)), {"toy": inputs()}).notes
    assert "F1 of 'the teacher itself' minus F1 of 'teacher 9': median +.000" in notes[-1]
    assert "(+.000 on 14 of 20 rows)" in notes[-1]


def test_the_difference_between_label_sources_is_paired_by_seed():
    found = summary(lines("human 9", [18, 12, 6])[:2], lines("teacher 9", [18, 12, 6]))
    notes = medians_table(found, LabelSourceSection(teacher=(9,)), {"toy": inputs()}).notes
    assert "(+.000 on 2 of 3 seeds)" in notes[1]


def test_the_interval_of_a_paired_difference_is_narrower_than_that_of_a_condition():
    one, other = summary(lines("a", [14, 14, 14]), lines("b", [16, 16, 16], reference="a"))
    assert other.difference.macro_f1.value > 0
    assert other.difference.macro_f1.high - other.difference.macro_f1.low < one.macro_f1.high - one.macro_f1.low


def test_f1_is_of_the_positive_label_if_one_is_given():
    task = inputs(positive="no")
    (found,) = summary(lines("a", [14], task=task), task=task)
    assert found.f1.value == pytest.approx(found.first.metrics.agreement.per_label["no"].f1)


def test_rows_that_the_teacher_left_uncoded_are_excluded():
    labels = (*predictions(20)[:10], *[None] * 10)
    plan = RunPlan("toy", "the teacher itself", "teacher", 0, coder="gpt")
    outcome = RunResult("id", (StudentResult(0, {}, (Predictions("test", labels),), 0.0),))
    (line,) = score_result(plan, outcome, inputs())
    assert line.metrics.agreement.rows == 10
    assert line.metrics.auc is None
    (found,) = summarize_conditions([line], {"toy": inputs()})
    assert found.macro_f1.value == 1


def test_the_area_under_the_curve_comes_from_the_probabilities():
    (line,) = lines("a", [20])
    assert line.metrics.auc.value == 1
