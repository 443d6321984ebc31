"""The page reads and writes tables as Python does, and names the row that is malformed."""

import base64
import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.new_project.proposal import guess_header_row
from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.detected_table import read_detected
from edgedistill_serve.grading.formula_cells import escape_cell
from edgedistill_serve.grading.header_rows import HeaderRows
from edgedistill_serve.grading.sources import Reading
from edgedistill_serve.grading.table_reader import read_columns, read_rows

from ...odd_tables import FORMS, HTML
from .tiny_page import under_node

CELLS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\",;\t\r\n'=- "), max_size=12)


def table(content: bytes, wanted: tuple[str, ...] = ("response",)):
    return under_node("table", bytes=base64.b64encode(content).decode(), wanted=list(wanted))


def written(rows, delimiter=",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=40))
def test_a_table_has_the_rows_that_python_reads(tmp_path_factory, rows):
    content = written([("id", "response", "note"), *rows])
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    path.write_bytes(content)
    found = table(content)
    assert found["columns"] == list(read_columns(path))
    assert found["rows"] == [list(row.values.values()) for row in read_rows(path)]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_separators_are_reported_by_the_header(delimiter):
    rows = [("id", "response"), ("1", "a, b"), ("2", "c;d\te")]
    found = table(written(rows, delimiter))
    assert [found["columns"], *found["rows"]] == [list(row) for row in rows]
    assert found["separator"] == delimiter


def test_a_byte_order_mark_is_no_part_of_the_first_column_and_is_remembered():
    found = table(b"\xef\xbb\xbfresponse,id\na,1\n")
    assert (found["columns"], found["marked"]) == (["response", "id"], True)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_line_that_names_the_separator_is_no_row(separator):
    found = table(f"sep={separator}\r\n".encode() + written([("a,b;c\td", "response"), ("1", "2")], separator))
    assert (found["columns"], found["rows"], found["separator"]) == (["a,b;c\td", "response"], [["1", "2"]], separator)


def test_a_table_of_one_column_may_have_empty_cells():
    assert table(b"response\na\n\nb\n")["rows"] == [["a"], [""], ["b"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty: it has no header row."),
        (b"\n\n", "the file is empty: it has no header row."),
        (b"a,response,a\n1,2,3\n", "row 1: two columns have the name “a”."),
        (b"response,,\n1,2,3\n", "row 1: several columns have no name."),
        (b"a,response\n1,2\n1,2,3\n", "row 3: the row has 3 fields, the header has 2."),
        (b"a,response\n1,2\n\n1,2\n", "row 3: the row is empty."),
        (b'a,response\n1,"2\n3,4\n', "row 2: the row that begins here has an unmatched double quote."),
        (b'a,response\n1,"2"x\n', "row 2: the row that begins here has an unmatched double quote."),
        (b'a,response\n1,2"x\n', "row 2: the row that begins here has an unmatched double quote."),
        ("a,response\né,é".encode() + b"\xff\n", "the file is not valid UTF-8."),
    ],
)
def test_what_is_malformed_is_refused_as_python_refuses_it(tmp_path, content, message):
    assert table(content)["fault"].startswith(message)
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(DataError):
        list(read_rows(path))


def test_columns_are_found_by_name_whatever_their_case_and_a_single_column_is_the_response():
    def inspect(content: bytes, *inputs: str):
        return under_node("inspect", bytes=base64.b64encode(content).decode(), inputs=list(inputs))

    found = inspect(b"Question, Response \nq,r\n", "question", "reference_answer", "response")
    assert found["chosen"] == {"question": "Question", "reference_answer": "", "response": " Response "}
    assert found["rows"] == 1
    assert inspect(b"answers\nx\n", "response")["chosen"] == {"response": "answers"}


@pytest.mark.parametrize("form", [*FORMS.values(), HTML], ids=[*FORMS, "HTML"])
def test_a_table_in_every_form_has_the_rows_and_their_numbers_that_python_reads(form, tmp_path):
    path = tmp_path / f"in{form.suffix}"
    form.write(path, [("Nr.", "Caf\u00e9?", "response"), ("r1", "good, \u00e9", "a;b"), ("r2", "x", "")])
    header = HeaderRows(int(form.options[1]) if form.options[:1] == ("--header-row",) else 1)
    python = read_detected(path, Reading(("response",), header=header))
    filled = [row for row in python.rows if any(cell.strip() for cell in row.values.values())]
    found = table(path.read_bytes())
    ours = [each for each in zip(found["numbers"], found["rows"], strict=True) if any(cell.strip() for cell in each[1])]
    assert found["columns"] == list(python.columns)
    assert found["header"] == header.header_row
    assert ours == [(row.row, list(row.values.values())) for row in filled]


NAMES = st.sampled_from(["", " ", "Name", "Answer", "1", "12.5 %", "2026-11-02", "2.11.2026", "Class 7b"])


@settings(max_examples=5, deadline=None)
@given(st.lists(st.lists(st.lists(NAMES, max_size=5), max_size=5), min_size=30, max_size=60))
def test_the_names_are_found_below_titles_where_python_finds_them(tables):
    tables = [
        [["Class 7b", "", ""], ["", "", ""], ["Name", "Answer", "Code"]],
        [["Class 7b"], [], ["a", "b", "c"]],
        *tables,
    ]
    assert under_node("header", tables=tables) == [guess_header_row(rows) for rows in tables]


def test_titles_above_a_csv_table_do_not_hide_its_separator():
    found = table("Class 7b, Monday\r\n\r\nName;response;Code\r\nZo\u00eb;well, yes;a\r\n".encode())
    assert (found["columns"], found["rows"], found["header"]) == (
        ["Name", "response", "Code"],
        [["Zo\u00eb", "well, yes", "a"]],
        3,
    )
    assert found["numbers"] == [4]


def lines(rows, separator=","):
    return under_node("lines", rows=rows, separator=separator)


def test_the_page_changes_the_same_cells_as_python_and_in_the_same_way():
    letters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000 and chr(point) not in '",;\r\n']
    forms = [f"{letter}{rest}" for letter in letters for rest in ("=1", "1")]
    numbers = [
        "-5",
        "+0.5",
        "-1,5",
        "1e-5",
        "-.5e+3",
        "-5%",
        " -5",
        "-1-2",
        "-1e",
        "+-1",
        "-",
        "--",
        "-1.2.3",
        "\u22125",
    ]
    others = ["'=1", "'\t=1", "'\t", "'tis", "\tx", " \u200b'=x", "a=b", "'\t'\t=", "e-mail", "-\u0665"]
    cells = [*forms, *numbers, *others]
    found = [line.removesuffix("\r\n") for line in lines([[cell] for cell in cells], separator=";")]
    assert found == [escape_cell(cell) for cell in cells]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=30), st.sampled_from(",;\t"))
def test_a_table_that_the_page_writes_is_read_back_exactly_by_the_page_and_by_python(tmp_path_factory, rows, separator):
    content = "".join(lines([("=id", "response"), *rows], separator)).encode()
    expected = [list(row) for row in rows]
    found = table(content)
    assert [found["columns"], found["rows"]] == [["=id", "response"], expected]
    if separator != ";":
        path = tmp_path_factory.mktemp("table") / ("rows.csv" if separator == "," else "rows.tsv")
        path.write_bytes(content)
        assert [list(row.values.values()) for row in read_rows(path)] == expected
