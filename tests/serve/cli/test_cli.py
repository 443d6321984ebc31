"""The command line as a process, with its output and its exit code."""

import json
import os
import shutil
import socket
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.grading.table_reader import read_rows

from ... import processes

run = partial(processes.run, "edgedistill-serve")
COMMANDS = ("serve", "grade", "score", "verify", "info", "key")


def error_line(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a user's mistake."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_help_names_every_command():
    ended = run("--help")
    assert ended.returncode == 0
    assert all(f"  {command} " in ended.stdout for command in COMMANDS)


def test_version_is_the_version_of_the_package():
    ended = run("--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{version('edgedistill-serve')}\n", "")


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "key new"])
def test_every_command_has_help_with_an_example_and_json(command):
    ended = run(*command.split(), "--help")
    assert ended.returncode == 0
    assert f"Example: edgedistill-serve {command}" in ended.stdout
    assert "--json" in ended.stdout


@pytest.mark.parametrize("arguments", [[], ["sing"], ["score"], ["info", "a", "b"], ["serve", "b", "--port", "70000"]])
def test_wrong_usage_is_exit_code_2_without_a_traceback(arguments):
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr + ended.stdout


def test_score_prints_label_decision_and_probabilities(bundle):
    ended = run("score", bundle.folder, "great job")
    (found,) = Scorer(bundle).score(["great job"])
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[0] == f"{found.label}, accept, not validated"
    assert f"{found.probability:.4f}" in ended.stdout
    assert ended.stderr == ""


def test_score_takes_question_and_reference_answer(answers_bundle):
    texts = {"question": "why", "reference_answer": "because", "response": "great job"}
    ended = run(
        "score", answers_bundle.folder, "great job", "--question", "why", "--reference-answer", "because", "--json"
    )
    found = json.loads(ended.stdout)
    assert found["model"] == "answers"
    assert found["probabilities"] == Scorer(answers_bundle).score([texts])[0].probabilities
    assert "'question' is missing" in error_line(run("score", answers_bundle.folder, "great job"))


def test_the_score_of_a_blank_response_has_the_decision_review(bundle):
    assert "review (blank)" in run("score", bundle.folder, " ").stdout


def test_grade_writes_the_table_and_counts_its_rows(bundle, tmp_path):
    (tmp_path / "in.csv").write_text("id,response\n1,great job\n2,poisonous\n3,\n")
    ended = run("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv")
    assert ended.returncode == 0
    assert "3 rows read, 2 scored (1 to review), 1 could not be scored" in ended.stdout
    assert [row.values["id"] for row in read_rows(tmp_path / "out.csv")] == ["1", "2", "3"]
    assert "exists already" in error_line(run("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv"))
    again = run("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv", "--force", "--json")
    counts = json.loads(again.stdout)
    assert (counts["read"], counts["scored"], counts["errors"], counts["review"]) == (3, 2, 1, 1)


