"""`edgedistill review`: sheets out and codes back, as a user runs it."""

import csv
import json
import shutil

import pytest

from edgedistill.pipeline import run_stages

from ...e2e.lessons import command
from ..pipeline.tiny import run_of, write_tiny


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project with a bundle that sends some responses to people, and its sheet."""
    file = write_tiny(tmp_path_factory.mktemp("tiny"))
    run_stages(run_of(file))
    message = json.loads(command("edgedistill", "review", "sheet", file, file.parent / "sheet.csv", "--json").stdout)
    return file, message


@pytest.fixture
def copy(done, tmp_path):
    """A copy of the project that a test may change."""
    return shutil.copytree(done[0].parent, tmp_path / "copy") / done[0].name


def read(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write(file, rows):
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_the_sheet_holds_what_the_rule_sends_to_people_and_every_response_is_accounted_for(done):
    file, message = done
    rows = read(file.parent / "sheet.csv")
    assert list(rows[0]) == ["id", "response", "human_code"]
    assert len(rows) == message["to_people"]["below threshold"] > 0
    assert message["accepted"] + len(rows) == message["responses"]
    assert message["responses"] + sum(message["set_aside"].values()) == 60


def test_a_sheet_that_is_there_is_not_written_over(done):
    file, _ = done
    refused = command("edgedistill", "review", "sheet", file, file.parent / "sheet.csv", expect=2)
    assert "already exists. Choose another name: the file may contain codes." in refused.stderr


def test_every_bad_row_is_named_and_nothing_is_merged(copy):
    rows = read(copy.parent / "sheet.csv")
    for row in rows:
        row["human_code"] = "process"
    rows[0]["human_code"], rows[1]["id"], rows[2]["human_code"], rows[4]["id"] = "Process", "nobody", "", rows[3]["id"]
    write(copy.parent / "bad.csv", rows)
    refused = command("edgedistill", "review", "merge", copy, copy.parent / "bad.csv", expect=2)
    for message in (
        f"row 2, id '{rows[0]['id']}': unknown label 'Process'; labels are process, outcome, other",
        "row 3, id 'nobody': unknown id: no response for review has it",
        f"row 6, id '{rows[3]['id']}': the id is also in row 5",
        f"id '{rows[2]['id']}': no code",
    ):
        assert message in refused.stdout
    assert "bad.csv: 3 rows are invalid and 1 have no code; nothing was imported." in refused.stderr
    assert not (copy.parent / "reviewed.csv").exists()


def test_codes_become_train_rows_and_are_never_overwritten(copy):
    before = run_of(copy).records.splits
    rows = read(copy.parent / "sheet.csv")
    rows[0]["human_code"] = "outcome"
    write(copy.parent / "part.csv", rows)
    merge = ("edgedistill", "review", "merge", copy, copy.parent / "part.csv", "--skip-uncoded", "--json")
    first, second = (json.loads(command(*merge).stdout) for _ in range(2))
    assert (first["added"], first["known"], len(first["uncoded"])) == (1, 0, len(rows) - 1)
    assert (second["added"], second["known"]) == (0, 1)
    after = run_of(copy).records.splits
    assert [(row.response.id, row.label) for row in after.train][len(before.train) :] == [(rows[0]["id"], "outcome")]
    assert (after.validation, after.test) == (before.validation, before.test)
    rows[0]["human_code"] = "other"
    write(copy.parent / "part.csv", rows[:1])
    refused = command("edgedistill", "review", "merge", copy, copy.parent / "part.csv", expect=2)
    assert "the sheet has the code 'other', but the id already has the human code 'outcome'" in refused.stdout
    assert [row["label"] for row in read(copy.parent / "reviewed.csv")] == ["outcome"]


def test_a_project_without_a_file_for_the_codes_gets_the_name_of_the_missing_key(copy):
    copy.write_text(copy.read_text().replace(", reviewed: reviewed.csv", ""))
    refused = command("edgedistill", "review", "merge", copy, copy.parent / "sheet.csv", expect=2)
    assert "the key data.reviewed is missing" in refused.stderr
    assert "Add `reviewed: reviewed.csv` to the section data." in refused.stderr


def test_other_responses_can_be_reviewed_and_coded_ones_are_not(copy):
    coded = run_of(copy).records.splits.test.responses[0]
    lines = [["id", "response"], [coded.id, coded.text], ["n1", "so so the a is"], ["n2", "look at it very now"]]
    with (copy.parent / "more.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    sheet = ("edgedistill", "review", "sheet", copy, copy.parent / "two.csv", "--show-suggestions")
    shown = command(*sheet, "--responses", copy.parent / "more.csv").stdout
    assert "of 2 responses go to people" in shown
    assert "set aside: 1 duplicates a test row" in shown
    rows = read(copy.parent / "two.csv")
    assert {row["suggested_label"] for row in rows} <= {"process", "outcome", "other"}
    assert coded.id not in {row["id"] for row in rows}


def test_without_a_bundle_there_is_no_sheet(copy):
    shutil.rmtree(copy.parent / "runs/tiny/bundle")
    refused = command("edgedistill", "review", "sheet", copy, copy.parent / "new.csv", expect=2)
    assert "there is no bundle" in refused.stderr
