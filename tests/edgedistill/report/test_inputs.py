"""A run folder is read whole, or the file that is wrong is named with its fix."""

import json

import pytest

from edgedistill.errors import RunError
from edgedistill.evaluation.files import read_evaluation, to_plain
from edgedistill.evaluation.types import EVALUATION_VERSION

from .runs import evaluation_of, gate_of, inputs_of_run, write_run


@pytest.fixture(scope="module")
def made():
    """An evaluation and the lines of its test_scores.csv."""
    values, lines = evaluation_of()
    return json.dumps(values), lines


@pytest.fixture
def run(tmp_path, made):
    """A run folder with every file in it."""
    return write_run(tmp_path, json.loads(made[0]), made[1], gate=gate_of())


def _evaluation(run, **changes):
    values = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps(values | changes))


def test_every_figure_of_the_file_is_read(run, made):
    found = read_evaluation(run / "evaluation.json")
    values = json.loads(made[0])
    assert json.loads(json.dumps(to_plain(found))) == values
    assert [step.after for step in inputs_of_run(run).steps] == ["PyTorch", "ONNX fp32", "int8"]


def test_without_an_evaluation_the_missing_stage_is_named(run):
    (run / "evaluation.json").unlink()
    with pytest.raises(RunError, match=r"evaluate is not done.*`edgedistill evaluate PROJECT` writes it"):
        inputs_of_run(run)


@pytest.mark.parametrize("text", ["", "{", '{"rows": NaN}', "\x00\xff"])
def test_an_evaluation_that_is_no_json_is_named(run, text):
    (run / "evaluation.json").write_text(text, "latin-1")
    with pytest.raises(RunError, match=r"evaluation.json.*edgedistill evaluate"):
        inputs_of_run(run)


@pytest.mark.parametrize("key", ["review", "calibration", "comparisons", "human_agreement", "subgroups"])
def test_an_evaluation_that_lacks_a_key_is_named_with_it(run, key):
    values = json.loads((run / "evaluation.json").read_text())
    del values[key]
    (run / "evaluation.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=rf"another version.*`{key}`.*edgedistill evaluate"):
        inputs_of_run(run)


@pytest.mark.parametrize("version", [1, EVALUATION_VERSION + 1])
def test_an_evaluation_of_another_version_says_which_stage_to_run_again(run, version):
    _evaluation(run, schema_version=version)
    reads = rf"this version of EdgeDistill reads {EVALUATION_VERSION}"
    expected = rf"has schema version {version}; {reads}.*`edgedistill evaluate PROJECT`"
    with pytest.raises(RunError, match=expected):
        inputs_of_run(run)


def test_a_fidelity_file_of_another_version_says_which_stage_to_run_again(run):
    values = json.loads((run / "fidelity.json").read_text())
    (run / "fidelity.json").write_text(json.dumps(values | {"schema_version": 3}))
    with pytest.raises(RunError, match=r"has schema version 3.*`edgedistill export PROJECT`"):
        inputs_of_run(run)


def test_an_evaluation_without_the_student_is_named(run):
    _evaluation(run, agreement={})
    with pytest.raises(RunError, match=r"has no figures of the student"):
        inputs_of_run(run)


def test_a_key_that_is_not_known_yet_is_passed_over(run):
    _evaluation(run, something_new=1)
    assert inputs_of_run(run).evaluation.rows == 120


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
        ("fidelity.json", '[{"before": "PyTorch"}]'),
        ("bundle/bundle.json", "{}"),
    ],
)
def test_a_damaged_file_is_named_with_the_stage_that_writes_it(run, name, text):
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(text)
    with pytest.raises(RunError, match=rf"{name}.*`edgedistill \w+ PROJECT` writes it"):
        inputs_of_run(run)


def test_scores_of_another_evaluation_are_named(run):
    _evaluation(run, rows=119)
    with pytest.raises(RunError, match=r"has 120 rows, and evaluation.json has 119"):
        inputs_of_run(run)


def test_the_steps_of_an_export_of_another_evaluation_are_left_out(run):
    _evaluation(run, something_new=1)
    assert [step.after for step in inputs_of_run(run).steps] == ["PyTorch"]
    assert inputs_of_run(run).fidelity is None


def test_a_study_that_is_not_there_is_named(run):
    with pytest.raises(RunError, match=r"nowhere.*runs\.csv.*edgedistill study"):
        inputs_of_run(run, study=run / "nowhere")


def test_texts_are_not_even_kept_where_no_examples_are_asked_for(run):
    texts = {"r1": {"response": "mine"}}
    assert inputs_of_run(run, texts=texts).texts == {}
    assert inputs_of_run(run, texts=texts, examples=1).texts == texts
