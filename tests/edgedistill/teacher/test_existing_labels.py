"""Labels that exist already: how a table is read, what each row becomes, and what is wrong with a table."""

import pandas as pd
import pytest

from edgedistill.errors import ArgumentError, DataError
from edgedistill.task import Label, Task
from edgedistill.teacher.labelling import combine_labellings
from edgedistill.teacher.teacher import Teacher

TASK = Task("nominal", [Label("process"), Label("outcome"), Label("other")])
SETS = Task("multilabel", [Label("asks"), Label("praises")])
SCALE = Task("ordinal", [Label("1"), Label("2"), Label("3")])


@pytest.fixture
def teacher(tmp_path):
    """Makes teachers from the text of a CSV file."""

    def make(text, task=TASK, **settings):
        (tmp_path / "gpt4.csv").write_text(text, "utf-8")
        return Teacher.from_labels(tmp_path / "gpt4.csv", task=task, **settings)

    return make


def labels(teacher):
    """By id, the label of each row; of a row without one, the reason."""
    return {ident: row.label.label if row.label else str(row.reason) for ident, row in teacher.table.labels.items()}


def test_labels_are_recognized_as_in_the_answers_of_a_teacher(teacher):
    found = teacher("id,label\nr1,Process.\nr2,**outcome**\nr3,\nr4,OTHER\n")
    assert labels(found) == {
        "r1": "process",
        "r2": "outcome",
        "r3": "no label in the table of labels",
        "r4": "other",
    }


def test_numbers_of_a_scale_are_recognized_however_they_are_written(teacher):
    assert labels(teacher("id,label\nr1,1.0\nr2,2\nr3, 3\n", SCALE)) == {"r1": "1", "r2": "2", "r3": "3"}


def test_several_columns_are_votes_and_a_row_that_lacks_one_has_no_label(teacher):
    found = teacher(
        "id,a,b,c\nr1,process,process,outcome\nr2,process,outcome,other\nr3,process,process,\nr4,,,\n",
        votes=["a", "b", "c"],
    )
    assert labels(found) == {
        "r1": "process",
        "r2": "the votes tie",
        "r3": "no label in one of the columns of votes",
        "r4": "no label in the table of labels",
    }
    first = found.table.labels["r1"].label
    assert (first.consistency, first.shares, first.votes) == (
        pytest.approx(2 / 3),
        pytest.approx({"process": 2 / 3, "outcome": 1 / 3}),
        ("process", "process", "outcome"),
    )
    assert found.table.labels["r3"].detail == "c"


def test_shares_are_a_soft_label_whose_largest_one_is_the_label(teacher):
    found = teacher("id,p_process,p_outcome,p_other\nr1,.70,.21,.10\nr2,.33,.33,.33\nr3,,,\n", shares="p_")
    assert labels(found) == {"r1": "process", "r2": "the shares tie", "r3": "no label in the table of labels"}
    first = found.table.labels["r1"].label
    assert sum(first.shares.values()) == pytest.approx(1, abs=1e-12)
    assert (first.soft, first.consistency) == ("shares", pytest.approx(0.7 / 1.01))


def test_label_sets_may_be_separated_or_a_json_list(teacher):
    text = 'id,label\nr1,asks;praises\nr2,"[""praises""]"\nr3,[]\nr4,none\nr5,"Asks, praises"\nr6,\n'
    assert labels(teacher(text, SETS)) == {
        "r1": "asks;praises",
        "r2": "praises",
        "r3": "none",
        "r4": "none",
        "r5": "asks;praises",
        "r6": "no label in the table of labels",
    }


def test_a_label_of_a_set_holds_if_its_share_is_more_than_one_half(teacher):
    found = teacher("id,s_asks,s_praises\nr1,.9,.7\nr2,.2,.5\nr3,0,0\n", SETS, shares="s_")
    assert labels(found) == {"r1": "asks;praises", "r2": "the shares tie", "r3": "none"}
    assert found.table.labels["r1"].label.consistency == 0.7


def test_confidences_are_stated_confidences_and_can_be_the_soft_label(teacher):
    found = teacher("id,label,p\nr1,process,.9\nr2,outcome,\n", confidence="p", soft_labels="confidence")
    first, second = (found.table.labels[ident].label for ident in ("r1", "r2"))
    assert (first.confidence, first.soft, first.shares["outcome"]) == (0.9, "confidence", pytest.approx(0.05))
    assert (second.confidence, second.soft) == (None, "votes")


def test_shares_count_among_several_teachers_without_votes(teacher):
    rows = Teacher.from_labels(pd.DataFrame({"label": ["process"]}, index=["r1"]), task=TASK, name="one")
    other = teacher("id,p_process,p_outcome,p_other\nr1,.6,.4,0\n", shares="p_")
    labellings = {
        "one": rows.code([response("r1")]),
        "two": other.code([response("r1")]),
    }
    (label,) = combine_labellings([response("r1")], labellings, {"one": 1, "two": 1}, TASK).labels
    assert (label.label, label.consistency, label.soft) == ("process", 0.8, "mixed")


