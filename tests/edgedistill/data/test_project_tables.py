"""The data files of a project are read as its section `data` says, and what is assumed is noted."""

import json
import unicodedata

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data import read_records
from edgedistill.data.given_tables import fold_code
from edgedistill.data.reading import read_all_responses, read_population
from edgedistill.errors import DataError, ProjectFileError
from edgedistill.project import read_project
from edgedistill.teacher.existing_labels import ExistingLabels

QUESTION = "2. Explain why ice floats. "
COLUMNS = {"response": QUESTION, "label": "Code (AM)"}


def rows_of(count=20, labels=("process", "outcome")):
    return [(f"learner {n}", f"text number {n}", labels[n % len(labels)]) for n in range(count)]


@pytest.fixture
def project(tmp_path):
    """Write a table and a project that reads it, and return the project."""

    def write(
        data, rows=None, header=("Name", QUESTION, "Code (AM)"), name="in.xlsx", labels=("process", "outcome"), **more
    ):
        book = openpyxl.Workbook()
        for row in [header, *(rows_of() if rows is None else rows)]:
            book.active.append(row)
        book.save(tmp_path / name)
        task = {"labels": [{"name": label} for label in labels], **more.pop("task", {})}
        file = {"name": "t", "task": task, "data": {"human": name, "ids": "row_numbers", **data}, **more}
        (tmp_path / "project.yaml").write_text(json.dumps(file))
        return read_project(tmp_path / "project.yaml")

    return write


def everything(records):
    splits = records.splits
    return sorted([*splits.train, *splits.validation, *splits.test], key=lambda row: row.response.row)


def test_the_columns_of_the_file_are_those_of_the_project(project):
    records = read_records(project({"columns": COLUMNS}))
    first = everything(records)[0]
    assert (first.response.id, first.response.text, first.label) == ("in:2", "text number 0", "process")
    assert records.notes[:2] == (
        f"in.xlsx: response is the column {QUESTION!r}, label is the column 'Code (AM)'",
        "in.xlsx: the id of a row is its number, such as in:2",
    )


@pytest.mark.parametrize("name", ["2. Explain\u2026", "2. explain why ICE floats.", "2. Explain why ..."])
def test_a_name_may_be_shortened_or_spelled_otherwise(project, name):
    assert len(everything(read_records(project({"columns": {**COLUMNS, "response": name}})))) == 20


def test_a_column_may_take_the_name_of_another_key(project):
    header = ("label", "question", "response")
    columns = {"question": "label", "response": "question", "label": "response"}
    records = read_records(project({"columns": columns}, header=header, task={"inputs": ["question", "response"]}))
    assert dict(everything(records)[0].response.inputs) == {"question": "learner 0", "response": "text number 0"}


def test_a_column_can_be_mapped_and_named_as_a_coder(project):
    rows = [(*row, row[2]) for row in rows_of()]
    header = ("Name", QUESTION, "Code (AM)", "Code (BK)")
    coders = ["Code (AM)", "Code (BK)"]
    records = read_records(project({"columns": COLUMNS}, rows, header, evaluation={"coders": coders}))
    assert dict(everything(records)[0].codes) == dict.fromkeys(coders, "process")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {**COLUMNS, "response": "2. Explain why ice swims."},
            "among its 3 columns. Did you mean B ('2. Explain why ice floats.')?",
        ),
        (
            {**COLUMNS, "label": "Code (BK)"},
            "data.columns.label: there is no column 'Code (BK)' among its 3 columns. Did",
        ),
        (
            {**COLUMNS, "question": "2. Explain\u2026"},
            "data.columns maps the column '2. Explain why ice floats. ' twice",
        ),
    ],
)
def test_a_column_that_is_not_there_is_an_error_with_the_closest(project, columns, message):
    with pytest.raises(DataError) as raised:
        read_records(project({"columns": columns}))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"columns": {"response": "A", "label": "a "}},
            "columns: the column 'a' is mapped twice, to response and to",
        ),
        (
            {"columns": {"answer": "A"}},
            "unknown key columns.answer; keys here: id, question, reference_answer, rubric, resp",
        ),
        ({"columns": {"id": "A"}}, "columns.id and ids: row_numbers exclude each other"),
        ({"columns": {"response": ""}}, "data.columns.response"),
        ({"header_row": 3, "first_row": 3}, "the first row, 3, is not below the header row, 3"),
    ],
)
def test_settings_that_cannot_be_used_are_errors_of_the_project_file(project, data, message):
    with pytest.raises(ProjectFileError) as raised:
        project(data)
    assert message in str(raised.value)


