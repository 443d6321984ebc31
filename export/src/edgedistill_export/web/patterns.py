r"""Translate regular expressions of Python's `re` to JavaScript with the same meaning.

Supported are: characters and their escapes, sets, ``\d \w \s`` and their complements, letters as ``[^\W\d_]``, groups,
lookaround, ``|``, repetition, ``^ $ \A \Z \b \B`` and the flag ``(?i)``. Anything else is an error.
"""

import re

from edgedistill_export.errors import WebFailed

_WORD = r"\p{L}\p{N}_"
_CLASSES = {
    "d": r"\p{Nd}",
    "s": r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    "w": _WORD,
}
"""Inside square brackets."""
_IN_WORD, _NO_WORD = f"(?<=[{_WORD}])", f"(?<![{_WORD}])"
_PLACES = {
    "^": r"(?<![\s\S])",
    "$": r"(?=\n?(?![\s\S]))",
    r"\A": r"(?<![\s\S])",
    r"\Z": r"(?![\s\S])",
    r"\b": f"(?:{_IN_WORD}(?![{_WORD}])|{_NO_WORD}(?=[{_WORD}]))",
    r"\B": f"(?:{_IN_WORD}(?=[{_WORD}])|{_NO_WORD}(?![{_WORD}]))",
}
_CONTROLS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_REPEATS = {"*": ("0", ""), "+": ("1", ""), "?": ("0", "1")}
_ALIKE = {"i": "\u0130\u0131", "k": "\u212a", "s": "\u017f"}
"""Letters that Python also matches with these ones if case is ignored."""


class _Unknown(Exception):
    """A part of a pattern that is not supported."""


def to_javascript(pattern: re.Pattern[str]) -> str:
    """Translate a pattern to a JavaScript pattern for the flag ``u``.

    Raises:
        WebFailed: The pattern contains an unsupported part.
    """
    try:
        return _Translation(pattern).whole()
    except _Unknown as reason:
        raise WebFailed(
            f"the pattern {pattern.pattern!r} cannot be used in a browser: it contains {reason}",
            where="task.redact.ids",
            hint="Use only letters, digits, [ ], ( ), |, ?, *, +, { } and \\d \\w \\s \\b.",
        ) from None


class _Translation:
    """A recursive descent parser for a pattern that `re` has already compiled.

    Each part is translated together with whether it can match the empty string.
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        if pattern.flags & ~(re.UNICODE | re.IGNORECASE):
            raise _Unknown("a flag")
        self._text, self._at = pattern.pattern, 0
        self._anycase = bool(pattern.flags & re.IGNORECASE)

    def whole(self) -> str:
        self._take(r"\(\?[iu]+\)")
        written, _ = self._alternatives()
        if self._at < len(self._text):
            raise _Unknown(f"{self._text[self._at]!r} at {self._at}")
        return written

    def _take(self, form: str) -> re.Match[str] | None:
        found = re.compile(form, re.DOTALL).match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def _alternatives(self) -> tuple[str, bool]:
        parts = [self._sequence()]
        while self._take(r"\|"):
            parts.append(self._sequence())
        return "|".join(written for written, _ in parts), any(empty for _, empty in parts)

    def _sequence(self) -> tuple[str, bool]:
        parts = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._repeated())
        return "".join(written for written, _ in parts), all(empty for _, empty in parts)

    def _repeated(self) -> tuple[str, bool]:
        part, empty = self._part()
        times = self._take(r"[*+?]|\{(?!\})([0-9]*)(?:(,)([0-9]*))?\}")
        if not times:
            return part, empty
        least, most = _REPEATS.get(times[0]) or (times[1] or "0", times[3] if times[2] else times[1])
        if empty and least != most:
            raise _Unknown("a repeated part that can match nothing")  # which JavaScript and Python end differently
        if self._take(r"\+"):
            raise _Unknown("a possessive repetition")
        lazy = "?" if self._take(r"\?") else ""
        return f"(?:{part}){{{least},{most}}}{lazy}", empty or int(least) == 0

    def _part(self) -> tuple[str, bool]:
        if group := self._take(r"\((?:\?:|\?P<\w+>|(\?<?[=!])|(?!\?))"):
            inner, empty = self._alternatives()
            self._take(r"\)")
            return f"({group[1] or '?:'}{inner})", empty or bool(group[1])
        if other := self._take(r"\(\?[a-zA-Z-]*[:)]|\(\?P?."):
            raise _Unknown(f"a group that begins with {other[0]!r}")
        if place := self._take(r"[\^$]|\\[AZbB]"):
            return _PLACES[place[0]], True
        return self._one_character(), False

    def _one_character(self) -> str:
        if self._take(r"\."):
            return r"[^\n]"
        if kind := self._take(r"\\([dswDSW])") or self._take(r"\[\\([SW])\]"):
            return _class(kind[1])
        if kind := self._take(r"\[\^\\([SW])\]"):
            return _class(kind[1].lower())
        if self._take(r"\[\^\\W\\d_\]"):
            return r"[\p{L}\p{Nl}\p{No}]"
        if start := self._take(r"\[\^?"):
            members = [self._member()]
            while not self._take(r"\]"):
                members.append(self._member())
            return f"{start[0]}{''.join(members)}]"
        return f"[{self._letter(self._literal())}]"

    def _member(self) -> str:
        if kind := self._take(r"\\([dswD])"):
            return _CLASSES.get(kind[1]) or r"\P{Nd}"
        if self._take(r"\\[SW]"):
            raise _Unknown("a negated class among others in square brackets")
        first = self._literal()
        return self._range(first, self._literal()) if self._take(r"-(?!\])") else self._letter(first)

    def _literal(self) -> str:
        digits = "[0-9A-Fa-f]"
        coded = self._take(rf"\\(?:x({digits}{{2}})|u({digits}{{4}})|U({digits}{{8}}))")
        if coded:
            return chr(int(coded[coded.lastindex or 0], 16))
        if control := self._take(r"\\([abfnrtv])"):
            return _CONTROLS[control[1]]
        if self._take(r"\\[0-9]"):
            raise _Unknown("a back-reference or an octal number")
        if letter := self._take(r"\\([^A-Za-z])|([^\\])"):
            return letter[1] or letter[2]
        raise _Unknown(f"the escape {self._text[self._at :][:2]}")

    def _letter(self, letter: str) -> str:
        if not self._anycase or not _has_case(letter):
            return _escaped(letter)
        if not letter.isascii():
            raise _Unknown("a letter beyond a to z where case is ignored")
        return "".join(map(_escaped, letter.lower() + letter.upper() + _ALIKE.get(letter.lower(), "")))

    def _range(self, first: str, last: str) -> str:
        if not self._anycase or not any(_has_case(chr(point)) for point in range(ord(first), ord(last) + 1)):
            return f"{_escaped(first)}-{_escaped(last)}"
        if (first, last) not in (("a", "z"), ("A", "Z")):
            raise _Unknown("a range of letters other than a-z where case is ignored")
        return "A-Za-z" + "".join(_ALIKE.values())


def _class(letter: str) -> str:
    return f"[{'^' if letter.isupper() else ''}{_CLASSES[letter.lower()]}]"


def _has_case(letter: str) -> bool:
    return letter.isalpha() or letter.lower() != letter or letter.upper() != letter


def _escaped(letter: str) -> str:
    return f"\\u{{{ord(letter):x}}}"
