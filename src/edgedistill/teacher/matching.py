"""Recognises labels in texts: as the whole text, or as the only label that a sentence states.

An exact match always wins. Otherwise the text is compared under weaker and weaker notions of equality; under each, it
must equal exactly one label, so nothing that is stripped or folded can turn one label into another: with the labels
``A`` and ``A*``, the text ``**A**`` is ``A`` and ``A*.`` is ``A*``, and ``A *`` is neither.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from edgedistill.task import fold_label
from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL

_LONGEST = 2_000  # characters; a longer text is no label, whose names have at most 200
_MOST_LAYERS = 12  # of quotes, emphasis and punctuation around a label
_PAIRS = {'"': '"', "'": "'", "`": "`", "*": "*", "_": "_", "~": "~"} | {"(": ")", "[": "]", "{": "}", "<": ">"}
_PAIRS |= {"\u201c": "\u201d", "\u201e": "\u201c", "\u2018": "\u2019", "\u00ab": "\u00bb", "\u300c": "\u300d"}
_EMPHASIS = "*_~"
_TRAILING = ".,;:!\u3002\uff0c\uff1b\uff1a\uff01\u0964\u061b\u060c"
_LEADING = re.compile(r"(?:[-*\u2022]|#{1,6}|[-=]+>|:)[ \t]+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_SEPARATORS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")  # a sign in Markdown: A\* is A*
_SPACES = re.compile(r"[\s\\]+")
_SIGNS = re.compile(r"[\W_]*")
_PLAIN_SIGNS = frozenset("*.,:;!?\"'`()[]{}<>|=-_/&%#+\u2022\u00ab\u00bb\u3002\uff0c\uff1b\uff1a\uff01")
"""Signs beside a label that belong to the sentence, unless another label has them; others may mean that label."""


def match_label(named: str, labels: Sequence[str]) -> str | None:
    """Return the label that a text states, or None if it is none of them or could be several.

    Quotes, emphasis, brackets, a list's bullet and final punctuation around the label are ignored, and so are case,
    white space, Unicode composition, character width, and the style of quotes and dashes. A decimal number equals the
    label with the same value, and ``no_praise`` equals ``no praise``.
    """
    if named in labels:
        return named
    if len(named) > _LONGEST:
        return None
    folded, signed = _fold_labels(tuple(labels)), _signed_labels(tuple(labels))
    texts = {_unescape(named, labels).strip()}
    for _ in range(_MOST_LAYERS):
        found = {label for text in texts for label in _equal_labels(text, folded)}
        if found:
            return found.pop() if len(found) == 1 else None
        if signed.tight and any(_tight(text) in signed.tight for text in texts):
            return None
        texts = {
            inner for text in texts for inner in _peel(text) if text[-1] not in _TRAILING or text[-1] not in labels
        }
    return None


class _SignedLabels(NamedTuple):
    """Labels that are other labels without their signs, such as ``A`` and ``A*``, or ``1`` and ``-1``.

    Attributes:
        tight: Their folded forms without spaces.
        signs: For each of them, the signs before and after the letters and digits of those that share these.
    """

    tight: frozenset[str]
    signs: Mapping[str, tuple[frozenset[str], frozenset[str]]]


@lru_cache(maxsize=64)
def _signed_labels(labels: tuple[str, ...]) -> _SignedLabels:
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault("".join(filter(str.isalnum, _casefold(label))), []).append(label)
    signs: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for group in alike.values():
        if len(group) > 1:
            forms = [_tight(label) for label in group]
            before = frozenset(sign for form in forms for sign in _signs_at_start(form))
            after = frozenset(sign for form in forms for sign in _signs_at_start(form[::-1]))
            signs.update(dict.fromkeys(group, (before, after)))
    return _SignedLabels(frozenset(map(_tight, signs)), signs)


def _signs_at_start(text: str) -> str:
    found = _SIGNS.match(text)
    return found[0] if found else ""


def _tight(text: str) -> str:
    return _SPACES.sub("", _casefold(text))


def _unescape(text: str, labels: Sequence[str]) -> str:
    """Return a text without the backslashes of Markdown, unless a label has one."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text and not any("\\" in label for label in labels) else text


def _equal_labels(text: str, folded: "_FoldedLabels") -> list[str]:
    """Return the labels that equal a text under the strictest notion under which any does."""
    for notion, names in folded:
        form = notion(text)
        if form is not None and (equal := names.get(form)):
            return equal
    return []


def match_labels(named: object, labels: Sequence[str]) -> str | None:
    """Return the labels in codebook order, joined, or `NO_LABEL`.

    Args:
        named: A list of labels, or a text with `LABEL_SEPARATOR`, line breaks or commas between them; an empty list, or
            `NO_LABEL` alone, means no label.
        labels: The codebook's labels.

    Returns:
        The joined labels; None if something is not a label, or if the text is empty.
    """
    if isinstance(named, str):
        separated = (named.split(separator) for separator in (LABEL_SEPARATOR, "\n", ","))
        return next(filter(None, (_match_parts(parts, labels) for parts in separated)), None)
    return _match_parts(named, labels) if isinstance(named, list) else None


