"""What one learner alone wrote is recognized; what several wrote, or only the teacher, is not about one learner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_export.authors import TEACHER, learners_of, used_by_few, without_traces, words


def _rows(*texts):
    return [{"response": text} for text in texts]


def test_rows_of_one_learner_count_once_and_unknown_authors_each():
    rows = _rows("a", "b", "c", "C!", "d")
    assert learners_of(rows, ["x", "x", None, None, TEACHER]) == ["x", "x", " c", " c", None]
    assert learners_of(rows, ()) == [" a", " b", " c", " c", " d"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from("uvwxyz"))), max_size=12))
def test_an_item_is_used_by_few_if_one_learner_and_nobody_else_used_it(rows):
    found = used_by_few([items for _, items in rows], [learner for learner, _ in rows])
    for item in "uvwxyz":
        assert (item in found) == (len({learner for learner, items in rows if item in items}) == 1)


def test_the_teacher_makes_no_item_of_one_learner_common():
    assert used_by_few([{"jaylen", "great"}, {"jaylen"}, {"great"}, {"new"}], ["a", None, "b", None]) == {"jaylen"}


@pytest.mark.parametrize(
    "text",
    [
        "Jaylen did well",
        "well done, JAYLEN!",
        "Well, Jaylen's work is fine",
        "He said that he did not give up at all",  # words of a learner, in the same order
        "no",  # a learner's whole response
        "No!",
    ],
)
def test_a_text_of_the_teacher_with_a_trace_of_a_learner_is_left_out(text):
    responses = (
        "my friend Jaylen helped",
        "and he did not give up",
        "no",
        "my friend helped, he did well",
        "well done",
    )
    assert without_traces([text], _rows(*responses), ["a", "b", "c", "d", "e"]) == []


def test_other_texts_of_the_teacher_are_kept_once():
    rows = _rows("you did well", "that did help you well", "well done that you did")
    texts = ["Did you do well?", "A new sentence, you did that", "A new sentence, you did that"]
    assert without_traces(texts, rows, ["a", "b", "c"]) == texts[:2]


@given(st.text(max_size=40))
def test_words_are_folded_and_have_no_space(text):
    assert all(word == word.casefold() and not any(c.isspace() for c in word) for word in words(text))
    assert list(words(f" {text}, ")) == list(words(text))
