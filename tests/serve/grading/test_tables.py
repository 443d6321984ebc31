"""Tables are read strictly: every fault is an error that names its row."""

import contextlib
import csv
import io

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.formula_cells import unescape_cell
from edgedistill_serve.grading.table_reader import read_columns, read_rows


@pytest.fixture
def read(tmp_path):
    def read(name: str, content: bytes):
        (tmp_path / name).write_bytes(content)
        return [(row.row, row.values) for row in read_rows(tmp_path / name)]

    return read


def test_a_header_is_row_one_and_a_cell_with_line_breaks_is_one_row(read):
    content = b'id,response\n1,"two\nlines, ""quoted"""\n2,plain\n'
    assert read("a.csv", content) == [
        (2, {"id": "1", "response": 'two\nlines, "quoted"'}),
        (3, {"id": "2", "response": "plain"}),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_kind_of_line_end_is_read(read, end):
    assert read("a.csv", end.join([b"id,response", b"1,x", b"2,y", b""])) == [
        (2, {"id": "1", "response": "x"}),
        (3, {"id": "2", "response": "y"}),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b"\xef\xbb\xbfid\n1\n"), ("a.tsv", b"\xef\xbb\xbfid\n1\n"), ("a.jsonl", b'\xef\xbb\xbf{"id": 1}\n')],
)
def test_a_byte_order_mark_is_not_part_of_the_first_column(read, name, content):
    assert [values for _, values in read(name, content)] == [{"id": "1"}]


@pytest.mark.parametrize("line", [b"sep=,\r\n", b"SEP=,\n", b'"sep=,"\r', b"\xef\xbb\xbfsep=,\n"])
def test_the_line_that_names_the_separator_is_no_row(read, line):
    assert read("a.csv", line + b"id,text\n1,x\n") == [(2, {"id": "1", "text": "x"})]


def test_a_column_named_like_the_line_that_names_the_separator_is_a_column(read):
    assert read("a.csv", b"sep=x,id\n1,2\n") == [(2, {"sep=x": "1", "id": "2"})]


def test_a_header_alone_has_no_rows(read):
    assert read("a.csv", b"id,response\n") == []


def test_an_empty_line_of_a_one_column_table_is_an_empty_cell(read):
    assert read("a.csv", b"response\nx\n\ny\n") == [
        (2, {"response": "x"}),
        (3, {"response": ""}),
        (4, {"response": "y"}),
    ]


def test_empty_lines_at_the_end_are_no_rows(read):
    assert len(read("a.csv", b"id,response\n1,x\n\n\n")) == 1


def test_a_json_value_is_its_json_text_and_null_is_empty(read):
    content = b'{"id": 7, "response": null, "more": [1, {"a": true}], "score": 1.5, "done": false}\n\n{"id": "8"}\n'
    assert read("a.jsonl", content) == [
        (1, {"id": "7", "response": "", "more": '[1,{"a":true}]', "score": "1.5", "done": "false"}),
        (3, {"id": "8"}),
    ]


def test_parquet_rows_have_texts_and_raw_values(tmp_path):
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"id": [1, None], "share": [0.5, float("nan")], "response": ["x", None]}), path)
    rows = list(read_rows(path))
    assert [(row.row, row.values) for row in rows] == [
        (1, {"id": "1", "share": "0.5", "response": "x"}),
        (2, {"id": "", "share": "", "response": ""}),
    ]
    assert rows[0].raw == {"id": 1, "share": 0.5, "response": "x"}


def test_the_columns_of_a_jsonl_file_are_those_of_all_its_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"b": 1}\n{"a": 1, "b": 2}\n')
    assert read_columns(tmp_path / "a.jsonl") == ("b", "a")


