"""Invalid bodies, floods of requests and disconnecting clients: each is handled, and the server keeps running."""

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest

from edgedistill_serve import Scorer

POSTS = ("/v1/score", "/v1/score/bulk", "/v1/explain", "/predict", "/v2/models/praise/infer")
DEEP = b"[" * 100_000
BODIES = {
    "nothing": b"",
    "deep": DEEP,
    "deep in a field": b'{"response": ' + DEEP,
    "NaN": b'{"response": NaN}',
    "infinite": b'{"responses": [1e999]}',
    "not valid UTF-8": b'{"response": "\xff\xfe"}',
    "half a surrogate pair": b'{"response": "\\ud800"}',
    "two byte order marks": 2 * b"\xef\xbb\xbf" + b'{"response": "x"}',
    "UTF-16": '{"response": "x"}'.encode("utf-16"),
    "a NUL": b'{"response": "\x00"}',
    "a number of many digits": b'{"response": ' + 100_000 * b"9" + b"}",
    "one name twice": b'{"responses": [], "responses": 5}',
    "one name twice, the same": b'{"response": "x:y", "response": "x:y"}',
    "one name twice, escaped": b'{"response": "x", "r\\u0065sponse": "x"}',
    "one name twice, deep": b'{"response": "x", "responses": [{"a": {"b": 1, "b": 1}}]}',
}


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder)) as server:
        yield server


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_wrong_is_the_clients_error_and_never_the_servers(server, path, body):
    response = server.client.post(path, content=body)
    if path.endswith("bulk"):
        assert response.status_code == 200
        assert all("error" in json.loads(line) for line in response.text.splitlines())
    else:
        assert response.status_code in (400, 422)


@pytest.mark.parametrize("path", POSTS)
def test_a_hundred_megabytes_are_refused_without_being_kept(server, path):
    piece = 1_000_000 * b"x"
    response = server.client.post(path, content=(piece for _ in range(30 if path.endswith("bulk") else 100)))
    if path.endswith("bulk"):
        (line,) = response.text.splitlines()
        assert "longer than 4194304 bytes" in line
    else:
        assert response.status_code == 413
    assert server.metric("process_resident_memory_bytes") < 400_000_000


def test_a_thousand_items_are_one_request(server, bundle):
    texts = [f"great job {number % 700}" for number in range(1000)]
    found = server.client.post("/v1/score", json={"responses": texts}).json()["scores"]
    assert found == msgspec.to_builtins(Scorer(bundle).score(texts))


def test_one_text_of_a_hundred_thousand_characters_changes_none_of_the_short_ones(server, bundle):
    texts = ["great job", "why because " * 8334, "so smart"]
    found = server.client.post("/v1/score", json={"responses": texts}).json()["scores"]
    assert found == msgspec.to_builtins(Scorer(bundle).score(texts))
    assert found[1]["reason"] == "truncated"


def test_a_text_with_too_many_characters_is_refused_with_its_location(start, bundle):
    long = 51 * "a"
    with start(str(bundle.folder), "--max-text", "50") as server:
        infer = {"inputs": [{"name": "response", "shape": [1], "datatype": "BYTES", "data": [long]}]}
        for path, content in {
            "/v1/score": {"responses": ["x", long]},
            "/v1/explain": {"response": long},
            "/predict": {"inputs": long, "truncate": True},
            "/v2/models/praise/infer": infer,
        }.items():
            refused = server.client.post(path, json=content)
            assert refused.status_code == 413
            assert "the input 'response' has 51 characters, the limit is 50" in refused.text
            assert ("responses[1]" in refused.text) == (path == "/v1/score")
        taken, refused = server.client.post("/v1/score/bulk", content=f'"{long[1:]}"\n"{long}"\n').text.splitlines()
        assert "label" in json.loads(taken)
        assert "51 characters, the limit is 50" in json.loads(refused)["error"]


def test_a_flood_of_requests_gets_retry_after_and_leaves_nothing_behind(start, bundle):
    with start(str(bundle.folder), "--queue", "30", "--max-items", "10") as server:
        statuses = set()

        def flood(caller: int) -> None:
            with server.new_client() as client:
                until = time.monotonic() + 60
                while time.monotonic() < until and statuses != {200, 429}:
                    texts = [f"{caller} {time.monotonic_ns()} {'why ' * 300} {number}" for number in range(10)]
                    response = client.post("/v1/score", json={"responses": texts})
                    statuses.add(response.status_code)
                    assert response.status_code == 200 or int(response.headers["Retry-After"]) >= 1

        with ThreadPoolExecutor(16) as callers:
            list(callers.map(flood, range(16)))
        assert statuses == {200, 429}
        assert server.metric("edgedistill_queue_waiting") == 0
        assert server.client.post("/v1/score", json={"responses": [f"so {n}" for n in range(10)]}).status_code == 200


def test_a_request_that_is_not_scored_in_time_is_a_503(start, bundle):
    with (
        start(str(bundle.folder), "--answer-seconds", "0.2", "--threads", "1") as server,
        ThreadPoolExecutor(8) as callers,
    ):
        texts = [[f"{caller} {number} {'why because ' * 20_000}" for number in range(8)] for caller in range(8)]
        answers = list(
            callers.map(lambda each: httpx.post(f"{server.url}/v1/score", json={"responses": each}, timeout=60), texts)
        )
        late = [answer for answer in answers if answer.status_code == 503]
        assert late
        assert all("Retry-After" in answer.headers for answer in late)
        assert server.client.post("/v1/score", json={"response": "x"}).status_code == 200


def test_the_request_of_a_disconnected_client_leaves_the_queue(start, bundle):
    with start(str(bundle.folder), "--threads", "1") as server:
        texts = [f"{number} {'why because ' * 20_000}" for number in range(16)]
        with server.connect() as client:
            body = json.dumps({"responses": texts}).encode()
            client.sendall(
                b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            while not server.metric("edgedistill_queue_waiting") > 3:
                time.sleep(0.005)
        until = time.monotonic() + 60
        while server.metric("edgedistill_queue_taken") > 1 or "POST /v1/score 499" not in server.log.read_text():
            assert time.monotonic() < until


def test_sigterm_during_requests_of_every_protocol_loses_nothing(start, bundle):
    asked = {
        "/v1/score": {"response": "great job"},
        "/predict": {"inputs": "great job"},
        "/v2/models/praise/infer": {
            "inputs": [{"name": "response", "shape": [1], "datatype": "BYTES", "data": ["great job"]}]
        },
    }
    begun = threading.Barrier(4)

    def ask(path: str) -> list[int]:
        statuses = []
        with server.new_client() as client:
            while not statuses or statuses[-1] == 200:
                statuses.append(client.post(path, json=asked[path]).status_code)
                if len(statuses) == 1:
                    begun.wait(60)
        return statuses

    with start(str(bundle.folder)) as server, ThreadPoolExecutor(3) as callers:
        asking = [callers.submit(ask, path) for path in asked]
        begun.wait(60)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        for future in asking:
            *scored, last = future.result(30)
            assert set(scored) == {200}
            assert last == 503
        assert server.process.wait(30) == 0