def _match_parts(parts: Sequence[object], labels: Sequence[str]) -> str | None:
    texts = [text for part in parts if (text := text_of(part)) is None or text.strip()]
    if not texts and parts:
        return None
    if not texts or (len(texts) == 1 and texts[0] is not None and match_label(texts[0], (NO_LABEL,))):
        return NO_LABEL
    matched = [match_label(text, labels) if text is not None else None for text in texts]
    return None if None in matched else LABEL_SEPARATOR.join(label for label in labels if label in matched)


def text_of(value: object) -> str | None:
    """Return a JSON string or number as text, ``true`` and ``false`` as they are spelled; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _peel(text: str) -> Iterator[str]:
    """Yield what is left of a text without one layer of quotes, emphasis, brackets or punctuation, in each way."""
    if len(text) > 1 and text[-1] in _TRAILING:
        yield text[:-1].rstrip()
    if len(text) > 2 and _PAIRS.get(text[0]) == text[-1] and _is_pair(text):
        yield text[1:-1].strip()
    if bullet := _LEADING.match(text):
        yield text[bullet.end() :]


def _is_pair(text: str) -> bool:
    """Whether the first and last character enclose the rest; emphasis is no emphasis if its marks touch a space."""
    mark = text[0]
    if mark not in _EMPHASIS:
        return True
    inner = text.strip(mark)
    return bool(inner) and not (inner[0].isspace() or inner[-1].isspace())


_Notion: TypeAlias = Callable[[str], str | None]
_FoldedLabels: TypeAlias = tuple[tuple[_Notion, dict[str, list[str]]], ...]


@lru_cache(maxsize=64)
def _fold_labels(labels: tuple[str, ...]) -> "_FoldedLabels":
    """Return the notions of equality, the strictest first, each with the labels by their form under it."""
    notions: tuple[_Notion, ...] = (str, fold_label, _casefold, _join_words, _number)
    folded = []
    for notion in notions:
        names: dict[str, list[str]] = {}
        for label in labels:
            if form := notion(label):
                names.setdefault(form, []).append(label)
        folded.append((notion, names))
    return tuple(folded)


def _casefold(text: str) -> str:
    return fold_label(text).casefold()


def _join_words(text: str) -> str:
    return _SEPARATORS.sub(" ", _casefold(text))


def _number(text: str) -> str | None:
    plain = fold_label(text)
    return str(Decimal(plain).normalize() + 0) if _NUMBER.fullmatch(plain) else None


_NEUTRAL = frozenset(
    re.findall(
        r"\w+",
        "a an and answer answers appropriate apply applies are as assign assigned assigning be best categorise "
        "categorize category choice choose chosen class classification classified classify code coded codes coding "
        "course final fits following for give given grade here hence holds i id is it json label labeled labelled "
        "labels learner level my of ok okay output overall predicted prediction rating response result s score select "
        "selected should so student sure that the therefore this thus to under verdict would",
    )
)
_STATING = frozenset({"answer", "category", "class", "classification", "code", "coding", "grade", "label", "labels"})
_STATING |= {"rating", "result", "score"}
_DOUBT = re.compile(
    r"\b(?:not?|never|neither|nor|cannot|without|instead|rather|actually|wait|sorry|correction|revis\w+|but|however|"
    r"part(?:ly|ial\w*)|may(?:be)?|might|perhaps|possibl[ey]|probabl[ey]|mostly|somewhat|almost|nearly|un(?:sure|certain|"
    r"clear)|nicht|kein\w*|ne|pas|ni|nunca|niet|geen|non)\b|n't\b|\?"
)
"""Words that may negate a label, weaken it or take it back."""
_REVISION = re.compile(r"\b(?:instead|rather|actually|wait|sorry|correction|revis\w+|chang\w+|but|however|should be)\b")
_SHORT = 2  # characters of a label, such as a grade or a number, that ordinary sentences contain by accident
_WORD = re.compile(r"[^\W_]+")
_FENCE = re.compile(r"[`~]{3,}[ \t]*\w{0,20}")
_REMARK = re.compile(r"[ \t]*(?:[.;(|]|[-\u2013\u2014]+[ \t])")
_CLOSING_MARKS = re.compile(r"^[*_`\"']{1,3}(?=\s)")  # of a name such as **Label:**
_EMPHASISED = re.compile(r"(\*{1,3}|`{1,3})(?=[^\s*`])([^*`]{1,300})(?<=\S)\1")


def names_another(text: str, label: str | None, labels: Sequence[str]) -> bool:
    """Whether a text around an answer names a label other than this one, so that it is not clear which is meant.

    Labels of one or two characters count only in a text that revises something, or in a line that states one: ``a`` is
    mostly an article.
    """
    folded = _casefold(text)
    others = {name for name, _, _ in _mentions(folded, tuple(labels)) if name != label}
    if any(len(name) > _SHORT for name in others) or (bool(others) and _REVISION.search(folded) is not None):
        return True
    return bool(others) and any(_stated_by(line, labels)[0] in others for line in text.splitlines())


def find_stated_label(text: str, labels: Sequence[str], *, after_reason: bool = False) -> str | None:
    """Return the only label that a text states, or None.

    A line states a label if it is the label, or a sentence of neutral words with it, such as ``Label: process`` or ``I
    would code this response as process.`` A remark may follow. The other lines must name no other label, and must not
    negate this one.

    Args:
        text: The text, without JSON.
        labels: The codebook's labels.
        after_reason: Whether a reason comes first, which may name any label; the last line then states the label.
    """
    lines = [line.strip() for line in _unescape(text, labels).splitlines()]
    lines = [line for line in lines if line and not _FENCE.fullmatch(line)]
    stated: str | None = None
    doubt = False
    for line in lines[-1:] if after_reason else lines:
        label, explicit = _stated_by(line, labels)
        if label is not None:
            if stated not in (None, label) or (doubt and not explicit):
                return None
            stated = label
        elif names_another(line, stated, labels) or (stated and _takes_back(line, stated)):
            return None
        else:
            doubt = doubt or _DOUBT.search(fold_label(line)) is not None
    return stated


def _takes_back(line: str, label: str) -> bool:
    folded = _casefold(line)
    return bool(_mentions(folded, (label,))) and _DOUBT.search(folded) is not None


def _stated_by(line: str, labels: Sequence[str]) -> tuple[str | None, bool]:
    """Return the label that a line states, and whether the line says that it is the label."""
    if label := match_label(line, labels):
        return label, False
    name, _, value = line.partition(":")
    words = _WORD.findall(_casefold(name[:_LONGEST]))
    value = _CLOSING_MARKS.sub("", value)
    if _NEUTRAL.issuperset(words) and not _STATING.isdisjoint(words) and (label := match_label(value, labels)):
        return label, True
    if any(_tight(part[:_LONGEST]) in map(_tight, labels) for part in (line, value)):
        return None, False  # such as "1. 5" where a label is 1.5
    folded = _EMPHASISED.sub(r"\2", _casefold(line[:_LONGEST]))
    mentions = _mentions(folded, tuple(labels))
    signed = _signed_labels(tuple(labels))
    whole = all(_is_whole(folded, each) and _has_its_signs(folded, each, signed) for each in mentions)
    if len({label for label, _, _ in mentions}) != 1 or not whole:
        return None, False
    label, start, stop = mentions[0]
    before, rest = _WORD.findall(folded[:start]), folded[stop:]
    explicit = not _STATING.isdisjoint(before)
    remark = _REMARK.match(rest)
    if remark and ("(" not in remark[0] or explicit):
        clear = len(mentions) == 1 and not _DOUBT.search(rest)
        after = []
    else:
        clear = "?" not in folded
        after = _WORD.findall(rest)
    return (label, explicit) if clear and _NEUTRAL.issuperset((*before, *after)) else (None, False)


def _is_whole(folded: str, mention: tuple[str, int, int]) -> bool:
    """Whether a mention is no part of something longer, such as ``2.5``, ``-1``, ``A+`` or ``pre-process``."""
    label, start, stop = mention
    rest = folded[stop : stop + 2]
    if _NUMBER.fullmatch(label) and (_COMPARED.search(folded[:start]) or _COMPARES.match(folded[stop:])):
        return False
    return folded[start - 1 : start] not in tuple("+-/*_.,&~<>\u2264\u2265\u2248\u00b1") and not (
        rest[:1] in tuple("+-*%_/&") or (rest[:1] in tuple(".,:'") and rest[1:].isalnum())
    )


_COMPARED = re.compile(r"(?:[<>]=\s*|(?:[<~\u2264\u2265\u2248\u00b1]|(?<=\s)>)\s+)$")
_COMPARES = re.compile(r"\s*[\u2264\u2265\u2248\u00b1]|\s+[<>](?!/)|\s*[<>]=")
"""Signs of comparison before and after a number; a line that begins with ``>`` is a quotation."""


def _has_its_signs(folded: str, mention: tuple[str, int, int], labels: _SignedLabels) -> bool:
    """Whether no sign beside a mention could make it another label."""
    label, start, stop = mention
    if label not in labels.signs:
        return True
    beside = (_signs_at_start(folded[:start][::-1]), _signs_at_start(folded[stop:]))
    return all(
        sign.isspace() or (sign in _PLAIN_SIGNS and sign not in taken)
        for found, taken in zip(beside, labels.signs[label], strict=True)
        for sign in found
    )


def _mentions(folded: str, labels: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Return each mention of a label in a folded text: the label, where it begins and where it ends."""
    pattern, names = _mention_pattern(labels)
    return [(names[found[0]], found.start(), found.end()) for found in pattern.finditer(folded)]


@lru_cache(maxsize=64)
def _mention_pattern(labels: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    forms = [_casefold(label) for label in labels]
    names = {form: label for form, label in zip(forms, labels, strict=True) if forms.count(form) == 1}
    longest_first = sorted(names, key=len, reverse=True)
    alternatives = "|".join(map(re.escape, longest_first)) or "(?!)"
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)"), names
