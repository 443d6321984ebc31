"""The three forms in which a label can be asked for, from the strictest to the one that every endpoint knows."""

import json
from collections.abc import Sequence
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


def response_format(form: AnswerFormat, labels: Sequence[str]) -> dict[str, Any] | None:
    """Return the request's ``response_format``; None for plain text, which sends none."""
    if form is AnswerFormat.SCHEMA:
        schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(labels)}},
            "required": ["label"],
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": "coding", "strict": True, "schema": schema}}
    return {"type": "json_object"} if form is AnswerFormat.JSON else None


def wanted(form: AnswerFormat, labels: Sequence[str]) -> str:
    """Return the sentence that tells the teacher how to answer."""
    names = ", ".join(json.dumps(label, ensure_ascii=False) for label in labels)
    if form is AnswerFormat.TEXT:
        return f"Answer with one label and nothing else, spelled exactly as one of these: {names}."
    return (
        f'Answer with a JSON object and nothing else: {{"label": "…"}}, the label being exactly one of these: {names}.'
    )


def written(form: AnswerFormat, label: str) -> str:
    """Return the answer that gives this label, as an example shows it."""
    return label if form is AnswerFormat.TEXT else json.dumps({"label": label}, ensure_ascii=False)
