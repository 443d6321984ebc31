"""From a raw answer to what it says: a label, all labels that hold, or the reason why there is none.

Reads what the cache holds, so a better reader reads paid answers again for free. What is forgiven: a code fence or a
``<think>`` block around the answer, the bare label where JSON was asked for, other case or quotes around the label, a
label named twice where several may hold.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgedistill_serve.task import LABEL_SEPARATOR, NO_LABEL


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
