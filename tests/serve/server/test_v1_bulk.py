"""Bulk requests: one line in, one line out, in order, in constant memory."""

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from edgedistill_serve import Scorer


@pytest.fixture(scope="module")
def server(start, bundle):
    limits = ("--queue", "20", "--max-items", "10", "--bulk-rows", "8", "--max-body-bytes", "20000")
    with start(str(bundle.folder), *limits, "--stall-seconds", "30") as server:
        yield server


def lines(*given: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in given)


def bulk(server, content, **settings) -> list[dict]:
    response = server.client.post("/v1/score/bulk", content=content, **settings)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def test_every_line_is_answered_in_order_with_the_score_it_has_alone(server, bundle):
    texts = [f"great job {number}" for number in range(300)]
    expected = [msgspec.to_builtins(score) for score in Scorer(bundle).score(texts)]
    assert bulk(server, lines(*texts[:150], *({"response": text} for text in texts[150:]))) == expected


def test_the_model_is_named_in_the_address_and_in_the_answer(server, bundle):
    response = server.client.post("/v1/score/bulk?model=praise", content=b'"x"')
    assert response.headers["X-Model"] == f"praise@{bundle.manifest.version}"
    assert server.client.post("/v1/score/bulk?model=other", content=b'"x"').status_code == 404


def test_a_bad_row_is_an_error_in_its_place(server):
    content = b'"x"\nhello\n{"question": "y"}\n"\xff"\n' + b'"' + 30_000 * b"x" + b'"\n' + b'"poisonous"\n5\n"x"\n'
    first, *bad, last = bulk(server, content)
    assert first == last
    assert [set(row) for row in bad] == 6 * [{"error"}]
    expected_errors = [
        "not valid JSON",
        "'response' is missing",
        "not valid UTF-8",
        "longer than 20000 bytes",
        "the model failed",
        "a response must be",
    ]
    assert all(part in row["error"] for part, row in zip(expected_errors, bad, strict=True))


def test_no_line_gives_no_line_and_blank_ones_are_left_out(server):
    assert bulk(server, b"") == []
    assert len(bulk(server, b'\n\n"x"\n   \n"y"')) == 2


def test_a_row_that_finds_the_queue_full_waits(start, bundle):
    with start(str(bundle.folder), "--queue", "2", "--max-items", "1", "--bulk-rows", "50") as server:
        found = bulk(server, lines(*(f"so smart {number}" for number in range(60))))
    assert len(found) == 60
    assert all("label" in row for row in found)


