"""Text, HTML and LaTeX representations of results."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import StringIO
from typing import Final

from rich.console import Console, RenderableType

_WIDTH = 120
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""Characters that end a line or a cell, or control a terminal."""
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Characters without a shape: LaTeX stops at them. Joiners (U+200C, U+200D) change letters, and stay."""
_LIGATURE = re.compile("(?<=([-,'<>]))\\1")
"""The second of two characters that LaTeX would join: a dash or a quotation mark."""
_GREEK = (
    *(
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
    ),
    *("", "pi", "rho", "", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
_LATEX: Final[Mapping[str, str]] = {
    "\x01": r"{\kern0pt}",  # LuaLaTeX joins characters over an empty group
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # babel makes it active in some languages
    "`": r"\textasciigrave{}",
    "\u00a0": "~",
    "\u202f": r"\,",
    "\u2011": "-",
    "\u2212": "$-$",
    "\u00d7": r"$\times$",
    **{chr(0x3B1 + place): rf"$\{name}$" for place, name in enumerate(_GREEK) if name},
    **{letter: rf"$\{name}$" for letter, name in (("\u0393", "Gamma"), ("\u0394", "Delta"), ("\u0398", "Theta"))},
    **{letter: rf"$\{name}$" for letter, name in (("\u03a3", "Sigma"), ("\u03a6", "Phi"), ("\u03a9", "Omega"))},
    "\u2265": r"$\geq$",
    "\u2264": r"$\leq$",
    "\u2260": r"$\neq$",
    "\u2248": r"$\approx$",
    "\u221e": r"$\infty$",
    "\u2013": "--",
    "\u2019": "'",
    "\u201c": "``",
    "\u201d": "''",
}


def plain_text(shown: RenderableType) -> str:
    """Return a renderable as plain text, ending with a newline."""
    text = StringIO()
    Console(
        file=text,
        width=_WIDTH,
        force_terminal=False,
        force_jupyter=False,
        color_system=None,
        markup=False,
        emoji=False,
        highlight=False,
    ).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return an HTML table with escaped cells; the first cell of each row is its header."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def escape_latex(text: str) -> str:
    r"""Return a text as LaTeX prints it, on one line; letters beyond Latin and Greek need LuaLaTeX or XeLaTeX.

    Accents are composed with their letters, and characters without a shape left out, because pdfLaTeX knows neither.

    Example:
        >>> print(escape_latex("50% & more_"))
        50\% \& more\_
    """
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", CONTROL.sub(" ", text)))
    return "".join(_LATEX.get(character, character) for character in _LIGATURE.sub("\x01\\1", text))
