"""Whether a text has any visible content.

The tables are fixed and not those of `unicodedata`, so that every version of Python, and the web page, agree.
"""

import re

SPACE_LIKE = (
    r"\x00-\x20\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5"
    r"\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
"""Characters of the Basic Multilingual Plane without ink, as the inside of a character class: white space, controls,
format characters, default-ignorable characters (Unicode's DerivedCoreProperties), and the blank letters of Braille and
Hangul."""
SPACE_LIKE_BEYOND = (
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x13441, 0x13442),
    (0x1BCA0, 0x1BCA3),
    (0x1D159, 0x1D159),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""The same beyond that plane: first and last code points of ranges, among them the blank hieroglyphs and note head."""
PUNCTUATION = (
    r"!-#%-*,-/:;?@\[-\]_{}\xa1\xa7\xab\xb6\xb7\xbb\xbf\u0387\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05f3\u05f4\u060c"
    r"\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u0970\u0e5a\u0e5b\u104a-\u104f\u1361-\u1368\u17d4-\u17d6\u17d8-\u17da"
    r"\u2010-\u2027\u2030-\u2043\u2045-\u2051\u2053-\u205e\u2581\u2e00-\u2e2e\u2e30-\u2e4f\u2e52-\u2e5d\u3001-\u3003"
    r"\u3008-\u3011\u3014-\u301f\u3030\u30fb\ufe10-\ufe19\ufe30-\ufe52\ufe54-\ufe61\ufe63\ufe68\ufe6a\ufe6b\uff01-\uff03"
    r"\uff05-\uff0a\uff0c-\uff0f\uff1a\uff1b\uff1f\uff20\uff3b-\uff3d\uff3f\uff5b\uff5d\uff5f-\uff65"
)
"""Punctuation of many scripts, and SentencePiece's mark for a space (U+2581), as the inside of a character class."""
_PYTHON_CLASS = SPACE_LIKE + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in SPACE_LIKE_BEYOND)

_ENTITIES = (
    "NonBreakingSpace|ensp|emsp|emsp13|emsp14|numsp|puncsp|thinsp|ThinSpace|hairsp|VeryThinSpace|"
    "MediumSpace|ThickSpace|ZeroWidthSpace|NegativeThinSpace|NegativeMediumSpace|NegativeThickSpace|"
    "NegativeVeryThinSpace|zwnj|zwj|lrm|rlm|NoBreak|Tab|NewLine|InvisibleComma|ic|InvisibleTimes|it|"
    "ApplyFunction|af"
)
"""Names of HTML entities without ink, besides ``nbsp`` and ``shy``, which HTML also accepts without a semicolon."""

_LEFT, _RIGHT, _AMPERSAND = r"(?:<|&(?:amp;)*lt;)", r"(?:>|&(?:amp;)*gt;)", r"&(?:amp;)*"
_TAG_START = rf"{_LEFT}(?:/?[A-Za-z]|[!?][A-Za-z\[])"
COMMENT_END = rf"--!?{_RIGHT}"
"""A pattern for the end of an HTML comment."""
_COMMENT = rf"{_LEFT}!--(?:-?{_RIGHT}|[\s\S]*?{COMMENT_END})"
_PARTS = (
    rf"{_LEFT}/{_RIGHT}",
    # A quoted attribute may contain ">". The second form is for quotes that are not closed, as after redaction.
    rf"{_TAG_START}(?:(?!{_LEFT}|{_RIGHT})[^\x22\x27]|\x22[^\x22<]*\x22|\x27[^\x27<]*\x27)*{_RIGHT}",
    rf"{_TAG_START}(?:(?!{_LEFT}|{_RIGHT})[\s\S])*{_RIGHT}",
    rf"{_AMPERSAND}(?:(?:nbsp|shy);?|(?:{_ENTITIES});)",
)
MARKUP_BUT_COMMENTS = "|".join(_PARTS)
MARKUP = f"{_COMMENT}|{MARKUP_BUT_COMMENTS}"
"""A pattern for one HTML tag, comment, or entity without ink, also if it was escaped once or several times. It means
the same in Python and in JavaScript."""
CHARACTER_REFERENCE = rf"{_AMPERSAND}#(?:[xX]([0-9A-Fa-f]{{1,6}})|([0-9]{{1,7}}));?"
"""A pattern for a numeric character reference, hexadecimal or decimal, in Python and in JavaScript."""

SPACES = re.compile(f"[{_PYTHON_CLASS}]+")
"""Matches characters without ink."""
INK = re.compile(f"[^{_PYTHON_CLASS}{PUNCTUATION}]")
"""Matches one letter, digit, mark or symbol."""
_ONE_MARKUP = re.compile(MARKUP)
_ONE_BUT_COMMENTS = re.compile(MARKUP_BUT_COMMENTS)
_COMMENT_ENDS = re.compile(COMMENT_END)
_ONE_REFERENCE = re.compile(CHARACTER_REFERENCE)
_MAX_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def is_blank(text: str) -> bool:
    """Return whether a text has nothing visible: only spaces, invisible characters and HTML markup without text.

    The time is linear in the length of the text, and constant for a text that begins with a letter.

    Example: ``is_blank("<p>&nbsp;</p>")``.

    Args:
        text: Any text.
    """
    position = 0
    while position < len(text):
        found = SPACES.match(text, position) or _ONE_MARKUP.match(text, position) or _blank_reference(text, position)
        if not found:
            return False
        position = found.end()
    return True


def _blank_reference(text: str, position: int) -> re.Match[str] | None:
    found = _ONE_REFERENCE.match(text, position)
    if not found:
        return None
    code_point = int(found[1], 16) if found[1] else int(found[2])
    return found if code_point <= _MAX_CODE_POINT and SPACES.match(chr(code_point)) else None


def without_markup(text: str) -> str:
    """Return what a text shows, in linear time.

    Each HTML tag, comment and entity without ink becomes a space, each numeric reference its character.

    Example: ``without_markup("<p>\N{THUMBS UP SIGN}&#33;</p>")`` is ``" \N{THUMBS UP SIGN}! "``.

    Args:
        text: Any text.
    """
    if "<" not in text and "&" not in text:
        return text
    # Behind the last end of a comment none is closed, and looking for its end from each beginning would take long.
    ends = [found.end() for found in _COMMENT_ENDS.finditer(text)][-1:]
    closed = ends[0] if ends else 0
    shown = _ONE_MARKUP.sub(" ", text[:closed]) + _ONE_BUT_COMMENTS.sub(" ", text[closed:])
    return _ONE_REFERENCE.sub(_referenced, shown)


def _referenced(found: re.Match[str]) -> str:
    code_point = int(found[1], 16) if found[1] else int(found[2])
    return found[0] if code_point > _MAX_CODE_POINT or code_point in _SURROGATES else chr(code_point)
