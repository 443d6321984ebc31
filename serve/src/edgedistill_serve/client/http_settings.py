"""Settings of the HTTP connection that both clients share, and what httpx gives back as our types."""

import re
from dataclasses import dataclass

import httpx

from edgedistill_serve.client.core import NoReply, Reply
from edgedistill_serve.client.results import Refused

_AGENT = "edgedistill-client"
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds after which a try is given up.

    Attributes:
        connect: Until there is a connection.
        answer: Without a byte of the answer, or without a byte being taken.
    """

    connect: float = 5.0
    answer: float = 60.0

    def for_httpx(self) -> httpx.Timeout:
        """Return the same in httpx's words."""
        return httpx.Timeout(self.answer, connect=self.connect)


def address_of(url: str) -> httpx.URL:
    """Return a server's address.

    Raises:
        Refused: It is none.
    """
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        address = httpx.URL()
    if address.scheme not in {"http", "https"} or not address.host:
        raise Refused("this is no address of a server", where=str(url)[:200], hint="Name it as http://HOST:PORT.")
    return address


def headers_of(key: str | None) -> dict[str, str]:
    """Return the headers of every request.

    Raises:
        Refused: The key cannot be sent.
    """
    if key is None:
        return {"User-Agent": _AGENT}
    if not _KEY.fullmatch(key):
        raise Refused("the API key has spaces or letters beyond ASCII", hint="Copy the key again.")
    return {"User-Agent": _AGENT, "Authorization": f"Bearer {key}"}


def reply_of(response: httpx.Response) -> Reply:
    """Return what came back."""
    headers = response.headers
    return Reply(
        response.status_code,
        response.content,
        media_type=headers.get("Content-Type", "").split(";")[0].strip().lower(),
        retry_after=headers.get("Retry-After", ""),
        model=headers.get("X-Model", ""),
    )


def fault_of(error: Exception) -> NoReply:
    """Return why nothing came back."""
    return NoReply(type(error).__name__)
