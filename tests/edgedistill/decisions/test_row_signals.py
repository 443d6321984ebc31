"""The signals by which rows are drawn."""

import numpy as np
import pytest

from edgedistill.data.types import TeacherLabel
from edgedistill.decisions.row_signals import coverage, disagreement, novelty_ranks, uncertainty
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("yes"), Label("no")), ("response",))
SEVERAL = Task("multilabel", (Label("a"), Label("b"), Label("c")), ("response",))


def teacher(ident, label, consistency):
    return TeacherLabel(ident, label, consistency, {label: consistency}, (label,), "t")


def test_uncertainty_is_the_standard_deviation_of_the_code():
    found = uncertainty(np.array([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]]))
    assert found == pytest.approx([0, np.sqrt(0.5), np.sqrt(0.18)])


def test_votes_and_the_students_label_disagree():
    labels = {"r1": teacher("r1", "yes", 1.0), "r2": teacher("r2", "yes", 2 / 3)}
    found = disagreement(["r1", "r2"], labels, {"r1": "no", "r2": "yes"}, TASK)
    assert found == pytest.approx([0.5, 1 / 6])
    assert disagreement(["r1", "r2"], labels, None, TASK) == pytest.approx([0, 1 / 3])


def test_a_row_without_a_teachers_label_counts_as_the_mean_of_the_others():
    labels = {"r1": teacher("r1", "yes", 1.0), "r2": teacher("r2", "yes", 0.5)}
    assert disagreement(["r1", "r2", "r3"], labels, None, TASK)[2] == pytest.approx(0.25)
    assert disagreement(["r3"], {}, None, TASK).tolist() == [0.0]


def test_label_sets_disagree_by_the_labels_that_only_one_of_them_assigns():
    labels = {"r1": teacher("r1", "a;b", 1.0), "r2": teacher("r2", "none", 1.0)}
    found = disagreement(["r1", "r2"], labels, {"r1": "b;c", "r2": "none"}, SEVERAL)
    assert found == pytest.approx([2 / 3 / 2, 0])


def test_novelty_counts_by_rank():
    assert novelty_ranks(np.array([3.0, 100.0, 3.0, 7.0])).tolist() == [0.375, 1.0, 0.375, 0.75]


def test_each_question_has_the_same_share_and_less_where_rows_are_coded():
    strata = [("q1",), ("q1",), ("q1",), ("q2",)]
    assert coverage(strata, []) == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    found = coverage(strata, [("q2",)] * 3)
    assert found[3] == pytest.approx(found[:3].sum() / 4)


def test_questions_and_learners_are_covered_together():
    found = coverage([("q1", "s1"), ("q1", "s2"), ("q2", "s1")], [("q1", "s2")])
    assert found.sum() == pytest.approx(2)
    assert found.argmax() == 2


@pytest.mark.parametrize("strata", [[("q1",)] * 3, [()] * 3, [(None,)] * 2, []])
def test_there_is_nothing_to_cover_in_one_group(strata):
    assert coverage(strata, []) is None
