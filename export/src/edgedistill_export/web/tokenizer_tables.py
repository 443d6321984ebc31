"""Tables with which a page tokenizes like Python: the special tokens around texts, and the result for every character.

Both are computed with the tokenizer itself.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Any

from tokenizers import Tokenizer
from tokenizers.normalizers import NFKC, BertNormalizer, Normalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from edgedistill_serve.scoring.encoding import find_unknown_token

_LETTERS = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
_BETWEEN = "☃"
"""A character that no tokenizer merges or changes; it separates the characters of a probe."""
_AT_ONCE = 2**16


def tokenizer_tables(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of `reading.json`.

    Args:
        tokenizer: The tokenizer as the scorer uses it.

    Returns:
        ``unknown``: the id of the token for text outside the vocabulary, or None. ``single`` and ``pair``: the sequence
        of special tokens as ``{id, type}`` and texts as ``{text, type}``, with text 0 the first of a pair. ``letters``:
        for BERT tokenizers, tables of the normalized form of every character and of the characters that separate words;
        None for others, which the page runs from ``tokenizer.json``. ``unchanged``: for tokenizers with NFKC, ranges of
        the characters that it leaves alone though a newer Unicode changes them.
    """
    said = json.loads(tokenizer.to_str())
    of_bert = _kind(said["normalizer"]) == "BertNormalizer" and _kind(said["pre_tokenizer"]) == "BertPreTokenizer"
    return {
        "unknown": find_unknown_token(tokenizer),
        "single": _frame(tokenizer, "a"),
        "pair": _frame(tokenizer, "a", "a"),
        "letters": _letters(json.dumps(said["normalizer"])) if of_bert else None,
        "unchanged": _unchanged_by_nfkc() if '"NFKC"' in json.dumps(said["normalizer"]) else [],
    }


def _kind(part: dict[str, Any] | None) -> str | None:
    return part["type"] if part else None


def _frame(tokenizer: Tokenizer, *texts: str) -> list[dict[str, int]]:
    encoded = tokenizer.encode(*texts)
    frame: list[dict[str, int]] = []
    for token, kind, text in zip(encoded.ids, encoded.type_ids, encoded.sequence_ids, strict=True):
        part = {"id": token, "type": kind} if text is None else {"text": text, "type": kind}
        if text is None or not frame or frame[-1] != part:
            frame.append(part)
    return frame


@lru_cache(maxsize=8)
def _letters(described: str) -> dict[str, Any]:
    """Return the tables of a BERT normalizer, given as its JSON."""
    normalizer = BertNormalizer(**{key: value for key, value in json.loads(described).items() if key != "type"})
    read = dict(zip(_LETTERS, _normalized(normalizer), strict=True))
    # Characters with Unicode's own decomposition need no table: Unicode guarantees that it does not change.
    decomposed = [letter for letter, now in read.items() if "가" <= letter <= "힣" and now != letter]
    as_unicode = all(read[letter] == unicodedata.normalize("NFD", letter) for letter in decomposed)
    left_out = set(decomposed) if as_unicode else set()
    changed = {letter: now for letter, now in read.items() if now != letter and letter not in left_out}
    alone = [letter for letter, now in changed.items() if now == f" {letter} "]
    gaps, marks = _parting(sorted(set("".join(read.values()))))
    return {
        "drop": _ranges(letter for letter, now in changed.items() if not now),
        "space": _ranges(letter for letter, now in changed.items() if now == " "),
        "alone": _ranges(alone),
        "decompose": _ranges(sorted(left_out)),
        "replace": {letter: now for letter, now in changed.items() if now.strip(" ") and now != f" {letter} "},
        "gaps": _ranges(gaps),
        "marks": _ranges(marks),
    }


@cache
def _unchanged_by_nfkc() -> list[int]:
    """Ranges of characters that are newer than the tokenizer's tables of NFKC, or than Python's.

    To the tokenizer they are letters without a decomposition that combine with nothing.
    """
    normalizer = NFKC()

    def is_newer(letter: str, now: str) -> bool:
        if now != letter:
            return False
        if unicodedata.category(letter) == "Cn" or unicodedata.normalize("NFKC", letter) != letter:
            return True
        # A mark is put in order with other marks if its class is known.
        probes = [f"q{mark}{letter}{other}" for mark, other in (("\u0345", "\u0323"), ("\u0301", "\u0334"))]
        return bool(unicodedata.combining(letter)) and any(
            normalizer.normalize_str(probe) != unicodedata.normalize("NFKC", probe) for probe in probes
        )

    read = zip(_LETTERS, _normalized(normalizer), strict=True)
    return _ranges(letter for letter, now in read if is_newer(letter, now))


def _normalized(normalizer: Normalizer) -> Iterable[str]:
    for start in range(0, len(_LETTERS), _AT_ONCE):
        probe = _LETTERS[start : start + _AT_ONCE]
        snowman = _BETWEEN in probe
        if snowman:
            probe = [letter for letter in probe if letter != _BETWEEN]
        parts = normalizer.normalize_str(_BETWEEN.join(probe)).split(_BETWEEN)
        if snowman:
            parts.insert(_LETTERS.index(_BETWEEN) - start, _BETWEEN)
        yield from parts


def _parting(letters: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the characters between words, and those that always are separate words."""
    gaps, marks, pre_tokenizer = [], [], BertPreTokenizer()
    for start in range(0, len(letters), _AT_ONCE):
        some = letters[start : start + _AT_ONCE]
        # Character n is at 3 n + 1; ordinary ones form one long word with their neighbours.
        before = 0
        for _, (begin, end) in pre_tokenizer.pre_tokenize_str("".join(f"a{letter}a" for letter in some)):
            gaps += [some[place // 3] for place in range(before, begin)]
            marks += [some[begin // 3]] if end - begin == 1 and begin % 3 == 1 else []
            before = end
    return gaps, marks


def _ranges(letters: Iterable[str]) -> list[int]:
    """Return alternating first and last code points of ranges, for characters in ascending order."""
    points = [ord(letter) for letter in letters]
    firsts = points[:1] + [after for before, after in pairwise(points) if after != before + 1]
    lasts = [before for before, after in pairwise(points) if after != before + 1] + points[-1:]
    return list(chain.from_iterable(zip(firsts, lasts, strict=True)))
