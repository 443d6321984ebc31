"""A project whose teacher is a table of labels: gate, labels, provenance, and what runs again after a change."""

import csv
import json

import pytest

from edgedistill.data import read_records
from edgedistill.errors import DataError, GateRefused, ProjectFileError, RunError
from edgedistill.pipeline import Run, RunFolder, build_prompts, run_stages
from edgedistill.pipeline.label import read_labels
from edgedistill.project import read_project

PROJECT = """\
name: existing
task: {{labels: [{{name: process}}, {{name: outcome}}]}}
data: {{human: human.csv, unlabelled: responses.csv, split: {{train: 0.2, validation: 0.6, test: 0.2}}}}
{teacher}
"""
VOTES = "teacher: {labels: gpt4.csv, model: gpt-4-0613, votes: [a, b, c], gate: {at_least: 0.5}}"


@pytest.fixture
def folder(tmp_path):
    """A project's data, and three votes on each of its rows."""
    lines = [(f"r{i}", f"you {'worked' if i % 3 else 'won'} {i}", "process" if i % 3 else "outcome") for i in range(90)]
    _write(tmp_path / "human.csv", ("id", "response", "label"), lines[:60])
    _write(tmp_path / "responses.csv", ("id", "response"), [line[:2] for line in lines[60:]])
    votes = [(ident, label, label, "process") for ident, _, label in lines]
    _write(tmp_path / "gpt4.csv", ("id", "a", "b", "c"), votes)
    return tmp_path


def _write(file, columns, rows):
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def _run(folder, teacher=VOTES, **given):
    (folder / "project.yaml").write_text(PROJECT.format(teacher=teacher))
    project = read_project(folder / "project.yaml")
    return Run(project, read_records(project), RunFolder(project.run_folder), **given)


