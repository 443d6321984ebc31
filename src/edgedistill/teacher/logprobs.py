"""How probable each label was, read from the log probabilities of an answer's tokens.

The rule. A label's probability is the product over *all* tokens of the label as it was generated, up to and with the
quote that ends it: without that quote, ``process`` could not be told from ``process_specific``. At each of these tokens
the endpoint also lists its likeliest alternatives. An alternative that leads to one label and no other adds the
probability of its branch to that label; one that could still become several labels adds to none. The sums are then
divided by their total over the labels that could be read so. Where only the generated label could be read, it keeps its
probability and the other labels share the rest evenly.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TOP = 20
"""How many alternatives are asked for at each token, the most that the OpenAI API allows."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: bytes
    logprob: float
    others: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a label stands in the generated text: bytes from start to stop, and whether a quote ends it."""

    start: int
    stop: int
    quoted: bool


_LABEL = re.compile(rb'"label"\s*:\s*"((?:[^"\\]|\\.)*)"')
_QUOTE = re.compile(rb'(?<!\\)"')
_AROUND = b" \n\t.\"'*`"  # what may stand around a bare label


def label_probabilities(
    answer: Mapping[str, Any], chosen: Sequence[str | None], labels: Sequence[str]
) -> list[Mapping[str, float] | None]:
    """Return, for each label of an answer, the probabilities of all labels in its place.

    Args:
        answer: The whole chat completion.
        chosen: The labels that it gives, in its order; None for one that could not be read.
        labels: The codebook's labels.

    Returns:
        Per chosen label: probabilities in (0, 1] that sum to 1, labels without any left out; None where the answer has
        no log probabilities, or the label cannot be found among its tokens.
    """
    tokens = _tokens(answer)
    text = b"".join(token.text for token in tokens)
    spans = _spans(text, chosen) if tokens else []
    if len(spans) != len(chosen):
        return [None] * len(chosen)
    return [
        _shares(tokens, text, span, label, labels) if label is not None else None
        for span, label in zip(spans, chosen, strict=True)
    ]


def _tokens(answer: Mapping[str, Any]) -> list[_Token]:
    try:
        content = answer["choices"][0]["logprobs"]["content"]
        return [
            _Token(_text(token), float(token["logprob"]), tuple(_others(token.get("top_logprobs") or ())))
            for token in content
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return []


def _others(listed: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, float]]:
    for other in listed:
        yield _text(other), float(other["logprob"])


def _text(token: Mapping[str, Any]) -> bytes:
    given = token.get("bytes")
    return str(token["token"]).encode() if given is None else bytes(given)


def _spans(text: bytes, chosen: Sequence[str | None]) -> list[_Span]:
    found = [_Span(label.start(1), label.end(1), quoted=True) for label in _LABEL.finditer(text)]
    if len(chosen) != 1 or found:
        return found[-1:] if len(chosen) == 1 else found
    bare = (chosen[0] or "").encode().lower()
    start = text.lower().rfind(bare) if bare else -1
    return [_Span(start, start + len(bare), quoted=False)] if start >= 0 else []


def _shares(
    tokens: Sequence[_Token], text: bytes, span: _Span, chosen: str, labels: Sequence[str]
) -> Mapping[str, float] | None:
    spelled = {label: _spelled(label, span) for label in labels}
    stop = span.stop + span.quoted
    sums = dict.fromkeys(labels, 0.0)
    reached, start = 1.0, 0
    for token in tokens:
        end = start + len(token.text)
        if start < stop and end > span.start:
            before, done = text[start : span.start], text[span.start : start]
            for other, logprob in token.others:
                if other != token.text and (owner := _owner(done, before, other, spelled, span)):
                    sums[owner] += reached * math.exp(logprob)
            reached *= math.exp(token.logprob)
        start = end
    sums[chosen] += reached
    return _normalised(sums, chosen)


def _owner(done: bytes, before: bytes, other: bytes, spelled: Mapping[str, bytes], span: _Span) -> str | None:
    """The only label that an alternative token leads to, if there is one."""
    if not other.startswith(before):
        if before.strip():
            return None
        other = other.lstrip()
    branch = (done + other.removeprefix(before)).lower()
    if span.quoted and (quote := _QUOTE.search(branch)):
        whole = branch[: quote.start()]
        return next((label for label, spelling in spelled.items() if spelling == whole), None)
    if not span.quoted:
        branch = branch.rstrip(_AROUND)
    led = [label for label, spelling in spelled.items() if spelling.startswith(branch)]
    return led[0] if len(led) == 1 else None


def _spelled(label: str, span: _Span) -> bytes:
    return (json.dumps(label, ensure_ascii=False)[1:-1] if span.quoted else label).encode().lower()


def _normalised(sums: Mapping[str, float], chosen: str) -> Mapping[str, float] | None:
    read = {label: found for label, found in sums.items() if found > 0}
    if list(read) == [chosen] and len(sums) > 1:
        rest = max(0.0, 1 - read[chosen]) / (len(sums) - 1)
        read = {label: min(1.0, sums[label]) if label == chosen else rest for label in sums}
    total = sum(read.values())
    return {label: found / total for label, found in read.items() if found > 0} if total > 0 else None
