"""Thresholds are chosen for an aim on validation rows, and are cautious with few rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from edgedistill.decisions import AtMostToPeople, KeepKappa, choose_rule, label_shifts
from edgedistill_serve.bundle.manifest import NEVER_ACCEPTED, ReviewRule
from edgedistill_serve.task.task import Task

from .scoring import TASK, drawn, locked, scores_of

TRIALS = 8


def accepted(scores, rule, temperature=1.0):
    return np.array([score.decision == "accept" for score in scores.apply_rule(temperature, rule)])


def kappa(scores, places):
    return cohen_kappa_score(np.array(scores.codes)[places], np.array(scores.labels)[places])


def test_without_an_aim_no_threshold_is_chosen():
    found = choose_rule(drawn(50), 1.0, None)
    assert (found.rule, found.aim, found.met) == (ReviewRule(), None, None)


@pytest.mark.parametrize("share", [0.05, 0.15, 0.4])
def test_at_most_the_stated_share_of_validation_rows_goes_to_people(share):
    scores = drawn(93)
    found = choose_rule(scores, 1.0, AtMostToPeople(share))
    to_people = int((~accepted(scores, found.rule)).sum())
    assert found.met
    assert to_people == int(share * 93)


def test_truncated_rows_count_among_those_that_go_to_people():
    scores = drawn(100, cut=range(6))
    found = choose_rule(scores, 1.0, AtMostToPeople(0.15))
    assert int((~accepted(scores, found.rule)).sum()) == 15


def test_more_truncated_rows_than_the_aim_leave_no_threshold_and_a_note():
    found = choose_rule(drawn(100, cut=range(20)), 1.0, AtMostToPeople(0.15))
    assert (found.met, found.rule.thresholds) == (False, {})
    assert found.notes == (
        "20 of 100 validation rows always go to people (20 truncated), which is more than the aim allows.",
    )


def test_rows_beyond_the_limit_of_novelty_are_named_where_they_are_too_many():
    scores = replace(drawn(100, cut=range(5)), novelty=tuple([1.0] * 80 + [3.0] * 20))
    found = choose_rule(scores, 1.0, AtMostToPeople(0.15), always=ReviewRule(max_novelty=2.0))
    assert "(20 unlike training, 5 truncated), which is more" in found.notes[0]


def test_the_least_confident_rows_go_to_people():
    scores = drawn(100)
    found = choose_rule(scores, 1.0, AtMostToPeople(0.2))
    kept = accepted(scores, found.rule)
    right = np.array(scores.labels) == np.array(scores.codes)
    assert right[kept].mean() > right[~kept].mean() + 0.2


def test_an_overconfident_label_gets_a_higher_threshold():
    # Both labels say .88; a is right nine times of ten, b every second time.
    logits = [[2.0, 0.0, -9.0]] * 60 + [[0.0, 2.0, -9.0]] * 60
    codes = (["a"] * 9 + ["b"]) * 6 + ["b", "a"] * 30
    scores = scores_of(logits, codes)
    shifts = label_shifts(scores, 1.0)
    assert shifts["b"] < -0.2 < 0 < shifts["a"]
    assert shifts["c"] == 0.0
    rule = choose_rule(scores, 1.0, AtMostToPeople(0.5)).rule
    assert rule.thresholds["a"] < 0.88 < rule.thresholds["b"]


def test_few_rows_of_a_label_hardly_move_its_threshold():
    scores = scores_of([[2.0, 0.0, -9.0]] * 60 + [[0.0, 2.0, -9.0]] * 2, ["a"] * 60 + ["a"] * 2)
    assert -0.1 < label_shifts(scores, 1.0)["b"] < 0


def test_a_student_that_meets_the_aim_without_review_keeps_every_row():
    scores = scores_of([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]] * 40, "abc" * 40)
    found = choose_rule(scores, 1.0, KeepKappa(0.75))
    assert (found.met, found.rule.thresholds, found.least_chance) == (True, {}, None)
    assert found.notes == ("The aim is met without a threshold.",)


def test_accepted_rows_keep_kappa_on_test_rows():
    test = locked(3000, seed=999)
    below, shares = 0, []
    for seed in range(TRIALS):
        found = choose_rule(drawn(280, seed=seed), 1.0, KeepKappa(0.75))
        if found.met:
            kept = accepted(test, found.rule)
            below += kappa(test, kept) < 0.75
            shares.append(kept.mean())
    assert kappa(test, np.ones(3000, dtype=bool)) < 0.7
    assert len(shares) >= TRIALS - 2
    assert below <= 1
    assert np.mean(shares) > 0.35


def test_a_handful_of_rows_without_an_error_does_not_meet_the_aim():
    # Ten confident rows are all correct, fifty others are guesses: a plain bootstrap would accept the ten.
    rng = np.random.default_rng(0)
    confident = [[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]] * 3 + [[9.0, 0, 0]]
    codes = list("abcabcabca") + list(rng.choice(list("abc"), 50))
    found = choose_rule(scores_of([*confident, *(rng.normal(size=(50, 3)) * 0.3)], codes), 1.0, KeepKappa(0.75))
    assert found.met is False


@pytest.mark.parametrize("different", [1, 2, 3])
def test_copies_of_a_few_rows_do_not_meet_the_aim(different):
    once = scores_of((np.eye(3) * 4)[:different], list("abc")[:different])
    copies = scores_of((np.eye(3) * 4)[[n % different for n in range(60)]], [("abc")[n % different] for n in range(60)])
    copies = replace(copies, encoded=tuple(once.encoded[n % different] for n in range(60)))
    assert choose_rule(copies, 1.0, KeepKappa(0.3)).met is False


def test_an_unreachable_aim_sends_everything_to_people_with_a_note():
    rng = np.random.default_rng(1)
    scores = scores_of(rng.normal(size=(80, 3)), rng.choice(list("abc"), 80))
    found = choose_rule(scores, 1.0, KeepKappa(0.75))
    assert found.met is False
    assert not accepted(scores, found.rule).any()
    assert "so every response goes to a person" in found.notes[0]
    assert "below 0.75" in found.notes[0]


def test_rows_of_one_label_alone_meet_no_kappa():
    found = choose_rule(scores_of([[5.0, 0.0, 0.0]] * 60, "a" * 60), 1.0, KeepKappa(0.75))
    assert found.met is False


@pytest.mark.parametrize("aim", [KeepKappa(0.5), AtMostToPeople(0.5)])
def test_where_every_row_is_truncated_no_aim_is_met(aim):
    assert choose_rule(drawn(10, cut=range(10)), 1.0, aim).met is False


def test_an_ordinal_task_is_evaluated_by_quadratic_weighted_kappa():
    ordinal = Task("ordinal", TASK.labels, ("response",))
    logits = [[5.0, 4.0, 0], [4.0, 5.0, 0], [0, 4.0, 5.0]] * 60
    near_misses = "abcbab" * 30
    rules = [choose_rule(scores_of(logits, near_misses, task=task), 1.0, KeepKappa(0.4)) for task in (ordinal, TASK)]
    assert [rule.met for rule in rules] == [True, False]


def test_rows_in_groups_need_more_evidence():
    rows = drawn(200, seed=3)
    grouped = scores_of(
        np.repeat(rows.logits[:20], 10, axis=0),
        np.repeat(rows.codes[:20], 10),
        groups=tuple(str(row // 10) for row in range(200)),
    )
    alone = scores_of(grouped.logits, grouped.codes)
    lows = [choose_rule(scores, 1.0, KeepKappa(0.999)).notes[0] for scores in (grouped, alone)]
    clustered, single = (float(note.split("lower limit of kappa is at most ")[1].split(",")[0]) for note in lows)
    assert clustered < single


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(0, 99), st.sampled_from([KeepKappa(0.6), AtMostToPeople(0.2)]))
def test_every_threshold_is_a_probability_of_a_label(rows, seed, aim):
    found = choose_rule(drawn(rows, seed=seed), 1.0, aim)
    assert set(found.rule.thresholds) <= set(TASK.names)
    assert all(0 <= threshold <= 1 or threshold == NEVER_ACCEPTED for threshold in found.rule.thresholds.values())
    assert choose_rule(drawn(rows, seed=seed), 1.0, aim) == found
