"""Word effects by occlusion: each word of a response is removed in turn, and the rest is scored again.

Only words of the response are removed, not of its question or reference answer. The method is occlusion (Zeiler and
Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2; for text Li, Monroe and Jurafsky
2016, "Understanding Neural Networks through Representation Erasure"). It shows what the model reacts to, not why a
human coder would choose the label.
"""

import re
from collections.abc import Sequence

from edgedistill_serve.hidden_texts import HiddenTexts
from edgedistill_serve.scoring.scorer import Score

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")  # noqa: RUF001  # a typographic apostrophe is part of a word


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
    """Return the words of a response in order: runs of letters and digits, joined by apostrophes or hyphens."""
    return [Word(match.group(), match.start(), match.end()) for match in _WORD.finditer(response)]


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
