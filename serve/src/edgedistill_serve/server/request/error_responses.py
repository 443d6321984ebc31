"""Errors as HTTP statuses, in one place, in the words of the protocol that was asked."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from edgedistill_serve import errors

STATUS: dict[type[errors.EdgeDistillError], HTTPStatus] = {
    errors.NotJson: HTTPStatus.BAD_REQUEST,
    errors.KeyMissing: HTTPStatus.UNAUTHORIZED,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    errors.TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    errors.RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.WrongShape: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlinePassed: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ScoringFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_AGAIN_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_TEI_PATHS = ("/predict", "/info", "/health")
_TEI_TYPES = {
    HTTPStatus.TOO_MANY_REQUESTS: "Overloaded",
    HTTPStatus.SERVICE_UNAVAILABLE: "Unhealthy",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Backend",
    HTTPStatus.FAILED_DEPENDENCY: "Backend",
}


class Problem(msgspec.Struct, frozen=True):
    """The body of an error (RFC 9457).

    Attributes:
        title: The status in words.
        status: The status.
        detail: What, where and the fix; never a word of a response.
        request_id: As in the ``X-Request-ID`` header.
        type: ``about:blank``: the status says it all.
    """

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"


class TeiError(msgspec.Struct, frozen=True):
    """The body of an error as text-embeddings-inference writes it.

    Attributes:
        error: What, where and the fix.
        error_type: ``Validation``, ``Overloaded``, ``Unhealthy`` or ``Backend``.
    """

    error: str
    error_type: str


class InferenceError(msgspec.Struct, frozen=True):
    """The body of an error of the Open Inference Protocol: what, where and the fix."""

    error: str


def error_status(error: errors.EdgeDistillError) -> HTTPStatus:
    """Return the status of an error."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def error_response(
    status: HTTPStatus, detail: str, scope: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """Return the response of an error, in the form of the path that was asked.

    Args:
        status: Of the response.
        detail: What, where and the fix.
        scope: Of the request, with its ``request_id``.
        headers: Further ones.
    """
    added = dict(headers or {})
    if status in _AGAIN_LATER:
        added.setdefault("Retry-After", "1")
    if status == HTTPStatus.UNAUTHORIZED:
        added["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.REQUEST_TIMEOUT:
        added["Connection"] = "close"
    form, media_type = error_format(scope["path"])
    body: msgspec.Struct
    if form is TeiError:
        status = HTTPStatus.FAILED_DEPENDENCY if status == HTTPStatus.INTERNAL_SERVER_ERROR else status
        body = TeiError(detail, _TEI_TYPES.get(status, "Validation"))
    elif form is InferenceError:
        body = InferenceError(detail)
    else:
        body = Problem(status.phrase, status.value, detail, scope["request_id"])
    return Response(msgspec.json.encode(body), status, added, media_type=media_type)


def error_format(path: str) -> tuple[type[msgspec.Struct], str]:
    """Return the type of the errors under a path, and its media type."""
    if path in _TEI_PATHS:
        return TeiError, "application/json"
    if path == "/v2" or path.startswith("/v2/"):
        return InferenceError, "application/json"
    return Problem, "application/problem+json"


def response_to_error(error: errors.EdgeDistillError, scope: Mapping[str, Any]) -> Response:
    """Return the response of an error of ours."""
    return error_response(error_status(error), str(error), scope)
