"""Tables as people have them are read, and what is assumed is said; what cannot be read is an error with the fix."""

import datetime as dt
import struct

import openpyxl
import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.detected_table import first_rows, read_detected
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.grading.header_rows import HeaderRows
from edgedistill_serve.grading.sources import Reading
from edgedistill_serve.grading.spreadsheets import cell_text
from edgedistill_serve.grading.table_reader import read_rows

from ...growth import FACTOR, assert_linear, cpu_seconds
from ...odd_tables import book_of

WIDE = (12_000 // FACTOR, 12_000)
MIDNIGHT = dt.datetime(2026, 11, 2)  # noqa: DTZ001  # cells have no time zone
THREE = dt.datetime(2026, 1, 2, 3)  # noqa: DTZ001
HEADER = ("id", "response", "label")
ROWS = (("r1", "you worked hard", "process"), ("r2", "great job", "outcome"))
QUALTRICS = (
    ("StartDate", "ResponseId", "Q1", "Q2"),
    ("Start Date", "Response ID", "Why does ice float?", "Code"),
    (
        '{"ImportId":"startDate","timeZone":"Z"}',
        '{"ImportId":"_recordId"}',
        '{"ImportId":"QID1_TEXT"}',
        '{"ImportId":"QID2"}',
    ),
    ("2026-11-02", "R_1", "because it is lighter", "1"),
)


def as_csv(*rows, delimiter=",", encoding="utf-8"):
    quoted = ((f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in map(str, row)) for row in rows)
    return "".join(delimiter.join(row) + "\r\n" for row in quoted).encode(encoding)


@pytest.fixture
def sheet(tmp_path):
    """Write a workbook of rows; `more` changes its sheet before it is saved."""

    def write(*rows, more=lambda _: None):
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        more(book.active)
        book.save(tmp_path / "in.xlsx")
        return tmp_path / "in.xlsx"

    return write


@pytest.fixture
def text(tmp_path):
    def write(content, name="in.csv"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def read(path, needed=("response", "label"), **stated):
    return read_detected(path, Reading(needed, **stated))


def cells(table):
    return [tuple(row.values[name] for name in table.columns) for row in table.rows]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (as_csv(HEADER, *ROWS), None),
        (as_csv(HEADER, *ROWS, encoding="utf-8-sig"), None),
        (
            b"sep=;\r\n" + as_csv(HEADER, *ROWS, delimiter=";"),
            "in.csv is read as UTF-8, with fields separated by semicolons",
        ),
        (as_csv(HEADER, *ROWS, delimiter="\t"), "in.csv is read as UTF-8, with fields separated by tabs"),
        (
            as_csv(HEADER, *ROWS, delimiter=";", encoding="utf-16"),
            "in.csv is read as UTF-16, with fields separated by semicolons",
        ),
        (as_csv((*HEADER, "", ""), *((*row, "", "") for row in ROWS)), None),
    ],
)
def test_a_text_table_is_read_in_whatever_form_and_the_form_is_said(text, content, note):
    table = read(text(content))
    assert (table.columns, cells(table)) == (HEADER, list(ROWS))
    assert table.notes == ((note,) if note else ())


def test_windows_1252_is_said(text):
    table = read(
        text(as_csv(HEADER, ("r1", "caf\u00e9 \u201cfine\u201d", "process"), delimiter=";", encoding="cp1252"))
    )
    assert table.rows[0].values["response"] == "caf\u00e9 \u201cfine\u201d"
    assert table.notes == ("in.csv is read as Windows-1252, with fields separated by semicolons",)


def test_a_value_below_an_unnamed_column_at_the_end_is_an_error(text):
    with pytest.raises(DataError, match=r"in\.csv, row 2: the column E has a value and no name"):
        read(text(as_csv((*HEADER, "", ""), (*ROWS[0], "", "a remark"))))


def test_unnamed_columns_get_their_letters_and_repeated_ones_numbers(text):
    table = read(text(as_csv(("", "response", "1.0", "", "1.0", "label"), ("a", "b", "c", "d", "e", "f"))))
    assert table.columns == ("column A", "response", "1.0", "column D", "1.0 (2)", "label")
    assert table.notes == ("in.csv, row 1: '1.0' names several columns; the later ones are numbered",)


def test_a_needed_column_that_is_there_twice_is_an_error(text):
    with pytest.raises(DataError, match=r"in\.csv, row 1: two columns have the name 'response'"):
        read(text(as_csv(("response", "response", "label"))))


