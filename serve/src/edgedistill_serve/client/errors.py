"""What can go wrong while asking a server, each with the place and the mend; no message holds a response's text.

ClientError                   root of what a client raises
├── HttpxMissing              httpx is not installed
├── Unreachable               no answer came: no connection, a connection that broke, or nothing in time
├── Busy                      the server said 429 or 503 to the last try
├── Refused                   the server does not take this request: key, model, form or size
├── ServerFailed              the server failed on it
└── StrangeAnswer             the answer is none of this server's
"""

from edgedistill_serve.errors import EdgeDistillError


class ClientError(EdgeDistillError):
    """A server did not score what it was asked to.

    Attributes:
        status: The HTTP status of its answer, None where there was none.
    """

    status: int | None = None


class HttpxMissing(ClientError):
    """httpx is not installed."""


class Unreachable(ClientError):
    """No answer came, as often as it was tried."""


class Busy(ClientError):
    """The server had no room, as often as it was tried."""


class Refused(ClientError):
    """The server does not take this request, and would not take it again."""


class ServerFailed(ClientError):
    """The server failed on the request."""


class StrangeAnswer(ClientError):
    """What answered is no server of this kind, or another version of it."""
