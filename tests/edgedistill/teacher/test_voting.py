import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.voting import Vote, count_votes


def votes(*labels: str) -> list[Vote]:
    return [Vote(label) for label in labels]


def test_the_label_is_the_mode_and_the_consistency_its_share() -> None:
    label = count_votes("r1", votes("b", "a", "a"), "set_aside", "m")
    assert label is not None
    assert (label.id, label.label, label.teacher) == ("r1", "a", "m")
    assert label.consistency == pytest.approx(2 / 3)
    assert label.shares == {"b": pytest.approx(1 / 3), "a": pytest.approx(2 / 3)}
    assert label.votes == ("b", "a", "a")


def test_a_tie_is_set_aside() -> None:
    assert count_votes("r1", votes("a", "b"), "set_aside", "m") is None


def test_a_tie_can_go_to_the_label_that_was_voted_first() -> None:
    label = count_votes("r1", votes("c", "b", "a", "a", "b"), "first_vote", "m")
    assert label is not None
    assert (label.label, label.consistency) == ("b", pytest.approx(0.4))


@given(st.lists(st.sampled_from("abc"), min_size=1), st.sampled_from(["set_aside", "first_vote"]))
def test_shares_sum_to_one_and_the_label_has_the_largest(labels: list[str], ties: str) -> None:
    label = count_votes("r1", votes(*labels), "set_aside" if ties == "set_aside" else "first_vote", "m")
    if label is None:
        assert ties == "set_aside"
        return
    assert sum(label.shares.values()) == pytest.approx(1)
    assert label.consistency == label.shares[label.label] == max(label.shares.values()) > 0


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_the_first_vote_breaks_every_tie(labels: list[str]) -> None:
    assert count_votes("r1", votes(*labels), "first_vote", "m") is not None
