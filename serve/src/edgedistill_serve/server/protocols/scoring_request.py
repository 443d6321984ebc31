"""Scoring requests of all protocols: reading the body, scoring within the time limit, and the answer with its timing.

The form of `POST /v1/score` is parsed here too, because other protocols share its checks.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.errors import NotJson, RequestTooLarge, WrongShape
from edgedistill_serve.server.log_lines import add_log_fields
from edgedistill_serve.server.protocols.oip_binary import HEADER_LENGTH
from edgedistill_serve.server.queue.work_item import TIMINGS, Lane, Timing
from edgedistill_serve.server.request.body_reader import read_body
from edgedistill_serve.server.request.openapi import BODY_HINT, JSON
from edgedistill_serve.server.service import Answer, ParsedRequest, Service, is_short
from edgedistill_serve.task.task import INPUTS

T = TypeVar("T")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ScoringRequest:
    """One HTTP request for scores. Its total time starts with the creation of this object.

    Args:
        request: The HTTP request.
        service: The service.
    """

    def __init__(self, request: Request, service: Service) -> None:
        self._request = request
        self._service = service
        self._started = time.perf_counter()
        self._timings: tuple[Timing, ...] = ()

    @property
    def seconds(self) -> float:
        """Time since the creation of this object."""
        return time.perf_counter() - self._started

    async def read(self, parse: Callable[[bytes], T]) -> T:
        """Read and parse the body.

        Args:
            parse: Parses the body; a long body is parsed in a thread.

        Raises:
            EncodingNotSupported: The body is compressed.
            RequestTooLarge: The body is too long.
            QueueFull: The memory for request bodies is used up.
            TooSlow: The body does not arrive in time.
            EdgeDistillError: As ``parse``.
        """
        limits = self._service.limits
        body = await read_body(
            self._request, memory=self._service.bodies, limit=limits.body_bytes, seconds=limits.body_seconds
        )
        return parse(body) if is_short(len(body)) else await self._service.compute(parse, body)

    async def score(self, parsed: ParsedRequest, *, lane: Lane = "interactive", recorded: bool = True) -> Answer:
        """Score the responses within the time limit of a request.

        Args:
            parsed: The parsed body.
            lane: The lane of the request.
            recorded: Whether the responses belong into the journal.

        Raises:
            RequestTooLarge: A text is too long.
            EdgeDistillError: As `Service.score`.
        """
        limits = self._service.limits
        for index, response in enumerate(parsed.responses):
            check_texts(response, limits.text_characters, parsed.location(index))
        deadline = time.monotonic() + limits.answer_seconds
        started = time.time_ns()
        answer = await self._service.score(parsed, lane=lane, deadline=deadline, recorded=recorded)
        manifest = answer.scorer.bundle.manifest
        add_log_fields(self._request.scope, model=manifest.name, version=manifest.version, rows=len(parsed.responses))
        self._timings += answer.timings
        if TIMINGS in self._request.scope:
            self._request.scope[TIMINGS].append((started, answer.timings))
        return answer

    def build_response(
        self, content: Any, binary: Sequence[bytes] = (), headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the HTTP response, with the header `Server-Timing`.

        Args:
            content: The content, which becomes JSON.
            binary: Binary tensors that follow the JSON (Open Inference Protocol).
            headers: More headers.
        """
        body = msgspec.json.encode(content)
        all_headers = {**(headers or {}), "Server-Timing": format_server_timing(self._timings, self.seconds)}
        if binary:
            all_headers[HEADER_LENGTH] = str(len(body))
            return Response(b"".join([body, *binary]), media_type="application/octet-stream", headers=all_headers)
        return Response(body, media_type=JSON, headers=all_headers)


def format_server_timing(timings: Sequence[Timing], total: float) -> str:
    """Return the header `Server-Timing` (W3C): the longest time of any response in each stage, in milliseconds."""
    stages = {
        "queue": max((timing.queue_seconds for timing in timings), default=0.0),
        "tokenize": max((timing.tokenize_seconds for timing in timings), default=0.0),
        "model": max((timing.model_seconds for timing in timings), default=0.0),
        "total": total,
    }
    return ", ".join(f"{name};dur={1000 * seconds:.3f}" for name, seconds in stages.items())


