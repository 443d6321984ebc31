"""Writing codes into a table changes only their cells, in every format of tables."""

import json

import pytest

from edgedistill.coding.table import read_table, write_cells
from edgedistill.errors import DataError
from edgedistill.project import read_project
from edgedistill_serve.grading.table_reader import read_rows

from ...full_disk import full_disk

CELLS = {"label": {"r2": "process"}, "anna": {"r1": "=odd", "r2": "process"}}


def table_at(path, **data):
    """The table as a project reads it."""
    task = {"labels": [{"name": "process"}, {"name": "=odd"}]}
    project = {"name": "t", "task": task, "data": {"human": path.name, **data}}
    (path.parent / "project.yaml").write_text(json.dumps(project))
    return read_table(read_project(path.parent / "project.yaml"), path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            b'id,response,label\nr1,a,x\nr2,"b, c",\n',
            b'id,response,label,anna\nr1,a,x,\'\t=odd\nr2,"b, c",process,process\n',
        ),
        (
            b'\xef\xbb\xbfid,response,label\r\nr1,"a\r\nb",x\r\nr2,=1+1,\r\n',
            b'\xef\xbb\xbfid,response,label,anna\r\nr1,"a\r\nb",x,\'\t=odd\r\nr2,=1+1,process,process\r\n',
        ),
        (
            b"sep=,\nlabel,id,response\n, r1 ,-5\n,r2,'\t=a\n",
            b"sep=,\nlabel,id,response,anna\n, r1 ,-5,'\t=odd\nprocess,r2,'\t=a,process\n",
        ),
    ],
)
def test_other_cells_line_breaks_and_the_byte_order_mark_stay_as_they_are(tmp_path, before, after):
    path = tmp_path / "human.csv"
    path.write_bytes(before)
    version = write_cells(table_at(path), CELLS, tmp_path / "versions")
    assert path.read_bytes() == after
    assert (tmp_path / "versions" / version).read_bytes() == before
    assert [row.values["anna"] for row in read_rows(path)] == ["=odd", "process"]


def test_json_lines_keep_their_types(tmp_path):
    path = tmp_path / "human.jsonl"
    rows = [
        {"id": "r1", "response": "é", "n": 12345678901234567890123, "x": None},
        {"id": "r2", "response": "b", "n": 0.1},
    ]
    path.write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    write_cells(table_at(path), CELLS, tmp_path / "versions")
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {**rows[0], "label": "", "anna": "=odd"}
    assert second == {**rows[1], "label": "process", "anna": "process"}


def test_parquet_keeps_the_types_of_other_columns(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "human.parquet"
    pq.write_table(pa.table({"id": ["r1", "r2"], "response": ["a", "b"], "label": [None, "x"], "n": [1, None]}), path)
    write_cells(table_at(path), CELLS, tmp_path / "versions")
    found = pq.read_table(path)
    assert found.schema.field("n").type == pa.int64()
    assert found.to_pylist() == [
        {"id": "r1", "response": "a", "label": "", "n": 1, "anna": "=odd"},
        {"id": "r2", "response": "b", "label": "process", "n": None, "anna": "process"},
    ]


def test_a_table_that_cannot_be_written_is_unchanged(tmp_path):
    path = tmp_path / "human.csv"
    before = b"id,response,label\n" + b"".join(b"r%d,%b,\n" % (n, b"x" * 100) for n in range(50))
    path.write_bytes(before)
    table = table_at(path)
    with (
        full_disk(len(before) + 10),
        pytest.raises(DataError, match=r"cannot be written.*the codes are safe in the journal"),
    ):
        write_cells(table, {"anna": {f"r{n}": "process" for n in range(50)}}, tmp_path / "versions")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".csv"] == ["human.csv"]


def test_the_permissions_of_the_table_stay(tmp_path):
    path = tmp_path / "human.csv"
    path.write_text("id,response,label\nr1,a,\nr2,b,\n")
    path.chmod(0o640)
    version = write_cells(table_at(path), CELLS, tmp_path / "versions")
    assert {each.stat().st_mode & 0o777 for each in (path, tmp_path / "versions" / version)} == {0o640}


def test_an_id_that_occurs_twice_is_named(tmp_path):
    path = tmp_path / "human.csv"
    path.write_text("id,response,label\nr1,a,\nr1,b,\n")
    with pytest.raises(DataError, match="row 3: the id 'r1' is already used in row 2"):
        table_at(path)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16", "utf-8-sig"])
def test_a_table_of_another_form_keeps_its_form(tmp_path, encoding):
    path = tmp_path / "human.csv"
    lines = ["Class 7b;;;", "Name;2. Why?;Code (AM);", "a;caf\u00e9;;", "b;\u201cso\u201d;process;"]
    path.write_bytes("\r\n".join([*lines, ""]).encode(encoding))
    columns = {"response": "2. Why?", "label": "Code (AM)"}
    table = table_at(path, columns=columns, ids="row_numbers", header_row=2)
    assert [table.cell("label", ident) for ident in table.responses] == ["", "process"]
    write_cells(table, {"label": {"human:3": "process"}, "anna": {"human:4": "=odd"}}, tmp_path / "versions")
    after = [
        "Class 7b;;;",
        "Name;2. Why?;Code (AM);;anna",
        "a;caf\u00e9;process;;",
        "b;\u201cso\u201d;process;;'\t=odd",
    ]
    assert path.read_bytes() == "\r\n".join([*after, ""]).encode(encoding)


def test_json_lines_with_other_names_are_written_under_these(tmp_path):
    path = tmp_path / "human.jsonl"
    path.write_text('{"text": "a", "code": ""}\n\n{"text": "b", "code": "process"}\n')
    table = table_at(path, columns={"response": "text", "label": "code"}, ids="row_numbers")
    write_cells(table, {"label": {"human:1": "=odd"}}, tmp_path / "versions")
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"text": "a", "code": "=odd"},
        {"text": "b", "code": "process"},
    ]


def test_a_code_that_the_encoding_does_not_have_is_an_error_and_the_table_is_unchanged(tmp_path):
    path = tmp_path / "human.csv"
    before = "id;response;label\nr1;caf\u00e9 caf\u00e9;\n".encode("cp1252")
    path.write_bytes(before)
    with pytest.raises(DataError, match="cannot be written in Windows-1252; the journal has the codes"):
        write_cells(table_at(path), {"\u05d0": {"r1": "process"}}, tmp_path / "versions")
    assert path.read_bytes() == before


def test_a_workbook_is_not_written(tmp_path):
    path = tmp_path / "human.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"codes cannot be written to a \.xlsx file. Save the table as CSV UTF-8"):
        table_at(path)
