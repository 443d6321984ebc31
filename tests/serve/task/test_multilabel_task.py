"""How the labels of a multilabel task are written as one text, and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import DataError
from edgedistill_serve.task.task import Label, Task, join_labels, reserved_label_names, split_labels

NAMES = ("praises", "asks", "tells")
TASK = Task("multilabel", tuple(map(Label, NAMES)), ("response",))


@given(st.lists(st.sampled_from(NAMES), unique=True))
def test_what_is_joined_is_split_into_the_same_labels_in_the_order_of_the_task(labels):
    assert split_labels(join_labels(labels, TASK), TASK) == tuple(name for name in NAMES if name in labels)


def test_labels_are_joined_in_the_order_of_the_task():
    assert join_labels(["tells", "praises"], TASK) == "praises;tells"


def test_no_assigned_label_is_written_as_none():
    assert join_labels([], TASK) == "none"
    assert split_labels("none", TASK) == ()


def test_labels_are_read_in_any_order_and_with_blanks_around_them():
    assert split_labels(" tells ; praises\t", TASK) == ("praises", "tells")
    assert split_labels(" none ", TASK) == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("asks;shouts", "'shouts' is not a label of the task. Use praises, asks, tells"),
        ("Asks", "'Asks' is not a label"),
        ("asks; asks", "the label 'asks' is repeated"),
        ("asks;none", "'none' is combined with labels"),
        ("none;none", "'none' is combined with labels"),
        ("asks;", "a label is missing"),
        ("", "a label is missing"),
    ],
)
def test_a_text_that_names_no_set_of_labels_is_refused(text, what):
    with pytest.raises(DataError, match=what):
        split_labels(text, TASK)


def test_a_label_that_the_task_does_not_have_is_not_joined():
    with pytest.raises(DataError, match="'shouts' is not a label of the task"):
        join_labels(["asks", "shouts"], TASK)


@pytest.mark.parametrize("name", ["none", "None", "asks;tells"])
def test_an_ambiguous_label_name_is_not_allowed(name):
    task = Task("multilabel", (Label("praises"), Label(name)), ("response",))
    assert reserved_label_names(task) == (name,)


def test_other_labels_can_be_had():
    assert reserved_label_names(TASK) == ()
