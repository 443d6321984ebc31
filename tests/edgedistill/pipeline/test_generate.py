"""The stage writes samples with their lineage, and an account in which every one of them is found."""

import csv
import json
import re

import pytest

from edgedistill.data import read_records
from edgedistill.pipeline import Run, RunFolder, run_stages
from edgedistill.project import read_project

from ..generation.writings import parse_request, wrote
from ..teacher.stand_in import StandIn, coded

PROJECT = """\
name: lesson
task:
  instructions: Code the praise.
  labels: [{{name: process, definition: Praises effort.}}, {{name: outcome, definition: Praises the result.}}]
  redact: {{ids: ["S[0-9]{{4}}"]}}
data: {{human: human.csv}}
teacher:
  base_url: {base_url}
  model: stand-in
  api_key_env: null
  votes: 3
  tries: 2
  gate: {{at_least: -1, least_rows: 1}}
generate: {{per_label: 8, samples_per_call: 4, examples_per_prompt: 2{generate}}}
mix: {{synthetic_share: {share}}}
"""
TEXTS = {
    "process": ["you kept at it all day", "you kept at it all day!", "your effort paid off", "so much work, S1234"],
    "outcome": ["a right answer", "you are clever", "smart work", "you kept at it all day"],
}


def script(body, _before):
    """Writes the texts above, in the second request with a mark on each; codes what names effort as process."""
    last = body["messages"][-1]["content"]
    if "<label>" in last:
        label, size = parse_request(body)
        return wrote([text + " again and again" * body["seed"] for text in TEXTS[label][:size]])
    text = re.findall(r"<response>(.*?)</response>", last)[-1]
    return coded("process" if any(word in text for word in ("kept", "effort", "work", "tried")) else "outcome")


