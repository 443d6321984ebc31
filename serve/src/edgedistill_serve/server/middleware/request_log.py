"""The request log: every request gets an id, a log line without its text, and an answer even after a bug."""

import asyncio
import logging
import re
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from secrets import token_hex

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgedistill_serve.server.request.error_responses import error_response

REQUEST_ID = "X-Request-ID"
CLIENT_CLOSED = 499
"""Status in log and metrics of a request whose client has closed the connection, as in nginx."""
_VALID_ID = re.compile(rb"[\x21-\x7e]{1,128}")
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
            _log.error("%s: %s at %s", request_id, type(error).__name__, _frames(error))
            if not status:
                response = error_response(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; this is a bug in the server", scope
                )
                await response(scope, receive, send_with_id)
        # Unknown paths are not logged, because they are text of the client.
        path = getattr(scope.get("route"), "path", _NO_PATH)
        seconds = time.perf_counter() - started
        self._count(path, status, seconds)
        _log.info("%s %s %d %.1f ms %s", _method(scope), path, status, 1000 * seconds, request_id)


def _request_id(scope: Scope) -> str:
    name = REQUEST_ID.lower().encode()
    sent = next((value for key, value in scope["headers"] if key == name), b"")
    return sent.decode("ascii") if _VALID_ID.fullmatch(sent) else f"{_PROCESS_ID}{next(_numbers):016x}"


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "(other)"


def _frames(error: Exception) -> str:
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{frame.name} {frame.filename}:{frame.lineno}" for frame in frames)
