"""docs/students.md shows settings that the project file takes."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from edgedistill.project.sections import StudentSection

PAGE = (Path(__file__).parents[3] / "docs" / "students.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_setting_of_the_page_is_one(block):
    StudentSection.model_validate(yaml.safe_load(block)["student"], strict=False)


def test_the_page_shows_the_adapters_that_are_the_default():
    (block,) = (block for block in BLOCKS if "lora" in block)
    shown = StudentSection.model_validate(yaml.safe_load(block)["student"], strict=False)
    assert shown.lora == StudentSection(peft="lora").lora == shown.adapters


def test_adapters_are_not_set_where_there_are_none():
    with pytest.raises(ValidationError, match="lora goes with peft: lora"):
        StudentSection.model_validate({"lora": {"rank": 4}})
    assert StudentSection().adapters is None
