r"""Cells of CSV and TSV tables that a spreadsheet would evaluate as a formula, such as ``=HYPERLINK(…)``.

Every table that the project writes has an apostrophe and a tab before such a text. Spreadsheets then show it as text,
and `unescape_cell` returns it exactly: ``=1+1`` is written as ``'\t=1+1``. An apostrophe alone could not be removed
again without damage to texts of other tables, such as ``'=' means equal``.
"""

import re
from string import ascii_letters, digits
from typing import TypeVar

ESCAPE = "'\t"
"""Put before a text that looks like a formula."""

_SIGNS = r"=+@\u2212\ufb29\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20\u207a-\u207c\u208a-\u208c\-"
"""The signs of formulas, also in full width and other forms that are the same sign under NFKC."""
_SKIPPED = (
    r"\0-\x20\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    r"\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
    r"\"'`\xab\xb4\xbb\u2018-\u201f\u2039\u203a\uff02\uff07"
)
"""White space, control and invisible characters, and quotation marks, which may stand before a sign."""
_FORMULA = re.compile(rf"[\t\r\n]|[{_SKIPPED}]*[{_SIGNS}]")
_NUMBER = re.compile(r" *[+\-\u2212]?(?:[0-9]+(?:[.,][0-9]+)*[.,]?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?%? *")

_PLAIN = frozenset(["", *ascii_letters, *digits])
"""How most texts begin. None of these looks like a formula, and to know it by these is faster."""

T = TypeVar("T")


def looks_like_formula(text: str) -> bool:
    """Return whether a spreadsheet might evaluate a text; numbers such as ``-0.5`` are not formulas."""
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None


def escape_cell(value: T) -> T | str:
    r"""Return the value to be written to a cell; only texts that look like a formula are changed.

    Example:
        >>> escape_cell("=1+1"), escape_cell("-0.5"), escape_cell(-0.5), escape_cell("well done")
        ("'\t=1+1", '-0.5', -0.5, 'well done')
    """
    if not isinstance(value, str) or value[:1] in _PLAIN:
        return value
    if not (value.startswith(ESCAPE) or looks_like_formula(value)):
        return value
    return ESCAPE + value


def unescape_cell(cell: str) -> str:
    """Return the text of a cell; the inverse of `escape_cell`, which leaves cells of other programs unchanged."""
    if not cell.startswith(ESCAPE):
        return cell
    text = cell.removeprefix(ESCAPE)
    return text if escape_cell(text) == cell else cell
