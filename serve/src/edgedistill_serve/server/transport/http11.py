"""HTTP/1.1 on httptools, and what one connection may do.

A request is handed to the application as ASGI once its head is complete. Before that, and while its client reads, the
limits hold: how long heads may be, how slowly a client may send and read, and how many connections there may be.

Connections   all that are open
Connection    one of them
Exchange      one request and its response
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
import msgspec
from starlette.types import ASGIApp, Message, Scope

from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.request.error_responses import Problem

_LONGEST_STALL_AT_END = 5.0
"""Seconds for the last bytes of an answer to leave, once the connection is being closed."""
_BODY_BYTES = 64 * 1024
"""So much of a body waits for the application, then no more is read."""
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() for status in HTTPStatus}

_log = logging.getLogger("edgedistill_serve.server")


class Connections:
    """All open connections of a server.

    Args:
        app: What answers.
        limits: What each may do.
        room: How many there may be.

    Attributes:
        app: The same.
        limits: The same.
        room: The same.
        refused: How many were refused or closed early, by reason.
        running: The requests that the application has.
    """

    def __init__(self, app: ASGIApp, limits: Limits, room: int) -> None:
        self.app = app
        self.limits = limits
        self.room = room
        self.refused: dict[str, int] = {}
        self.running: set[Exchange] = set()
        self._open: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._date_line = b""
        self._dated = 0

    @property
    def open(self) -> int:
        """How many there are; one that was cut, and ends with this turn of the event loop, is none."""
        return len(self._open)

    def admit(self, connection: "Connection") -> bool:
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

    def rest(self, connection: "Connection") -> None:
        """Note that a connection has no request now."""
        self._idle[connection] = None

    def work(self, connection: "Connection") -> None:
        """Note that a connection has a request now."""
        self._idle.pop(connection, None)

    def forget(self, connection: "Connection") -> None:
        """Note that a connection has ended, or was cut."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def count(self, reason: str) -> None:
        """Count one that was refused or closed early."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def finish(self) -> None:
        """Close every connection as soon as it has no request."""
        for connection in tuple(self._open):
            connection.finish()

    def date_line(self) -> bytes:
        """Return the Date header, written once a second."""
        now = int(time.time())
        if now != self._dated:
            self._dated, self._date_line = now, f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._date_line


class Exchange:
    """One request and its response, as ASGI sees them.

    Args:
        connection: Where they come and go.
        scope: The request's.
        closes: Whether the connection ends with the response.
        wants_continue: Whether the client sends the body only when it is asked to.

    Attributes:
        scope: The same.
        closes: The same; becomes true where the response says so.
        task: What answers, once it has begun.
        is_answered: Whether the response is complete.
    """

    def __init__(self, connection: "Connection", scope: Scope, *, closes: bool, wants_continue: bool) -> None:
        self.scope = scope
        self.closes = closes
        self.task: asyncio.Task[None] | None = None
        self.is_answered = False
        self._connection = connection
        self._wants_continue = wants_continue
        self._body = bytearray()
        self._has_arrived = False
        self._was_given = False
        self._waiting: asyncio.Future[None] | None = None
        self._head = b""
        self._is_chunked = False

    def add(self, part: bytes) -> bool:
        """Take a part of the body, and return whether there is room for more."""
        if not self.is_answered:
            self._body += part
            self.wake()
        return len(self._body) <= _BODY_BYTES

    def end(self) -> None:
        """Note that the body is complete."""
        self._has_arrived = True
        self.wake()

    def wake(self) -> None:
        """Let the application look again at what has arrived, or whether the client is still there."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def run(self, app: ASGIApp) -> None:
        """Let the application answer; where it does not, the connection ends."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001  # its message may hold a text
            _log.error("the application failed (%s)", type(error).__name__)
        finally:
            self._connection.answered(self)

    async def receive(self) -> Message:
        """Return the next part of the body, or that the client has gone."""
        while not (self._connection.is_gone or self.is_answered):
            if self._body or (self._has_arrived and not self._was_given):
                body = bytes(self._body)
                self._body.clear()
                self._was_given = self._has_arrived
                return {"type": "http.request", "body": body, "more_body": not self._has_arrived}
            if self._wants_continue:
                self._wants_continue = False
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._connection.read_on()
            self._waiting = self._connection.loop.create_future()
            await self._waiting
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the response; its head leaves with the first part of its body."""
        if not self._connection.can_write.is_set():
            await self._connection.can_write.wait()
        if self._connection.is_gone:
            return
        if message["type"] == "http.response.start":
            self._wants_continue = False
            self._head = self._head_of(message)
            return
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_last else b"")
        self._connection.write(self._head + body)
        self._head = b""
        self.is_answered = is_last

    def _head_of(self, message: Message) -> bytes:
        lines = [_STATUS_LINES[message["status"]], self._connection.all.date_line()]
        has_length = says_close = False
        for name, value in message["headers"]:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                has_length = True
            elif name == b"connection" and value.lower() == b"close":
                self.closes = says_close = True
        if not has_length and self.scope["method"] != "HEAD":
            self._is_chunked = self.scope["http_version"] == "1.1"
            self.closes = self.closes or not self._is_chunked  # in HTTP/1.0, the end of the connection ends the body
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if self.closes and not says_close:
            lines.append(b"connection: close\r\n")
        head = b"".join([*lines, b"\r\n"])
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
            raise ValueError("a header of the response has a line break")
        return head