FAULTS = {
    "empty": ("a.csv", b"", "the file is empty"),
    "only a byte order mark": ("a.csv", b"\xef\xbb\xbf", "the file is empty"),
    "only empty lines": ("a.csv", b"\n\n", "the file is empty"),
    "empty lines of JSONL": ("a.jsonl", b"\n \n", "the file is empty"),
    "quote never closed": ("a.csv", b'id,response\n1,ok\n2,"hi\n3,b\n', "a.csv, row 3: the double quotes"),
    "text after a quote": ("a.csv", b'id,response\n1,"hi"x\n', "a.csv, row 2: the double quotes"),
    "quote in a plain field": ("a.csv", b'id,response\n1,he said "x"\n', "a.csv, row 2: the double quotes"),
    "quote after a space": ("a.csv", b'id,response\n1, "x"\n', "a.csv, row 2: the double quotes"),
    "quote in a plain TSV field": ("a.tsv", b'id\tresponse\n1\t5" nail\n', "a.tsv, row 2: the double quotes"),
    "too many fields": ("a.csv", b"id,response\n1,x,y\n", "a.csv, row 2: the number of fields is 3, the header has 2"),
    "too few fields": ("a.csv", b"id,response\n1,x\n2\n", "a.csv, row 3: the number of fields is 1"),
    "an empty row between": ("a.csv", b"id,response\n1,x\n\n2,y\n", "a.csv, row 3: the row is empty"),
    "the same column twice": ("a.csv", b"id,text,id\n", "a.csv, row 1: two columns have the name 'id'"),
    "columns without a name": ("a.csv", b"id,,response,\n", "a.csv, row 1: the columns B and D have no name"),
    "many columns without a name": (
        "a.csv",
        b"id" + 27 * b"," + b"\n",
        "B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z, AA and AB have no name",
    ),
    "a line that names another separator": (
        "a.csv",
        b"sep=;\nid;text\n",
        "a.csv: the first line says that the separator is ';'",
    ),
    "a line that names no separator": (
        "a.csv",
        b"sep=\nid,text\n",
        "a.csv: the first line says that the separator is ''",
    ),
    "semicolons": ("a.csv", b"id;response\n1;x\n", "a.csv, row 1: the columns seem to be separated by ';'"),
    "Latin-1": (
        "a.csv",
        b"id,response\n1,caf\xe9\n",
        "a.csv, row 2: the text is not valid UTF-8. Save the file as UTF-8",
    ),
    "UTF-16": ("a.csv", "id,response\n".encode("utf-16"), "a.csv, row 1: the text is not valid UTF-8"),
    "a field without end": (
        "a.csv",
        b'id\n"' + 200_000 * b"x",
        "a.csv, row 2: the double quotes of the row",
    ),
    "a JSON list": ("a.jsonl", b'{"a": 1}\n[1]\n', "a.jsonl, row 2: the line is not a JSON object"),
    "half a JSON line": ("a.jsonl", b'{"a": 1}\n{"a":\n', "a.jsonl, row 2: the line is not valid JSON"),
    "NaN": ("a.ndjson", b'{"a": NaN}\n', "a.ndjson, row 1: the line is not valid JSON"),
    "Latin-1 in JSONL": ("a.jsonl", b'{"a": "\xe9"}\n', "a.jsonl, row 1: the text is not valid UTF-8"),
    "half a surrogate pair": ("a.jsonl", b'{"a": "\\ud800 x"}\n', "a.jsonl, row 1: the line is not valid JSON"),
    "deep JSON": ("a.jsonl", 5000 * b'{"a":', "a.jsonl, row 1: the line is not valid JSON"),
    "no Parquet": ("a.parquet", b"PAR1 but no more", "a.parquet: the file is not valid Parquet"),
    "another suffix": ("a.xlsx", b"PK", "a.xlsx: the suffix '.xlsx' is not supported for tables"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_table_is_an_error_that_names_its_row(read, fault):
    name, content, message = FAULTS[fault]
    with pytest.raises(DataError) as raised:
        read(name, content)
    assert message in str(raised.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: the file does not exist"):
        list(read_rows(tmp_path / "nowhere.csv"))


def test_a_folder_is_not_a_table(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(tmp_path / "a.csv"))


def test_parquet_columns_of_the_same_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns have the name 'a'"):
        list(read_rows(tmp_path / "a.parquet"))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6), st.sampled_from([",", "\t"]))
def test_whatever_a_csv_writer_writes_is_read_back(tmp_path_factory, cells, delimiter):
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter).writerows([("id", "response"), *cells])
    path = tmp_path_factory.mktemp("tables") / ("a.csv" if delimiter == "," else "a.tsv")
    path.write_bytes(written.getvalue().encode())
    assert [tuple(row.values.values()) for row in read_rows(path)] == [tuple(map(unescape_cell, row)) for row in cells]


@given(st.binary(max_size=80), st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_any_bytes_are_rows_or_an_error_of_ours(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("tables") / f"a{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert all(isinstance(value, str) for row in read_rows(path) for value in row.values.values())
