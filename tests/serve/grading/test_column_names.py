"""A column is found by the name that a person types; a name that fits none or several is an error with the closest."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.column_names import (
    check_distinct,
    column_letters,
    find_column,
    has_column,
    matching_columns,
    parse_columns,
)

NAMES = (
    "Timestamp",
    "1. Your name",
    "2. Explain why ice floats. ",
    "2. Explain why salt melts ice",
    "Code (AM)",
    "code",
)


@pytest.mark.parametrize(
    ("wanted", "column"),
    [
        ("Code (AM)", "Code (AM)"),
        ("code", "code"),
        ("code (am) ", "Code (AM)"),
        ("2. Explain why  ice floats.", "2. Explain why ice floats. "),
        ("2. Explain why ice\u2026", "2. Explain why ice floats. "),
        ("2. explain why salt ...", "2. Explain why salt melts ice"),
        ("TIME\u2026", "Timestamp"),
    ],
)
def test_a_name_stands_for_one_column(wanted, column):
    assert find_column(wanted, NAMES, where="a.csv", key="--column response") == column


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            "2. Explain\u2026",
            (
                "a.csv: --column response: '2. Explain\u2026' can be 2 columns: C ('2. Explain why ice floats.'), "
                "D ('2. Explain why salt melts ice'). Give the whole name"
            ),
        ),
        (
            "2. Explain why ice swims.",
            "no column '2. Explain why ice swims.' among its 6 columns. Did you mean C ('2. Explain why ice floats.')",
        ),
        ("Codes", "Did you mean F ('code')"),
        ("nothing like it", "`edgedistill init --from FILE` shows the columns"),
        ("\u2026", "there is no column"),
    ],
)
def test_a_name_that_fits_none_or_several_is_an_error_with_the_closest(wanted, message):
    with pytest.raises(DataError) as raised:
        find_column(wanted, NAMES, where="a.csv", key="--column response")
    assert message in str(raised.value)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=8, unique=True
    )
)
def test_every_column_is_found_by_its_exact_name(names):
    assert all(matching_columns(name, names) == (name,) for name in names)


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12))
def test_case_spaces_and_unicode_forms_do_not_matter(name):
    for spelled in (f" {name}\n", unicodedata.normalize("NFD", name), unicodedata.normalize("NFC", name)):
        assert has_column(spelled, [name, "another column that is no match"])


@pytest.mark.parametrize(
    ("place", "letters"), [(0, "A"), (25, "Z"), (26, "AA"), (199, "GR"), (701, "ZZ"), (702, "AAA")]
)
def test_columns_have_the_letters_of_a_spreadsheet(place, letters):
    assert column_letters(place) == letters


def test_options_name_columns():
    assert parse_columns(["response=2. Explain = why", "question=Q"], ["question", "response"]) == {
        "response": "2. Explain = why",
        "question": "Q",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["response"], "--column: 'response' is not KEY=COLUMN"),
        (["response= "], "is not KEY=COLUMN"),
        (["answer=A"], "'answer' is not known. Use question, response"),
        (["response=A", "response=B"], "response is given twice"),
        (["response=A", "question=a "], "the column 'a' is mapped twice, to response and to question"),
    ],
)
def test_options_that_cannot_be_used_are_errors(options, message):
    with pytest.raises(DataError) as raised:
        parse_columns(options, ["question", "response"])
    assert message in str(raised.value)


def test_different_columns_are_no_error():
    check_distinct({"response": "a", "label": "b"}, "columns")
