"""Metrics of students and of conditions over their seeds."""

import pytest

from edgedistill.agreement import agreement
from edgedistill.studies.estimates import result_rows, summaries
from edgedistill.studies.study_file import LabelSourceSection
from edgedistill.studies.summary import medians_table
from edgedistill.studies.tables import summary_tables
from edgedistill.studies.types import Predictions, RunPlan, RunResult, StudentResult

from .study_inputs import NAMES, TASK, inputs


def said(right):
    """What a student says that is right on the first so many of 20 test rows."""
    truth = [NAMES[i % 2] for i in range(20)]
    return tuple(label if i < right else NAMES[1 - i % 2] for i, label in enumerate(truth))


def lines(condition, rights, reference="", task=None, probabilities=True):
    task = task or inputs()
    found = []
    for seed, right in enumerate(rights):
        labels = said(right)
        shares = tuple((0.75, 0.25) if label == "yes" else (0.25, 0.75) for label in labels) if probabilities else None
        outcome = RunResult("id", (StudentResult(0, {"human": 5}, (Predictions("test", labels, shares),), 1.0),))
        plan = RunPlan("toy", condition, "fine-tuned", seed, reference=reference)
        found += result_rows(plan, outcome, task)
    return found


def told(gain):
    return gain.macro_f1.value, gain.macro_f1.low, gain.macro_f1.high


def summary(*found, task=None):
    return summaries([line for each in found for line in each], {"toy": task or inputs()})


def test_a_conditions_figure_is_the_mean_over_its_seeds():
    (found,) = summary(lines("a", [18, 14, 16]))
    each = [line.figures.agreement.macro_f1.value for line in found.lines]
    assert found.macro_f1.value == pytest.approx(sum(each) / 3)


def test_its_interval_holds_the_spread_of_the_seeds_beside_that_of_the_rows():
    alike, apart = (summary(lines("a", rights))[0].macro_f1 for rights in ([15, 15, 15], [20, 15, 10]))
    assert apart.high - apart.low > 1.1 * (alike.high - alike.low)
    alone = agreement([NAMES[i % 2] for i in range(20)], said(15), TASK).macro_f1
    assert alike.high - alike.low == pytest.approx(alone.high - alone.low, abs=0.08)


def test_a_condition_gains_nothing_over_itself():
    _, found = summary(lines("a", [18, 14, 16]), lines("b", [18, 14, 16], reference="a"))
    assert told(found.gain) == (0, 0, 0)


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 1, 0)])
def test_a_gain_is_paired_by_seed_in_whatever_order_the_runs_were_made(order):
    ones, others = lines("a", [18, 12, 6]), lines("b", [18, 12, 6], reference="a")
    _, found = summary(ones, [others[place] for place in order])
    assert told(found.gain) == (0, 0, 0)
    assert [line.plan.seed for line in found.lines] == [0, 1, 2]


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_a_gain_stands_on_the_seeds_that_both_have_and_says_so(failed):
    ones, others = lines("a", [18, 12, 6]), lines("b", [18, 12, 6], reference="a")
    del others[failed]
    _, found = summary(ones, others)
    assert told(found.gain) == (0, 0, 0)
    assert found.gain.part == "2 of 3 seeds"


def test_conditions_without_a_seed_in_common_have_no_gain():
    ones, others = lines("a", [18, 12, 6]), lines("b", [18, 12, 6], reference="a")
    _, found = summary(ones[:1], others[1:])
    assert (found.gain.macro_f1, found.gain.part) == (None, "0 of 3 seeds")


def teacher_itself(labels):
    plan = RunPlan("toy", "the teacher itself", "teacher", 0, coder="gpt")
    outcome = RunResult("id", (StudentResult(0, {}, (Predictions("test", labels),), 0.0),))
    return list(result_rows(plan, outcome, inputs()))


def test_a_student_gains_nothing_over_its_twin_of_a_teacher_that_left_the_hard_rows_uncoded():
    silent = teacher_itself((*said(14)[:14], *[None] * 6))
    _, found = summary(silent, lines("b", [14, 14], reference="the teacher itself"))
    assert told(found.gain) == (0, 0, 0)
    assert found.gain.f1.value == 0
    assert found.gain.part == "14 of 20 rows"


def test_the_teacher_stands_beside_every_seed():
    _, found = summary(teacher_itself(said(20)), lines("b", [20, 10, 0], reference="the teacher itself"))
    each = [line.figures.agreement.macro_f1.value - 1 for line in found.lines]
    assert found.gain.macro_f1.value == pytest.approx(sum(each) / 3)
    assert found.gain.part == ""


def test_a_table_tells_how_much_of_both_a_gain_stands_on():
    silent = teacher_itself((*said(14)[:14], *[None] * 6))
    (sheet,) = summary_tables("t", summary(silent, lines("b", [14, 14], reference="the teacher itself")))
    assert sheet.rows[1][sheet.header.index("gain")] == "+.000 [.000, .000] on 14 of 20 rows"


def test_the_gap_to_the_teacher_is_that_on_the_rows_that_it_coded():
    silent = teacher_itself((*said(14)[:14], *[None] * 6))
    found = summary(silent, lines("teacher 9", [14, 14], reference="the teacher itself"))
    notes = medians_table(found, LabelSourceSection(teacher=(9,)), {"toy": inputs()}).notes
    assert "F1 of 'the teacher itself' less F1 of 'teacher 9': median +.000" in notes[-1]
    assert "(+.000 on 14 of 20 rows)" in notes[-1]


def test_the_gap_of_human_codes_is_paired_by_seed():
    found = summary(lines("human 9", [18, 12, 6])[:2], lines("teacher 9", [18, 12, 6]))
    notes = medians_table(found, LabelSourceSection(teacher=(9,)), {"toy": inputs()}).notes
    assert "(+.000 on 2 of 3 seeds)" in notes[1]


def test_a_gain_is_paired_so_its_interval_is_narrower_than_that_of_either():
    one, other = summary(lines("a", [14, 14, 14]), lines("b", [16, 16, 16], reference="a"))
    assert other.gain.macro_f1.value > 0
    assert other.gain.macro_f1.high - other.gain.macro_f1.low < one.macro_f1.high - one.macro_f1.low


def test_the_positive_labels_f1_is_told_where_one_is_named():
    task = inputs(positive="no")
    (found,) = summary(lines("a", [14], task=task), task=task)
    assert found.f1.value == pytest.approx(found.first.figures.agreement.per_label["no"].f1)


def test_rows_that_the_teacher_left_uncoded_do_not_count():
    labels = (*said(20)[:10], *[None] * 10)
    plan = RunPlan("toy", "the teacher itself", "teacher", 0, coder="gpt")
    outcome = RunResult("id", (StudentResult(0, {}, (Predictions("test", labels),), 0.0),))
    (line,) = result_rows(plan, outcome, inputs())
    assert line.figures.agreement.rows == 10
    assert line.figures.auc is None
    (found,) = summaries([line], {"toy": inputs()})
    assert found.macro_f1.value == 1


def test_the_area_under_the_curve_comes_from_the_probabilities():
    (line,) = lines("a", [20])
    assert line.figures.auc.value == 1
