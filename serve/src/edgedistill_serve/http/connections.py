"""What one connection may do: how long its heads may be, how slowly it may send and read, and how many there may be.

uvicorn's protocol on httptools has no such limits. These are added here, where the bytes come in, because the
application is not asked before a request's head is complete.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from edgedistill_serve.http.gathering import Gathered
from edgedistill_serve.http.limits import Limits
from edgedistill_serve.http.problems import Problem

_LONGEST_STALL_AT_END = 5.0
"""Seconds for the last bytes of an answer to leave, once the connection is being closed."""


class Connections:
    """All open connections of a server.

    Args:
        limits: What each may do.
        room: How many there may be.

    Attributes:
        refused: How many were refused or closed early, by reason.
    """

    def __init__(self, limits: Limits, room: int) -> None:
        self.limits = limits
        self.room = room
        self.refused: dict[str, int] = {}
        self._open: set[GuardedProtocol] = set()
        self._idle: OrderedDict[GuardedProtocol, None] = OrderedDict()

    @property
    def open(self) -> int:
        """How many there are; one that was cut, and ends with this turn of the event loop, is none."""
        return len(self._open)

    def protocol(self) -> type["GuardedProtocol"]:
        """Return the protocol class of these connections, as uvicorn wants it."""
        return type("ConnectionOfThisServer", (GuardedProtocol,), {"all": self})

    def admit(self, connection: "GuardedProtocol") -> bool:
        """Count a new connection, and make room for it: the one that is idle for longest is closed."""
        self._open.add(connection)
        if self.open > self.room:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            self.count("idle")
            oldest.leave()
        self._idle[connection] = None
        return True

    def rest(self, connection: "GuardedProtocol") -> None:
        """Note that a connection has no request now."""
        self._idle[connection] = None

    def work(self, connection: "GuardedProtocol") -> None:
        """Note that a connection has a request now."""
        self._idle.pop(connection, None)

    def forget(self, connection: "GuardedProtocol") -> None:
        """Note that a connection has ended, or was cut."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def count(self, reason: str) -> None:
        """Count one that was refused or closed early."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; `Connections.protocol` makes the class that a server uses."""

    all: Connections

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._in_head = False
        self._refused = False
        self._gone = False
        self._running: asyncio.Task[None] | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Arm the clock of the first head, or refuse where there is no room."""
        super().connection_made(Gathered(transport, self.loop))  # type: ignore[arg-type]  # it stands in for one
        if self.all.admit(self):
            self._await_head()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many connections", "connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks, and the request whose client has gone."""
        self._gone = True
        self.all.forget(self)
        self._stop(self._head_timer)
        self._stop(self._stall_timer)
        self._unset_keepalive_if_required()
        gone = self.cycle is not None and not self.cycle.response_complete
        super().connection_lost(exc)
        self.pipeline.clear()
        if gone and self._running is not None:
            self._running.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock of a head runs from its first."""
        if self._refused:
            return
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        was_in_head = self._in_head
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data) if was_in_head else 0
            if self._head_bytes > self.all.limits.header_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Measure the head, and only then let the application have it."""
        self._in_head = False
        self._head_bytes = 0
        self._stop(self._head_timer)
        self._head_timer = None
        if self._refused:
            return
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.all.limits.header_bytes or len(self.headers) > self.all.limits.headers:
            self._refuse_head()
            return
        self.all.work(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, unless its head was refused."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a body, unless its head was refused."""
        if self._refused:
            return
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()  # paused by a long body, it would not see that the client leaves

    def on_response_complete(self) -> None:
        """Go idle, or make sure that a client that does not read the end of its answer does not stay."""
        super().on_response_complete()
        if self._gone:
            return  # of several requests sent at once, the first ends after its client
        if self.transport.is_closing():
            self._stall_timer = self._instead_of(self._stall_timer, _LONGEST_STALL_AT_END, self.leave)
        elif self.timeout_keep_alive_task is not None:
            self.all.rest(self)

    def pause_writing(self) -> None:
        """Give a client that does not read a while to go on."""
        super().pause_writing()
        seconds = self.all.limits.stall_seconds
        self._stall_timer = self._instead_of(self._stall_timer, seconds, self._leave_stalled)

    def resume_writing(self) -> None:
        """The client reads again; at the end of its last answer, it still has to read the rest in time."""
        if not self.transport.is_closing():
            self._stop(self._stall_timer)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for long."""
        self.leave()

    def leave(self) -> None:
        """Close at once; what the client has not read by now, it will not read."""
        self.all.forget(self)
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own words
        """Answer bytes that are no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request", "not http")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = self.loop.create_task(cycle.run_asgi(app))
        self._running.add_done_callback(self.tasks.discard)
        self.tasks.add(self._running)

    def _await_head(self) -> None:
        seconds = self.all.limits.header_seconds
        self._head_timer = self._instead_of(self._head_timer, seconds, self._leave_slow)

    def _leave_slow(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the head of the request did not arrive in time", "slow head")
        else:
            self.all.count("silent")
            self.leave()

    def _leave_stalled(self) -> None:
        self.all.count("stalled")
        self.leave()

    def _refuse_head(self) -> None:
        limits = self.all.limits
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the head has more than {limits.header_bytes} bytes or {limits.headers} headers",
            "large head",
        )

    def _refuse(self, status: HTTPStatus, detail: str, reason: str) -> None:
        """Answer without the application, and close."""
        if self._refused:
            return
        self._refused = True
        self.all.count(reason)
        if self.cycle is not None and not self.cycle.response_complete:
            self.leave()  # the answer to the request before is not complete, so nothing can be written
            return
        body = msgspec.json.encode(Problem(status.phrase, status.value, detail, ""))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self._stall_timer = self._instead_of(self._stall_timer, _LONGEST_STALL_AT_END, self.leave)

    def _instead_of(
        self, timer: asyncio.TimerHandle | None, seconds: float, what: Callable[[], None]
    ) -> asyncio.TimerHandle:
        """Set a clock where another one may run, which stops."""
        self._stop(timer)
        return self.loop.call_later(seconds, what)

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
