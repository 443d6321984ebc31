"""The example lesson as it is shipped: its teacher's answers are found under the requests that are made today."""

import json
import shutil
from pathlib import Path

import pytest

from .lessons import command

PRAISE = Path(__file__).parents[2] / "examples" / "praise"
SHIPPED = ("project.yaml", "human.csv", "responses.csv")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A copy of the example, labelled offline: its folder, and what the run said."""
    folder = tmp_path_factory.mktemp("praise")
    for name in SHIPPED:
        shutil.copy(PRAISE / name, folder / name)
    command("edgedistill", "cache", "import", folder / "project.yaml", PRAISE / "teacher-cache.jsonl")
    done = command("edgedistill", "run", folder / "project.yaml", "--offline", "--until", "label", "--json")
    return folder, json.loads(done.stdout)


def test_the_example_is_gated_and_labelled_from_the_shipped_answers_alone(labelled):
    _, said = labelled
    assert set(said["stages"]) == {"gate", "label"}
    for stage in said["stages"].values():
        assert stage["cost"]["asked"] == 0
        assert stage["cost"]["cached"] > 0


def test_every_response_of_the_example_is_labelled_or_set_aside(labelled):
    folder, said = labelled
    counts = said["stages"]["label"]
    lines = (folder / "runs/praise/labels.jsonl").read_text().splitlines()
    assert len(lines) == counts["labelled"] == counts["rows"] - len(counts["set_aside"])
