"""A project for a table is written so that it can be run, and nothing is overwritten."""

import csv
import json

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgedistill as ed
from edgedistill.data import read_records
from edgedistill.errors import ArgumentError, DataError, ProjectFileError
from edgedistill.new_project import NewProjectOptions, project_from_table
from edgedistill.new_project.writing import _quoted
from edgedistill.project import read_project
from edgedistill.project.reading import read_yaml
from edgedistill_serve.grading.header_rows import HeaderRows

from ... import processes
from ...odd_tables import book_of

QUESTION = "2. Explain why ice floats. "
HEADER = ("Timestamp", "Email Address", QUESTION, "Code (AM)", "Code (BK)")


def answers(count=40, codes=("Good", "poor ")):
    return [
        (
            f"2026/11/02 8:{n:02}:00",
            f"s{n}@school.example",
            f"answer {n} is {'because ' * (n % 4)}so",
            codes[n % len(codes)],
            ("Good", "poor")[n % 3 == 1],
        )
        for n in range(count)
    ]


@pytest.fixture
def forms(tmp_path, monkeypatch):
    """A sheet as Google Forms exports it, with codes that people typed, in the working folder."""
    book = openpyxl.Workbook()
    for row in [HEADER, *answers()]:
        book.active.append(row)
    book.save(tmp_path / "Ice floats.xlsx")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "Ice floats.xlsx"


