"""The tour in CONTRIBUTING.md is true: every module it names exists, and each is named once."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = [ROOT / "src" / "edgedistill", ROOT / "export/src/edgedistill_export", ROOT / "serve/src/edgedistill_serve"]
TOUR = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## A tour")[1].split("## Rules")[0]
MODULES = re.findall(r"`([\w/]+\.py)`", TOUR)


def test_every_module_of_the_tour_exists():
    assert len(MODULES) > 40
    assert [name for name in MODULES if not any((package / name).is_file() for package in PACKAGES)] == []


def test_the_tour_names_each_module_once():
    assert [name for name, times in Counter(MODULES).items() if times > 1] == []
