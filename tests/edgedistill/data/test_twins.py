"""What is the same to a student, or nearly the same, is found wherever rows of two splits could meet."""

import csv
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from edgedistill.data import read_records
from edgedistill.data.twins import Twin, find_split_twins, find_twins, fold_text, same_row, same_text
from edgedistill.data.types import CodedResponse, Response
from edgedistill.project import read_project
from edgedistill.teacher.labelling import LabellingPlan, use_same_examples

from ..teacher.codings import CODEBOOK, section

NORMALIZERS = {
    "BERT, uncased": normalizers.BertNormalizer(),
    "BERT, cased": normalizers.BertNormalizer(lowercase=False),
    "SentencePiece": normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]),
    "ALBERT": normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]),
    "ModernBERT": normalizers.NFC(),
    "NFD": normalizers.NFD(),
}
DISGUISES = {
    "case": str.upper,
    "accent": lambda text: text.replace("e", "\u00e9"),
    "accent, decomposed": lambda text: unicodedata.normalize("NFD", text.replace("e", "\u00ea")),
    "zero-width space": lambda text: text + "\u200b",
    "zero-width joiner": lambda text: text.replace("t", "t\u200d", 1),
    "byte order mark": lambda text: "\ufeff" + text,
    "soft hyphen": lambda text: text.replace("o", "o\u00ad", 1),
    "no-break space": lambda text: text.replace(" ", "\u00a0"),
    "replacement character": lambda text: text + "\ufffd",
    "full width": lambda text: "".join(chr(ord(each) + 0xFEE0) if each.isalpha() else each for each in text),
    "control characters": lambda text: text.replace(" ", " \x00\x1f"),
    "right-to-left mark": lambda text: "\u200f" + text,
    "space before a full stop": lambda text: text.replace(".", " ."),
    "line breaks": lambda text: text.replace(" ", "\r\n"),
    "ligature": lambda text: text.replace("fi", "\ufb01"),
    "German sharp s": lambda text: text.replace("ss", "\u00df"),
    "Hangul filler": lambda text: text + "\u3164",
    "blank Braille": lambda text: text.replace(" ", " \u2800"),
    "variation selectors": lambda text: text.replace("i", "i\ufe0f"),
    "tags": lambda text: text + "\U000e0041\U000e007f",
    "mathematical letters": lambda text: text.replace("d", "\U0001d41d"),
    "SentencePiece's space": lambda text: text.replace(" ", "\u2581"),
}
PROJECT = """\
name: t
task:
  labels: [{name: process}, {name: outcome}]
  inputs: [question, response]
data: {human: h.csv, unlabelled: u.csv}
"""
SUBJECTS = ["circuit", "fraction", "magnet", "planet", "river", "engine", "poem", "harvest", "glacier", "sonata"]


def text(number):
    """Texts that are not similar to one another."""
    return f"{SUBJECTS[number % 10]} {number * 7919 % 997} finest kindness, the boss said. {SUBJECTS[number // 10]}"


assigned = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\u1cf2\u1cf3")


@pytest.mark.parametrize("normalizer", NORMALIZERS.values(), ids=NORMALIZERS)
@given(given_text=st.text(assigned))
def test_folding_is_at_least_as_coarse_as_every_tokenizers_normalizer(normalizer, given_text):
    assert same_text(normalizer.normalize_str(given_text)) == same_text(given_text)


@pytest.mark.parametrize("normalizer", NORMALIZERS.values(), ids=NORMALIZERS)
def test_no_character_is_folded_less_than_a_tokenizer_folds_it(normalizer):
    # U+1CF2 and U+1CF3 are letters to older versions of Unicode, and marks to newer ones.
    known = (chr(code) for code in range(sys.maxunicode + 1) if code not in (0x1CF2, 0x1CF3))
    finer = [
        character
        for character in known
        if unicodedata.category(character) not in ("Cs", "Cn")
        and same_text(normalizer.normalize_str(f"a{character}b")) != same_text(f"a{character}b")
    ]
    assert finer == []


@given(st.text(assigned))
def test_a_folded_text_does_not_change_when_folded_again(given_text):
    assert fold_text(fold_text(given_text)) == fold_text(given_text)


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_a_disguised_text_is_the_same(disguise):
    assert same_text(disguise(text(3))) == same_text(text(3))
    assert disguise(text(3)) != text(3)


@pytest.mark.parametrize("other", ["now here", "not now", "now!", "nov"])
def test_other_letters_and_punctuation_marks_are_another_text(other):
    assert same_text(other) != same_text("now")


def test_the_same_response_to_another_question_is_another_row():
    assert same_row({"question": "Why?", "response": "Because."}) != same_row(
        {"question": "Why not?", "response": "Because."}
    )
    assert same_row({"question": "WHY ?", "response": "Because."}) == same_row(
        {"question": "Why?", "response": "be\u200bcause."}
    )


