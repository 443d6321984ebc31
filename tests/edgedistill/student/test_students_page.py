"""docs/students.md shows settings that the project file takes."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from edgedistill.project.schema import Project, StudentSection

PAGE = (Path(__file__).parents[3] / "docs" / "students.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_setting_of_the_page_is_one(block):
    StudentSection.model_validate(YAML(typ="safe").load(block)["student"], strict=False)


def test_the_page_shows_the_adapters_that_are_the_default():
    (block,) = (block for block in BLOCKS if "lora" in block)
    shown = StudentSection.model_validate(YAML(typ="safe").load(block)["student"], strict=False)
    assert shown.lora == StudentSection(peft="lora").lora == shown.adapters


@pytest.mark.parametrize("idle", [{"peft": "lora"}, {"patience": 2}, {"loss": {"targets": "soft"}}])
def test_a_frozen_backbone_takes_no_settings_of_its_training(idle):
    with pytest.raises(ValidationError, match=f"remove {next(iter(idle))}"):
        StudentSection.model_validate({"kind": "frozen", **idle})


def test_a_scale_of_labels_without_an_order_is_refused_when_the_project_is_read():
    told = {
        "name": "toy",
        "task": {"labels": [{"name": "a"}, {"name": "b"}]},
        "data": {"human": "human.csv"},
        "student": {"loss": {"ordinal": "cumulative"}},
    }
    with pytest.raises(ValidationError, match=r"cumulative requires task\.kind: ordinal"):
        Project.model_validate(told)
    Project.model_validate({**told, "task": {**told["task"], "kind": "ordinal"}})


def test_adapters_are_not_set_where_there_are_none():
    with pytest.raises(ValidationError, match="lora requires peft: lora"):
        StudentSection.model_validate({"lora": {"rank": 4}})
    assert StudentSection().adapters is None
