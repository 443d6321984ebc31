"""The one type of an evaluation: its file, its JSON Schema, and how it is shown."""

import json
from pathlib import Path

import msgspec
import pytest

from edgedistill.data.twins import SplitTwins
from edgedistill.evaluation import Evaluation, write_schemas
from edgedistill.evaluation.build import TestCodings, fidelity_steps, twin_figures
from edgedistill.evaluation.files import to_plain
from edgedistill_serve.task.task import Label, Task

from ..report.runs import evaluation_of

DOCS = Path(__file__).parents[3] / "docs"
TASK = Task("nominal", (Label("a"), Label("b")), ("response",))


@pytest.fixture(scope="module")
def made():
    return evaluation_of()[0]


def test_the_schemas_in_the_docs_are_those_of_the_types(tmp_path):
    for file in write_schemas(tmp_path):
        assert file.read_text("utf-8") == (DOCS / file.name).read_text("utf-8"), f"run make schemas: {file.name}"


def test_the_schema_names_every_key_of_an_evaluation(made):
    schema = json.loads((DOCS / "evaluation.schema.json").read_text("utf-8"))
    assert set(schema["$defs"]["Evaluation"]["properties"]) == set(made)


def test_an_evaluation_is_the_same_after_a_round_trip_through_its_file(made):
    read = msgspec.convert(made, Evaluation)
    assert msgspec.json.decode(msgspec.json.encode(read), type=Evaluation) == read
    assert to_plain(read) == made


def test_an_evaluation_shows_itself_as_the_table_of_its_codings(made):
    read = msgspec.convert(made, Evaluation)
    accuracy = f"{read.student.accuracy.value:.2f}".removeprefix("0")
    for shown in (repr(read), read._repr_html_()):
        assert "student" in shown
        assert "teacher" in shown
        assert accuracy in shown
    assert read._repr_html_().startswith("<table>")


def test_a_value_that_is_not_a_number_of_numpy_is_not_written():
    with pytest.raises(NotImplementedError, match="object cannot be written as JSON"):
        to_plain(object())


def test_a_step_compares_the_rows_that_both_codings_have():
    human = {"1": "a", "2": "a", "3": "b", "4": "b"}
    codings = {"teacher": {"1": "a", "2": "b", "3": "b"}, "student": {"1": "a", "2": "a", "3": "b", "4": "a"}}
    (step,) = fidelity_steps(TestCodings(TASK, human, None, codings))
    assert (step.before, step.after, step.rows, step.flips) == ("teacher", "student", 3, 1)


def test_codings_without_a_row_in_common_make_no_step():
    codings = {"teacher": {"1": "a"}, "student": {"2": "a"}}
    assert fidelity_steps(TestCodings(TASK, {"1": "a", "2": "b"}, None, codings)) == ()


def test_agreement_is_also_given_without_the_rows_that_repeat_others():
    human = {str(row): "ab"[row % 2] for row in range(12)}
    right = dict(human)
    partly = human | {"0": "b", "1": "a", "10": "b", "11": "a"}
    coded = TestCodings(TASK, human, None, {"student": partly, "teacher": {row: right[row] for row in ("0", "1")}})
    twins = SplitTwins(test_same=("0", "1"), test_near=("10",), validation_same=("v",))
    found = twin_figures(twins, coded, None)
    assert (found.near, found.validation_same, found.validation_near) == (1, 1, 0)
    assert set(found.without_same) == {"student"}, "the teacher coded no other row"
    same, near = found.without_same["student"], found.without_near["student"]
    assert (same.rows, same.accuracy.value) == (10, pytest.approx(8 / 10))
    assert (near.rows, near.accuracy.value) == (9, pytest.approx(8 / 9))


def test_without_twins_no_agreement_is_repeated(made):
    assert made["twins"] == {
        "near": 0,
        "validation_same": 0,
        "validation_near": 0,
        "without_same": {},
        "without_near": {},
        "copies": 0,
    }
