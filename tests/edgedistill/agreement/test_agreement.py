"""Invalid arguments, JSON, and the table in the terminal."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from edgedistill.agreement import Agreement, agreement, agreement_table, compare
from edgedistill.errors import ArgumentError, DataError
from edgedistill_serve.task.task import Label, Task

TASK = Task(kind="nominal", labels=(Label("correct"), Label("partly [b]"), Label("incorrect")), inputs=("response",))
HUMAN = ["correct", "correct", "partly [b]", "incorrect", "incorrect", "correct"]
CODED = ["correct", "incorrect", "partly [b]", "incorrect", "incorrect", "correct"]


def shown(columns, width=80):
    out = io.StringIO()
    Console(file=out, width=width).print(agreement_table(columns))
    return out.getvalue()


def test_a_label_outside_the_task_is_refused_with_its_place_and_the_tasks_labels():
    with pytest.raises(DataError) as refused:
        agreement(HUMAN, [*CODED[:5], "Correct"], TASK)
    assert str(refused.value) == (
        "coded label 6: the task has no label 'Correct'. Its labels: correct, partly [b], incorrect."
    )


def test_a_reference_label_outside_the_task_is_refused():
    with pytest.raises(DataError, match="reference label 1: the task has no label 'x'"):
        agreement(["x", *HUMAN[1:]], CODED, TASK)


@pytest.mark.parametrize("task", [TASK, None])
@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "reference label 1: the label is missing"),
        (None, "reference label 1: the label is missing"),
        (float("nan"), "reference label 1: the label is missing"),
        (pd.NA, "reference label 1: the label is missing"),
        (3, "reference label 1: the label 3 is not text"),
        (["correct"], r"reference label 1: the label \['correct'\] is not text"),
    ],
)
def test_a_missing_label_and_one_that_is_not_text_are_refused(task, label, message):
    with pytest.raises(DataError, match=message):
        agreement([label, *HUMAN[1:]], CODED, task)


NO_COLUMNS = ["correct", b"correct", None, 5, pd.DataFrame({"label": HUMAN}), {"correct": 1}, set(HUMAN), np.array("x")]


@pytest.mark.parametrize("coding", NO_COLUMNS, ids=lambda given: type(given).__name__)
def test_a_coding_that_is_not_a_column_of_labels_is_refused(coding):
    for codings in ((coding, CODED), (CODED, coding)):
        with pytest.raises(ArgumentError, match="must be a list, an array or a Series with a label per row"):
            agreement(*codings)
    for codings in ((coding, CODED, CODED), (HUMAN, coding, CODED), (HUMAN, CODED, coding)):
        with pytest.raises(ArgumentError, match="must be a list, an array or a Series with a label per row"):
            compare(*codings, TASK)


@pytest.mark.parametrize("column", [list, tuple, np.array, pd.Series])
def test_two_codings_in_any_kind_of_column_are_compared(column):
    assert compare(column(HUMAN), column(CODED), column(HUMAN), TASK) == compare(HUMAN, CODED, HUMAN, TASK)


@pytest.mark.parametrize("groups", ["xyxyxy", b"xyxyxy", {"x": 1}, {"x"}, 5], ids=lambda given: type(given).__name__)
def test_groups_that_are_not_a_column_are_refused(groups):
    with pytest.raises(ArgumentError, match="groups must be a list, an array or a Series with a group per row"):
        agreement(HUMAN, CODED, TASK, groups=groups)
    with pytest.raises(ArgumentError, match="groups must be a list, an array or a Series with a group per row"):
        compare(HUMAN, CODED, CODED, TASK, groups=groups)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_a_row_without_a_group_is_its_own_group(missing):
    assert agreement(HUMAN, CODED, TASK, groups=["x", "x", "y", "y", missing, missing]).groups == 4


def test_codings_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="there are 6 reference labels but 5 coded labels"):
        agreement(HUMAN, CODED[:5], TASK)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="there are no rows to compare"):
        agreement([], [], TASK)


def test_groups_that_do_not_match_the_rows_are_refused():
    with pytest.raises(DataError, match="there are 6 rows but 2 groups"):
        agreement(HUMAN, CODED, TASK, groups=["x", "y"])


def test_of_a_single_group_the_interval_holds_every_value():
    found = agreement(HUMAN, CODED, TASK, groups=["x"] * 6)
    assert (found.groups, found.kappa.low, found.kappa.high) == (1, -1, 1)
    assert (found.accuracy.low, found.accuracy.high) == (0, 1)
    assert found.averages["macro"].f1.low == 0
    assert found.kappa.value == agreement(HUMAN, CODED, TASK).kappa.value


def test_of_a_single_group_every_label_s_interval_holds_every_value():
    for label in agreement(HUMAN, CODED, TASK, groups=["x"] * 6).per_label.values():
        assert set(label.intervals.values()) == {(0, 1)}


def test_no_resamples_are_refused():
    with pytest.raises(DataError, match="resamples must be at least 1, not 0"):
        agreement(HUMAN, CODED, TASK, resamples=0)


def test_an_agreement_survives_json():
    found = agreement(HUMAN, CODED, TASK).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["rows"] == 6
    assert found["confusion"] == [[2, 0, 1], [0, 1, 0], [0, 0, 2]]
    of_label = found["per_label"]["correct"]
    assert (of_label["precision"], of_label["recall"], of_label["f1"], of_label["support"]) == (1.0, 2 / 3, 0.8, 3)
    low, high = of_label["intervals"]["recall"]
    assert low <= 2 / 3 <= high
    assert set(found["kappa"]) == {"value", "low", "high"}
    assert set(found["averages"]) == {"macro", "weighted"}


@pytest.mark.parametrize("coded", [CODED, HUMAN, ["correct"] * 6])
def test_an_agreement_comes_back_from_json_unchanged(coded):
    found = agreement(["correct"] * 6 if len(set(coded)) == 1 else HUMAN, coded, TASK, positive="correct")
    assert Agreement.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_an_agreement_that_an_earlier_version_wrote_is_read():
    found = agreement(HUMAN, CODED, TASK).as_dict()
    earlier = {name: value for name, value in found.items() if name not in {"mcc", "alpha", "averages"}}
    earlier["per_label"] = {
        name: {key: value for key, value in label.items() if key != "intervals"}
        for name, label in found["per_label"].items()
    }
    assert Agreement.from_dict(earlier).accuracy == agreement(HUMAN, CODED, TASK).accuracy


def test_a_positive_label_that_the_task_does_not_have_is_refused():
    with pytest.raises(DataError, match="the task has no label 'right'"):
        agreement(HUMAN, CODED, TASK, positive="right")


def test_an_undefined_kappa_is_null_in_json():
    assert agreement(["correct"] * 3, ["correct"] * 3, TASK).as_dict()["kappa"] is None


def test_four_columns_fit_into_eighty():
    found = agreement(HUMAN, CODED, TASK)
    text = shown(dict.fromkeys(("student", "teacher", "human-human", "fp32 ONNX"), found))
    assert max(len(line) for line in text.splitlines()) <= 80
    intervals = [line.split() for line in text.splitlines() if " to " in line]
    assert intervals == [[".359", "to", ".996"] * 4, [*intervals[1][:3]] * 4, [*intervals[2][:3]] * 4]


def test_the_table_says_value_and_interval_and_label_figures():
    text = shown({"student": agreement(HUMAN, CODED, TASK)})
    for expected in ("Cohen's kappa", ".833", "F1 correct", ".800", "1.00 .67     3"):
        assert expected in text


def test_a_label_that_looks_like_markup_is_shown_as_it_is():
    assert "F1 partly [b]" in shown({"[red]x": agreement(HUMAN, CODED, TASK)})


def test_an_undefined_figure_is_a_dash():
    text = shown({"student": agreement(["correct"] * 3, ["correct"] * 3, TASK)})
    assert "- -     0" in text
