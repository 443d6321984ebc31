"""Reading the body of a request: whole, up to a limit; or line by line, for bulk. Both in a stated time and memory.

BodyMemory       the memory that the bodies of all requests have together
BodyAllocation      what one of them has of it
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from edgedistill_serve.errors import QueueFull, RequestTooLarge, TooSlow

_DISCARDED = 8
"""A body that is too large is read to its end and forgotten, up to so many times the limit: a client that is still
sending would not read the answer."""


_FREE = 16 * 1024
"""So many bytes of every body are not counted: whoever sends long ones slowly holds up nobody with a short one."""


class BodyMemory:
    """The memory that the bodies of all requests have together; used by one event loop.

    Args:
        limit: Bytes.

    Attributes:
        limit: The same.
        held: Bytes of bodies that are in memory now, without the first 16 KiB of each.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def share(self) -> "BodyAllocation":
        """Return a share of it for what is read in this task; when the task ends, it is given back."""
        share = BodyAllocation(self)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in one
        task.add_done_callback(lambda _: share.give_back())
        return share


class BodyAllocation:
    """What one body has of a room.

    Args:
        room: Of all bodies.
    """

    def __init__(self, room: BodyMemory) -> None:
        self._room = room
        self._size = 0

    def grow(self, size: int) -> bool:
        """Take room for so many more bytes, and return whether there was any."""
        wanted = max(0, self._size + size - _FREE) - self._counted
        if self._room.held + wanted > self._room.limit:
            return False
        self._room.held += wanted
        self._size += size
        return True

    def give_back(self) -> None:
        """Give back all of it."""
        self._room.held -= self._counted
        self._size = 0

    @property
    def _counted(self) -> int:
        return max(0, self._size - _FREE)


async def read_body(request: Request, *, room: BodyMemory, limit: int, seconds: float) -> bytes:
    """Read a body; the room that it takes is given back when the task that reads it ends.

    Args:
        request: Its body was not read yet.
        room: Where it is kept.
        limit: The most bytes.
        seconds: The time for all of it.

    Raises:
        RequestTooLarge: It has more bytes.
        QueueFull: There is no room for it.
        TooSlow: It takes longer.
        ClientDisconnect: The client has gone.
    """
    body = bytearray()
    share = room.share()
    received, is_kept = 0, True
    try:
        async with asyncio.timeout(seconds):
            more = True
            while more and received <= _DISCARDED * limit:
                chunk, more = await _part(request.receive)
                received += len(chunk)
                is_kept = is_kept and received <= limit and share.grow(len(chunk))
                if is_kept:
                    body += chunk
                else:
                    body.clear()
                    share.give_back()
    except TimeoutError:
        raise TooSlow(f"the body did not arrive in {seconds:g} s", hint="Send it faster.") from None
    if received > limit:
        raise RequestTooLarge(f"the body is longer than {limit} bytes", hint="Send it in several requests.")
    if not is_kept:
        raise _no_room()
    return bytes(body)


async def read_lines(
    receive: Receive, *, room: BodyMemory, limit: int, seconds: float
) -> AsyncIterator[bytes | RequestTooLarge | QueueFull]:
    r"""Read a body line by line; no more of it is read than the lines that were asked for need.

    Args:
        receive: Gives the body's parts, as ASGI does.
        room: Where a line is kept until it is complete.
        limit: The longest line, in bytes.
        seconds: The time for each line.

    Yields:
        Lines without their ``\n``; blank ones are left out. In the place of a line that is too long, or for which there
        is no room, stands the error, and the line is forgotten.

    Raises:
        TooSlow: A line takes longer.
        ClientDisconnect: The client has gone.
    """
    line = _Line(room.share(), limit)
    more, left = True, seconds
    clock = asyncio.get_running_loop().time
    while more:
        began = clock()
        chunk, more = await _timely_part(receive, left, seconds)
        left -= clock() - began
        first, *others = chunk.split(b"\n")
        line.add(first)
        for following in others:
            left = seconds
            if (ended := line.end()) is not None:
                yield ended
            line.add(following)
    if (ended := line.end()) is not None:
        yield ended


class _Line:
    """The line that is being read; of one that is not kept, only the error."""

    def __init__(self, share: BodyAllocation, limit: int) -> None:
        self._share = share
        self._limit = limit
        self._text = bytearray()
        self._fault: RequestTooLarge | QueueFull | None = None

    def add(self, part: bytes) -> None:
        if self._fault is None and len(self._text) + len(part) > self._limit:
            self._fault = RequestTooLarge(f"the line is longer than {self._limit} bytes")
        if self._fault is None and not self._share.grow(len(part)):
            self._fault = _no_room()
        if self._fault is None:
            self._text += part
        else:
            self._forget()

    def end(self) -> bytes | RequestTooLarge | QueueFull | None:
        """Return the line, or its error, or None where it is blank; and begin the next."""
        ended = self._fault or (bytes(self._text) if self._text.strip() else None)
        self._fault = None
        self._forget()
        return ended

    def _forget(self) -> None:
        self._text.clear()
        self._share.give_back()


def _no_room() -> QueueFull:
    return QueueFull("the bodies of other requests take all the memory that there is for them", hint="Try again later.")


async def _timely_part(receive: Receive, left: float, seconds: float) -> tuple[bytes, bool]:
    try:
        async with asyncio.timeout(left):
            return await _part(receive)
    except TimeoutError:
        raise TooSlow(f"the next line did not arrive in {seconds:g} s", hint="Send it faster.") from None


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)
