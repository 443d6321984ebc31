"""Similarity is the exact share of common character trigrams."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data import twins
from edgedistill.data.twins import Twin, find_similar_pairs, find_twins, fold_text, same_row


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


@pytest.mark.parametrize(
    "other",
    [
        "<p>Nice</p>",
        "<P class='x'>Nice</P>\n<br/>",
        "&lt;p&gt;Nice&lt;/p&gt;",
        "&nbsp;Nice&#33;",
        "<div><span>N&shy;ice</span></div>",
        "N&iacute;ce",
    ],
)
def test_html_is_ignored(other):
    assert [pair[2] for pair in find_similar_pairs(["Nice."], [other], 1.0)] == [1.0]
    assert find_twins([{"response": other}], [{"response": "Nice."}]) == {0: Twin(0, False, 1.0)}


@pytest.mark.parametrize(
    ("text", "other"), [("a<b, c>d", "a<e, f>d"), ("<p>", "<br>"), ("x < p, y > 1", "x < q, y > 2")]
)
def test_what_only_looks_like_html_counts(text, other):
    assert list(find_similar_pairs([text], [other], 0.8)) == []


@pytest.mark.parametrize(("text", "other"), [("-5", "5"), ("1.5", "15"), ("?", "!"), ("can't", "cant")])
def test_signs_inside_a_text_and_texts_of_signs_alone_count(text, other):
    assert list(find_similar_pairs([text], [other], 0.8)) == []


@pytest.mark.parametrize(("texts", "others"), [([], ["a"]), (["a"], []), ([], [])])
def test_nothing_is_similar_to_nothing(texts, others):
    assert list(find_similar_pairs(texts, others, 0.5)) == []


@pytest.mark.parametrize("names", [{}, {"_CHARACTERS_PER_PART": 1}, {"_BLOCK": 3}, {"_TRIGRAMS_PER_BLOCK": 5}])
@pytest.mark.parametrize("long", [False, True])
def test_no_limit_on_memory_changes_which_pairs_are_found(monkeypatch, names, long):
    for name, value in names.items():
        monkeypatch.setattr(twins, name, value)
    texts = [("so it goes " * 30 * long) + "".join("abc"[n // 3**place % 3] for place in range(5)) for n in range(60)]
    others = [*texts[::7], "another one"]
    expected = {
        (i, j): by_hand(a, b) for i, a in enumerate(texts) for j, b in enumerate(others) if by_hand(a, b) >= 0.7
    }
    found = list(find_similar_pairs(texts, others, 0.7))
    assert {(i, j): similarity for i, j, similarity in found} == pytest.approx(expected)
    assert found == sorted(found)


@st.composite
def make_rows(draw):
    texts = st.text("ab c.", min_size=1, max_size=9).filter(str.strip)
    row = st.fixed_dictionaries({"question": st.sampled_from(["why", "Why ", "how"]), "response": texts})
    return draw(st.lists(row, max_size=9))


@given(make_rows(), make_rows())
def test_the_twin_of_a_row_is_the_first_of_the_most_similar_ones_of_its_question(rows, others):
    expected = {}
    for index, row in enumerate(rows):
        for place, other in enumerate(others):
            if fold_text(row["question"]) != fold_text(other["question"]):
                continue
            same = same_row(row) == same_row(other)
            pairs = list(find_similar_pairs([row["response"]], [other["response"]], 0.5))
            if same or pairs:
                twin = Twin(place, same, 1.0 if same else pairs[0][2])
                before = expected.get(index)
                if before is None or (twin.same, twin.similarity) > (before.same, before.similarity):
                    expected[index] = twin
    assert find_twins(rows, others, 0.5) == expected


def test_a_text_that_occurs_many_times_is_compared_once(monkeypatch):
    compared = []
    trigrams = twins._trigrams
    monkeypatch.setattr(twins, "_trigrams", lambda *texts: compared.extend(map(len, texts)) or trigrams(*texts))
    rows, others = ([{"response": text}] * 5000 for text in ("You kept trying, I see", "You kept trying, I see it"))
    assert find_twins(rows, others) == dict.fromkeys(range(5000), Twin(0, False, 22 / 25))
    assert compared == [1, 1]


def test_the_memory_for_long_texts_does_not_grow_with_their_number(monkeypatch):
    monkeypatch.setattr(twins, "_CHARACTERS_PER_PART", 50_000)

    def peak(count):
        rows = [{"response": f"{n} " + "and so it goes on, " * 250} for n in range(count)]
        tracemalloc.start()
        find_twins(rows, [{"response": "something else"}])
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size - sum(len(row["response"]) for row in rows)  # the folded texts themselves

    assert peak(200) < 2 * peak(50)
