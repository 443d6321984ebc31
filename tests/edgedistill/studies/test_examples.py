"""The example studies, offline and with a tiny student."""

import csv
import json
import signal
import time

import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.studies import read_study
from edgedistill.studies.study import run_study

from ...processes import PROGRAMS, Process, run


def runs(folder):
    with (folder / "runs.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def made(examples, kind, **changes):
    study = read_study(examples / f"{kind}.yaml")
    return run_study(study.model_copy(update=changes), kind, offline=True)


@pytest.fixture(scope="module")
def label_source(examples):
    return made(examples, "label-source")


def test_label_source_compares_every_condition_on_the_test_rows(label_source):
    found = runs(label_source.folder)
    assert {row["condition"] for row in found} == {
        "the teacher itself",
        *(f"{rows}{how}" for rows in ("human 40", "human 80", "teacher 80") for how in ("", ", frozen")),
        "teacher 80, consistent only",
    }
    assert all(float(row["macro_f1_low"]) <= float(row["macro_f1"]) <= float(row["macro_f1_high"]) for row in found)
    assert len({row["test_rows"] for row in found if row["learner"] != "teacher"}) == 1


def test_the_label_source_table_compares_medians_with_the_published_differences(label_source):
    table = (label_source.folder / "table.md").read_text("utf-8")
    assert "Medians over tasks" in table
    assert "0.039" in table
    assert "0.006" in table
    assert (label_source.folder / "label-source.svg").read_text("utf-8").startswith("<?xml")


def test_a_finished_study_trains_nothing(label_source, examples):
    before = (label_source.folder / "runs.csv").read_bytes()
    again = made(examples, "label-source")
    assert (again.made, again.planned) == (0, label_source.planned)
    assert (again.folder / "runs.csv").read_bytes() == before


def test_a_trial_with_one_seed_says_so_in_its_title_and_notes(label_source, examples):
    trial = made(examples, "label-source", seeds=(0,))
    table = (trial.folder / "table.md").read_text("utf-8")
    made(examples, "label-source")  # for the other tests
    assert trial.made == 0
    assert "(TRIAL WITH ONE SEED)" in table
    assert "no effect in it can be distinguished from chance" in table
    assert "TRIAL" not in (label_source.folder / "table.md").read_text("utf-8")


def test_an_added_size_trains_only_its_own_students(label_source, examples):
    study = read_study(examples / "label-source.yaml")
    more = study.label_source.model_copy(update={"human": (40, 60, 80), "frozen": False})
    again = made(examples, "label-source", label_source=more)
    assert again.made == len(study.seeds)


def test_ratio_trains_on_mixtures_and_on_blocks(examples):
    found = runs(made(examples, "ratio").folder)
    mixed = [row for row in found if row["schedule"] == "mixed"]
    assert {row["synthetic_share"] for row in mixed} == {"0.5000", "0.7000"}
    blocks = [row for row in found if row["schedule"] == "sequential" and row["seed"] == "0"]
    assert [(row["block"], row["synthetic_rows"]) for row in blocks] == [("0", "0"), ("1", "24"), ("2", "48")]


def test_as_published_is_marked_in_every_row_and_in_the_table(examples):
    report = made(examples, "ratio", protocol="as-published", name="published")
    found = runs(report.folder)
    assert {row["protocol"] for row in found} == {"as-published"}
    assert {row["leak"] for row in found} == {"epoch selected on the test rows"}
    assert {row["seed"] for row in found} == {"0"}
    assert "AS PUBLISHED: THE EPOCH WAS SELECTED ON THE TEST ROWS" in (report.folder / "table.md").read_text("utf-8")


def test_as_published_is_refused_for_studies_without_a_published_protocol(examples):
    with pytest.raises(ProjectFileError, match="as-published replicates the experiments of Borchers"):
        made(examples, "label-source", protocol="as-published")


def test_temperature_reports_the_diversity_of_the_rows(examples):
    found = runs(made(examples, "temperature").folder)
    bleu = {row["temperature"]: float(row["self_bleu"]) for row in found if row["self_bleu"]}
    assert bleu["0.3"] > bleu["1.0"]


def test_consistency_reports_the_removed_rows(examples):
    report = made(examples, "consistency")
    with (report.folder / "removed.csv").open(encoding="utf-8", newline="") as stream:
        removed = list(csv.DictReader(stream))
    assert {row["name"] for row in removed} == {"process", "outcome", "no_praise"}
    kept = {(row["condition"], row["seed"]): int(row["kept"]) for row in runs(report.folder)}
    compared = [seed for condition, seed in kept if condition == "random subset, size of consistency from 1"]
    assert compared
    for seed in compared:
        assert (
            kept["consistency from 1", seed]
            == kept["random subset, size of consistency from 1", seed]
            < kept["all labels", seed]
            == 80
        )


def test_a_killed_study_resumes_and_shares_its_runs_with_another_process(examples):
    study = read_study(examples / "teachers.yaml")
    command = (PROGRAMS / "edgedistill", "study", "teachers", study.path, "--offline", "--json")
    with Process(*command) as killed:
        while len(list(study.run_folder.glob("runs/*.json"))) < 3 and killed.poll() is None:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in study.run_folder.glob("runs/*.json")}
    assert len(kept) >= 3
    with Process(*command) as other:
        here = run_study(study, "teachers", offline=True)
        output = json.loads(other.communicate()[0])
    assert here.made + output["made"] == len(list(study.run_folder.glob("runs/*.json"))) - len(kept) > 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len({(row["condition"], row["seed"]) for row in runs(study.run_folder / "teachers")}) == here.planned
    assert not list((study.run_folder / "work").iterdir())


def test_an_invalid_study_file_gives_a_one_line_error_and_exit_code_2(examples, tmp_path):
    (tmp_path / "s.yaml").write_text("name: s\ntask: []\n", "utf-8")
    done = run("edgedistill", "study", "ratio", tmp_path / "s.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith("edgedistill: ")
    assert "unknown key task; did you mean tasks?" in done.stderr
    assert "Traceback" not in done.stderr
