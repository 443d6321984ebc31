"""What `POST /v1/score` takes: three forms of a body, read into one type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edgedistill_serve.errors import NotJson, RequestTooLarge, WrongShape
from edgedistill_serve.task.task import INPUTS

_HINT = 'Send {"response": "…"}, or an object with all inputs of the task, or {"responses": […]} with a list of either.'


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request to score.

    Attributes:
        responses: Texts or objects, not yet checked against a task.
        many: Whether they came as a list, so that a list goes back.
        model: The name of the model, None where the request names none.
    """

    responses: tuple[Any, ...]
    many: bool
    model: str | None

    def place(self, index: int) -> str | None:
        """Say where in the body a response stands."""
        return f"responses[{index}]" if self.many else None


def read_score_request(body: bytes, *, max_items: int) -> ParsedRequest:
    """Read the body of a request.

    Raises:
        NotJson: It is no JSON text in UTF-8.
        WrongShape: It is none of the forms.
        RequestTooLarge: It holds more than ``max_items`` responses.
    """
    given = decode(body)
    if not isinstance(given, dict):
        raise WrongShape("the body is no object", hint=_HINT)
    model = given.get("model")
    if model is not None and not isinstance(model, str):
        raise WrongShape("the model's name is no text", where="model")
    if ("response" in given) == ("responses" in given):
        raise WrongShape("the body must have one of 'response' and 'responses'", hint=_HINT)
    if "response" in given:
        return ParsedRequest((given,), many=False, model=model)
    return ParsedRequest(_items(given, max_items), many=True, model=model)


def check_texts(response: Any, limit: int, where: str | None = None) -> None:
    """Check that no text of a response is too long, before any work is done with it.

    Args:
        response: A text or an object, not yet checked against a task.
        limit: The most characters of a text.
        where: The response's place in the body.

    Raises:
        RequestTooLarge: One is longer.
    """
    texts = response if isinstance(response, dict) else {"response": response}
    for name in INPUTS:
        text = texts.get(name)
        if isinstance(text, str) and len(text) > limit:
            raise RequestTooLarge(
                f"the input {name!r} has {len(text)} characters, {limit} are taken",
                where=where,
                hint="Send a part of it.",
            )


def decode(text: bytes, *, what: str = "body", hint: str = _HINT) -> Any:
    """Decode JSON.

    Args:
        text: In UTF-8.
        what: What it is.
        hint: What to send instead.

    Raises:
        NotJson: It is no JSON text in UTF-8.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise NotJson(f"the {what} is nested too deeply") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        if "utf-8" in str(error).lower():  # msgspec before 0.23 raises a UnicodeDecodeError, later ones their own
            raise NotJson(f"the {what} is no UTF-8", hint="Send JSON in UTF-8.") from None
        raise NotJson(f"the {what} is no JSON ({error})", hint=hint) from None


def _items(given: Mapping[str, Any], max_items: int) -> tuple[Any, ...]:
    responses = given["responses"]
    if not isinstance(responses, list):
        raise WrongShape("it is no list", where="responses", hint=_HINT)
    if len(responses) > max_items:
        raise RequestTooLarge(
            f"there are {len(responses)} responses, {max_items} are taken at once",
            where="responses",
            hint="Send them in several requests.",
        )
    return tuple(responses)
