"""A task with any number of labels on its whole way: a teacher on a socket, a tiny student, a bundle, a score."""

import csv
import json
import random

import pytest

from edgedistill.data import read_records
from edgedistill.decisions.coding_sheet import write_sheet
from edgedistill.errors import GateRefused, ProjectFileError
from edgedistill.pipeline import RunFolder, run_stages
from edgedistill.project import read_project
from edgedistill.report.inputs import read_report_inputs
from edgedistill.report.page import render_page
from edgedistill.teacher import AnswerCache, import_jsonl
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.task.task import join_labels

from ..student.conftest import KEYWORDS, make_model, make_tokenizer
from ..student.multilabels import MULTILABEL, sets
from ..teacher.stand_in import StandIn, completion, text_of
from .packages import ids_in, reproduce, texts_in, unpack
from .tiny import run_of

PROJECT = """\
name: sets
task: {{kind: multilabel, labels: [{{name: process}}, {{name: outcome}}, {{name: other}}]}}
data: {{human: human.csv, unlabelled: responses.csv}}
teacher: {{base_url: "{base_url}", model: m, api_key_env: null, votes: 3, few_shot: 4, gate: {{at_least: 0.5}}}}
student:
  backbone: ./backbone
  max_tokens: 24
  loss: {{targets: soft}}
  search: {{learning_rate: [5e-3], batch_size: [8], epochs: [12]}}
  shrink: {{layers: 1, epochs: 2, learning_rate: 5e-3}}
evaluation:
  positive: outcome
  coders: [second]
  subgroups: [school]
  smallest_subgroup: 10
  population: population.csv
review: {{aim: at_most_to_people, share: 0.3}}
export: {{precision: int8, max_flip_rate: 0.2}}
"""


def held(text):
    return [name for name, keyword in KEYWORDS.items() if keyword in text.split()]


def judge(body, _before):
    """Gives the labels whose keywords stand in the text, but that one vote of three forgets the last of them."""
    labels = held(text_of(body))
    return completion(json.dumps({"labels": labels[:-1] if body["seed"] == 2 and len(labels) > 1 else labels}))


def write(folder, base_url, project=PROJECT):
    folder.mkdir(exist_ok=True)
    tokenizer = make_tokenizer("bert")
    tokenizer.save_pretrained(folder / "backbone")
    make_model("bert", len(tokenizer)).save_pretrained(folder / "backbone")
    draw = random.Random(0)
    rows = []
    for row, (code, text) in enumerate(sets(240, 3)):
        labels = {name for name in MULTILABEL.names if (name in code.split(";")) != (draw.random() < 1 / 30)}
        given = [join_labels(labels, MULTILABEL), code]
        split = ("train", "validation", "test")[row % 3]
        rows.append((f"h{row}", text, *given, "north" if row % 5 else "south", split))
    tables = {"human.csv": (("id", "response", "label", "second", "school", "split"), rows)}
    for name, first, seed in (("responses.csv", "u", 4), ("population.csv", "p", 5)):
        tables[name] = (("id", "response"), [(f"{first}{n}", text) for n, (_, text) in enumerate(sets(60, seed))])
    for name, (header, lines) in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([header, *lines])
    (folder / "sets.yaml").write_text(project.format(base_url=base_url))
    return folder / "sets.yaml"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The project's file after a run."""
    with StandIn(judge) as teacher:
        file = write(tmp_path_factory.mktemp("sets"), teacher.base_url)
        run_stages(run_of(file))
    return file


def of_run(file, name):
    return json.loads((file.parent / "runs/sets" / name).read_text("utf-8"))


def test_the_teacher_s_labels_are_sets_with_a_share_for_each_label(done):
    lines = [json.loads(line) for line in (done.parent / "runs/sets/labels.jsonl").read_text().splitlines()]
    texts = dict(sets_by_id())
    assert len(lines) == 60
    assert all(line["label"] == texts[line["id"]] for line in lines)
    two = next(line for line in lines if line["label"].count(";") == 1)
    first, last = two["label"].split(";")
    assert (two["shares"][first], two["shares"][last]) == (1.0, pytest.approx(2 / 3))
    assert two["consistency"] == pytest.approx(2 / 3)


def sets_by_id():
    return ((f"u{n}", code) for n, (code, _) in enumerate(sets(60, 4)))


def test_the_gate_measures_the_mean_kappa_over_labels(done):
    gate = of_run(done, "gate.json")
    assert gate["passed"]
    assert gate["agreement"]["kappa_name"] == "mean kappa over labels"
    assert gate["agreement"]["kappa"]["low"] >= 0.5


def test_the_mixture_counts_a_row_for_each_of_its_labels(done):
    entry = of_run(done, "run.json")["stages"]["mix"]
    assert entry["by_source"] == {"human": 80, "teacher": 60}
    assert sum(entry["by_source_and_label"].values()) > entry["rows"]
    assert "teacher none" in entry["by_source_and_label"]


def test_the_student_is_compared_with_people_label_by_label(done):
    evaluation = of_run(done, "evaluation.json")
    assert set(evaluation["agreement"]) == {"student", "teacher", "frozen encoder", "shrunk student"}
    student = evaluation["agreement"]["student"]
    assert student["kappa"]["value"] > 0.7
    assert student["averages"]["micro"]["f1"]["value"] > 0.8
    assert all(student["per_label"][name]["kappa"]["value"] > 0.5 for name in KEYWORDS)
    assert (student["mcc"], student["confusion"]) == (None, [])
    assert evaluation["human_agreement"]["pairs"][0]["agreement"]["kappa_name"] == "mean kappa over labels"
    assert set(evaluation["subgroups"][0]["groups"][0]["smd"]) == set(KEYWORDS)
    assert set(evaluation["prevalence"]["observed"]) == set(KEYWORDS)
    assert set(evaluation["shifts"]) == set()
    assert evaluation["comparisons"][0]["differences"]["micro_f1"] is not None


