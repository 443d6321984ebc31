"""A task with any number of labels as a user runs it: commands, a teacher on a socket, a bundle, scores."""

import csv
import json

import pytest

from ..edgedistill.pipeline.test_multilabel import KEYWORDS, judge, write
from ..edgedistill.teacher.stand_in import StandIn
from .lessons import command


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A project that has run: its file, and what the run showed."""
    with StandIn(judge) as teacher:
        project = write(tmp_path_factory.mktemp("sets"), teacher.base_url)
        return project, command("edgedistill", "run", project).stdout


def test_a_run_shows_the_mean_kappa_over_labels_and_each_label(lesson):
    _, shown = lesson
    assert "mean kappa over labels" in shown
    assert all(f"F1 {name}" in shown for name in KEYWORDS)


def test_the_bundle_scores_a_response_with_the_labels_that_hold(lesson):
    project, _ = lesson
    bundle = project.parent / "runs/sets/bundle"
    score = json.loads(command("edgedistill-serve", "score", bundle, "you tried so very smart now", "--json").stdout)
    assert score["label"] == "process;outcome"
    assert list(score["probabilities"]) == list(KEYWORDS)
    assert 0.5 <= score["probability"] <= 1


def test_a_graded_file_holds_the_same_labels(lesson, tmp_path):
    project, _ = lesson
    bundle = project.parent / "runs/sets/bundle"
    texts = ("you tried so very smart now", "the circuit is now", "look at the page")
    (tmp_path / "in.csv").write_text("id,response\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)))
    command("edgedistill-serve", "grade", bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == ["process;outcome", "none", "other"]


def test_a_label_that_cannot_be_written_beside_others_is_refused(lesson):
    project, _ = lesson
    strange = project.parent / "strange.yaml"
    strange.write_text(project.read_text().replace("name: other", "name: none"))
    done = command("edgedistill", "run", strange, expect=2)
    assert "rename the label 'none'" in done.stderr
