"""The stage that trains: the student, the baseline beside it, and the smaller student."""

import csv
import json
import random
import shutil
from functools import cache

import pytest
from transformers import AutoConfig, AutoModel

from edgedistill.data.reading import read_records
from edgedistill.errors import EdgeDistillError, TrainingFailed
from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.run import Run
from edgedistill.pipeline.stages import run_stages
from edgedistill.project.reading import read_project
from edgedistill_export.quantize import vocabulary as vocabulary_module

from ..student.conftest import make_model, make_tokenizer, toy
from ..student.test_cut_backbone import write_word_pieces

PROJECT = """\
name: tiny
task:
  kind: nominal
  labels: [{{name: process}}, {{name: outcome}}, {{name: other}}]
data: {{human: human.csv, unlabelled: responses.csv}}
student:
  backbone: ./backbone
  max_tokens: 24
  search: {{learning_rate: [5e-3], batch_size: [8], epochs: [2]}}
  {more}
"""
SHRINK = "shrink: {layers: 1, epochs: 1}"


def write_rows(file, columns, rows):
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def writing(folder):
    """Prepare a folder with a tiny backbone; return what writes the project: its argument goes into `student`."""
    tokenizer = make_tokenizer("bert")
    tokenizer.save_pretrained(folder / "backbone")
    make_model("bert", len(tokenizer)).save_pretrained(folder / "backbone")
    draw = random.Random(0)
    coded = [(f"h{row}", text, label) for row, (label, text) in enumerate(toy(120, 3))]
    split = [draw.choice(["train", "train", "validation", "test"]) for _ in coded]
    rows = [(*row, part) for row, part in zip(coded, split, strict=True)]
    write_rows(folder / "human.csv", ["id", "response", "label", "split"], rows)
    others = [(f"u{row}", text) for row, (_, text) in enumerate(toy(60, 4))]
    write_rows(folder / "responses.csv", ["id", "response"], others)

    def write(more=""):
        (folder / "tiny.yaml").write_text(PROJECT.format(more=more))
        return folder / "tiny.yaml"

    return write


