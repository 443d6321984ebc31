"""The limits of a server: sizes, counts, and times that it waits for a client."""

from dataclasses import asdict, dataclass, fields

from edgedistill_serve.bounds import COUNT, COUNT_OR_NONE, SECONDS, Bounds, check_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a server. Times are in seconds.

    Attributes:
        body_bytes: Largest body of a request, and largest line of a bulk request.
        body_memory: Largest memory for the bodies of all requests, not counting the first 16 KiB of each; at least
            ``body_bytes``.
        text_characters: Longest response, question or reference answer.
        items: Largest number of responses in a request that is not a bulk request.
        queue: Largest number of responses that wait or are scored, over all requests; at least ``items``.
        bulk_rows: Largest number of rows of one bulk request that wait or are scored.
        header_bytes: Largest head of a request (request target and headers).
        headers: Largest number of headers of a request.
        connections: Largest number of open connections; the one that has been idle longest is closed for a new one.
        header_seconds: Time for the head of a request, from its first byte or from the opening of the connection.
        body_seconds: Time for the body of a request after its head, and for each line of a bulk request.
        answer_seconds: Time for scoring a request that is not a bulk request; after it, the request is refused.
        idle_seconds: Time after which a connection without a request is closed.
        stall_seconds: Time after which a connection is closed whose client does not read the answer.
        drain_seconds: Time from SIGTERM to the end of the process; responses that are not scored by then get no answer.
        key_rate: Largest number of requests per second with one key, and largest burst; 0 for no limit.

    Raises:
        DataError: A number is outside its bounds.
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
    drain_seconds: float = 40.0
    key_rate: int = 500

    def __post_init__(self) -> None:
        check_all(asdict(self), LIMIT_BOUNDS)


def _bounds(name: str) -> Bounds:
    if name == "key_rate":
        return COUNT_OR_NONE
    return SECONDS if name.endswith("_seconds") else COUNT


LIMIT_BOUNDS = {field.name: _bounds(field.name) for field in fields(Limits)}
"""The bounds of each field of `Limits`."""
