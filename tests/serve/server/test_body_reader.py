"""The memory of all request bodies together is limited."""

import asyncio
import json
import time
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from edgedistill_serve.errors import QueueFull, RequestTooLarge
from edgedistill_serve.server.request.body_reader import BodyMemory, read_body, read_lines

FREE = 16 * 1024
LONG = 90_000
LIMITS = ("--max-body-bytes", "100000", "--body-memory", "200000")


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder), *LIMITS) as server:
        yield server


def parts(*chunks):
    """Chunks of a body as ASGI gives them, all but the last followed by more."""
    messages = iter([{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks])

    async def receive():
        return next(messages, {"type": "http.request", "body": b""})

    return receive


async def read(room, *chunks, limit=100_000):
    request = Request({"type": "http", "method": "POST", "headers": []}, parts(*chunks))
    return await read_body(request, memory=room, limit=limit, seconds=10)


async def lines_of(room, *chunks, limit=100_000):
    return [line async for line in read_lines(parts(*chunks), memory=room, limit=limit, seconds=10)]


def unfinished(server, path):
    """A connection that sent the most of a long body or line and waits."""
    client = server.connect()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LONG + 5}\r\n\r\n"
    client.sendall(head.encode() + b'"' + b"a" * LONG)
    return client


def until(condition):
    patience = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.02)


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/bulk"])
def test_unfinished_bodies_are_limited_and_do_not_block_short_ones(server, path):
    long, held = {"response": "a" * LONG}, lambda: server.metric("edgedistill_body_bytes")
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(unfinished(server, path))
        until(lambda: held() == 2 * (LONG + 1 - FREE))
        refused = server.client.post("/v1/score", json=long)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert "use all the memory" in refused.json()["detail"]
        assert server.client.post("/v1/score", json={"response": "great job"}).status_code == 200
        lines = [json.dumps(row) for row in ({"response": "great job"}, long, {"response": "so smart"})]
        scored, last = server.client.post("/v1/score/bulk", content="\n".join(lines)).text.splitlines()
        assert json.loads(scored)["tokens"] == 2
        assert "use all the memory" in json.loads(last)["error"]
        assert json.loads(last)["ended"]
    until(lambda: held() == 0)
    assert server.client.post("/v1/score", json=long).status_code == 200
    until(lambda: held() == 0)


def test_a_body_beyond_the_memory_limit_is_discarded_and_releases_its_memory():
    async def run():
        room = BodyMemory(50_000)
        with pytest.raises(QueueFull):
            await asyncio.create_task(read(room, 40_000 * b"a", 40_000 * b"a"))
        assert room.used == 0

    asyncio.run(run())


def test_a_body_keeps_its_memory_until_its_request_is_answered():
    async def run():
        room, was_read, answered = BodyMemory(50_000), asyncio.Event(), asyncio.Event()

        async def request():
            await read(room, 40_000 * b"a")
            was_read.set()
            await answered.wait()

        task = asyncio.create_task(request())
        await was_read.wait()
        assert room.used == 40_000 - FREE
        answered.set()
        await task
        await asyncio.sleep(0)
        assert room.used == 0

    asyncio.run(run())


CHUNKS = st.lists(
    st.sampled_from([b"", b"a", b"\n", b"bc\nd", 9_000 * b"e", 20_000 * b"f", b"\n\n", b" "]), max_size=20
)


@given(CHUNKS, st.sampled_from([1, 20_000, 100_000]), st.integers(1, 60_000))
def test_lines_equal_those_of_the_body_and_rejected_ones_are_errors(chunks, memory, limit):
    async def run():
        room = BodyMemory(memory)
        found = await asyncio.create_task(lines_of(room, *chunks, limit=limit))
        await asyncio.sleep(0)
        assert room.used == 0
        return found

    lines = [line for line in b"".join(chunks).split(b"\n") if line.strip() or len(line) > limit]
    for line, found in zip(lines, asyncio.run(run()), strict=True):
        if len(line) <= min(limit, memory + FREE):
            assert found == line
        else:
            # Of a line that is too long and finds no room, the parts that it comes in decide which is noticed first.
            expected = {RequestTooLarge} if len(line) > limit else set()
            expected |= {QueueFull} if limit > memory + FREE else set()
            assert type(found) in expected
