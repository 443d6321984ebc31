"""What the columns of a table are for is found by the names that tools give them, and by what the cells look like."""

import datetime as dt
import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.spreadsheet_cells import is_date
from edgedistill.errors import DataError
from edgedistill.new_project.exports import recognise_export
from edgedistill.new_project.label_counts import count_labels, describe_labels
from edgedistill.new_project.proposal import guess_header_row, propose
from edgedistill_serve.grading.detected_table import DetectedTable
from edgedistill_serve.grading.text_rows import TableRow

TEXTS = [f"ice is lighter than water because of {why} and {what}" for why in "abcdef" for what in "uvwxyz"]


def table(columns, texts=(), name="in.xlsx"):
    """A table from columns: by name a function of the row's number, or a list that is repeated."""
    names = tuple(columns)
    rows = []
    for number in range(36):
        raw = {key: each(number) if callable(each) else each[number % len(each)] for key, each in columns.items()}
        rows.append(TableRow(number + 2, {key: "" if value is None else str(value) for key, value in raw.items()}, raw))
    return DetectedTable(name, names, tuple(rows), (), tuple(texts))


def text(number):
    return TEXTS[number]


def email(number):
    return f"s{number % 12}@school.example"


GOOGLE = {
    "Timestamp": lambda n: f"2026/11/02 8:{n}:00 AM",
    "Email Address": email,
    "1. Your name": lambda n: f"Learner {n}",
    "2. Explain why ice floats.": text,
    "Code (AM)": ["good", "poor"],
    "Code (BK)": ["good", "poor", "poor"],
}
MICROSOFT = {
    "ID": lambda n: n + 1,
    "Start time": lambda n: f"11/2/26 8:{n:02}:00",
    "Completion time": lambda n: f"11/2/26 9:{n:02}:00",
    "Email": ["anonymous"],
    "Name": [None],
    "Why does ice float?": text,
    "Points - Why does ice float?": [0, 1],
    "Feedback - Why does ice float?": [None],
    "Category": ["a", "b", "c"],
}
MOODLE = {
    "Last name": lambda n: f"Name {n}",
    "First name": lambda n: f"Vorname {n}",
    "Email address": lambda n: f"s{n}@school.example",
    "Status": ["Finished"],
    "Started": lambda n: f"2 November 2026 8:{n:02} AM",
    "Completed": lambda n: f"2 November 2026 9:{n:02} AM",
    "Duration": ["12 mins 3 secs"],
    "Grade/10.00": ["8.00", "5.00"],
    "Question 1": ["<p>Why does ice float on water?</p>"],
    "Response 1": lambda n: f"<p>{TEXTS[n]}&nbsp;</p>",
    "Right answer 1": ["Because it is lighter than water."],
    "Code": ["0", "1", "2"],
}
CANVAS = {
    "name": lambda n: f"Learner {n % 12}",
    "id": lambda n: 1000 + n % 12,
    "sis_id": lambda n: f"S{n % 12}",
    "section": ["7b"],
    "section_id": ["5"],
    "section_sis_id": [""],
    "submitted": lambda n: f"2026-11-02 08:{n:02}:00 UTC",
    "attempt": ["1", "2"],
    "29684859: Explain why ice floats on water.": text,
    "0.0": ["1.0", "0.0"],
    "29684860: Do you agree?": ["yes", "no"],
    "1.0": ["1.0"],
    "n correct": ["1"],
    "n incorrect": ["1"],
    "score": ["1.0", "2.0"],
    "Label": ["good", "poor"],
}
QUALTRICS = {
    "StartDate": lambda n: f"2026-11-02 08:{n:02}:00",
    "EndDate": lambda n: f"2026-11-02 09:{n:02}:00",
    "Status": ["IP Address"],
    "Progress": ["100"],
    "Duration (in seconds)": ["61"],
    "Finished": ["True"],
    "RecordedDate": lambda n: f"2026-11-02 09:{n:02}:01",
    "ResponseId": lambda n: f"R_{n}",
    "UserLanguage": ["EN", "DE"],
    "Q1": text,
    "Q2": ["3", "4", "5"],
    "code": ["good", "poor"],
}
QUALTRICS_TEXTS = [*list(QUALTRICS)[:9], "Why does ice float on water?", "How sure are you?", "Code"]
LABEL_STUDIO = {
    "text": text,
    "id": lambda n: n,
    "sentiment": ["good", "poor"],
    "annotator": ["1"],
    "annotation_id": lambda n: n,
    "created_at": ["2026-11-02T08:00:00Z"],
    "updated_at": ["2026-11-02T08:00:00Z"],
    "lead_time": ["3.5"],
}
PLAIN = {"Nr": lambda n: n, "Klasse": ["7a", "7b"], "Antwort": text, "Kategorie": ["gut", "schlecht"]}