def response(ident):
    """A response with an id."""
    from edgedistill.data.types import Response

    return Response(ident, {"response": "You worked on"}, "human.csv", 2)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (
            "id,label\nr1,proces\nr2,outcome\nr3,n/a\nr4,proces\n",
            {},
            "in the codebook: 'proces' in rows 2, 5 (did you mean 'process'?); 'n/a' in row 4. The codebook has",
        ),
        ("id,label\nr1,a\nr2,b\n", {"unmatched": "set_aside"}, "labels that are not in the codebook: 'a' in row 2"),
        ("id,gpt\nr1,process\n", {}, "row 2: there is no column 'label'; the columns are id, gpt. Name the column"),
        ("id,a,b\nr1,process,process\n", {"votes": ["a", "b", "run3"]}, "there is no column 'run3'"),
        ("ident,label\nr1,process\n", {}, "there is no column 'id'; the columns are ident, label. Name the column of"),
        (
            "id,label\nr1,process\nr1,process\n,other\n",
            {},
            "row 3: the id 'r1' is already used in row 2; row 4: the id",
        ),
        ("id,p_process,p_outcome,p_other\nr1,.7,.2,.3\n", {"shares": "p_"}, "row 2: the shares sum to 1.2; they must"),
        (
            "id,p_process,p_outcome,p_other\nr1,-.1,1.1,0\n",
            {"shares": "p_"},
            "row 2: p_process is '-.1', which must be",
        ),
        ("id,p_process,p_outcome,p_other\nr1,nan,.5,.5\n", {"shares": "p_"}, "row 2: p_process is 'nan', which must"),
        ("id,p_process,p_outcome,p_other\nr1,,.5,.5\n", {"shares": "p_"}, "row 2: p_process is missing, which must"),
        ("id,p_process,p_outcome\nr1,.5,.5\n", {"shares": "p_"}, "there is no column 'p_other'"),
        (
            "id,label,p\nr1,process,90\n",
            {"confidence": "p"},
            "row 2: p is '90', which must be a number from 0 to 1; wr",
        ),
        ("", {}, "the file is empty"),
        ("id,label\n", {}, "has no rows"),
        ("id,label\nr1,\n", {}, "no row has a label (1: no label in the table of labels)"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(teacher, text, settings, message):
    with pytest.raises(DataError) as error:
        teacher(text, **settings)
    assert message in str(error.value)
    assert str(error.value).startswith("gpt4.csv")
    assert "\n" not in str(error.value)


def test_of_the_columns_only_those_of_the_file_are_named(teacher):
    """A project's column of ids has its key besides."""
    with pytest.raises(DataError, match=r"there is no column 'run1'; the columns are ID, run 1\. Did you mean 'run 1'"):
        teacher("ID,run 1\nr1,process\n", votes=["run1"])


def test_a_long_text_in_the_column_of_labels_is_not_quoted(teacher):
    text = "the learner says that she found it very hard to understand and then gave up"
    with pytest.raises(DataError) as error:
        teacher(f"id,label\nr1,{text}\n")
    assert "found it very hard" not in str(error.value)


def test_labels_that_are_not_in_the_codebook_can_be_set_aside(teacher):
    found = teacher("id,label\nr1,refused\nr2,outcome\n", unmatched="set_aside")
    assert labels(found) == {"r1": "a label that is not in the codebook", "r2": "outcome"}
    assert found.table.labels["r1"].detail == "'refused'"


def test_a_frame_is_labelled_by_its_ids_in_its_order():
    labels = pd.DataFrame({"label": [1.0, 2.0, None]}, index=["a", "b", "c"])
    frame = pd.DataFrame({"response": ["w", "x", "y", "z"], "id": ["b", "c", "a", "d"]}, index=[5, 6, 7, 8])
    found = Teacher.from_labels(labels, task=SCALE, model="gpt-4").label(frame)
    assert list(found.index) == [5, 6, 7, 8]
    assert found.label.fillna("").tolist() == ["2", "", "1", ""]
    assert found.set_aside_reason.fillna("").tolist() == [
        "",
        "no label in the table of labels (labels, row 2)",
        "",
        "no row in the table of labels (labels)",
    ]


def test_a_gate_compares_the_labels_with_human_codes():
    frame = pd.DataFrame({"response": [f"text {n}" for n in range(40)], "label": ["process", "outcome"] * 20})
    teacher = Teacher.from_labels(frame[["label"]], task=TASK, name="copied")
    verdict = teacher.gate(frame)
    assert (verdict.passed, verdict.teacher, verdict.rows, verdict.usage.asked) == (True, "copied", 40, 0)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ([1], {}, "labels must be a DataFrame or a file, not list"),
        (pd.DataFrame({"label": ["1"]}), {"base_url": "http://x"}, "base_url cannot be given together with labels"),
        (pd.DataFrame({"label": ["1"]}), {"votes": 3}, "votes names the columns of the votes"),
        (pd.DataFrame({"label": ["1"]}), {"vote": ["a"]}, "unknown key vote; did you mean votes?"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(given, settings, message):
    with pytest.raises(ArgumentError, match=message):
        Teacher.from_labels(given, task=SCALE, **settings)


def test_rows_with_one_id_twice_are_refused():
    teacher = Teacher.from_labels(pd.DataFrame({"label": ["1"]}, index=["a"]), task=SCALE)
    with pytest.raises(ArgumentError, match="two rows have the id 'a'"):
        teacher.label(pd.DataFrame({"response": ["x", "y"], "id": ["a", "a"]}))
