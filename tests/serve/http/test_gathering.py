"""What is written in one turn of the event loop leaves in one piece, in order, and before the connection closes."""

import asyncio

from edgedistill_serve.http.gathering import Gathered


class Wire(asyncio.Transport):
    """Remembers what it is given."""

    def __init__(self):
        super().__init__()
        self.seen, self.closed = [], False

    def write(self, data):
        """Take bytes."""
        self.seen.append(data)

    def close(self):
        """End."""
        self.closed = True

    def abort(self):
        """End at once."""
        self.closed = True

    def is_closing(self):
        """Whether it has ended."""
        return self.closed


def played(play):
    """Let a script write on a connection, and return what the wire saw in the end."""

    async def run():
        wire = Wire()
        await play(Gathered(wire, asyncio.get_running_loop()))
        await asyncio.sleep(0)
        return wire

    return asyncio.run(run())


def test_a_head_and_its_body_leave_together():
    async def play(connection):
        connection.write(b"head ")
        connection.write(b"body")

    assert played(play).seen == [b"head body"]


def test_what_is_written_in_another_turn_leaves_after_it():
    async def play(connection):
        connection.write(b"first")
        await asyncio.sleep(0)
        connection.write(b"second")

    assert played(play).seen == [b"first", b"second"]


def test_what_was_written_leaves_before_the_connection_closes():
    async def play(connection):
        connection.write(b"the end")
        connection.close()

    wire = played(play)
    assert (wire.seen, wire.closed) == ([b"the end"], True)


def test_nothing_leaves_after_a_connection_was_cut():
    async def play(connection):
        connection.write(b"too late")
        connection.abort()

    assert played(play).seen == []
