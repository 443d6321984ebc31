"""Tied rows are accepted together, and the order of the rows has no effect."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from edgedistill.decisions import AtMostToPeople, KeepKappa, choose_rule, label_shifts, risk_coverage, rule_outcome
from edgedistill.decisions.thresholds import TIE_TOLERANCE, adjusted_confidences, rank_rows
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.task import Task

from .scoring import TASK, drawn, reordered, scores_of, tied

ORDINAL = Task("ordinal", TASK.labels, ("response",))
MULTILABEL = Task("multilabel", TASK.labels, ("response",))
BLANK = Encoded((1, 2), (0, 0), 0, False, blank=True)
AIMS = st.sampled_from([KeepKappa(0.3), KeepKappa(0.5), KeepKappa(0.6), AtMostToPeople(0.1), AtMostToPeople(0.4)])
ROWS = st.builds(
    tied,
    st.integers(2, 90),
    seed=st.integers(0, 99),
    task=st.sampled_from([TASK, ORDINAL, MULTILABEL]),
    grouped=st.booleans(),
    cut=st.sampled_from([(), (0, 1)]),
)


def accepted(scores, rule, temperature=1.0):
    return np.array([score.decision == "accept" for score in scores.apply_rule(temperature, rule)])


def lower_end(scores, kept):
    """The lower end of κ of some rows of a nominal task, by weights of rows that are drawn anew."""
    rng = np.random.default_rng(12345)
    truth, given = (np.array([TASK.names.index(code) for code in codes]) for codes in (scores.codes, scores.labels))
    counts = np.zeros((3, 3))
    np.add.at(counts, (truth[kept], given[kept]), 1)
    imaginary = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / kept.sum() ** 2
    found = []
    for _ in range(2000):
        table = rng.exponential() * imaginary
        np.add.at(table, (truth[kept], given[kept]), rng.exponential(size=kept.sum()))
        shares = table / table.sum()
        by_chance = shares.sum(axis=1) @ shares.sum(axis=0)
        found.append((np.trace(shares) - by_chance) / (1 - by_chance))
    return np.percentile(found, 2.5)


def half_right(rows):
    """One certainty; the first half of the rows is right, of the other half every second one."""
    labels = [row % 2 for row in range(rows)]
    codes = ["ab"[label if row < rows // 2 or row % 4 < 2 else 1 - label] for row, label in enumerate(labels)]
    return scores_of([[2.0, 0, -9] if label == 0 else [0, 2.0, -9] for label in labels], codes)


def test_tied_rows_that_miss_the_aim_together_do_not_meet_it_in_part():
    scores = half_right(160)
    found = choose_rule(scores, 1.0, KeepKappa(0.75))
    assert found.met is False
    assert not accepted(scores, found.rule).any()


@settings(max_examples=12, deadline=None)
@given(st.integers(20, 120), st.integers(0, 99), st.sampled_from([0.2, 0.4, 0.6]), st.sampled_from([tied, drawn]))
def test_a_kappa_that_is_met_is_that_of_the_rows_that_the_rule_accepts(rows, seed, at_least, made):
    scores = made(rows, seed=seed)
    found = choose_rule(scores, 1.0, KeepKappa(at_least))
    kept = accepted(scores, found.rule)
    if found.met:
        truth, given_labels = np.array(scores.codes)[kept], np.array(scores.labels)[kept]
        assert cohen_kappa_score(truth, given_labels) >= at_least
        # Both lower ends come from 2,000 draws.
        assert lower_end(scores, kept) >= at_least - 0.04
    else:
        assert not kept.any()


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_never_more_rows_than_the_share_go_to_people_and_the_next_tie_would_exceed_it(scores, share):
    found = choose_rule(scores, 1.0, AtMostToPeople(share))
    kept = accepted(scores, found.rule)
    if not found.met:
        assert sum(encoded.truncated for encoded in scores.encoded) > int(share * len(scores) + 1e-9)
        return
    assert (~kept).sum() <= share * len(scores) + 1e-9
    confidence = adjusted_confidences(scores, 1.0, found.label_shifts)
    next_block = kept & (confidence <= confidence[kept].min() + TIE_TOLERANCE)
    assert (~kept).sum() + next_block.sum() > share * len(scores) - 1e-9


@settings(max_examples=40, deadline=None)
@given(ROWS, AIMS)
def test_a_rule_accepts_exactly_the_readable_rows_above_its_confidence(scores, aim):
    found = choose_rule(scores, 1.0, aim)
    readable = np.array([not encoded.truncated for encoded in scores.encoded])
    if found.met:
        least = -1.0 if found.least_chance is None else found.least_chance
        confidence = adjusted_confidences(scores, 1.0, found.label_shifts)
        assert np.abs(confidence - least).min() > TIE_TOLERANCE / 3
        assert accepted(scores, found.rule).tolist() == (readable & (confidence >= least)).tolist()


@settings(max_examples=20, deadline=None)
@given(ROWS, AIMS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_never_changes_the_rule(scores, aim, random):
    order = random.sample(range(len(scores)), len(scores))
    assert choose_rule(reordered(scores, order), 1.0, aim) == choose_rule(scores, 1.0, aim)


@settings(max_examples=6, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_never_changes_the_curve_nor_the_area_under_it(scores, random):
    order = random.sample(range(len(scores)), len(scores))
    shifts = label_shifts(scores, 1.0)
    assert risk_coverage(reordered(scores, order), 1.0, shifts) == risk_coverage(scores, 1.0, shifts)


def test_the_order_of_untied_rows_never_changes_the_rule():
    scores = drawn(300)
    turned = reordered(scores, np.arange(300)[::-1])
    for aim in (KeepKappa(0.6), AtMostToPeople(0.3)):
        assert choose_rule(turned, 1.0, aim) == choose_rule(scores, 1.0, aim)


def test_the_area_under_the_curve_of_ties_is_the_mean_over_their_orders():
    # Two sure rows, one of them wrong; four less sure ones, one of them right.
    logits = [[4.0, 0, 0]] * 2 + [[2.0, 0, 0]] * 4
    wrong = [0, 1, 1, 0, 1, 1]
    scores = scores_of(logits, ["ab"[each] for each in wrong])
    areas = [
        (np.cumsum(first + second) / np.arange(1, 7)).mean()
        for first, second in product(permutations(wrong[:2]), permutations(wrong[2:]))
    ]
    assert risk_coverage(scores, 1.0, {}).aurc == pytest.approx(np.mean(areas))


def test_a_point_of_the_curve_splits_no_ties():
    scores = scores_of([[4.0, 0, 0]] * 7 + [[2.0, 0, 0]] * 13, "a" * 20)
    assert [point.rows for point in risk_coverage(scores, 1.0, {}).points] == [20, 7]


def test_one_certainty_for_all_rows_has_their_error_rate_at_every_coverage():
    curve = risk_coverage(half_right(160), 1.0, {})
    assert [point.rows for point in curve.points] == [160]
    assert curve.aurc == pytest.approx(0.25)


def test_people_are_not_sent_half_of_a_tie():
    scores = scores_of([[4.0, 0, 0]] * 12 + [[2.0, 0, 0]] * 6 + [[1.0, 0, 0]] * 2, "a" * 20)
    found = choose_rule(scores, 1.0, AtMostToPeople(0.3))
    assert found.met
    assert (~accepted(scores, found.rule)).tolist() == [False] * 18 + [True] * 2
    assert "2 of the 20 validation rows that can be accepted go to people, although the aim allows 6" in found.notes[0]


def test_confidences_that_differ_in_the_last_bits_are_ties():
    scores = scores_of([[2.0, 0, 0]] * 4, "aaaa")
    confidence = np.array([0.1 + 0.2, 0.3, 0.3 + 10 * TIE_TOLERANCE, 0.3 - 10 * TIE_TOLERANCE])
    ranking = rank_rows(scores, confidence, np.arange(4))
    assert 0.1 + 0.2 != 0.3
    assert ranking.ends.tolist() == [1, 3, 4]
    assert ranking.places.tolist() == [2, 0, 1, 3]
    assert ranking.threshold(3) == pytest.approx(0.3 - 5 * TIE_TOLERANCE, abs=1e-12)


def test_blank_rows_go_to_people_and_do_not_affect_thresholds():
    scores = drawn(100)
    scores = replace(scores, encoded=(BLANK,) * 10 + scores.encoded[10:])
    found = choose_rule(scores, 1.0, AtMostToPeople(0.3))
    assert int((~accepted(scores, found.rule)).sum()) == 30
    assert choose_rule(scores, 1.0, AtMostToPeople(0.05)).met is False


def test_where_nothing_meets_the_aim_a_probability_of_one_is_not_accepted_either():
    # Float64 gives these rows a probability of exactly 1, and most of them are wrong.
    scores = scores_of([[60.0, 0, 0], [0, 60.0, 0]] * 20 + [[1.0, 0, 0]] * 20, "bbab" * 10 + "a" * 20)
    found = choose_rule(scores, 1.0, KeepKappa(0.75))
    assert found.met is False
    assert rule_outcome(scores, 1.0, found.rule).accepted == 0


def test_a_label_whose_threshold_would_lie_above_one_still_counts_what_its_rule_accepts():
    # b is nearly always wrong at a probability of exactly 1: its chance is low, but no threshold stops it.
    confident = [[60.0, 0, 0], [0, 0, 60.0]] * 30 + [[0, 60.0, 0]] * 30
    scores = scores_of([*confident, *([[1.0, 0, 0]] * 30)], [*("ac" * 30), *("a" * 30), *("abc" * 10)])
    found = choose_rule(scores, 1.0, KeepKappa(0.75))
    assert found.met is False
