"""The OpenAPI document, made of the same table as the routes and of the types that are read and written."""

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
_REFERENCE = "#/components/schemas/{name}"
_OFTEN = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
_SCORING = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One path and method: what does it, and what it takes and gives.

    Attributes:
        path: With its parameters in braces.
        endpoint: What does it.
        summary: One plain sentence part.
        response_types: The types of the answer, any one of them; none for a text.
        response_media: Its media type.
        request_types: The types of the body, any one of them; none for GET.
        request_media: Its media type.
        query: Names of the parameters in the address.
        error_statuses: Statuses beside those that every scoring path has.
        is_open: Whether it needs no key.
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
        """``POST`` where it takes a body."""
        return "POST" if self.request_types else "GET"

    def route(self) -> Route:
        """Return the route."""
        return Route(self.path, self.endpoint, methods=[self.method])


def openapi(operations: Sequence[Operation], limits: Limits) -> dict[str, Any]:
    """Return the document.

    Args:
        operations: Every path that belongs into it.
        limits: What is taken; lists in requests are as long at most.
    """
    kinds: list[Any] = [
        kind for operation in operations for kind in (*operation.request_types, *operation.response_types)
    ]
    kinds += [Problem, TeiError, InferenceError]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schema_of = dict(zip(map(repr, kinds), schemas, strict=True))
    components["ManyResponses"]["properties"]["responses"]["maxItems"] = limits.items
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgedistill-serve",
            "version": version("edgedistill-serve"),
            "description": "Scores open responses with bundles: no LLM, no network.",
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


def _described(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": _parameters(operation),
        "responses": _responses(operation, schema_of),
        "security": [] if operation.is_open else [{"bearer": []}, {"header": []}, {}],
    }
    if operation.request_types:
        content = {operation.request_media: {"schema": _any_of(operation.request_types, schema_of)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _any_of(kinds: Sequence[Any], schema_of: dict[str, Any]) -> Any:
    schemas = [schema_of[repr(kind)] for kind in kinds]
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
    given = _any_of(operation.response_types, schema_of) if operation.response_types else {"type": "string"}
    responses: dict[str, Any] = {
        "200": {"description": "Done.", "content": {operation.response_media: {"schema": given}}},
    }
    error, media = error_format(operation.path)
    failed = HTTPStatus.FAILED_DEPENDENCY if error is TeiError else HTTPStatus.INTERNAL_SERVER_ERROR
    statuses = {*operation.error_statuses, *(() if operation.is_open else _OFTEN)}
    if operation.request_types:
        statuses |= {*_SCORING, failed, HTTPStatus.SERVICE_UNAVAILABLE}
    for status in sorted(statuses):
        content = {media: {"schema": schema_of[repr(error)]}}
        responses[str(status.value)] = {"description": f"{status.phrase}.", "content": content}
    return responses
