"""The settings on docs/students.md are valid."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from edgedistill.project.schema import Project
from edgedistill.project.student import StudentSection

PAGE = (Path(__file__).parents[3] / "docs" / "students.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_setting_on_the_page_is_valid(block):
    StudentSection.model_validate(YAML(typ="safe").load(block)["student"], strict=False)


def test_the_page_shows_the_default_adapters():
    (block,) = (block for block in BLOCKS if "lora" in block)
    shown = StudentSection.model_validate(YAML(typ="safe").load(block)["student"], strict=False)
    assert shown.lora == StudentSection(peft="lora").lora == shown.adapters


@pytest.mark.parametrize("idle", [{"peft": "lora"}, {"patience": 2}, {"loss": {"targets": "soft"}}])
def test_training_settings_are_refused_for_a_frozen_backbone(idle):
    with pytest.raises(ValidationError, match=f"remove {next(iter(idle))}"):
        StudentSection.model_validate({"kind": "frozen", **idle})


def test_an_ordinal_loss_without_an_ordinal_task_is_refused_when_the_project_is_read():
    project = {
        "name": "toy",
        "task": {"labels": [{"name": "a"}, {"name": "b"}]},
        "data": {"human": "human.csv"},
        "student": {"loss": {"ordinal": "cumulative"}},
    }
    with pytest.raises(ValidationError, match=r"cumulative requires task\.kind: ordinal"):
        Project.model_validate(project)
    Project.model_validate({**project, "task": {**project["task"], "kind": "ordinal"}})


def test_adapter_settings_without_peft_are_refused():
    with pytest.raises(ValidationError, match="lora requires peft: lora"):
        StudentSection.model_validate({"lora": {"rank": 4}})
    assert StudentSection().adapters is None
