"""The request log: every request gets an id, a log line without its text, and an answer even after a bug."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from secrets import token_hex

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgedistill_serve.server.log_lines import LOG_FIELDS, RequestLine, describe_frames
from edgedistill_serve.server.request.body_reader import find_header
from edgedistill_serve.server.request.error_responses import error_response

REQUEST_ID = "X-Request-ID"
CLIENT_CLOSED = 499
"""Status in log and metrics of a request whose client has closed the connection, as in nginx."""
PROBES = frozenset(
    {
        "/livez",
        "/healthz",
        "/readyz",
        "/health",
        "/metrics",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/versions/{version}/ready",
    }
)
"""Routes that monitoring asks every few seconds. Their lines have the level debug."""
_PROBE_STATUSES = (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE)
_VALID_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_MACHINE_ID = re.compile(
    r"[0-9A-Fa-f]{16,64}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9A-HJKMNP-TV-Z]{26}"
)
"""Ids of proxies and libraries: hexadecimal digits (as those of this server), a UUID
or a ULID. Other ids may have been typed by a person."""
_NO_PATH = "(no such path)"
_PROCESS_ID = token_hex(8)
"""Prefix of this process's request ids. They need not be secret, and a counter needs no system call."""
_numbers = count()
_log = logging.getLogger("edgedistill_serve.server")


class RequestLog:
    """ASGI middleware that gives every request an id and a log line.

    Args:
        app: The application.
        draining: Returns whether clients should close their connections.
        count: Called after every request with the path of its route, its status and its duration in seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        draining: Callable[[], bool],
        count: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        self._app = app
        self._draining = draining
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        request_id = scope["request_id"] = _request_id(scope)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if self._draining():
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except (ClientDisconnect, asyncio.CancelledError):
            status = CLIENT_CLOSED
        except Exception as error:  # noqa: BLE001  # a bug must not close the connection
            # Without the message, which may contain texts.
            kind, frames = type(error).__name__, describe_frames(error)
            _log.error("%s at %s", kind, frames, extra={"event": "bug", "fields": {"error": kind, "frames": frames}})
            if not status:
                response = error_response(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; this is a bug in the server", scope
                )
                await response(scope, receive, send_with_id)
        # Unknown paths are not logged, because they are text of the client.
        path = getattr(scope.get("route"), "path", _NO_PATH)
        seconds = time.perf_counter() - started
        self._count(path, status, seconds)
        _log_request(scope, path, status, seconds)


def _log_request(scope: Scope, route: str, status: int, seconds: float) -> None:
    level = logging.DEBUG if route in PROBES and status in _PROBE_STATUSES else logging.INFO
    if not _log.isEnabledFor(level):
        return
    line = RequestLine(method=logged_method(scope), route=route, status=status, duration=round(seconds, 6))
    line |= scope.get(LOG_FIELDS, {})
    if (request_id := logged_id(scope["request_id"])) is not None:
        line["request_id"] = request_id
    _log.log(level, line, extra={"event": "request", "fields": line})


def logged_id(request_id: str) -> str | None:
    """Return the id of a request if a machine made it; None for one that a person may have typed."""
    return request_id if _MACHINE_ID.fullmatch(request_id) else None


def _request_id(scope: Scope) -> str:
    sent = find_header(scope, b"x-request-id") or b""
    return sent.decode("ascii") if _VALID_ID.fullmatch(sent) else f"{_PROCESS_ID}{next(_numbers):016x}"


def logged_method(scope: Scope) -> str:
    """Return the method of a request, without text of the client."""
    method: str = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "(other)"
