"""Evaluation and what reads it: one tiny student from its rows to its bundle."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgedistill.agreement import Agreement
from edgedistill.errors import DataError
from edgedistill.evaluation.files import to_plain
from edgedistill.pipeline import run_stages
from edgedistill_serve import Bundle, Scorer

from .tiny import run_of, write_tiny

DOCS = Path(__file__).parents[3] / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The project's file after a run, which no test changes."""
    file = write_tiny(tmp_path_factory.mktemp("tiny"))
    run_stages(run_of(file))
    return file


@pytest.fixture
def copy(done, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(done.parent, tmp_path / "copy") / done.name


def evaluation(file):
    return json.loads((file.parent / "runs/tiny/evaluation.json").read_text())


def test_scores(file):
    with (file.parent / "runs/tiny/test_scores.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


test_scores.__test__ = False


def documented(heading):
    """The keys in the first column of a table of docs/evaluation.md."""
    section = re.split(r"\n#+ ", DOCS.read_text("utf-8").split(f"# {heading}\n")[1])[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def test_every_key_is_documented_and_every_documented_key_is_there(done):
    found = evaluation(done)
    assert set(found) == documented("Top level")
    assert set(found["agreement"]["student"]) == documented("Agreement")
    assert set(found["probabilities"]) == documented("Probabilities")
    assert set(found["calibration"]) == documented("Calibration")
    assert set(found["review"]) == documented("Review")
    assert set(found["prevalence"]) == documented("Prevalence")
    comparison = documented("Step, Comparison, Shift")
    assert set(found["comparisons"][0]) == comparison | {"reference"}
    assert set(json.loads((done.parent / "runs/tiny/fidelity.json").read_text())) == documented("fidelity.json")


def test_the_student_stands_beside_the_frozen_encoder_with_paired_differences(done):
    found = evaluation(done)
    assert set(found["agreement"]) == {"student", "frozen encoder"}
    (comparison,) = found["comparisons"]
    assert (comparison["first"], comparison["second"], comparison["rows"]) == ("frozen encoder", "student", 60)
    kappas = [found["agreement"][name]["kappa"]["value"] for name in ("student", "frozen encoder")]
    assert comparison["differences"]["kappa"]["value"] == pytest.approx(kappas[0] - kappas[1])


def test_the_second_coder_makes_a_ceiling_with_the_column_label(done):
    found = evaluation(done)["human_agreement"]
    assert (found["coders"], found["rows"]) == (["label", "second"], 60)
    assert found["pairs"][0]["agreement"]["kappa"]["value"] < 1
    assert [each["reference"] for each in found["beside_humans"]] == ["label", "second"]


def test_a_small_subgroup_is_suppressed(done):
    table = next(table for table in evaluation(done)["subgroups"] if table["coding"] == "student")
    north, south = table["groups"]
    assert (north["value"], north["suppressed"], south["rows"], south["suppressed"]) == ("north", False, 12, True)
    assert north["kappa"]["value"] is not None
    assert south["kappa"] is None


def test_the_shares_of_the_population_are_told_before_and_after_correction(done):
    found = evaluation(done)["prevalence"]
    assert (found["file"], found["read"], found["error_rates_from"]) == ("population.csv", 60, 60)
    assert found["rows"] + sum(found["set_aside"].values()) == 60
    assert found["corrected"] is not None or found["fails"]
    assert sum(share["value"] for share in found["observed"].values()) == pytest.approx(1)


def test_the_aim_is_met_on_validation_rows_and_shown_on_test_rows(done):
    review = evaluation(done)["review"]
    stated = {"aim": "at_most_to_people", "at_least": None, "share": 0.3}
    assert review["aim"] == stated | {"confidence": None, "per_label": False, "groups": None}
    assert review["guarantee"] is None
    assert review["met"] is True
    assert review["validation"]["accepted"] == 42
    assert review["test"]["rows"] == 60
    assert review["risk_coverage"]["test"]["points"][0]["rows"] == 60


def test_a_line_per_test_row_says_what_everybody_said_and_not_the_text(done):
    lines, found = test_scores(done), evaluation(done)
    run = run_of(done)
    human = {row.response.id: row.label for row in run.records.splits.test}
    assert {line["id"]: line["human"] for line in lines} == human
    assert sum(line["decision"] == "accept" for line in lines) == found["review"]["test"]["accepted"]
    texts = {response.text for response in run.records.splits.test.responses}
    assert not texts & {cell for line in lines for cell in line.values()}


def test_the_bundle_gives_the_probabilities_and_decisions_that_were_evaluated(done):
    manifest = Bundle.load(done.parent / "runs/tiny/bundle").manifest
    found = evaluation(done)
    assert manifest.temperature == found["calibration"]["temperature"] != 1.0
    assert manifest.review.thresholds == found["review"]["rule"]["thresholds"]
    rows = run_of(done).records.splits.test.responses
    scored = Scorer(Bundle.load(done.parent / "runs/tiny/bundle")).score([dict(row.inputs) for row in rows])
    for score, line in zip(scored, test_scores(done), strict=True):
        assert (score.label, score.decision) == (line["student"], line["decision"])
        assert score.probability == pytest.approx(float(line[f"p:{score.label}"]), abs=1e-4)


def test_the_export_writes_its_own_file_and_nothing_is_done_again(done):
    fidelity = json.loads((done.parent / "runs/tiny/fidelity.json").read_text())
    assert [(step["before"], step["after"]) for step in fidelity["steps"]] == [("PyTorch", "ONNX fp32")]
    assert all(step.skipped for step in run_stages(run_of(done)))


def test_the_figures_of_the_served_graph_are_those_of_the_bundle_and_of_the_report(done):
    run = run_of(done)
    before, served = run.evaluation, run.served_evaluation
    scores = Scorer(run.bundle).score([dict(row.inputs) for row in run.records.splits.test.responses])
    assert served.review.test.accepted == sum(score.decision == "accept" for score in scores)
    assert served.student == msgspec.convert(run.bundle.manifest.metrics["student"], Agreement)
    # fp32 changes no label of these rows, so that all figures are those of the student in PyTorch.
    # The limit of novelty is chosen on the scores of each graph, which differ by rounding.
    one, other = served.review.test.novelty, before.review.test.novelty
    assert one.limit == pytest.approx(other.limit, rel=1e-4)
    assert replace(one, limit=other.limit) == other
    assert replace(served.review.test, novelty=other) == before.review.test
    assert served.subgroups == before.subgroups
    assert served.human_agreement == before.human_agreement
    figures = run.fidelity.figures
    assert (figures.change.before, figures.change.after, figures.change.flips) == ("PyTorch", "served", 0)
    entry = run.folder.run_log["stages"]["report"]
    assert entry["model"] == "served model (fp32)"
    assert entry["kappa"] == to_plain(served.student.kappa)


def test_the_export_leaves_the_evaluation_as_it_was(copy):
    file = copy.parent / "runs/tiny/evaluation.json"
    before = file.read_bytes()
    shutil.rmtree(copy.parent / "runs/tiny/bundle")
    again = {step.stage for step in run_stages(run_of(copy)) if not step.skipped}
    assert "export" in again
    assert file.read_bytes() == before


def test_an_evaluation_that_is_lost_is_computed_again_with_the_same_figures(copy):
    before = evaluation(copy)
    (copy.parent / "runs/tiny/evaluation.json").unlink()
    assert "evaluate" in {step.stage for step in run_stages(run_of(copy)) if not step.skipped}
    assert evaluation(copy) == before


def test_another_aim_changes_the_rule_and_trains_nothing(copy):
    copy.write_text(copy.read_text().replace("share: 0.3", "share: 0.1"))
    again = {step.stage for step in run_stages(run_of(copy), until="evaluate") if not step.skipped}
    assert again == {"evaluate"}
    assert evaluation(copy)["review"]["validation"]["accepted"] == 54


def test_another_population_is_scored_anew(copy):
    (copy.parent / "population.csv").write_text("id,response\np1,you tried again\n")
    run_stages(run_of(copy), until="evaluate")
    assert evaluation(copy)["prevalence"]["read"] == 1


def test_a_population_of_coded_texts_alone_has_the_shares_of_their_codes(copy):
    rows = [row for split in ("train", "validation", "test") for row in getattr(run_of(copy).records.splits, split)]
    codes = {}
    for row in rows:
        codes.setdefault(row.response.text.casefold(), set()).add(row.label)
    sure = {row.response.text: row.label for row in rows if len(codes[row.response.text.casefold()]) == 1}
    lines = "".join(f"p{place},{text}\n" for place, text in enumerate(sure))
    (copy.parent / "population.csv").write_text(f"id,response\n{lines}")
    run_stages(run_of(copy), until="evaluate")
    found = evaluation(copy)["prevalence"]
    assert (found["rows"], found["known"], found["set_aside"]) == (len(sure), len(sure), {})
    for label, share in found["corrected"].items():
        assert share["value"] == pytest.approx(list(sure.values()).count(label) / len(sure))


def test_without_calibration_the_temperature_is_one(copy):
    copy.write_text(copy.read_text().replace("evaluation:\n", "evaluation:\n  calibrate: false\n"))
    run_stages(run_of(copy), until="evaluate")
    found = evaluation(copy)["calibration"]
    assert (found["method"], found["temperature"]) == ("none", 1.0)
    assert found["test"]["before"] == found["test"]["after"]


def test_what_test_rows_say_chooses_neither_temperature_nor_rule(copy):
    before = evaluation(copy)
    human = copy.parent / "human.csv"
    with human.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = ["process", "outcome", "other"]
    for row in rows:
        if row["split"] == "test":
            row["label"] = labels[(labels.index(row["label"]) + 1) % 3]
    with human.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    run_stages(run_of(copy), until="evaluate")
    after = evaluation(copy)
    assert after["agreement"]["student"]["accuracy"] != before["agreement"]["student"]["accuracy"]
    assert after["calibration"]["temperature"] == before["calibration"]["temperature"]
    assert after["review"]["rule"] == before["review"]["rule"]


def test_a_population_that_is_not_there_is_named(copy):
    (copy.parent / "population.csv").unlink()
    with pytest.raises(DataError, match=r"population.csv: the file does not exist"):
        run_stages(run_of(copy), until="evaluate")


def test_the_probabilities_of_a_line_sum_to_one(done):
    for line in test_scores(done):
        assert np.isclose(sum(float(line[f"p:{name}"]) for name in ("process", "outcome", "other")), 1, atol=1e-5)
