"""A project that holds whole questions out, with references and a rubric, from its rows to its bundle and report."""

import csv
import json
import random

import pytest

from edgedistill.pipeline import run_stages
from edgedistill_serve import Bundle, Scorer

from ..student.conftest import FILLERS, KEYWORDS, make_model, make_tokenizer
from .tiny import run_of

PROJECT = """\
name: asked
task:
  labels: [{name: process}, {name: outcome}, {name: other}]
  inputs: [question, reference_answer, rubric, response]
data: {human: human.csv, questions: held_out, split: {train: 0.5, validation: 0.25, test: 0.25}}
student: {backbone: ./backbone, kind: frozen, max_tokens: 24}
export: {precision: fp32}
"""
COLUMNS = ("id", "question", "reference_answer", "rubric", "response", "label")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The project's file after a run."""
    folder = tmp_path_factory.mktemp("asked")
    tokenizer = make_tokenizer("bert")
    tokenizer.save_pretrained(folder / "backbone")
    make_model("bert", len(tokenizer)).save_pretrained(folder / "backbone")
    draw, labels, rows = random.Random(0), list(KEYWORDS), []
    for question in range(12):
        asked = [" ".join(draw.choices(FILLERS, k=length)) for length in (14 if question % 2 else 3, 3, 3, 3)]
        for row in range(9):
            label = labels[row % 3]
            words = [*draw.choices(FILLERS, k=draw.randint(2, 6)), KEYWORDS[label]]
            rows.append((f"r{question}-{row}", asked[0], f"{asked[1]}\n{asked[2]}", asked[3], " ".join(words), label))
    with (folder / "human.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    (folder / "asked.yaml").write_text(PROJECT)
    run_stages(run_of(folder / "asked.yaml"))
    return folder / "asked.yaml"


@pytest.fixture(scope="module")
def evaluation(done):
    return json.loads((done.parent / "runs/asked/evaluation.json").read_text())


def test_known_and_unknown_questions_are_apart_with_both_baselines(evaluation):
    found = evaluation["questions"]
    assert (found["held_out"], found["validation_rows_of_known"]) == (True, 0)
    assert found["known"]["rows"] + found["unknown"]["rows"] == evaluation["rows"]
    assert {"student", "overlap baseline"} <= set(found["unknown"]["agreement"])


def test_the_served_graph_is_compared_on_both_kinds_of_questions(done, evaluation):
    figures = json.loads((done.parent / "runs/asked/fidelity.json").read_text())["figures"]["questions"]
    assert figures["unknown"]["rows"] == evaluation["questions"]["unknown"]["rows"]
    assert set(figures["unknown"]["agreement"]) == {"student"}


def test_the_questions_of_the_bundle_are_open(done):
    bundle = Bundle.load(done.parent / "runs/asked/bundle")
    assert not bundle.manifest.contexts.closed
    assert not bundle.manifest.review.new_question
    row = {"question": "what", "reference_answer": "you did", "rubric": "again", "response": "you tried again"}
    (score,) = Scorer(bundle).score([row])
    assert score.reason != "new question"


def test_what_is_cut_is_said_by_the_run_the_bundle_and_the_report(done):
    bundle = Bundle.load(done.parent / "runs/asked/bundle")
    cut = bundle.manifest.provenance["truncated"]
    assert bundle.manifest.truncation == "question_first"
    assert cut["validation"]["question"] > 0
    assert "reference_answer" not in cut["validation"]
    assert "by the input that lost tokens" in (done.parent / "runs/asked/report.html").read_text("utf-8")


def test_the_report_has_a_table_of_unknown_questions(done):
    page = (done.parent / "runs/asked/report.html").read_text("utf-8")
    assert "Known and unknown questions" in page
    assert "unknown question" in page


def test_the_methods_section_says_how_questions_were_held_out(done):
    text = (run_of(done).methods() / "methods.md").read_text("utf-8").replace("\xa0", " ")
    assert "Whole questions were drawn at random, stratified by label, with the seed 0." in text
    assert "without training rows; the test split has" in text
