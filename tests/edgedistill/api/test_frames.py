"""Human-coded rows of a DataFrame are split without leaks, as those of a project are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import edgedistill as ed
from edgedistill.data import read_records
from edgedistill.errors import ArgumentError
from edgedistill.frames import codes_of

from .conftest import TASK, make_frame

PRAISE = Path(__file__).parents[3] / "examples" / "praise"


def test_the_three_splits_hold_every_row_once_in_the_order_given():
    rows = make_frame(60, 1)
    splits = ed.train_validation_test_split(rows, task=TASK, shares=(0.5, 0.3, 0.2))
    pd.testing.assert_frame_equal(pd.concat(splits).loc[rows.index], rows)
    assert all(split.index.to_list() == [name for name in rows.index if name in split.index] for split in splits)
    assert [len(split) for split in splits] == pytest.approx([30, 18, 12], abs=3)


def test_whole_questions_are_held_out():
    rows = make_frame(60, 1).assign(item=[f"q{place % 6}" for place in range(60)])
    train, validation, test = ed.train_validation_test_split(rows, task=TASK, held_out_questions="item")
    assert not set(train.item) & set(validation.item)
    assert not set(test.item) & set(validation.item)
    assert set(test.item) - set(train.item)


@pytest.mark.parametrize(
    ("held_out", "message"), [(True, "the task has no question"), ("item", "a row has no question")]
)
def test_questions_that_are_not_known_cannot_be_held_out(held_out, message):
    rows = make_frame(60, 1).assign(item=[*(f"q{place % 6}" for place in range(59)), " "])
    with pytest.raises(ArgumentError, match=message):
        ed.train_validation_test_split(rows, task=TASK, held_out_questions=held_out)


def test_equal_texts_and_groups_stay_together():
    rows = make_frame(60, 1).assign(learner=[f"l{place // 6}" for place in range(60)])
    rows.iloc[0, 0] = rows.iloc[59, 0].upper()
    for split in ed.train_validation_test_split(rows, task=TASK, groups="learner"):
        others = rows.drop(split.index)
        assert not set(split.learner) & set(others.learner)
        assert not set(split.response.str.lower()) & set(others.response.str.lower())


def test_another_random_state_gives_another_split_and_another_order_the_same():
    rows = make_frame(60, 1)
    first, again, other = (
        ed.train_validation_test_split(given, task=TASK, random_state=seed)[2]
        for given, seed in ((rows, 0), (rows[::-1], 0), (rows, 1))
    )
    assert set(first.index) == set(again.index) != set(other.index)


def test_the_example_is_split_as_its_project_splits_it():
    project = ed.Project.load(PRAISE / "project.yaml")
    human = pd.read_csv(PRAISE / "human.csv")
    splits = ed.train_validation_test_split(human, task=project.task.coded, shares=(0.4, 0.2, 0.4))
    records = read_records(project).splits
    for frame, rows in zip(splits, (records.train, records.validation, records.test), strict=True):
        assert set(frame.id) == {response.id for response in rows.responses}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shares": (0.5, 0.3, 0.3)}, "shares: .*sum to 1.1"),
        ({"shares": (0.5, 0.5)}, "shares must be three numbers"),
        ({"random_state": None}, "random_state must be an integer, not None"),
        ({"X": make_frame(6, 1)[:0]}, "there are no rows to split"),
        ({"y": "code"}, "there is no column 'code'"),
        ({"X": make_frame(6, 1).assign(id="same")}, "two rows have the same id"),
    ],
)
def test_what_cannot_be_split_is_an_error_of_ours(given, message):
    with pytest.raises(ArgumentError, match=message):
        ed.train_validation_test_split(**{"X": make_frame(30, 1), "task": TASK} | given)


def test_lists_of_labels_may_be_arrays_as_a_parquet_file_has_them():
    task = ed.Task("multilabel", labels=["asks", "praises"])
    assert codes_of([np.array(["praises", "asks"]), np.array([])], task) == ["asks;praises", "none"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": "ab"}, "labels must be a list, not str"),
        ({"labels": {"a": "first", "b": "second"}}, "labels must be a list, not dict"),
        ({"labels": None}, "labels must be a list, not NoneType"),
        ({"labels": ["a", "a"]}, "the label 'a' is a duplicate"),
        ({"labels": [ed.Label("a", None), "b"]}, "the definition of 'a' must be a string, not NoneType"),
        ({"inputs": "response"}, "inputs must be a list, not str"),
        ({"instructions": None}, "instructions must be a string, not NoneType"),
        ({"redact": [1]}, "redact must be True, False or a list of regular expressions"),
    ],
)
def test_what_is_not_a_task_is_an_error_of_ours(given, message):
    with pytest.raises(ArgumentError, match=message):
        ed.Task(**{"kind": "nominal", "labels": ["a", "b"]} | given)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, "", "  "])
def test_rows_without_a_group_are_no_group_together(missing):
    rows = make_frame(60, 1)
    learners = [missing] * 60
    learners[0] = "ann"
    splits = ed.train_validation_test_split(rows, task=TASK, groups=pd.Series(learners, dtype=object))
    assert [len(split) for split in splits] == pytest.approx([36, 12, 12], abs=3)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, "", " "])
def test_a_row_without_an_id_is_refused_with_its_row(missing):
    rows = make_frame(10, 1).reset_index(drop=True).assign(id=[f"r{place}" for place in range(10)])
    rows["id"] = rows["id"].astype(object)
    rows.loc[4, "id"] = missing
    with pytest.raises(ArgumentError, match="row 4: a row has no id"):
        ed.train_validation_test_split(rows, task=TASK)


@pytest.mark.parametrize("disguise", ["{}\u200b", "\ufeff{}", "{}\u0301", "\u00a0{} "])
def test_texts_that_are_the_same_to_a_student_stay_together(disguise):
    rows = make_frame(60, 1)
    twins = rows.assign(response=[disguise.format(text) for text in rows.response])
    twins.index = [f"twin {name}" for name in rows.index]
    for split in ed.train_validation_test_split(pd.concat([rows, twins]), task=TASK):
        assert {f"twin {name}" for name in split.index if not str(name).startswith("twin")} == {
            name for name in split.index if str(name).startswith("twin")
        }