@pytest.mark.parametrize(
    ("columns", "texts", "tool", "expected", "question"),
    [
        (
            GOOGLE,
            (),
            "Google Forms",
            {"response": "2. Explain why ice floats.", "label": "Code (AM)"},
            "2. Explain why ice floats.",
        ),
        (
            MICROSOFT,
            (),
            "Microsoft Forms",
            {"id": "ID", "response": "Why does ice float?", "label": "Category"},
            "Why does ice float?",
        ),
        (MOODLE, (), "Moodle", {"response": "Response 1", "label": "Code"}, "Why does ice float on water?"),
        (
            CANVAS,
            (),
            "Canvas",
            {"response": "29684859: Explain why ice floats on water.", "label": "Label"},
            "Explain why ice floats on water.",
        ),
        (
            QUALTRICS,
            QUALTRICS_TEXTS,
            "Qualtrics",
            {"id": "ResponseId", "response": "Q1", "label": "code"},
            "Why does ice float on water?",
        ),
        (LABEL_STUDIO, (), "Label Studio", {"id": "id", "response": "text", "label": "sentiment"}, ""),
        (PLAIN, (), "", {"id": "Nr", "response": "Antwort", "label": "Kategorie"}, ""),
    ],
)
def test_the_columns_of_an_export_are_found(columns, texts, tool, expected, question):
    found = propose(table(columns, texts))
    assert (found.export.tool, dict(found.columns), found.question) == (tool, expected, question)
    assert found.row_ids == ("id" not in expected)


@pytest.mark.parametrize("columns", [GOOGLE, MICROSOFT, MOODLE, QUALTRICS, LABEL_STUDIO, PLAIN])
def test_the_order_of_columns_does_not_decide_what_they_are(columns):
    names = list(columns)[1:] if columns is GOOGLE else list(columns)
    first = {"Timestamp": GOOGLE["Timestamp"]} if columns is GOOGLE else {}
    orders = (first | {name: columns[name] for name in order} for order in (names, names[::-1], sorted(names)))
    assert len({(each.columns["response"], each.export.tool) for each in map(propose, map(table, orders))}) == 1


@pytest.mark.parametrize(
    "first", ["Zeitstempel", "Horodateur", "Marca temporal", "Carimbo de data/hora", " timestamp "]
)
def test_google_forms_are_recognised_in_other_languages(first):
    assert recognise_export([first, "Frage"]).tool == "Google Forms"


@pytest.mark.parametrize(
    ("names", "responses"),
    [
        (
            ["Nachname", "Vorname", "E-Mail-Adresse", "Status", "Bewertung/10,00", "Antwort 1", "Antwort 2"],
            ("Antwort 1", "Antwort 2"),
        ),
        (["Surname", "First name", "State", "Response 1"], ("Response 1",)),
    ],
)
def test_moodle_is_recognised_in_other_languages_and_versions(names, responses):
    found = recognise_export(names)
    assert (found.tool, found.responses) == ("Moodle", responses)


def test_the_right_answer_of_moodle_is_known_and_its_html(monkeypatch):
    found = propose(table(MOODLE))
    assert found.reference == "Because it is lighter than water."
    assert found.html_rows == 36


def test_learners_with_several_rows_are_a_group():
    assert propose(table(CANVAS)).group_by == "id"
    assert propose(table(GOOGLE)).group_by == "Email Address"
    assert propose(table(MOODLE)).group_by is None


def test_other_coders_are_named():
    found = propose(table(GOOGLE))
    assert found.coders == ("Code (BK)",)


def test_a_question_that_differs_by_row_is_an_input():
    found = propose(table({"Question": ["Why?", "How?"], "Answer": text, "Label": ["a", "b"]}))
    assert found.columns == {"question": "Question", "response": "Answer", "label": "Label"}
    assert found.inputs == ("question", "response")


