"""Reading of request bodies, complete or line by line, with limits on size, time and memory.

BodyMemory       the memory limit for the bodies of all requests
BodyAllocation   the part of it that one body uses
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from edgedistill_serve.errors import EncodingNotSupported, QueueFull, RequestTooLarge, TooSlow

_MAX_DISCARDED = 8
"""A body that is too large is read and discarded up to this multiple of the limit, because a client does not read the
answer while it sends."""
_UNCOUNTED_BYTES = 16 * 1024
"""These first bytes of a body do not count, so that slow and large bodies do not block small ones."""


class BodyMemory:
    """The memory limit for the bodies of all requests; for use in one event loop.

    Args:
        limit: The limit in bytes.

    Attributes:
        limit: The limit in bytes.
        used: Bytes of bodies in memory, not counting the first 16 KiB of each.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def allocate(self) -> "BodyAllocation":
        """Return an allocation for the current task; it is released when the task ends."""
        allocation = BodyAllocation(self)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # coroutines run in tasks
        task.add_done_callback(lambda _: allocation.release())
        return allocation


class BodyAllocation:
    """The memory of one body.

    Args:
        memory: The memory of all bodies.
    """

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._size = 0

    def grow(self, size: int) -> bool:
        """Allocate more bytes, and return whether the limit allows it."""
        additional = max(0, self._size + size - _UNCOUNTED_BYTES) - self._counted
        if self._memory.used + additional > self._memory.limit:
            return False
        self._memory.used += additional
        self._size += size
        return True

    def release(self) -> None:
        """Release all bytes."""
        self._memory.used -= self._counted
        self._size = 0

    @property
    def _counted(self) -> int:
        return max(0, self._size - _UNCOUNTED_BYTES)


def find_header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first value of a header, or None.

    Args:
        scope: The ASGI scope of a request.
        name: Name of the header in lower case.
    """
    for each, value in scope["headers"]:
        if each == name:
            found: bytes = value
            return found
    return None


def check_encoding(request: Request) -> None:
    """Check that a body is not compressed: a short one could become very long.

    Raises:
        EncodingNotSupported: It is.
    """
    if (find_header(request.scope, b"content-encoding") or b"identity").lower() != b"identity":
        raise EncodingNotSupported(
            "the body has a Content-Encoding", hint="Send it without compression and without this header."
        )


async def read_body(request: Request, *, memory: BodyMemory, limit: int, seconds: float) -> bytes:
    """Read a complete body. Its memory is released when the current task ends.

    Args:
        request: A request whose body was not read yet.
        memory: The memory of all bodies.
        limit: Largest number of bytes.
        seconds: Time for the complete body.

    Raises:
        EncodingNotSupported: The body is compressed.
        RequestTooLarge: The body has more bytes. If the client waits for permission to send it, it is not read.
        QueueFull: The memory of all bodies is used up.
        TooSlow: The body takes longer.
        ClientDisconnect: The client has disconnected.
    """
    check_encoding(request)
    if find_header(request.scope, b"expect") and int(find_header(request.scope, b"content-length") or 0) > limit:
        raise _length_error(limit)
    body = bytearray()
    allocation = memory.allocate()
    received, is_stored = 0, True
    try:
        async with asyncio.timeout(seconds):
            more = True
            while more and received <= _MAX_DISCARDED * limit:
                chunk, more = await _receive_part(request.receive)
                received += len(chunk)
                is_stored = is_stored and received <= limit and allocation.grow(len(chunk))
                if is_stored:
                    body += chunk
                else:
                    body.clear()
                    allocation.release()
    except TimeoutError:
        raise TooSlow(f"the body did not arrive in {seconds:g} s", hint="Send it faster.") from None
    if received > limit:
        raise _length_error(limit)
    if not is_stored:
        raise _memory_error()
    return bytes(body)


async def read_lines(
    receive: Receive, *, memory: BodyMemory, limit: int, seconds: float
) -> AsyncIterator[bytes | RequestTooLarge | QueueFull]:
    r"""Read a body line by line, and only as far as the consumer needs.

    Args:
        receive: The ASGI function for parts of the body.
        memory: The memory of all bodies.
        limit: Largest number of bytes of a line.
        seconds: Time for each line.

    Yields:
        Lines without ``\n``; blank lines are skipped. A line that is too long or exceeds the memory limit is replaced
        by its error.

    Raises:
        TooSlow: A line takes longer.
        ClientDisconnect: The client has disconnected.
    """
    line = _LineBuffer(memory.allocate(), limit)
    more, remaining = True, seconds
    clock = asyncio.get_running_loop().time
    while more:
        started = clock()
        chunk, more = await _receive_part_in_time(receive, remaining, seconds)
        remaining -= clock() - started
        first, *others = chunk.split(b"\n")
        line.add(first)
        if not others:
            continue
        remaining = seconds
        *complete_lines, last = others
        if (complete := line.end()) is not None:
            yield complete
        for following in filter(bytes.strip, complete_lines):  # blank lines cost nothing here
            line.add(following)
            if (complete := line.end()) is not None:
                yield complete
        line.add(last)
    if (complete := line.end()) is not None:
        yield complete


class _LineBuffer:
    """The line that is being read, or its error."""

    def __init__(self, allocation: BodyAllocation, limit: int) -> None:
        self._allocation = allocation
        self._limit = limit
        self._text = bytearray()
        self._fault: RequestTooLarge | QueueFull | None = None

    def add(self, part: bytes) -> None:
        if self._fault is None and len(self._text) + len(part) > self._limit:
            self._fault = RequestTooLarge(f"the line is longer than {self._limit} bytes")
        if self._fault is None and not self._allocation.grow(len(part)):
            self._fault = _memory_error()
        if self._fault is None:
            self._text += part
        else:
            self._clear()

    def end(self) -> bytes | RequestTooLarge | QueueFull | None:
        """Return the line, its error, or None if it is blank, and start the next line."""
        complete = self._fault or (bytes(self._text) if self._text.strip() else None)
        self._fault = None
        self._clear()
        return complete

    def _clear(self) -> None:
        self._text.clear()
        self._allocation.release()


def _length_error(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"the body is longer than {limit} bytes", hint="Send several smaller requests.")


def _memory_error() -> QueueFull:
    return QueueFull("the bodies of other requests use all the memory for bodies", hint="Try again later.")


async def _receive_part_in_time(receive: Receive, remaining: float, seconds: float) -> tuple[bytes, bool]:
    try:
        async with asyncio.timeout(remaining):
            return await _receive_part(receive)
    except TimeoutError:
        raise TooSlow(f"the next line did not arrive in {seconds:g} s", hint="Send it faster.") from None


async def _receive_part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)
