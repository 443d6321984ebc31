"""Error responses: the HTTP status of every error, and the format of every protocol."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from edgedistill_serve import errors

STATUS: dict[type[errors.EdgeDistillError], HTTPStatus] = {
    errors.NotJson: HTTPStatus.BAD_REQUEST,
    errors.KeyMissing: HTTPStatus.UNAUTHORIZED,
    errors.HostNotAllowed: HTTPStatus.MISDIRECTED_REQUEST,
    errors.EncodingNotSupported: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
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
_RETRY_STATUSES = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_TEI_PATHS = ("/predict", "/info", "/health")
_TEI_TYPES = {
    HTTPStatus.UNPROCESSABLE_ENTITY: "Tokenizer",
    HTTPStatus.TOO_MANY_REQUESTS: "Overloaded",
    HTTPStatus.SERVICE_UNAVAILABLE: "Unhealthy",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Backend",
    HTTPStatus.FAILED_DEPENDENCY: "Backend",
}


class Problem(msgspec.Struct, frozen=True):
    """The body of an error (RFC 9457).

    Attributes:
        title: Phrase of the status.
        status: HTTP status.
        detail: Problem, place and hint; never text of a response.
        request_id: As in the header ``X-Request-ID``.
        type: ``about:blank``: the status describes the problem.
    """

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"


class TeiError(msgspec.Struct, frozen=True):
    """The body of an error in the format of text-embeddings-inference.

    Attributes:
        error: Problem, place and hint.
        error_type: As there, by the status: ``Validation`` (413: a text or a batch that is too long; also statuses that
            it does not have), ``Tokenizer`` (422: not the texts that the task needs), ``Backend`` (424), ``Overloaded``
            (429) or ``Unhealthy`` (503).
    """

    error: str
    error_type: str


class InferenceError(msgspec.Struct, frozen=True):
    """The body of an error in the Open Inference Protocol: problem, place and hint."""

    error: str


def error_status(error: errors.EdgeDistillError) -> HTTPStatus:
    """Return the HTTP status of an error."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def error_response(
    status: HTTPStatus, detail: str, scope: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error response in the format of the requested path.

    Args:
        status: HTTP status.
        detail: Problem, place and hint.
        scope: The ASGI scope of the request, with its ``request_id``.
        headers: Additional headers.
    """
    all_headers = dict(headers or {})
    if status in _RETRY_STATUSES:
        all_headers.setdefault("Retry-After", "1")
    if status == HTTPStatus.UNAUTHORIZED:
        all_headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        all_headers["Accept-Encoding"] = "identity"
    if status == HTTPStatus.REQUEST_TIMEOUT:
        all_headers["Connection"] = "close"
    error_type, media_type = error_format(scope["path"])
    body: msgspec.Struct
    if error_type is TeiError:
        status = HTTPStatus.FAILED_DEPENDENCY if status == HTTPStatus.INTERNAL_SERVER_ERROR else status
        body = TeiError(detail, _TEI_TYPES.get(status, "Validation"))
    elif error_type is InferenceError:
        body = InferenceError(detail)
    else:
        body = Problem(status.phrase, status.value, detail, scope["request_id"])
    return Response(msgspec.json.encode(body), status, all_headers, media_type=media_type)


def not_found(scope: Mapping[str, Any]) -> Response:
    """Return the response to a path that does not exist."""
    return error_response(HTTPStatus.NOT_FOUND, f"{HTTPStatus.NOT_FOUND.description}.", scope)


def error_format(path: str) -> tuple[type[msgspec.Struct], str]:
    """Return the type of the error bodies under a path, and their media type."""
    if path in _TEI_PATHS:
        return TeiError, "application/json"
    if path == "/v2" or path.startswith("/v2/"):
        return InferenceError, "application/json"
    return Problem, "application/problem+json"


def response_to_error(error: errors.EdgeDistillError, scope: Mapping[str, Any]) -> Response:
    """Return the response for an `EdgeDistillError`."""
    return error_response(error_status(error), str(error), scope)
