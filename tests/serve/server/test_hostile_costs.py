"""Cost of hostile input: for every endpoint, processor time and memory grow at most linearly with its bytes.

Each input is generated with 1 and 8 times as many bytes. Times are processor times of this process, and compared with
one another and with a loop of Python, so that neither the load nor the speed of the machine matters.
`benchmarks/serve_hostile.py` measures the same inputs on a real server.
"""

import asyncio
import gc
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from math import inf
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.middleware.api_keys import KeyAccess, create_key
from edgedistill_serve.server.service import Service
from edgedistill_serve.server.transport.http11 import Connection, Connections
from edgedistill_serve.task.redaction import Redaction

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from hostile_inputs import BODIES, BULK, ENDPOINTS, STREAMS, TEXTS, request

from ...growth import assert_costs_at_most, loop_seconds

BYTES = 8_000
"""Size of the smallest input."""
GROWTH = 20
"""What 8 times as many bytes may cost, in costs of the smallest input, whose fixed part grows with nothing: 8 is
linear, 64 is quadratic."""
STEPS_PER_BYTE = 800
"""Limit of processor time, in steps of an empty Python loop, each of about 5 ns. Bulk lines are requests of their own,
and have a limit for each line."""
STEPS_PER_LINE = 80_000
STEPS_PER_TURN = 30_000_000
"""The event loop answers others at least this often, in processor time of its thread."""
KEPT_BYTES = 150_000
"""Memory that one connection can make the server keep, beyond the limit of bodies."""
MEMORY_PER_BYTE = 50


class Client:
    """One connection to the application, without a socket: reading pauses as asyncio pauses it."""

    def __init__(self, app) -> None:
        self.connections = Connections(app, Limits(), max_connections=10)
        self.connection = Connection(self.connections)
        self.transport = Mock(spec=asyncio.Transport)
        self.transport.is_closing.side_effect = lambda: self.is_closed
        self.transport.can_write_eof.return_value = True
        self.transport.get_extra_info.return_value = None
        for name in ("close", "abort"):
            getattr(self.transport, name).side_effect = self._close
        self.transport.pause_reading.side_effect = lambda: self._set_reading(False)
        self.transport.resume_reading.side_effect = lambda: self._set_reading(True)
        self.is_closed, self.is_reading = False, True
        self.longest = 0.0
        self.connection.connection_made(self.transport)

    def _close(self) -> None:
        self.is_closed = True

    def _set_reading(self, is_reading) -> None:
        self.is_reading = is_reading

    async def send(self, content: bytes) -> None:
        """Send bytes as fast as the server reads them, until it has answered or closes."""
        loop = asyncio.get_running_loop()
        ticking = loop.create_task(self._tick())
        for start in range(0, len(content), 32_768):
            while not self.is_reading and not self.is_closed:  # noqa: ASYNC110  # as asyncio reads
                await asyncio.sleep(0)
            if self.is_closed:
                break
            self.connection.data_received(content[start : start + 32_768])
            self.transport.reset_mock()
            await asyncio.sleep(0)
        # An unfinished request waits for its rest: the end is when nothing is computed any more.
        idle, used = 0, time.process_time()
        while self.connections.running and not self.is_closed and idle < 20:
            await asyncio.sleep(0.002)
            idle, used = (idle + 1 if time.process_time() - used < 0.001 else 0), time.process_time()
        ticking.cancel()

    async def _tick(self) -> None:
        """Measure the processor time of this thread between two turns of this task."""
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest, before = max(self.longest, now - before), now

    def end(self) -> None:
        """Disconnect."""
        self.connection.connection_lost(None)