def test_grade_says_that_the_bundle_is_not_validated(bundle, tmp_path):
    (tmp_path / "in.csv").write_text("id,response\n1,great job\n")
    ended = run("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv")
    assert ended.stdout.endswith("s; verdict of the bundle: not validated\n")
    assert ended.stderr == "Not validated: the bundle has no comparison with human codes of test rows.\n"
    again = run("grade", bundle.folder, tmp_path / "in.csv", f"{tmp_path / 'parts'}/", "--to", "csv", "--json")
    assert json.loads(again.stdout)["verdict"] == "not validated"
    assert json.loads((tmp_path / "parts/manifest.json").read_text())["verdict"] == "not validated"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "in.csv: the file does not exist"),
        (b"", "in.csv: the file is empty"),
        (b'id,"response\n1,x\n', "in.csv, row 1: the double quotes"),
        (b"response,response\nx,y\n", "in.csv, row 1: two columns have the name 'response'"),
        (b"id,text\n1,x\n", "in.csv: there is no column 'response'"),
        (b"response,label\nx,y\n", "in.csv: the file already has the column 'label'"),
    ],
)
def test_grade_names_what_is_wrong_with_a_file(bundle, tmp_path, content, message):
    if content is not None:
        (tmp_path / "in.csv").write_bytes(content)
    assert message in error_line(run("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()


def test_verify_reports_its_checks(bundle):
    ended = run("verify", bundle.folder)
    assert ended.returncode == 0
    assert "correct, 6 files" in ended.stdout
    assert "5, scored with int8 on this machine" in ended.stdout
    checked = json.loads(run("verify", bundle.folder, "--json").stdout)
    assert checked["files"] == 6
    assert checked["self_check"]["precision"] == "int8"
    assert checked["self_check"]["difference"] <= checked["self_check"]["tolerance"]


def test_verify_reports_the_fallback_to_fp32(make_bundle, tmp_path):
    folder = make_bundle(tmp_path / "bundle", tolerance={"int8": 1e-9, "fp32": 1e-5}).folder
    ended = run("verify", folder)
    assert ended.returncode == 0
    assert "fp32 is used instead" in ended.stderr
    assert "scored with fp32 on this machine" in ended.stdout


@pytest.mark.parametrize("command", ["verify", "info"])
def test_a_changed_file_is_refused(bundle, tmp_path, command):
    folder = shutil.copytree(bundle.folder, tmp_path / "copy")
    with (folder / "onnx/model.onnx").open("r+b") as file:
        file.write(b"X")
    assert "onnx/model.onnx: the file was changed" in error_line(run(command, folder))


def test_a_bundle_that_fails_its_self_check_is_refused(make_bundle, tmp_path):
    files = {"onnx/model.onnx": None}
    folder = make_bundle(tmp_path / "bundle", tolerance={"int8": 1e-9}, files=files).folder
    assert "1e-09 is accepted" in error_line(run("verify", folder))
    assert "1e-09 is accepted" in error_line(run("score", folder, "great job"))


def test_info_shows_the_task(bundle):
    ended = run("info", bundle.folder)
    assert "process, outcome, person" in ended.stdout
    assert "metrics: kappa" in ended.stdout
    assert json.loads(run("info", bundle.folder, "--json").stdout)["version"] == bundle.manifest.version


@pytest.mark.parametrize("command", [["score", "x"], ["verify"], ["info"]])
def test_a_folder_that_is_not_a_bundle_gives_one_clear_line(tmp_path, command):
    assert "contains no bundle.json" in error_line(run(command[0], tmp_path, *command[1:]))
    assert "the folder does not exist" in error_line(run(command[0], tmp_path / "nowhere", *command[1:]))


def test_serve_on_a_port_in_use_is_one_clear_line(bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: the server cannot listen" in error_line(run("serve", bundle.folder, "--port", port))


def test_serve_at_an_address_of_another_machine_is_one_clear_line(bundle):
    elsewhere = ("serve", bundle.folder, "--host", "192.0.2.1", "--port", "0", "--open")
    assert "cannot listen on this address" in error_line(run(*elsewhere))


@pytest.mark.parametrize(("names", "message"), [([], "folder does not exist"), (["a", "b"], "two bundles are praise@")])
def test_serve_of_what_cannot_be_served_ends_with_one_clear_line(make_bundle, tmp_path, names, message):
    folders = [make_bundle(tmp_path / name).folder for name in names] or [tmp_path / "nowhere"]
    ended = run("serve", *folders, "--port", "0")
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options", [("--queue", "5", "--max-items", "6"), ("--body-memory", "5", "--max-body-bytes", "6")]
)
def test_limits_smaller_than_one_request_are_a_usage_error(bundle, options):
    ended = run("serve", bundle.folder, *options)
    assert ended.returncode == 2
    assert f"{options[0]} 5 is smaller than {options[2]} 6" in ended.stderr


def test_score_says_what_the_model_could_not_read(bundle, answers_bundle):
    unreadable = run("score", bundle.folder, "great 👍👍 ไม่")
    assert "review (unreadable)" in unreadable.stdout
    assert "67% of the response is unknown" in unreadable.stdout
    cut = run("score", answers_bundle.folder, "great job", "--question", "why " * 50, "--reference-answer", "because")
    assert "did not read 32 of the 51 tokens before the response" in cut.stdout


def test_info_says_for_which_questions_the_rule_was_shown(bundle, answers_bundle):
    assert "up to 50% unknown to the vocabulary" in run("info", bundle.folder).stdout
    assert "the task has no questions to tell apart" in run("info", bundle.folder).stdout
    assert "does not record for which questions" in run("info", answers_bundle.folder).stdout


def test_grade_reads_the_column_that_is_named(bundle, tmp_path):
    (tmp_path / "in.csv").write_text('Class 7b;\nName;2. Explain why.\nA;"<p>great&nbsp;job</p>"\n')
    named = ("--column", "response=2. Explain\u2026", "--html", "--header-row", "2")
    ended = run("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv", *named)
    assert ended.returncode == 0, ended.stderr
    assert "the column '2. Explain why.' is the response" in ended.stderr
    (found,) = Scorer(bundle).score(["great job"])
    assert [row.values["label"] for row in read_rows(tmp_path / "out.csv")] == [found.label]


def test_grade_says_which_columns_can_be_meant(bundle, tmp_path):
    (tmp_path / "in.csv").write_text("Name,2. Explain why.\nA,great job\n")
    ended = run(
        "grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv", "--column", "response=2. Explain how."
    )
    assert "Did you mean B ('2. Explain why.')?" in error_line(ended)
    ended = run("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv", "--column", "answer=Name")
    assert "--column: 'answer' is not known. Use response" in error_line(ended)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are Unicode there")
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_file_whose_name_is_no_utf8_is_graded_and_named_with_escapes(bundle, tmp_path, form):
    given, out = (
        os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/in\xff.csv", f"/out\xff.{form}".encode("latin-1"))
    )
    Path(given).write_text("id,response\n1,hello\n2,a,b,c\n")
    for flags in ([], ["--force"]):
        ended = run("grade", bundle.folder, given, out, "--json", *flags)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["out"] == out
        assert all(json.loads(line) for line in ended.stderr.splitlines())
    assert "in\\udcff.csv" in Path(f"{out}.rejected.csv").read_text("utf-8")
