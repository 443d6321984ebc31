"""API keys: the key file, the rate limit per key, and the middleware that checks them.

A line of the key file is `NAME:HASH`, where HASH is the SHA-256 of the key in hexadecimal. Blank lines and lines that
start with `#` are ignored. A key has 256 random bits and cannot be guessed, so that one round of SHA-256 is enough.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from edgedistill_serve.errors import KeyFileError, KeyMissing, TooMany
from edgedistill_serve.server.middleware.origins import is_preflight
from edgedistill_serve.server.request.error_responses import not_found, response_to_error
from edgedistill_serve.server.request.openapi import KEY_HINT
from edgedistill_serve.server.shared_state import SharedRates

OPEN_PATHS = frozenset(
    {"/", "/docs", "/openapi.json", "/livez", "/healthz", "/readyz", "/health", "/v2/health/live", "/v2/health/ready"}
)
"""Paths that need no key: health checks, and pages without data."""
OPEN_FOLDER = "/page/"
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64})")
_PREFIX = "eds_"
_MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """An accepted key.

    Attributes:
        name: Name of the key in the file; not a part of the key.
        hash: SHA-256 of the key, 64 hexadecimal digits.
    """

    name: str
    hash: str

    def line(self) -> str:
        """Return the entry as a line of a key file."""
        return f"{self.name}:{self.hash}"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key, which is shown once, and its entry."""

    key: str
    entry: KeyEntry


def create_key(name: str) -> NewKey:
    """Create a random key.

    Args:
        name: 1 to 64 letters, digits, ``.``, ``_`` and ``-``.

    Raises:
        KeyFileError: The name is invalid.
    """
    key = f"{_PREFIX}{secrets.token_urlsafe(32)}"
    entry = KeyEntry(name, hash_key(key))
    if not _LINE.fullmatch(entry.line()):
        raise KeyFileError(
            "the name of a key must have 1 to 64 letters, digits, dots, dashes and underscores",
            hint="Choose another name.",
        )
    return NewKey(key, entry)


def hash_key(key: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def read_keys(path: Path) -> tuple[KeyEntry, ...]:
    """Read a key file.

    Raises:
        KeyFileError: The file cannot be read, is empty, or contains an invalid line or a repeated name.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(_MAX_FILE_BYTES).splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not valid UTF-8"
        raise KeyFileError(f"the key file cannot be read ({reason})", where=str(path)) from None
    entries: dict[str, KeyEntry] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            entry = _parse_line(line.strip(), f"{path}, line {number}")
            if entry.name in entries:
                raise KeyFileError("another line has the same name", where=f"{path}, line {number}")
            entries[entry.name] = entry
    if not entries:
        raise KeyFileError(
            "the file contains no key", where=str(path), hint="Create one: edgedistill-serve key new NAME >> FILE."
        )
    return tuple(entries.values())


def find_key(key: str, entries: tuple[KeyEntry, ...]) -> KeyEntry | None:
    """Return the entry of a key, or None; the time does not depend on the key."""
    digest = hash_key(key)
    match = None
    for entry in entries:
        if hmac.compare_digest(entry.hash, digest):
            match = entry
    return match


def _parse_line(line: str, where: str) -> KeyEntry:
    parts = _LINE.fullmatch(line)
    if parts is None:
        # The message does not quote the line, which may contain a key instead of its hash.
        raise KeyFileError(
            "the line is not NAME:HASH", where=where, hint="Use the line that edgedistill-serve key new prints."
        )
    return KeyEntry(parts[1], parts[2])


@dataclass(slots=True)
class TokenBucket:
    """A token bucket (as in RFC 2697) with ``rate`` requests per second and the same burst size.

    Attributes:
        rate: Requests per second, above 0.
        available: Number of requests that may come now.
        updated_at: Time at which ``available`` was computed, in seconds.
    """

    rate: int
    available: float
    updated_at: float

    def take(self, now: float) -> float:
        """Take one request.

        Returns:
            0 if the request is allowed, else the seconds until the next one is.
        """
        self.available = min(float(self.rate), self.available + (now - self.updated_at) * self.rate)
        self.updated_at = now
        if self.available >= 1:
            self.available -= 1
            return 0.0
        return (1 - self.available) / self.rate


class KeyAccess:
    """The accepted keys and their rate limits.

    Args:
        entries: The accepted keys; without entries, every request is allowed.
        rate: Largest number of requests per second with one key; 0 for no limit.
        clock: Monotonic time in seconds.
        shared: The rate limits of all processes of a server; None for a server of one.
    """

    def __init__(
        self,
        entries: tuple[KeyEntry, ...] = (),
        *,
        rate: int = 0,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedRates | None = None,
    ) -> None:
        self._entries = entries
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._shared = shared

    def replace(self, entries: tuple[KeyEntry, ...]) -> None:
        """Replace the accepted keys."""
        self._entries = entries
        hashes = {entry.hash for entry in entries}
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if key in hashes}

    def check(self, key: str | None) -> None:
        """Check the key of a request.

        Raises:
            KeyMissing: The request has no key, or one that is not accepted.
            TooMany: The key has exceeded its rate limit.
        """
        if not self._entries:
            return
        entry = None if key is None else find_key(key, self._entries)
        if entry is None:
            raise KeyMissing(
                "this server requires an API key" if key is None else "the API key is not accepted",
                hint=KEY_HINT,
            )
        if self._rate and self._take(entry.hash, self._clock()):
            raise TooMany(f"more than {self._rate} requests per second with this key", hint="Try again later.")

    def _take(self, key_hash: str, now: float) -> float:
        """Return 0 if a request with this key is allowed, else the seconds until the next one is."""
        if self._shared is not None:
            return self._shared.take(key_hash, self._rate, now)
        return self._buckets.setdefault(key_hash, TokenBucket(self._rate, float(self._rate), now)).take(now)


class KeyCheck:
    """ASGI middleware that checks the key of every request.

    A path that does not exist is a 404, with or without a key: all paths are public in `/openapi.json`. A preflight
    of a browser, which never has a key, passes: it reads nothing.

    Args:
        app: The application.
        access: The accepted keys.
        find_route: Returns the route of a request.
    """

    def __init__(
        self, app: ASGIApp, access: KeyAccess, find_route: Callable[[Scope], BaseRoute | None] = lambda _: None
    ) -> None:
        self._app = app
        self._access = access
        self._find_route = find_route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                self._access.check(_get_key(scope))
            except (KeyMissing, TooMany) as error:
                if is_preflight(scope):
                    await self._app(scope, receive, send)
                    return
                response = response_to_error(error, scope)
                if (route := self._find_route(scope)) is not None:
                    scope["route"] = route
                elif isinstance(error, KeyMissing):
                    response = not_found(scope)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _get_key(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return str(value, "latin-1")
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].strip(), "latin-1")
    return None
