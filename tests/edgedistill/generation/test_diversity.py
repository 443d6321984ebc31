"""Distinct n-grams, self-BLEU and lengths, against examples worked by hand and by another implementation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.generation import diversity
from edgedistill.generation.diversity import self_bleu


def test_distinct_n_grams_are_counted_over_all_texts():
    found = diversity(["a b a", "A c"])
    assert found.distinct_1 == 3 / 5
    assert found.distinct_2 == 3 / 3


def test_self_bleu_equals_that_of_nltk_with_smoothing_method_1():
    # nltk 3.10.4: sentence_bleu(others, text, smoothing_function=SmoothingFunction().method1), each text in turn.
    texts = ["you kept trying and it worked", "you kept trying until it worked out", "good job"]
    expected = (0.21506254256566312 + 0.20556680845025987 + 0) / 3
    assert diversity(texts).self_bleu == pytest.approx(expected)


def test_self_bleu_matches_a_worked_example():
    # Both texts have the other as reference: 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, 0 (smoothed: 0.1) of 1.
    expected = math.exp((math.log(3 / 4) + math.log(2 / 3) + math.log(1 / 2) + math.log(0.1)) / 4)
    assert self_bleu([("a", "b", "c", "d"), ("a", "b", "c", "e")]) == pytest.approx(expected)


def test_equal_texts_have_self_bleu_1():
    assert diversity(["you kept trying again"] * 3).self_bleu == pytest.approx(1.0)


def test_texts_without_a_common_word_have_self_bleu_0():
    assert diversity(["well done", "you tried"]).self_bleu == 0.0


def test_a_text_shorter_than_the_other_gets_the_brevity_penalty():
    short, long = ("a", "b", "c", "d"), ("a", "b", "c", "d", "e", "f", "g", "h")
    of_long = math.exp((math.log(4 / 8) + math.log(3 / 7) + math.log(2 / 6) + math.log(1 / 5)) / 4)
    assert self_bleu([short, long]) == pytest.approx((math.exp(1 - 8 / 4) + of_long) / 2)


def test_lengths_are_reported_as_percentiles():
    assert diversity([" ".join("w" * n) for n in range(1, 12)]).words == (2.0, 6.0, 10.0)


@pytest.mark.parametrize(("texts", "rows"), [([], 0), (["one"], 1)])
def test_undefined_figures_are_none(texts, rows):
    found = diversity(texts)
    assert (found.rows, found.distinct_2, found.self_bleu) == (rows, None, None)


def slow_bleu(texts):
    """BLEU-4 as Papineni et al. write it, text against text."""

    def grams(text, n):
        return [text[start : start + n] for start in range(len(text) - n + 1)]

    total = 0.0
    for place, text in enumerate(texts):
        others = [other for number, other in enumerate(texts) if number != place]
        logs = []
        for n in range(1, 5):
            matches = sum(
                min(grams(text, n).count(gram), max(grams(other, n).count(gram) for other in others))
                for gram in set(grams(text, n))
            )
            logs.append(math.log((matches or 0.1) / max(1, len(grams(text, n)))))
            if n == 1 and not matches:
                break
        closest = min((len(other) for other in others), key=lambda length: (abs(length - len(text)), length))
        brevity = 1 if len(text) > closest else math.exp(1 - closest / len(text))
        total += brevity * math.exp(sum(logs) / 4) if len(logs) == 4 else 0
    return total / len(texts)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=9).map(tuple), min_size=2, max_size=6))
def test_the_fast_computation_equals_the_definition(texts):
    assert self_bleu(texts) == pytest.approx(slow_bleu(texts))
