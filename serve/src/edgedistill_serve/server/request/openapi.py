"""The OpenAPI document, generated from the route table and from the types of requests and responses.

Its operation ids, tags and schema names are those that a generated client has. Examples are values of the types, and
those of errors are written by the code that answers with them.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgedistill_serve import errors
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.request.error_responses import (
    InferenceError,
    Problem,
    TeiError,
    error_format,
    response_to_error,
)

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
Tag: TypeAlias = Literal["Scoring", "text-embeddings-inference", "Open Inference Protocol", "Health"]
JSON = "application/json"
TAGS: dict[Tag, str] = {
    "Scoring": "The API of this server, for new clients.",
    "text-embeddings-inference": "The API of text-embeddings-inference, for clients that speak it.",
    "Open Inference Protocol": "Version 2 of the protocol of KServe and Triton, for clients that speak it.",
    "Health": "Health checks and metrics, for load balancers and monitoring.",
}
_REF_TEMPLATE = "#/components/schemas/{name}"
_EXAMPLE_ID = "9f86d081884c7d650000000000000001"
KEY_HINT = "Send it as Authorization: Bearer KEY, or as X-API-Key: KEY."
BODY_HINT = (
    'Send {"response": "…"}, or an object with all inputs of the task, or {"responses": […]} with a list of either.'
)
_COMMON_STATUSES = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
_SCORING_STATUSES = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_RETRIED = "Send the request again after the time in the header Retry-After."
_HEADERS = {
    "X-Request-ID": "The id of the request: the one that it was sent with, or a new one.",
    "Retry-After": "Seconds after which to send the request again.",
    "Server-Timing": "Queue, tokenize, model and total time in milliseconds (W3C).",
    "X-Model": "The model that scores the request, `NAME@VERSION`.",
    "WWW-Authenticate": "`Bearer`",
}
_PARAMETERS = {
    "model": ("Name of the model, as in `GET /v1/models`; in a query also `NAME@VERSION`.", "praise"),
    "version": ("Version of the model, as in `GET /v1/models`.", "3f0c9a1b22de"),
}


@dataclass(frozen=True, slots=True)
class Example:
    """An example of a body.

    Attributes:
        summary: What it shows, a few words.
        value: The body, of the type of the request or the response; of a body of lines, one line.
    """

    summary: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One path and method.

    Attributes:
        path: Path with parameters in braces.
        endpoint: The endpoint.
        id: Name of the operation in generated clients, in snake case.
        tag: The group of operations that it belongs to.
        summary: Short description without final period.
        description: More sentences.
        returns: What the answer has, as a sentence.
        response_types: Alternative types of the response body; empty for plain text.
        response_media: Media type of the response.
        response_examples: Examples of the response body.
        response_headers: Headers of the response, of `_HEADERS`.
        request_types: Alternative types of the request body; empty for GET.
        request_media: Media type of the request body.
        request_examples: Examples of the request body.
        query: Names of the query parameters.
        error_statuses: Error statuses in addition to the common ones.
        is_open: Whether it needs no API key.
    """

    path: str
    endpoint: Endpoint
    id: str
    tag: Tag
    summary: str
    returns: str
    description: str = ""
    response_types: tuple[Any, ...] = ()
    response_media: str = JSON
    response_examples: tuple[Example, ...] = ()
    response_headers: tuple[str, ...] = ()
    request_types: tuple[Any, ...] = ()
    request_media: str = JSON
    request_examples: tuple[Example, ...] = ()
    query: tuple[str, ...] = ()
    error_statuses: tuple[HTTPStatus, ...] = ()
    is_open: bool = False

    @property
    def method(self) -> str:
        """``POST`` for operations with a request body, else ``GET``."""
        return "POST" if self.request_types else "GET"

    def route(self) -> Route:
        """Return the Starlette route."""
        return Route(self.path, self.endpoint, methods=[self.method])


