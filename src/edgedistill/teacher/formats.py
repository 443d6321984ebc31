"""The three forms in which codes can be asked for, from the strictest to the one that every endpoint knows.

AnswerFormat   how: by a JSON schema, as JSON, as text
AnswerShape    what: one label or one for each of several responses, with a reason before it or without
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


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
        labels: The codebook's labels, one of which is given.
        reasoning: Whether a reason in one sentence comes before each label.
        several: Whether it codes several responses, each under its id.
    """

    labels: tuple[str, ...]
    reasoning: bool = False
    several: bool = False


def response_format(form: AnswerFormat, shape: AnswerShape) -> dict[str, Any] | None:
    """Return the request's ``response_format``; None for plain text, which sends none.

    The properties of a schema stand in the order in which they are to be answered: the reason, then the label.
    """
    if form is AnswerFormat.SCHEMA:
        coding = _object(
            ({"id": {"type": "string"}} if shape.several else {})
            | ({"reason": {"type": "string"}} if shape.reasoning else {})
            | {"label": {"type": "string", "enum": list(shape.labels)}}
        )
        schema = _object({"codings": {"type": "array", "items": coding}}) if shape.several else coding
        return {"type": "json_schema", "json_schema": {"name": "coding", "strict": True, "schema": schema}}
    return {"type": "json_object"} if form is AnswerFormat.JSON else None


def wanted(form: AnswerFormat, shape: AnswerShape) -> str:
    """Return the sentence that tells the teacher how to answer."""
    names = ", ".join(json.dumps(label, ensure_ascii=False) for label in shape.labels)
    if form is AnswerFormat.TEXT:
        return _wanted_text(shape, names)
    one = f'{{{_ID if shape.several else ""}{_REASON if shape.reasoning else ""}"label": "…"}}'
    first = "the reason being one short sentence that is given first, " if shape.reasoning else ""
    what = one
    if shape.several:
        what = f'{{"codings": [{one}, …]}}, one entry for every response, the id being that of the response'
    return f"Answer with a JSON object and nothing else: {what}, {first}the label being exactly one of these: {names}."


def written(form: AnswerFormat, label: str, shape: AnswerShape) -> str:
    """Return the answer that gives this label, as an example shows it; of several responses it codes the first."""
    if form is AnswerFormat.TEXT:
        return f"{FIRST_ID}: {label}" if shape.several else label
    value: dict[str, Any] = {"codings": [{"id": FIRST_ID, "label": label}]} if shape.several else {"label": label}
    return json.dumps(value, ensure_ascii=False)


FIRST_ID = "1"
"""The id of the first response of a request; the ids of the data never leave the machine."""

_ID = '"id": "…", '
_REASON = '"reason": "…", '


def _wanted_text(shape: AnswerShape, names: str) -> str:
    if shape.several:
        reason = " the reason in one short sentence, a vertical bar," if shape.reasoning else ""
        how = f"one line for every response and nothing else: its id, a colon,{reason} and its label"
    elif shape.reasoning:
        how = "the reason in one short sentence and, on a line of its own at the end, the label"
    else:
        how = "one label and nothing else"
    return f"Answer with {how}, spelled exactly as one of these: {names}."


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
