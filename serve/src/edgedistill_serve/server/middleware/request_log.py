"""What every request gets: an id, one log line without its text, and an answer even from a bug."""

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
CLIENT_LEFT = 499
"""The status that is logged and counted for a client that left, as nginx does."""
_GIVEN_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_NO_PATH = "(no such path)"
_STARTED = token_hex(8)
"""Tells this process's ids from those of others: they need not be secret, and a number costs no system call."""
_numbers = count()
_log = logging.getLogger("edgedistill_serve.server")


class RequestLog:
    """ASGI middleware that gives every request an id and a log line.

    Args:
        app: What answers.
        draining: Whether clients are told to close their connections.
        count: Told of every request: its path as the route writes it, its status, and the seconds that it took.
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

        async def recording_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if self._draining():
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, recording_send)
        except (ClientDisconnect, asyncio.CancelledError):
            status = CLIENT_LEFT
        except Exception as error:  # noqa: BLE001  # a bug must not end the connection, nor log the text in its message
            _log.error("%s: %s at %s", request_id, type(error).__name__, _frames(error))
            if not status:
                response = error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a bug in the server", scope)
                await response(scope, receive, recording_send)
        # Only a route's own path is named: another one is the client's text.
        path = getattr(scope.get("route"), "path", _NO_PATH)
        taken = time.perf_counter() - started
        self._count(path, status, taken)
        _log.info("%s %s %d %.1f ms %s", _method(scope), path, status, 1000 * taken, request_id)


def _request_id(scope: Scope) -> str:
    name = REQUEST_ID.lower().encode()
    given = next((value for key, value in scope["headers"] if key == name), b"")
    return given.decode("ascii") if _GIVEN_ID.fullmatch(given) else f"{_STARTED}{next(_numbers):016x}"


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "(other)"


def _frames(error: Exception) -> str:
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{frame.name} {frame.filename}:{frame.lineno}" for frame in frames)