def build_openapi(operations: Sequence[Operation], limits: Limits) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        operations: All documented operations.
        limits: The server's limits, for the length of lists in requests.
    """
    types: list[Any] = [
        each for operation in operations for each in (*operation.request_types, *operation.response_types)
    ]
    types += [Problem, TeiError, InferenceError]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF_TEMPLATE)
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    components["ManyResponses"]["properties"]["responses"]["maxItems"] = limits.items
    for schema in components.values():
        _describe_properties(schema)
    meanings = _error_meanings(limits)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, schema_of, meanings)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgedistill-serve",
            "version": version("edgedistill-serve"),
            "summary": "Scores open responses with bundles, without an LLM.",
            "description": (
                "Send a response to `POST /v1/score`. If the server requires a key, send it as `Authorization: Bearer "
                "KEY` or as `X-API-Key: KEY`. Errors are problem details (RFC 9457), except under `/predict` and "
                "`/v2`. After a 429 or a 503, send the request again: scoring changes nothing on the server."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _describe(
    operation: Operation, schema_of: dict[str, Any], meanings: Mapping[HTTPStatus, "_Meaning"]
) -> dict[str, Any]:
    description: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        **({"description": operation.description} if operation.description else {}),
        "operationId": operation.id,
        "parameters": _parameters(operation),
        "responses": _responses(operation, schema_of, meanings),
        "security": [] if operation.is_open else [{"bearer": []}, {"header": []}, {}],
    }
    if operation.request_types:
        content = _content(operation.request_types, operation.request_media, operation.request_examples, schema_of)
        description["requestBody"] = {"required": True, "content": content}
    return description


def _content(
    types: Sequence[Any], media: str, examples: Sequence[Example], schema_of: dict[str, Any]
) -> dict[str, Any]:
    schemas = [schema_of[repr(each)] for each in types]
    schema = {"oneOf": schemas} if len(schemas) > 1 else schemas[0] if schemas else {"type": "string"}
    shown = {_key(each): {"summary": each.summary, "value": msgspec.to_builtins(each.value)} for each in examples}
    return {media: {"schema": schema, **({"examples": shown} if shown else {})}}


def _key(example: Example) -> str:
    return re.sub(r"\W+", "_", example.summary.lower()).strip("_")


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [
        *(_parameter(name, "path", required=True) for name in in_path),
        *(_parameter(name, "query", required=False) for name in operation.query),
    ]


def _parameter(name: str, place: str, *, required: bool) -> dict[str, Any]:
    description, example = _PARAMETERS[name]
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def _responses(
    operation: Operation, schema_of: dict[str, Any], meanings: Mapping[HTTPStatus, "_Meaning"]
) -> dict[str, Any]:
    content = _content(operation.response_types, operation.response_media, operation.response_examples, schema_of)
    responses: dict[str, Any] = {
        "200": {
            "description": operation.returns,
            "headers": _references(("X-Request-ID", *operation.response_headers)),
            "content": content,
        }
    }
    error, _ = error_format(operation.path)
    failed = HTTPStatus.FAILED_DEPENDENCY if error is TeiError else HTTPStatus.INTERNAL_SERVER_ERROR
    statuses = {
        HTTPStatus.MISDIRECTED_REQUEST,
        *operation.error_statuses,
        *(() if operation.is_open else _COMMON_STATUSES),
    }
    if operation.request_types:
        statuses |= {*_SCORING_STATUSES, failed, HTTPStatus.SERVICE_UNAVAILABLE}
    for status in sorted(statuses):
        responses[str(status.value)] = _error(meanings[status], operation.path, schema_of)
    return responses


@dataclass(frozen=True, slots=True)
class _Meaning:
    """When a status is answered, and errors that have it, by a few words about each."""

    description: str
    examples: Mapping[str, errors.EdgeDistillError]


def _error(meaning: _Meaning, path: str, schema_of: dict[str, Any]) -> dict[str, Any]:
    """Describe an error, with the answers that the server gives to the examples of it."""
    kind, media = error_format(path)
    scope = {"path": path, "request_id": _EXAMPLE_ID}
    answers = {summary: response_to_error(error, scope) for summary, error in meaning.examples.items()}
    sent = {name for answer in answers.values() for name in answer.headers}
    examples = [Example(summary, msgspec.json.decode(answer.body)) for summary, answer in answers.items()]
    return {
        "description": meaning.description,
        "headers": _references(["X-Request-ID", *(name for name in _HEADERS if name.lower() in sent)]),
        "content": _content((kind,), media, examples, schema_of),
    }


def _error_meanings(limits: Limits) -> dict[HTTPStatus, _Meaning]:
    later = "Try again later."
    named = "Name one of praise, answers."
    failed = _Meaning(
        "The model failed on the response. Other responses are not affected, and a retry does not help.",
        {"failed": errors.ScoringFailed("the model failed on this response (InvalidArgument)")},
    )
    return {
        HTTPStatus.BAD_REQUEST: _Meaning(
            "The body is not valid JSON in UTF-8, or an object in it has a key twice.",
            {"not JSON": errors.NotJson("the body is not valid JSON (Input data was truncated)", hint=BODY_HINT)},
        ),
        HTTPStatus.UNAUTHORIZED: _Meaning(
            "The server requires a key (`--keys`), and the request has none, or one that is not accepted.",
            {"no key": errors.KeyMissing("this server requires an API key", hint=KEY_HINT)},
        ),
        HTTPStatus.NOT_FOUND: _Meaning(
            "The model is not served.",
            {"no such model": errors.UnknownModel("no model of this name is served", where="model", hint=named)},
        ),
        HTTPStatus.REQUEST_TIMEOUT: _Meaning(
            "The body did not arrive in time (`--body-seconds`).",
            {
                "too slow": errors.TooSlow(
                    f"the body did not arrive in {limits.body_seconds:g} s", hint="Send it faster."
                )
            },
        ),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _Meaning(
            "A text, the list or the body is too long.",
            {
                "too many responses": errors.RequestTooLarge(
                    f"the list has {2 * limits.items} responses, the limit is {limits.items}",
                    where="responses",
                    hint="Send several smaller requests.",
                )
            },
        ),
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: _Meaning(
            "The body is compressed.",
            {
                "compressed": errors.EncodingNotSupported(
                    "the body has a Content-Encoding", hint="Send it without compression and without this header."
                )
            },
        ),
        HTTPStatus.MISDIRECTED_REQUEST: _Meaning(
            "The Host header does not name this server (`--allow-host`).",
            {
                "another host": errors.HostNotAllowed(
                    "the Host header does not name this server",
                    hint="Send the request to one of its names; --allow-host adds a name.",
                )
            },
        ),
        HTTPStatus.UNPROCESSABLE_ENTITY: _Meaning(
            "The body does not match the schema, an input of the task is missing, or the request does not name one of "
            "several models.",
            {
                "no model": errors.WrongShape(
                    "several models are served and the request names none", where="model", hint=named
                )
            },
        ),
        HTTPStatus.TOO_MANY_REQUESTS: _Meaning(
            f"The queue or the memory for bodies is full, or the key has too many requests. {_RETRIED}",
            {
                "queue full": errors.QueueFull(
                    f"{limits.queue} responses are waiting, the limit is {limits.queue}", hint=later
                ),
                "too many": errors.TooMany(
                    f"more than {limits.key_rate} requests per second with this key", hint=later
                ),
            },
        ),
        HTTPStatus.FAILED_DEPENDENCY: failed,
        HTTPStatus.INTERNAL_SERVER_ERROR: failed,
        HTTPStatus.SERVICE_UNAVAILABLE: _Meaning(
            f"The server is starting or draining, or the time limit of the request has passed. {_RETRIED}",
            {
                "draining": errors.NotReady("the server is draining", hint=later),
                "too late": errors.DeadlinePassed("the time limit of the request has passed", hint=later),
            },
        ),
    }


def _references(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


_SECTION = re.compile(r"\n\s*Attributes:\n(.*)", re.DOTALL)
_ATTRIBUTE = re.compile(r"^( +)(\w+): (.*(?:\n\1 +.*)*)", re.MULTILINE)


def _describe_properties(schema: dict[str, Any]) -> None:
    """Move the section `Attributes` of a type's docstring to its properties."""
    text = schema.get("description", "")
    if (section := _SECTION.search(text)) is not None:
        text = text[: section.start()]
        for _, name, described in _ATTRIBUTE.findall(section[1]):
            schema["properties"].get(name, {}).setdefault("description", _as_markdown(described))
    if text:
        schema["description"] = _as_markdown(text)


def _as_markdown(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")
