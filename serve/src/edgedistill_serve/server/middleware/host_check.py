"""The check of the Host header against the names of this server.

Without it, a web page could read the answers of a server on the visitor's own machine (DNS rebinding): its host name
first resolves to the page's server and then to 127.0.0.1, so that the browser sees one origin. The name stays in the
Host header.
"""

from collections.abc import Awaitable, Callable, Collection

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from edgedistill_serve.errors import HostNotAllowed
from edgedistill_serve.server.request.body_reader import find_header
from edgedistill_serve.server.request.error_responses import response_to_error

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""Accepted by default on a server that only this machine can reach over TCP."""
ANY_HOST = "*"
_MAX_KNOWN = 64


class HostCheck:
    """ASGI middleware that refuses requests to other hosts; the port is not compared.

    Args:
        app: The application.
        hosts: Names and addresses without port, IPv6 addresses in brackets. `ANY_HOST` accepts every host.
        find_route: Returns the route of a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        find_route: Callable[[Scope], BaseRoute | None] = lambda _: None,
    ) -> None:
        self._app = app
        self._find_route = find_route
        self._hosts = frozenset(host.lower() for host in hosts)
        self._known: set[bytes] = set()
        """Header values that were accepted."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Check one request."""
        if scope["type"] != "http" or self._is_allowed(scope):
            return self._app(scope, receive, send)
        error = HostNotAllowed(
            "the Host header does not name this server",
            hint="Send the request to one of its names; --allow-host adds a name.",
        )
        scope["route"] = self._find_route(scope)
        return response_to_error(error, scope)(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        sent = find_header(scope, b"host")
        if sent in self._known or sent is None:  # only HTTP/1.0 has no Host, and no browser speaks it
            return True
        is_allowed = ANY_HOST in self._hosts or host_without_port(sent.decode("latin-1")) in self._hosts
        if is_allowed and len(self._known) < _MAX_KNOWN:
            self._known.add(sent)
        return is_allowed


def host_without_port(host: str) -> str:
    """Return the host of a Host header in lower case, without port and final dot."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or not (port.isdigit() or port == "") or name.count("[") != name.count("]"):
        name = host.lower()
    return name.removesuffix(".")
