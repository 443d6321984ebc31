"""Reading the body of a request: whole, up to a limit; or line by line, for bulk. Both in a stated time."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from edgedistill_serve.errors import RequestTooLarge, TooSlow

_DISCARDED = 8
"""A body that is too large is read to its end and forgotten, up to so many times the limit: a client that is still
sending would not read the answer."""


async def read_body(request: Request, *, limit: int, seconds: float) -> bytes:
    """Read a body.

    Args:
        request: Its body was not read yet.
        limit: The most bytes.
        seconds: The time for all of it.

    Raises:
        RequestTooLarge: It has more bytes.
        TooSlow: It takes longer.
        ClientDisconnect: The client has gone.
    """
    body = bytearray()
    received = 0
    try:
        async with asyncio.timeout(seconds):
            more = True
            while more and received <= _DISCARDED * limit:
                chunk, more = await _part(request.receive)
                received += len(chunk)
                if received <= limit:
                    body += chunk
    except TimeoutError:
        raise TooSlow(f"the body did not arrive in {seconds:g} s", mend="Send it faster.") from None
    if received > limit:
        raise RequestTooLarge(f"the body is longer than {limit} bytes", mend="Send it in several requests.")
    return bytes(body)


async def read_lines(receive: Receive, *, limit: int, seconds: float) -> AsyncIterator[bytes | RequestTooLarge]:
    r"""Read a body line by line; no more of it is read than the lines that were asked for need.

    Args:
        receive: Gives the body's parts, as ASGI does.
        limit: The longest line, in bytes; of a longer one, the error comes in its place and the line is forgotten.
        seconds: The time for each line.

    Yields:
        Lines without their ``\n``; blank ones are left out.

    Raises:
        TooSlow: A line takes longer.
        ClientDisconnect: The client has gone.
    """
    rest = bytearray()
    too_long, more, left = False, True, seconds
    clock = asyncio.get_running_loop().time
    while more:
        began = clock()
        chunk, more = await _timely_part(receive, left, seconds)
        left -= clock() - began
        first, *others = chunk.split(b"\n")
        rest += first
        for following in others:
            left = seconds
            if too_long or len(rest) > limit:
                yield RequestTooLarge(f"the line is longer than {limit} bytes")
            elif rest.strip():
                yield bytes(rest)
            too_long, rest = False, bytearray(following)
        if len(rest) > limit:
            too_long, rest = True, bytearray()
    if too_long:
        yield RequestTooLarge(f"the line is longer than {limit} bytes")
    elif rest.strip():
        yield bytes(rest)


async def _timely_part(receive: Receive, left: float, seconds: float) -> tuple[bytes, bool]:
    try:
        async with asyncio.timeout(left):
            return await _part(receive)
    except TimeoutError:
        raise TooSlow(f"the next line did not arrive in {seconds:g} s", mend="Send it faster.") from None


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)
