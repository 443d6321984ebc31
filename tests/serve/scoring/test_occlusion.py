"""Word effects: the words, the response without a word, and the effect of the word."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import Score
from edgedistill_serve.scoring.occlusion import remove_word, split_words, word_effects


def score(label: str, **probabilities: float) -> Score:
    return Score(label, probabilities[label], probabilities, "accept", None, truncated=False, tokens=3)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("You kept trying!", ["You", "kept", "trying"]),
        ("don't re-do it, o’clock", ["don't", "re-do", "it", "o’clock"]),  # noqa: RUF001  # a typographic apostrophe
        ("3.5 volts - no", ["3", "5", "volts", "no"]),
        ("élève 🙂 naïve", ["élève", "naïve"]),
        ("", []),
        (" …!? ", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_with_their_apostrophes_and_hyphens(response, words):
    assert [word.word for word in split_words(response)] == words


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("Weiß nicht, Straßenbahn-Linie", ["Weiß", "nicht", "Straßenbahn-Linie"]),
        ("المصباح مُضاء", ["المصباح", "مُضاء"]),
        ("किताब अच्छी है", ["किताब", "अच्छी", "है"]),
        ("e\u0301le\u0300ve", ["e\u0301le\u0300ve"]),
        ("电路是闭合的。", ["电", "路", "是", "闭", "合", "的"]),
        ("用iPhone手机", ["用", "iPhone", "手", "机"]),
        ("電気のスイッチです", ["電", "気", "の", "スイッチ", "です"]),
        ("ดีมาก", ["ดี", "มา", "ก"]),
        ("ไม่รู้ ครับ", ["ไม่", "รู้", "ค", "รั", "บ"]),
        ("ខ្ញុំ", ["ខ្ញុំ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("전구가 켜졌다", ["전구가", "켜졌다"]),
    ],
)
def test_words_of_other_scripts_keep_their_marks_and_need_no_spaces(response, words):
    assert [word.word for word in split_words(response)] == words


@given(st.text(st.sampled_from("aé1'-_ \u0301灯ดี\u0e31ไรខ្ញុмのスー")))
def test_every_letter_is_in_one_word(response):
    words = split_words(response)
    assert all(one.end <= other.start for one, other in pairwise(words))
    covered = "".join(word.word for word in words)
    assert [letter for letter in covered if letter.isalnum()] == [letter for letter in response if letter.isalnum()]


@pytest.mark.parametrize(
    ("response", "rests"),
    [
        ("you kept trying", ["kept trying", "you trying", "you kept"]),
        ("Nice, Jordan.", [", Jordan.", "Nice,."]),
        ("so\nwhat", ["what", "so"]),
        ("one", [""]),
    ],
)
def test_a_word_is_left_out_with_one_space(response, rests):
    assert [remove_word(response, word) for word in split_words(response)] == rests


@given(st.text())
def test_a_word_is_at_its_position_and_is_removed_with_at_most_a_space(response):
    for word in split_words(response):
        assert response[word.start : word.end] == word.word
        assert len(response) - len(remove_word(response, word)) - len(word.word) in (0, 1)


def test_a_change_is_the_probability_with_the_word_minus_that_without_it():
    words = split_words("kept trying")
    whole = score("process", process=0.75, outcome=0.25)
    parts = [score("outcome", process=0.25, outcome=0.75), score("process", process=1.0, outcome=0.0)]
    first, second = word_effects(words, whole, parts)
    assert (first.word, first.start, first.end, first.label) == ("kept", 0, 4, "outcome")
    assert first.changes == {"process": 0.5, "outcome": -0.5}
    assert second.changes == {"process": -0.25, "outcome": 0.25}