def write_project(folder, base_url, generate="", share="0"):
    with (folder / "human.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["id", "response", "label", "split"])
        for n, split in enumerate(["train"] * 6 + ["validation"] * 3 + ["test"] * 3):
            lines.writerow([f"p{n}", f"tried {['one', 'two', 'six', 'ten'][n % 4]} {n} times", "process", split])
            lines.writerow([f"o{n}", f"answer {n} {['red', 'blue', 'teal', 'pink'][n % 4]} it is", "outcome", split])
        lines.writerow(["leak", "Your EFFORT paid off.", "process", "test"])
    (folder / "project.yaml").write_text(PROJECT.format(base_url=base_url, generate=generate, share=share))


def run(folder, *, offline=False, until="generate"):
    project = read_project(folder / "project.yaml")
    job = Run(project, read_records(project), RunFolder(project.run_folder), offline=offline)
    steps = run_stages(job, until=until)
    return {step.stage: step for step in steps}, project.run_folder


def lines(folder):
    return [json.loads(line) for line in (folder / "synthetic.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A project whose samples are mixed: its steps, its run folder, and the last message of every request."""
    folder = tmp_path_factory.mktemp("lesson")
    with StandIn(script) as teacher:
        write_project(folder, teacher.base_url, share="0.4")
        steps, results = run(folder, until="mix")
    return steps, results, [body["messages"][-1]["content"] for body in teacher.bodies]


def test_kept_and_removed_samples_are_all_that_was_written(lesson):
    steps, folder, _ = lesson
    found = json.loads((folder / "generation.json").read_text())
    assert (found["asked_for"], found["written"], found["missing"]) == (16, 16, 0)
    assert found["removed"] == {
        "repeats another sample": 2,
        "nearly repeats another sample": 2,
        "nearly repeats a test row": 1,
    }
    assert found["kept"] == len(lines(folder)) == 11
    assert sum(found["removed"].values()) == len(found["removed_samples"]) == 5
    assert next(each for each in found["removed_samples"] if "test" in each["reason"])["repeats"] == "leak"
    assert steps["generate"].entry["kept"] == 11


def test_a_kept_sample_stands_with_its_coding_and_its_lineage(lesson):
    _, folder, _ = lesson
    by_text = {line["inputs"]["response"]: line for line in lines(folder)}
    assert by_text["you are clever"]["consistent"] is True
    smart = by_text["smart work"]
    assert (smart["label"], smart["regraded"], smart["consistent"]) == ("outcome", "process", False)
    assert set(smart["lineage"]) == {
        "key", "teacher", "seeds", "temperature", "call", "position", "persona", "words",
    }  # fmt: skip
    found = json.loads((folder / "generation.json").read_text())
    assert found["consistent"] == {"coded": 11, "consistent": 9}
    assert found["regraded"]["confusion"] == [[5, 0], [2, 4]]


def test_each_kept_sample_is_coded_once_whatever_the_votes_on_a_response(lesson):
    _, _, asked = lesson
    assert sum("<response>smart work</response>" in text for text in asked) == 1


def test_samples_that_the_teacher_codes_otherwise_go_where_that_is_asked_for(tmp_path):
    with StandIn(script) as teacher:
        write_project(tmp_path, teacher.base_url, ", keep: consistent, regrade_votes: 2")
        _, folder = run(tmp_path)
    assert all(line["consistent"] for line in lines(folder))
    found = json.loads((folder / "generation.json").read_text())
    assert (found["kept"], found["removed"]["the teacher codes it otherwise"]) == (9, 2)
    asked = [body["messages"][-1]["content"] for body in teacher.bodies]
    assert sum("<response>smart work</response>" in text for text in asked) == 2


def test_samples_are_redacted_as_human_responses_are(lesson):
    _, folder, asked = lesson
    assert "so much work, [ID]" in {line["inputs"]["response"] for line in lines(folder)}
    assert not any("so much work, S1234" in text for text in asked)


def test_diversity_is_told_per_label_temperature_and_step(tmp_path):
    with StandIn(script) as teacher:
        write_project(tmp_path, teacher.base_url, ", temperature: [0.3, 1.0]")
        _, folder = run(tmp_path)
    rows = json.loads((folder / "generation.json").read_text())["diversity"]
    assert [(row["of"], row["label"], row["temperature"]) for row in rows[:6]] == [
        ("human", "process", None),
        ("human", "outcome", None),
        ("written", "process", 0.3),
        ("written", "process", 1.0),
        ("written", "outcome", 0.3),
        ("written", "outcome", 1.0),
    ]
    assert rows[2]["rows"] == 8
    assert 0 < rows[2]["distinct_1"] < 1


def test_a_second_run_asks_nothing_and_offline_gives_the_same_files(tmp_path):
    with StandIn(script) as teacher:
        write_project(tmp_path, teacher.base_url)
        _, folder = run(tmp_path)
        asked, before = len(teacher.bodies), (folder / "synthetic.jsonl").read_bytes()
        steps, _ = run(tmp_path)
        assert steps["generate"].skipped
        (folder / "synthetic.jsonl").unlink()
        steps, _ = run(tmp_path, offline=True)
        assert len(teacher.bodies) == asked
    assert not steps["generate"].skipped
    assert (folder / "synthetic.jsonl").read_bytes() == before


def test_synthetic_rows_are_mixed_with_their_lineage_until_their_share_is_reached(lesson):
    steps, folder, _ = lesson
    with (folder / "mixture.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    synthetic = [row for row in rows if row["source"] == "synthetic"]
    assert (len(rows), len(synthetic)) == (20, 8)
    assert [row["label"] for row in synthetic].count("process") == 4
    known = {line["id"]: line for line in lines(folder)}
    for row in synthetic:
        lineage = json.loads(row["lineage"])
        assert lineage["key"] == known[row["id"]]["lineage"]["key"]
        assert json.loads(lineage["seeds"]) == known[row["id"]]["lineage"]["seeds"]
    assert steps["mix"].entry["synthetic"] == {"kept": 11, "used": 8, "not_drawn": 3}


@pytest.mark.parametrize(("line", "sent"), [("", {None}), ("  api_key_env: MY_KEY\n", {"Bearer key-of-mine"})])
def test_every_stage_sends_the_named_key_and_to_this_machine_no_other(tmp_path, monkeypatch, line, sent):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("MY_KEY", "key-of-mine")
    with StandIn(script) as teacher:
        write_project(tmp_path, teacher.base_url)
        project = tmp_path / "project.yaml"
        project.write_text(project.read_text().replace("  api_key_env: null\n", line))
        run(tmp_path)
        assert {headers.get("authorization") for headers in teacher.headers} == sent
