"""HTTP/1.1 with the parser of httptools, and limits for each connection.

A request is passed to the ASGI application when its head is complete. Limits apply to the size of heads, to the speed
at which a client sends and reads, and to the number of connections.

Connections   all open connections
Connection    one connection
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

_CLOSE_SECONDS = 5.0
"""Time for the last bytes of an answer when a connection is closed."""
_BODY_BUFFER_BYTES = 64 * 1024
"""If this much of a body waits for the application, reading is paused."""
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() for status in HTTPStatus}

_log = logging.getLogger("edgedistill_serve.server")


class Connections:
    """All open connections of a server.

    Args:
        app: The ASGI application.
        limits: The limits of the server.
        max_connections: Largest number of connections.

    Attributes:
        app: The ASGI application.
        limits: The limits of the server.
        max_connections: Largest number of connections.
        refused: Number of connections that were refused or closed early, by reason.
        running: The requests that the application is answering.
    """

    def __init__(self, app: ASGIApp, limits: Limits, max_connections: int) -> None:
        self.app = app
        self.limits = limits
        self.max_connections = max_connections
        self.refused: dict[str, int] = {}
        self.running: set[Exchange] = set()
        self._open: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._date_line = b""
        self._date_second = 0

    @property
    def open(self) -> int:
        """Number of open connections, without aborted ones that end in this iteration of the event loop."""
        return len(self._open)

    def admit(self, connection: "Connection") -> bool:
        """Register a new connection. At the limit, the connection that has been idle longest is closed for it."""
        self._open.add(connection)
        if self.open > self.max_connections:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            self.count_refused("idle")
            oldest.abort()
        self._idle[connection] = None
        return True

    def mark_idle(self, connection: "Connection") -> None:
        """Mark a connection as one without a request."""
        self._idle[connection] = None

    def mark_busy(self, connection: "Connection") -> None:
        """Mark a connection as one with a request."""
        self._idle.pop(connection, None)

    def remove(self, connection: "Connection") -> None:
        """Remove a connection that has ended or was aborted."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def count_refused(self, reason: str) -> None:
        """Count a connection that was refused or closed early."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def finish(self) -> None:
        """Close every connection as soon as it has no request."""
        for connection in tuple(self._open):
            connection.finish()

    def date_line(self) -> bytes:
        """Return the header Date, formatted once per second."""
        now = int(time.time())
        if now != self._date_second:
            self._date_second, self._date_line = now, f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._date_line


class Exchange:
    """One request and its response, with the ASGI interface.

    Args:
        connection: The connection.
        scope: The ASGI scope.
        closes: Whether the connection is closed after the response.
        expects_continue: Whether the client waits for ``100 Continue`` before it sends the body.

    Attributes:
        scope: The ASGI scope.
        closes: Whether the connection is closed after the response; the response can also require it.
        task: The task of the application, after its start.
        is_answered: Whether the response is complete.
    """

    def __init__(self, connection: "Connection", scope: Scope, *, closes: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.closes = closes
        self.task: asyncio.Task[None] | None = None
        self.is_answered = False
        self._connection = connection
        self._expects_continue = expects_continue
        self._body = bytearray()
        self._is_complete = False
        self._end_was_received = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._is_chunked = False

    def add(self, part: bytes) -> bool:
        """Add a part of the body, and return whether the buffer has room for more."""
        if not self.is_answered:
            self._body += part
            self.wake()
        return len(self._body) <= _BODY_BUFFER_BYTES

    def end(self) -> None:
        """Mark the body as complete."""
        self._is_complete = True
        self.wake()

    def wake(self) -> None:
        """Wake the application after new data or a disconnect."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def run(self, app: ASGIApp) -> None:
        """Run the application. If it does not complete the response, the connection is closed."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001  # its message may contain texts
            _log.error("the application failed (%s)", type(error).__name__)
        finally:
            self._connection.finish_exchange(self)

    async def receive(self) -> Message:
        """Return the next part of the body, or a disconnect message (ASGI)."""
        while not (self._connection.is_closed or self.is_answered):
            if self._body or (self._is_complete and not self._end_was_received):
                body = bytes(self._body)
                self._body.clear()
                self._end_was_received = self._is_complete
                return {"type": "http.request", "body": body, "more_body": not self._is_complete}
            if self._expects_continue:
                self._expects_continue = False
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._connection.resume_reading()
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the response (ASGI). The head is sent with the first part of the body."""
        if not self._connection.can_write.is_set():
            await self._connection.can_write.wait()
        if self._connection.is_closed:
            return
        if message["type"] == "http.response.start":
            self._expects_continue = False
            self._head = self._build_head(message)
            return
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_last else b"")
        self._connection.write(self._head + body)
        self._head = b""
        self.is_answered = is_last

    def _build_head(self, message: Message) -> bytes:
        lines = [_STATUS_LINES[message["status"]], self._connection.all.date_line()]
        has_length = has_close = False
        for name, value in message["headers"]:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                has_length = True
            elif name == b"connection" and value.lower() == b"close":
                self.closes = has_close = True
        if not has_length and self.scope["method"] != "HEAD":
            self._is_chunked = self.scope["http_version"] == "1.1"
            self.closes = self.closes or not self._is_chunked  # in HTTP/1.0, closing marks the end of the body
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if self.closes and not has_close:
            lines.append(b"connection: close\r\n")
        head = b"".join([*lines, b"\r\n"])
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
            raise ValueError("a header of the response contains a line break")
        return head