def test_other_files_may_have_the_columns_of_the_keys(project, tmp_path):
    (tmp_path / "u.csv").write_text(f'id,response\nu1,new\nu2,"{QUESTION}"\n')
    made = project({"columns": COLUMNS, "unlabelled": "u.csv"})
    records = read_records(made)
    assert [(row.id, row.text) for row in records.unlabelled] == [("u1", "new"), ("u2", QUESTION)]
    assert len(read_all_responses(made, made.data.unlabelled)) == 2
    assert read_population(made, made.data.unlabelled, records.splits).read == 2


def test_other_files_may_have_the_columns_of_the_table(project, tmp_path):
    (tmp_path / "u.csv").write_bytes(f"{QUESTION};x\ncaf\u00e9;1\nlater;2\n".encode("cp1252"))
    records = read_records(project({"columns": COLUMNS, "unlabelled": "u.csv"}))
    assert [(row.id, row.text) for row in records.unlabelled] == [("u:2", "caf\u00e9"), ("u:3", "later")]
    assert "u.csv is read as Windows-1252, with fields separated by semicolons" in records.notes


def test_the_uncoded_rows_of_the_table_itself_can_be_those_to_label(project):
    rows = [*rows_of(), ("learner 90", "quite another answer", None)]
    records = read_records(project({"columns": COLUMNS, "unlabelled": "in.xlsx"}, rows))
    assert [row.id for row in records.unlabelled] == ["in:22"]


