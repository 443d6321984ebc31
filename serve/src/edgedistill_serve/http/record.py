"""What every request gets: an id, one log line without its text, and an answer even from a bug."""

import logging
import re
import time
import traceback
from collections.abc import Callable, Collection
from http import HTTPStatus
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgedistill_serve.http.problems import problem

REQUEST_ID = "X-Request-ID"
_GIVEN_ID = re.compile(r"[\x21-\x7e]{1,128}")
_log = logging.getLogger("edgedistill_serve.http")


class RequestRecord:
    """ASGI middleware that gives every request an id and a log line.

    Args:
        app: What answers.
        paths: The paths that may be named in the log; another one is the client's text.
        draining: Whether clients are told to close their connections.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str], draining: Callable[[], bool]) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        request_id = scope["request_id"] = _request_id(Headers(scope=scope))

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
        except ClientDisconnect:
            status = 499  # as nginx logs a client that left
        except Exception as error:  # noqa: BLE001  # a bug must not end the connection, nor log the text in its message
            _log.error("%s: %s at %s", request_id, type(error).__name__, _frames(error))
            if not status:
                await problem(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a bug in the server", request_id)(
                    scope, receive, recording_send
                )
        path = scope["path"] if scope["path"] in self._paths else "(no such path)"
        taken = 1000 * (time.perf_counter() - started)
        _log.info("%s %s %d %.1f ms %s", scope["method"], path, status, taken, request_id)


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID, "")
    return given if _GIVEN_ID.fullmatch(given) else uuid4().hex


def _frames(error: Exception) -> str:
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{frame.name} {frame.filename}:{frame.lineno}" for frame in frames)
