"""No cell of a table that we write is evaluated by a spreadsheet, and every text is read back exactly."""

import csv
import io
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgedistill_serve.grading.formula_cells import escape_cell, looks_like_formula, unescape_cell
from edgedistill_serve.grading.table_reader import TableRow, read_rows
from edgedistill_serve.grading.table_writer import table_writer

SIGNS = "=+-@"
INVISIBLE = " \t\r\n\v\f\0\x1f\x85\xa0\xad\u1680\u180e\u200b\u200c\u200d\u200e\u202e\u2028\u2060\u2800\u3000\ufeff"
QUOTES = "\"'`\u2018\u2019\u201c\u201d\xab"
ANY = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("=+-@'\t\r\n \"\ufeff,;\uff1d1"), max_size=9)


@pytest.mark.parametrize(
    "sign", [*SIGNS, "\uff1d", "\uff0b", "\uff0d", "\uff20", "\ufe66", "\ufe63", "\u2212", "\u207c"]
)
@pytest.mark.parametrize("before", ["", *INVISIBLE, *QUOTES, "\u200b \u200b", "'\"", "\ufeff'", "\U000e0041"])
def test_a_sign_of_a_formula_is_found_behind_what_spreadsheets_skip(before, sign):
    assert looks_like_formula(f"{before}{sign}SUM(A1)")


def test_every_character_that_is_the_same_sign_or_invisible_is_covered():
    for point in range(sys.maxunicode + 1):
        letter = chr(point)
        if unicodedata.normalize("NFKC", letter) in SIGNS:
            assert looks_like_formula(f"{letter}A1"), hex(point)
        elif letter.isspace() or (unicodedata.category(letter) in ("Cc", "Cf") and point < 0x700):
            assert looks_like_formula(f"{letter}=A1"), hex(point)


@pytest.mark.parametrize(
    "text", ["\tx", "\rx", "\nx", "-", "--x", "-1-2", "-1e", "+-1", "-1+cmd", "+1;2", "-x", "@you", "- 5"]
)
def test_other_beginnings_and_sums_look_like_a_formula(text):
    assert looks_like_formula(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "a=b",
        "1+1",
        "-5",
        "+0.5",
        "-1,5",
        "-1,234.50",
        "1e-5",
        "-.5e+3",
        "-5%",
        " -5",
        "-1.5e-07",
        "\u22125",
    ],
)
def test_numbers_do_not(text):
    assert not looks_like_formula(text)
    assert escape_cell(text) == text


@pytest.mark.parametrize("text", ["'tis", '"so"', "e-mail", "5-3", "\u2014 yes", "*", "#1", "\u00b1 2", "it's = 2"])
def test_other_texts_do_not(text):
    assert not looks_like_formula(text)
    assert escape_cell(text) == text


@pytest.mark.parametrize("value", [-5, -0.5, None, True, float("-inf")])
def test_values_that_are_not_texts_are_left_alone(value):
    assert escape_cell(value) is value


@given(ANY)
@example("'\t")
@example("'\t'\t=1")
@example("'=' means equal")
def test_the_cell_of_any_text_is_harmless_and_gives_the_text_back(text):
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    assert cell.startswith("'") or not looks_like_formula(cell)


@given(ANY.filter(lambda text: not text.startswith("'\t")))
@example("'=' means equal")
@example("'-ing' is an ending")
def test_a_cell_of_another_program_is_read_as_it_is(text):
    assert unescape_cell(text) == text


@given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=5), ANY.filter(bool), st.sampled_from([".csv", ".tsv"]))
def test_a_table_of_any_texts_under_any_name_is_read_back_exactly(tmp_path_factory, cells, name, suffix):
    path = tmp_path_factory.mktemp("tables") / f"a{suffix}"
    columns = ("id" if name != "id" else "no", name)
    with table_writer(path, dict.fromkeys(columns), {}) as write:
        for row in (dict(zip(columns, each, strict=True)) for each in cells):
            write(TableRow(2, row, row), {})
    assert [tuple(row.values.items()) for row in read_rows(path)] == [
        tuple(zip(columns, each, strict=True)) for each in cells
    ]
    delimiter = "," if suffix == ".csv" else "\t"
    written = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), delimiter=delimiter))
    assert all(cell.startswith("'") or not looks_like_formula(cell) for line in written for cell in line)


def test_the_time_for_a_long_text_grows_with_its_length_only():
    # The characters before a sign and the sign are different sets, so that nothing is tried twice.
    assert looks_like_formula(" '\u200b" * 200_000 + "=")
    assert not looks_like_formula(" '\u200b" * 200_000 + "x")
    assert looks_like_formula("-" + "1.1" * 200_000 + "x")
