"""The report says where the human codes come from, and is written again when that has changed."""

import json
import re

from edgedistill.coding import CodingSummary
from edgedistill.data import read_records
from edgedistill.pipeline import Run, RunFolder
from edgedistill.pipeline.inputs import fingerprint
from edgedistill.pipeline.stages import STAGES
from edgedistill.project import read_project
from edgedistill.report.page import render_page

from ..report.runs import evaluation_of, inputs_of_run, write_run
from .projects import code_all, open_session, write_project


def agreement_section(folder, coding):
    write_run(folder, *evaluation_of())
    page = render_page(inputs_of_run(folder, coding=coding))[1]
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    return words[words.index("Agreement between human coders ") :]


def test_the_report_names_coders_double_coded_and_adjudicated_rows(tmp_path):
    made = CodingSummary({"anna": 60, "ben": 50}, 100, 95, 0, 10, 4, 3, 0, 0, 0.1)
    said = agreement_section(tmp_path, made)
    assert "The human codes of 95 rows were given on the coding page" in said
    assert "anna coded 60 rows, ben coded 50 rows. Two coders coded 10 rows, 4 of them differently" in said
    assert "the labels of 3 rows were decided by adjudication." in said
    assert "the agreement of the coders is unknown" not in said
    assert "coding page" not in agreement_section(tmp_path, None)


def test_the_report_says_that_codes_of_one_coder_have_no_known_agreement(tmp_path):
    said = agreement_section(tmp_path, CodingSummary({"anna": 60}, 60, 60, 0, 0, 0, 0, 0, 0, 0.2))
    assert "Without rows that two coders coded, the agreement of the coders is unknown." in said


def test_the_report_is_written_again_after_more_coding_and_no_other_stage_runs_again(tmp_path):
    file = write_project(tmp_path, 40)

    def fingerprints():
        project = read_project(file)
        run = Run(project, read_records(project), RunFolder(project.run_folder))
        return {stage.name: fingerprint(run, stage.name, stage.inputs(project), {}) for stage in STAGES}

    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda ident: "process" if int(ident[1:]) % 2 else "outcome")
    before = fingerprints()
    with open_session(file) as session:
        session.memo("anna", "process", "Luck is no effort.")
    after = fingerprints()
    assert {name for name in before if before[name] != after[name]} == {"report"}
    assert json.loads((tmp_path / "coding/human.csv/journal.jsonl").read_text().splitlines()[-1])["event"] == "memo"
