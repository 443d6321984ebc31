"""The exact test of new votes against stored ones, and the levels of repeated looks."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.canaries import changed_p, equal_pairs, level

VOTES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)


def by_enumeration(stored, fresh):
    """The same p-value, by every choice of the new votes."""

    def differ(before, now):
        return sum(one != other for one in before for other in now)

    totals = [0]
    for before, now in zip(stored, fresh, strict=True):
        votes = [*before, *now]
        of_response = []
        for chosen in itertools.combinations(range(len(votes)), len(now)):
            new = [votes[place] for place in chosen]
            of_response.append(differ([vote for place, vote in enumerate(votes) if place not in chosen], new))
        totals = [one + other for one in totals for other in of_response]
    observed = sum(map(differ, stored, fresh))
    return sum(total >= observed for total in totals) / len(totals)


@given(st.lists(st.tuples(VOTES, VOTES), min_size=1, max_size=3))
def test_the_p_value_is_the_share_of_all_choices_that_differ_as_much(pairs):
    stored, fresh = zip(*pairs, strict=True)
    assert changed_p(stored, fresh) == pytest.approx(by_enumeration(stored, fresh))


def test_responses_that_all_changed_leave_no_doubt_and_equal_ones_no_suspicion():
    assert changed_p([["a"] * 3] * 5, [["b"] * 3] * 5) == pytest.approx(0.1**5)
    assert changed_p([["a"] * 3] * 5, [["a"] * 3] * 5) == 1
    assert changed_p([["a"]] * 4, [["b", "b"]] * 4) == pytest.approx((1 / 3) ** 4)


def test_one_vote_on_each_side_says_nothing_about_the_noise_and_cannot_raise_an_alarm():
    assert changed_p([["a"]] * 50, [["b"]] * 50) == 1


def test_responses_without_votes_do_not_count():
    assert changed_p([[], ["a"]], [["b"], []]) == 1


def test_a_teacher_that_samples_is_within_its_own_noise():
    draw = random.Random(0)

    def votes():
        return [draw.choice("aab") for _ in range(3)]

    small = sum(changed_p([votes() for _ in range(20)], [votes() for _ in range(20)]) <= 0.05 for _ in range(400))
    assert small / 400 <= 0.07  # 0.05, and two standard errors


def test_the_levels_of_all_looks_sum_to_the_rate_of_false_alarms():
    assert sum(level(0.05, look) for look in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    assert level(0.05, 1) == 0.025


def test_the_share_of_equal_pairs_is_the_mean_over_responses():
    assert equal_pairs([["a", "a", "b"], ["a", "a", "a"]]) == pytest.approx((1 / 3 + 1) / 2)
    assert equal_pairs([["a"], ["b"]], [["a", "b"], ["b"]]) == pytest.approx(0.75)
    assert equal_pairs([["a"]]) is None