def test_answers_come_while_the_rows_are_still_being_sent(server):
    answered = threading.Event()

    def rows() -> Iterator[bytes]:
        yield lines("the first")
        assert answered.wait(60)
        yield lines("the second")

    with socket.create_connection(server.url.removeprefix("http://").split(":"), timeout=60) as client:
        client.sendall(b"POST /v1/score/bulk HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in rows():
            client.sendall(b"%x\r\n%s\r\n" % (len(part), part))
            received = b""
            while b"label" not in received:
                received += client.recv(4096)
            answered.set()


def test_a_client_that_does_not_read_is_not_read_from(server):
    line = lines("hard work " * 100)
    with server.connect() as client:
        client.sendall(b"POST /v1/score/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        client.settimeout(3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100_000_000:
                sent += client.send(1000 * line)
        assert sent < 100_000_000
        assert server.metric("edgedistill_queue_taken") <= 8
        assert server.client.get("/livez").status_code == 200


def test_the_rows_of_a_disconnected_client_are_removed(start, bundle):
    with start(str(bundle.folder), "--bulk-rows", "64", "--threads", "1") as server:
        with server.connect() as client:
            client.sendall(b"POST /v1/score/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
            client.sendall(lines(*(f"{number} {'why because ' * 20_000}" for number in range(12))))
            while not server.metric("edgedistill_queue_waiting") > 3:
                time.sleep(0.005)
        until = time.monotonic() + 60
        while server.metric("edgedistill_queue_taken") > 1:
            assert time.monotonic() < until
        assert server.metric('edgedistill_scores_total{decision="review"') < 12


def test_memory_is_constant_for_long_requests(start, bundle, tmp_path):
    # curl sends and reads at the same time, as a client of bulk must.
    block = lines(*(f"worked hard {number}" for number in range(2000)))

    def peak_after(server, blocks: int) -> int:
        with (tmp_path / "in").open("wb") as file:
            for _ in range(blocks):
                file.write(block)
        command = [
            "curl",
            "-sS",
            "-T",
            tmp_path / "in",
            "-X",
            "POST",
            "-o",
            tmp_path / "out",
            f"{server.url}/v1/score/bulk",
        ]
        subprocess.run(command, check=True, timeout=120)
        assert (tmp_path / "out").read_bytes().count(b"\n") == 2000 * blocks
        return resident(server.process.pid)

    with start(str(bundle.folder)) as server:
        before = peak_after(server, 2)
        assert peak_after(server, 12) - before < 8_000_000


def resident(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_a_line_that_arrives_too_slowly_is_an_error(start, bundle):
    with start(str(bundle.folder), "--body-seconds", "1") as server, server.connect() as client:
        client.sendall(b"POST /v1/score/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        client.sendall(b'"x"\n"')
        received = b""
        until = time.monotonic() + 60
        while b"did not arrive in 1 s" not in received:
            assert time.monotonic() < until
            client.sendall(b"y")
            time.sleep(0.2)
            received += client.recv(4096) if received or time.monotonic() > until - 59.5 else b""
        assert b'"label"' in received
        assert b'"ended":true' in received


def test_a_draining_server_ends_the_stream_with_an_error_line(start, bundle):
    def rows() -> Iterator[bytes]:
        for number in range(10_000):
            time.sleep(0.02)
            yield lines(f"job {number}")
            if number == 20:
                server.process.terminate()

    with start(str(bundle.folder)) as server:
        response = httpx.post(f"{server.url}/v1/score/bulk", content=rows(), timeout=60)
        *scored, last = [json.loads(line) for line in response.text.splitlines()]
        assert server.process.wait(60) == 0
    assert len(scored) >= 20
    assert all("label" in row for row in scored)
    assert "draining; this row and those after it were not scored" in last["error"]
    assert last["ended"] is True


def test_a_server_that_drains_does_not_wait_for_a_client_that_sends_nothing(start, bundle):
    row = lines("the first")
    with start(str(bundle.folder)) as server, server.connect() as client:
        client.sendall(b"POST /v1/score/bulk HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"%x\r\n%s\r\n" % (len(row), row))
        received = b""
        while b"label" not in received:
            received += client.recv(4096)
        server.process.terminate()
        client.settimeout(60)
        while part := client.recv(4096):
            received += part
        assert server.process.wait(60) == 0
    assert b"the server is draining; this row and those after it were not scored" in received
    assert received.endswith(b"0\r\n\r\n")


def test_a_server_that_drains_scores_the_rows_that_it_took(start, bundle):
    texts = [f"{number} {'why because ' * 20_000}" for number in range(12)]
    with start(str(bundle.folder), "--threads", "1") as server, server.connect() as client:
        client.sendall(b"POST /v1/score/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        client.sendall(lines(*texts))
        while server.metric("edgedistill_queue_taken") + server.metric("edgedistill_scores_total") < 12:
            time.sleep(0.005)
        server.process.terminate()
        client.settimeout(30)
        received = b""
        while part := client.recv(65536):
            received += part
    assert received.count(b'"label"') == 12
    assert received.count(b'"ended":true') == 1


@pytest.mark.parametrize("path", ["/v1/score/bulk", "/v1/score", "/v1/explain", "/predict"])
def test_a_client_that_expects_continue_gets_it_before_the_answer(server, path):
    """A final status in its place means that the body is not wanted: Java and Node then wait for ever."""
    body = b'{"inputs": "x"}' if path == "/predict" else b'{"response": "x"}'
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode())
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(body)
        while b'"label"' not in answer:
            answer += connection.recv(10_000)
    assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in answer