def test_a_column_that_a_person_names_is_not_guessed():
    found = propose(table(GOOGLE), {"response": "1. your\u2026", "label": "Code (BK)"})
    assert (found.columns["response"], found.columns["label"]) == ("1. Your name", "Code (BK)")


def test_empty_rows_below_the_table_do_not_take_its_ids_away():
    given = table({"id": lambda n: f"r{n}", "response": text, "code": ["good", "poor"]})
    empty = [TableRow(number, dict.fromkeys(given.columns, " "), dict.fromkeys(given.columns)) for number in (38, 39)]
    found = propose(DetectedTable(given.name, given.columns, (*given.rows, *empty), (), ()))
    assert (found.columns["id"], found.row_ids) == ("id", False)
    assert found == propose(given)


def test_repeated_ids_are_no_ids_and_that_is_said():
    found = propose(table({"id": ["1", "2"], "Answer": text, "Label": ["a", "b"]}))
    assert found.row_ids
    assert "the column A ('id') has values that repeat, so that row numbers are the ids" in found.notes


def test_without_codes_there_are_no_labels():
    found = propose(table({"Timestamp": GOOGLE["Timestamp"], "Why?": text}))
    assert found.labels is None
    assert "label" not in found.columns


def test_a_column_of_final_codes_is_the_label_and_the_others_are_coders():
    found = propose(
        table(
            {
                "Answer": text,
                "AM": ["good", "poor", "good"],
                "BK": ["good", "poor", "poor"],
                "final": ["good", "poor"],
                "GPT": ["good", "good", "poor"],
                "Class": ["7a", "7b"],
            }
        )
    )
    assert (found.columns["label"], found.coders) == ("final", ("AM", "BK"))
    assert "B ('AM'), C ('BK'): codes of coders with the same labels; evaluation.coders compares them" in found.notes


def test_of_two_coders_without_a_final_code_it_is_said_whose_codes_are_the_label():
    codes = {"Coder 1": ["good", "poor", "good"], "Coder 2": ["good", "poor", "poor"]}
    said = (
        "no column is called final or the like: B ('Coder 1') is the label, with which student and teacher are "
        'compared; --column label="NAME" takes another'
    )
    assert said in propose(table({"Answer": text, **codes})).notes
    assert said not in propose(table({"Answer": text, **codes}), {"label": "Coder 1"}).notes
    assert not any(
        "is called final" in note for note in propose(table({"Answer": text, **codes, "final": ["good", "poor"]})).notes
    )


def test_a_coder_who_spells_a_label_otherwise_makes_the_project_fold_spellings():
    """Only the label's own spellings counted, so that the first run was refused for those of a coder."""
    codes = {"AM": ["Good", "poor", "good"], "final": ["good", "poor", "good"]}
    found = propose(table({"Answer": text, **codes}))
    assert found.folds_labels
    assert any("spells 'good' as 'Good': it is read as the label" in note for note in found.notes)
    assert not propose(table({"Answer": text, **codes, "AM": ["good", "poor"]})).folds_labels


def test_coders_of_a_label_that_a_person_names_are_found():
    columns = {"Answer": text, "AM": ["good", "poor", "good"], "BK": ["good", "poor", "poor"]}
    with pytest.raises(DataError, match=r"Say which: --column label=\"NAME\"; others with the same labels are then"):
        propose(table(columns))
    assert propose(table(columns), {"label": "B"}).coders == ("BK",)


def half(first):
    return lambda number: TEXTS[number] if (number < 18) is first else None


def test_answers_before_and_after_a_changed_question_are_seen():
    columns = {"1. Why does ice float?": half(first=True), "1. Explain why ice floats.": half(first=False)}
    found = propose(table({**columns, "Code": ["good", "poor"]}))
    (said,) = [note for note in found.notes if "never both filled" in note]
    assert said.startswith("A ('1. Why does ice float?') and B ('1. Explain why ice floats.') are never both filled")
    assert "18 responses are not read: if the question is the same, copy all of them into one column" in said


def test_two_questions_that_some_answered_both_are_not_taken_for_one():
    found = propose(table({"Why?": half(first=True), "How?": text, "Code": ["good", "poor"]}))
    assert not any("never both" in note for note in found.notes)


