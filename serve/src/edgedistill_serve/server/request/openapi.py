"""The OpenAPI document, generated from the route table and from the types of requests and responses."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.request.error_responses import InferenceError, Problem, TeiError, error_format

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
JSON = "application/json"
_REF_TEMPLATE = "#/components/schemas/{name}"
_COMMON_STATUSES = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
_SCORING_STATUSES = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One path and method.

    Attributes:
        path: Path with parameters in braces.
        endpoint: The endpoint.
        summary: Short description without final period.
        response_types: Alternative types of the response body; empty for plain text.
        response_media: Media type of the response.
        request_types: Alternative types of the request body; empty for GET.
        request_media: Media type of the request body.
        query: Names of the query parameters.
        error_statuses: Error statuses in addition to the common ones.
        is_open: Whether it needs no API key.
    """

    path: str
    endpoint: Endpoint
    summary: str
    response_types: tuple[Any, ...] = ()
    response_media: str = JSON
    request_types: tuple[Any, ...] = ()
    request_media: str = JSON
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
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgedistill-serve",
            "version": version("edgedistill-serve"),
            "description": "Scores open responses with bundles, without an LLM.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _describe(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    description: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": _parameters(operation),
        "responses": _responses(operation, schema_of),
        "security": [] if operation.is_open else [{"bearer": []}, {"header": []}, {}],
    }
    if operation.request_types:
        content = {operation.request_media: {"schema": _any_of(operation.request_types, schema_of)}}
        description["requestBody"] = {"required": True, "content": content}
    return description


def _any_of(types: Sequence[Any], schema_of: dict[str, Any]) -> Any:
    schemas = [schema_of[repr(each)] for each in types]
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def _operation_id(operation: Operation) -> str:
    parts = operation.path.replace("{", "").replace("}", "").replace(".", "_").strip("/").split("/")
    return "_".join([operation.method.lower(), *parts])


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [
        *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path),
        *({"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in operation.query),
    ]


def _responses(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    body = _any_of(operation.response_types, schema_of) if operation.response_types else {"type": "string"}
    responses: dict[str, Any] = {
        "200": {"description": "Success.", "content": {operation.response_media: {"schema": body}}},
    }
    error, media = error_format(operation.path)
    failed = HTTPStatus.FAILED_DEPENDENCY if error is TeiError else HTTPStatus.INTERNAL_SERVER_ERROR
    statuses = {
        HTTPStatus.MISDIRECTED_REQUEST,
        *operation.error_statuses,
        *(() if operation.is_open else _COMMON_STATUSES),
    }
    if operation.request_types:
        statuses |= {*_SCORING_STATUSES, failed, HTTPStatus.SERVICE_UNAVAILABLE}
    for status in sorted(statuses):
        content = {media: {"schema": schema_of[repr(error)]}}
        responses[str(status.value)] = {"description": f"{status.phrase}.", "content": content}
    return responses
