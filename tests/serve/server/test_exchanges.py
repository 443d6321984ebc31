"""HTTP/1.1 and ASGI: what the application receives, and what is sent of its response."""

import asyncio
import errno
import gc
import re
from contextlib import asynccontextmanager
from functools import partial
from unittest.mock import Mock

import pytest

from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.transport.http11 import Connection, Connections

LONG = 70_000
"""More bytes than the buffer of a body."""


class Application:
    """Reads the complete body by default, and answers with it.

    Args:
        reads: Whether the body is read.
        length: Whether the response has a Content-Length.
        headers: More of them.
    """

    def __init__(self, *, reads=True, length=True, headers=()):
        self._reads = reads
        self._length = length
        self._headers = headers
        self.scopes = []

    async def __call__(self, scope, receive, send):
        """Answer one request."""
        self.scopes.append(scope)
        body, more = b"", self._reads
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        length = [(b"content-length", b"%d" % len(body))] if self._length else []
        await send({"type": "http.response.start", "status": 200, "headers": [*length, *self._headers]})
        if self._length:
            await send({"type": "http.response.body", "body": body})
        else:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body"})


def connections_to(application):
    return Connections(application, Limits(), max_connections=10)


@asynccontextmanager
async def served(application):
    """Give a reader and a writer of a connection to a server of this application."""
    loop = asyncio.get_running_loop()
    connections = connections_to(application)
    server = await loop.create_server(partial(Connection, connections), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        while connections.open:  # noqa: ASYNC110  # the server reads until the client closes
            await asyncio.sleep(0.001)


def output(application, *requests):
    """Send requests at once, and return all that comes until the server closes."""

    async def talk():
        async with served(application) as (reader, writer), asyncio.timeout(30):
            writer.write(b"".join(requests))
            return await reader.read()

    return asyncio.run(talk())


def request(line, *headers, body=b""):
    length = [b"Content-Length: %d" % len(body)] if body else []
    return b"\r\n".join([line, b"Host: localhost", *length, *headers, b"", body])


def last(line, *headers, body=b""):
    return request(line, b"Connection: close", *headers, body=body)


def parted(answer):
    """Return the head's lines and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


def statuses(received):
    return re.findall(rb"HTTP/1\.1 (\d+) ", received)


@pytest.mark.parametrize("space", [b"", b" ", b"\t", b" \t  "])
def test_white_space_around_the_value_of_a_header_is_no_part_of_it(space):
    application = Application()
    names = [b"Host", b"Content-Length", b"Expect", b"X-Api-Key", b"Connection"]
    values = [b"localhost", b"1", b"100-continue", b"k", b"close"]
    lines = [b"%b:%b%b%b" % (name, space, value, space) for name, value in zip(names, values, strict=True)]
    received = output(application, b"\r\n".join([b"POST / HTTP/1.1", *lines, b"", b"a"]))
    assert (statuses(received)[-1], received[-1:]) == (b"200", b"a")
    assert [value for _, value in application.scopes[0]["headers"]] == values


def test_the_application_receives_the_path_the_query_and_the_headers():
    application = Application()
    output(application, last(b"GET /a%20b/c?d=%20 HTTP/1.1", b"X-Case: Kept"))
    (scope,) = application.scopes
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/a b/c", b"/a%20b/c")
    assert (scope["query_string"], scope["http_version"], scope["scheme"]) == (b"d=%20", "1.1", "http")
    assert scope["headers"] == [(b"host", b"localhost"), (b"connection", b"close"), (b"x-case", b"Kept")]
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"


def test_a_response_has_a_date_its_headers_and_its_body():
    lines, body = parted(output(Application(headers=[(b"x-a", b"b")]), last(b"POST / HTTP/1.1", body=b"hello")))
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[1].startswith(b"date: ")
    assert lines[1].endswith(b" GMT")
    assert lines[2:] == [b"content-length: 5", b"x-a: b", b"connection: close"]
    assert body == b"hello"


def test_a_response_without_a_length_is_chunked():
    lines, body = parted(output(Application(length=False), last(b"POST / HTTP/1.1", body=b"hello")))
    assert b"transfer-encoding: chunked" in lines
    assert body == b"5\r\nhello\r\n0\r\n\r\n"


def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection_ends_the_body():
    lines, body = parted(output(Application(length=False), request(b"POST / HTTP/1.0", body=b"hello")))
    assert b"transfer-encoding: chunked" not in lines
    assert b"connection: close" in lines
    assert body == b"hello"


@pytest.mark.parametrize("length", [True, False])
def test_the_answer_to_head_has_no_body(length):
    _, body = parted(output(Application(length=length), last(b"HEAD / HTTP/1.1", body=b"hello")))
    assert body == b""


def test_a_chunked_body_is_joined_and_trailers_are_ignored():
    application = Application()
    chunks = b"3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: y\r\n\r\n"
    _, body = parted(output(application, last(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked") + chunks))
    assert body == b"hello"
    assert b"x-trailer" not in dict(application.scopes[0]["headers"])


def test_a_long_body_arrives_completely():
    body = 40 * LONG * b"y"
    assert parted(output(Application(), last(b"POST / HTTP/1.1", body=body)))[1] == body


def test_a_client_that_expects_continue_gets_it_when_the_body_is_read():
    async def talk():
        async with served(Application()) as (reader, writer), asyncio.timeout(30):
            whole = last(b"POST / HTTP/1.1", b"Expect: 100-continue", body=b"hello")
            writer.write(whole.removesuffix(b"hello"))
            asked = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"hello")
            return asked, await reader.read()

    asked, answer = asyncio.run(talk())
    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert parted(answer)[1] == b"hello"


def test_a_client_gets_no_continue_for_a_body_that_is_not_read():
    answer = output(Application(reads=False), last(b"POST / HTTP/1.1", b"Expect: 100-continue", body=b"hello"))
    assert answer.startswith(b"HTTP/1.1 200")


def test_requests_after_one_that_closes_the_connection_are_ignored():
    application = Application()
    output(application, last(b"GET /first HTTP/1.1"), request(b"GET /second HTTP/1.1"))
    assert [scope["path"] for scope in application.scopes] == ["/first"]


UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAA")
CHUNKED = b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: y\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "body"),
    [((b"Content-Length: 5",), b"hello"), ((b"Transfer-Encoding: chunked",), CHUNKED)],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("upgrade", [UPGRADE, (b"Upgrade: websocket", b"Connection: keep-alive, upgrade")])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_an_upgrade_is_ignored_and_its_body_belongs_to_the_request(headers, body, upgrade, size):
    application = Application()
    sent = request(b"POST /a HTTP/1.1", *upgrade, *headers) + body + last(b"POST /b HTTP/1.1", body=b"next")

    async def talk():
        async with served(application) as (reader, writer), asyncio.timeout(30):
            for start in range(0, len(sent), size):
                writer.write(sent[start : start + size])
                await asyncio.sleep(0)
            return await reader.read()

    answer = asyncio.run(talk())
    assert [scope["path"] for scope in application.scopes] == ["/a", "/b"]
    assert [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [b"hello", b"next"]
    assert b"upgrade" not in dict(application.scopes[0]["headers"])


def test_a_request_in_the_body_of_an_upgrade_is_not_answered():
    inner = request(b"GET /smuggled HTTP/1.1")
    application = Application()
    output(application, last(b"POST /a HTTP/1.1", *UPGRADE[1:], b"Connection: Upgrade, close", body=inner))
    assert [scope["path"] for scope in application.scopes] == ["/a"]


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\nHost: a\n\n"),
        (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nX-Nul: \0\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\na"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (501, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
        (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\na"),
    ],
)
def test_a_head_whose_meaning_is_not_certain_reaches_no_application(status, head):
    application = Application()
    assert output(application, head).startswith(b"HTTP/1.1 %d " % status)
    assert not application.scopes


def test_the_host_of_an_absolute_target_replaces_the_header():
    application = Application()
    output(application, last(b"GET http://a.example:81/b HTTP/1.1"))
    assert application.scopes[0]["headers"][0] == (b"host", b"a.example:81")
    assert [value for name, value in application.scopes[0]["headers"] if name == b"host"] == [b"a.example:81"]


@pytest.mark.parametrize("authority", [b"[::1]", b"[::1]:8000", b"[2001:db8::a]:1", b"localhost", b"127.0.0.1:80"])
def test_the_host_of_an_absolute_target_has_the_form_of_the_header(authority):
    application = Application()
    output(application, last(b"GET http://%b/a HTTP/1.1" % authority))
    assert dict(application.scopes[0]["headers"])[b"host"] == authority


MALFORMED_BODIES = (
    *(
        size + b"\r\nxy\r\n0\r\n\r\n"
        for size in (b"2;a\nb", b"2 ;a", b" 2", b"0x2", b"+2", b"-1", b"1" + 16 * b"0", b"")
    ),
    *(b"2\r\nxy" + end for end in (b"z\r\n0\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\nno trailer\r\n\r\n", b"\n0\n\n")),
    *(start + b"\r\nxy\r\n0\r\n\r\n" for start in (b"2;" + 40_000 * b"a", 40_000 * b"0" + b"2")),
)
CHUNKED = request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize("body", MALFORMED_BODIES, ids=lambda body: repr(body[:12]))
def test_a_malformed_body_is_answered_once_and_is_no_other_request(body):
    reading, answering = Application(), Application(reads=False)
    later = request(b"GET /next HTTP/1.1")
    assert statuses(output(reading, CHUNKED + body, later)) == [b"400"]
    assert statuses(output(answering, CHUNKED + body, later)) in ([b"200"], [b"400"])
    assert {scope["path"] for scope in reading.scopes + answering.scopes} <= {"/"}


def test_a_malformed_body_after_an_early_answer_gets_no_second_answer():
    async def talk():
        async with served(Application(reads=False)) as (reader, writer), asyncio.timeout(30):
            writer.write(CHUNKED)
            received = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"no chunk\r\n")
            return received + await reader.read()

    assert statuses(asyncio.run(talk())) == [b"200"]


@pytest.mark.parametrize("target", [b"http://[::1/a", b"http://a:b/", b"http://a:99999/", b"http://"])
def test_a_malformed_target_is_answered(target):
    assert statuses(output(Application(), last(b"GET %b HTTP/1.1" % target))) == [b"400"]


def test_requests_before_a_malformed_one_are_answered():
    good = CHUNKED + b"2\r\nxy\r\n0\r\n\r\n"
    received = output(Application(), good, b"no request\r\n\r\n")
    assert (statuses(received), received[-2:]) == ([b"200"], b"xy")


def test_no_request_is_parsed_before_the_previous_one_is_answered():
    """Pipelined requests wait as bytes, at most one read buffer of them for each connection."""
    ready = asyncio.Event()
    application = Application()

    async def late(scope, receive, send):
        await ready.wait()
        await application(scope, receive, send)

    async def play(connection, transport):
        connection.data_received(1000 * request(b"GET / HTTP/1.1"))
        await turns()
        assert len(connection.all.running) == 1
        assert len(connection._exchanges) == 1
        transport.pause_reading.assert_called_once()
        ready.set()
        for _ in range(5000):
            await asyncio.sleep(0)
        assert len(application.scopes) == 1000
        transport.resume_reading.assert_called_once()

    wired(late, play)


@pytest.mark.parametrize(
    "part",
    [b"X-Trailer: " + 500 * b"y" + b"\r\n", b"a:b\r\n", 100 * b"y"],
    ids=["trailers", "short trailers", "one trailer"],
)
def test_trailers_that_do_not_end_end_the_connection(part):
    async def play(connection, transport):
        connection.data_received(request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\nX: ")
        for _ in range(2 * Limits().header_bytes // len(part)):
            connection.data_received(part)
            await asyncio.sleep(0)
        assert transport.abort.called or transport.close.called or transport.write_eof.called
        assert connection.all.refused["framing"] == 1 or connection.all.refused["not http"] == 1

    wired(Application(), play)


@pytest.mark.parametrize("extension", [b";" + 40 * b"x", b";a=" + 4000 * b"x"])
def test_a_body_of_chunk_extensions_ends_the_connection(extension):
    async def play(connection, transport):
        connection.data_received(request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked"))
        for _ in range(1 + 3 * Limits().header_bytes // len(extension)):
            connection.data_received(b"1" + extension + b"\r\na\r\n")
            await asyncio.sleep(0)
        assert connection.all.refused["framing"] == 1

    wired(Application(), play)


def test_small_chunks_are_no_excess():
    sent = 20_000 * b"1\r\na\r\n" + b"0\r\n\r\n"
    head = request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", b"Connection: close")
    assert parted(output(Application(), head + sent))[1] == 20_000 * b"a"


def test_the_rest_of_an_unread_body_is_discarded_up_to_a_limit():
    async def play(connection, transport):
        connection.data_received(request(b"POST / HTTP/1.1", b"Content-Length: 1000000000"))
        await turns()
        sent, part = 0, bytes(1_000_000)
        while not transport.abort.called:
            connection.data_received(part)
            await asyncio.sleep(0)
            sent += len(part)
            assert sent < 10 * Limits().body_bytes
        assert connection.all.refused["unread body"] == 1

    wired(Application(reads=False), play)


def test_an_answer_is_sent_before_the_connection_of_a_long_body_can_end():
    async def play(connection, transport):
        connection.data_received(request(b"POST / HTTP/1.1", body=30_000 * b"y"))
        await turns()
        transport.abort.assert_not_called()
        assert transport.write.call_args.args[0].startswith(b"HTTP/1.1 200")

    wired(Application(reads=False), play, Limits(body_bytes=1000))


def test_an_answer_before_the_end_of_the_body_arrives():
    """The connection is not reset while the client still sends."""

    async def talk():
        async with served(Application(reads=False, headers=[(b"connection", b"close")])) as (reader, writer):
            writer.write(request(b"POST / HTTP/1.1", b"Content-Length: 3000000"))
            for _ in range(30):
                writer.write(100_000 * b"y")
                await writer.drain()
                await asyncio.sleep(0)
            return await reader.read()

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_body_is_read_after_an_answer_that_closes_the_connection():
    """Unread bytes would reset the connection, and the client could lose the answer."""

    async def play(connection, transport):
        connection.data_received(request(b"POST / HTTP/1.1", b"Content-Length: 3000000") + LONG * b"y")
        await turns()
        transport.write_eof.assert_called_once()
        assert transport.resume_reading.call_count == transport.pause_reading.call_count

    wired(Application(reads=False, headers=[(b"connection", b"close")]), play)


def test_a_client_that_never_got_its_continue_may_not_reuse_the_connection():
    answer = output(
        Application(reads=False), request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 5")
    )
    assert b"connection: close" in parted(answer)[0]


def test_a_header_with_a_line_break_does_not_leave(caplog):
    broken = Application(headers=[(b"x-a", b"b\r\nx-c: secret")])
    assert output(broken, request(b"GET / HTTP/1.1")) == b""
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_the_connection_of_a_response_that_is_not_complete_ends():
    async def silent(scope, receive, send):
        pass

    assert output(silent, request(b"GET / HTTP/1.1")) == b""


def wired(application, play, limits=None):
    """Let a script play with a connection, and return its transport, which remembers what it is told."""
    transport = Mock(spec=asyncio.Transport)
    transport.is_closing.return_value = False

    async def run():
        connections = Connections(application, limits or Limits(), max_connections=10)
        connection = Connection(connections)
        connection.connection_made(transport)
        await play(connection, transport)
        connection.connection_lost(None)

    asyncio.run(run())
    return transport


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_head_and_the_body_of_a_response_leave_in_one_write():
    async def play(connection, _):
        connection.data_received(request(b"POST / HTTP/1.1", body=b"hello"))
        await turns()

    transport = wired(Application(), play)
    (((written,), _),) = transport.write.call_args_list
    assert parted(written)[1] == b"hello"


def test_no_more_of_a_long_body_is_read_until_the_application_asks_for_it():
    ready = asyncio.Event()

    async def late(scope, receive, send):
        await ready.wait()
        await Application()(scope, receive, send)

    async def play(connection, transport):
        head, body = request(b"POST / HTTP/1.1", body=LONG * b"y"), b""
        connection.data_received(head[:-1])
        await turns()
        transport.pause_reading.assert_called_once()
        transport.resume_reading.assert_not_called()
        ready.set()
        await turns()
        transport.resume_reading.assert_called_once()
        connection.data_received(head[-1:])
        await turns()
        body = b"".join(call.args[0] for call in transport.write.call_args_list)
        assert parted(body)[1] == LONG * b"y"

    wired(late, play)


def test_nothing_is_sent_after_an_abort():
    async def play(connection, transport):
        connection.write(b"too late")
        transport.is_closing.return_value = True
        connection.abort()
        await turns()

    transport = wired(Application(), play)
    transport.abort.assert_called_once()
    transport.write.assert_not_called()


def test_a_client_that_has_reset_its_connection_unnoticed_ends_it_without_an_error():
    """Reading was paused, so that only the attempt to close shows it."""

    async def run() -> Mock:
        async def app(scope, receive, send):
            pass

        failures = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        transport = Mock(spec=asyncio.Transport)
        transport.is_closing.return_value = False
        transport.get_extra_info.return_value = None
        transport.write_eof.side_effect = OSError(errno.ENOTCONN, "not connected")
        connection = Connection(Connections(app, Limits(), max_connections=1))
        connection.connection_made(transport)
        connection.data_received(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        await asyncio.sleep(0.01)
        connection.connection_lost(None)
        gc.collect()
        assert not failures
        return transport

    asyncio.run(run()).abort.assert_called_once()