def test_reading_costs_linear_time_however_many_columns_a_row_has(text):
    tables = {
        size: text(as_csv([f"column {each}" for each in range(size)], ["a"] * size), f"{size}.csv") for size in WIDE
    }
    assert_linear(lambda size: cpu_seconds(read, tables[size], ()), max(WIDE))


def test_the_header_can_be_in_a_later_row(text, sheet):
    rows = (("Class 7b", "", ""), ("", "", ""), HEADER, *ROWS)
    for path in (text(as_csv(*rows)), sheet(*rows)):
        table = read(path, header=HeaderRows(3))
        assert (table.columns, cells(table)) == (HEADER, list(ROWS))
        assert [row.row for row in table.rows] == [4, 5]


def test_the_first_row_can_be_below_other_header_rows(text, sheet):
    rows = (HEADER, ("the id", "the text", "the code"), *ROWS)
    for path in (text(as_csv(*rows)), sheet(*rows)):
        assert cells(read(path, header=HeaderRows(1, 3))) == list(ROWS)
    with pytest.raises(DataError, match="the first row, 1, is not below the header row, 1"):
        read(path, header=HeaderRows(1, 1))


def test_the_three_header_rows_of_qualtrics_are_recognised(text, sheet):
    for path in (text(as_csv(*QUALTRICS)), sheet(*QUALTRICS)):
        table = read(path, ("Q1",))
        assert cells(table) == [QUALTRICS[3]]
        assert table.rows[0].row == 4
        assert table.question_texts[2] == "Why does ice float?"
        assert table.notes == (
            (
                f"rows 2 and 3 of {path.name} are header rows of Qualtrics (question texts and import ids) and are not "
                "responses"
            ),
        )


def test_the_first_rows_are_those_of_the_file(text, sheet):
    rows = (("Title", "", ""), HEADER, *ROWS)
    assert first_rows(text(as_csv(*rows)), Reading(()), 2) == [["Title", "", ""], list(HEADER)]
    assert first_rows(sheet(*rows), Reading(()), 2) == [["Title", "", ""], list(HEADER)]
    assert first_rows(text(b'{"a": 1}\n', "in.jsonl"), Reading(())) == []


def test_a_sheet_has_what_the_spreadsheet_shows(sheet):
    path = sheet((*HEADER, "at"), (1, 42, 1.0, MIDNIGHT), (None, None, None, None), (2.0, "x", 0.5, None))
    table = read(path)
    assert cells(table) == [("1", "42", "1", "2026-11-02"), ("2", "x", "0.5", "")]
    assert [row.row for row in table.rows] == [2, 4]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (True, "true"),
        (None, ""),
        (THREE, "2026-01-02T03:00:00"),
        (1e300, "1e300"),
    ],
)
def test_a_cell_is_shown(value, shown):
    assert cell_text(value) == shown


