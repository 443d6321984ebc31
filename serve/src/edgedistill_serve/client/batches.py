"""Responses into requests: as many as a server takes at once, never more bytes than it reads."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from edgedistill_serve.client.errors import Refused
from edgedistill_serve.client.results import Response, TakenAtOnce

BULK_BYTES = 64 * 1024
"""The most bytes of one window of a stream, but for a line that is longer alone. A server answers while it still reads,
and stops reading while nobody reads its answer; a window that lies whole in the sockets' buffers is sent nevertheless,
so that neither waits for the other."""
BULK_ROWS = 500
"""The most responses of one window of a stream."""
_FRAME = 256
"""Bytes of a request's body beside its responses and its model's name, and some to spare."""


def encoded(response: Response, position: int) -> bytes:
    """Return a response as JSON.

    Args:
        response: What to score.
        position: Its place among all, from 1, for the message.

    Raises:
        Refused: It cannot be written as JSON.
    """
    if isinstance(response, (str, Mapping)):
        try:
            return msgspec.json.encode(response)
        except (TypeError, ValueError, RecursionError):  # lone surrogates are a ValueError
            pass
    raise Refused("it is no text and no mapping of texts", where=f"response {position}", mend="Send texts.")


def one_body(response: Response, model: str | None) -> bytes:
    """Return the body of a request for one response."""
    inputs = {"response": response} if isinstance(response, str) else response
    named = {} if model is None else {"model": model}
    return encoded({**inputs, **named} if isinstance(inputs, Mapping) else inputs, 1)


def list_body(items: Sequence[bytes], model: str | None) -> bytes:
    """Return the body of a request for a list of encoded responses."""
    named = b"" if model is None else b',"model":' + msgspec.json.encode(model)
    return b'{"responses":[' + b",".join(items) + b"]" + named + b"}"


def batches(items: Sequence[bytes], taken: TakenAtOnce, model: str | None) -> Iterator[Sequence[bytes]]:
    """Yield encoded responses in order, as many at a time as a server takes.

    One that is too long by itself comes alone: the server's refusal is its own.
    """
    room = taken.body_bytes - _FRAME - 6 * len(model or "")
    window = Window(rows=taken.items, size=room)
    for item in items:
        yield from window.add(item)
    yield from window.rest()


class Window:
    """Collects encoded responses until there is room for no more.

    Args:
        rows: The most responses.
        size: The most bytes, a byte after each response counted.
    """

    def __init__(self, *, rows: int = BULK_ROWS, size: int = BULK_BYTES) -> None:
        self._rows = max(1, rows)
        self._size = size
        self._items: list[bytes] = []
        self._held = 0

    def add(self, item: bytes) -> Iterator[list[bytes]]:
        """Add a response, and yield those before it where it does not fit beside them."""
        if self._items and (len(self._items) >= self._rows or self._held + len(item) + 1 > self._size):
            yield from self.rest()
        self._items.append(item)
        self._held += len(item) + 1

    def rest(self) -> Iterator[list[bytes]]:
        """Yield what is collected, where there is anything, and begin anew."""
        items, self._items, self._held = self._items, [], 0
        if items:
            yield items
