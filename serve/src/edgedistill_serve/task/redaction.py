"""Replacement of personal data by placeholders, identical for labelling, training and scoring.

Web addresses, e-mail addresses and phone numbers are always replaced; a project can add patterns for ids.
"""

import re
from functools import lru_cache
from typing import TypeAlias

import msgspec

URL, EMAIL, PHONE, ID = "[URL]", "[EMAIL]", "[PHONE]", "[ID]"

Rule: TypeAlias = tuple[re.Pattern[str], str]

PLACEHOLDERS = re.compile(rf"({'|'.join(map(re.escape, (URL, EMAIL, PHONE, ID)))})")
"""Matches placeholders, which are never searched again."""
_URL = re.compile(r"(?:\b(?:https?|ftp)://|\bwww\.)\S*[^\s.,;:!?'\")\]}>]", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}\w{2,24}")
_HOST = re.compile(
    r"\b(?:[a-z0-9-]{1,63}\.){1,8}(?:com|edu|gov|info|io|net|org)\b(?:/\S*[^\s.,;:!?'\")\]}>])?", re.IGNORECASE
)
_PHONE = re.compile(
    r"(?<![\w.,])(?:"
    r"(?:\+|00)[ ]?[1-9](?:[ .()/-]{0,2}[0-9]){6,14}"  # international: +49 30 1234567
    r"|\([0-9]{2,5}\)[ -]?[0-9](?:[ .-]?[0-9]){4,9}"  # area code in brackets: (412) 555-0100
    r"|(?:1[ .-])?[0-9]{3}[ .-][0-9]{3}[ .-][0-9]{4}"  # North America: 412-555-0100
    r"|[0-9]{3}-[0-9]{4}"
    r"|0[0-9](?:[ ./-]?[0-9]){7,10}"  # national with its leading zero: 020 7946 0958
    r"|[2-9][0-9]{9}"  # ten digits in one: 4125550100
    r")(?!\w)(?![.,]\w)"
)


class Redaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The project's own redaction patterns.

    Attributes:
        ids: Regular expressions of Python's ``re``, such as ``S[0-9]{6}``. Each match is replaced by ``[ID]``.

    Raises:
        ValueError: A pattern is not a valid regular expression, or matches the empty string.
    """

    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.ids:
            try:
                matches_empty = re.compile(pattern).search("")
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a valid regular expression: {error}") from None
            if matches_empty:
                raise ValueError(f"the pattern {pattern!r} matches the empty string")


def redact_text(text: str, redaction: Redaction) -> str:
    """Return the text with personal data replaced by ``[URL]``, ``[EMAIL]``, ``[ID]`` and ``[PHONE]``.

    The patterns match data by its form only: names, and addresses written out in words, are not replaced. Redacting a
    redacted text leaves it unchanged.

    Args:
        text: Any text.
        redaction: The project's own patterns.
    """
    rules = redaction_rules(redaction.ids)
    while (redacted := _apply_rules(text, rules)) != text:
        text = redacted
    return text


def _apply_rules(text: str, rules: tuple[Rule, ...]) -> str:
    for pattern, placeholder in rules:
        # Placeholders are skipped. Every pass therefore leaves less text to search, and the loop ends.
        pieces = PLACEHOLDERS.split(text)
        pieces[::2] = [_replace(piece, pattern, placeholder) for piece in pieces[::2]]
        text = "".join(pieces)
    return text


def _replace(piece: str, pattern: re.Pattern[str], placeholder: str) -> str:
    return pattern.sub(lambda match: placeholder if match[0] else "", piece)


@lru_cache(maxsize=64)
def redaction_rules(ids: tuple[str, ...]) -> tuple[Rule, ...]:
    """Return the patterns in the order of their application, each with its placeholder.

    Args:
        ids: `Redaction.ids`.
    """
    named = tuple((re.compile(pattern), ID) for pattern in ids)
    return ((_URL, URL), (_EMAIL, EMAIL), (_HOST, URL), *named, (_PHONE, PHONE))
