"""Codes of a multilabel task: the labels that hold, in the column of one label."""

from collections import Counter

import pytest

from edgedistill.data import MixtureRow, TrainRows
from edgedistill.data.splitting import split_rows
from edgedistill.data.tables import CodedRow, Columns, read_coded
from edgedistill.data.types import CodedResponse, Response, code_shares, countable_labels, labels_in
from edgedistill.errors import DataError
from edgedistill.mixing import draw_mixture, human_rows
from edgedistill.project.data import SplitSection
from edgedistill.project.training_set import MixSection
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.task.task import Label, Task

TASK = Task(kind="multilabel", labels=tuple(map(Label, ("cause", "effect", "example"))), inputs=("response",))


def read(*labels, coders=()):
    rows = [
        TableRow(
            place, values := {"id": f"r{place}", "response": f"text {place}", "label": label, "second": label}, values
        )
        for place, label in enumerate(labels, start=2)
    ]
    return read_coded("h.csv", rows, Columns(TASK, coders=coders))


def coded(*labels):
    return tuple(
        CodedResponse(Response(f"r{place}", {"response": f"text {place}"}, "h.csv", place), label)
        for place, label in enumerate(labels)
    )


def test_labels_may_stand_in_any_order_with_blanks_around_them():
    found = read(" example ; cause", "effect", "none")
    assert [row.coded.label for row in found.rows] == ["cause;example", "effect", "none"]


def test_an_empty_cell_is_not_coded_and_no_label_is_a_code():
    found = read("cause", "none", "")
    assert [row.coded.label for row in found.rows] == ["cause", "none"]
    assert [row.reason for row in found.set_aside] == ["no human code"]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("cause;Effect", "the label 'Effect' is another spelling of 'effect'"),
        ("cause;exampel", "did you mean 'example'"),
        ("cause, effect", "unknown label 'cause, effect'"),
        ("cause;cause", "the label 'cause' is repeated"),
        ("cause;none", "'none' is combined with labels"),
        ("cause;", "a label is missing"),
        ("None", "another spelling of 'none'"),
    ],
)
def test_a_code_that_is_none_says_what_is_wrong_with_it_and_where(label, message):
    with pytest.raises(DataError, match=f"row 3: .*{message}"):
        read("cause", label, "effect")


def test_the_mend_says_what_stands_between_labels():
    with pytest.raises(DataError, match="use the labels of the project file, separated by ';'"):
        read("cause|effect", "none")


def test_the_codes_of_single_coders_are_read_alike():
    found = read("example;cause", "none", coders=("second",))
    assert [row.coded.codes for row in found.rows] == [{"second": "cause;example"}, {"second": "none"}]


def test_a_code_counts_for_each_of_its_labels_and_none_for_itself():
    assert labels_in("cause;effect", TASK) == ("cause", "effect")
    assert labels_in("none", TASK) == ("none",)
    assert countable_labels(TASK) == ("cause", "effect", "example", "none")


def test_certain_shares_are_one_for_each_label_that_holds_and_sum_to_nothing_in_particular():
    assert code_shares("cause;effect", TASK) == {"cause": 1.0, "effect": 1.0}
    assert code_shares("none", TASK) == {}


def test_every_split_gets_its_share_of_a_rare_label():
    labels = ["cause;example", "cause", "effect", "none", "cause;effect"] * 20
    rows = [CodedRow(row, None) for row in coded(*labels)]
    splits = split_rows("h.csv", rows, SplitSection(), TASK)
    rare = Counter(dict.fromkeys(("train", "validation", "test"), 0))
    for name in rare:
        rare[name] = sum("example" in row.label for row in getattr(splits, name))
    assert rare == {"train": 12, "validation": 4, "test": 4}
    assert splits.notes == ()


def test_a_label_that_a_split_lacks_is_noted_by_its_own_name():
    labels = ["cause"] * 5 + ["effect;cause"] * 5 + ["example;cause"]
    splits = split_rows("h.csv", [CodedRow(row, None) for row in coded(*labels)], SplitSection(), TASK)
    assert any("has the label example" in note for note in splits.notes)


def test_hard_labels_of_a_mixture_are_the_labels_that_hold():
    teacher = MixtureRow("t", {"response": "x"}, "cause", "teacher", {"cause": 1.0, "effect": 1 / 3})
    offered = {"human": human_rows(TrainRows(coded("cause;effect", "none")), TASK), "teacher": [teacher]}
    drawn = draw_mixture(offered, TASK, MixSection(labels="hard"))
    assert [row.shares for row in drawn] == [{"cause": 1.0, "effect": 1.0}, {}, {"cause": 1.0}]
