"""The timers of one connection, on an event loop with simulated time: each is stopped before another one is set."""

import asyncio
from contextlib import suppress

import pytest

from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.transport.http11 import Connection, Connections

LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Clock(asyncio.SelectorEventLoop):
    """An event loop with simulated time."""

    moved = 0.0

    def time(self):
        """Return the seconds that it is."""
        return super().time() + self.moved


class Wire(asyncio.Transport):
    """A transport whose client reads nothing; writers are paused, as by asyncio."""

    def __init__(self, connection):
        super().__init__()
        self._connection = connection
        self._closing = False
        self.aborted = 0

    def write(self, data):
        """Take bytes, and keep them."""
        self._connection.pause_writing()

    def close(self):
        """Close, once what was written is read."""
        self._closing = True

    def abort(self):
        """Close at once."""
        self._closing = True
        self.aborted += 1

    def is_closing(self):
        """Whether it takes no more."""
        return self._closing

    def pause_reading(self):
        """Read no more."""

    def resume_reading(self):
        """Read again."""


async def answer(scope, receive, send):
    """Answer one path, and be cancelled in silence on another."""
    if scope["path"] == "/slow":
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def pass_seconds(seconds):
    asyncio.get_running_loop().moved += seconds
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
def connections():
    return Connections(answer, Limits(stall_seconds=60, header_seconds=10), max_connections=10)


@pytest.fixture
def play(connections):
    """Let a script play with a new connection."""

    async def run(script):
        connection = Connection(connections)
        wire = Wire(connection)
        connection.connection_made(wire)
        await script(connection, wire)

    def play(script):
        with asyncio.Runner(loop_factory=Clock) as runner:
            runner.run(run(script))

    return play


def test_a_client_that_reads_the_end_of_its_last_answer_was_not_stalled(play, connections):
    async def script(connection, wire):
        connection.data_received(LAST)
        await pass_seconds(1)
        assert wire.is_closing()
        connection.resume_writing()
        connection.connection_lost(None)
        await pass_seconds(100)
        assert wire.aborted == 0

    play(script)
    assert connections.refused == {}


def test_a_client_that_pauses_twice_is_counted_once(play, connections):
    async def script(connection, wire):
        connection.pause_writing()
        connection.pause_writing()
        await pass_seconds(100)

    play(script)
    assert connections.refused["stalled"] == 1


def test_a_client_that_stops_right_before_the_end_of_its_last_answer_does_not_stay(play):
    async def script(connection, wire):
        connection.data_received(LAST)
        await pass_seconds(1)
        connection.resume_writing()
        await pass_seconds(6)
        assert wire.aborted == 1

    play(script)


def test_no_clock_is_set_for_a_client_that_has_gone(play, connections):
    async def script(connection, wire):
        connection.data_received(SLOW + SLOW)
        await pass_seconds(1)
        wire.close()
        connection.connection_lost(None)
        await pass_seconds(1)
        await pass_seconds(100)
        assert wire.aborted == 0

    play(script)
    assert connections.refused == {}
