"""The coding page over HTTP, on the loopback address.

The files of the page are public; everything else needs the token of the link that the command prints. The page sends it
in the header Authorization, which another site cannot do (no CSRF), and the Host header is checked (no DNS rebinding).
The token is in the fragment of the link, which no browser sends. A cookie would go to every port of this machine.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from secrets import compare_digest, token_urlsafe
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgedistill.coding.journal import NotSaved
from edgedistill.coding.session import CodingSession, Conflict
from edgedistill.errors import DataError, EdgeDistillError
from edgedistill_serve.errors import KeyMissing, NotJson, WrongShape
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.middleware.host_check import LOCAL_HOSTS, HostCheck
from edgedistill_serve.server.middleware.request_log import RequestLog
from edgedistill_serve.server.process import stop_signals
from edgedistill_serve.server.protocols.page_routes import static_route
from edgedistill_serve.server.request.body_reader import BodyMemory, find_header, read_body
from edgedistill_serve.server.request.error_responses import error_response, error_status
from edgedistill_serve.server.transport.http11 import Connection, Connections
from edgedistill_serve.server.transport.sockets_and_tls import Address, format_url, open_listener

_LIMITS = Limits(body_bytes=64 * 1024, body_memory=4 * 1024 * 1024, connections=256)
_CLOSE_SECONDS = 5.0
"""Time for requests that are being answered when the server ends."""
_FILES = {"index.html": "text/html", "coding.css": "text/css", "coding.js": "text/javascript"}
_SHARED_FILES = {"page.css": "text/css", "icon.svg": "image/svg+xml"}
"""Files of the scoring server's page, which looks alike."""
_STATUS = {
    Conflict: HTTPStatus.CONFLICT,
    NotSaved: HTTPStatus.INSUFFICIENT_STORAGE,
    DataError: HTTPStatus.UNPROCESSABLE_ENTITY,
}


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the page sends; each action reads some of the fields.

    Attributes:
        coder: Name of the coder or adjudicator.
        id: The row.
        seen: The revision of the row that the page shows.
        code: A code, draft or final label; empty for none.
        label: The label of a memo; empty for the whole codebook.
        text: A note or memo.
        on: Whether a row is flagged.
    """

    coder: str = ""
    id: str = ""
    seen: int = 0
    code: str = ""
    label: str = ""
    text: str = ""
    on: bool = False

    def __repr__(self) -> str:
        """Without the text, which can quote a response."""
        return f"Action(coder={self.coder!r}, id={self.id!r}, code={self.code!r}, label={self.label!r})"


def _actions(session: CodingSession) -> Mapping[str, Callable[[Action], Any]]:
    def enter(action: Action) -> Any:
        session.join(action.coder)
        return work(action)

    def work(action: Action) -> Any:
        return {"rows": session.rows(action.coder), "overview": session.overview()}

    def row(found: dict[str, Any] | None) -> Any:
        return {"row": found, "memos": len(session.codings.memos)}

    def memo(action: Action) -> Any:
        session.memo(action.coder, action.label, action.text)
        return session.overview()

    def leave(action: Action) -> Any:
        session.leave(action.coder)
        return session.overview()

    def adjudicate(action: Action) -> Any:
        return {"rows": session.reveal(action.coder), "overview": session.overview()}

    return {
        "overview": lambda _: session.overview(),
        "enter": enter,
        "leave": leave,
        "work": work,
        "code": lambda it: row(session.code(it.coder, it.id, it.code, it.seen)),
        "draft": lambda it: row(session.draft(it.coder, it.id, it.code, it.seen)),
        "note": lambda it: row(session.note(it.coder, it.id, it.text, it.seen)),
        "flag": lambda it: row(session.flag(it.coder, it.id, it.on, it.seen)),
        "skip": lambda it: row(session.skip(it.coder, it.id, it.seen)),
        "undo": lambda it: row(session.undo(it.coder)),
        "memo": memo,
        "agreement": lambda _: session.agreement(),
        "adjudicate": adjudicate,
        "final": lambda it: {"row": session.finalize(it.coder, it.id, it.code, it.text, it.seen)},
        "write": lambda _: {"by_hand": session.write(), "overview": session.overview()},
    }


def create_app(session: CodingSession, token: str) -> Starlette:
    """Return the ASGI application of the page.

    Args:
        session: The open session. Its methods are called on the event loop, one at a time: the next request waits until
            the last event is on the disk.
        token: The secret of the link.
    """
    actions, memory = _actions(session), BodyMemory(_LIMITS.body_memory)

    async def act(request: Request) -> Response:
        sent = find_header(request.scope, b"authorization") or b""
        if not compare_digest(sent, f"Bearer {token}".encode()):
            raise KeyMissing(
                "the link is not that of the running program",
                hint="Open the link that `edgedistill code` printed when it was started last.",
            )
        action = actions.get(request.path_params["action"])
        if action is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        body = await read_body(request, memory=memory, limit=_LIMITS.body_bytes, seconds=_LIMITS.body_seconds)
        return _json(action(_decode(body)))

    folder, shared = files("edgedistill.coding") / "page", files("edgedistill_serve") / "page"
    contents = {name: (folder / name, media) for name, media in _FILES.items()}
    contents |= {name: (shared / name, media) for name, media in _SHARED_FILES.items()}
    app = Starlette(
        routes=[
            Route("/api/{action}", act, methods=["POST"]),
            *(
                static_route("/" if name == "index.html" else f"/page/{name}", file.read_bytes(), media)
                for name, (file, media) in contents.items()
            ),
        ],
        middleware=[Middleware(RequestLog, draining=lambda: False), Middleware(HostCheck, hosts=LOCAL_HOSTS)],
        exception_handlers={EdgeDistillError: _on_error, HTTPException: _on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


def _decode(body: bytes) -> Action:
    try:
        return msgspec.json.decode(body, type=Action)
    except msgspec.ValidationError as error:
        raise WrongShape(f"the request has the wrong shape: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotJson("the request is not valid JSON") from None


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


async def _on_error(request: Request, error: Exception) -> Response:  # noqa: ARG001  # Starlette's interface
    assert isinstance(error, EdgeDistillError)  # noqa: S101  # the type of Starlette's exception handlers
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), error_status(error))
    detail = {"detail": error.what, "hint": error.hint}
    return _json({**detail, "row": error.row} if isinstance(error, Conflict) else detail, status)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # the type of Starlette's exception handlers
    status = HTTPStatus(error.status_code)
    return error_response(status, f"{status.description}.", request.scope, error.headers)


def serve_session(session: CodingSession, *, port: int = 0, on_listening: Callable[[str], None]) -> None:
    """Serve the coding page until SIGINT or SIGTERM; call it in the main thread.

    The session stays open; closing it writes the table.

    Args:
        session: An open session.
        port: A port of the loopback address; 0 selects a free one.
        on_listening: Called once with the link, which has a new token.

    Raises:
        CannotListen: The port is in use.
    """
    token = token_urlsafe(24)
    address = Address("127.0.0.1", port)
    with open_listener(address) as listener:
        link = f"{format_url(address, listener)}/#{token}"
        asyncio.run(_serve(create_app(session, token), listener, lambda: on_listening(link)))


async def _serve(app: Starlette, listener: socket.socket, on_listening: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in stop_signals():  # Windows has no `add_signal_handler`
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(ended.set))
    connections = Connections(app, _LIMITS, _LIMITS.connections)
    accepting = await loop.create_server(partial(Connection, connections), sock=listener)
    on_listening()  # not before: a signal would end the process without writing the table
    await ended.wait()
    accepting.close()
    connections.finish()
    until = loop.time() + _CLOSE_SECONDS
    while connections.running and loop.time() < until:  # noqa: ASYNC110  # changed by the connections
        await asyncio.sleep(0.02)
