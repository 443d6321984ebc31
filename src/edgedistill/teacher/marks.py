"""Untrusted text, escaped so that it cannot speak as the prompt around it."""

import re
import unicodedata

MARKS = ("question", "reference", "response", "label")
"""The names of the marks that a prompt puts around text: ``<response>…</response>``."""

_OPENERS = re.compile("[<\ufe64\uff1c]")  # every character that NFKC turns into "<"
_MARK = re.compile(rf"<\s*/?\s*(?:{'|'.join(MARKS)})")
_UNSEEN = frozenset({"Cf", "Mn", "Me", "Cc", "Co", "Cn"})


def neutralised(text: str) -> str:
    """Return the text with each ``<`` that begins one of our marks replaced by ``&lt;``.

    Any spelling counts: upper case, ``</ Response >``, attributes, full-width or mathematical letters, invisible
    characters in between, a mark that is never closed. All other text stays exactly as typed.
    """
    if not _OPENERS.search(text):
        return text
    seen: list[str] = []
    place: list[int] = []
    for index, character in enumerate(text):
        if unicodedata.category(character) in _UNSEEN and not character.isspace():
            continue
        plain = unicodedata.normalize("NFKC", character).casefold()
        seen.append(plain)
        place.extend([index] * len(plain))
    pieces, start = [], 0
    for mark in _MARK.finditer("".join(seen)):
        opener = place[mark.start()]
        pieces += [text[start:opener], "&lt;"]
        start = opener + 1
    return "".join([*pieces, text[start:]])


def marked(mark: str, text: str) -> str:
    """Return the text, neutralised, between ``<mark>`` and ``</mark>``."""
    return f"<{mark}>{neutralised(text)}</{mark}>"
