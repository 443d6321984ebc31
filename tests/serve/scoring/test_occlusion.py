"""Word effects: the words, the response without a word, and the effect of the word."""

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