@pytest.fixture(scope="module", autouse=True)
def _little_garbage_to_look_for():
    """Each measurement looks for garbage first, which must not take longer for what other files have left."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def scorer(bundle):
    task = msgspec.structs.replace(bundle.manifest.task, redact=Redaction())
    return Scorer(replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, task=task)), score_cache=0)


def cost(scorer, content: bytes, *, access=None) -> tuple[float, float]:
    """Return the processor time of one exchange, and of its longest turn on the event loop, both in seconds."""

    async def run() -> tuple[float, float]:
        service = Service(Limits(), threads=1)
        service.open([scorer])
        client = Client(create_app(service, access=access))
        before = time.process_time()
        async with asyncio.timeout(300):
            await client.send(content)
        used = time.process_time() - before
        client.end()
        service.close()
        return used, client.longest

    gc.collect()
    return asyncio.run(run())


def check_costs(exchange, *, steps_per_byte: float = STEPS_PER_BYTE, steps_per_turn: float = inf) -> None:
    """Check that 8 times as many bytes cost at most about 8 times as much, little a byte, and no long turn.

    Args:
        exchange: Returns the costs of an input with so many times as many bytes, as `cost` does.
        steps_per_byte: Limit.
        steps_per_turn: Limit.
    """
    turns = []

    def long_one():
        used, turn = exchange(8)
        turns.append(turn)
        return used

    steps, times = 100_000, 8 * BYTES * steps_per_byte / 100_000
    exchange(1)
    assert_costs_at_most(long_one, (GROWTH, lambda: exchange(1)[0]), (times, lambda: loop_seconds(steps)), repeats=2)
    assert_costs_at_most(
        lambda: turns.pop() if turns else exchange(8)[1], (steps_per_turn / steps, lambda: loop_seconds(steps))
    )


def endpoints(name: str) -> list[str]:
    """Return the endpoints for a body: one for those that differ only in their text, which all of them read alike."""
    possible = [path for path in ENDPOINTS[:4] if BODIES[name](path, 1000) is not None]
    return possible[:1] if name in TEXTS else possible


@pytest.mark.parametrize(("name", "path"), [(name, path) for name in BODIES for path in endpoints(name)])
def test_bodies_cost_at_most_linear_time(scorer, name, path):
    check_costs(
        lambda step: cost(scorer, request(path, BODIES[name](path, step * BYTES))), steps_per_turn=STEPS_PER_TURN
    )


@pytest.mark.parametrize("name", BULK)
def test_bulk_lines_cost_at_most_linear_time(scorer, name):
    lines = sum(bool(line.strip()) for line in BULK[name](BYTES).split(b"\n"))
    check_costs(
        lambda step: cost(scorer, request("/v1/score/bulk", BULK[name](step * BYTES // 8))),
        steps_per_byte=STEPS_PER_BYTE + STEPS_PER_LINE * lines / (8 * BYTES),
        steps_per_turn=STEPS_PER_TURN,
    )


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("has_key", [True, False])
def test_streams_cost_at_most_linear_time_and_keep_little_memory(scorer, name, has_key):
    """Heads, trailers, chunks and pipelined requests, with and without a key."""
    access = None if has_key else KeyAccess((create_key("one").entry,))
    check_costs(lambda step: cost(scorer, STREAMS[name](step * BYTES), access=access), steps_per_byte=4000)


@pytest.mark.parametrize("name", STREAMS)
def test_streams_make_a_connection_keep_little_memory(scorer, name):
    content = STREAMS[name](1_000_000)

    async def run() -> int:
        service = Service(Limits(), threads=1)
        service.open([scorer])
        client = Client(create_app(service))
        client.connection.all.app = never
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, len(content), 32_768):
            if not client.is_reading or client.is_closed:
                break
            client.connection.data_received(content[start : start + 32_768])
            client.transport.reset_mock()
            await asyncio.sleep(0)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        client.end()
        service.close()
        return kept

    async def never(scope, receive, send):
        """Answer nothing, so that everything that can wait does."""
        await asyncio.sleep(1000)

    assert asyncio.run(run()) < KEPT_BYTES


@pytest.mark.parametrize("name", [name for name in BODIES if name not in TEXTS and BODIES[name]("/v1/score", 1)])
def test_a_body_takes_memory_in_proportion_to_its_bytes(scorer, name):
    content = request("/v1/score", BODIES[name]("/v1/score", 100_000))
    cost(scorer, content)
    tracemalloc.start()
    cost(scorer, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000 + MEMORY_PER_BYTE * len(content)


@pytest.mark.parametrize("name", ["deep lists", "phone numbers", "escapes", "colons"])
def test_others_are_answered_while_a_long_body_is_parsed(start, bundle, name):
    """Whoever asks after the long body was sent is answered before it."""
    body = BODIES[name]("/v1/score", 2_000_000)
    with start(str(bundle.folder)) as server, server.connect() as connection, server.new_client() as other:
        connection.sendall(request("/v1/score", body))
        alive = [other.get("/livez").status_code for _ in range(3)]
        assert alive == [200, 200, 200]
        assert connection.recv(100).startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/score", b'{"response": "%b"}'),
        ("/v1/explain", b'{"response": "x", "question": "%b"}'),
        ("/predict", b'{"inputs": "%b", "truncate": true}'),
        ("/v1/score/bulk", b'"%b"\n"x"'),
    ],
)
def test_long_texts_are_read_and_redacted_in_another_thread(scorer, monkeypatch, path, body):
    """A rule of redaction may take long; the event loop does not wait for it."""
    threads = {}
    read = Scorer.read_inputs

    def watched(self, response):
        text = response if isinstance(response, str) else "".join(response.values())
        threads[len(text) > 9000] = threading.current_thread().name
        return read(self, response)

    monkeypatch.setattr(Scorer, "read_inputs", watched)
    cost(scorer, request(path, body % (9500 * b"a")))
    assert threads[True].startswith("parsing")
    assert threads.get(False, "MainThread") in ("MainThread", threads[True])
