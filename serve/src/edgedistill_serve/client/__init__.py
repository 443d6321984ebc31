"""HTTP clients for `edgedistill-serve serve`; `pip install "edgedistill-serve[client]"`.

with Client("http://127.0.0.1:8000") as client:
    client.score("You worked hard on this.").score.label
"""

from edgedistill_serve.client.results import (
    Busy,
    ClientError,
    HttpxMissing,
    Refused,
    ServerFailed,
    StrangeAnswer,
    Unreachable,
)

try:
    import httpx as _httpx  # noqa: F401  # checks that it is installed
except ImportError:
    raise HttpxMissing("httpx is not installed", hint='Install it: pip install "edgedistill-serve[client]".') from None

from edgedistill_serve.client.clients import AsyncClient, Client, Timeouts
from edgedistill_serve.client.core import Retries
from edgedistill_serve.client.results import NotScored, Result, Scored, ServedModel

__all__ = [
    "AsyncClient",
    "Busy",
    "Client",
    "ClientError",
    "HttpxMissing",
    "NotScored",
    "Refused",
    "Result",
    "Retries",
    "Scored",
    "ServedModel",
    "ServerFailed",
    "StrangeAnswer",
    "Timeouts",
    "Unreachable",
]
