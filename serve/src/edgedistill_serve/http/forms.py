"""What `POST /v1/score` takes: three forms of a body, read into one type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edgedistill_serve.errors import NotJson, RequestTooLarge, WrongShape

_MEND = 'Send {"response": "…"}, or an object with all inputs of the task, or {"responses": […]} with a list of either.'


@dataclass(frozen=True, slots=True)
class ScoreRequest:
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


def read_score_request(body: bytes, *, max_items: int) -> ScoreRequest:
    """Read the body of a request.

    Raises:
        NotJson: It is no JSON text in UTF-8.
        WrongShape: It is none of the forms.
        RequestTooLarge: It holds more than ``max_items`` responses.
    """
    given = _decode(body)
    if not isinstance(given, dict):
        raise WrongShape("the body is no object", mend=_MEND)
    model = given.get("model")
    if model is not None and not isinstance(model, str):
        raise WrongShape("the model's name is no text", where="model")
    if ("response" in given) == ("responses" in given):
        raise WrongShape("the body must have one of 'response' and 'responses'", mend=_MEND)
    if "response" in given:
        return ScoreRequest((given,), many=False, model=model)
    return ScoreRequest(_items(given, max_items), many=True, model=model)


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise NotJson("the body is no UTF-8", mend="Send JSON in UTF-8.") from None
    except RecursionError:
        raise NotJson("the body is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise NotJson(f"the body is no JSON ({error})", mend=_MEND) from None


def _items(given: Mapping[str, Any], max_items: int) -> tuple[Any, ...]:
    responses = given["responses"]
    if not isinstance(responses, list):
        raise WrongShape("it is no list", where="responses", mend=_MEND)
    if len(responses) > max_items:
        raise RequestTooLarge(
            f"there are {len(responses)} responses, {max_items} are taken at once",
            where="responses",
            mend="Send them in several requests.",
        )
    return tuple(responses)
