"""From a raw answer to labels, and to their probabilities where the endpoint returned log probabilities.

Reads what the cache holds, so a better reader reads paid answers again for free. What is forgiven: a code fence or a
``<think>`` block around the answer, the bare label where JSON was asked for, other case or quotes around the label, a
label named twice where several may hold.

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
from enum import StrEnum
from typing import Any

from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL


class Cause(StrEnum):
    """Why a response has no label: the fixed phrases under which set-aside rows are counted."""

    REFUSED = "the teacher refused to answer"
    TRUNCATED = "the teacher's answer was cut short"
    EMPTY = "the teacher's answer was empty"
    UNREADABLE = "the teacher's answer could not be read"
    NO_SUCH_LABEL = "the teacher's answer is no label of the codebook"
    NOT_RECORDED = "the recorded teacher has no answer"
    REJECTED = "the endpoint rejected the request"
    RATE_LIMITED = "the endpoint allowed no more requests"
    SERVER_ERROR = "the endpoint failed"
    TIMED_OUT = "the endpoint took too long"
    DROPPED = "the connection broke"
    TIE = "the votes tie"
    TEACHERS_TIE = "the teachers tie"
    NO_TEACHER = "no teacher labelled it"
    NO_TEXT = "it holds characters that are no text"


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that gives no label.

    Attributes:
        cause: Why.
        raw: What the endpoint sent, as text; empty where nothing came.
        code: The HTTP status or the endpoint's own code, where there is one.
        key: The key of the request, under which `FailureLog` keeps it; empty before it is kept.
    """

    cause: Cause
    raw: str = ""
    code: str = ""
    key: str = ""


_THINKING = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"^```\w*\s*(.*?)\s*```$", re.DOTALL)


def read_label(answer: Mapping[str, Any], labels: Sequence[str]) -> str | Failure:
    """Return the label that a chat completion gives.

    Args:
        answer: The whole chat completion.
        labels: The codebook's labels.
    """
    content = content_of(answer)
    if isinstance(content, Failure):
        return content
    named = _named(content)
    if named is None:
        return unusable(Cause.UNREADABLE, answer)
    cause = Cause.NO_SUCH_LABEL if _is_json(content) else Cause.UNREADABLE
    return label_among(named, labels) or unusable(cause, answer)


def read_labels(answer: Mapping[str, Any], labels: Sequence[str]) -> str | Failure:
    """Return the code that a chat completion gives where any number of labels may hold: see `labels_among`.

    Args:
        answer: The whole chat completion.
        labels: The codebook's labels.
    """
    content = content_of(answer)
    if isinstance(content, Failure):
        return content
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return labels_among(content, labels) or unusable(Cause.UNREADABLE, answer)
    named = labels_given(value) if isinstance(value, dict) else value
    if not isinstance(named, str | list):
        return unusable(Cause.UNREADABLE, answer)
    return labels_among(named, labels) or unusable(Cause.NO_SUCH_LABEL, answer)


def content_of(answer: Mapping[str, Any]) -> str | Failure:
    """Return the text that a chat completion says, without a code fence or a ``<think>`` block around it."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        return unusable(Cause.UNREADABLE, answer)
    if refusal or finish == "content_filter":
        return unusable(Cause.REFUSED, answer)
    if finish == "length":
        return unusable(Cause.TRUNCATED, answer)
    if content is None or content == "":
        return unusable(Cause.EMPTY, answer)
    return _bare(content) if isinstance(content, str) else unusable(Cause.UNREADABLE, answer)


def unusable(cause: Cause, answer: Mapping[str, Any]) -> Failure:
    """Return the failure that an answer is, with all of it as its raw text."""
    return Failure(cause, raw=json.dumps(answer, ensure_ascii=False))


def _named(text: str) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    label = value.get("label") if isinstance(value, dict) else value
    if isinstance(label, int) and not isinstance(label, bool):
        return str(label)
    return label if isinstance(label, str) else None


def _bare(content: str) -> str:
    text = _THINKING.sub("", content).strip()
    fenced = _FENCED.match(text)
    return fenced[1] if fenced else text


def _is_json(content: str) -> bool:
    return content.startswith("{")


def label_among(named: str, labels: Sequence[str]) -> str | None:
    """Return the label that is meant: the same one, or the one that differs in case, white space or quotes alone."""
    if named in labels:
        return named
    folded = {_folded(label): label for label in labels}
    return folded.get(_folded(named))


def labels_given(coding: Mapping[str, Any]) -> object:
    """Return what stands in a JSON object as its labels; None where nothing does."""
    return coding.get("labels", coding.get("label"))


def labels_among(named: object, labels: Sequence[str]) -> str | None:
    """Return the code that is meant: the labels that hold, in the codebook's order and joined, or `NO_LABEL`.

    Args:
        named: A list of labels, or a text with `LABEL_SEPARATOR` between them; an empty list and `NO_LABEL` alone say
            that none holds.
        labels: The codebook's labels.

    Returns:
        None where something else than a label stands there, or nothing at all.
    """
    parts = named.split(LABEL_SEPARATOR) if isinstance(named, str) else named
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        return None
    texts = [part for part in parts if part.strip()]
    if not texts and parts:
        return None
    if [_folded(text) for text in texts] in ([], [NO_LABEL]):
        return NO_LABEL
    found = [label_among(text, labels) for text in texts]
    return None if None in found else LABEL_SEPARATOR.join(label for label in labels if label in found)


def _folded(label: str) -> str:
    return " ".join(label.strip().strip("\"'`*.").casefold().split())


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
