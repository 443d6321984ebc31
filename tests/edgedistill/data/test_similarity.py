"""Similarity is the exact share of common character trigrams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.twins import find_similar_pairs, fold_text


def by_hand(one, other):
    sets = [{f" {fold_text(text)} "[n : n + 3] for n in range(max(1, len(fold_text(text))))} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_similarity_matches_a_worked_example():
    # " abcd " has abc, bcd and two with a space; " abce " shares " ab" and "abc": 2 of 6.
    assert list(find_similar_pairs(["abcd"], ["abce"], 0.1)) == [(0, 0, pytest.approx(2 / 6))]


@given(
    st.lists(st.text("ab c", min_size=1).filter(str.strip), max_size=8),
    st.lists(st.text("ab c", min_size=1).filter(str.strip), max_size=8),
)
def test_every_pair_that_is_similar_enough_is_found_with_its_similarity(texts, others):
    expected = {
        (i, j): by_hand(a, b) for i, a in enumerate(texts) for j, b in enumerate(others) if by_hand(a, b) >= 0.5
    }
    assert {(i, j): found for i, j, found in find_similar_pairs(texts, others, 0.5)} == pytest.approx(expected)


def test_more_texts_than_one_block_are_all_compared():
    texts = [f"text number {n:04}" for n in range(1100)]
    found = {i for i, j, similarity in find_similar_pairs(texts, texts, 1.0) if i == j and similarity == 1}
    assert found == set(range(1100))


def test_case_and_white_space_are_ignored():
    assert [pair[2] for pair in find_similar_pairs(["Well  DONE"], ["well done "], 1.0)] == [1.0]


@pytest.mark.parametrize("other", ["Nice!", "nice", "\u201cnice\u201d", "Nice ...", "(nice)", "\u00bfNice?"])
def test_punctuation_at_the_ends_is_ignored_even_in_a_short_text(other):
    assert [pair[2] for pair in find_similar_pairs(["Nice."], [other], 1.0)] == [1.0]


@pytest.mark.parametrize(("text", "other"), [("-5", "5"), ("1.5", "15"), ("?", "!"), ("can't", "cant")])
def test_signs_inside_a_text_and_texts_of_signs_alone_count(text, other):
    assert list(find_similar_pairs([text], [other], 0.8)) == []


@pytest.mark.parametrize(("texts", "others"), [([], ["a"]), (["a"], []), ([], [])])
def test_nothing_is_similar_to_nothing(texts, others):
    assert list(find_similar_pairs(texts, others, 0.5)) == []
