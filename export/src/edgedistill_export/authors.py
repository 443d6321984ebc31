"""Who wrote the texts that an export knows, and what would give one learner away in a file that leaves the project.

A word, or a token of the vocabulary, that a single learner used can be a name. What several learners used, or what only
the teacher wrote, is not about one learner.
"""

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

Author: TypeAlias = str | None
"""The learner (or the group, where rows have one) that wrote a response, `TEACHER`, or None if that is not known."""

TEACHER: Final = " teacher"
"""The author of a synthetic response. Names of learners that are read from a file do not begin with a space."""

LEAST_LEARNERS = 2
"""Number of learners from which on a word or a token is not about one of them."""
_RUN = 4
"""Words in a row of one learner that no text of the teacher may repeat."""

_Item = TypeVar("_Item")


def learners_of(rows: Sequence[Mapping[str, str]], authors: Sequence[Author]) -> list[str | None]:
    """Return the learner of each row; None for the teacher's.

    A row without a known author is a learner of its own; rows with the same words are of the same one.

    Args:
        rows: The task's inputs.
        authors: The author of each row; empty if none is known.
    """
    known = authors or [None] * len(rows)
    return [
        None if author == TEACHER else " ".join(["", *words(row["response"])]) if author is None else author
        for row, author in zip(rows, known, strict=True)
    ]


def used_by_few(
    used: Sequence[Collection[_Item]], learners: Sequence[str | None], least: int = LEAST_LEARNERS
) -> set[_Item]:
    """Return what at least one and fewer than ``least`` learners used, whatever the teacher used.

    Args:
        used: What each response consists of, such as its words or tokens.
        learners: As `learners_of` returns them.
        least: Number of learners from which on an item is not returned.
    """
    of: dict[_Item, set[str]] = {}
    for items, learner in zip(used, learners, strict=True):
        if learner is not None:
            for item in items:
                of.setdefault(item, set()).add(learner)
    return {item for item, who in of.items() if len(who) < least}


def words(text: str) -> Iterator[str]:
    """Yield the words of a text, folded: letters, digits and marks, as long as they stand together."""
    word = ""
    for character in text.casefold():
        # A combining mark belongs to its word, as in Thai or Hindi.
        if character.isalnum() or unicodedata.combining(character) or unicodedata.category(character).startswith("M"):
            word += character
        elif word:
            yield word
            word = ""
    if word:
        yield word


def private_words(rows: Sequence[Mapping[str, str]], authors: Sequence[Author]) -> set[str]:
    """Return the words that only one learner used, folded."""
    return used_by_few([set(words(row["response"])) for row in rows], learners_of(rows, authors))


def without_traces(texts: Sequence[str], rows: Sequence[Mapping[str, str]], authors: Sequence[Author]) -> list[str]:
    """Return the texts of the teacher from which nothing of a single learner can be read.

    A teacher sees examples and may repeat them. A text is left out if it has a word that only one learner used, or
    `_RUN` words in a row of any learner's response.

    Args:
        texts: Texts of the teacher.
        rows: The task's inputs of every known row.
        authors: As for `learners_of`.
    """
    learners = learners_of(rows, authors)
    written = [list(words(row["response"])) for row in rows]
    private = private_words(rows, authors)
    runs = {
        tuple(of_row[start : start + _RUN])
        for of_row, learner in zip(written, learners, strict=True)
        if learner is not None
        for start in range(max(1, len(of_row) - _RUN + 1))
    }

    def has_trace(text: str) -> bool:
        found = list(words(text))
        parts = (tuple(found[start : start + _RUN]) for start in range(max(1, len(found) - _RUN + 1)))
        return not private.isdisjoint(found) or any(part in runs for part in parts)

    return [text for text in dict.fromkeys(texts) if not has_trace(text)]
