"""Regular expressions of Python's `re`, written anew for JavaScript with the same meaning.

What has another meaning there, or none, is refused rather than guessed at.
"""

import re
from collections.abc import Callable
from re import _constants as code  # type: ignore[attr-defined]  # how Python reads a pattern has no public name
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from edgedistill_export.errors import WebFailed

_WORD = r"\p{L}\p{N}_"
_SPACE = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CLASSES = {
    code.CATEGORY_DIGIT: r"\p{Nd}",
    code.CATEGORY_NOT_DIGIT: r"\P{Nd}",
    code.CATEGORY_SPACE: _SPACE,
    code.CATEGORY_WORD: _WORD,
}
"""Inside square brackets; a class that has no such form is not here."""
_NEGATED = {code.CATEGORY_NOT_SPACE: f"[^{_SPACE}]", code.CATEGORY_NOT_WORD: f"[^{_WORD}]"}
_IN_WORD, _NO_WORD = f"(?<=[{_WORD}])", f"(?<![{_WORD}])"
_PLACES = {
    code.AT_BEGINNING: r"(?<![\s\S])",
    code.AT_BEGINNING_STRING: r"(?<![\s\S])",
    code.AT_END: r"(?=\n?(?![\s\S]))",
    code.AT_END_STRING: r"(?![\s\S])",
    code.AT_BOUNDARY: f"(?:{_IN_WORD}(?![{_WORD}])|{_NO_WORD}(?=[{_WORD}]))",
    code.AT_NON_BOUNDARY: f"(?:{_IN_WORD}(?=[{_WORD}])|{_NO_WORD}(?![{_WORD}]))",
}
_ALIKE = {"i": "\u0130\u0131", "k": "\u212a", "s": "\u017f"}
"""Letters that Python takes for these ones where case is ignored."""
_FLAGS = re.UNICODE.value | re.IGNORECASE.value


class _NoSuchThing(Exception):
    """A part of a pattern that JavaScript has not."""


def javascript(pattern: re.Pattern[str]) -> str:
    """Return the pattern as JavaScript reads it with the flag ``u``.

    Raises:
        WebFailed: It holds what JavaScript has not.
    """
    try:
        return _whole(pattern)
    except _NoSuchThing as reason:
        raise WebFailed(
            f"the pattern {pattern.pattern!r} cannot be used in a browser: it holds {reason}",
            where="task.redact.ids",
            hint="Write it with letters, digits, [ ], ( ), |, ?, *, +, { } and \\d \\w \\s \\b alone.",
        ) from None


def _whole(pattern: re.Pattern[str]) -> str:
    if pattern.flags & ~_FLAGS:
        raise _NoSuchThing("a flag")
    return _sequence(parser.parse(pattern.pattern, pattern.flags), bool(pattern.flags & re.IGNORECASE))


def _sequence(parts: Any, anycase: bool) -> str:
    return "".join(_part(operation, value, anycase) for operation, value in parts)


def _part(operation: Any, value: Any, anycase: bool) -> str:
    if operation not in _WRITTEN:
        raise _NoSuchThing(str(operation).lower().replace("_", " "))
    return _WRITTEN[operation](value, anycase)


def _literal(value: int, anycase: bool) -> str:
    return f"[{_letter(value, anycase)}]"


def _not_literal(value: int, anycase: bool) -> str:
    return f"[^{_letter(value, anycase)}]"


def _letter(value: int, anycase: bool) -> str:
    letter = chr(value)
    if not anycase or not letter.isalpha():
        return _escaped(value)
    if not letter.isascii():
        raise _NoSuchThing("a letter beyond a to z where case is ignored")
    alike = letter.lower() + letter.upper() + _ALIKE.get(letter.lower(), "")
    return "".join(_escaped(ord(each)) for each in alike)


def _set(value: Any, anycase: bool) -> str:
    negated = value[0][0] is code.NEGATE
    members = value[1:] if negated else value
    if not negated and len(members) == 1 and members[0][1] in _NEGATED:
        return _NEGATED[members[0][1]]
    return f"[{'^' * negated}{''.join(_member(kind, said, anycase) for kind, said in members)}]"


def _member(operation: Any, value: Any, anycase: bool) -> str:
    if operation is code.LITERAL:
        return _letter(value, anycase)
    if operation is code.CATEGORY and value in _CLASSES:
        return _CLASSES[value]
    if operation is code.RANGE:
        first, last = value
        return _range(first, last, anycase)
    raise _NoSuchThing("a negated class among others in square brackets")


def _range(first: int, last: int, anycase: bool) -> str:
    written = f"{_escaped(first)}-{_escaped(last)}"
    if not anycase or not any(chr(point).isalpha() for point in range(first, last + 1)):
        return written
    if (chr(first), chr(last)) not in (("a", "z"), ("A", "Z")):
        raise _NoSuchThing("a range of letters other than a-z where case is ignored")
    return "A-Za-z" + "".join(_ALIKE.values())


def _repeat(more: str) -> Callable[[Any, bool], str]:
    def written(value: Any, anycase: bool) -> str:
        least, most, inner = value
        upto = "" if most is code.MAXREPEAT else int(most)
        return f"(?:{_sequence(inner, anycase)}){{{least},{upto}}}{more}"

    return written


def _group(value: Any, anycase: bool) -> str:
    _, added, removed, inner = value
    if added or removed:
        raise _NoSuchThing("a flag for a part of it")
    return f"(?:{_sequence(inner, anycase)})"


def _branch(value: Any, anycase: bool) -> str:
    return f"(?:{'|'.join(_sequence(inner, anycase) for inner in value[1])})"


def _look(ahead: str, behind: str) -> Callable[[Any, bool], str]:
    def written(value: Any, anycase: bool) -> str:
        direction, inner = value
        return f"({ahead if direction > 0 else behind}{_sequence(inner, anycase)})"

    return written


def _escaped(value: int) -> str:
    return f"\\u{{{value:x}}}"


_WRITTEN: dict[Any, Callable[[Any, bool], str]] = {
    code.LITERAL: _literal,
    code.NOT_LITERAL: _not_literal,
    code.ANY: lambda _value, _anycase: r"[^\n]",
    code.IN: _set,
    code.MAX_REPEAT: _repeat(""),
    code.MIN_REPEAT: _repeat("?"),
    code.SUBPATTERN: _group,
    code.BRANCH: _branch,
    code.AT: lambda value, _anycase: _PLACES[value],
    code.ASSERT: _look("?=", "?<="),
    code.ASSERT_NOT: _look("?!", "?<!"),
}
