"""The main job as a user runs it: commands, a teacher on a socket, a bundle, a score."""

import csv
import json
import shutil

import pytest

from ..edgedistill.teacher.stand_in import StandIn
from ..pickles import holds_a_pickle
from .lessons import command, disagree, write_lesson


def test_a_run_writes_every_file_of_the_run_folder(lesson):
    project, _, _ = lesson
    run = project.parent / "runs" / "lesson"
    for name in (
        "gate.json",
        "labels.jsonl",
        "mixture.csv",
        "trials.csv",
        "evaluation.json",
        "report.html",
        "run.json",
        "set_aside.csv",
    ):
        assert (run / name).is_file(), name
    assert (run / "student" / "model.safetensors").is_file()
    assert (run / "bundle" / "bundle.json").is_file()
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert set(evaluation["agreement"]) == {"student", "teacher", "frozen encoder"}
    assert evaluation["agreement"]["student"]["kappa"]["value"] > 0.8
    assert [comparison["first"] for comparison in evaluation["comparisons"]] == ["teacher", "frozen encoder"]
    fidelity = json.loads((run / "fidelity.json").read_text())
    steps = [(step["before"], step["after"]) for step in (evaluation["distillation"], *fidelity["steps"])]
    assert steps == [("teacher", "PyTorch"), ("PyTorch", "ONNX fp32"), ("ONNX fp32", "int8")]


def test_every_row_is_in_the_account_and_in_the_mixture(lesson):
    project, _, shown = lesson
    journal = json.loads((project.parent / "runs/lesson/run.json").read_text())
    for account in journal["rows"]:
        assert account["read"] == sum(account["used"].values()) + sum(account["set_aside"].values())
    human = journal["rows"][0]["used"]
    with (project.parent / "runs/lesson/mixture.csv").open(newline="") as stream:
        mixture = list(csv.DictReader(stream))
    assert [row["source"] for row in mixture].count("human") == human["train"]
    assert [row["source"] for row in mixture].count("teacher") == 20
    assert "human.csv: 100 rows read" in shown


def test_each_text_is_asked_for_as_often_as_there_are_votes(lesson):
    _, asked, _ = lesson
    validation_unlabelled_and_test = 30 + 20 + 30
    assert asked == 2 * validation_unlabelled_and_test


def test_a_second_run_skips_what_is_done_and_asks_nothing(lesson):
    project, _, _ = lesson
    done = command("edgedistill", "run", project, "--offline")
    assert done.stdout.count("done earlier") == 7


def test_another_machine_repeats_the_run_offline_from_the_exported_answers(lesson, tmp_path):
    project, _, _ = lesson
    base_url = next(line.split()[-1] for line in project.read_text().splitlines() if "base_url" in line)
    command("edgedistill", "cache", "export", project, tmp_path / "answers.jsonl")
    copy = write_lesson(tmp_path / "copy", base_url)
    command("edgedistill", "cache", "import", copy, tmp_path / "answers.jsonl")
    command("edgedistill", "run", copy, "--offline", "--until", "mix")
    runs = (project.parent / "runs/lesson", copy.parent / "runs/lesson")
    for name in ("labels.jsonl", "mixture.csv"):
        there, here = ((run / name).read_bytes() for run in runs)
        assert there == here


def test_offline_without_answers_names_what_is_missing(tmp_path):
    project = write_lesson(tmp_path, "http://127.0.0.1:9/v1")
    done = command("edgedistill", "run", project, "--offline", expect=2)
    assert "60 answers for 30 responses are not in the cache: r" in done.stderr
    assert "edgedistill cache import" in done.stderr


def test_the_bundle_scores_alike_from_the_command_line_and_in_a_graded_file(lesson, tmp_path):
    project, _, _ = lesson
    bundle = project.parent / "runs/lesson/bundle"
    text = "Jordan, you tried again and again with fraction number 7"
    alone = json.loads(command("edgedistill-serve", "score", bundle, text, "--json").stdout)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"response": r}) + "\n" for r in ("ok", text, "well done")))
    command("edgedistill-serve", "grade", bundle, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    graded = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])
    assert alone["label"] == graded["label"] == "process"
    assert alone["probability"] == graded["probability"]


def test_a_teacher_that_disagrees_is_refused_with_its_table(tmp_path):
    with StandIn(disagree) as teacher:
        project = write_lesson(tmp_path, teacher.base_url)
        done = command("edgedistill", "run", project, expect=4)
        assert "the teacher's kappa is 0.00" in done.stderr
        assert "--accept-teacher" in done.stderr
        verdict = json.loads((tmp_path / "runs/lesson/gate.json").read_text())
        assert (verdict["passed"], verdict["accepted"]) == (False, False)
        assert command("edgedistill", "label", project, expect=4).stderr.startswith("edgedistill: gate")
        command("edgedistill", "run", project, "--accept-teacher", "--until", "label")
        assert json.loads((tmp_path / "runs/lesson/gate.json").read_text())["accepted"] is True


def test_an_accepted_teacher_stands_in_the_bundle(lesson):
    project, _, _ = lesson
    manifest = json.loads((project.parent / "runs/lesson/bundle/bundle.json").read_text())
    assert manifest["provenance"]["gate"]["accepted"] is False
    assert manifest["provenance"]["gate"]["passed"] is True


