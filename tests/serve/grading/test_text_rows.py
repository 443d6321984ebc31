"""A malformed row of a text is set aside with its reason, and the rows after it are read."""

import csv
import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading import text_rows
from edgedistill_serve.grading.text_rows import DelimitedText, RejectedRow, json_rows, open_text


def read(content: bytes, suffix="csv"):
    with open_text(io.BytesIO(content), "utf-8", "\n" if suffix == "jsonl" else "") as text:
        rows = list(json_rows(text, "a") if suffix == "jsonl" else DelimitedText(text, "a", ",").rows())
    good = [(row.row, tuple(row.raw.values())) for row in rows if not isinstance(row, RejectedRow)]
    return good, [(row.row, row.error.what) for row in rows if isinstance(row, RejectedRow)]


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        (
            b"a,b\n1,2,3\n4,5\n6\n",
            [(3, ("4", "5"))],
            [(2, "the number of fields is 3"), (4, "the number of fields is 1")],
        ),
        (b"a,b\n1,\xff\n4,5\n", [(3, ("4", "5"))], [(2, "the text is not valid UTF-8")]),
        (b'a,b\n1,"x" y\n4,5\n', [(3, ("4", "5"))], [(2, "the double quotes")]),
        (b'a,b\n1,x "y"\n4,5\n', [(3, ("4", "5"))], [(2, "the double quotes")]),
        (b'a,b\n1,"x\n4,5\n6,7\n', [(3, ("4", "5")), (4, ("6", "7"))], [(2, "the double quotes")]),
        (b'a,b\n1,"x\n\n4,"5\n6,7', [(5, ("6", "7"))], [(2, "the double"), (3, "the row is empty"), (4, "the double")]),
        (b"a,b\n\n4,5\n\n\n", [(3, ("4", "5"))], [(2, "the row is empty")]),
    ],
)
def test_the_rows_after_a_malformed_one_are_read(content, good, bad):
    found, rejected = read(content)
    assert found == good
    assert [row for row, _ in rejected] == [row for row, _ in bad]
    assert all(what.startswith(start) for (_, what), (_, start) in zip(rejected, bad, strict=True))


def test_the_lines_after_a_malformed_one_are_read():
    good, bad = read(b'{"a":1}\n[]\n{"a":\n{"a": "\xff"}\n\n{"a":2}\n', "jsonl")
    assert good == [(1, (1,)), (6, (2,))]
    assert [row for row, _ in bad] == [2, 3, 4]


@pytest.mark.parametrize("line", [b'{"a":1,"b":2,"a":3}', b'{"a":"","\\u0061" : ""}', b'{"b":{"c":[{"a":1,"a":1}]}}'])
def test_a_line_that_repeats_a_key_is_set_aside(line):
    good, bad = read(b'{"a":"x","b":"y"}\n' + line + b'\n{"a":"\\":","b":{"a":"a"}}\n', "jsonl")
    assert [row for row, _ in good] == [1, 3]
    assert bad == [(2, "the key 'a' is repeated")]


def test_a_line_of_any_depth_is_read_or_set_aside():
    most = sys.getrecursionlimit()
    lines = [b'{"a":"\\":\\":","b":' + b"[" * depth + b"]" * depth + b"}" for depth in range(most - 200, most)]
    good, bad = read(b"\n".join(lines), "jsonl")
    assert (len(good) + len(bad), len(good) > 0, len(bad) > 0) == (200, True, True)


def pairs(values):
    """Objects as their pairs, which may repeat a key."""
    return st.lists(st.tuples(st.sampled_from(["a", "b", 'a":']), values), max_size=3).map(tuple)


VALUES = st.recursive(st.text('a":, ') | st.none(), lambda inner: st.lists(inner) | pairs(inner), max_leaves=6)


def as_json(value):
    """A value with its objects written pair by pair, and the keys that each repeats."""
    if isinstance(value, tuple):
        inner = [(json.dumps(key), *as_json(each)) for key, each in value]
        keys = [key for key, _ in value]
        repeated = any(again for *_, again in inner) or len(set(keys)) < len(keys)
        return "{" + ", ".join(f"{key} : {text}" for key, text, _ in inner) + "}", repeated
    if isinstance(value, list):
        parts = [as_json(each) for each in value]
        return f"[{','.join(text for text, _ in parts)}]", any(again for _, again in parts)
    return json.dumps(value), False


@given(pairs(VALUES))
def test_exactly_the_lines_that_repeat_a_key_are_set_aside(value):
    line, repeated = as_json(value)
    assert [bool(each) for each in read(line.encode(), "jsonl")] == [not repeated, repeated]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_row_that_is_too_long_is_set_aside(monkeypatch, suffix, end):
    monkeypatch.setattr(text_rows, "MAX_ROW_CHARACTERS", 40)
    before = b'{"a": "1"}\n' if suffix == "jsonl" else b"a\n1\n"
    after = (b'{"a": "2"}\n' if suffix == "jsonl" else b"2\n") if end else b""
    good, bad = read(before + b"x" * 1000 + end + after, suffix)
    assert [values for _, values in good] == [("1",), ("2",)][: 1 + bool(end)]
    ((_, what),) = bad
    assert what == "the row that starts here is longer than 40 characters"


def test_a_quote_that_is_never_closed_takes_only_its_own_line(monkeypatch):
    monkeypatch.setattr(text_rows, "MAX_ROW_CHARACTERS", 100)
    good, bad = read(b'a,b\n0,"x\n' + b"".join(b"%d,y\n" % number for number in range(1, 100)))
    assert [int(first) for _, (first, _) in good] == list(range(1, 100))
    assert [row for row, _ in bad] == [2]


def test_a_malformed_header_is_an_error():
    with pytest.raises(DataError, match="row 1: the double quotes"):
        read(b'a,"b\n1,2\n')


ALPHABET = st.sampled_from(['"', ",", "\n", "\r", "a", "\u00e9", '""', '"\n', ',"'])


@given(st.lists(ALPHABET, max_size=60).map("".join))
def test_rows_are_numbered_without_gaps_whatever_the_text(text):
    content = b"a,b\n" + text.encode()
    good, bad = read(content)
    numbers = sorted(row for row, _ in good + bad)
    assert numbers == list(range(2, 2 + len(numbers)))


@given(st.lists(st.tuples(st.text(), st.text()), max_size=10), st.integers(0, 10))
def test_a_bad_row_among_good_ones_costs_no_other(rows, place):
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow(["a", "b"])
    rows = [(f"x{first}", f"y{second}") for first, second in rows if "\0" not in first + second]
    for number, row in enumerate(rows):
        if number == place:
            written.write("1,2,3\r\n")
        writer.writerow(row)
    good, bad = read(written.getvalue().encode("utf-8", "replace"))
    assert [values for _, values in good] == [
        tuple(cell.encode("utf-8", "replace").decode() for cell in row) for row in rows
    ]
    assert [row for row, _ in bad] == [place + 2] * (place < len(rows))
