"""Asks an edgedistill-serve for scores over HTTP; `pip install "edgedistill-serve[client]"`.

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
    import httpx as _httpx  # noqa: F401  # only to see whether it is there
except ImportError:
    raise HttpxMissing("httpx is not installed", hint='Install it: pip install "edgedistill-serve[client]".') from None

from edgedistill_serve.client.async_client import AsyncClient
from edgedistill_serve.client.core import Retries
from edgedistill_serve.client.http_settings import Timeouts
from edgedistill_serve.client.results import NotScored, Result, Scored, ServedModel
from edgedistill_serve.client.sync_client import Client

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