FAULT = DataError("the cells B2 are formulas that no program has computed", where="in.xlsx", hint="Open the file.")


@pytest.mark.parametrize(
    ("columns", "faulty"),
    [
        ({"Answer": [""], "Comment": text, "Code": ["good", "poor"]}, "Answer"),
        ({"What do you think?": [""], "Code": ["good", "poor"]}, "What do you think?"),
        ({"What do you think?": text, "Code": [""]}, "Code"),
        ({"What do you think?": text, "AM": [""]}, "AM"),
        ({"What do you think?": text, "AM": [""], "Code": ["good", "poor"]}, "Code"),
    ],
)
def test_a_column_whose_formulas_were_never_computed_is_the_reason_why_it_is_not_found(columns, faulty):
    given = replace(table(columns), faults={faulty: FAULT})
    with pytest.raises(DataError, match="are formulas that no program has computed"):
        propose(given)
    assert propose(replace(table({**GOOGLE, "sum": [""]}), faults={"sum": FAULT})).columns["label"] == "Code (AM)"


def test_without_codes_formulas_that_are_not_computed_say_how_to_go_on():
    given = replace(table({"What do you think?": text, "sum": [""]}), faults={"sum": FAULT})
    with pytest.raises(DataError, match="If it has no codes: --uncoded"):
        propose(given)
    assert propose(given, uncoded=True).labels is None


@pytest.mark.parametrize("name", ["", "  "])
def test_a_column_without_a_name_never_reaches_the_project_file(name):
    with pytest.raises(DataError, match=r"in\.xlsx, row 1: the column A has no name\. Write a name into the cell A1"):
        propose(table({name: text, "Code": ["good", "poor"]}))


@pytest.mark.parametrize("label", ["B", "2. explain\u2026", "2. Explain why ice floats."])
def test_a_column_that_is_named_twice_in_other_words_is_refused(label):
    columns = {"Code": ["good", "poor"], "2. Explain why ice floats.": text}
    with pytest.raises(DataError, match=r"the column '2\. Explain why ice floats\.' is mapped twice, to response and"):
        propose(table(columns), {"response": "2. Explain\u2026", "label": label})


DATES = [dt.datetime(2026, 2, 1, tzinfo=dt.UTC), "good", "poor"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"Answer": text, "Class": ["7a", "7b"], "Group": ["x", "y", "z"]},
            "in.xlsx: 2 columns can be the human codes: B ('Class'), C ('Group'). Say which: --column label=",
        ),
        (
            {"n": [1, 2], "m": ["a", "b"]},
            "in.xlsx: no column looks like responses, whose cells have several words; the columns are A ('n'), B ('m')",
        ),
        (
            {"Answer": text, "Code": DATES},
            "12 cells of the column B ('Code') are dates (row 2, 5, 8, 11, 14). Spreadsheets turn",
        ),
        ({"Answer": text, "Code": ["1-Feb", "good", "poor"]}, "12 cells of the column B ('Code') are dates"),
        ({"Answer": text, "Code": ["2026-02-01", "2026-03-01"]}, "the column B ('Code') has dates and no codes"),
        (
            {"Answer": text, "Code": ["#N/A", "good", "poor"]},
            "12 cells of the column B ('Code') are errors of formulas, such as #N/A (row 2,",
        ),
    ],
)
def test_what_cannot_be_told_is_an_error_with_the_fix(columns, message):
    with pytest.raises(DataError) as raised:
        propose(table(columns))
    assert message in str(raised.value)


def test_200_columns_are_no_flood():
    columns = {f"item {n}": [str(n)] for n in range(198)} | {"Answer": text, "Code": ["a", "b"]}
    found = propose(table(columns))
    assert (found.columns["response"], len(found.notes) < 5) == ("Answer", True)
    with pytest.raises(DataError, match=r"and 188 more"):
        propose(table({f"item {n}": [str(n)] for n in range(200)}))


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ([["a", "b", "c"], ["1", "2", "3"]], 1),
        ([["Class 7b", "", ""], ["", "", ""], ["Name", "Answer", "Code"], ["x", "y", "z"]], 3),
        ([["Learner", "", "", "Codes", "", ""], ["Name", "Answer", "Time", "AM", "BK", "CL"]], 2),
        ([["", "response", "label"], ["r1", "text", "a"]], 1),
        ([["Class 7b", "", ""], ["1", "2", "3"]], 1),
        ([["a", "b", "", ""], ["1", "2", "", ""]], 1),
        ([], 1),
    ],
)
def test_the_row_of_the_names_is_found(rows, number):
    assert guess_header_row(rows) == number


