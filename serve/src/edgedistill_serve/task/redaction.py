"""Replacement of personal data by placeholders, identical for labelling, training and scoring.

Web addresses, e-mail addresses and phone numbers are always replaced; a project can add patterns for ids.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import msgspec

from edgedistill_serve.task.redaction_rules import ID, PLACEHOLDERS, RULE_SETS, RuleSet, Step, fold

RULES = max(RULE_SETS)
"""The newest version of the built-in patterns."""


class Redaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is replaced in every text.

    Attributes:
        ids: Regular expressions of Python's ``re``, such as ``S[0-9]{6}``. Each match is replaced by ``[ID]``. They are
            also matched with full-width digits, typographic dashes and the like replaced by their ASCII forms.
        rules: Version of the built-in patterns. A bundle keeps the version that its training texts were redacted with.

    Raises:
        ValueError: A pattern is not a valid regular expression, or matches the empty string; or the version is unknown.
    """

    ids: tuple[str, ...] = ()
    rules: int = RULES

    def __post_init__(self) -> None:
        for pattern in self.ids:
            try:
                matches_empty = re.compile(pattern).search("")
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a valid regular expression: {error}") from None
            if matches_empty:
                raise ValueError(f"the pattern {pattern!r} matches the empty string")
        if self.rules not in RULE_SETS:
            raise ValueError(f"the redaction rules have the version {self.rules}; known are {sorted(RULE_SETS)}")


def redact_text(text: str, redaction: Redaction) -> str:
    """Return the text with personal data replaced by ``[URL]``, ``[EMAIL]``, ``[ID]`` and ``[PHONE]``.

    The patterns match data by its form only: names, and addresses written out in words, are not replaced;
    docs/redaction.md has the measured precision and recall. Redacting a redacted text leaves it unchanged, unless
    a pattern of the project has look-around that sees its own placeholders. Time grows linearly with the length of the
    text, if it does so for the project's patterns.

    Args:
        text: Any text.
        redaction: The project's own patterns, and the version of the built-in ones.
    """
    rules = RULE_SETS[redaction.rules]
    steps = redaction_steps(redaction)
    for _ in range(rules.passes):
        before = text
        for step in steps:
            text = _apply(text, step, rules)
        if text == before:
            break
    return text


@lru_cache(maxsize=64)
def redaction_steps(redaction: Redaction) -> tuple[Step, ...]:
    """Return the patterns in the order of their application."""
    rules = RULE_SETS[redaction.rules]
    own = [Step(re.compile(pattern), ID) for pattern in redaction.ids]
    folded = [replace(step, folded=True) for step in own] if rules.folded else []
    return (*rules.before, *own, *folded, *rules.after)


def _apply(text: str, step: Step, rules: RuleSet) -> str:
    read, places = fold(text) if step.folded else (text, None)
    if step.sign and not step.sign.search(read):
        return text
    parts, end = [], 0
    for first, last in _spans(read, step, rules):
        if first < last:
            parts += [text[end : places[first] if places else first], step.placeholder]
            end = places[last - 1] + 1 if places else last
    return "".join(parts) + text[end:] if parts else text


def _spans(text: str, step: Step, rules: RuleSet) -> Iterator[tuple[int, int]]:
    """Yield the matches between the placeholders and the texts that stay unchanged."""
    start = 0
    for kept in [*_kept(text, step), None]:
        end = kept[0] if kept else len(text)
        if rules.isolated:
            for match in step.pattern.finditer(text[start:end]):
                yield start + match.start(), start + match.end()
        else:
            for match in step.pattern.finditer(text, start, end):
                yield match.span()
        start = kept[1] if kept else end


def _kept(text: str, step: Step) -> list[tuple[int, int]]:
    spans = [match.span() for match in PLACEHOLDERS.finditer(text)]
    if step.unchanged is None:
        return spans
    return sorted(spans + [match.span() for match in step.unchanged.finditer(text)])
