"""Web pages of other origins (CORS): those that `--allow-origin` lists are let in, others get an answer that says so.

A browser that refuses to show an answer to its page says only that a header is missing. The answer to the browser's
question (the preflight) and the log therefore name the option. No scoring request passes a check of its own here: a
preflight is an OPTIONS request, and a page that reads answers without one sends GET.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from edgedistill_serve.server.middleware.request_log import REQUEST_ID
from edgedistill_serve.server.request.body_reader import find_header
from edgedistill_serve.server.request.error_responses import error_response

ANY_ORIGIN = "*"
_SHOWN = 200
"""Largest number of characters of an origin in an answer."""
_LOG_SECONDS = 60.0
_log = logging.getLogger("edgedistill_serve.server")


class OriginRefusals:
    """Answers preflights of refused origins, and logs them, at most once a minute.

    The log does not name the origin: it is text of the client. The answer does, and so does the browser's console.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at = float("-inf")

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a preflight, as an ASGI application."""
        self.log()
        origin = (find_header(scope, b"origin") or b"").decode("latin-1")[:_SHOWN]
        detail = (
            f"web pages of the origin {origin} may not read the answers of this server. "
            f"To allow it, start the server with --allow-origin {origin}."
        )
        await error_response(HTTPStatus.FORBIDDEN, detail, scope, {"Vary": "Origin"})(scope, receive, send)

    def log(self) -> None:
        """Write a line about a page that was refused, unless one was written within the last minute."""
        now = self._clock()
        if now - self._logged_at < _LOG_SECONDS:
            return
        self._logged_at = now
        _log.warning(
            "a web page of another origin may not read the answers of this server; to allow it, start the server with "
            "--allow-origin and the origin that the browser's console names",
            extra={"event": "origin_refused", "fields": {}},
        )


class OriginCheck:
    """ASGI middleware of a server that allows no other origins: it refuses preflights, and logs pages that read.

    Args:
        app: The application.
        refusals: Answers and logs.
        find_route: Returns the route of a request; a path without one is a 404, as without an origin.
    """

    def __init__(self, app: ASGIApp, refusals: OriginRefusals, find_route: Callable[[Scope], BaseRoute | None]) -> None:
        self._app = app
        self._refusals = refusals
        self._find_route = find_route

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a preflight, and pass on everything else."""
        if is_preflight(scope) and (route := self._find_route(scope)) is not None:
            scope["route"] = route
            return self._refusals.answer(scope, receive, send)
        # A browser sends no Origin with a GET of the server's own pages.
        if scope["type"] == "http" and scope["method"] == "GET" and find_header(scope, b"origin") is not None:
            self._refusals.log()
        return self._app(scope, receive, send)


class AllowedOrigins(CORSMiddleware):
    """Starlette's CORS middleware, with the refusals of `OriginCheck` for origins that are not listed.

    Args:
        app: The application.
        origins: The listed origins, or `ANY_ORIGIN`.
        refusals: Answers and logs.
        find_route: Returns the route of a request, which the log names although a preflight does not reach it.
    """

    def __init__(
        self,
        app: ASGIApp,
        origins: Collection[str],
        refusals: OriginRefusals,
        find_route: Callable[[Scope], BaseRoute | None],
    ) -> None:
        super().__init__(
            app,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", REQUEST_ID],
            expose_headers=[REQUEST_ID, "Retry-After", "Server-Timing", "X-Model"],
        )
        self._refusals = refusals
        self._find_route = find_route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, and pass on everything else."""
        if is_preflight(scope) and (route := self._find_route(scope)) is not None:
            scope["route"] = route
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> ASGIApp:  # type: ignore[override]  # it is only called
        """Return the answer to a preflight."""
        if self.is_allowed_origin(request_headers["origin"]):
            return super().preflight_response(request_headers)
        return self._refusals.answer

    async def simple_response(self, scope: Scope, receive: Receive, send: Send, request_headers: Headers) -> None:
        """Pass on a request; the browser shows its answer only to a page of a listed origin."""
        origin = request_headers.get("origin") if scope["method"] == "GET" else None
        if origin is not None and not self.is_allowed_origin(origin):
            self._refusals.log()
        await super().simple_response(scope, receive, send, request_headers)


def is_preflight(scope: Scope) -> bool:
    """Return whether a request is the question of a browser whether a page of another origin may send one."""
    return (
        scope["type"] == "http"
        and scope["method"] == "OPTIONS"
        and find_header(scope, b"origin") is not None
        and find_header(scope, b"access-control-request-method") is not None
    )
