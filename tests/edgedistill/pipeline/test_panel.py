"""Several teachers through gate and label: who is heard, and what the files say."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgedistill.data import read_records
from edgedistill.errors import AnswersMissing, GateRefused, Paused, ProjectFileError, RunError
from edgedistill.pipeline import Run, RunFolder, StageResult, run_stage, run_stages
from edgedistill.pipeline.label import read_labels
from edgedistill.project import read_project
from edgedistill.teacher import EstimateOnly, ReadBatchFile, WriteBatchFile

from ..teacher.stand_in import Reply, StandIn, coded, text_of

PROJECT = """\
name: panel
task: {{labels: [{{name: process}}, {{name: outcome}}]}}
data: {{human: human.csv, unlabelled: responses.csv, split: {{train: 0.2, validation: 0.6, test: 0.2}}}}
teachers:
  - {{name: good, base_url: "{good}", model: m, api_key_env: null, votes: 1, gate: {{at_least: 0.5}}}}
  - {{name: fair, base_url: "{fair}", model: m, api_key_env: null, votes: 1, gate: {{at_least: 0.5}}}}
  - {{name: poor, base_url: "{poor}", model: m, api_key_env: null, votes: 1, gate: {{at_least: 0.5}}}}
teachers_vote: {vote}
"""


def good(body: dict[str, Any], _before: int) -> Reply:
    return coded("process" if "worked" in text_of(body) else "outcome")


def fair(body: dict[str, Any], before: int) -> Reply:
    return coded("outcome") if text_of(body).endswith("0") else good(body, before)


def poor(_body: dict[str, Any], _before: int) -> Reply:
    return coded("outcome")


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[tuple[Path, dict[str, StandIn]]]:
    lines = [(f"r{i}", f"you {'worked' if i % 3 else 'won'} {i}", "process" if i % 3 else "outcome") for i in range(90)]
    for name, rows in (("human.csv", lines[:60]), ("responses.csv", lines[60:])):
        with (tmp_path / name).open("w", newline="") as stream:
            csv.writer(stream).writerows([("id", "response", "label"), *rows])
    with StandIn(good) as one, StandIn(fair) as two, StandIn(poor) as three:
        yield tmp_path, {"good": one, "fair": two, "poor": three}


def run_until(
    panel: tuple[Path, dict[str, StandIn]], until: str, vote: str = "majority", **given: Any
) -> list[StageResult]:
    folder, teachers = panel
    (folder / "project.yaml").write_text(
        PROJECT.format(vote=vote, **{name: teacher.base_url for name, teacher in teachers.items()})
    )
    project = read_project(folder / "project.yaml")
    return run_stages(Run(project, read_records(project), RunFolder(project.run_folder), **given), until=until)


def verdict(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs/panel/gate.json").read_text())
    return found


def test_the_teachers_that_pass_are_used_and_the_others_are_not_asked_further(
    panel: tuple[Path, dict[str, StandIn]],
) -> None:
    folder, teachers = panel
    run_until(panel, "label")
    found = verdict(folder)
    assert (found["used"], found["passed"], found["teacher"]) == (["good", "fair"], True, "good + fair")
    assert [each["passed"] for each in found["teachers"]] == [True, True, False]
    assert len(found["between"]["pairs"]) == 3
    assert found["weights"] == {"good": 1.0, "fair": 1.0, "poor": 1.0}
    assert {name: len(teacher.bodies) for name, teacher in teachers.items()} == {"good": 66, "fair": 66, "poor": 36}


def test_labels_say_which_teacher_said_what_and_disagreements_of_two_are_set_aside(
    panel: tuple[Path, dict[str, StandIn]],
) -> None:
    (*_, step) = run_until(panel, "label")
    lines = [json.loads(line) for line in (panel[0] / "runs/panel/labels.jsonl").read_text().splitlines()]
    assert all([each["teacher"] for each in line["teachers"]] == ["good", "fair"] for line in lines)
    assert len(read_labels(RunFolder(panel[0] / "runs/panel"))) == step.entry["labelled"] == len(lines)
    assert {row["reason"] for row in step.entry["set_aside"]} == {"the teachers tie"}
    assert "good: process, fair: outcome" in {row["detail"] for row in step.entry["set_aside"]}
    assert step.entry["between"]["rows"] == 30
    assert set(step.entry["teachers"]) == {"good", "fair"}


def test_weights_from_the_gate_break_the_tie(panel: tuple[Path, dict[str, StandIn]]) -> None:
    (*_, step) = run_until(panel, "label", "gate_weighted")
    weights = verdict(panel[0])["weights"]
    assert weights["good"] == 1.0 > weights["fair"] > 0.5
    assert weights["poor"] == 0.0
    assert (step.entry["labelled"], step.entry["set_aside"]) == (30, [])


def test_accepting_a_refused_teacher_later_has_it_heard_and_paid_answers_stay(
    panel: tuple[Path, dict[str, StandIn]],
) -> None:
    run_until(panel, "label")
    steps = run_until(panel, "label", accept_teacher=True)
    assert [step.skipped for step in steps] == [False, False]
    assert verdict(panel[0])["used"] == ["good", "fair", "poor"]
    assert {name: len(teacher.bodies) for name, teacher in panel[1].items()} == {"good": 66, "fair": 66, "poor": 66}
    again = run_until(panel, "label")
    assert [step.skipped for step in again] == [True, True]


def test_what_one_teacher_lacks_keeps_no_answer_of_another_in_its_file(panel: tuple[Path, dict[str, StandIn]]) -> None:
    folder, teachers = panel
    out = folder / "out.jsonl"
    with pytest.raises(Paused):
        run_until(panel, "gate", dispatch=lambda name: WriteBatchFile(out.with_stem(f"out-{name}")))
    asked = [json.loads(line) for line in (folder / "out-fair.jsonl").read_bytes().splitlines()]
    answered = [
        {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": json.loads(coded("process").body)}}
        for line in asked
    ]
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, answered)))
    with pytest.raises(AnswersMissing):
        run_until(panel, "gate", dispatch=lambda _: ReadBatchFile([folder / "in.jsonl"], lambda _: None))
    with pytest.raises(Paused) as paused:
        run_until(panel, "gate", dispatch=EstimateOnly)
    assert [each["estimate"]["requests"] for each in paused.value.result["each"]] == [36, 0, 36]
    assert not any(teacher.bodies for teacher in teachers.values())


def test_a_refusing_gate_is_reported_before_it_stops_the_run(panel: tuple[Path, dict[str, StandIn]]) -> None:
    folder, teachers = panel
    refused = {"good": teachers["poor"], "fair": teachers["poor"], "poor": teachers["poor"]}
    message: list[StageResult] = []
    with pytest.raises(GateRefused):
        run_until((folder, refused), "label")
    project = read_project(folder / "project.yaml")
    run = Run(project, read_records(project), RunFolder(project.run_folder))
    with pytest.raises(GateRefused):
        run_stage(run, "gate", on_step=message.append)
    assert [step.stage for step in message] == ["gate"]


def test_why_no_row_was_coded_is_reported_by_cause(panel: tuple[Path, dict[str, StandIn]]) -> None:
    folder, _ = panel
    with StandIn(lambda _body, _before: coded("neither")) as odd, pytest.raises(GateRefused) as stopped:
        run_until((folder, dict.fromkeys(["good", "fair", "poor"], odd)), "label")
    message = (
        "undefined on the 0 of 36 validation rows that it coded "
        "(36: the teacher's answer is not a label of the codebook)"
    )
    assert f"good's kappa is {message}" in str(stopped.value)


def test_where_no_teacher_passes_each_is_named(panel: tuple[Path, dict[str, StandIn]]) -> None:
    folder, teachers = panel
    refused = {"good": teachers["poor"], "fair": teachers["poor"], "poor": teachers["poor"]}
    with pytest.raises(GateRefused) as stopped:
        run_until((folder, refused), "label")
    for name in refused:
        assert f"{name}'s kappa is 0.00" in str(stopped.value)
    assert verdict(folder)["used"] == []


def test_a_label_with_fewer_train_rows_than_examples_is_named_before_anything_is_asked(
    panel: tuple[Path, dict[str, StandIn]],
) -> None:
    folder, teachers = panel
    run = PROJECT.replace("votes: 1,", "votes: 1, few_shot: 40,")
    (folder / "project.yaml").write_text(
        run.format(vote="majority", **{name: teacher.base_url for name, teacher in teachers.items()})
    )
    project = read_project(folder / "project.yaml")
    with pytest.raises(
        ProjectFileError, match="40 examples require 20 train rows of the label 'process', but there are"
    ):
        run_stages(Run(project, read_records(project), RunFolder(project.run_folder)), until="label")
    assert not any(teacher.bodies for teacher in teachers.values())


def test_a_gate_that_teachers_passed_who_are_no_longer_in_the_project_is_named(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text(
        PROJECT.format(vote="majority", **dict.fromkeys(["good", "fair", "poor"], "http://x/v1"))
    )
    (tmp_path / "human.csv").write_text(
        "id,response,label\n"
        + "".join(f"r{i},text {i} {i * 7919},{('process', 'outcome')[i % 2]}\n" for i in range(30))
    )
    (tmp_path / "responses.csv").write_text("id,response\nq,another one\n")
    project = read_project(tmp_path / "project.yaml")
    run = Run(project, read_records(project), RunFolder(project.run_folder))
    run.folder.write_json("gate.json", {"used": ["gone"], "weights": {"gone": 1.0}})
    with pytest.raises(RunError, match=r"gate\.json: the gate was passed by gone.*edgedistill gate PROJECT"):
        run.code_with_each(run.used, run.records.unlabelled, "label: {}")
