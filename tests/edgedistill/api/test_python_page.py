"""docs/python.md: its code runs in order, with a teacher on a real socket and a tiny backbone."""

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

from edgedistill.classifier import StudentClassifier

from ...e2e.lessons import judge, write_lesson
from ..teacher.stand_in import StandIn
from .test_scikit_learn_checks import LEFT_OUT

PAGE = (Path(__file__).parents[3] / "docs" / "python.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def lesson(tmp_path, monkeypatch, backbone):
    """A folder with the files that the page reads, and the teacher that it asks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setitem(StudentClassifier.__init__.__kwdefaults__, "backbone", backbone)
    with StandIn(judge) as teacher:
        project = write_lesson(tmp_path, teacher.base_url)
        project.write_text(project.read_text().replace("student:\n", f"student:\n  backbone: {backbone}\n"))
        yield teacher


def test_the_code_of_the_page_runs_from_the_first_block_to_the_last(lesson, backbone, capsys):
    names = {}
    for block in BLOCKS:
        # The default of api_key_env is for OpenAI's own address only.
        here = f'base_url="{lesson.base_url}", api_key_env="OPENAI_API_KEY"'
        code = block.replace('base_url="https://api.openai.com/v1"', here).replace('"minilm"', repr(backbone))
        exec(compile(code, "docs/python.md", "exec"), names)
    assert len(names["labelled"]) == len(names["responses"]) == 20
    assert len(names["scored"]) == len(names["test"])
    assert names["run"].report_html.startswith("<!DOCTYPE html>")
    said = capsys.readouterr().out
    assert "requests" in said
    assert "gate: kappa at least 0.6" in said
    assert "Teacher unknown key vote; did you mean votes?" in said


def test_the_page_lists_the_checks_of_scikit_learn_that_do_not_hold():
    assert dict(re.findall(r"^\| `(check_\w+)` \| (.*) \|$", PAGE, re.MULTILINE)) == LEFT_OUT


def test_what_the_page_names_for_each_command_is_there():
    table = PAGE.partition("| command |")[2].partition("\n\n")[0]
    for name in re.findall(r"`(edgedistill\w*\.[\w.]+)`", table):
        module, *attributes = re.fullmatch(r"([a-z_.]+)\.(\w[\w.]*)", name).groups()
        assert reduce(getattr, attributes[0].split("."), import_module(module)) is not None