@pytest.mark.parametrize(
    ("cells", "kind", "counts"),
    [
        (["b", "a", "b"], "nominal", {"b": 2, "a": 1}),
        (["2", "0", "1", "1"], "ordinal", {"0": 1, "1": 2, "2": 1}),
        (["0", "1"], "nominal", {"0": 1, "1": 1}),
        (["10", "9", "1.5"], "ordinal", {"1.5": 1, "9": 1, "10": 1}),
        (["a;b", "a", "b; c", "none"], "multilabel", {"a": 2, "b": 2, "c": 1}),
        (["0.0", "0", "0", "1.0", ""], "nominal", {"0": 3, "1.0": 1}),
        (["Yes", "yes ", "YES", "yes"], "nominal", {"yes": 2 + 2}),
        (["e\u0301", "\u00e9"], "nominal", {"\u00e9": 2}),
    ],
)
def test_labels_are_counted_as_one_whatever_their_spelling(cells, kind, counts):
    found = count_labels(cells)
    assert (found.kind, dict(found.counts), list(found.counts)) == (kind, counts, list(counts))


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["Yes", "yes", "no", "No"] * 3, "are read as one label each: 2 labels"),
        (["correct", "richtig", "wrong"] * 9, "'correct' and 'richtig' look like one label in two languages"),
        (["explanation", "explanaton", "other"] * 9, "'explanation' and 'explanaton' look alike"),
        (["a"] * 9 + ["b"], "few rows: 'b' (1)"),
    ],
)
def test_what_looks_wrong_with_labels_is_said(cells, said):
    assert any(said in line for line in describe_labels(count_labels(cells)))


def test_labels_that_are_just_opposites_are_not_taken_for_typing_errors():
    said = list(describe_labels(count_labels(["correct", "incorrect", "level 1", "level 2"] * 9)))
    assert [line for line in said if "look" in line] == []


@pytest.mark.parametrize("cells", [["good", "gut", "bad", "schlecht"], ["cause", "Ursache", "other"]])
def test_that_no_two_labels_mean_the_same_is_an_assumption_that_is_said(cells):
    said = list(describe_labels(count_labels(cells * 9)))
    assert any(line.startswith(f"the {len(cells)} labels differ in meaning") for line in said)


def test_labels_that_are_known_to_mean_the_same_are_not_said_to_differ():
    said = list(describe_labels(count_labels(["correct", "richtig", "wrong"] * 9)))
    assert [line.partition(",")[0] for line in said if "mean the same" in line] == ["apart from these"]


@pytest.mark.parametrize("cells", [["yes", "no"], ["0", "1", "2"]])
def test_two_labels_and_numbers_are_not_asked_about(cells):
    assert list(describe_labels(count_labels(cells * 9))) == []


@pytest.mark.parametrize(
    ("cell", "is_one"), [("2026-02-01", True), ("1-Feb", True), ("01.02.2026", True), ("1-2", False), ("3", False)]
)
def test_a_date_is_told_from_a_code(cell, is_one):
    assert is_date(cell) == is_one


CELLS = st.lists(st.text(st.sampled_from("aAbB \u00e9\u00c9e\u030112.0;"), max_size=4), max_size=30)


@given(CELLS)
def test_every_cell_that_is_not_blank_is_counted_once(cells):
    found = count_labels(cells, "nominal")
    assert sum(found.counts.values()) == sum(bool(cell.strip()) for cell in cells)


@given(CELLS, st.randoms(use_true_random=False))
def test_the_labels_do_not_depend_on_the_order_of_rows(cells, random):
    shuffled = list(cells)
    random.shuffle(shuffled)
    assert count_labels(shuffled) == count_labels(cells)


@given(st.lists(st.text(max_size=8), max_size=8))
def test_any_names_of_columns_are_an_export_or_none(names):
    found = recognise_export(names)
    assert found.own <= set(names)
    assert set(itertools.chain(found.responses, found.questions.values())) <= set(names)
