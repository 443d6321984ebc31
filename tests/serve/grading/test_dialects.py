"""The encoding and the delimiter of a table are detected, or stated."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.dialects import (
    Dialect,
    check_delimiter,
    check_encoding,
    detect_delimiter,
    detect_encoding,
)
from edgedistill_serve.grading.text_rows import DelimitedText

TABLE = "id;response\n1;caf\u00e9, \u201cfine\u201d\n"


@pytest.mark.parametrize(
    ("written", "detected"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
    ],
)
def test_an_encoding_is_detected_and_read(written, detected):
    data = TABLE.encode(written)
    assert detect_encoding(io.BytesIO(data)) == detected
    with Dialect(detected, ";").open(io.BytesIO(data)) as opened:
        text = DelimitedText(opened, "a.csv", ";")
        assert text.header == ("id", "response")
        assert [row.values["response"] for row in text.rows()] == ["caf\u00e9, \u201cfine\u201d"]


def test_a_character_far_behind_the_beginning_decides(monkeypatch):
    monkeypatch.setattr("edgedistill_serve.grading.dialects._BLOCK", 64)
    assert detect_encoding(io.BytesIO(b"x" * 1000 + b"caf\xe9")) == "cp1252"
    assert detect_encoding(io.BytesIO(b"x" * 63 + "\u00e9".encode())) == "utf-8"


def test_one_damaged_character_does_not_make_a_utf8_file_another_one():
    assert detect_encoding(io.BytesIO(("\u00e9" * 5).encode() + b"\xe9")) == "utf-8"


@pytest.mark.parametrize(
    ("head", "usual", "delimiter"),
    [
        ("id,response\n", ",", ","),
        ("id;response\n", ",", ";"),
        ("id\tresponse\n", ",", "\t"),
        ("id|response\n", ",", "|"),
        ("id,response\n", "\t", ","),
        ("response\n", ",", ","),
        ("response\n", "\t", "\t"),
        ('"a, b";"c, d, e";response\n', ",", ";"),
        ("name;of,many,parts\tresponse\n", ",", "\t"),
    ],
)
def test_the_delimiter_is_the_one_that_gives_the_inputs(head, usual, delimiter):
    assert detect_delimiter(io.BytesIO(head.encode()), "utf-8", usual, ["response"]) == (delimiter, False)


@pytest.mark.parametrize("line", ["sep=;\r\n", '"sep=;"\n', "SEP=;\r"])
def test_a_line_that_names_the_delimiter_is_no_header(line):
    data = (line + "id;response\n1;x\n").encode()
    assert detect_delimiter(io.BytesIO(data), "utf-8", ",", ["response"]) == (";", True)
    with Dialect("utf-8", ";", separator_line=True).open(io.BytesIO(data)) as opened:
        assert DelimitedText(opened, "a.csv", ";").header == ("id", "response")


@pytest.mark.parametrize(
    ("dialect", "described"),
    [
        (Dialect(), "UTF-8, with fields separated by commas"),
        (Dialect("cp1252", ";"), "Windows-1252, with fields separated by semicolons"),
        (Dialect("mac-roman", "#"), "mac-roman, with fields separated by '#'"),
        (Dialect("utf-16", ""), "UTF-16"),
    ],
)
def test_a_dialect_describes_itself(dialect, described):
    assert str(dialect) == described


@pytest.mark.parametrize(("given", "codec"), [("latin1", "iso8859-1"), ("UTF8", "utf-8"), ("utf-8-sig", "utf-8")])
def test_an_encoding_has_the_name_of_its_codec(given, codec):
    assert check_encoding(given) == codec


@pytest.mark.parametrize("name", ["klingon", "", "base64", "rot13", "\0"])
def test_what_is_no_encoding_of_texts_is_refused(name):
    with pytest.raises(DataError, match="encoding"):
        check_encoding(name)


@pytest.mark.parametrize(("name", "delimiter"), [(";", ";"), ("tab", "\t"), ("\\t", "\t"), (" ", " ")])
def test_a_delimiter_is_one_character(name, delimiter):
    assert check_delimiter(name) == delimiter


@pytest.mark.parametrize("name", ["", ";;", '"', "\n", "a", "\0"])
def test_what_cannot_separate_fields_is_refused(name):
    with pytest.raises(DataError, match="cannot separate"):
        check_delimiter(name)


@given(st.binary(max_size=200))
def test_any_bytes_have_an_encoding_that_python_knows(data):
    encoding = detect_encoding(io.BytesIO(data))
    with Dialect(encoding).open(io.BytesIO(data)) as text:
        text.read()
    assert detect_delimiter(io.BytesIO(data), encoding, ",", ["response"])[0]
