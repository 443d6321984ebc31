"""Several teachers' labels become one: by majority or by weight, ties set aside, everyone's opinion kept."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgedistill.data.types import SetAside, Soft, TeacherLabel
from edgedistill.teacher import Labelling, Usage, combine_labellings
from edgedistill_serve.task.task import Label, Task

from .codings import responses

ROWS = responses("one text")
TASK = Task(kind="nominal", labels=tuple(map(Label, "abc")), inputs=("response",))


def says(label: str, *votes: str, soft: Soft = "votes", shares: dict[str, float] | None = None) -> Labelling:
    votes = votes or (label,)
    found = shares or {vote: votes.count(vote) / len(votes) for vote in votes}
    given = TeacherLabel("r2", label, votes.count(label) / len(votes), found, votes, "m", soft)
    return Labelling((given,), (), Usage(asked=len(votes), nano_dollars=7))


NOTHING = Labelling((), (SetAside("responses.csv", 2, "r2", "the votes tie"),), Usage(asked=2))


def joined(weights: dict[str, float] | None = None, **teachers: Labelling) -> TeacherLabel | SetAside:
    found = combine_labellings(ROWS, teachers, weights or dict.fromkeys(teachers, 1.0), TASK)
    (row,) = (*found.labels, *found.set_aside)
    return row


def label(row: TeacherLabel | SetAside) -> TeacherLabel:
    assert isinstance(row, TeacherLabel)
    return row


def test_one_teacher_s_labels_are_what_they_are() -> None:
    alone = says("a", "a", "b", "a")
    assert combine_labellings(ROWS, {"m": alone}, {"m": 0.0}, TASK) is alone


def test_the_majority_of_the_teachers_gives_the_label() -> None:
    row = label(joined(x=says("a", "a", "b", "a"), y=says("b"), z=says("a")))
    assert (row.label, row.teacher, row.votes) == ("a", "x + y + z", ("a", "b", "a", "b", "a"))
    assert row.shares == pytest.approx({"a": (2 / 3 + 0 + 1) / 3, "b": (1 / 3 + 1) / 3})
    assert row.consistency == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert [opinion.label for opinion in row.opinions] == ["a", "b", "a"]


def test_a_tie_of_teachers_is_set_aside_with_what_each_said() -> None:
    row = joined(x=says("a"), y=says("b"))
    assert isinstance(row, SetAside)
    assert (row.id, row.reason, row.detail) == ("r2", "the teachers tie", "x: a, y: b")


def test_weights_break_what_would_be_a_tie() -> None:
    assert label(joined({"x": 0.6, "y": 0.7}, x=says("a"), y=says("b"))).label == "b"


def test_two_light_teachers_outweigh_a_heavy_one() -> None:
    weights = {"x": 0.4, "y": 0.4, "z": 0.7}
    assert label(joined(weights, x=says("a"), y=says("a"), z=says("b"))).label == "a"


def test_sums_that_differ_by_rounding_alone_are_a_tie() -> None:
    weights = {"x": 0.1, "y": 0.2, "z": 0.3}
    assert isinstance(joined(weights, x=says("a"), y=says("a"), z=says("b")), SetAside)


def test_teachers_that_all_weigh_nothing_give_no_label() -> None:
    assert isinstance(joined({"x": 0.0, "y": 0.0}, x=says("a"), y=says("a")), SetAside)


def test_a_teacher_that_set_the_response_aside_does_not_vote() -> None:
    row = label(joined(x=NOTHING, y=says("b")))
    assert (row.label, row.teacher, len(row.opinions)) == ("b", "y", 1)


def test_a_response_that_no_teacher_labelled_is_set_aside_with_every_reason() -> None:
    row = joined(x=NOTHING, y=NOTHING)
    assert isinstance(row, SetAside)
    assert (row.reason, row.detail) == ("no teacher labelled it", "x: the votes tie; y: the votes tie")


def test_soft_labels_of_both_kinds_are_called_mixed() -> None:
    assert label(joined(x=says("a", soft="logprobs"), y=says("a"))).soft == "mixed"
    assert label(joined(x=says("a", soft="logprobs"), y=says("a", soft="logprobs"))).soft == "logprobs"


def test_what_the_teachers_took_is_added_up() -> None:
    usage = combine_labellings(ROWS, {"x": says("a"), "y": says("a", "a", "a")}, {"x": 1, "y": 1}, TASK).usage
    assert (usage.asked, usage.nano_dollars) == (3, 14)


OPINION = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)


@given(st.lists(OPINION, min_size=2, max_size=4), st.lists(st.floats(0, 1), min_size=4, max_size=4))
@example([["a"], ["a", "b"]], [0.0, 5e-324, 0.0, 0.0])
def test_shares_sum_to_one_and_the_order_of_the_teachers_does_not_matter(
    given_votes: list[list[str]], weights: list[float]
) -> None:
    panel = {f"t{number}": says(max(votes, key=votes.count), *votes) for number, votes in enumerate(given_votes)}
    by_name = {name: weights[number] for number, name in enumerate(panel)}
    row, back = joined(by_name, **panel), joined(by_name, **dict(reversed(panel.items())))
    if isinstance(row, SetAside) or isinstance(back, SetAside):
        assert isinstance(row, SetAside)
        assert isinstance(back, SetAside)
        return
    assert sum(row.shares.values()) == pytest.approx(1)
    assert 0 <= row.consistency <= 1
    assert row.label == back.label