def test_a_forms_export_becomes_a_project_that_can_be_read(forms, tmp_path):
    ended = processes.run("edgedistill", "init", "--from", forms.name, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for said in (
        "response          2. Explain why ice floats.",
        "label             Code (AM)",
        "id                row numbers",
        "2 labels (nominal): Good 20, poor 20",
        "Ice floats.xlsx is an export of Google Forms",
        "40 rows read = 24 train, 8 validation, 8 test",
        "wrote Ice-floats/project.yaml",
        "edgedistill run Ice-floats/project.yaml",
    ):
        assert said in ended.stdout
    project = read_project(tmp_path / "Ice-floats/project.yaml")
    assert project.data.human.as_posix() == "../Ice floats.xlsx"
    assert dict(project.data.columns) == {"response": QUESTION, "label": "Code (AM)"}
    assert project.task.task.names == ("Good", "poor")
    assert (
        project.task.instructions
        == "A learner was asked: 2. Explain why ice floats. Code what the learner's answer shows."
    )
    assert project.evaluation.coders == ("Code (BK)",)
    assert len(read_records(project).splits.train) == 24


def test_a_project_that_exists_is_not_overwritten(forms, tmp_path):
    project_from_table(forms, tmp_path / "ice", NewProjectOptions())
    before = (tmp_path / "ice/project.yaml").read_bytes()
    with pytest.raises(ProjectFileError, match=r"already exists\. Choose another name"):
        project_from_table(forms, tmp_path / "ice", NewProjectOptions())
    assert (tmp_path / "ice/project.yaml").read_bytes() == before


def test_the_python_api_does_the_same(forms, tmp_path):
    notes = []
    project = ed.Project.from_file(forms, tmp_path / "ice", columns={"label": "Code (BK)"}, on_message=notes.append)
    assert project.data.columns["label"] == "Code (BK)"
    assert any("row numbers are the ids" in note for note in notes)


def test_json_output_has_what_was_assumed(forms, tmp_path):
    ended = processes.run("edgedistill", "init", "ice", "--from", forms.name, "--json", cwd=tmp_path)
    found = json.loads(ended.stdout)
    assert found["columns"] == {"response": QUESTION, "label": "Code (AM)"}
    assert (found["tool"], found["labels"], found["problem"]) == ("Google Forms", {"Good": 20, "poor": 20}, None)


def test_a_table_without_codes_becomes_a_table_for_the_coding_page(tmp_path):
    table = tmp_path / "r.csv"
    table.write_text("Zeitstempel;Warum?\n" + "".join(f"x;<p>weil es so ist {n}</p>\n" for n in range(9)), "utf-8")
    new = project_from_table(table, tmp_path / "ice", NewProjectOptions())
    assert new.problem == "no row is coded yet"
    with (tmp_path / "ice/human.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"id": "r:2", "response": "weil es so ist 0", "label": ""}
    assert read_project(new.file).task.task.names == ("first_label", "second_label")


def test_a_json_export_of_label_studio_has_a_row_per_task(tmp_path):
    def annotation(who, label, **more):
        result = [{"from_name": "code", "type": "choices", "value": {"choices": [label]}}]
        return {
            "completed_by": {"email": f"{who}@school.example"},
            "result": result,
            "updated_at": "2026-11-02T08:00:00Z",
            **more,
        }

    tasks = [
        {
            "id": n,
            "data": {"text": f"it floats because of number {n}"},
            "annotations": [
                annotation("a", ("good", "poor")[n % 2]),
                annotation("b", ("good", "poor")[(n + (n == 7)) % 2]),
                annotation("c", "poor", was_cancelled=True),
            ],
        }
        for n in range(30)
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    new = project_from_table(tmp_path / "export.json", tmp_path / "ice", NewProjectOptions())
    assert new.problem == ""
    assert new.notes[:2] == (
        "export.json is an export of Label Studio: 30 tasks, codes of 2 annotators (code)",
        "1 tasks whose annotators disagree have no label; adjudicate them by `edgedistill code`",
    )
    project = read_project(new.file)
    assert project.evaluation.coders == ("code of a@school.example", "code of b@school.example")
    assert len(read_records(project).set_aside) == 1


def test_a_csv_export_of_label_studio_has_a_row_per_task(tmp_path):
    header = "text,id,sentiment,annotator,annotation_id,created_at,updated_at,lead_time\n"
    rows = [
        f"it floats because of number {n},{n},{('good', 'poor')[n % 2]},{who},{n}{who},x,2026-11-02,1\n"
        for n in range(20)
        for who in (1, 2)
    ]
    (tmp_path / "export.csv").write_text(header + "".join(rows))
    new = project_from_table(tmp_path / "export.csv", tmp_path / "ice", NewProjectOptions())
    assert (new.problem, len(read_records(read_project(new.file)).splits.train)) == ("", 12)


def test_names_in_a_later_row_are_found_and_that_is_said(tmp_path):
    book = openpyxl.Workbook()
    for row in [
        ("Class 7b", None, None),
        ("Name", "Answer", "Code"),
        *[(f"n{n}", f"an answer {n}", "ab"[n % 2]) for n in range(20)],
    ]:
        book.active.append(row)
    book.active.merge_cells("A1:C1")
    book.save(tmp_path / "in.xlsx")
    new = project_from_table(tmp_path / "in.xlsx", tmp_path / "ice", NewProjectOptions())
    assert new.problem == ""
    assert "the names of the columns are in row 2; what is above is not read" in new.notes
    assert read_project(new.file).data.header_row == 2


def test_the_sheet_with_the_most_responses_is_proposed_and_written(tmp_path):
    few, many = [HEADER, *answers(12)], [HEADER, *answers()]
    table = book_of(tmp_path / "in.xlsx", Instructions=[("Read this",)], Trial=few, Answers=many)
    new = project_from_table(table, tmp_path / "ice", NewProjectOptions())
    assert new.notes[0] == (
        "in.xlsx: the sheet 'Answers' (40 responses) is read, not 'Instructions' (no responses), 'Trial' (12 "
        "responses); 'Trial' has the same columns: copy all rows into one sheet; --sheet takes another"
    )
    project = read_project(new.file)
    assert (project.data.sheet, len(read_records(project).splits.train)) == ("Answers", 24)
    other = project_from_table(table, tmp_path / "trial", NewProjectOptions(sheet="trial"))
    assert read_records(read_project(other.file)).row_counts[0].read == 12


def test_of_several_sheets_one_with_codes_is_preferred(tmp_path):
    uncoded = [HEADER[:3], *(row[:3] for row in answers(60))]
    table = book_of(tmp_path / "in.xlsx", All=uncoded, Coded=[HEADER, *answers()])
    assert read_project(project_from_table(table, tmp_path / "ice", NewProjectOptions()).file).data.sheet == "Coded"


def test_if_no_sheet_has_responses_the_message_names_one(tmp_path):
    table = book_of(tmp_path / "in.xlsx", A=[("n", "m"), (1, 2), (2, 3)], B=[("n",)])
    with pytest.raises(DataError, match=r"in\.xlsx, sheet 'A': no column looks like responses"):
        project_from_table(table, tmp_path / "ice", NewProjectOptions())


def test_a_second_header_row_is_written_into_the_project_file(tmp_path):
    rows = [("Response", "Code"), ("(open text)", "(AM)"), *(row[2:4] for row in answers())]
    new = project_from_table(book_of(tmp_path / "in.xlsx", A=rows), tmp_path / "ice", NewProjectOptions())
    assert dict(new.proposal.labels.counts) == {"Good": 20, "poor": 20}
    assert any("row 2 ('(open text)', '(AM)') looks like a second header row" in note for note in new.notes)
    assert (read_project(new.file).data.first_row, len(new.records.splits.train)) == (3, 24)


def test_a_header_row_with_a_cell_that_is_merged_with_the_one_above_is_refused_before_anything_is_written(tmp_path):
    table = book_of(tmp_path / "in.xlsx", A=[("Response", "Codes"), (None, "Code"), *(row[2:4] for row in answers())])
    book = openpyxl.load_workbook(table)
    book.active.merge_cells("A1:A2")
    book.save(table)
    with pytest.raises(DataError, match=r"in\.xlsx, row 2: the column A has no name\. Write a name into the cell A2"):
        project_from_table(table, tmp_path / "ice", NewProjectOptions(header=HeaderRows(2)))
    assert not (tmp_path / "ice").exists()
    new = project_from_table(table, tmp_path / "ice", NewProjectOptions())
    assert (new.problem, new.header.first_row) == ("", 3)


def test_codes_that_are_formulas_are_not_taken_for_uncoded(tmp_path):
    rows = [HEADER[2:4], *((row[2], f"=E{n}") for n, row in enumerate(answers(), start=2))]
    with pytest.raises(DataError, match=r"the cells B2, B3, B4, B5, B6 and 35 more are formulas that no program has"):
        project_from_table(book_of(tmp_path / "in.xlsx", A=rows), tmp_path / "ice", NewProjectOptions())


def test_a_reason_why_it_cannot_run_is_said_at_once(tmp_path):
    (tmp_path / "in.csv").write_text(
        "id,answer,code\n" + "".join(f"{n},the same answer,{'ab'[n % 2]}\n" for n in range(9))
    )
    new = project_from_table(tmp_path / "in.csv", tmp_path / "ice", NewProjectOptions(columns={"response": "answer"}))
    assert "all rows have the same text" in new.problem


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"columns": {"answer": "x"}}, ArgumentError, "'answer' is not known"),
        ({"columns": {"response": "Nothing"}}, DataError, "--column response: there is no column 'Nothing'"),
    ],
)
def test_an_option_that_cannot_be_used_is_an_error_and_nothing_is_written(forms, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        project_from_table(forms, tmp_path / "ice", NewProjectOptions(**options))
    assert not (tmp_path / "ice").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--column", "label=x"],
            "--column, --header-row, --kind and the like need a table. Name it: --from FILE",
        ),
        ([], "the name of the new folder is missing. Example: edgedistill init praise"),
        (["--from", "in.csv", "--kind", "interval"], "--kind: 'interval' is not a kind of task"),
        (["--from", "in.csv", "--column", "label"], "--column: 'label' is not KEY=COLUMN"),
        (["--from", "in.csv"], "the file does not exist"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, arguments, message):
    ended = processes.run("edgedistill", "init", *arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_name_of_a_column_is_read_back_from_the_project_file(tmp_path_factory, name):
    file = tmp_path_factory.mktemp("yaml") / "a.yaml"
    file.write_text(f"name: {_quoted(name)}\n", "utf-8", newline="")
    assert read_yaml(file, "")["name"] == name


@pytest.mark.parametrize("tasks", [{"annotations": 5}, [{"data": {"text": "a"}, "annotations": [{"result": 3}]}], [{}]])
def test_json_of_another_kind_is_one_message(tasks, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(tasks))
    with pytest.raises(DataError):
        project_from_table(tmp_path / "results.json", tmp_path / "ice", NewProjectOptions())
