"""A package of a run with a promise on served scores, a limit of novelty, two teachers, estimates and a curve."""

import csv
import json
import shutil

import pytest
from typer.testing import CliRunner

from edgedistill.cli.commands import app
from edgedistill.errors import RunError
from edgedistill.pipeline import run_stages
from edgedistill.pipeline.learning_curve import measure_learning_curve
from edgedistill.pipeline.replicated_claims import read_kept

from ..student.conftest import KEYWORDS
from ..teacher.stand_in import StandIn, coded, text_of
from .packages import ids_in, reproduce, texts_in, unpack
from .tiny import add_columns, run_of, write_tiny

CLAIMS = ("guarantee", "novelty", "learning_curve", "estimates")


def judge(body, before):
    """Codes by the keyword; the second teacher errs now and then."""
    text = text_of(body)
    right = next(name for name, keyword in KEYWORDS.items() if keyword in text.split())
    return coded("other" if body["model"] == "second" and len(text) % 5 == 0 else right)


# Every split has rows of every label and school.
SPLITS_AND_SCHOOLS = {
    "split": lambda number, _: ("train", "validation", "test")[number % 3],
    "school": lambda number, _: "north" if number % 5 < 3 else "south",
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The run: a rule that promises something in each group and of each label, chosen on the scores of int8."""
    file = write_tiny(tmp_path_factory.mktemp("claims"))
    add_columns(file.parent / "human.csv", SPLITS_AND_SCHOOLS)
    with StandIn(judge) as server:
        each = f"base_url: '{server.base_url}', api_key_env: null, tries: 1, gate: {{at_least: -1}}"
        text = file.read_text().replace(
            "review: {aim: at_most_to_people, share: 0.3}",
            "review: {aim: at_most_wrong, share: 0.8, confidence: 0.8, per_label: true, groups: school, "
            "novelty: {false_alarms: 0.1}}",
        )
        text = text.replace("precision: fp32", "precision: int8, max_flip_rate: 0.5")
        file.write_text(
            f"{text}teachers:\n  - {{name: one, model: first, {each}}}\n  - {{name: two, model: second, {each}}}\n"
        )
        run_stages(run_of(file))
    measure_learning_curve(run_of(file), seeds=2)
    machine = file.parent / "machine.csv"
    with machine.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["id", "label", "human", "class", "words"])
        for place in range(240):
            name = list(KEYWORDS)[place % 3]
            human = "" if place % 3 else name if place % 9 else "other"
            lines.writerow([f"m{place}", name, human, f"class-{place % 40}", 3 + place % 7])
    arguments = ["estimate", file, "--machine", machine, "--column", "human=human", "--clusters", "class"]
    made = CliRunner().invoke(app, [*map(str, arguments), "--formula", "process ~ words"])
    assert made.exit_code == 0, made.output
    return file


@pytest.fixture(scope="module")
def package(done, tmp_path_factory):
    """Its package, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    return unpack(run_of(done).replication(folder / "out.zip"), folder / "unpacked")


def test_a_promise_on_served_scores_novelty_estimates_and_the_curve_are_reproduced(done, package):
    run, folder = run_of(done), package
    fidelity = json.loads((folder / "run/fidelity.json").read_text("utf-8"))
    guarantee = fidelity["figures"]["rule"]["guarantee"]
    assert guarantee["graphs"][0] == "int8"
    assert guarantee["labels"]
    assert guarantee["groups"]
    code, lines = reproduce(folder)
    assert (code, lines[-1]) == (0, "REPRODUCED"), lines
    checked = {line.split()[1] for line in lines[:-1] if line.startswith("same")}
    assert set(CLAIMS) <= checked
    assert {file.stem for file in (folder / "paper/tables").glob("*.csv")} - checked == {"codebook", "search"}
    assert texts_in(folder, run) == []
    assert ids_in(folder, run) == []
    record = json.loads((folder / "data/estimates.json").read_text("utf-8"))
    assert set(record["columns"]) == {"machine code", "human code", "split", "cluster", "words"}
    assert "class-" not in (folder / "data/estimates.json").read_text("utf-8")


def test_the_effect_of_the_rule_on_validation_rows_is_that_of_the_rule_that_is_served(done):
    run = run_of(done)
    served = run.served_evaluation.review
    assert served.validation == run.fidelity.figures.rule.validation
    assert served.validation.accepted == served.guarantee.accepted


@pytest.mark.parametrize("table", CLAIMS)
def test_another_number_in_a_table_of_claims_is_found(package, tmp_path, table):
    folder = shutil.copytree(package, tmp_path / "changed")
    file = folder / "paper/tables" / f"{table}.csv"
    changed = {"guarantee": "bound", "novelty": "flagged", "learning_curve": "kappa_high", "estimates": "estimate_low"}
    with file.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    row = next(row for row in lines if row[changed[table]])
    row[changed[table]] = str(float(row[changed[table]]) + 1)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    code, said = reproduce(folder)
    assert code == 1
    assert any(line.startswith(f"FAILED   {table} ") for line in said), said


def test_estimates_with_an_unknown_label_fail_without_a_traceback(package, tmp_path):
    folder = shutil.copytree(package, tmp_path / "changed")
    file = folder / "data/estimates.json"
    file.write_text(
        file.read_text("utf-8").replace('"labels": [', '"labels": ["further", ').replace('"other"', '"odd"', 1)
    )
    code, said = reproduce(folder)
    assert code == 1
    assert any(line.startswith("FAILED   with EdgeDistill: the files do not fit each other") for line in said), said


def test_a_run_without_the_rows_of_its_estimates_says_that_their_table_is_not_computed_again(done, tmp_path):
    run = run_of(done)
    rows = run.folder / "estimates_rows.json"
    kept = rows.read_bytes()
    rows.unlink()
    try:
        folder = unpack(run.replication(tmp_path / "out.zip"), tmp_path / "unpacked")
    finally:
        rows.write_bytes(kept)
    assert reproduce(folder)[0] == 0
    text = (folder / "README.md").read_text("utf-8")
    assert "Not computed again: the table estimates, because the run folder has no estimates_rows.json" in text


@pytest.mark.parametrize(
    ("name", "command"), [("estimates_rows.json", "estimate"), ("learning_curve_codes.json", "review curve")]
)
def test_damaged_rows_of_a_claim_are_named_with_the_command_that_writes_them(done, name, command):
    run = run_of(done)
    file = run.folder / name
    kept = file.read_bytes()
    for text in ("{", "[]", "{}"):
        file.write_text(text)
        try:
            with pytest.raises(RunError, match=f"{name}: is damaged. `edgedistill {command}` writes it again"):
                read_kept(run, name, command)
        finally:
            file.write_bytes(kept)


def test_the_methods_of_such_a_run_have_a_paragraph_for_each_claim(done):
    text = (run_of(done).methods() / "methods.md").read_text("utf-8").replace("\u00a0", " ")
    for heading in ("## Estimates", "## Learning curve"):
        assert heading in text
    assert "with the scores of the int8 and fp32 graphs" in text
    assert "(false alarms)" in text
    assert "The labels of the teachers that were used were combined by majority vote" in text
