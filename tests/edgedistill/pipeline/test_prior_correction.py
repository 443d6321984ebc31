"""A project whose teacher seldom gives one label: run, report, methods and bundle say how its shares were corrected."""

import csv
import json

import pytest
from scipy.special import softmax

from edgedistill.errors import ProjectFileError
from edgedistill.pipeline import run_stages
from edgedistill.pipeline.evaluate import compared_students
from edgedistill.pipeline.methods import write_methods
from edgedistill.project import read_project
from edgedistill.report.formatting import figure
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve import Bundle

from ..student.conftest import make_model, make_tokenizer, toy
from .tiny import run_of

PROJECT = """\
name: tiny
task: {kind: KIND, labels: [{name: process}, {name: outcome}, {name: other}]}
data: {human: human.csv, unlabelled: responses.csv}
teacher: {labels: labels.csv, gate: {at_least: 0.1}}
student:
  backbone: ./backbone
  max_tokens: 24
  search: {learning_rate: [5e-3], batch_size: [8], epochs: [2]}
  MORE
export: {precision: fp32}
"""


def write(folder, more="", kind="nominal", validation=110):
    """Write the project; the teacher takes most of `other` for `process`."""
    folder.mkdir(exist_ok=True)
    tokenizer = make_tokenizer("bert")
    tokenizer.save_pretrained(folder / "backbone")
    make_model("bert", len(tokenizer)).save_pretrained(folder / "backbone")
    parts = ["train"] * 30 + ["validation"] * validation + ["test"] * 40
    coded = [(f"h{row}", text, label) for row, (label, text) in enumerate(toy(len(parts), 3))]
    others = [(f"u{row}", text, label) for row, (label, text) in enumerate(toy(90, 4))]
    teacher = [
        (ident, "process" if label == "other" and row % 9 != 2 else label)
        for row, (ident, _, label) in enumerate([*coded, *others])
    ]
    human = [(*row, part) for row, part in zip(coded, parts, strict=True)]
    for name, columns, rows in (
        ("human.csv", ("id", "response", "label", "split"), human),
        ("responses.csv", ("id", "response"), [row[:2] for row in others]),
        ("labels.csv", ("id", "label"), teacher),
    ):
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([columns, *rows])
    (folder / "tiny.yaml").write_text(PROJECT.replace("MORE", more).replace("KIND", kind))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = run_of(write(tmp_path_factory.mktemp("prior") / "project"))
    run_stages(run)
    return run


def corrections(run):
    return run.folder.run_log["stages"]["train"]["prior_correction"]


def test_the_student_has_the_shares_that_the_run_states(finished):
    (found,) = corrections(finished)
    assert (found["student"], found["rows"], found["note"]) == ("student", 110, "")
    assert found["before"]["other"] < found["after"]["other"] < found["human"]["other"]
    student = Checkpoint.load(finished.folder.path / "student", finished.task, 24)
    rows = [dict(row.response.inputs) for row in finished.records.splits.validation]
    shares = softmax(student.logits(rows), axis=1).mean(axis=0)
    assert shares == pytest.approx(list(found["after"].values()), abs=1e-3)


def test_report_methods_and_bundle_state_the_correction(finished):
    (found,) = corrections(finished)
    page = (finished.folder.path / "report.html").read_text()
    assert "Label shares" in page
    assert f'<td class="n">{figure(found["shift"]["other"], 2)}</td>' in page
    text = (write_methods(finished) / "methods.md").read_text()
    assert "The label shares of the student were corrected" in text
    assert "@king2001" in text
    provenance = Bundle.load(finished.folder.path / "bundle").manifest.provenance
    assert provenance["prior_correction"] == [found]


def test_every_student_of_a_project_is_corrected_and_the_search_keeps_its_own(tmp_path):
    run = run_of(write(tmp_path, more="shrink: {layers: 1, epochs: 1}"))
    run_stages(run, until="train")
    assert [(each["student"], bool(each["shift"])) for each in corrections(run)] == [
        ("student", True),
        ("smaller student", True),
    ]
    (kept,) = run.folder.path.glob("search/**/student-*/model.safetensors")
    student = (run.folder.path / "student" / "model.safetensors").read_bytes()
    assert kept.read_bytes() != student
    assert json.loads((run.folder.path / "shrinking.json").read_text())


@pytest.mark.parametrize("more", ["kind: frozen", "kind: nano", "sizes: [nano, frozen, 2]"])
def test_other_kinds_of_students_are_corrected_too(more, tmp_path):
    file = write(tmp_path, more=more)
    if "frozen" in more.partition("sizes")[0]:
        file.write_text(file.read_text().replace("search: {learning_rate: [5e-3], batch_size: [8], epochs: [2]}", ""))
    run = run_of(file)
    run_stages(run, until="train")
    names = ["2 layers", "nano", "frozen"] if "sizes" in more else ["student"]
    assert [(each["student"], bool(each["shift"])) for each in corrections(run)] == [(name, True) for name in names]


def test_too_few_validation_rows_are_a_note(tmp_path):
    run = run_of(write(tmp_path, more="kind: nano", validation=40))
    *_, step = run_stages(run, until="train")
    note = (
        "The label shares of the student were not corrected: there are 40 validation rows, and it needs 100 "
        "(student.prior_correction)."
    )
    assert note in step.entry["notes"]


def test_a_multilabel_task_refuses_it(tmp_path):
    file = write(tmp_path, more="prior_correction: true", kind="multilabel")
    with pytest.raises(ProjectFileError, match=r"student\.prior_correction does not support multilabel tasks"):
        read_project(file)


ASSISTED = "assistant: {backbone: ./backbone, seeds: [0, 1], learning_rate: 1e-2, epochs: 6, batch_size: 8}"


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    run = run_of(write(tmp_path_factory.mktemp("taught") / "project", more=ASSISTED))
    run_stages(run)
    return run


def test_each_assistant_is_corrected_before_it_teaches(taught):
    found = taught.folder.run_log["stages"]["train"]["assistant"]["prior_correction"]
    assert [each["student"] for each in found] == ["assistant with seed 0", "assistant with seed 1"]
    rows = [dict(row.response.inputs) for row in taught.records.splits.validation]
    for seed, each in enumerate(found):
        assert each["before"]["other"] < each["after"]["other"]
        assistant = Checkpoint.load(taught.folder.path / "assistant" / f"seed-{seed}", taught.task, 24)
        shares = softmax(assistant.logits(rows), axis=1).mean(axis=0)
        assert shares == pytest.approx(list(each["after"].values()), abs=1e-3)


def test_the_methods_text_names_the_corrected_assistants(taught):
    text = (write_methods(taught) / "methods.md").read_text()
    assert "The label shares of the assistant with seed 1 were corrected" in text


def test_a_promise_counts_each_corrected_assistant_as_two_compared_students(taught):
    entry = taught.folder.run_log["stages"]["train"]
    assert (len(corrections(taught)), entry["trials"], entry["assistant"]["compared"]) == (1, 1, [6, 6])
    assert compared_students(taught) == 2 * (6 * 6) * 2 * (2 * 2)  # own epochs, their epochs, own constants, theirs


def test_with_fewer_seeds_no_assistant_of_an_earlier_run_teaches(tmp_path):
    folders = []
    for seeds in ("[0, 1]", "[1]"):
        run = run_of(write(tmp_path, more=ASSISTED.replace("[0, 1]", seeds)))
        run_stages(run, until="train")
        folders.append(sorted(path.name for path in (run.folder.path / "assistant").iterdir()))
    assert folders == [["seed-0", "seed-1"], ["seed-1"]]
