"""What a server takes, and for how long it waits for a client."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server takes. Times are in seconds.

    Attributes:
        body_bytes: The longest body of a request, and the longest line of a bulk request.
        body_memory: The most bytes of bodies in memory, over all requests, without the first 16 KiB of each; at least
            ``body_bytes``.
        text_characters: The longest text: a response, a question or a reference answer.
        items: The most responses in one request that is no bulk request.
        queue: The most responses that wait or are scored at a time, over all requests; at least ``items``.
        bulk_rows: The most rows of one bulk request that wait or are scored at a time.
        header_bytes: The longest head of a request: its address and its headers.
        headers: The most headers of a request.
        connections: The most open connections; the one that is idle for longest makes room for the next.
        header_seconds: A request's head must be complete so long after its first byte, or after the connection opened.
        body_seconds: A request's body must be complete so long after its head, and a line of a bulk request so long
            after the server began to wait for it.
        answer_seconds: A request that is no bulk request is scored so soon after its body is complete, or refused.
        idle_seconds: A connection without a request is kept open so long.
        stall_seconds: A client that reads nothing of its answer for so long is left.
        key_rate: Requests a second that are taken with one key; as many again may come at once. 0 is any number.
    """

    body_bytes: int = 4 * 1024 * 1024
    body_memory: int = 64 * 1024 * 1024
    text_characters: int = 250_000
    items: int = 1000
    queue: int = 4000
    bulk_rows: int = 64
    header_bytes: int = 16 * 1024
    headers: int = 64
    connections: int = 16_384
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    answer_seconds: float = 30.0
    idle_seconds: float = 75.0
    stall_seconds: float = 60.0
    key_rate: int = 500
