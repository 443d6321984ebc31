"""Word effects by occlusion: each word of a response is removed in turn, and the rest is scored again.

Only words of the response are removed, not of its question or reference answer. The method is occlusion (Zeiler and
Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2; for text Li, Monroe and Jurafsky
2016, "Understanding Neural Networks through Representation Erasure"). It shows what the model reacts to, not why a
human coder would choose the label.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby

from edgedistill_serve.hidden_texts import HiddenTexts
from edgedistill_serve.scoring.scorer import Score

_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = ("\u3040-\u309f", "\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f")
_NO_SPACES = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\uaa60-\uaa7f\uaa80-\uaadf"
"""Thai and Lao, Tibetan, Myanmar, Khmer, Tai: scripts that write no space between words."""
_VOWELS_BEFORE = "\u0e40-\u0e44\u0ec0-\u0ec4"
_VOWELS_AFTER = "\u0e30\u0e32\u0e33\u0e45\u0e46\u0eb0\u0eb2\u0eb3\u0ec6"
_STACKING = "\u1039\u17d2\u1a60"
"""Signs that put the following consonant below the one before."""


class Word(HiddenTexts, frozen=True):
    """One word of a response.

    Attributes:
        word: The word as written.
        start: Position of its first character in the response, in code points.
        end: Position after its last character.
    """

    word: str
    start: int
    end: int


class WordEffect(HiddenTexts, frozen=True):
    """Effect of one word on the score.

    Attributes:
        word: The word as written.
        start: Position of its first character in the response, in code points.
        end: Position after its last character.
        label: Label of the response without the word.
        changes: For each label, its probability with the word minus its probability without it, in [-1, 1]. A positive
            value means that the word raises the probability.
    """

    word: str
    start: int
    end: int
    label: str
    changes: dict[str, float]


def split_words(response: str) -> list[Word]:
    """Return the words of a response in order.

    A word is a run of letters, their marks, and digits, joined by apostrophes or hyphens. Where a script writes no
    spaces, a part of such a run counts as a word: each Chinese character, each run of hiragana or of katakana, and in
    Thai, Lao, Khmer, Myanmar and Tibetan each consonant with its vowels and marks. Words in these languages are longer,
    but only a dictionary could find them. The server's page shows these words, and splits nothing itself.
    """
    word, part = _patterns()
    return [
        Word(found.group(), match.start() + found.start(), match.start() + found.end())
        for match in word.finditer(response)
        for found in part.finditer(match.group())
    ]


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return a pattern of words, and one that splits a word where a script writes no spaces."""
    marks = _ranges([chr(point) for point in range(0x300, 0xE01F0) if unicodedata.category(chr(point))[0] == "M"])
    letter = rf"[\w{marks}]"
    word = re.compile(rf"\w{letter}*(?:['’\-]{letter}+)*")  # noqa: RUF001  # a typographic apostrophe
    cluster = (
        rf"[{_VOWELS_BEFORE}]?[{_NO_SPACES}][{marks}]*(?:(?<=[{_STACKING}])[{_NO_SPACES}][{marks}]*)*[{_VOWELS_AFTER}]*"
    )
    kana = "|".join(rf"[{script}][{script}{marks}]*" for script in _KANA)
    other = rf"[^{_HAN}{''.join(_KANA)}{_NO_SPACES}]+"
    return word, re.compile(rf"[{_HAN}][{marks}]*|{kana}|{cluster}|{other}")


def _ranges(letters: Sequence[str]) -> str:
    """Return letters in the order of their code points as the inside of a character class."""
    runs = [list(run) for _, run in groupby(enumerate(letters), lambda item: ord(item[1]) - item[0])]
    return "".join(f"{run[0][1]}-{run[-1][1]}" for run in runs)


def remove_word(response: str, word: Word) -> str:
    """Return the response without one word and the space before it (after it, for the first word)."""
    before, after = response[: word.start], response[word.end :]
    if before[-1:].isspace():
        return before[:-1] + after
    return before + (after[1:] if not before and after[:1].isspace() else after)


def word_effects(words: Sequence[Word], full: Score, reduced: Sequence[Score]) -> list[WordEffect]:
    """Return the effect of each word.

    Args:
        words: The removed words.
        full: Score of the full response.
        reduced: ``reduced[i]`` is the score without ``words[i]``.
    """
    return [
        WordEffect(
            word.word,
            word.start,
            word.end,
            score.label,
            {label: share - score.probabilities[label] for label, share in full.probabilities.items()},
        )
        for word, score in zip(words, reduced, strict=True)
    ]
