"""The aim `at_most_wrong`: a share of wrong codes that is promised, and what happens where nothing can be."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from edgedistill.decisions import AtMostWrong, Circumstances, choose_rule, rule_outcome
from edgedistill.decisions.guarantee import cluster_p_value, critical_sizes, least_rows
from edgedistill.errors import ArgumentError
from edgedistill_serve.bundle.guarantee import describe_guarantee
from edgedistill_serve.bundle.manifest import NEVER_ACCEPTED, ReviewRule
from edgedistill_serve.task.task import Task

from .scoring import TASK, drawn, scores_of

AIM = AtMostWrong(0.05)


def sure(rows, wrong=(), *, labels="abc", **more):
    """Rows in descending order of confidence; those with an index in ``wrong`` have another human code."""
    names = [labels[row % len(labels)] for row in range(rows)]
    logits = [np.eye(3)["abc".index(name)] * (9 - 8 * row / rows) for row, name in enumerate(names)]
    other = {"a": "b", "b": "c", "c": "a"}
    codes = [other[name] if row in wrong else name for row, name in enumerate(names)]
    return scores_of(logits, codes, **more)


def promised(scores, aim=AIM, **circumstances):
    return choose_rule(scores, 1.0, aim, circumstances=Circumstances(**circumstances))


def test_five_percent_need_59_rows_without_an_error_and_93_with_one():
    assert least_rows(0.05, 0.05) == 59
    assert critical_sizes(0.05, 0.05, 160) == (59, 93, 124, 153)
    assert promised(sure(58)).guarantee is None
    assert promised(sure(59)).guarantee.accepted == 59


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([0.01, 0.05, 0.2]), st.sampled_from([0.05, 0.01, 0.003]))
def test_each_critical_size_is_the_smallest_at_which_its_errors_show_the_bound(share, level):
    for errors, rows in enumerate(critical_sizes(share, level, 500)):
        assert binom.cdf(errors, rows, share) <= level < binom.cdf(errors, rows - 1, share)


def test_the_walk_ends_at_the_first_number_of_rows_that_fails():
    # Ranks 100 to 130 hold errors: 124 rows fail, although all 300 would pass.
    found = promised(sure(300, wrong=(100, 105, 110, 115, 120)))
    assert found.guarantee.accepted == 93
    assert binom.cdf(5, 300, 0.05) < 0.05


def test_what_is_promised_is_what_the_rule_accepts():
    scores = sure(250, wrong=(30, 200, 201, 202, 203, 204, 210, 220, 230, 240, 241, 242))
    found = promised(scores)
    outcome = rule_outcome(scores, 1.0, found.rule)
    assert outcome.accepted == found.guarantee.accepted < 250
    assert round((1 - outcome.agreement.accuracy.value) * outcome.accepted) == found.guarantee.wrong
    assert 0 < found.guarantee.bound <= 0.05


def test_where_nothing_can_be_promised_all_goes_to_people_and_the_note_says_how_many_rows_would_do():
    found = promised(sure(40))
    assert (found.met, found.guarantee) == (False, None)
    assert set(found.rule.thresholds.values()) == {NEVER_ACCEPTED}
    assert "At least 59 independent accepted rows" in found.notes[0]
    assert "more coded validation rows like these would be enough with a probability of 80%" in found.notes[0]


def test_where_the_student_errs_too_often_no_number_of_rows_is_named():
    found = promised(sure(100, wrong=range(0, 100, 4)))
    assert "The student errs too often for more rows to help" in found.notes[0]


def test_the_stated_number_of_rows_is_enough_about_as_often_as_stated():
    rng = np.random.default_rng(0)
    note = promised(sure(80, wrong=(20,))).notes[0]
    rows = 80 + int(note.split("About ")[1].split(" more")[0])
    assert rows < 2000
    enough = [promised(sure(rows, wrong=np.flatnonzero(rng.random(rows) < 1 / 80))).guarantee for _ in range(10)]
    assert sum(found is not None for found in enough) >= 6


def test_a_probability_of_exactly_one_is_not_accepted_where_nothing_is_promised():
    scores = scores_of([[60.0, 0, 0]] * 40, "ab" * 20)
    found = promised(scores)
    assert rule_outcome(scores, 1.0, found.rule).accepted == 0


def test_many_compared_students_need_more_rows():
    assert promised(sure(85), compared=4).guarantee is None
    assert promised(sure(86), compared=4).guarantee.compared == 4
    assert "4 students were compared" in promised(sure(85), compared=4).notes[0]


def test_human_codes_choose_neither_the_sequence_nor_the_order():
    # The errors of a label do not move its rows behind those of others: nothing but confidence ranks.
    found = promised(sure(200, wrong=range(150, 200)))
    assert found.guarantee.accepted == promised(sure(200)).guarantee.accepted - 47 or found.guarantee.accepted < 200
    assert len(set(found.rule.thresholds.values())) == 1


def test_learners_are_the_unit_whatever_depends_within_them():
    learners = tuple(str(row // 4) for row in range(160))
    assert promised(sure(160)).guarantee.accepted == 160
    few = promised(sure(160, groups=learners))
    assert few.guarantee is None
    assert "count like 40 independent ones (40 units)" in few.notes[0]
    many = promised(sure(320, groups=tuple(str(row // 4) for row in range(320)))).guarantee
    assert (many.unit, many.units, many.accepted) == ("learners", 80, 320)
    assert "What counts as independent: learners (80)" in describe_guarantee(many)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(20, 200), st.integers(0, 6))
def test_clusters_of_equal_rows_give_no_smaller_p_value_than_single_rows(size, clusters, errors):
    wrong = np.zeros(clusters)
    wrong[:errors] = size
    assert cluster_p_value(wrong, np.full(clusters, float(size)), 0.05) >= binom.cdf(errors, clusters, 0.05) * 0.999


def test_copies_of_a_row_count_once():
    once = sure(40)
    copies = replace(sure(120), encoded=tuple(once.encoded[row // 3] for row in range(120)))
    assert promised(sure(120)).guarantee.accepted == 120
    assert promised(copies).guarantee is None


def test_a_group_in_which_the_bound_fails_stops_the_promise_for_all():
    group = tuple("small" if row % 3 == 0 else "large" for row in range(300))
    wrong = range(150, 180, 3)
    scores = replace(sure(300, wrong=wrong), subgroups=group)
    assert promised(scores).guarantee is not None
    assert promised(scores, AtMostWrong(0.05, groups="size")).guarantee is None
    fair = replace(sure(300), subgroups=group)
    found = promised(fair, AtMostWrong(0.05, groups="size")).guarantee
    assert {name: part.accepted for name, part in found.groups.items()} == {"small": 100, "large": 200}
    assert all(part.bound <= 0.05 for part in found.groups.values())
    assert "in each group of 'size'" in describe_guarantee(found)


def test_a_group_of_one_is_named():
    scores = replace(sure(200), subgroups=("alone", *("others",) * 199))
    assert "Too small: alone (1) in 'class'" in promised(scores, AtMostWrong(0.05, groups="class")).notes[0]


def test_a_column_without_values_and_a_column_that_is_missing_are_named():
    aim = AtMostWrong(0.05, groups="class")
    assert (
        "No validation row has a value in the column 'class'"
        in promised(replace(sure(100), subgroups=("",) * 100), aim).notes[0]
    )
    with pytest.raises(ArgumentError, match="no column 'class'"):
        promised(sure(100), aim)


def test_each_label_has_its_own_promise_and_one_with_errors_is_never_accepted():
    scores = sure(600, wrong=range(0, 600, 9))  # every third row of label a
    found = promised(scores, AtMostWrong(0.05, per_label=True))
    assert set(found.guarantee.labels) == {"b", "c"}
    assert found.rule.thresholds == {"a": NEVER_ACCEPTED, "b": 0.0, "c": 0.0}
    assert "cannot be made for a" in found.notes[0]
    assert rule_outcome(scores, 1.0, found.rule).per_label["a"].accepted == 0


def test_a_label_with_few_rows_is_left_out_and_does_not_weaken_the_others():
    # 110 rows of label b would not be enough among three labels at 1 %, and are among two.
    rare = scores_of(
        [*(np.eye(3)[[0] * 70] * 5), *(np.eye(3)[[1] * 70] * 4), *(np.eye(3)[[2] * 5] * 3)],
        "a" * 70 + "b" * 70 + "c" * 5,
    )
    found = promised(rare, AtMostWrong(0.052, per_label=True))
    assert set(found.guarantee.labels) == {"a", "b"}
    assert "Too few validation rows for a promise about c (5 rows)" in found.notes[0]


def test_a_finished_label_passes_its_level_on():
    # 65 rows of b fail at half of the level and pass at the whole of it, once a is finished.
    scores = scores_of([*(np.eye(3)[[0] * 100] * 5), *(np.eye(3)[[1] * 100] * 4)], [*"a" * 100, *"b" * 98, "c", "c"])
    assert binom.cdf(2, 100, 0.06) > 0.025
    assert binom.cdf(2, 100, 0.06) > 0.05
    assert set(promised(scores, AtMostWrong(0.07, per_label=True)).guarantee.labels) == {"a", "b"}
    assert 0.025 < binom.cdf(2, 100, 0.07) <= 0.05


def test_one_label_alone_can_be_promised():
    found = promised(sure(60, labels="a"))
    assert found.guarantee.accepted == 60


def test_rows_that_are_all_truncated_leave_nothing_to_promise():
    found = promised(drawn(80, cut=range(80)))
    assert (found.met, found.guarantee) == (False, None)
    assert found.notes[0].startswith("Each of the 80 validation rows goes to a person whatever its label is. So every")


def test_the_number_of_further_rows_includes_those_that_go_to_people_anyway():
    def further(note):
        return int(re.search(r"About (\d+) more", note)[1])

    alone = further(promised(sure(50)).notes[0])
    with_others = sure(100, cut=range(50, 100))
    assert further(promised(with_others).notes[0]) == pytest.approx(2 * alone, abs=2)


CONTEXT = Task("nominal", TASK.labels, ("question", "response"))


def asked(rows, questions):
    return replace(sure(rows, task=CONTEXT), contexts=tuple(str(row % questions) for row in range(rows)))


def test_a_promise_is_for_the_validated_questions_unless_others_are_accepted():
    found = promised(asked(120, 4)).guarantee
    assert (found.scope, found.questions, found.unit) == ("validated questions", 4, "rows")
    assert "a response to any other question goes to a person" in describe_guarantee(found)
    accepted = choose_rule(asked(120, 4), 1.0, AIM, always=ReviewRule(new_question=False))
    assert accepted.guarantee is None
    assert "(4 units)" in accepted.notes[0]


def test_a_promise_about_new_questions_counts_questions_that_were_not_trained_on():
    always = ReviewRule(new_question=False)
    found = choose_rule(asked(240, 80), 1.0, AIM, always=always).guarantee
    assert (found.scope, found.unit, found.units) == ("new questions", "questions", 80)
    known = Circumstances(trained_contexts=frozenset({"3", "x"}))
    refused = choose_rule(asked(240, 80), 1.0, AIM, always=always, circumstances=known)
    assert refused.guarantee is None
    assert "1 of the 80 are among the training rows" in refused.notes[0]


def test_every_graph_of_the_bundle_must_keep_the_promise():
    good, bad = sure(100), sure(100, wrong=range(0, 100, 5))
    both = promised(good, graph="int8", others={"fp32": good}).guarantee
    assert both.graphs == ("int8", "fp32")
    assert promised(good, graph="int8", others={"fp32": bad}).guarantee is None


def test_a_multilabel_response_is_wrong_if_any_label_differs():
    task = Task("multilabel", TASK.labels, ("response",))
    logits = [[6.0, 6.0, -6.0]] * 100
    right = scores_of(logits, ["a;b"] * 100, task=task, thresholds=(0.5, 0.5, 0.5))
    part = scores_of(logits, ["a;b"] * 90 + ["a"] * 10, task=task, thresholds=(0.5, 0.5, 0.5))
    assert promised(right).guarantee.accepted == 100
    refused = promised(part)
    assert (refused.guarantee, refused.rule.least_certainty) == (None, NEVER_ACCEPTED)


def test_a_promise_is_broken_in_at_most_five_of_a_hundred_draws():
    # The error rate is just above the share at every confidence: accepting anything breaks the promise.
    rng = np.random.default_rng(1)
    draws = (promised(sure(100, wrong=np.flatnonzero(rng.random(100) < 0.051))).guarantee for _ in range(150))
    broken = sum(found is not None for found in draws)
    assert 1 <= broken <= binom.ppf(0.999, 150, 0.05)
