"""Parses an answer to labels, and to their probabilities if the endpoint returned log probabilities.

It parses the raw answers in the cache, so an improved parser can parse paid answers again for free. It tolerates a code
fence or a ``<think>`` block around the answer, the bare label instead of JSON, different case or quotes around the
label, and a repeated label in a multilabel task.

A label's probability is the product over *all* tokens of the generated label, up to and including the closing quote:
without the quote, ``process`` could not be distinguished from ``process_specific``. At each of these tokens the
endpoint also lists the most likely alternatives. An alternative that leads to exactly one label adds the probability of
its branch to that label; one that could still become several labels adds to none. The sums are then normalised over the
labels with a sum. If only the generated label has one, it keeps its probability and the other labels share the rest
evenly.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL


class FailureCause(StrEnum):
    """Why a response has no label: the fixed phrases in reports and in the failure log."""

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
    """A request without a usable answer.

    Attributes:
        cause: The cause.
        raw: The endpoint's reply as text; empty if there was none.
        code: The HTTP status or the endpoint's own code, if there is one.
        key: The key of the request; empty before it is in the failure log.
    """

    cause: FailureCause
    raw: str = ""
    code: str = ""
    key: str = ""


_THINKING = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"^```\w*\s*(.*?)\s*```$", re.DOTALL)


def parse_label(answer: Mapping[str, Any], labels: Sequence[str]) -> str | Failure:
    """Return the label in a chat completion.

    Args:
        answer: The whole chat completion.
        labels: The codebook's labels.
    """
    content = extract_text(answer)
    if isinstance(content, Failure):
        return content
    named = _parse_named_label(content)
    if named is None:
        return unusable_answer(FailureCause.UNREADABLE, answer)
    cause = FailureCause.NO_SUCH_LABEL if _is_json(content) else FailureCause.UNREADABLE
    return match_label(named, labels) or unusable_answer(cause, answer)


def parse_labels(answer: Mapping[str, Any], labels: Sequence[str]) -> str | Failure:
    """Return the labels in a chat completion for a multilabel task, joined; see `match_labels`.

    Args:
        answer: The whole chat completion.
        labels: The codebook's labels.
    """
    content = extract_text(answer)
    if isinstance(content, Failure):
        return content
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return match_labels(content, labels) or unusable_answer(FailureCause.UNREADABLE, answer)
    named = get_labels_value(value) if isinstance(value, dict) else value
    if not isinstance(named, str | list):
        return unusable_answer(FailureCause.UNREADABLE, answer)
    return match_labels(named, labels) or unusable_answer(FailureCause.NO_SUCH_LABEL, answer)


def extract_text(answer: Mapping[str, Any]) -> str | Failure:
    """Return the text of a chat completion, without a code fence or a ``<think>`` block around it."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        return unusable_answer(FailureCause.UNREADABLE, answer)
    if refusal or finish == "content_filter":
        return unusable_answer(FailureCause.REFUSED, answer)
    if finish == "length":
        return unusable_answer(FailureCause.TRUNCATED, answer)
    if content is None or content == "":
        return unusable_answer(FailureCause.EMPTY, answer)
    return _strip_wrapping(content) if isinstance(content, str) else unusable_answer(FailureCause.UNREADABLE, answer)


_OWN_END = frozenset(
    {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "tool_calls", "function_call"}
)


def ended_by_itself(answer: Mapping[str, Any]) -> bool:
    """Whether the teacher ended a chat completion, not its token limit, a filter or an error."""
    try:
        return str(answer["choices"][0]["finish_reason"]).casefold() in _OWN_END
    except (KeyError, IndexError, TypeError):
        return False


def unusable_answer(cause: FailureCause, answer: Mapping[str, Any]) -> Failure:
    """Return the failure for an unusable answer, with the whole answer as its raw text."""
    return Failure(cause, raw=json.dumps(answer, ensure_ascii=False))


def _parse_named_label(text: str) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    label = value.get("label") if isinstance(value, dict) else value
    if isinstance(label, int) and not isinstance(label, bool):
        return str(label)
    return label if isinstance(label, str) else None


def _strip_wrapping(content: str) -> str:
    text = _THINKING.sub("", content).strip()
    fenced = _FENCED.match(text)
    return fenced[1] if fenced else text


def _is_json(content: str) -> bool:
    return content.startswith("{")


def match_label(named: str, labels: Sequence[str]) -> str | None:
    """Return the label that equals the text, ignoring case, white space and quotes; None if there is none."""
    if named in labels:
        return named
    folded = {_fold(label): label for label in labels}
    return folded.get(_fold(named))


def get_labels_value(coding: Mapping[str, Any]) -> object:
    """Return the value of ``labels`` or ``label`` in a JSON object, or None."""
    return coding.get("labels", coding.get("label"))


def match_labels(named: object, labels: Sequence[str]) -> str | None:
    """Return the labels in codebook order, joined, or `NO_LABEL`.

    Args:
        named: A list of labels, or a text with `LABEL_SEPARATOR` between them; an empty list, or `NO_LABEL` alone,
            means no label.
        labels: The codebook's labels.

    Returns:
        The joined labels; None if something is not a label, or if the text is empty.
    """
    parts = named.split(LABEL_SEPARATOR) if isinstance(named, str) else named
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        return None
    texts = [part for part in parts if part.strip()]
    if not texts and parts:
        return None
    if [_fold(text) for text in texts] in ([], [NO_LABEL]):
        return NO_LABEL
    matched = [match_label(text, labels) for text in texts]
    return None if None in matched else LABEL_SEPARATOR.join(label for label in labels if label in matched)


