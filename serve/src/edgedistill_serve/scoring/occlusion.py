"""Which words moved a score: each word of a response is left out in turn, and what remains is scored again.

The words are those of the response, not of its question or reference answer. Leaving a word out is occlusion (Zeiler
and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2; for text Li, Monroe and Jurafsky
2016, "Understanding Neural Networks through Representation Erasure"). It shows what the model reacts to, not why a
person would code the response so.
"""

import re
from collections.abc import Sequence

import msgspec

from edgedistill_serve.scoring.scorer import Score

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")  # noqa: RUF001  # a typographic apostrophe is part of a word


class Word(msgspec.Struct, frozen=True):
    """One word of a response.

    Attributes:
        word: As it was written.
        start: Its first character's place in the response, in code points.
        end: The place after its last character.
    """

    word: str
    start: int
    end: int


class WordEffect(msgspec.Struct, frozen=True):
    """What one word does to the score.

    Attributes:
        word: As it was written.
        start: Its first character's place in the response, in code points.
        end: The place after its last character.
        label: The label that the response has without it.
        changes: Per label, its probability with the word minus that without it, in [-1, 1]: above 0, the word speaks
            for the label.
    """

    word: str
    start: int
    end: int
    label: str
    changes: dict[str, float]


def split_words(response: str) -> list[Word]:
    """Return the words of a response in order: runs of letters and digits, joined by apostrophes or hyphens."""
    return [Word(found.group(), found.start(), found.end()) for found in _WORD.finditer(response)]


def remove_word(response: str, word: Word) -> str:
    """Return the response with one word left out, and with it the space before it, or after it at the beginning."""
    before, after = response[: word.start], response[word.end :]
    if before[-1:].isspace():
        return before[:-1] + after
    return before + (after[1:] if not before and after[:1].isspace() else after)


def word_effects(words: Sequence[Word], whole: Score, parts: Sequence[Score]) -> list[WordEffect]:
    """Return what each word does.

    Args:
        words: The words that were left out.
        whole: The score of the response as it is.
        parts: ``parts[i]`` is the score without ``words[i]``.
    """
    return [
        WordEffect(
            word.word,
            word.start,
            word.end,
            part.label,
            {label: share - part.probabilities[label] for label, share in whole.probabilities.items()},
        )
        for word, part in zip(words, parts, strict=True)
    ]
