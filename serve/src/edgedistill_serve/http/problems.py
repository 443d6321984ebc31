"""Errors as HTTP statuses, in one place, and as RFC 9457 problem details."""

from http import HTTPStatus

import msgspec
from starlette.responses import Response

from edgedistill_serve import errors

STATUS: dict[type[errors.EdgeDistillError], HTTPStatus] = {
    errors.NotJson: HTTPStatus.BAD_REQUEST,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    errors.RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.WrongShape: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ScoringFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_AGAIN_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Problem(msgspec.Struct, frozen=True):
    """The body of an error (RFC 9457).

    Attributes:
        title: The status in words.
        status: The status.
        detail: What, where and the mend; never a word of a response.
        request_id: As in the ``X-Request-ID`` header.
        type: ``about:blank``: the status says it all.
    """

    title: str
    status: int
    detail: str
    request_id: str
    type: str = "about:blank"


def status_of(error: errors.EdgeDistillError) -> HTTPStatus:
    """Return the status of an error."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(status: HTTPStatus, detail: str, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """Return the response of an error."""
    body = Problem(title=status.phrase, status=status.value, detail=detail, request_id=request_id)
    later = {"Retry-After": "1"} if status in _AGAIN_LATER else {}
    return Response(
        msgspec.json.encode(body), status, {**(headers or {}), **later}, media_type="application/problem+json"
    )