def _change(folder, change):
    with (folder / "gpt4.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    _write(folder / "gpt4.csv", rows[0], change(rows[1:]))


def test_the_gate_compares_the_labels_and_names_their_source(folder):
    run_stages(_run(folder), until="gate")
    (teacher,) = json.loads((folder / "runs/existing/gate.json").read_text())["teachers"]
    assert (teacher["teacher"], teacher["passed"], teacher["rows"], teacher["coded"]) == ("gpt-4-0613", True, 36, 36)
    assert (teacher["cost"]["asked"], teacher["cost"]["cached"], teacher["cost"]["nano_dollars"]) == (0, 0, 0)
    source = teacher["source"]
    assert (source["file"], source["rows"], source["columns"]) == ("gpt4.csv", 90, ["a", "b", "c"])
    assert (source["form"], source["model"], len(source["sha256"])) == ("votes", "gpt-4-0613", 64)
    assert not (folder / "teacher-cache").exists()


def test_unlabelled_responses_get_the_labels_of_the_table_and_others_are_set_aside_with_the_reason(folder):
    _change(folder, lambda rows: [row for row in rows if row[0] != "r70"])
    run = _run(folder)
    *_, label = run_stages(run, until="label")
    assert (label.entry["rows"], label.entry["labelled"]) == (30, 29)
    assert label.entry["set_aside"] == [{"id": "r70", "reason": "no row in the table of labels", "detail": "gpt4.csv"}]
    labels = {row.id: row for row in read_labels(run.folder)}
    assert (labels["r60"].label, labels["r60"].votes) == ("outcome", ("outcome", "outcome", "process"))


def test_every_row_of_the_table_is_accounted_for_and_ids_that_are_not_in_the_data_are_named(folder):
    _change(folder, lambda rows: [*rows[:-1], [rows[-1][0], "process", "process", ""], ["x1", *["process"] * 3]])
    said = []
    run = _run(folder, on_message=said.append)
    run_stages(run, until="gate")
    counted = json.loads((folder / "runs/existing/run.json").read_text())["rows"][-1]
    assert (counted["file"], counted["read"]) == ("gpt4.csv", 91)
    assert counted["used"] == {"validation": 36, "test": 12, "unlabelled": 29}
    assert counted["set_aside"] == {
        "label of a train row, which has a human code": 12,
        "no label in one of the columns of votes": 1,
        "id that is not in the data": 1,
    }
    assert said[1] == "gpt4.csv: 1 ids are not in the data: 'x1'"
    aside = (folder / "runs/existing/set_aside.csv").read_text()
    assert "gpt4.csv,92,x1,id that is not in the data," in aside


def test_a_changed_table_makes_the_stages_run_again_that_read_it(folder):
    run_stages(_run(folder), until="label")
    before = (folder / "runs/existing/labels.jsonl").read_bytes()
    assert [step.skipped for step in run_stages(_run(folder), until="label")] == [True, True]
    _change(folder, lambda rows: [*rows, ["x1", *["process"] * 3]])
    assert [step.skipped for step in run_stages(_run(folder), until="label")] == [False, False]
    assert (folder / "runs/existing/labels.jsonl").read_bytes() == before  # so that mix and train need not run


def test_a_table_beside_an_endpoint_is_one_of_several_teachers(folder):
    teachers = (
        "teachers: [{name: first, labels: gpt4.csv, votes: [a, b]}, {name: second, labels: gpt4.csv, label_column: c}]"
    )
    run_stages(_run(folder, teachers), until="label")
    gate = json.loads((folder / "runs/existing/gate.json").read_text())
    assert gate["used"] == ["first"]
    assert [each["source"]["columns"] for each in gate["teachers"]] == [["a", "b"], ["c"]]


def test_a_refusal_says_how_many_validation_rows_the_table_lacks(folder):
    _change(folder, lambda rows: rows[:30])
    with pytest.raises(GateRefused) as refused:
        run_stages(_run(folder), until="gate")
    lacking = json.loads((folder / "runs/existing/gate.json").read_text())["teachers"][0]["set_aside"]
    assert refused.value.hint.startswith(f"Add the labels of {len(lacking)} validation rows to gpt4.csv. ")


def test_labels_that_do_not_agree_are_refused_by_the_gate(folder):
    with pytest.raises(GateRefused, match="kappa is"):
        run_stages(_run(folder, "teacher: {labels: gpt4.csv, label_column: c}"), until="label")


def test_a_table_of_other_rows_is_refused(folder):
    _change(folder, lambda rows: [[f"x{ident}", *votes] for ident, *votes in rows])
    with pytest.raises(DataError, match=r"none of its 90 ids \('xr0', 'xr1', and 88 more\) is in the data, whose ids"):
        run_stages(_run(folder), until="gate")


def test_a_missing_table_is_named(folder):
    with pytest.raises(DataError, match=r"gpt5\.csv: the file does not exist"):
        run_stages(_run(folder, "teacher: {labels: gpt5.csv}"), until="gate")


def test_labels_that_exist_write_no_responses(folder):
    with pytest.raises(ProjectFileError, match="generate needs a teacher with an endpoint, which writes the responses"):
        _run(folder, f"{VOTES}\ngenerate: {{per_label: 3}}")


def test_an_endpoint_that_fails_the_gate_leaves_nobody_to_write_responses(folder):
    teachers = (
        "teachers: [{name: table, labels: gpt4.csv, votes: [a, b, c]}, {name: asked, base_url: 'http://localhost:9/v1',"
        " model: m, api_key_env: null}]\ngenerate: {per_label: 3}"
    )
    run = _run(folder, teachers)
    verdict = {"used": ["table"], "weights": {"table": 1.0, "asked": 1.0}}
    run.folder.write_json("gate.json", verdict)
    with pytest.raises(RunError, match="no teacher with an endpoint passed the gate"):
        _ = run.teacher


def test_there_is_no_prompt_to_show(folder):
    with pytest.raises(RunError, match="the labels exist already: nothing is asked, and there is no prompt"):
        build_prompts(_run(folder), "r1")