def parse_score_request(body: bytes, *, max_items: int) -> ParsedRequest:
    """Parse the body of `POST /v1/score`.

    Raises:
        NotJson: The body is not valid JSON in UTF-8.
        WrongShape: The body does not match the schema.
        RequestTooLarge: The body has more than ``max_items`` responses.
    """
    content = decode_json(body)
    if not isinstance(content, dict):
        raise WrongShape("the body is not an object", hint=BODY_HINT)
    model = content.get("model")
    if model is not None and not isinstance(model, str):
        raise WrongShape("the name of the model is not a string", where="model")
    if ("response" in content) == ("responses" in content):
        raise WrongShape("the body must have either 'response' or 'responses'", hint=BODY_HINT)
    if "response" in content:
        return ParsedRequest((content,), is_list=False, model=model)
    return ParsedRequest(_parse_list(content, max_items), is_list=True, model=model)


def check_texts(response: Any, limit: int, where: str | None = None) -> None:
    """Check the length of the texts of a response, before any other work.

    Args:
        response: A text or an object, not validated for a task yet.
        limit: Largest number of characters of a text.
        where: Location of the response in the body.

    Raises:
        RequestTooLarge: A text is longer.
    """
    texts = response if isinstance(response, dict) else {"response": response}
    for name in INPUTS:
        text = texts.get(name)
        if isinstance(text, str) and len(text) > limit:
            raise RequestTooLarge(
                f"the input {name!r} has {len(text)} characters, the limit is {limit}",
                where=where,
                hint="Send a shorter text.",
            )


def decode_json(text: bytes, *, name: str = "body", hint: str = BODY_HINT) -> Any:
    """Decode JSON.

    Args:
        text: JSON in UTF-8, with or without a byte order mark.
        name: Name of the text in error messages.
        hint: The expected content.

    Raises:
        NotJson: The text is not valid JSON in UTF-8, or an object has a key twice: the meaning of such an object is not
            defined (RFC 8259, section 4).
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    try:
        content = msgspec.json.decode(text)
    except RecursionError:
        raise NotJson(f"the {name} is nested too deeply") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        if "utf-8" in str(error).lower():  # msgspec before 0.23 raises a UnicodeDecodeError, later versions their own
            raise NotJson(f"the {name} is not valid UTF-8", hint="Send JSON in UTF-8.") from None
        if "truncated" in str(error) and _LONE_SURROGATE.search(text):  # msgspec's message for half a pair
            error = msgspec.DecodeError("a \\u escape may be one half of a surrogate pair")
        raise NotJson(f"the {name} is not valid JSON ({error})", hint=hint) from None
    if _has_repeated_key(text, content):
        raise NotJson(f"an object in the {name} has the same key twice", hint="Send every key once.")
    return content


def _has_repeated_key(text: bytes, content: Any) -> bool:
    """Return whether valid JSON has more keys than its decoded content, in which the last value of a key wins."""
    colons = text.count(b":")
    if isinstance(content, dict) and colons == len(content):
        return False
    keys = 0
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            keys += len(value)
            waiting += [each for each in value.values() if isinstance(each, (dict, list))]
        elif isinstance(value, list):
            waiting += [each for each in value if isinstance(each, (dict, list))]
    # Most texts have no colons. If there are more than keys, those in strings are not counted.
    return colons > keys and _JSON_STRING.sub(b"", text).count(b":") > keys


def _parse_list(content: Mapping[str, Any], max_items: int) -> tuple[Any, ...]:
    responses = content["responses"]
    if not isinstance(responses, list):
        raise WrongShape("the value is not a list", where="responses", hint=BODY_HINT)
    if len(responses) > max_items:
        raise RequestTooLarge(
            f"the list has {len(responses)} responses, the limit is {max_items}",
            where="responses",
            hint="Send several smaller requests.",
        )
    return tuple(responses)
