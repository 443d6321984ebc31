"""The report as the last stage of a run: with and without an export, and beside the bundle's model card."""

import csv
import json
import re

import pytest

from edgedistill.errors import RunError
from edgedistill.pipeline import run_stage, run_stages

from .tiny import run_of, write_tiny


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """The project's file, and report.html before and after the export; no test changes the run."""
    file = write_tiny(tmp_path_factory.mktemp("tiny"))
    run_stages(run_of(file), until="evaluate")
    run_stage(run_of(file), "report")
    before = _page(file)
    run_stages(run_of(file))
    return file, before, _page(file)


def _page(file):
    return (file.parent / "runs/tiny/report.html").read_text("utf-8")


def _asked(file, **changes):
    run = run_of(file)
    report = run.project.report.model_copy(update=changes)
    changed = run.project.model_copy(update={"report": report})
    return type(run)(changed, run.records, run.folder)


def test_before_the_evaluation_the_missing_stage_is_named(tmp_path):
    with pytest.raises(RunError, match=r"report: mix is not done.*Run `edgedistill mix tiny.yaml`"):
        run_stage(run_of(write_tiny(tmp_path)), "report")


def test_without_an_export_it_says_that_there_is_none(steps):
    _, before, after = steps
    assert "No bundle has been exported yet" in before
    assert "No bundle has been exported yet" not in after
    assert "bundle version <code>" in after
    assert "its model card may differ" not in after


def test_what_is_done_is_skipped_and_what_is_asked_otherwise_is_made_anew(steps):
    file, _, after = steps
    assert run_stage(run_of(file), "report").skipped
    assert not run_stage(_asked(file, examples=2), "report").skipped
    assert not run_stage(run_of(file), "report").skipped
    assert _page(file) == after


def test_texts_stand_in_it_only_where_examples_are_asked_for(steps):
    file, _, after = steps
    with (file.parent / "runs/tiny/test_scores.csv").open(newline="") as stream:
        wrong = {row["id"] for row in csv.DictReader(stream) if row["human"] != row["student"]}
    texts = {row.id: row.text for row in run_of(file).records.splits.test.responses}
    assert len(wrong) > 2
    assert not [text for text in texts.values() if text in after]
    run_stage(_asked(file, examples=2), "report")
    asked = _page(file)
    run_stage(run_of(file), "report")
    message = re.findall(r'<td class="text">(.+?)</td>', asked)
    assert len(message) == 2
    assert set(message) <= {texts[row] for row in wrong}


def test_the_verdict_stands_in_the_journal(steps):
    file, _, after = steps
    entry = json.loads((file.parent / "runs/tiny/run.json").read_text())["stages"]["report"]
    assert entry["headline"].partition(":")[0] in after
    assert set(entry["outputs"]) == {"report.html"}


def test_the_models_card_and_the_report_tell_the_same_kappa(steps):
    file, _, after = steps
    card = (file.parent / "runs/tiny/bundle/README.md").read_text("utf-8")
    line = next(line for line in card.splitlines() if line.startswith("| Cohen's kappa |"))
    kappas = [cell.split()[0].removeprefix("0") for cell in line.split("|")[2:-1]]
    shown = re.search(r"<th scope=\"row\">Cohen&#39;s kappa</th>(.*?)</tr>", after)[1]
    found = re.findall(r">\u2212?(\d*\.\d+)\u00a0", shown)
    del found[1]  # the student before the export, which the card does not state
    assert found == [each.removeprefix("-") for each in kappas]


def test_a_damaged_evaluation_is_not_done(steps, tmp_path):
    file, _, _ = steps
    evaluation = file.parent / "runs/tiny/evaluation.json"
    whole = evaluation.read_bytes()
    evaluation.write_bytes(whole[:-9])
    try:
        with pytest.raises(RunError, match=r"evaluate is not done"):
            run_stage(run_of(file), "report")
    finally:
        evaluation.write_bytes(whole)
