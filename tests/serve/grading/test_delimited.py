"""Every text that is written to a table is read again, exactly."""

import io
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.delimited import read_records, write_records
from edgedistill_serve.grading.table_reader import TableRow, read_rows
from edgedistill_serve.grading.table_writer import table_writer

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    "\r\n\x00\",;\t'=+-@\u2028\u2029\x85\x0b\x0c\x1c\ufeff "
)
HARD = ["\r", "\n", "\r\n", "a\rb", "\x00", '"', '""', ",", "\t", "\u2028", "\x85", "\x1c", "\ufeff", "", " ", "=1+1"]
HARD += ["'=1", "'\t=1", "-0.5", "\\", "a\r", "\ra", "NULL", "nan", "x" * 200_000, '"' * 140_000, "a\r\n" * 70_000]


@pytest.mark.parametrize("delimiter", [",", "\t"])
@given(st.lists(st.lists(TEXTS, min_size=2, max_size=4), max_size=4))
def test_records_are_read_as_they_were_written(delimiter, records):
    file = io.StringIO(newline="")
    write_records(file, records, delimiter)
    file.seek(0)
    assert list(read_records(file, delimiter)) == records


@pytest.mark.parametrize("text", HARD, ids=lambda text: ascii(text[:8]))
def test_a_text_that_is_hard_to_quote_is_read_as_it_was_written(text):
    file = io.StringIO(newline="")
    write_records(file, [["id", text], [text, "1"]])
    file.seek(0)
    assert list(read_records(file)) == [["id", text], [text, "1"]]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_table_of_hard_texts_is_read_as_it_was_written(tmp_path, suffix):
    file = tmp_path / f"t{suffix}"
    with table_writer(file, {"response": None}, {"label": str}) as write:
        for number, text in enumerate(HARD, 1):
            write(TableRow(number, {"response": text}, MappingProxyType({"response": text})), {"label": text})
    read = [row.values for row in read_rows(file)]
    assert read == [{"response": text, "label": text} for text in HARD]


@given(text=TEXTS)
@example(text="\r")
def test_a_table_of_any_text_is_read_as_it_was_written(tmp_path_factory, text):
    for suffix in (".csv", ".tsv", ".jsonl"):
        file = tmp_path_factory.getbasetemp() / f"any{suffix}"
        with table_writer(file, {"response": None}, {"label": str}, overwrite=True) as write:
            write(TableRow(1, {"response": text}, {"response": text}), {"label": "a"})
        assert [row.values["response"] for row in read_rows(file)] == [text]


def test_half_a_character_is_refused_with_its_row(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_bytes(b'{"response": "fine"}\n{"response": "\\ud800"}\n{"response": "\\ud83d\\ude00"}\n')
    with pytest.raises(DataError, match=r"t.jsonl, row 2: .*half a character"):
        list(read_rows(file))
