"""A coding sheet survives export and import, and every row that cannot be imported is listed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.types import Response
from edgedistill.decisions import build_drawn_sheet, build_sheet, read_sheet
from edgedistill.errors import DataError
from edgedistill_serve.grading.table_reader import TableRow, read_rows
from edgedistill_serve.grading.table_writer import table_writer
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("yes"), Label("no")), ("question", "response"))
SCORE = Score("yes", 0.61234, {"yes": 0.61234, "no": 0.38766}, "review", "below threshold", False, 4)


def response(ident, text="I think so", group="s1"):
    return Response(ident, {"question": "Why?", "response": text}, "responses.csv", 2, group)


def returned(lines, *codes):
    """The rows of a sheet after somebody filled in its last column."""
    header, *rows = lines
    filled = [[*row[:-1], code] for row, code in zip(rows, codes, strict=True)]
    named = [dict(zip(header, cells, strict=True)) for cells in filled]
    return [TableRow(number, values, values) for number, values in enumerate(named, start=2)]


def write_lines(file, lines):
    header, *rows = lines
    with table_writer(file, dict.fromkeys(header), {}) as write:
        for row in (dict(zip(header, cells, strict=True)) for cells in rows):
            write(TableRow(2, row, row), {})


def merging(rows, known, coded=None):
    return read_sheet("sheet.csv", rows, {each.id: each for each in known}, coded or {}, TASK)


def test_a_sheet_has_inputs_and_an_empty_code_and_shows_no_suggestions():
    lines = build_sheet([(response("r1"), SCORE)], TASK)
    assert lines == [["id", "question", "response", "human_code"], ["r1", "Why?", "I think so", ""]]


def test_suggestions_are_shown_on_request():
    header, row = build_sheet([(response("r1"), SCORE)], TASK, suggestions=True)
    assert header[3:] == ["suggested_label", "probability", "reason", "human_code"]
    assert row[3:] == ["yes", "0.612", "below threshold", ""]


def test_a_sheet_has_the_group_of_each_row():
    header, row = build_sheet([(response("r1"), SCORE)], TASK, group_by="student")
    assert (header[1], row[1]) == ("student", "s1")


def test_codes_are_matched_to_their_responses():
    known = [response("r1"), response("r2", "no idea")]
    found = merging(returned(build_sheet([(each, SCORE) for each in known], TASK), "yes", " no "), known)
    assert [(code.response, code.label) for code in found.codes] == [(known[0], "yes"), (known[1], "no")]
    assert (found.known, found.uncoded, found.faults) == ((), (), ())


FORMULAS = ["=1+1", "+1", "-1", "@x", "'quoted", "'=x", "\tx", " =1", "\u200b=1", "\uff1d1", "'\t=1"]


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_text_that_looks_like_a_formula_is_read_back_unchanged(tmp_path, text, suffix):
    known = [response(text.strip(), text)]
    file = tmp_path / f"sheet{suffix}"
    write_lines(file, build_sheet([(known[0], SCORE)], TASK))
    (row,) = read_rows(file)
    assert row.values["response"] == text
    row.values["human_code"] = "yes"
    assert merging([row], known).codes[0].response == known[0]


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("added", ["'", "' ", "'\t"])
def test_an_apostrophe_that_a_spreadsheet_or_an_older_version_added_is_no_difference(text, added):
    known = [response(text.strip(), text)]
    values = {"id": f"'{text.strip()}", "response": added + text, "human_code": "'yes"}
    assert merging([TableRow(2, values, values)], known).codes[0].response == known[0]


@pytest.mark.parametrize(
    ("ident", "text", "code", "fault"),
    [
        ("nobody", "I think so", "yes", "unknown id: no response for review has it"),
        ("", "I think so", "yes", "the id is empty"),
        ("h1", "I think so", "yes", "unknown id: it is coded in the human file"),
        ("r1", "I think so", "Yes", "unknown label 'Yes'; labels are yes, no"),
        ("r1", "something else", "yes", "the response differs from the one with this id"),
        ("r2", "I think so", "no", "the sheet has the code 'no', but the id already has the human code 'yes'"),
    ],
)
def test_an_invalid_row_is_listed_with_its_fault(ident, text, code, fault):
    lines = build_sheet([(response(ident, text), SCORE)], TASK)
    found = merging(returned(lines, code), [response("r1"), response("r2")], {"r2": "yes", "h1": "no"})
    assert [(bad.row, bad.id, bad.fault) for bad in found.faults] == [(2, ident, fault)]
    assert found.codes == ()


def test_a_repeated_id_is_listed_with_its_first_row():
    lines = build_sheet([(response("r1"), SCORE)] * 2, TASK)
    found = merging(returned(lines, "yes", "no"), [response("r1")])
    assert [(bad.row, bad.fault) for bad in found.faults] == [(3, "the id is also in row 2")]


def test_a_missing_code_is_listed_by_id():
    found = merging(returned(build_sheet([(response("r1"), SCORE)], TASK), " "), [response("r1")])
    assert (found.uncoded, found.codes, found.faults) == (("r1",), (), ())


def test_a_code_that_is_already_known_is_not_new():
    found = merging(returned(build_sheet([(response("r1"), SCORE)], TASK), "yes"), [response("r1")], {"r1": "yes"})
    assert (found.known, found.codes) == (("r1",), ())


def test_a_sheet_without_its_columns_is_refused():
    with pytest.raises(DataError, match=r"sheet.csv, row 2: there is no column 'human_code'"):
        merging([TableRow(2, {"id": "r1"}, {})], [])


def test_an_empty_sheet_is_refused():
    with pytest.raises(DataError, match="the sheet has no rows"):
        merging([], [])


@given(st.lists(st.tuples(st.sampled_from(["r1", "r2", "r3", "h1", ""]), st.sampled_from(["yes", "no", "", "x"]))))
def test_every_row_of_a_sheet_is_new_known_uncoded_or_at_fault(rows):
    sent = [(response(ident), SCORE) for ident, _ in rows]
    if not rows:
        return
    known = [response("r1"), response("r2"), response("r3")]
    found = merging(returned(build_sheet(sent, TASK), *(code for _, code in rows)), known, {"r3": "yes", "h1": "no"})
    assert len(found.codes) + len(found.known) + len(found.uncoded) + len(found.faults) == len(rows)


def test_a_sheet_of_drawn_rows_has_their_inclusion_probabilities_and_returns_them():
    known = [response("r1"), response("r2", "no idea")]
    lines = build_drawn_sheet([(known[0], 1 / 3), (known[1], 1.0)], TASK, group_by="student")
    assert lines[0] == ["id", "student", "question", "response", "inclusion_probability", "human_code"]
    found = merging(returned(lines, "yes", "no"), known)
    assert [code.inclusion_probability for code in found.codes] == [1 / 3, 1.0]


@pytest.mark.parametrize("text", ["0", "1.2", "-0.1", "nan", "often"])
def test_a_changed_inclusion_probability_is_a_fault(text):
    lines = build_drawn_sheet([(response("r1"), 0.5)], TASK)
    lines[1][-2] = text
    (fault,) = merging(returned(lines, "yes"), [response("r1")]).faults
    assert fault.fault == f"the inclusion_probability {text!r} is not a number above 0 and at most 1"


def test_a_decimal_comma_of_a_spreadsheet_is_read():
    lines = build_drawn_sheet([(response("r1"), 0.5)], TASK)
    lines[1][-2] = "0,25"
    assert merging(returned(lines, "yes"), [response("r1")]).codes[0].inclusion_probability == 0.25


def test_codes_that_the_codebook_does_not_have_are_named_once():
    known = [response(f"r{n}") for n in range(3)]
    lines = build_sheet([(each, SCORE) for each in known], TASK)
    assert merging(returned(lines, "perhaps", "maybe", "perhaps"), known).unknown_labels == ("perhaps", "maybe")
