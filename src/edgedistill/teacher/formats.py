"""The three forms in which codes can be asked for, from the strictest to the one that every endpoint knows.

AnswerFormat   how: by a JSON schema, as JSON, as text
AnswerShape    what: one label or all that hold, of one response or of several, with a reason before it or without
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgedistill_serve.task import LABEL_SEPARATOR, NO_LABEL


class AnswerFormat(StrEnum):
    """How an answer is asked for, in the order in which they are tried."""

    SCHEMA = "json_schema"
    JSON = "json_object"
    TEXT = "text"

    @property
    def next(self) -> "AnswerFormat | None":
        """The format to fall back to, or None after the last."""
        formats = list(AnswerFormat)
        place = formats.index(self) + 1
        return formats[place] if place < len(formats) else None


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """What an answer holds.

    Attributes:
        labels: The codebook's labels.
        reasoning: Whether a reason in one sentence comes before each label.
        several: Whether it codes several responses, each under its id.
        any_number: Whether any number of labels may be given to a response, also none; else exactly one is.
    """

    labels: tuple[str, ...]
    reasoning: bool = False
    several: bool = False
    any_number: bool = False


def response_format(form: AnswerFormat, shape: AnswerShape) -> dict[str, Any] | None:
    """Return the request's ``response_format``; None for plain text, which sends none.

    The properties of a schema stand in the order in which they are to be answered: the reason, then the label.
    """
    if form is AnswerFormat.SCHEMA:
        coding = _object(
            ({"id": {"type": "string"}} if shape.several else {})
            | ({"reason": {"type": "string"}} if shape.reasoning else {})
            | _given(shape)
        )
        schema = _object({"codings": {"type": "array", "items": coding}}) if shape.several else coding
        return {"type": "json_schema", "json_schema": {"name": "coding", "strict": True, "schema": schema}}
    return {"type": "json_object"} if form is AnswerFormat.JSON else None


def wanted(form: AnswerFormat, shape: AnswerShape) -> str:
    """Return the sentence that tells the teacher how to answer."""
    names = ", ".join(json.dumps(label, ensure_ascii=False) for label in shape.labels)
    if form is AnswerFormat.TEXT:
        return _wanted_text(shape, names)
    label = _LABELS if shape.any_number else _LABEL
    one = f"{{{_ID if shape.several else ''}{_REASON if shape.reasoning else ''}{label}}}"
    first = "the reason being one short sentence that is given first, " if shape.reasoning else ""
    what = one
    if shape.several:
        what = f'{{"codings": [{one}, …]}}, one entry for every response, the id being that of the response'
    which = "the label being exactly one of these"
    if shape.any_number:
        which = "the labels being all of these that hold, or an empty list where none does"
    return f"Answer with a JSON object and nothing else: {what}, {first}{which}: {names}."


def written(form: AnswerFormat, label: str, shape: AnswerShape) -> str:
    """Return the answer that gives this code, as an example shows it; of several responses it codes the first."""
    if form is AnswerFormat.TEXT:
        return f"{FIRST_ID}: {label}" if shape.several else label
    coding: dict[str, Any] = {"label": label}
    if shape.any_number:
        coding = {"labels": [] if label == NO_LABEL else label.split(LABEL_SEPARATOR)}
    value: dict[str, Any] = {"codings": [{"id": FIRST_ID, **coding}]} if shape.several else coding
    return json.dumps(value, ensure_ascii=False)


FIRST_ID = "1"
"""The id of the first response of a request; the ids of the data never leave the machine."""

_ID = '"id": "…", '
_REASON = '"reason": "…", '
_LABEL = '"label": "…"'
_LABELS = '"labels": ["…"]'


def _given(shape: AnswerShape) -> dict[str, Any]:
    label = {"type": "string", "enum": list(shape.labels)}
    return {"labels": {"type": "array", "items": label}} if shape.any_number else {"label": label}


def _wanted_text(shape: AnswerShape, names: str) -> str:
    label = "labels that hold" if shape.any_number else "label"
    if shape.several:
        reason = " the reason in one short sentence, a vertical bar," if shape.reasoning else ""
        how = f"one line for every response and nothing else: its id, a colon,{reason} and its {label}"
    elif shape.reasoning:
        how = f"the reason in one short sentence and, on a line of its own at the end, the {label}"
    else:
        how = "the labels that hold and nothing else" if shape.any_number else "one label and nothing else"
    if shape.any_number:
        return f"Answer with {how}, semicolons between them, or {NO_LABEL}. The labels, to be spelled so: {names}."
    return f"Answer with {how}, spelled exactly as one of these: {names}."


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
