"""The text that HTML shows, such as ``<p>two&nbsp;words</p>``, which learning platforms put around what learners type.

Training and grading call the same function, so that a student reads in both what it was trained on.
"""

import html
import re

_BLOCKS = (
    "address article aside blockquote br caption dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
    "header hr li main nav ol p pre section table tbody tfoot thead title tr ul"
)
"""Elements that begin a new line."""
_CELLS = ("td", "th")
_INLINE = (
    "a abbr acronym audio b bdi bdo big body button canvas center cite code col colgroup data del details dfn em font "
    "head html i iframe img input ins kbd label link mark math meta object option param q rp rt ruby s samp select "
    "small source span strike strong sub summary sup svg template textarea tt u var video wbr"
)
_NAMES = "|".join(sorted([*_BLOCKS.split(), *_CELLS, *_INLINE.split()], key=lambda name: (-len(name), name)))
# A tag ends before the next "<", so that no character is read twice; a quoted attribute may have a ">".
_TAG = re.compile(
    rf"<(/?)((?:{_NAMES}|[a-z]{{1,8}}:[a-z]{{1,20}}))(?=[\s/>])(?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+>", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SPACES = re.compile(r"[ \t\r\n\f\xa0]+")
_BREAKING = frozenset(_BLOCKS.split())
_BREAK, _HIDDEN = "\ue000", (("<!--", "-->"), ("<style", "</style>"), ("<script", "</script>"))
"""A private character stands for a line break while other white space is joined."""


def has_html(text: str) -> bool:
    """Return whether a text has an HTML tag or a character reference, such as ``<p>`` or ``&nbsp;``."""
    return ("<" in text and _TAG.search(text) is not None) or ("&" in text and _known_entity(text))


def html_to_text(text: str) -> str:
    r"""Return the text that a browser shows for HTML; a text without HTML is returned unchanged.

    Only names of HTML elements are tags: ``a < b`` and ``<because>`` are text. Paragraphs, list items, table rows and
    ``<br>`` become line breaks, table cells spaces; comments, styles and scripts disappear; character references such
    as ``&nbsp;`` become characters, once. The time is linear in the length of the text.

    Example:
        >>> html_to_text("<p>Ice&nbsp;floats.</p><p>It is <b>lighter</b>.</p>")
        'Ice floats.\nIt is lighter.'
    """
    if not has_html(text):
        return text
    if "<" in text:
        text = text.replace(_BREAK, " ")
        for start, end in _HIDDEN:
            text = _without(text, start, end)
        text, tags = _TAG.subn(_replacement, text)
        if tags:
            lines = (_SPACES.sub(" ", line).strip() for line in text.split(_BREAK))
            text = "\n".join(line for line in lines if line)
    return _ENTITY.sub(_character, text).strip()


def _replacement(tag: re.Match[str]) -> str:
    name = tag[2].lower()
    return _BREAK if name in _BREAKING else " " if name in _CELLS else ""


def _character(entity: re.Match[str]) -> str:
    found = html.unescape(entity[0])
    return " " if found == "\xa0" else found


def _known_entity(text: str) -> bool:
    return any(html.unescape(found[0]) != found[0] for found in _ENTITY.finditer(text))


def _without(text: str, start: str, end: str) -> str:
    """Return a text without what stands between two marks; a mark that is never closed is left."""
    lower = text.lower() if start.isascii() and len(text.lower()) == len(text) else text
    kept, position = [], 0
    while (found := lower.find(start, position)) >= 0 and (closed := lower.find(end, found + len(start))) >= 0:
        kept.append(text[position:found])
        position = closed + len(end)
    return "".join([*kept, text[position:]])