def test_a_stage_does_not_start_from_outputs_that_no_longer_hold(lesson):
    project, _, _ = lesson
    original = project.read_text()
    project.write_text(original.replace("votes: 2", "votes: 1"))
    try:
        done = command("edgedistill", "train", project, expect=2)
    finally:
        project.write_text(original)
    assert "gate is not done with the current settings and data" in done.stderr


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("  base_url: http://127.0.0.1:9/v1\n  model: m\n  tries: 1\n  api_key_env: null", "nothing listens there"),
        ("  base_url: http://127.0.0.1:9/v1\n  model: m\n  api_key_env: NO_SUCH_KEY_HERE", "NO_SUCH_KEY_HERE"),
    ],
)
def test_a_teacher_that_cannot_be_asked_is_one_line_with_its_hint(tmp_path, teacher, message):
    project = write_lesson(tmp_path, "x")
    head, _, tail = project.read_text().partition("teacher:\n")
    project.write_text(f"{head}teacher:\n{teacher}\nstudent:{tail.partition('student:')[2]}")
    done = command("edgedistill", "gate", project, expect=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_without_a_teacher_trains_on_human_rows(tmp_path):
    project = write_lesson(tmp_path, "none")
    head, _, tail = project.read_text().partition("teacher:\n")
    project.write_text(head + "student:" + tail.partition("student:")[2])
    done = command("edgedistill", "run", project, "--until", "mix", "--json")
    stages = json.loads(done.stdout)["stages"]
    assert set(stages) == {"mix"}
    assert set(stages["mix"]["by_source_and_label"]) == {"human process", "human outcome"}


def test_wrong_data_is_one_line_with_file_row_and_hint(tmp_path):
    project = write_lesson(tmp_path, "http://127.0.0.1:9/v1")
    human = tmp_path / "human.csv"
    human.write_text(human.read_text() + "r900,fine,Process\n")
    done = command("edgedistill", "run", project, expect=2, anew=True)
    assert done.stderr.startswith(
        "edgedistill: human.csv: row 102: the label 'Process' is another spelling of 'process'"
    )
    assert done.stderr.count("\n") == 1


def test_no_file_of_the_run_folder_or_the_bundle_is_a_pickle(lesson):
    project, _, _ = lesson
    files = [file for file in (project.parent / "runs/lesson").rglob("*") if file.is_file()]
    assert any(file.name == "bundle.json" for file in files)
    assert [file.name for file in files if holds_a_pickle(file)] == []


def test_a_vocabulary_cut_makes_the_bundle_smaller_and_a_note_says_what_it_changes(lesson, tmp_path):
    project, _, _ = lesson
    copy = shutil.copytree(project.parent, tmp_path / "copy") / project.name
    copy.write_text(copy.read_text() + "export: {vocabulary: cut}\n")
    before = json.loads(command("edgedistill", "export", project, "--json").stdout)["stages"]["export"]
    after = json.loads(command("edgedistill", "export", copy, "--json").stdout)["stages"]["export"]
    assert after["bytes"] < 0.7 * before["bytes"]
    assert after["vocabulary"]["pieces"] < 8000
    assert "of 30 validation rows if their texts are not used for it" in after["notes"][0]


def test_a_bundle_that_is_done_is_signed_and_what_a_push_would_send_is_listed(lesson, tmp_path):
    project, _, _ = lesson
    copy = shutil.copytree(project.parent, tmp_path / "copy") / project.name
    command("edgedistill-serve", "key-pair", tmp_path / "maker")
    shipped = ("--sign", tmp_path / "maker", "--push", "school/praise", "--dry-run", "--json")
    message = json.loads(command("edgedistill", "export", copy, *shipped).stdout)["bundle"]
    bundle = copy.parent / "runs/lesson/bundle"
    assert set(message["push"]["files"]) == {
        file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file()
    }
    assert "commit" not in message["push"]
    command("edgedistill-serve", "verify", bundle, "--public-key", tmp_path / "maker.pub")
    assert "done earlier" in command("edgedistill", "export", copy).stdout
    assert (bundle / "bundle.json.sig").exists()


def test_a_push_without_a_token_is_one_line_with_its_hint(lesson, monkeypatch):
    project, _, _ = lesson
    monkeypatch.delenv("HF_TOKEN", raising=False)
    message = command("edgedistill", "export", project, "--push", "school/praise", expect=2).stderr
    assert message == ("edgedistill: no Hub token is set. Set the variable HF_TOKEN to a token with write access.\n")
    assert "--push" in command("edgedistill", "export", project, "--dry-run", expect=2).stderr


def test_the_report_of_a_run_holds_texts_only_where_they_are_asked_for(lesson, tmp_path):
    project, _, shown = lesson
    assert "report.html: Inconclusive" in shown  # 30 test rows are too few, whatever the figures
    copy = shutil.copytree(project.parent, tmp_path / "copy") / project.name
    scores = copy.parent / "runs/lesson/test_scores.csv"
    page = copy.parent / "runs/lesson/report.html"
    assert "with fraction number" not in page.read_text("utf-8")
    assert "done earlier" in command("edgedistill", "report", copy).stdout
    page.unlink()
    command("edgedistill", "report", copy, "--examples", "3")
    with scores.open(newline="") as stream:
        wrong = [row for row in csv.DictReader(stream) if row["human"] != row["student"]]
    assert page.read_text("utf-8").count("with fraction number") == min(3, len(wrong))