def with_sheets(path, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        page = book.create_sheet(title)
        for row in [("Name", QUESTION, "Code (AM)"), *rows]:
            page.append(row)
    book.save(path)


def test_a_sheet_for_each_file_can_be_one_of_the_same_workbook(project, tmp_path):
    sheet = {"human": "Coded", "unlabelled": "Rest"}
    read = project({"columns": COLUMNS, "sheet": sheet, "unlabelled": "in.xlsx"})
    rest = [(f"learner {n}", f"another text number {n}", None) for n in range(5)]
    with_sheets(tmp_path / "in.xlsx", Rest=rest, Coded=rows_of())
    records = read_records(read)
    assert len(everything(records)) == 20
    assert [row.id for row in records.unlabelled] == [f"in/Rest:{n}" for n in range(2, 7)]


def test_a_sheet_that_is_not_there_is_an_error_with_their_names(project, tmp_path):
    read = project({"columns": COLUMNS, "sheet": "Coded"})
    with_sheets(tmp_path / "in.xlsx", Rest=[], Code=rows_of())
    with pytest.raises(DataError, match=r"in\.xlsx: there is no sheet 'Coded'\. The sheets are 'Rest', 'Code'"):
        read_records(read)


def test_coders_whose_formulas_were_never_computed_are_an_error(project):
    rows = [(*row, "=C2") for row in rows_of()]
    header = ("Name", QUESTION, "Code (AM)", "Code (BK)")
    read = project({"columns": COLUMNS}, rows, header, evaluation={"coders": ["Code (BK)"]})
    with pytest.raises(DataError, match=r"the cells D2, D3, D4, D5, D6 and 15 more are formulas that no program"):
        read_records(read)


def test_dates_among_the_codes_say_where_they_come_from(project):
    rows = [*rows_of(), ("learner 20", "text number 20", "2026-02-01")]
    with pytest.raises(DataError, match=r"row 22: unknown label '2026-02-01'.*Spreadsheets turn entries such as 1-2"):
        read_records(project({"columns": COLUMNS}, rows))


def test_reviewed_codes_have_the_columns_of_the_keys(project, tmp_path):
    (tmp_path / "reviewed.csv").write_text("id,response,label,purpose\nin:90,new text,process,train\n")
    records = read_records(project({"columns": COLUMNS, "reviewed": "reviewed.csv", "header_row": 1}))
    assert records.splits.reviewed == ("in:90",)


def test_labels_of_the_same_table_have_its_ids(project):
    rows = [(*row, row[2]) for row in rows_of()]
    made = project(
        {"columns": COLUMNS},
        rows,
        ("Name", QUESTION, "Code (AM)", "gpt"),
        teacher={"labels": "in.xlsx", "label_column": "gpt"},
    )
    teacher = ExistingLabels.from_project(made, made.panel[0])
    assert teacher.table.labels["in:2"].label.label == "process"


def test_html_is_removed_where_the_project_says_so(project):
    rows = [(name, f"<p>{text}</p>", label) for name, text, label in rows_of()]
    kept = read_records(project({"columns": COLUMNS}, rows))
    assert everything(kept)[0].response.text == "<p>text number 0</p>"
    assert (
        "in.xlsx: 20 of 20 rows have HTML, such as <p> or &nbsp;, which is read as text; data.html: remove reads what "
        "it shows"
    ) in kept.notes
    removed = read_records(project({"columns": COLUMNS, "html": "remove"}, rows))
    assert everything(removed)[0].response.text == "text number 0"
    assert "in.xlsx: 20 of 20 rows have HTML, such as <p> or &nbsp;, which was removed" in removed.notes


def test_spellings_of_a_label_are_one_label_where_the_project_says_so(project):
    labels = ("r\u00e9flexion", "1")
    spelled = (unicodedata.normalize("NFD", "r\u00e9flexion"), "1.0", " R\u00c9FLEXION", "1")
    made = project({"columns": COLUMNS, "label_spelling": "folded"}, rows_of(20, spelled), labels=labels)
    records = read_records(made)
    assert {row.label for row in everything(records)} == set(labels)
    assert (
        "in.xlsx: labels in another spelling are read as those of the codebook: 'r\u00e9flexion' in another Unicode "
        "form (5), '1.0' as '1' (5), 'R\u00c9FLEXION' as 'r\u00e9flexion' (5)"
    ) in records.notes
    with pytest.raises(DataError, match=r"is another spelling of|unknown label"):
        read_records(project({"columns": COLUMNS}, rows_of(20, spelled), labels=labels))


def test_two_labels_of_the_codebook_stay_two(project):
    labels = ("1", "1.0")
    records = read_records(
        project({"columns": COLUMNS, "label_spelling": "folded"}, rows_of(20, labels), labels=labels)
    )
    assert {row.label for row in everything(records)} == set(labels)


def test_the_labels_of_a_multilabel_cell_are_folded_one_by_one(project):
    made = project(
        {"columns": COLUMNS, "label_spelling": "folded"},
        rows_of(20, ("Effort; PLAN", "none", "plan", "effort")),
        labels=("effort", "plan"),
        task={"kind": "multilabel"},
    )
    assert {row.label for row in everything(read_records(made))} == {"effort;plan", "none", "plan", "effort"}


LABELS = st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=10)


@given(LABELS)
def test_case_spaces_and_unicode_forms_fold(label):
    for spelled in (f"  {label} ", unicodedata.normalize("NFD", label), unicodedata.normalize("NFC", label)):
        assert fold_code(spelled) == fold_code(label)


@given(st.integers(-99, 99), st.integers(1, 3))
def test_whole_numbers_fold_and_others_do_not(number, zeros):
    assert fold_code(f"{number}.{'0' * zeros}") == fold_code(f"{number},{'0' * zeros}") == str(number)
    assert fold_code(f"{number}.1") != fold_code(f"{number}.10")
