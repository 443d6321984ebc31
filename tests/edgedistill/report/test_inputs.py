"""A run folder is read whole, or the file that is wrong is named with its fix."""

import json

import pytest

from edgedistill.errors import RunError
from edgedistill.report.inputs import read_evaluation

from .runs import evaluation_of, gate_of, material_of, write_run


@pytest.fixture(scope="module")
def made():
    """An evaluation and the lines of its test_scores.csv."""
    told, lines = evaluation_of()
    return json.dumps(told), lines


@pytest.fixture
def run(tmp_path, made):
    """A run folder with every file in it."""
    return write_run(tmp_path, json.loads(made[0]), made[1], gate=gate_of())


def _evaluation(run, **changes):
    told = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps(told | changes))


def test_every_figure_of_the_file_is_read(run, made):
    found = read_evaluation(run, "project.yaml")
    told = json.loads(made[0])
    assert found.student.as_dict() == told["agreement"]["student"]
    assert found.review.test.accepted == told["review"]["test"]["accepted"]
    assert [hop.after for hop in found.chain] == ["PyTorch", "ONNX fp32", "int8"]


def test_without_an_evaluation_the_missing_stage_is_named(run):
    (run / "evaluation.json").unlink()
    with pytest.raises(RunError, match=r"evaluate is not done.*`edgedistill evaluate project.yaml` writes it"):
        material_of(run)


@pytest.mark.parametrize("text", ["", "{", '{"rows": NaN}', "\x00\xff"])
def test_an_evaluation_that_is_no_json_is_named(run, text):
    (run / "evaluation.json").write_text(text, "latin-1")
    with pytest.raises(RunError, match=r"evaluation.json.*edgedistill evaluate"):
        material_of(run)


@pytest.mark.parametrize("key", ["review", "calibration", "comparisons", "ceiling", "subgroups"])
def test_an_older_evaluation_is_named_with_the_key_that_it_lacks(run, key):
    told = json.loads((run / "evaluation.json").read_text())
    del told[key]
    (run / "evaluation.json").write_text(json.dumps(told))
    with pytest.raises(RunError, match=rf"another version.*`{key}`.*edgedistill evaluate"):
        material_of(run)


def test_a_newer_evaluation_is_named(run):
    _evaluation(run, schema_version=2)
    with pytest.raises(RunError, match=r"is of version 2, not 1"):
        material_of(run)


def test_an_evaluation_without_the_student_is_named(run):
    _evaluation(run, agreement={})
    with pytest.raises(RunError, match=r"says nothing of the student"):
        material_of(run)


def test_a_key_that_is_not_known_yet_is_passed_over(run):
    _evaluation(run, something_new=1)
    assert material_of(run).evaluation.rows == 120


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gate.json", "[]"),
        ("run.json", "{"),
        ("test_scores.csv", "id,human\nr1\n"),
        ("test_scores.csv", "id,human,student\nr1,process,process\n"),
        ("test_scores.csv", ""),
        ("trials.csv", "epoch\n1,2\n"),
        ("labels.jsonl", '{"id": "r1"}\n'),
        ("generation.json", "7"),
        ("chain.json", '[{"before": "PyTorch"}]'),
        ("bundle/bundle.json", "{}"),
    ],
)
def test_a_damaged_file_is_named_with_the_stage_that_writes_it(run, name, text):
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(text)
    with pytest.raises(RunError, match=rf"{name}.*`edgedistill \w+ project.yaml` writes it"):
        material_of(run)


def test_scores_of_another_evaluation_are_named(run):
    _evaluation(run, rows=119)
    with pytest.raises(RunError, match=r"has 120 rows, and evaluation.json tells of 119"):
        material_of(run)


def test_the_hop_to_the_browser_is_added(run):
    told = json.loads((run / "evaluation.json").read_text())["chain"]
    browser = {**told[-1], "before": "int8", "after": "browser"}
    (run / "chain.json").write_text(json.dumps([*told[1:], browser]))
    assert [hop.after for hop in read_evaluation(run, "p").chain] == ["PyTorch", "ONNX fp32", "int8", "browser"]


def test_hops_of_an_export_before_the_evaluation_are_left_out(run):
    told = json.loads((run / "evaluation.json").read_text())["chain"]
    (run / "chain.json").write_text(json.dumps(told[1:]))
    _evaluation(run, chain=told[:1])
    assert [hop.after for hop in read_evaluation(run, "p").chain] == ["PyTorch"]


def test_a_study_that_is_not_there_is_named(run):
    with pytest.raises(RunError, match=r"nowhere.*runs\.csv.*edgedistill study"):
        material_of(run, study=run / "nowhere")


def test_texts_are_not_even_kept_where_no_examples_are_asked_for(run):
    texts = {"r1": {"response": "mine"}}
    assert material_of(run, texts=texts).texts == {}
    assert material_of(run, texts=texts, examples=1).texts == texts