def test_the_most_similar_row_of_the_same_question_is_the_twin():
    others = [
        {"question": "q", "response": "Jordan kept on trying it."},
        {"question": "q", "response": "Jordan kept on trying!!"},
        {"question": "p", "response": "Jordan kept on trying!"},
    ]
    rows = [
        {"question": "q", "response": "Jordan kept on trying!"},
        {"question": "q", "response": "jordan kept on trying it. "},
        {"question": "p", "response": "Jordan gave up."},
    ]
    twins = find_twins(rows, others)
    assert set(twins) == {0, 1}
    assert (twins[0].index, twins[0].same) == (1, False)
    assert twins[1] == Twin(0, True, 1.0)


def test_rows_of_later_splits_that_repeat_earlier_ones_are_listed_once():
    def rows(*texts):
        return [(each, {"response": each}) for each in texts]

    found = find_split_twins(
        rows("Jordan kept on trying."),
        rows("JORDAN kept on trying.", "Jordan gave up on it."),
        rows("Jordan kept on trying!", "jordan gave up on it.", "something else"),
    )
    assert found.validation_same == ("JORDAN kept on trying.",)
    assert found.validation_near == ()
    assert found.test_same == ("jordan gave up on it.",)
    assert found.test_near == ("Jordan kept on trying!",)


@pytest.fixture
def read(tmp_path):
    def write_and_read(human, pool, split=True):
        for name, columns, rows in (
            ("h.csv", ["id", "question", "response", "label", *(["split"] if split else [])], human),
            ("u.csv", ["id", "question", "response"], pool),
        ):
            with (tmp_path / name).open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([columns, *rows])
        (tmp_path / "p.yaml").write_text(PROJECT, "utf-8")
        return read_records(read_project(tmp_path / "p.yaml"))

    return write_and_read


def label(number):
    return ("process", "outcome")[number % 2]


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_a_random_split_keeps_twins_together(read, disguise):
    rows = [(f"r{n}", "q", text(n), label(n)) for n in range(40)]
    twins = [(f"t{n}", "another question", disguise(text(n)), label(n)) for n in range(40)]
    splits = read([*rows, *twins], [("u", "q", "new")], split=False).splits
    sides = [
        {response.id[1:] for response in side.responses} for side in (splits.train, splits.validation, splits.test)
    ]
    assert sum(map(len, sides)) == 40


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_a_pool_row_that_repeats_a_coded_row_is_set_aside(read, disguise):
    split = ["train", "validation", "test"]
    human = [(f"r{n}", "q", text(n), label(n), split[n % 3]) for n in range(12)]
    pool = [*((f"u{n}", "q", disguise(text(n))) for n in range(12)), ("u99", "q", "new")]
    records = read(human, pool)
    assert [response.id for response in records.unlabelled] == ["u99"]
    assert {row.id: row.reason for row in records.set_aside} == {
        f"u{n}": f"duplicates a {split[n % 3]} row" for n in range(12)
    }


def test_a_pool_row_that_nearly_repeats_a_locked_row_is_set_aside_and_counted(read):
    split = ["train", "validation", "test"]
    human = [(f"r{n}", "q", text(n), label(n), split[n % 3]) for n in range(12)]
    pool = [(f"u{n}", "q" if n < 6 else "another question", f"{text(n)}!") for n in range(12)]
    records = read(human, pool)
    assert [response.id for response in records.unlabelled] == ["u0", "u3", *(f"u{n}" for n in range(6, 12))]
    assert records.row_counts[1].set_aside == {
        "nearly duplicates a validation row": 2,
        "nearly duplicates a test row": 2,
    }
    assert all("similarity 1.00" in row.detail for row in records.set_aside)


def test_twins_between_predefined_splits_are_counted_for_each_split(read):
    human = [(f"r{n}", "q", text(n), label(n), "train") for n in range(10)]
    human += [(f"v{n}", "q", text(n).upper(), label(n), "validation") for n in range(4)]
    human += [(f"w{n}", "q", text(20 + n), label(n), "validation") for n in range(4)]
    human += [(f"t{n}", "q", f"\ufeff{text(n)}", label(n), "test") for n in range(3)]
    human += [(f"n{n}", "q", f"{text(20 + n)}!", label(n), "test") for n in range(2)]
    human += [(f"o{n}", "p", text(n), label(n), "test") for n in range(5)]
    splits = read(human, [("u", "q", "new")]).splits
    assert splits.twins.test_same == ("t0", "t1", "t2")
    assert splits.twins.test_near == ("n0", "n1")
    assert splits.twins.validation_same == ("v0", "v1", "v2", "v3")
    assert "4 of 8 validation rows are the same to the student as a train row" in splits.notes
    assert "3 of 10 test rows are the same to the student as a train or validation row" in splits.notes
    assert "2 of 10 test rows are nearly the same as a train or validation row" in splits.notes


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_a_twin_is_no_example_in_the_prompt_of_a_response(disguise):
    response = Response("v1", {"response": text(1)}, "h.csv", 2)
    examples = [
        CodedResponse(Response(f"r{n}", {"response": disguise(text(n))}, "h.csv", n + 3), CODEBOOK.names[0])
        for n in (1, 2)
    ]
    plan = LabellingPlan([response], CODEBOOK, section("http://x"), use_same_examples(examples))
    ((_, coding),) = plan.pairs
    assert [example.response.id for example in coding.examples] == ["r2"]
