"""The project file's keys for prompts, several teachers and redaction: what goes together, and what is said if not."""

from pathlib import Path

import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.project import Project, read_project
from edgedistill_serve.task.redaction import Redaction

PROJECT = """\
name: praise
task:
  labels: [{{name: process}}, {{name: processes}}]
  redact: {redact}
data: {{human: human.csv}}
{teachers}
"""


def read(folder: Path, teachers: str, redact: str = "false") -> Project:
    path = folder / "project.yaml"
    path.write_text(PROJECT.format(teachers=teachers, redact=redact), "utf-8")
    return read_project(path)


def one(**keys: object) -> str:
    return "teacher: {model: m" + "".join(f", {key}: {value}" for key, value in keys.items()) + "}"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"votes": 0}, "teacher.votes should be greater than or equal to 1, not 0"),
        ({"temperature": 2.5}, "teacher.temperature should be less than or equal to 2, not 2.5"),
        ({"temperature": -0.1}, "teacher.temperature should be greater than or equal to 0, not -0.1"),
        ({"per_request": 0}, "teacher.per_request should be greater than or equal to 1, not 0"),
        ({"few_shot_choice": "nearest"}, "teacher.few_shot_choice should be 'balanced', 'fixed' or 'similar'"),
        ({"few_shot_choice": "fixed"}, "few_shot_choice: fixed and few_shot_ids require each other"),
        ({"few_shot_ids": "[r1]"}, "few_shot_choice: fixed and few_shot_ids require each other"),
        ({"few_shot_choice": "fixed", "few_shot_ids": "[r1, r1]"}, "few_shot_ids has a duplicate id"),
        ({"few_shot_choice": "fixed", "few_shot_ids": "[r1]", "few_shot": 2}, "few_shot is 2, and few_shot_ids has 1"),
        ({"few_shot_choice": "similar"}, "few_shot_choice: similar requires few_shot"),
        ({"few_shot_choice": "similar", "few_shot": 2, "per_request": 5}, "requires per_request: 1"),
        ({"ties": "logprobs"}, "ties: logprobs requires logprobs: true"),
        ({"per_requests": 3}, "unknown key teacher.per_requests; did you mean per_request?"),
    ],
)
def test_a_teacher_that_cannot_be_is_one_clear_line(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    with pytest.raises(ProjectFileError) as refused:
        read(tmp_path, one(**keys))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        ("teacher: {model: m}\nteachers: [{name: a, model: m}]", "give either teacher or teachers, not both"),
        ("teachers: [{name: a, model: m}, {model: n}]", "teacher 2 in teachers has no name"),
        ("teachers: [{name: a, model: m}, {name: a, model: n}]", "two teachers have the same name"),
        ("teachers: [{name: a, model: m, vote: 3}]", "unknown key teachers.0.vote; did you mean votes?"),
        ("teacher: {model: m}\nteachers_vote: weighted", "teachers_vote should be 'majority' or 'gate_weighted'"),
    ],
)
def test_teachers_that_cannot_be_are_one_clear_line(tmp_path: Path, teachers: str, message: str) -> None:
    with pytest.raises(ProjectFileError) as refused:
        read(tmp_path, teachers)
    assert message in str(refused.value)


def test_one_teacher_is_a_panel_of_one_called_by_its_model(tmp_path: Path) -> None:
    assert [teacher.called for teacher in read(tmp_path, one()).panel] == ["m"]
    assert read(tmp_path, "").panel == ()


def test_several_teachers_are_a_panel_called_by_their_names(tmp_path: Path) -> None:
    project = read(tmp_path, "teachers: [{name: large, model: m}, {name: small, model: m, temperature: 0.0}]")
    assert [teacher.called for teacher in project.panel] == ["large", "small"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("false", None), ("null", None), ("true", Redaction()), ('{ids: ["S[0-9]{6}"]}', Redaction(("S[0-9]{6}",)))],
)
def test_redaction_is_off_on_or_on_with_ids(tmp_path: Path, written: str, meant: Redaction | None) -> None:
    assert read(tmp_path, "", written).task.task.redact == meant


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('{ids: ["S[0-9"]}', "task.redact: 'S[0-9' is not a valid regular expression"),
        ('{ids: ["S*"]}', "task.redact: the pattern 'S*' matches the empty string"),
        ("{names: [Jo]}", "unknown key task.redact.names"),
        ("all", "task.redact should be a mapping of keys to values, not 'all'"),
    ],
)
def test_a_redaction_that_cannot_be_is_one_clear_line(tmp_path: Path, written: str, message: str) -> None:
    with pytest.raises(ProjectFileError) as refused:
        read(tmp_path, "", written)
    assert message in str(refused.value)
