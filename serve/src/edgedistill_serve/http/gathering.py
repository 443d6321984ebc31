"""What a connection writes in one turn of the event loop leaves in one piece.

uvicorn writes the head of an answer and its body apart: two system calls and two wake-ups of the client, where a score
is a few hundred bytes.
"""

import asyncio
from typing import Any


class Gathered:
    """A transport that waits with what is written until the turn of the event loop is over.

    Args:
        transport: The connection's own; whatever is not about writing goes to it.
        loop: Whose turns are meant.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send bytes at the end of this turn, after those that were written before."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))