def _fold(label: str) -> str:
    return " ".join(label.strip().strip("\"'`*.").casefold().split())


MAX_TOP_LOGPROBS = 20
"""Number of alternatives requested at each token, the maximum of the OpenAI API."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: bytes
    logprob: float
    alternatives: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """The position of a label in the generated text: bytes from start to stop, and whether a quote ends it."""

    start: int
    stop: int
    quoted: bool


_LABEL = re.compile(rb'"label"\s*:\s*"((?:[^"\\]|\\.)*)"')
_QUOTE = re.compile(rb'(?<!\\)"')
_SURROUNDING = b" \n\t.\"'*`"  # may surround a bare label


def compute_label_probabilities(
    answer: Mapping[str, Any], chosen: Sequence[str | None], labels: Sequence[str]
) -> list[Mapping[str, float] | None]:
    """Compute the probabilities of all labels in place of each label of an answer.

    Args:
        answer: The whole chat completion.
        chosen: Its labels, in order; None for one that could not be parsed.
        labels: The codebook's labels.

    Returns:
        For each chosen label: probabilities in (0, 1] that sum to 1, without labels of unknown probability; None if the
        answer has no log probabilities, or if the label is not found in its tokens.
    """
    tokens = _tokens(answer)
    text = b"".join(token.text for token in tokens)
    spans = _spans(text, chosen) if tokens else []
    if len(spans) != len(chosen):
        return [None] * len(chosen)
    return [
        _branch_probabilities(tokens, text, span, label, labels) if label is not None else None
        for span, label in zip(spans, chosen, strict=True)
    ]


def _tokens(answer: Mapping[str, Any]) -> list[_Token]:
    try:
        content = answer["choices"][0]["logprobs"]["content"]
        return [
            _Token(_text(token), float(token["logprob"]), tuple(_alternatives(token.get("top_logprobs") or ())))
            for token in content
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return []


def _alternatives(listed: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, float]]:
    for other in listed:
        yield _text(other), float(other["logprob"])


def _text(token: Mapping[str, Any]) -> bytes:
    data = token.get("bytes")
    return str(token["token"]).encode() if data is None else bytes(data)


def _spans(text: bytes, chosen: Sequence[str | None]) -> list[_Span]:
    spans = [_Span(label.start(1), label.end(1), quoted=True) for label in _LABEL.finditer(text)]
    if len(chosen) != 1 or spans:
        return spans[-1:] if len(chosen) == 1 else spans
    bare = (chosen[0] or "").encode().lower()
    start = text.lower().rfind(bare) if bare else -1
    return [_Span(start, start + len(bare), quoted=False)] if start >= 0 else []


def _branch_probabilities(
    tokens: Sequence[_Token], text: bytes, span: _Span, chosen: str, labels: Sequence[str]
) -> Mapping[str, float] | None:
    spelled = {label: _spell(label, span) for label in labels}
    stop = span.stop + span.quoted
    sums = dict.fromkeys(labels, 0.0)
    reached, start = 1.0, 0
    for token in tokens:
        end = start + len(token.text)
        if start < stop and end > span.start:
            before, done = text[start : span.start], text[span.start : start]
            for other, logprob in token.alternatives:
                if other != token.text and (label := _matching_label(done, before, other, spelled, span)):
                    sums[label] += reached * math.exp(logprob)
            reached *= math.exp(token.logprob)
        start = end
    sums[chosen] += reached
    return _normalise(sums, chosen)


def _matching_label(done: bytes, before: bytes, other: bytes, spelled: Mapping[str, bytes], span: _Span) -> str | None:
    """Return the only label that an alternative token leads to, or None."""
    if not other.startswith(before):
        if before.strip():
            return None
        other = other.lstrip()
    branch = (done + other.removeprefix(before)).lower()
    if span.quoted and (quote := _QUOTE.search(branch)):
        whole = branch[: quote.start()]
        return next((label for label, spelling in spelled.items() if spelling == whole), None)
    if not span.quoted:
        branch = branch.rstrip(_SURROUNDING)
    matching = [label for label, spelling in spelled.items() if spelling.startswith(branch)]
    return matching[0] if len(matching) == 1 else None


def _spell(label: str, span: _Span) -> bytes:
    return (json.dumps(label, ensure_ascii=False)[1:-1] if span.quoted else label).encode().lower()


def _normalise(sums: Mapping[str, float], chosen: str) -> Mapping[str, float] | None:
    known = {label: probability for label, probability in sums.items() if probability > 0}
    if list(known) == [chosen] and len(sums) > 1:
        rest = max(0.0, 1 - known[chosen]) / (len(sums) - 1)
        known = {label: min(1.0, sums[label]) if label == chosen else rest for label in sums}
    total = sum(known.values())
    return (
        {label: probability / total for label, probability in known.items() if probability > 0} if total > 0 else None
    )
