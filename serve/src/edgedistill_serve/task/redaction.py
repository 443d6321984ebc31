"""Personal data in a text replaced by fixed placeholders, the same way before teaching, training and scoring.

Redaction    what is replaced: web and e-mail addresses and phone numbers always, and the ids that a project names
"""

import re
from functools import lru_cache
from typing import TypeAlias

import msgspec

URL, EMAIL, PHONE, ID = "[URL]", "[EMAIL]", "[PHONE]", "[ID]"

Rule: TypeAlias = tuple[re.Pattern[str], str]

PLACEHOLDERS = re.compile(rf"({'|'.join(map(re.escape, (URL, EMAIL, PHONE, ID)))})")
"""What stands for something that was replaced; never searched again."""
_URL = re.compile(r"(?:\b(?:https?|ftp)://|\bwww\.)\S*[^\s.,;:!?'\")\]}>]", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}\w{2,24}")
_HOST = re.compile(
    r"\b(?:[a-z0-9-]{1,63}\.){1,8}(?:com|edu|gov|info|io|net|org)\b(?:/\S*[^\s.,;:!?'\")\]}>])?", re.IGNORECASE
)
_PHONE = re.compile(
    r"(?<![\w.,])(?:"
    r"(?:\+|00)[ ]?[1-9](?:[ .()/-]{0,2}[0-9]){6,14}"  # international: +49 30 1234567
    r"|\([0-9]{2,5}\)[ -]?[0-9](?:[ .-]?[0-9]){4,9}"  # an area code in brackets: (412) 555-0100
    r"|(?:1[ .-])?[0-9]{3}[ .-][0-9]{3}[ .-][0-9]{4}"  # North America: 412-555-0100
    r"|[0-9]{3}-[0-9]{4}"
    r"|0[0-9](?:[ ./-]?[0-9]){7,10}"  # national with its leading zero: 020 7946 0958
    r"|[2-9][0-9]{9}"  # ten digits in one: 4125550100
    r")(?!\w)(?![.,]\w)"
)


class Redaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is replaced before anybody reads a text.

    Attributes:
        ids: Regular expressions of Python's ``re``, such as ``S[0-9]{6}``; what they match becomes ``[ID]``.

    Raises:
        ValueError: A pattern is no regular expression, or matches the empty text.
    """

    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.ids:
            try:
                nothing = re.compile(pattern).search("")
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
            if nothing:
                raise ValueError(f"the pattern {pattern!r} matches where there is nothing")


def redact_text(text: str, redaction: Redaction) -> str:
    """Return the text with personal data replaced by ``[URL]``, ``[EMAIL]``, ``[ID]`` and ``[PHONE]``.

    Patterns find what has the form of such data and nothing else: a name, or an address written out in words, stays.
    A redacted text comes out as it went in, so it does no harm to redact one again.

    Args:
        text: Any text.
        redaction: What is replaced.
    """
    rules = redaction_rules(redaction.ids)
    while (after := _once(text, rules)) != text:
        text = after
    return text


def _once(text: str, rules: tuple[Rule, ...]) -> str:
    for pattern, placeholder in rules:
        # A placeholder is no text to search in. So every pass leaves less text, and the last one changes none.
        pieces = PLACEHOLDERS.split(text)
        pieces[::2] = [_replaced(piece, pattern, placeholder) for piece in pieces[::2]]
        text = "".join(pieces)
    return text


def _replaced(piece: str, pattern: re.Pattern[str], placeholder: str) -> str:
    return pattern.sub(lambda found: placeholder if found[0] else "", piece)


@lru_cache(maxsize=64)
def redaction_rules(ids: tuple[str, ...]) -> tuple[Rule, ...]:
    """Return the patterns in the order in which they are applied, each with its placeholder.

    Args:
        ids: As `Redaction` has them.
    """
    named = tuple((re.compile(pattern), ID) for pattern in ids)
    return ((_URL, URL), (_EMAIL, EMAIL), (_HOST, URL), *named, (_PHONE, PHONE))
