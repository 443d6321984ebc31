"""The page reads workbooks as Python does, and old encodings; what it cannot read it names, with the fix."""

import base64
import datetime as dt
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from edgedistill_serve.grading.spreadsheets import Sheet

from .tiny_page import under_node
from .using import GRADED, choose

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t&<>\"'_x0041_ "), max_size=12)
CELLS = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(-1e6, 1e6).map(lambda value: round(value, 3)),
    st.datetimes(dt.datetime(1901, 1, 1), dt.datetime(2100, 1, 1)).map(  # noqa: DTZ001  # a workbook knows no zone
        lambda each: each.replace(microsecond=0)
    ),
)
PARTS = {
    "_rels/.rels": (
        "<Relationships xmlns='r'><Relationship Id='a' Type='x/officeDocument' Target='/xl/workbook.xml'/>"
        "</Relationships>"
    ),
    "xl/_rels/workbook.xml.rels": (
        "<Relationships><Relationship Id='s' Type='x/worksheet' Target='worksheets/one.xml'/>"
        "<Relationship Id='t' Type='x/sharedStrings' Target='sharedStrings.xml'/></Relationships>"
    ),
    "xl/workbook.xml": (
        "<x:workbook xmlns:x='m'><x:sheets><x:sheet name='7b &amp; 7c' r:id='s'/><x:sheet name='old' r:id='o'/>"
        "</x:sheets></x:workbook>"
    ),
    "xl/sharedStrings.xml": (
        "<sst><si><t>response</t></si><si><r><t>good </t></r><r><t xml:space='preserve'>work</t></r>"
        "<rPh><t>read aloud</t></rPh></si><si><t/></si></sst>"
    ),
}


