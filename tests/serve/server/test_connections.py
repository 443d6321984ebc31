"""One connection cannot harm the others: long heads, slow clients, clients that do not read, and many of them."""

import json
import resource
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ...growth import assert_costs_at_most

QUICK = ("--header-seconds", "1", "--body-seconds", "1", "--idle-seconds", "1", "--stall-seconds", "1")
HEAD = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\n"
MANY = 10_000


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder), *QUICK, "--max-header-bytes", "2000", "--max-headers", "20") as server:
        yield server


def end_of(connection: socket.socket, seconds: float = 60) -> bytes:
    """What comes until the server closes."""
    connection.settimeout(seconds)
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def error_status(answer: bytes) -> int:
    return int(answer.split()[1])


def drip(connection: socket.socket, piece: bytes, *, every: float = 0.1, seconds: float = 60) -> bytes:
    """Send small parts repeatedly until the server closes the connection; return its answer."""
    connection.settimeout(every)
    received = b""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            connection.sendall(piece)
            part = connection.recv(65536)
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return received
        if not part:
            return received
        received += part
    raise AssertionError("the server waits for ever")


def test_a_head_that_drips_is_a_408(server):
    with server.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        assert error_status(drip(connection, b"X-A: b\r\n", every=0.2)) == 408


def test_a_body_that_drips_is_a_408(server):
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        answer = drip(connection, b" ")
    assert error_status(answer) == 408
    assert b"did not arrive in 1 s" in answer


def test_a_silent_connection_is_closed(server):
    with server.connect() as connection:
        assert end_of(connection) == b""


def test_a_connection_that_is_idle_after_its_answer_is_closed(server):
    with server.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert error_status(end_of(connection)) == 200


def test_blank_lines_do_not_keep_a_connection(server):
    with server.connect() as connection:
        drip(connection, b"\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + 3000 * b"y" + b"\r\n\r\n",
        b"X-Endless: " + 400_000 * b"y",
        b"".join(b"X-%d: y\r\n" % number for number in range(21)) + b"\r\n",
    ],
)
def test_a_head_that_is_too_long_is_a_431(server, head):
    with server.connect() as connection:
        connection.sendall(HEAD + head[:200_000])
        time.sleep(0.1)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head[200_000:])
        answer = end_of(connection)
    assert answer == b"" or error_status(answer) == 431
    assert server.metric('edgedistill_connections_refused{reason="large head"}') >= 1


def test_a_long_address_is_a_431(server):
    with server.connect() as connection:
        connection.sendall(b"GET /" + 2500 * b"x" + b" HTTP/1.1\r\n\r\n")
        assert error_status(end_of(connection)) == 431


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n"]
)
def test_invalid_http_is_a_400(server, garbage):
    with server.connect() as connection:
        connection.sendall(garbage)
        answer = end_of(connection)
    assert error_status(answer) == 400
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400