@pytest.fixture
def project(tmp_path):
    return writing(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The training of a project with this in its section `student`, done once for all tests that only look at it."""

    @cache
    def once(more=""):
        return train(writing(tmp_path_factory.mktemp("trained"))(more))

    return once


def train(file):
    given = read_project(file)
    run = Run(given, read_records(given), RunFolder(given.run_folder))
    return run_stages(run, until="train")[-1], run


def outputs(run):
    return run.folder.run_log["stages"]["train"]["outputs"]


def test_training_leaves_student_table_baseline_and_the_search(trained):
    step, run = trained()
    assert {"student", "trials.csv", "frozen.safetensors", "search.sqlite3"} <= {
        path.name for path in run.folder.path.iterdir()
    }
    assert step.entry["frozen"]["pooling"] in ("mean", "first")
    assert set(outputs(run)) == {"student", "trials.csv", "frozen.safetensors"}


def test_a_shrunk_student_lies_beside_the_first_with_both_figures(trained):
    _, run = trained(SHRINK)
    message = json.loads((run.folder / "shrinking.json").read_text())
    assert message["bytes"]["shrunk"] < message["bytes"]["student"]
    assert set(message["texts_per_second"]) == {"student", "shrunk"}
    assert message["on_validation_rows"]["rows"] == len(run.records.splits.validation)
    assert (run.folder / "shrunk" / "model.safetensors").is_file()
    assert {"shrunk", "shrinking.json"} <= set(outputs(run))


def test_no_validation_or_test_row_teaches_the_shrunk_student(trained):
    step, run = trained(SHRINK)
    folder = run.project.folder
    with (folder / "human.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    learnt = {row["response"].casefold() for row in rows if row["split"] == "train"}
    locked = {row["response"].casefold() for row in rows if row["split"] != "train"}
    with (folder / "responses.csv").open(newline="") as stream:
        learnt |= {row["response"].casefold() for row in csv.DictReader(stream)}
    assert step.entry["shrunk"]["texts"] == len(learnt - locked)


def test_other_ways_of_shrinking_do_not_search_again(trained, tmp_path):
    _, before = trained(SHRINK)
    folder = shutil.copytree(before.project.folder, tmp_path / "copy")
    (folder / "tiny.yaml").write_text(PROJECT.format(more="shrink: {layers: 1, epochs: 2}"))
    message = []
    given = read_project(folder / "tiny.yaml")
    run = Run(
        given, read_records(given), RunFolder(given.run_folder), on_progress=lambda what, *_: message.append(what)
    )
    run_stages(run, until="train")
    assert "train: optimizer steps of the shrunk student" in message
    assert "train: optimizer steps" not in message


ASSISTANT = "assistant: {backbone: ./backbone, seeds: [0, 1], learning_rate: 1e-2, epochs: 8}"


def test_an_assistant_teaches_the_student_all_texts_except_locked_ones(trained):
    step, run = trained(ASSISTANT)
    assistant = step.entry["assistant"]
    assert {path.name for path in (run.folder / "assistant").iterdir()} == {"seed-0", "seed-1"}
    assert "assistant" in outputs(run)
    splits = run.records.splits
    locked = {row.inputs["response"] for split in (splits.validation, splits.test) for row in split.responses}
    texts = {row.inputs["response"] for row in (*splits.train.responses, *run.records.unlabelled)} - locked
    assert assistant["texts"] >= len(texts)  # rows of the training set are not merged
    assert assistant["seeds"] == [0, 1]
    assert len(assistant["validation_macro_f1"]) == 2
    entry = run_stages(run, until="evaluate")[-1].entry
    evaluation = json.loads((run.folder / "evaluation.json").read_text())
    assert "assistant" in evaluation["agreement"]
    assert entry["inputs"]


@pytest.mark.parametrize("kind", ["ordinal", "multilabel"])
def test_assistants_teach_tasks_of_other_kinds(project, kind):
    file = project(ASSISTANT)
    file.write_text(file.read_text().replace("kind: nominal", f"kind: {kind}"))
    _, run = train(file)
    run_stages(run, until="evaluate")
    assert "assistant" in json.loads((run.folder / "evaluation.json").read_text())["agreement"]


def test_an_assistant_teaches_every_size(project):
    step, run = train(project(f"{ASSISTANT}\n  sizes: [nano, 1, 2]"))
    assert {size["name"] for size in step.entry["sizes"]["sizes"]} == {"nano", "1 layer", "2 layers"}
    assert step.entry["assistant"]["seeds"] == [0, 1]
    run_stages(run, until="evaluate")
    assert "assistant" in json.loads((run.folder / "evaluation.json").read_text())["agreement"]


def test_a_student_taught_by_an_assistant_differs_from_one_taught_by_labels(trained):
    weights = []
    for more in ("", ASSISTANT):
        _, run = trained(more)
        weights.append((run.folder / "student" / "model.safetensors").read_bytes())
    assert weights[0] != weights[1]


def test_an_assistant_that_gives_one_label_teaches_nothing(project):
    with pytest.raises(TrainingFailed, match="it has not learnt the task"):
        train(project("assistant: {backbone: ./backbone, learning_rate: 1e-6, epochs: 1}"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("assistant: ./backbone\n  loss: {targets: soft}", "remove loss.targets, or assistant"),
        ("assistant: {seeds: [1]}", "student.assistant.backbone"),
        ("assistant: {backbone: a, preset: quick, learning_rate: 1e-3, epochs: 1}", "decides nothing"),
        ("assistant: ./nowhere", "student.assistant.backbone: there is no folder"),
        (
            "assistant: {backbone: ./short, learning_rate: 1e-2, epochs: 1}",
            "student.assistant: the assistant: the backbone does not support max_tokens = 24",
        ),
    ],
)
def test_an_assistant_that_cannot_teach_is_refused(project, more, message):
    backbone = project().parent / "backbone"
    short = shutil.copytree(backbone, backbone.with_name("short"))
    config = AutoConfig.from_pretrained(backbone, max_position_embeddings=12)
    AutoModel.from_config(config).save_pretrained(short)
    with pytest.raises(EdgeDistillError) as refusal:
        train(project(more))
    assert message in str(refusal.value)


def test_a_frozen_student_is_made_without_a_search(project):
    step, run = train(project("kind: frozen"))
    assert step.entry["best"]["pooling"] == "first"
    assert not (run.folder / "search.sqlite3").exists()
    with (run.folder / "trials.csv").open(newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert (line["learning_rate"], line["best"], line["outcome"]) == ("", "1", "done")


def test_the_table_has_a_line_for_every_epoch(trained):
    _, run = trained()
    with (run.folder / "trials.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["epoch"] for line in lines] == ["1", "2"]
    assert sum(int(line["best"]) for line in lines) == 1
    assert {line["outcome"] for line in lines} == {"done"}


def test_a_nano_student_is_trained_and_says_how_many_tokens_it_has(project):
    step, run = train(project("kind: nano"))
    assert step.entry["nano"]["tokens"] == step.entry["nano"]["backbone_tokens"]
    assert step.entry["best"]["best_epoch"] in (1, 2)
    assert set(outputs(run)) == {"student", "trials.csv", "frozen.safetensors"}


def test_the_vocabulary_is_cut_before_training_where_the_project_asks_for_it(project, monkeypatch):
    monkeypatch.setattr(vocabulary_module, "COMMON", 0)
    file = project("vocabulary: cut")
    write_word_pieces(file.parent / "backbone")
    step, run = train(file)
    known, kept = (
        json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        for folder in (file.parent / "backbone", run.folder / "student")
    )
    assert step.entry["vocabulary"]["pieces"] == len(kept) < len(known)
    assert f"with {len(kept)} of the backbone's {len(known)} tokens" in step.entry["notes"][-1]


def test_an_assistant_that_is_smaller_or_has_no_other_texts_is_noted(project):
    file = project("assistant: {backbone: ./small, learning_rate: 1e-2, epochs: 8}")
    shutil.copytree(file.parent / "backbone", file.parent / "small")
    model = AutoModel.from_pretrained(file.parent / "backbone")
    model.encoder.layer = model.encoder.layer[:1]
    model.config.num_hidden_layers = 1
    model.save_pretrained(file.parent / "small")
    file.write_text(file.read_text().replace(", unlabelled: responses.csv", ""))
    notes = train(file)[0].entry["notes"]
    assert sum("The assistant is smaller than the student (" in note for note in notes) == 1
    assert sum("teaches the training rows only" in note for note in notes) == 1


def test_an_assistant_of_the_same_size_with_other_texts_is_not_noted(trained):
    notes = trained(ASSISTANT)[0].entry["notes"]
    assert not [note for note in notes if note.startswith("The assistant ")]


def test_a_student_that_gives_all_validation_rows_one_label_says_so(project):
    file = project()
    file.write_text(file.read_text().replace("[5e-3]", "[1e-9]"))
    step, _ = train(file)
    (note,) = (each for each in step.entry["notes"] if each.startswith("Training failed"))
    assert note.startswith("Training failed. The model gives every validation response the same label, ")
    assert note.endswith(
        "Set student.preset: thorough (more epochs), and code or label more rows; "
        "student.kind: frozen needs the fewest."
    )