def test_every_label_has_a_threshold_that_validation_rows_chose(done):
    thresholds = of_run(done, "evaluation.json")["thresholds"]
    assert list(thresholds["values"]) == list(KEYWORDS)
    assert all(0 < value < 1 for value in thresholds["values"].values())
    assert of_run(done, "bundle/bundle.json")["thresholds"] == thresholds["values"]


def test_the_bundle_gives_every_test_row_the_labels_of_the_evaluation(done):
    bundle = Bundle.load(done.parent / "runs/sets/bundle")
    assert bundle.task.kind == "multilabel"
    with (done.parent / "runs/sets/test_scores.csv").open(newline="") as stream:
        lines = {line["id"]: line for line in csv.DictReader(stream)}
    records = read_records(read_project(done))
    rows = [row.response for row in records.splits.test]
    scores = Scorer(bundle).score([dict(row.inputs) for row in rows])
    flips = {step["after"]: step["flips"] for step in of_run(done, "fidelity.json")["steps"]}
    changed = sum(score.label != lines[row.id]["student"] for row, score in zip(rows, scores, strict=True))
    assert changed <= sum(flips.values())
    assert {label for score in scores for label in score.labels} == set(KEYWORDS)
    assert any(score.label == "none" for score in scores)
    sure = {row.id: score.probability for row, score in zip(rows, scores, strict=True)}
    gaps = [abs(float(lines[row.id]["certainty"]) - sure[row.id]) for row in rows]
    assert sorted(gaps)[len(gaps) // 2] < 0.1


def test_people_get_the_rows_of_which_any_label_is_unsure(done, tmp_path):
    rule = of_run(done, "bundle/bundle.json")["review"]
    assert rule["thresholds"] == {}
    assert 0.5 < rule["least_certainty"] < 1
    project = read_project(done)
    written = write_sheet(project, read_records(project), tmp_path / "sheet.csv", suggestions=True)
    assert 0 < sum(written.to_people.values()) < written.responses
    with (tmp_path / "sheet.csv").open(newline="") as stream:
        assert all(float(line["probability"]) < rule["least_certainty"] + 1e-3 for line in csv.DictReader(stream))


def test_the_report_has_figures_for_each_label(done):
    project = read_project(done)
    definitions = dict.fromkeys(KEYWORDS, "")
    inputs = read_report_inputs(
        RunFolder(project.run_folder), name="sets", project_file="sets.yaml", definitions=definitions
    )
    verdict, html = render_page(inputs)
    assert [each.label for each in verdict.labels] == list(KEYWORDS)
    assert "mean κ over labels" in verdict.reason
    for text in (
        "Agreement per label",
        "Label thresholds",
        "exact match",
        "micro-F1",
        "confidence in any label",
    ):
        assert text in html
    assert "Confusion matrix" not in html
    assert "Matthews" not in html


def test_a_second_run_does_nothing(done):
    assert all(step.skipped for step in run_stages(run_of(done, offline=True)))


def test_a_teacher_who_gives_no_label_is_refused_at_the_gate(tmp_path):
    with StandIn(lambda *_: completion('{"labels": []}')) as teacher:
        file = write(tmp_path / "refused", teacher.base_url)
        with pytest.raises(GateRefused, match=r"kappa is 0\.00 \[-0\.\d\d, 0\.\d\d\]; the lower end"):
            run_stages(run_of(file), until="gate")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: other", 'name: "one;two"', "no label contains ';'"),
        ("name: other", "name: None", "named 'none'"),
        ("student:", "generate: {{per_label: 5}}\nstudent:", "generate writes responses for one label"),
        ("student:", "mix: {{balance: per_label}}\nstudent:", "use as_found"),
        ("targets: soft", "class_weights: balanced", "class_weights: balanced does not support multilabel"),
        ("votes: 3", "votes: 3, logprobs: true", "use several votes"),
        ("targets: soft", "ordinal: cumulative", "requires task.kind: ordinal"),
    ],
)
def test_what_needs_one_label_per_response_is_refused_with_its_hint(old, new, message, tmp_path):
    (tmp_path / "sets.yaml").write_text(PROJECT.replace(old, new).format(base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(ProjectFileError, match=message):
        read_project(tmp_path / "sets.yaml")


def test_every_table_is_reproduced_from_a_package_without_responses(done, tmp_path):
    run = run_of(done)
    folder = unpack(run.replication(tmp_path / "out.zip"), tmp_path / "unpacked")
    code, lines = reproduce(folder)
    assert (code, lines[-1]) == (0, "REPRODUCED")
    checked = {line.split()[1] for line in lines if line.startswith("same")}
    assert {"agreement", "confusion", "gate", "inter_coder", "subgroups", "label_shares", "training_rows"} <= checked
    assert texts_in(folder, run) == []
    assert ids_in(folder, run) == []
    votes = (folder / "data/teacher_votes.csv").read_text("utf-8").splitlines()
    assert len(votes) == 1 + len(run.records.unlabelled)
    assert len((folder / "data/teacher_answers.csv").read_text("utf-8").splitlines()) > 3 * len(votes)


def test_the_answers_of_a_run_are_packed_with_its_texts(done, tmp_path):
    run = run_of(done)
    folder = unpack(run.replication(tmp_path / "out.zip", texts=True), tmp_path / "unpacked")
    with AnswerCache(tmp_path / "cache") as cache:
        added = import_jsonl(cache, folder / "texts/answers.jsonl")
        assert added.added == len(cache.keys()) > 300
