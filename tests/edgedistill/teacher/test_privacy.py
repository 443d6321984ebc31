"""What leaves the machine: nothing but requests to the teacher, and in these no personal data where it is redacted."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgedistill.data import read_records
from edgedistill.pipeline import Run, RunFolder, run_stages
from edgedistill.project import read_project

from .stand_in import Reply, StandIn, coded, text_of

PROJECT = """\
name: private
task:
  labels: [{{name: process}}, {{name: outcome}}]
  inputs: [question, response]
  redact: {redact}
data: {{human: human.csv, unlabelled: responses.csv}}
teacher:
  {{base_url: {base_url}, model: m, api_key_env: null, votes: 1, few_shot: 2, gate: {{at_least: -1, least_rows: 1}}}}
"""
SECRETS = ("S123456", "jo@school.edu", "412-555-0100", "www.jo.org")
WRITTEN = "I am S123456, jo@school.edu, call 412-555-0100 or see www.jo.org:"


def judge(body: dict[str, Any], _before: int) -> Reply:
    return coded("process" if "worked" in text_of(body) else "outcome")


def _words(number: int) -> str:
    """Return words that make a text no near repetition of another one."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def write(folder: Path, base_url: str, redact: str) -> Path:
    lines = [
        (f"r{i}", f"Question by {SECRETS[1]}", f"{WRITTEN} you {'worked' if i % 2 else 'won'} {_words(i)}", i % 2)
        for i in range(50)
    ]
    for name, rows in (("human.csv", lines[:40]), ("responses.csv", lines[40:])):
        with (folder / name).open("w", newline="") as stream:
            out = csv.writer(stream)
            out.writerow(["id", "question", "response", "label"])
            out.writerows((ident, q, text, ("outcome", "process")[code]) for ident, q, text, code in rows)
    (folder / "project.yaml").write_text(PROJECT.format(base_url=base_url, redact=redact))
    return folder / "project.yaml"


def mixed(folder: Path, redact: str) -> tuple[list[dict[str, Any]], Path]:
    """The requests of a run up to its mixture, and its run folder."""
    with StandIn(judge) as teacher:
        project = read_project(write(folder, teacher.base_url, redact))
        run_stages(Run(project, read_records(project), RunFolder(project.run_folder)), until="mix")
    return teacher.bodies, project.run_folder


def test_redacted_data_is_in_no_request_and_in_no_file_of_the_run(tmp_path: Path) -> None:
    bodies, run = mixed(tmp_path, '{ids: ["S[0-9]{6}"]}')
    assert len(bodies) > 10
    files = [file.read_text() for file in (*run.iterdir(), *(tmp_path / "teacher-cache").glob("*.jsonl"))]
    for text in (*map(json.dumps, bodies), *files):
        assert not [secret for secret in SECRETS if secret in text]
    last = bodies[-1]["messages"][-1]["content"]
    assert "<question>Question by [EMAIL]</question>" in last
    assert "<response>I am [ID], [EMAIL], call [PHONE] or see [URL]: you" in last
    with (run / "mixture.csv").open(newline="") as stream:
        assert all("I am [ID], [EMAIL]" in row["response"] for row in csv.DictReader(stream))


@pytest.mark.parametrize(("redact", "left"), [("false", SECRETS), ("true", SECRETS[:1])])
def test_nothing_is_redacted_by_default_and_ids_only_where_they_are_named(
    tmp_path: Path, redact: str, left: tuple[str, ...]
) -> None:
    bodies, _ = mixed(tmp_path, redact)
    assert [secret for secret in SECRETS if secret in json.dumps(bodies[-1])] == list(left)


def test_a_labelling_run_connects_only_to_the_teacher(tmp_path: Path) -> None:
    plain = {
        name: value for name, value in os.environ.items() if name.upper() not in ("HF_HUB_OFFLINE", "DO_NOT_TRACK")
    }
    with StandIn(judge) as teacher:
        project = write(tmp_path, teacher.base_url, "false")
        script = Path(__file__).with_name("connects.py")
        done = subprocess.run([sys.executable, script, project], capture_output=True, text=True, env=plain, timeout=300)
        port = int(teacher.base_url.split(":")[2].removesuffix("/v1"))
    assert done.returncode == 0, done.stderr
    assert len(teacher.bodies) > 10
    assert set(json.loads(done.stdout)) - {"127.0.0.1"} == {f"('127.0.0.1', {port})"}
