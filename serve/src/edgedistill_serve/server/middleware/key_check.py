"""Who may ask: a key in the request, checked in constant time, and not too often."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from edgedistill_serve.errors import KeyMissing, TooMany
from edgedistill_serve.server.middleware.key_file import KeyEntry, matching
from edgedistill_serve.server.request.error_responses import response_to_error

OPEN_PATHS = frozenset(
    {"/", "/docs", "/openapi.json", "/livez", "/readyz", "/health", "/v2/health/live", "/v2/health/ready"}
)
"""What needs no key: whether the server is up, and pages that hold nothing of anybody."""
OPEN_FOLDER = "/page/"


@dataclass(slots=True)
class TokenBucket:
    """A token bucket (as in RFC 2697): ``rate`` requests a second, and as many at once.

    Attributes:
        rate: Requests a second, above 0.
        left: Requests that may come now.
        counted_at: When ``left`` was counted, in seconds.
    """

    rate: int
    left: float
    counted_at: float

    def take(self, now: float) -> float:
        """Take one request.

        Returns:
            0 where it may come, else the seconds after which it may.
        """
        self.left = min(float(self.rate), self.left + (now - self.counted_at) * self.rate)
        self.counted_at = now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) / self.rate


class KeyAccess:
    """Keys that are accepted, and what each may still ask.

    Args:
        entries: The keys; none at all lets everybody in.
        rate: Requests a second with one key; 0 is any number.
        clock: In seconds, never going back.
    """

    def __init__(
        self, entries: tuple[KeyEntry, ...] = (), *, rate: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries = entries
        self._rate = rate
        self._clock = clock
        self._allowances: dict[str, TokenBucket] = {}

    def replace(self, entries: tuple[KeyEntry, ...]) -> None:
        """Accept these keys from now on, and no others."""
        self._entries = entries
        kept = {entry.hash for entry in entries}
        self._allowances = {key: left for key, left in self._allowances.items() if key in kept}

    def check(self, key: str | None) -> None:
        """Let a request in.

        Raises:
            KeyMissing: It has no key, or one that is not accepted.
            TooMany: Too many came with this key.
        """
        if not self._entries:
            return
        entry = None if key is None else matching(key, self._entries)
        if entry is None:
            raise KeyMissing(
                "this server asks for a key" if key is None else "the key is not accepted",
                hint="Send it as Authorization: Bearer KEY, or as X-API-Key: KEY.",
            )
        if self._rate:
            now = self._clock()
            allowance = self._allowances.setdefault(entry.hash, TokenBucket(self._rate, float(self._rate), now))
            if allowance.take(now):
                raise TooMany(f"more than {self._rate} requests a second came with this key", hint="Try again later.")


class KeyCheck:
    """ASGI middleware that lets no request in without its key.

    Args:
        app: What answers.
        access: Which keys are accepted.
    """

    def __init__(self, app: ASGIApp, access: KeyAccess) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                self._access.check(_key_of(scope))
            except (KeyMissing, TooMany) as error:
                await response_to_error(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _key_of(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return str(value, "latin-1")
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].strip(), "latin-1")
    return None