def with_value(path, cell, xml):
    """Replace the XML of a formula's cell, as a spreadsheet program that has computed it writes it."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = "xl/worksheets/sheet1.xml"
    before = files[name]
    start = before.index(f'<c r="{cell}"'.encode())
    end = before.index(b"</c>", start) + 4
    files[name] = before[:start] + xml.encode() + before[end:]
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in files.items():
            archive.writestr(each, content)
    return path


def test_the_last_result_of_a_formula_is_read_and_said(sheet):
    path = with_value(sheet(HEADER, ("r1", "=A2", "p")), "B2", '<c r="B2" t="str"><f>A2&amp;"x"</f><v>r1x</v></c>')
    table = read(path)
    assert table.rows[0].values["response"] == "r1x"
    assert table.notes == ("in.xlsx: 1 cells are formulas; the last results of 1 are read",)


def test_a_formula_whose_result_is_empty_is_read(sheet):
    path = with_value(sheet(HEADER, ("r1", "=A2", "p")), "B2", '<c r="B2" t="str"><f>""</f><v></v></c>')
    assert read(path).rows[0].values["response"] == ""


def test_a_formula_that_nothing_has_computed_is_an_error_where_it_is_needed(sheet):
    path = sheet((*HEADER, "sum"), ("r1", "=A2", "p", "=1+1"), ("r2", "x", "=B2", "=1+1"))
    with pytest.raises(
        DataError, match=r"in\.xlsx: the cells B2, C3 are formulas that no program has computed. Open the"
    ):
        read(path)
    assert read(path, ("id",)).notes == (
        "in.xlsx: 4 cells are formulas; the last results of 0 are read; 4 were never computed and are empty",
    )


def test_merged_cells_are_an_error_where_they_are_needed(sheet):
    path = sheet(
        (*HEADER, "class"),
        *[(f"r{n}", f"text {n}", "p", "7b") for n in range(4)],
        more=lambda s: s.merge_cells("D2:D5"),
    )
    assert read(path).notes == ("in.xlsx: the cells D2:D5 are merged; only the first of them has a value",)
    path = sheet(HEADER, *[(f"r{n}", f"text {n}", "p") for n in range(4)], more=lambda s: s.merge_cells("C2:C3"))
    with pytest.raises(
        DataError, match=r"in\.xlsx: the cells C2:C3 are merged, so that only the first of them has a value"
    ):
        read(path)


def test_merged_cells_above_the_names_of_columns_say_where_those_may_be(sheet):
    path = sheet(("All", None, "Codes"), HEADER, *ROWS, more=lambda s: s.merge_cells("A1:B1"))
    with pytest.raises(
        DataError, match=r"in\.xlsx: row 1 has merged cells \(A1:B1\), and no column 'response'.*header_row: 2"
    ):
        read(path)
    assert cells(read(path, header=HeaderRows(2))) == list(ROWS)


def test_other_sheets_are_named(sheet, tmp_path):
    path = sheet(HEADER, *ROWS, more=lambda s: s.parent.create_sheet("Class 7c"))
    assert read(path).notes == ("in.xlsx: the sheet 'Sheet' is read, not 'Class 7c'; --sheet takes another",)


def test_the_first_sheet_that_has_the_needed_columns_is_read_and_the_others_are_named(tmp_path):
    path = book_of(
        tmp_path / "in.xlsx", Instructions=[("Read this",)], Answers=[HEADER, *ROWS], Later=[HEADER, *ROWS[:1]]
    )
    table = read(path)
    assert cells(table) == list(ROWS)
    (note,) = table.notes
    assert note == (
        "in.xlsx: the sheet 'Answers' is read, not 'Instructions', 'Later'; 'Later' has its columns, too; --sheet "
        "takes another"
    )
    stated = read(path, header=HeaderRows(sheet="later"))
    assert cells(stated) == list(ROWS[:1])
    assert stated.notes == ()


def test_a_sheet_that_is_not_there_and_one_of_another_format_are_errors(tmp_path, text):
    path = book_of(tmp_path / "in.xlsx", A=[HEADER], B=[HEADER])
    with pytest.raises(DataError, match=r"in\.xlsx: there is no sheet 'C'\. The sheets are 'A', 'B'"):
        read(path, header=HeaderRows(sheet="C"))
    with pytest.raises(DataError, match=r"in\.csv: only xlsx files have sheets"):
        read(text(as_csv(HEADER)), header=HeaderRows(sheet="A"))


def test_messages_about_one_of_several_sheets_name_it(tmp_path):
    path = book_of(tmp_path / "in.xlsx", Empty=[], Answers=[HEADER, ("r1", "=A2", "p")])
    with pytest.raises(DataError, match=r"in\.xlsx, sheet 'Answers': the cells B2 are formulas that no program"):
        read(path)
    with pytest.raises(DataError, match=r"in\.xlsx, sheet 'Empty': the file is empty"):
        read(path, header=HeaderRows(sheet="Empty"))


CODED = [(str(n), f"because of {n}", ("cause", "none")[n % 2]) for n in range(8)]


@pytest.mark.parametrize(
    "second",
    [
        ("(number)", "(open text)", "(AM)"),
        ("", "Open-Ended Response", "AM"),
        ("whole number", "the answer as typed", "coder 1"),
        ("Nr.", "Antwort", "Kode"),
        ("", "Why does ice float?", "AM"),
    ],
)
@pytest.mark.parametrize("kind", ["xlsx", "csv"])
def test_a_second_header_row_is_no_response_and_that_is_said(sheet, text, kind, second):
    rows = (HEADER, second, *CODED)
    path = sheet(*rows) if kind == "xlsx" else text(as_csv(*rows))
    table = read(path)
    assert len(table.rows) == len(CODED)
    assert table.first_row == 3
    assert table.notes[0].startswith(f"{path.name}: row 2 (")
    assert (
        "looks like a second header row and is not read: --first-row 3. If it is a response: --first-row 2"
        in (table.notes[0])
    )
    assert len(read(path, header=HeaderRows(first_row=2)).rows) == len(CODED) + 1


def test_several_header_rows_below_the_names_are_no_responses(text):
    table = read(text(as_csv(HEADER, ("Nr.", "Antwort", "Kode"), ("(number)", "(text)", "(AM)"), *CODED)))
    assert (len(table.rows), table.first_row) == (len(CODED), 4)


@pytest.mark.parametrize(
    "first",
    [
        ("9", "(no answer)", "(AM)"),  # a number among numbers
        ("x", "(open text)", "cause"),  # a code that occurs again
        ("", "something else", "cause"),
    ],
)
def test_a_row_with_a_cell_like_those_below_is_a_response(text, first):
    table = read(text(as_csv(HEADER, first, *CODED)))
    assert len(table.rows) == len(CODED) + 1
    assert table.notes == ()


def test_a_row_of_which_one_cell_is_odd_is_read_and_that_is_said(text):
    table = read(text(as_csv(HEADER[1:], ("it depends on the weather", "unclear"), *[row[1:] for row in CODED])))
    assert len(table.rows) == len(CODED) + 1
    assert table.notes[0] == (
        "in.csv: row 2 has 'unclear' in the column 'label', unlike the rows below. It is read as a response; if it is "
        "a second header row, say so: --first-row 3, or first_row: 3 in the section data"
    )


def test_names_that_are_merged_with_the_cells_below_are_two_header_rows(sheet):
    path = sheet(
        HEADER, (None, None, "AM"), *CODED, more=lambda s: [s.merge_cells(each) for each in ("A1:A2", "B1:B2")]
    )
    table = read(path)
    assert len(table.rows) == len(CODED)
    assert table.first_row == 3
    assert (
        "names of columns are merged with cells below (A1:A2, B1:B2), so that the responses begin in row 3"
        in (table.notes[0])
    )


COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            COMPOUND + "EncryptedPackage".encode("utf-16-le") + bytes(64),
            "in.xlsx: the workbook has a password. Save a copy without one",
        ),
        (COMPOUND, "in.xlsx: the file is a workbook of the old format xls. Save it as xlsx"),
        (b"PK\x03\x04" + struct.pack("<I", 0), "in.xlsx: the file is not a valid workbook"),
        (b"", "in.xlsx: the file is not a valid workbook"),
    ],
)
def test_what_is_no_workbook_says_what_it_is(text, content, message):
    with pytest.raises(DataError) as raised:
        read(text(content, "in.xlsx"))
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["in.xls", "in.XLSB", "in.ods", "in.numbers"])
def test_another_workbook_says_how_to_save_it(text, name):
    with pytest.raises(
        DataError, match=r"cannot be read\. Open it in a spreadsheet program, and save it as xlsx or as CSV"
    ):
        read(text(b"x", name))


@pytest.mark.parametrize("name", ["in.docx", "in.pdf"])
def test_another_format_names_those_that_are_read(text, name):
    with pytest.raises(
        DataError, match=r"is not supported for tables. Use a \.csv, \.tsv, \.jsonl, \.ndjson, \.parquet, \.xlsx"
    ):
        read(text(b"x", name))


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match="the file does not exist"):
        read(tmp_path / "in.csv")
    (tmp_path / "in.csv").mkdir()
    with pytest.raises(DataError, match="it is a folder"):
        read(tmp_path / "in.csv")


def test_a_sheet_of_200_columns_is_read(sheet):
    table = read(sheet([f"column {n}" for n in range(200)], [f"cell {n}" for n in range(200)]), ("column 199",))
    assert len(table.columns) == 200
    assert table.rows[0].values["column 199"] == "cell 199"


@pytest.fixture(scope="module")
def scorer(bundle):
    return Scorer(bundle, threads=1)


def test_grading_reads_a_column_of_another_name_and_html(scorer, text, sheet, tmp_path):
    (tmp_path / "plain.csv").write_bytes(as_csv(("response",), ("you worked hard",), ("great job",)))
    grade(scorer, tmp_path / "plain.csv", tmp_path / "plain_graded.csv")
    expected = [row.values["probability"] for row in read_rows(tmp_path / "plain_graded.csv")]
    rows = (("Timestamp", "2. Explain why. "), (1, "<p>you worked&nbsp;hard</p>"), (2, "great job"))
    for number, path in enumerate((text(as_csv(*rows, delimiter=";")), sheet(*rows))):
        notes = []
        target = tmp_path / f"graded{number}.csv"
        grade(scorer, path, target, columns={"response": "2. Explain\u2026"}, html=True, note=notes.append)
        graded = [row.values for row in read_rows(target)]
        assert [row["probability"] for row in graded] == expected
        assert graded[0]["2. Explain why. "] == "<p>you worked&nbsp;hard</p>"
        assert "the column '2. Explain why. ' is the response" in notes
        assert "the texts are read as HTML: tags are removed, and references such as &nbsp; are characters" in notes


def test_grading_reads_qualtrics(scorer, text, tmp_path):
    grade(scorer, text(as_csv(*QUALTRICS)), tmp_path / "out.csv", columns={"response": "Q1"})
    assert [row.values["ResponseId"] for row in read_rows(tmp_path / "out.csv")] == ["R_1"]


def test_a_column_that_cannot_be_graded_says_how_to_name_one(scorer, text, tmp_path):
    path = text(as_csv(("id", "responses"), ("1", "great job")))
    with pytest.raises(DataError, match=r"If another column has the response, say so .*: --column response=B$"):
        grade(scorer, path, tmp_path / "out.csv")
    with pytest.raises(DataError, match=r"--column response: there is no column 'answer' among its 2 columns"):
        grade(scorer, path, tmp_path / "out.csv", columns={"response": "answer"})
    with pytest.raises(DataError, match="the task has no input 'question'"):
        grade(scorer, path, tmp_path / "out.csv", columns={"question": "id"})


def test_a_form_whose_question_has_changed_names_the_columns_by_letter_and_beginning(scorer, text, tmp_path):
    question = "2. Explain in your own words why ice floats on water"
    path = text(as_csv(("Timestamp", "Name", question), ("2026-11-02", "Ada", "great job")))
    with pytest.raises(DataError) as refused:
        grade(scorer, path, tmp_path / "out.csv")
    assert "C ('2. Explain in your own words wh\u2026')" in str(refused.value)
    assert str(refused.value).endswith("--column response=C")
    notes = []
    grade(scorer, path, tmp_path / "out.csv", columns={"response": "C"}, note=notes.append)
    assert f"the column {question!r} is the response" in notes
    assert len(list(read_rows(tmp_path / "out.csv"))) == 1


def test_of_a_question_in_two_wordings_both_letters_are_named(scorer, text, tmp_path):
    questions = ("3. What would you say to Maya, who solved it on her third try?", "3. What would you say to Maya now?")
    with pytest.raises(DataError, match=r"--column response=B or C$"):
        grade(scorer, text(as_csv(("Class", *questions), ("7b", "great job", ""))), tmp_path / "out.csv")


def test_a_letter_that_is_the_name_of_another_column_is_no_hint(scorer, text, tmp_path):
    path = text(as_csv(("B", "responses"), ("7b", "great job")))
    with pytest.raises(DataError, match=r'--column response="NAME"$'):
        grade(scorer, path, tmp_path / "out.csv")
    notes = []
    grade(scorer, path, tmp_path / "out.csv", columns={"response": "B"}, note=notes.append)
    assert "the column 'B' is the response" in notes


def test_a_letter_finds_the_sheet_that_has_so_many_columns(scorer, tmp_path):
    path = book_of(
        tmp_path / "in.xlsx", Instructions=[("Read this",)], Answers=[("Class", "Why?"), ("7b", "great job")]
    )
    notes = []
    grade(scorer, path, tmp_path / "out.csv", columns={"response": "B"}, note=notes.append)
    assert "in.xlsx: the sheet 'Answers' is read, not 'Instructions'; --sheet takes another" in notes
    assert len(list(read_rows(tmp_path / "out.csv"))) == 1


def test_html_that_is_graded_as_text_is_said(scorer, text, tmp_path):
    path = text(as_csv(("response",), ("<p>great job</p>",), ("a &lt; b",), ("2 < 3",), ("great job",)))
    said = "2 rows have HTML, such as <p> or &nbsp;, which was read as text; --html reads what it shows"
    notes = []
    grade(scorer, path, tmp_path / "out.csv", note=notes.append, part_rows=1)
    assert said in notes
    notes.clear()
    grade(scorer, path, tmp_path / "out.csv", note=notes.append, html=True, overwrite=True)
    assert said not in notes


def test_a_column_that_is_named_twice_is_refused_however_it_is_named(answers_bundle, text, tmp_path):
    path = text(as_csv(("2. Explain why", "b", "c"), ("1", "great job", "x")))
    columns = {"question": "2. Explain\u2026", "response": "A", "reference_answer": "c"}
    with pytest.raises(DataError, match=r"the column '2\. Explain why' is mapped twice, to .* and to"):
        grade(Scorer(answers_bundle, threads=1), path, tmp_path / "out.csv", columns=columns)


def test_a_grading_with_another_column_does_not_go_on_with_the_parts_of_the_first(scorer, text, tmp_path):
    path = text(as_csv(("a", "b"), *[(f"great job {n}", "you worked hard") for n in range(4)]))
    with pytest.raises(Exception, match="stopped"):
        grade(scorer, path, tmp_path / "out.csv", columns={"response": "a"}, part_rows=2, stop=lambda: True)
    with pytest.raises(DataError, match="--restart"):
        grade(scorer, path, tmp_path / "out.csv", columns={"response": "b"}, part_rows=2)