class Connection(asyncio.Protocol):
    """One connection. httptools calls the methods with the prefix ``on_``; asyncio calls those of `asyncio.Protocol`.

    Args:
        connections: All connections of the server.

    Attributes:
        all: All connections of the server.
        loop: The event loop.
        is_closed: Whether the connection has ended.
        can_write: Set while the client reads fast enough.
    """

    def __init__(self, connections: Connections) -> None:
        self.all = connections
        self.loop = asyncio.get_running_loop()
        self.is_closed = False
        self.can_write = asyncio.Event()
        self.can_write.set()
        self._parser = httptools.HttpRequestParser(self)
        # Data after a request that closes the connection are ignored and are not an error.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._base_scope: Scope = {}
        self._exchanges: deque[Exchange] = deque()
        self._newest: Exchange | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
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
        """Wait for the first head, or refuse the connection at the limit."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # the type for stream sockets
        self._transport = transport
        self._base_scope = {
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

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's interface
        """Cancel the timers and the running request."""
        self.is_closed = True
        self.all.remove(self)
        for timer in (self._timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self.can_write.set()
        if self._exchanges:
            task = self._exchanges[0].task
            assert task is not None  # noqa: S101  # the first exchange is running
            task.cancel()
        self._exchanges.clear()
        del self._parser  # breaks a reference cycle

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. The time limit of a head starts with its first byte."""
        if self._is_refused:
            return
        was_in_head = self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.finish()  # the request is answered in HTTP/1.1; later data cannot be parsed
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request", "not http")
        if self._in_head and was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.all.limits.header_bytes:
                self._refuse_head()
        if self._is_idle and not self._exchanges:
            self._is_idle = False
            self._expect(self.all.limits.header_seconds)

    def on_message_begin(self) -> None:
        """Start a head."""
        self._in_head = True
        self._url, self._headers, self._expects_continue = b"", [], False

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers after a body are ignored."""
        if self._in_head:
            name = name.lower()
            self._headers.append((name, value))
            if name == b"expect" and value.lower() == b"100-continue":
                self._expects_continue = True

    def on_headers_complete(self) -> None:
        """Check the size of the head, and pass the request to the application."""
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
            **self._base_scope,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "headers": self._headers,
        }
        closes = version == "1.0" or not self._parser.should_keep_alive()
        self._newest = Exchange(self, scope, closes=closes, expects_continue=self._expects_continue)
        self._exchanges.append(self._newest)
        if len(self._exchanges) == 1:
            self._begin()
        else:
            self._pause()

    def on_body(self, body: bytes) -> None:
        """Add a part of a body, unless its head was refused."""
        if not self._is_refused and self._newest is not None and not self._newest.add(body):
            self._pause()

    def on_message_complete(self) -> None:
        """Complete a body, unless its head was refused."""
        if self._is_refused or self._newest is None:
            return
        self._newest.end()
        if len(self._exchanges) <= 1:
            self.resume_reading()  # while paused, a disconnect of the client would not be noticed

    def pause_writing(self) -> None:
        """Start the time limit of a client that does not read."""
        self.can_write.clear()
        self._start_stall_timer(self.all.limits.stall_seconds, self._abort_stalled)

    def resume_writing(self) -> None:
        """Stop that time limit, unless the connection is being closed."""
        self.can_write.set()
        if self._stall_timer is not None and not self._transport.is_closing():
            self._stall_timer.cancel()

    def write(self, data: bytes) -> None:
        """Send bytes at the end of this iteration of the event loop, with one system call for all of them."""
        if not self._unsent:
            self.loop.call_soon(self._flush)
        self._unsent.append(data)

    def resume_reading(self) -> None:
        """Resume reading, if it was paused."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def finish_exchange(self, exchange: Exchange) -> None:
        """Continue with the next request, wait for one, or close the connection."""
        self.all.running.discard(exchange)
        if self.is_closed:
            return
        if exchange.closes or not exchange.is_answered:
            self._exchanges.clear()
            self._close()
            return
        self._exchanges.popleft()
        self.resume_reading()
        if self._exchanges:
            self._begin()
            return
        self.all.mark_idle(self)
        self._is_idle = not self._in_head
        self._expect(self.all.limits.idle_seconds if self._is_idle else self.all.limits.header_seconds)

    def finish(self) -> None:
        """Close the connection after the pending requests are answered."""
        if not self._exchanges:
            self._close()
        for exchange in self._exchanges:
            exchange.closes = True

    def abort(self) -> None:
        """Close the connection at once, and discard unsent bytes."""
        self.all.remove(self)
        self._transport.abort()

    def _begin(self) -> None:
        """Pass the oldest request to the application."""
        self._deadline = None
        self._is_idle = False
        exchange = self._exchanges[0]
        self.all.mark_busy(self)
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
        self._start_stall_timer(_CLOSE_SECONDS, self.abort)

    def _expect(self, seconds: float) -> None:
        """Set the deadline of the next head. An earlier timer is kept, because most deadlines are soon replaced."""
        self._deadline = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._check_deadline)
        elif self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the head of the request did not arrive in time", "slow head")
        else:
            if not self._is_idle:
                self.all.count_refused("silent")
            self.abort()

    def _abort_stalled(self) -> None:
        self.all.count_refused("stalled")
        self.abort()

    def _start_stall_timer(self, seconds: float, on_timeout: Callable[[], None]) -> None:
        """Start the time limit of a client that does not read; it replaces a running one."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._stall_timer = self.loop.call_later(seconds, on_timeout)

    def _refuse_head(self) -> None:
        limits = self.all.limits
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the head has more than {limits.header_bytes} bytes or {limits.headers} headers",
            "large head",
        )

    def _refuse(self, status: HTTPStatus, detail: str, reason: str) -> None:
        """Send an error response without the application, and close the connection."""
        if self._is_refused:
            return
        self._is_refused = True
        self.all.count_refused(reason)
        if self._exchanges:
            self.abort()  # the previous answer is not complete, so nothing can be written
            return
        body = msgspec.json.encode(Problem(status.phrase, status.value, detail, ""))
        head = f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.write(_STATUS_LINES[status] + head.encode() + body)
        self._close()


def _host_and_port(address: Any) -> tuple[str, int] | None:
    """Return an address in the form of ASGI; None for a Unix socket."""
    return address[:2] if isinstance(address, tuple) else None