class Connection(asyncio.Protocol):
    """One connection. httptools calls the methods whose names begin with ``on_``, asyncio the other public ones.

    Args:
        connections: All of them.

    Attributes:
        all: The same.
        loop: The event loop.
        is_gone: Whether it has ended.
        can_write: Set while the client reads what is written.
    """

    def __init__(self, connections: Connections) -> None:
        self.all = connections
        self.loop = asyncio.get_running_loop()
        self.is_gone = False
        self.can_write = asyncio.Event()
        self.can_write.set()
        self._parser = httptools.HttpRequestParser(self)
        # Requests that come behind one that closes the connection are left out, and are no error.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._of_connection: Scope = {}
        self._exchanges: deque[Exchange] = deque()
        self._newest: Exchange | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._wants_continue = False
        self._unsent: list[bytes] = []
        self._in_head = False
        self._head_bytes = 0
        self._is_refused = False
        self._is_paused = False
        self._is_idle = False
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first head, or refuse where there is no room."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # of a stream of bytes
        self._transport = transport
        self._of_connection = {
            "type": "http",
            "asgi": _ASGI,
            "scheme": "http" if transport.get_extra_info("sslcontext") is None else "https",
            "server": _host_and_port(transport.get_extra_info("sockname")),
            "client": _host_and_port(transport.get_extra_info("peername")),
            "root_path": "",
        }
        if self.all.admit(self):
            self._expect(self.all.limits.header_seconds)
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many connections", "connections")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """Stop the clocks, and the request whose client has gone."""
        self.is_gone = True
        self.all.forget(self)
        for timer in (self._timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self.can_write.set()
        if self._exchanges:
            task = self._exchanges[0].task
            assert task is not None  # noqa: S101  # the first has begun
            task.cancel()
        self._exchanges.clear()
        del self._parser  # it holds this connection

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock of a head runs from its first."""
        if self._is_refused:
            return
        was_in_head = self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.finish()  # the request is answered in HTTP/1.1, and nothing behind it can be read
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request", "not http")
        if self._in_head and was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.all.limits.header_bytes:
                self._refuse_head()
        if self._is_idle and not self._exchanges:
            self._is_idle = False
            self._expect(self.all.limits.header_seconds)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._in_head = True
        self._url, self._headers, self._wants_continue = b"", [], False

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those behind a body are left out."""
        if self._in_head:
            name = name.lower()
            self._headers.append((name, value))
            if name == b"expect" and value.lower() == b"100-continue":
                self._wants_continue = True

    def on_headers_complete(self) -> None:
        """Measure the head, and only then let the application have it."""
        self._in_head = False
        self._head_bytes = 0
        if self._is_refused:
            return
        size = len(self._url) + sum([len(name) + len(value) for name, value in self._headers])
        if size > self.all.limits.header_bytes or len(self._headers) > self.all.limits.headers:
            self._refuse_head()
            return
        url = httptools.parse_url(self._url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        version = self._parser.get_http_version()
        scope = {
            **self._of_connection,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "headers": self._headers,
        }
        closes = version == "1.0" or not self._parser.should_keep_alive()
        self._newest = Exchange(self, scope, closes=closes, wants_continue=self._wants_continue)
        self._exchanges.append(self._newest)
        if len(self._exchanges) == 1:
            self._begin()
        else:
            self._pause()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, unless its head was refused."""
        if not self._is_refused and self._newest is not None and not self._newest.add(body):
            self._pause()

    def on_message_complete(self) -> None:
        """End a body, unless its head was refused."""
        if self._is_refused or self._newest is None:
            return
        self._newest.end()
        if len(self._exchanges) <= 1:
            self.read_on()  # paused by a long body, it would not see that the client leaves

    def pause_writing(self) -> None:
        """Give a client that does not read a while to go on."""
        self.can_write.clear()
        self._end_unless_read(self.all.limits.stall_seconds, self._leave_stalled)

    def resume_writing(self) -> None:
        """The client reads again; at the end of its last answer, it still has to read the rest in time."""
        self.can_write.set()
        if self._stall_timer is not None and not self._transport.is_closing():
            self._stall_timer.cancel()

    def write(self, data: bytes) -> None:
        """Send bytes at the end of this turn of the event loop, in one system call with all that is written in it."""
        if not self._unsent:
            self.loop.call_soon(self._flush)
        self._unsent.append(data)

    def read_on(self) -> None:
        """Read again, where that was paused."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """Go on with the next request, wait for one, or close."""
        self.all.running.discard(exchange)
        if self.is_gone:
            return
        if exchange.closes or not exchange.is_answered:
            self._exchanges.clear()
            self._close()
            return
        self._exchanges.popleft()
        self.read_on()
        if self._exchanges:
            self._begin()
            return
        self.all.rest(self)
        self._is_idle = not self._in_head
        self._expect(self.all.limits.idle_seconds if self._is_idle else self.all.limits.header_seconds)

    def finish(self) -> None:
        """Close when what was asked is answered."""
        if not self._exchanges:
            self._close()
        for exchange in self._exchanges:
            exchange.closes = True

    def leave(self) -> None:
        """Close at once; what the client has not read by now, it will not read."""
        self.all.forget(self)
        self._transport.abort()

    def _begin(self) -> None:
        """Hand the oldest request to the application."""
        self._deadline = None
        self._is_idle = False
        exchange = self._exchanges[0]
        self.all.work(self)
        self.all.running.add(exchange)
        exchange.task = self.loop.create_task(exchange.run(self.all.app))

    def _pause(self) -> None:
        self._is_paused = True
        self._transport.pause_reading()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))

    def _close(self) -> None:
        self._deadline = None
        self._is_idle = False
        self._flush()
        self._transport.close()
        self._end_unless_read(_LONGEST_STALL_AT_END, self.leave)

    def _expect(self, seconds: float) -> None:
        """Set when the next head must be complete; a timer that would end earlier is kept, since most are set again."""
        self._deadline = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(self._deadline, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._look_at_deadline)
        elif self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the head of the request did not arrive in time", "slow head")
        else:
            if not self._is_idle:
                self.all.count("silent")
            self.leave()

    def _leave_stalled(self) -> None:
        self.all.count("stalled")
        self.leave()

    def _end_unless_read(self, seconds: float, end: Callable[[], None]) -> None:
        """Set the clock of a client that does not read, in the place of one that may run."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._stall_timer = self.loop.call_later(seconds, end)

    def _refuse_head(self) -> None:
        limits = self.all.limits
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the head has more than {limits.header_bytes} bytes or {limits.headers} headers",
            "large head",
        )

    def _refuse(self, status: HTTPStatus, detail: str, reason: str) -> None:
        """Answer without the application, and close."""
        if self._is_refused:
            return
        self._is_refused = True
        self.all.count(reason)
        if self._exchanges:
            self.leave()  # the answer to the request before is not complete, so nothing can be written
            return
        body = msgspec.json.encode(Problem(status.phrase, status.value, detail, ""))
        head = f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.write(_STATUS_LINES[status] + head.encode() + body)
        self._close()


def _host_and_port(address: Any) -> tuple[str, int] | None:
    """Return what ASGI wants to know of an address; a Unix socket has none."""
    return address[:2] if isinstance(address, tuple) else None
