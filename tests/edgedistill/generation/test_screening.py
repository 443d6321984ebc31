"""Every sample is kept, or removed with the reason and what it repeats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.generation import RemovalReason, screen

from .writings import coded, held_out, sample, samples, train, validation


def screened(given, rows=(), locked=(), judged=(), near=0.8):
    return screen(given, train(*rows), validation(*locked), held_out(*judged), max_characters=100, near=near)


def removals(found):
    return [(removal.sample.text, removal.reason, removal.repeats) for removal in found.removed]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", RemovalReason.BLANK),
        (" \n\t", RemovalReason.BLANK),
        ("x" * 101, RemovalReason.LONG),
        ("half \ud83d", RemovalReason.NO_TEXT),
    ],
)
def test_unusable_texts_are_removed(text, reason):
    found = screened(samples("fine", text))
    assert [kept.text for kept in found.kept] == ["fine"]
    assert removals(found) == [(text, reason, "")]


def test_the_same_sample_n_times_is_kept_once():
    found = screened(samples(*["Well done, Jordan"] * 3, "well  done, jordan"))
    assert [kept.id for kept in found.kept] == ["s0"]
    assert {(removal.reason, removal.repeats, removal.similarity) for removal in found.removed} == {
        (RemovalReason.REPEATS, "s0", 1.0)
    }


def test_a_text_written_for_two_labels_is_kept_once_and_the_other_label_is_reported():
    one, other = sample("well done", "process"), sample("well done", "outcome")
    (removal,) = screened([one, other]).removed
    assert removal.detail == "written for the label 'process' there"


def test_a_near_repetition_is_removed_with_what_it_repeats():
    text = "you kept trying different strategies until it worked"
    found = screened(samples(text, text + "!", "something else entirely"))
    assert removals(found) == [(text + "!", RemovalReason.NEARLY_REPEATS, "s0")]


def test_a_sample_that_repeats_only_a_removed_one_is_kept():
    # Each resembles the one before; the third does not resemble the first, and the second is gone.
    texts = ("abcdefghij klmnopqrst", "abcdefghij klmnopqrst uvw", "abcdefghij klmnopqrst uvw xyz")
    assert [kept.id for kept in screened(samples(*texts), near=0.75).kept] == ["s0", "s2"]


def test_texts_that_differ_by_one_word_are_both_kept_if_their_labels_differ():
    one = sample("terminal one is connected to the battery", "outcome")
    other = sample("terminal one is not connected to the battery", "process")
    assert screened([one, other]).kept == (one, other)


def test_the_same_words_for_another_question_are_not_a_repetition():
    one, other = (sample("there is a closed path", question=question) for question in ("why a?", "why b?"))
    assert screened([one, other]).kept == (one, other)


@pytest.mark.parametrize(
    ("side", "reason"), [("locked", RemovalReason.NEAR_VALIDATION), ("judged", RemovalReason.NEAR_TEST)]
)
def test_a_sample_similar_to_a_held_out_row_is_removed_whatever_question_and_label(side, reason):
    near = sample("you kept trying until it worked!!", "outcome", question="why?")
    found = screened(
        [near, sample("quite another thing", question="why?")], **{side: ["You kept trying until it worked"]}
    )
    assert [(removal.sample, removal.reason, removal.repeats) for removal in found.removed] == [
        (near, reason, "v0" if side == "locked" else "t0")
    ]


def test_a_sample_similar_to_a_train_row_is_kept_and_the_nearest_row_is_reported():
    rows = [coded("far", "you kept trying until it works", "process"), coded("near", "you kept trying", "outcome")]
    found = screened(samples("you kept trying!"), rows, near=0.3)
    assert len(found.kept) == 1
    assert (found.near_train["s0"].id, found.near_train["s0"].label) == ("near", "outcome")


def test_a_train_row_of_another_question_is_not_reported():
    row = coded("near", "you kept trying", "process", "other?")
    assert screened([sample("you kept trying", question="why?")], [row]).near_train == {}


TEXTS = st.lists(st.sampled_from(["well done", "Well done!", "you tried", "you tried hard", " ", "x" * 101, "ok"]))


@given(TEXTS, TEXTS.filter(lambda texts: all(text.strip() for text in texts)))
def test_every_sample_is_kept_or_removed_once_and_no_kept_one_repeats_or_resembles_a_held_out_row(texts, locked):
    given_samples = samples(*texts)
    found = screened(given_samples, judged=locked)
    assert sorted([kept.id for kept in found.kept] + [removal.sample.id for removal in found.removed]) == sorted(
        each.id for each in given_samples
    )
    again = screened(found.kept, judged=locked)
    assert again.kept == found.kept