def archive(sheet: str, **changes: str) -> bytes:
    """A workbook by hand."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as written:
        parts = {**PARTS, "xl/worksheets/one.xml": f"<worksheet><sheetData>{sheet}</sheetData></worksheet>", **changes}
        for name, text in parts.items():
            written.writestr(name, text)
    return content.getvalue()


def read(content: bytes, *wanted: str):
    return under_node("table", bytes=base64.b64encode(content).decode(), wanted=list(wanted or ("response",)))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=25))
def test_a_workbook_has_the_cells_that_python_reads(rows):
    book = Workbook()
    book.active.append(["id", "response"])
    for row in rows:
        book.active.append(
            [each if not isinstance(each, str) or not each.startswith("=") else f" {each}" for each in row]
        )
    content = io.BytesIO()
    book.save(content)
    found = read(content.getvalue())
    python = Sheet(io.BytesIO(content.getvalue()), "book.xlsx", ["response"])
    expected = [(row.row, list(row.values.values())) for row in python.rows()]
    assert found["columns"] == list(python.header)
    ours = [[number, cells] for number, cells in zip(found["numbers"], found["rows"], strict=True) if any(cells)]
    assert [number for number, _ in ours] == [number for number, cells in expected if any(cells)]
    for (_, cells), (_, wanted) in zip(ours, [each for each in expected if any(each[1])], strict=True):
        for cell, text in zip(cells, wanted, strict=True):
            assert cell == text or float(cell) == pytest.approx(float(text))


def test_texts_in_runs_inline_texts_and_gaps_are_read_and_readings_aloud_are_not():
    found = read(
        archive(
            "<row r='1'><c r='A1' t='inlineStr'><is><t>id</t></is></c><c r='B1' t='s'><v>0</v></c><c r='D1'/></row>"
            "<row r='2'/><row r='4'><c r='B4' t='s'><v>1</v></c></row>"
            "<row r='5'><c r='A5'><f>1+1</f><v>2</v></c>"
            "<c r='B5' t='str'><f>A1</f><v>a_x000A_b &lt;&#x41;</v></c></row>"
            "<row r='6'><c r='A6' t='e'><v>#N/A</v></c><c r='B6' t='s'><v>2</v></c></row>"
        )
    )
    assert found["columns"] == ["id", "response"]
    assert found["rows"] == [["", "good work"], ["2", "a\nb <A"], ["#N/A", ""]]
    assert found["numbers"] == [4, 5, 6]
    assert found["sheet"] == {"name": "7b & 7c", "count": 2}


SHEET = (
    "<row r='1'><c r='A1' t='inlineStr'><is><t>response</t></is></c>"
    "<c r='B1' t='inlineStr'><is><t>sum</t></is></c></row>"
    "<row r='2'><c r='A2'><f>1+1</f></c><c r='B2'><f>1+1</f><v>2</v></c></row>"
    "<row r='3'><c r='A3' t='str'><f>A9</f><v></v></c><c r='B3'><f>SUM(</f></c></row>"
)


def test_formulas_without_a_result_are_named_and_those_with_one_have_it():
    content = base64.b64encode(archive(SHEET)).decode()
    found = under_node("inspect", bytes=content, inputs=["response"])
    assert found["formulas"] == "A2, B3"
    rows = read(archive(SHEET))
    assert rows["formulas"] == [{"column": "response", "cell": "A2"}, {"column": "sum", "cell": "B3"}]
    assert rows["rows"] == [["", "2"]]


OLD_BOOK = (
    "the workbook has a password or the format of old versions of Excel (xls). "
    "Save it as “Excel workbook (xlsx)” without a password."
)
NOT_A_BOOK = "the file is not a valid Excel workbook. Open it in a spreadsheet and save it as xlsx or as “CSV UTF-8”."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            OLD_BOOK,
        ),
        (b"PK\3\4" + bytes(40), NOT_A_BOOK),
        (archive("<row>")[:-40], NOT_A_BOOK),
        (archive("<!DOCTYPE a [<!ENTITY b 'bb'>]>"), NOT_A_BOOK),
        (archive("<row r='1'><c r='ZZZZ1'><v>1</v></c></row>"), NOT_A_BOOK),
        (archive("", **{"xl/workbook.xml": "<workbook/>"}), NOT_A_BOOK),
        (archive(""), "the file is empty: it has no header row."),
        (archive("<row r='2'><c r='A2'><v>1</v></c></row>"), "the file is empty: it has no header row."),
        (
            archive("<row r='1'><c t='s'><v>0</v></c><c t='s'><v>0</v></c></row>"),
            "row 1: two columns have the name “response”. Rename or delete one of them.",
        ),
    ],
)
def test_what_is_no_workbook_is_refused_with_the_fix(content, message):
    assert read(content)["fault"] == message


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("cp1252", "Windows-1252"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-8-sig", None), ("utf-8", None)],
)
def test_the_encodings_of_spreadsheets_are_read_and_named(encoding, named):
    found = read("id;response\r\n1;Größe schön\r\n".encode(encoding))
    assert (found["columns"], found["rows"]) == (["id", "response"], [["1", "Größe schön"]])
    assert found["encoding"] == named


def test_the_page_says_which_row_has_the_names_and_which_formulas_have_no_result(page, saved, tmp_path):
    book = Workbook()
    for row in [("Class 7b",), (), ("Name", "Response", "Sum"), ("Zo\u00eb", "=A1", "=1+1"), ("Bo", "great job", 1)]:
        book.active.append(row)
    book.save(tmp_path / "class.xlsx")
    choose(page, tmp_path / "class.xlsx")
    assert page.text("#read-as") == (
        "The names of the columns are in row 3; what is above is not read. These cells are formulas without a stored "
        "result and are read as empty: B4, C4. Open the file in Excel or LibreOffice and save it."
    )
    page.click("#grade")
    page.until("document.getElementById('table-problem').textContent")
    assert page.text("#table-problem") == (
        "class.xlsx: these cells of a chosen column are formulas without a stored result: B4. Open the file in Excel "
        "or LibreOffice, save it, and choose it again."
    )


def test_a_workbook_and_an_old_encoding_are_scored_on_the_page(page, saved, tmp_path):
    book = Workbook()
    book.active.title = "7b"
    book.create_sheet("notes")
    for row in [("Name", "Response"), ("Zoë", "great job"), ("Ada", None), ("Bo", "you worked hard")]:
        book.active.append(row)
    path = tmp_path / "class 7b.xlsx"
    book.save(path)
    choose(page, path)
    assert page.text("#read-as") == "Of 2 sheets, “7b” is read."
    page.click("#grade")
    page.until(GRADED)
    assert page.run("return [...document.querySelectorAll('#rows th')].map((each) => each.innerText)") == [
        "2",
        "3",
        "4",
    ]
    assert page.run("return document.getElementById('download').download") == "class 7b-scored.csv"
    lines = saved().decode("utf-8-sig").splitlines()
    assert lines[0].startswith("Name,Response,label,")
    assert lines[1].startswith("Zoë,great job,")
    old = Path(tmp_path / "old.csv")
    old.write_bytes("name;response\nZoë;schön “good”\n".encode("cp1252"))
    choose(page, old)
    page.until("document.getElementById('read-as').textContent.includes('Windows')")
    assert page.text("#read-as") == "The file is read as Windows-1252."
    page.click("#grade")
    page.until(GRADED)
    assert page.text("#rows td") == "schön “good”"
