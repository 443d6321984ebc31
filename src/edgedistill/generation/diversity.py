"""The diversity of texts: distinct n-grams, self-BLEU, length."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.data.twins import fold_text

_SMOOTHING = 0.1  # replaces a count of 0 (Chen and Cherry 2014, method 1), as in NLTK
_ORDERS = (1, 2, 3, 4)
Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diversity:
    """The diversity of texts.

    Attributes:
        rows: Number of texts. Distinct n-grams fall and self-BLEU rises with it: compare sets of similar size.
        distinct_1: Distinct words over all words (Li et al. 2016), in (0, 1]; None without words.
        distinct_2: Distinct word pairs over all word pairs, in (0, 1]; None if no text has two words.
        self_bleu: Mean BLEU-4 of each text against all others (Zhu et al. 2018), in [0, 1]; None for a single text.
        words: 10th, 50th and 90th percentile of the number of words; None without texts.
    """

    rows: int
    distinct_1: float | None
    distinct_2: float | None
    self_bleu: float | None
    words: tuple[float, float, float] | None


def diversity(texts: Sequence[str]) -> Diversity:
    """Compute the diversity of texts; words are separated by white space and case-folded."""
    tokens = [tuple(fold_text(text).split()) for text in texts]
    lengths = [len(each) for each in tokens]
    low, middle, high = np.percentile(lengths, [10, 50, 90]).round(1).tolist() if lengths else (0, 0, 0)
    return Diversity(
        rows=len(texts),
        distinct_1=_distinct(tokens, 1),
        distinct_2=_distinct(tokens, 2),
        self_bleu=self_bleu(tokens) if len(tokens) > 1 else None,
        words=(low, middle, high) if lengths else None,
    )


def self_bleu(texts: Sequence[Tokens]) -> float:
    """Return the mean over texts of BLEU-4 (Papineni et al. 2002) with all other texts as references.

    The largest count of an n-gram in any *other* text follows from its two largest counts over all texts, so the time
    is linear in the number of words, not quadratic in the number of texts.

    Args:
        texts: Two or more texts as words.
    """
    counts = {n: [_ngrams(text, n) for text in texts] for n in _ORDERS}
    largest = {n: _two_largest(counts[n]) for n in _ORDERS}
    lengths = Counter(map(len, texts))
    return math.fsum(
        _bleu(
            len(text), _closest(len(text), lengths), [_precision(counts[n][index], largest[n], index) for n in _ORDERS]
        )
        for index, text in enumerate(texts)
    ) / len(texts)


def _distinct(texts: Sequence[Tokens], n: int) -> float | None:
    ngrams = [ngram for text in texts for ngram in _ngrams(text, n).elements()]
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def _ngrams(text: Tokens, n: int) -> Counter[Tokens]:
    return Counter(text[start : start + n] for start in range(len(text) - n + 1))


def _two_largest(counts: Sequence[Counter[Tokens]]) -> dict[Tokens, tuple[int, int, int]]:
    """Return for each n-gram its largest count in a text, the text's index, and its largest count in the others."""
    largest: dict[Tokens, tuple[int, int, int]] = {}
    for index, each in enumerate(counts):
        for ngram, count in each.items():
            most, where, second = largest.get(ngram, (0, -1, 0))
            largest[ngram] = (count, index, most) if count > most else (most, where, max(second, count))
    return largest


def _precision(ngrams: Counter[Tokens], largest: dict[Tokens, tuple[int, int, int]], index: int) -> tuple[int, int]:
    """Return the clipped matches of a text's n-grams in the other texts, and its number of n-grams (at least 1)."""
    matches = 0
    for ngram, count in ngrams.items():
        most, where, second = largest[ngram]
        matches += min(count, second if where == index else most)
    return matches, max(1, ngrams.total())


def _closest(length: int, lengths: Counter[int]) -> int:
    """Return the closest length of another text; of two equally close ones, the shorter."""
    others = [other for other, count in lengths.items() if count > (other == length)]
    return min(others, key=lambda other: (abs(other - length), other))


def _bleu(length: int, reference: int, precisions: Sequence[tuple[int, int]]) -> float:
    if not length or not precisions[0][0]:
        return 0.0
    brevity = 1.0 if length > reference else math.exp(1 - reference / length)
    logs = [math.log((matches or _SMOOTHING) / total) for matches, total in precisions]
    return brevity * math.exp(math.fsum(logs) / len(logs))
