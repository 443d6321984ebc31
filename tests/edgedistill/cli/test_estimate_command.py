"""`edgedistill estimate`, without and with a project, and its section of the report."""

import csv
import json

import pytest

from edgedistill.cli.commands import main
from edgedistill.cli.estimate import FILES
from edgedistill.errors import RunError
from edgedistill.report.page import render_page

from ..estimates.populations import responses
from ..report.runs import evaluation_of, inputs_of_run, write_run

PROJECT = """\
name: praise
task:
  kind: ordinal
  labels: [{name: low}, {name: middle}, {name: high}]
data: {human: human.csv, group_by: learner}
"""


@pytest.fixture
def tables(tmp_path):
    machine, human, _ = responses(coded=200)
    machine.to_csv(tmp_path / "graded.csv", index=False)
    human.to_csv(tmp_path / "coded.csv", index=False)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line; return the exit code, standard output and standard error."""

    def command(*words):
        monkeypatch.setattr("sys.argv", ["edgedistill", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return command


def given(folder, *more):
    return ["estimate", "--machine", folder / "graded.csv", "--human", folder / "coded.csv", *more]


def test_without_a_project_the_table_is_printed_and_files_only_on_request(tables, run):
    code, out, _ = run(*given(tables))
    assert code == 0
    assert "share of high" in out
    assert "* the method to report: PPI++" in out
    assert "wrote" not in out
    code, out, _ = run(
        *given(tables, "--by", "condition", "--scores", "low=0,middle=1,high=2", "--out", tables / "out")
    )
    assert code == 0
    assert "mean score" in out
    assert {file.name for file in (tables / "out").iterdir()} == {*FILES}


def test_json_has_the_figures_and_nothing_else_is_printed(tables, run):
    code, out, _ = run(*given(tables, "--formula", "high ~ C(condition) + words", "--model", "logistic", "--json"))
    result = json.loads(out)
    assert code == 0
    assert (result["model"], result["human_codes"], result["files"]) == ("logistic", 200, [])
    assert {each["estimand"] for each in result["estimates"]} == {"Intercept", "C(condition)[T.treated]", "words"}


def test_one_table_with_both_codes_and_other_names(tables, run):
    machine, human, _ = responses(coded=200)
    both = machine.merge(human.rename(columns={"label": "person"}), how="left", on="id")
    both.rename(columns={"label": "machine", "id": "key"}).to_csv(tables / "both.csv", index=False)
    words = ("--column", "machine=machine", "--column", "human=person", "--column", "id=key", "--json")
    one = json.loads(run("estimate", "--machine", tables / "both.csv", *words)[1])
    two = json.loads(run(*given(tables, "--json"))[1])
    assert one["estimates"] == two["estimates"]


def test_multilabel_codes_without_a_project(tables, run):
    code, out, _ = run(*given(tables, "--multilabel", "--labels", "low,middle,high", "--json"))
    assert code == 0
    assert "share of middle" in {each["estimand"] for each in json.loads(out)["estimates"]}
    code, _, err = run(*given(tables, "--multilabel"))
    assert code == 2
    assert "--multilabel needs --labels" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scores", "low"), "--scores: 'low' is not LABEL=NUMBER"),
        (("--scores", "low=x"), "--scores: 'low=x' is not LABEL=NUMBER"),
        (("--labels", "low,high"), "unknown labels: 'middle' (row"),
        (("--by", "school"), "there is no column 'school'"),
        (("--model", "probit"), "unknown model 'probit'"),
        (("--clusters", "class"), "there is no column 'class'"),
        (("--human", "absent.csv"), "the file does not exist"),
    ],
)
def test_what_cannot_be_estimated_is_one_line_and_exit_code_2(tables, run, words, message):
    code, _, err = run(*given(tables, *words))
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def project(tables):
    """A project whose student was trained on rows r0 to r59, of which some are in the table of machine codes."""
    (tables / "project.yaml").write_text(PROJECT, "utf-8")
    human = responses(coded=200)[2]
    with (tables / "human.csv").open("w", encoding="utf-8", newline="") as stream:
        write = csv.writer(stream)
        write.writerow(["id", "response", "label", "learner", "split"])
        for row in range(90):
            split = "train" if row < 60 else "validation" if row < 75 else "test"
            write.writerow([f"r{row}", f"a text of its own, number {row}", human[row], f"s{split}{row}", split])
    return tables


def test_with_a_project_labels_learners_and_training_rows_are_known(project, run):
    code, out, _ = run("estimate", project / "project.yaml", *given(project)[1:], "--json")
    assert code == 0
    result = json.loads(out)
    assert result["primary"] == "DSL"
    corrects = [int(name[1:]) for name in responses(coded=200)[1]["id"] if int(name[1:]) >= 75]
    assert result["clusters"] == len({row % 60 for row in corrects})
    assert "mean score" in {each["estimand"] for each in result["estimates"]}
    assert result["human_codes"] == len(corrects)
    trained = 200 - len(corrects)
    assert any(note.startswith(f"{trained} human-coded rows trained or selected") for note in result["notes"])
    assert [name.rsplit("/", 1)[1] for name in result["files"]] == [*FILES]
    assert (project / "runs" / "praise" / "estimates.json").exists()


def test_rows_of_the_runs_training_set_count_as_trained_and_later_ones_do_not(project, run):
    folder = project / "runs" / "praise"
    folder.mkdir(parents=True)
    (folder / "mixture.csv").write_text("id,label,source\nr0,low,human\nr1,low,teacher\n", "utf-8")
    ids = {int(name[1:]) for name in responses(coded=200)[1]["id"]}
    code, out, _ = run("estimate", project / "project.yaml", *given(project)[1:], "--json")
    assert code == 0
    assert json.loads(out)["human_codes"] == 200 - len(ids & {0, *range(60, 75)})


def test_validation_rows_that_came_after_the_training_correct_the_codes_of_its_student(project, run):
    folder = project / "runs" / "praise"
    folder.mkdir(parents=True)
    (folder / "mixture.csv").write_text("id,label,source\nr0,low,human\n", "utf-8")
    (folder / "run.json").write_text(json.dumps({"stages": {"train": {"selected_by": ["r60", "r61"]}}}), "utf-8")
    ids = {int(name[1:]) for name in responses(coded=200)[1]["id"]}
    code, out, _ = run("estimate", project / "project.yaml", *given(project)[1:], "--json")
    assert code == 0
    assert json.loads(out)["human_codes"] == 200 - len(ids & {0, 60, 61})


def test_labels_of_a_project_cannot_be_named_again(project, run):
    code, _, err = run("estimate", project / "project.yaml", *given(project)[1:], "--labels", "low,high")
    assert code == 2
    assert "the labels are those of the project" in err


def test_the_report_shows_the_estimates_of_the_run_folder(tables, run):
    run(*given(tables, "--out", tables / "out"))
    folder = write_run(tables / "run", *evaluation_of())
    assert "Estimates corrected by human codes" not in render_page(inputs_of_run(folder))[1]
    (folder / "estimates.json").write_bytes((tables / "out" / "estimates.json").read_bytes())
    page = render_page(inputs_of_run(folder))[1]
    assert "Estimates corrected by human codes" in page
    assert "share of high" in page
    assert "PPI++ *" in page


def test_damaged_or_newer_estimates_are_an_error_of_the_report(tmp_path):
    folder = write_run(tmp_path / "run", *evaluation_of())
    (folder / "estimates.json").write_text("{}", "utf-8")
    with pytest.raises(RunError, match=r"estimates\.json"):
        inputs_of_run(folder)
    newer = {"rows": 1, "human_codes": 1, "clusters": None, "primary": "DSL", "estimates": [], "schema_version": 99}
    (folder / "estimates.json").write_text(json.dumps(newer), "utf-8")
    with pytest.raises(RunError, match="schema version 99"):
        inputs_of_run(folder)
