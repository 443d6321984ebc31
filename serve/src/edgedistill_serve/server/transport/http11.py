"""HTTP/1.1 with the parser of httptools, and limits for each connection.

A request is passed to the ASGI application when its head is complete. Limits apply to the size of heads, to the speed
at which a client sends and reads, and to the number of connections. While a request is answered, the following bytes
of its connection are not parsed, so that a connection keeps no more than one request and one read buffer.

Connections   all open connections
Connection    one connection
Exchange      one request and its response
"""

import asyncio
import logging
import re
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
_READ_BYTES = 32 * 1024
"""Largest number of bytes that are read at once from a connection."""
_BODY_BUFFER_BYTES = 32 * 1024
"""If this much of a body waits for the application, reading is paused."""
_HEAD_PIECE_BYTES = 1024
"""A head is parsed in pieces of up to this size, which end where the head ends."""
_SHORTEST_HEAD_BYTES = 14
"""No head is shorter. Without it, each blank line before a head would be a piece of its own."""
_CHUNKED_PIECE_BYTES = 256, 16 * 1024
"""Smallest and largest piece of a chunked body."""
_CHUNK_BYTES = 16
"""Framing of a chunk that does not count as excess, as in Go's net/http: lengths and line breaks."""
_DISCARDED_BODIES = 8
"""After the answer, the rest of a body is read and discarded up to this multiple of the limit, because many clients do
not read an answer while they send."""
_LEAST_DISCARDED = 1024 * 1024
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_VERSIONS = ("1.1", "1.0")
_FRAMING_HEADERS = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade"})
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
        read_buffer: Receives the bytes of all connections: they are parsed, or copied, before the next read.
        on_change: Called when a connection was added or has ended.
    """

    def __init__(self, app: ASGIApp, limits: Limits, max_connections: int) -> None:
        self.app = app
        self.limits = limits
        self.max_connections = max_connections
        self.refused: dict[str, int] = {}
        self.running: set[Exchange] = set()
        self.read_buffer = memoryview(bytearray(_READ_BYTES))
        self.on_change: Callable[[], object] = lambda: None
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
        self.on_change()
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
        self.on_change()

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
        has_begun: Whether a part of the response was sent.
        is_answered: Whether the response is complete.
        has_room: Whether more of the body can be added now.
    """

    def __init__(self, connection: "Connection", scope: Scope, *, closes: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.closes = closes
        self.task: asyncio.Task[None] | None = None
        self.has_begun = False
        self.is_answered = False
        self._connection = connection
        self._expects_continue = expects_continue
        self._body = bytearray()
        self._is_complete = False
        self._end_was_received = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._is_chunked = False

    @property
    def has_room(self) -> bool:
        """Whether more of the body can be added now."""
        return len(self._body) <= _BODY_BUFFER_BYTES

    def add(self, part: bytes) -> None:
        """Add a part of the body; after the response, it is discarded."""
        if not self.is_answered:
            self._body += part
            self.wake()

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
            _log.error("the application failed (%s)", type(error).__name__, extra={"event": "bug"})
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
            self._waiter = self._connection.loop.create_future()
            self._connection.parse()
            await self._waiter
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the response (ASGI). The head is sent with the first part of the body."""
        if not self._connection.can_write.is_set():
            await self._connection.can_write.wait()
        if self._connection.is_closed:
            return
        if message["type"] == "http.response.start":
            # The client may send the body now, or never; or more of it than is discarded.
            stays = self._is_complete or not (self._expects_continue or self._connection.rest_may_be_long)
            self.closes = self.closes or not stays
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
        self.has_begun = True
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


class Connection(asyncio.BufferedProtocol):
    """One connection. httptools calls the methods with the prefix ``on_``; asyncio those of its `BufferedProtocol`.

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
        self._parser = self._new_parser()
        self._base_scope: Scope = {}
        self._exchanges: deque[Exchange] = deque()
        self._newest: Exchange | None = None
        self._unparsed = b""
        self._position = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._max_headers = connections.limits.headers
        self._most_discarded = max(_LEAST_DISCARDED, _DISCARDED_BODIES * connections.limits.body_bytes)
        self._hosts = 0
        self._valid_host = b""
        self._expects_continue = False
        self._has_upgrade = False
        self._is_upgrade = False
        self._unsent: list[bytes] = []
        self._in_head = False
        self._in_body = False
        self._is_chunked = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._discarded_bytes = 0
        self._framing_bytes = 0
        self._is_refused = False
        self._is_ending = False
        self._is_paused = False
        self._is_idle = False
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def rest_may_be_long(self) -> bool:
        """Whether the rest of the body may be longer than what is discarded, so that the connection must be closed.

        A client that does not know this could send its next request on a connection that is about to be aborted.
        """
        return self._is_chunked or self._body_bytes > self._most_discarded

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
        self._unparsed = b""
        del self._parser  # breaks a reference cycle

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's interface
        """Return the buffer into which asyncio reads."""
        return self.all.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process the bytes in the buffer."""
        self.data_received(bytes(self.all.read_buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. The time limit of a head starts with its first byte."""
        if self._is_ending:
            self._discard(len(data))
            return
        self._unparsed = self._unparsed[self._position :] + data if self._unparsed else data
        self._position = 0
        self.parse()

    def parse(self) -> None:
        """Parse received bytes as far as they belong to the current request; reading is paused while others wait."""
        size = len(self._unparsed)
        while self._position < size and self._may_parse():
            start, self._position = self._position, self._piece_end()
            self._feed(self._unparsed[start : self._position])
            if self._is_idle and not self._exchanges:
                self._is_idle = False
                self._expect(self.all.limits.header_seconds)
        if self._position >= size or self._is_ending:
            self._unparsed, self._position = b"", 0
        must_wait = not self._is_ending and (bool(self._unparsed) or (self._in_body and not self._may_parse()))
        if must_wait != self._is_paused:
            self._is_paused = must_wait
            (self._transport.pause_reading if must_wait else self._transport.resume_reading)()

    def on_message_begin(self) -> None:
        """Start a head."""
        self._in_head = True
        self._url, self._headers, self._hosts, self._expects_continue = b"", [], 0, False
        self._is_chunked = self._has_upgrade = False
        self._body_bytes = self._framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers after a body are ignored."""
        if not self._in_head or self._is_refused:
            return
        name, value = name.lower(), value.strip(b" \t")
        self._headers.append((name, value))
        if len(self._headers) > self._max_headers:
            self._refuse_head()
        elif name in _FRAMING_HEADERS:
            self._on_framing_header(name, value)

    def _on_framing_header(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if self._hosts > 1 or (value != self._valid_host and not _HOST.fullmatch(value)):
                self._refuse(HTTPStatus.BAD_REQUEST, "the request must have one valid Host header", "host")
            self._valid_host = value
        elif name == b"content-length":
            self._body_bytes = int(value)  # httptools has checked it
        elif name == b"upgrade":
            self._has_upgrade = True
        elif name == b"transfer-encoding":
            self._is_chunked = True
            if value.lower() != b"chunked":
                self._refuse(HTTPStatus.NOT_IMPLEMENTED, "the only transfer coding is chunked", "transfer coding")
        elif value.lower() == b"100-continue":
            self._expects_continue = True
        else:
            self._refuse(HTTPStatus.EXPECTATION_FAILED, "the only expectation is 100-continue", "expectation")

    def on_headers_complete(self) -> None:
        """Check the head, and pass the request to the application."""
        self._in_head = False
        self._head_bytes = 0
        version, method = self._parser.get_http_version(), self._parser.get_method()
        if version != "1.1" or not self._hosts or self._has_upgrade or method == b"CONNECT":
            self._check_head(version, method)
        if self._is_refused or self._is_upgrade:
            return
        url = httptools.parse_url(self._url)  # an invalid one is refused as a head
        self._in_body = True
        self._discarded_bytes = 0
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        if url.host is not None:  # it replaces the Host header (RFC 9112, section 3.2.2)
            host = b"[%b]" % url.host if b":" in url.host else url.host
            authority = host if url.port is None else b"%b:%d" % (host, url.port)
            self._headers = [(b"host", authority), *(each for each in self._headers if each[0] != b"host")]
        scope = {
            **self._base_scope,
            "http_version": version,
            "method": method.decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "headers": self._headers,
        }
        is_old = version == "1.0"
        closes = is_old or not self._parser.should_keep_alive()
        expects_continue = self._expects_continue and not is_old
        self._newest = Exchange(self, scope, closes=closes, expects_continue=expects_continue)
        self._exchanges.append(self._newest)
        if len(self._exchanges) == 1:
            self._begin()

    def on_chunk_header(self) -> None:
        """Allow the framing of one chunk."""
        self._framing_bytes -= _CHUNK_BYTES

    def on_body(self, body: bytes) -> None:
        """Add a part of a body, unless its head was refused."""
        if self._is_refused or self._newest is None:
            return
        self._body_bytes -= len(body)
        self._framing_bytes -= 3 * len(body)  # the body itself, and twice its length for the framing
        self._newest.add(body)
        if self._newest.is_answered:
            self._discard(len(body))

    def on_message_complete(self) -> None:
        """Complete a body, unless its head was refused."""
        if self._is_refused or self._is_upgrade or self._newest is None:
            return
        self._in_body = False
        self._newest.end()
        if not self._exchanges:  # it was answered before it was complete
            self._wait_for_head()

    def pause_writing(self) -> None:
        """Start the time limit of a client that does not read."""
        self.can_write.clear()
        self._start_stall_timer(self.all.limits.stall_seconds, self._abort_stalled)

    def resume_writing(self) -> None:
        """Stop that time limit, unless the connection is being closed."""
        self.can_write.set()
        if self._stall_timer is not None and not self._is_ending:
            self._stall_timer.cancel()

    def write(self, data: bytes) -> None:
        """Send bytes at the end of this iteration of the event loop, with one system call for all of them."""
        if not self._unsent:
            self.loop.call_soon(self._flush)
        self._unsent.append(data)

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
        if self._exchanges:
            self._begin()
        else:
            self._wait_for_head()
        if self._unparsed or self._is_paused:
            self.parse()

    def finish(self) -> None:
        """Close the connection after the pending requests are answered."""
        if not self._exchanges:
            self._close()
        for exchange in self._exchanges:
            exchange.closes = True

    def abort(self) -> None:
        """Close the connection at once, and discard unsent bytes."""
        self._is_ending = True
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

    def _wait_for_head(self) -> None:
        self.all.mark_idle(self)
        self._is_idle = not (self._in_head or self._in_body)
        self._expect(self.all.limits.idle_seconds if self._is_idle else self.all.limits.header_seconds)

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # Data after a request that closes the connection are ignored and are not an error.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _may_parse(self) -> bool:
        if self._is_ending or not self._exchanges:
            return not self._is_ending
        return self._in_body and self._newest is not None and self._newest.has_room

    def _piece_end(self) -> int:
        """Return the end of the next piece. It ends with the head or the body if that is known in advance."""
        data, start = self._unparsed, self._position
        if self._in_body and not self._is_chunked:
            return min(len(data), start + max(1, self._body_bytes))
        if self._in_body:
            smallest, largest = _CHUNKED_PIECE_BYTES
        else:
            smallest, largest = 0 if self._in_head else _SHORTEST_HEAD_BYTES, _HEAD_PIECE_BYTES
        # A blank line ends heads and chunked bodies.
        blank = data.find(b"\n\r\n", start + smallest, start + largest)
        if blank < 0:
            return min(len(data), start + largest)
        if len(data) - start <= _HEAD_PIECE_BYTES and data.find(b"\n\r\n", blank + 3) < 0:
            return len(data)  # there is no other head
        return blank + 3

    def _feed(self, piece: bytes) -> None:
        is_chunked = self._in_body and self._is_chunked
        if not self._in_body:
            self._head_bytes += len(piece)
            if self._head_bytes > self.all.limits.header_bytes:
                self._refuse_head()
                return
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            if self._is_upgrade:
                self._ignore_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request", "not http")
        if is_chunked and self._in_body:
            self._framing_bytes = max(0, self._framing_bytes + len(piece))
            if self._framing_bytes > self.all.limits.header_bytes:
                self._refuse(HTTPStatus.BAD_REQUEST, "the body has more framing or trailers than content", "framing")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the head again without its Upgrade header, and then its body.

        A server may ignore Upgrade (RFC 9110, section 7.8). httptools ends a request that has one after its head, as
        if the body were of the other protocol.
        """
        self._is_upgrade = False
        method, version = self._parser.get_method(), self._parser.get_http_version().encode()
        lines = [b"%b: %b" % header for header in self._headers if header[0] != b"upgrade"]
        head = b"\r\n".join([b"%b %b HTTP/%b" % (method, self._url, version), *lines, b"\r\n"])
        self._parser = self._new_parser()
        self._feed(head + rest)

    def _check_head(self, version: str, method: bytes) -> None:
        """Refuse a head that this protocol does not define."""
        if version not in _VERSIONS:
            self._refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "the versions of HTTP are 1.0 and 1.1", "version")
        elif method == b"CONNECT":
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "this server is not a proxy", "method")
        elif version == "1.1" and not self._hosts:
            self._refuse(HTTPStatus.BAD_REQUEST, "the request must have one valid Host header", "host")
        elif version == "1.0" and self._is_chunked:
            self._refuse(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no transfer codings", "transfer coding")
        else:
            self._is_upgrade = self._has_upgrade and self._parser.should_upgrade()

    def _discard(self, size: int) -> None:
        """Count bytes that nobody needs, and close the connection at the limit."""
        self._discarded_bytes += size
        if self._discarded_bytes > self._most_discarded:
            self.all.count_refused("unread body")
            self.abort()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))

    def _close(self, *, is_refused: bool = False) -> None:
        """Close the connection when the answer is sent.

        If the client may still be sending, its bytes are read and discarded for some time: closing the socket with
        unread bytes would reset the connection, and the client could lose the answer.
        """
        self._deadline = None
        self._is_idle = False
        self._flush()
        if self._is_ending:
            return
        self._start_stall_timer(_CLOSE_SECONDS, self.abort)
        is_sending = self._in_head or self._in_body or is_refused or self._position < len(self._unparsed)
        self._is_ending = True
        self._unparsed, self._position = b"", 0
        if is_sending and self._transport.can_write_eof():
            self.all.mark_idle(self)
            try:
                self._transport.write_eof()
            except OSError:  # the client has reset the connection, which was not read at that time
                self.abort()
                return
            self.parse()
        else:
            self._transport.close()

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
        """Send an error response without the application, and close the connection.

        Each request gets at most one response: complete requests before the refused bytes get their own, and bytes
        after an early answer get none.
        """
        if self._is_refused:
            return
        self._is_refused = True
        self.all.count_refused(reason)
        if self._exchanges and not self._in_body:
            self._exchanges[-1].closes = True
            return
        if self._exchanges:  # the body of the last one
            if len(self._exchanges) > 1 or self._exchanges[0].has_begun:
                self.abort()
                return
            task = self._exchanges[0].task
            assert task is not None  # noqa: S101  # the first exchange is running
            task.cancel()
            self._exchanges.clear()
        elif self._in_body:
            self._close(is_refused=True)
            return
        body = msgspec.json.encode(Problem(status.phrase, status.value, detail, ""))
        head = f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.write(_STATUS_LINES[status] + head.encode() + body)
        self._close(is_refused=reason != "connections")


def _host_and_port(address: Any) -> tuple[str, int] | None:
    """Return an address in the form of ASGI; None for a Unix socket."""
    return address[:2] if isinstance(address, tuple) else None