def test_requests_that_come_at_once_are_answered_in_order(server):
    with server.connect() as connection:
        connection.sendall(
            5 * b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
            + b"GET /no HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        answer = end_of(connection)
    assert answer.count(b"HTTP/1.1 200") == 5
    assert answer.count(b"HTTP/1.1 404") == 1


def test_a_client_that_does_not_read_its_answers_is_left(server):
    with socket.socket() as connection, server.connect() as other:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(other.getpeername())
        connection.sendall(300 * b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until = time.monotonic() + 60
        while not server.metric('edgedistill_connections_refused{reason="stalled"}'):
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_client_that_reads_its_last_answer_late_was_not_stalled(start, bundle):
    many = 30_000  # an answer longer than what lies between
    with start(str(bundle.folder), "--stall-seconds", "3", "--max-items", str(many), "--queue", str(many)) as server:
        body = json.dumps({"responses": many * ["great job"]}).encode()
        with socket.socket() as connection, server.connect() as other:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            connection.connect(other.getpeername())
            connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            connection.recv(1)
            time.sleep(0.3)
            assert end_of(connection).count(b'"label"') == many
        time.sleep(3.2)
        assert server.metric('edgedistill_connections_refused{reason="stalled"}') == 0
        assert "callback" not in server.log.read_text()


def test_slow_clients_take_nothing_from_the_others(start, bundle):
    # The server would wait longer for them than the others would wait for the server.
    with (
        start(str(bundle.folder), "--header-seconds", "100", "--body-seconds", "100") as server,
        ExitStack() as stack,
    ):
        for number in range(200):
            connection = stack.enter_context(server.connect())
            connection.sendall(HEAD if number % 2 else HEAD + b"Content-Length: 99\r\n\r\n{")
        answers = [server.client.post("/v1/score", json={"response": f"great {n}"}) for n in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert server.metric("edgedistill_connections ") > 200


def cost_of_answers(server) -> float:
    """Return the processor time, in seconds, that the server needs for 20 answers to somebody new."""

    def used() -> float:
        threads = Path(f"/proc/{server.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    before = used()
    with server.new_client() as newcomer:
        for number in range(20):
            assert newcomer.post("/v1/score", json={"response": f"why {number}"}).status_code == 200
    return used() - before


def test_ten_thousand_idle_connections_do_not_stop_the_others(start, bundle):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > MANY + 500 or hard == resource.RLIM_INFINITY, f"this test opens {MANY} files, {hard} are allowed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (MANY + 500, hard))
    try:
        with start(str(bundle.folder), "--header-seconds", "100", cwd=None) as server, ExitStack() as stack:
            alone = min(cost_of_answers(server) for _ in range(3))
            for _ in range(MANY):
                stack.enter_context(server.connect())
            until = time.monotonic() + 60
            while server.metric("edgedistill_connections ") <= MANY:  # the last of them wait to be accepted
                assert time.monotonic() < until
                time.sleep(0.1)
            assert_costs_at_most(lambda: cost_of_answers(server), (5, lambda: alone))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_beyond_the_limit_the_longest_idle_connection_is_closed(start, bundle):
    with start(str(bundle.folder), "--max-connections", "5") as server, ExitStack() as stack:
        server.client.close()
        oldest, *_ = [stack.enter_context(server.connect()) for _ in range(8)]
        assert end_of(oldest) == b""
        with server.new_client() as newcomer:
            assert newcomer.post("/v1/score", json={"response": "x"}).status_code == 200


def open_ones(connections: list[socket.socket]) -> list[socket.socket]:
    """Return those that the server has not closed."""

    def is_open(connection: socket.socket) -> bool:
        connection.setblocking(False)
        try:
            return connection.recv(1) != b""
        except BlockingIOError:
            return True
        except ConnectionError:
            return False

    return [connection for connection in connections if is_open(connection)]


def test_many_connections_that_come_at_once_do_not_pass_the_limit(start, bundle):
    with start(str(bundle.folder), "--max-connections", "10") as server, ExitStack() as stack:
        server.client.close()
        connections = [stack.enter_context(server.connect()) for _ in range(10)]
        time.sleep(0.3)
        server.process.send_signal(signal.SIGSTOP)  # the server finds all that come until it goes on
        connections += [stack.enter_context(server.connect()) for _ in range(300)]
        server.process.send_signal(signal.SIGCONT)
        until = time.monotonic() + 60
        while len(left := open_ones(connections)) > 10:
            assert time.monotonic() < until, f"{len(left)} connections are open"
            time.sleep(0.1)
        assert left == connections[-10:]
        with server.new_client() as newcomer:
            assert "edgedistill_connections 10.0" in newcomer.get("/metrics").text.splitlines()


def test_where_every_connection_has_a_request_the_next_is_a_503(start, bundle):
    with start(str(bundle.folder), "--max-connections", "3") as server, ExitStack() as stack:
        server.client.close()
        for _ in range(3):
            stack.enter_context(server.connect()).sendall(HEAD + b"Content-Length: 9\r\n\r\n")
        time.sleep(0.3)
        with server.connect() as refused:
            assert error_status(end_of(refused)) == 503
