"""HTTP to the teacher's address and nowhere else: no redirects, bounded replies, and environment variables by name.

HttpClient          an open connection to one address
HttpReply           status, headers and decoded body
UnusableReply       a reply that is too large or cannot be decoded
check_environment   finds the environment variable that makes connections impossible
parse_address       the parts of an address
find_proxy          the environment variable that names the proxy for an address
run_to_end          runs a coroutine from ordinary code, also in a notebook

An SDK's client follows redirects, sends variables such as ``OPENAI_ORG_ID`` to every address, and reads replies of any
size; see decision 0039. Here a redirect is a reply like any other, and nothing is sent but what the caller hands over.
A reply may have ``max_bytes`` after decompression, and must be complete after ``seconds``, however slowly it arrives.
"""

import asyncio
import json
import os
import ssl
import zlib
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed; requests uses it too

import httpx2

from edgedistill.errors import TeacherUnreachable

MAX_REPLY_BYTES = 16 * 2**20
"""Bytes of a decoded reply, at most; an answer has a few kilobytes, with log probabilities 2 KiB a token."""
_MAX_CONNECTIONS = 1000

_CERTIFICATE_FILE, _CERTIFICATE_FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"
_KEY_LOG = "SSLKEYLOGFILE"
_PROXIES = ("all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


Result = TypeVar("Result")


class UnusableReply(Exception):
    """A reply that is too large or cannot be decoded; the text says which."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A complete reply.

    Attributes:
        status: The HTTP status; 3xx too, since no redirect is followed.
        headers: The headers, names in lower case.
        body: The decoded body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")


class HttpClient:
    """An open connection to one address.

    Args:
        base_url: The address; a path is appended to its path, and its query is kept.
        headers: Sent with every request.
        seconds: Seconds that a request may take in all, unless it states others.

    Raises:
        TeacherUnreachable: The address is not valid, or an environment variable makes connections impossible.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], seconds: float) -> None:
        check_environment(os.environ)  # which httpx2 reads, too
        self._seconds = seconds
        connect = min(10.0, seconds / 2)  # shorter than a request, to tell a silent host from a slow answer
        self._base = parse_address(base_url)
        try:
            self._client = httpx2.AsyncClient(
                headers={"user-agent": "edgedistill", "accept-encoding": "gzip, deflate", **headers},
                follow_redirects=False,
                timeout=httpx2.Timeout(None, connect=connect),
                limits=httpx2.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS),
            )
            self._client.build_request("POST", self._url("", {}))
        except (ValueError, httpx2.InvalidURL) as error:
            raise _invalid_address(base_url) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        file: tuple[str, bytes] | None = None,
        seconds: float | None = None,
        max_bytes: int = MAX_REPLY_BYTES,
    ) -> HttpReply:
        """Send a request once and read its reply, whatever the status.

        Args:
            method: The HTTP method.
            path: Appended to the path of the address.
            body: Sent as JSON.
            query: Added to the query of the address.
            form: Fields of a multipart form.
            file: Name and content of the file of a multipart form.
            seconds: Seconds that it may take in all.
            max_bytes: Bytes of the decoded body, at most.

        Raises:
            TimeoutError: It took too long.
            UnusableReply: The body is too large or cannot be decoded.
            httpx2.HTTPError: There is no connection, or it broke.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        request = self._client.build_request(
            method,
            self._url(path, query or {}),
            content=content,
            headers={"content-type": "application/json"} if body is not None else None,
            data=dict(form) if form else None,
            files={"file": file} if file else None,
        )
        async with asyncio.timeout(self._seconds if seconds is None else seconds):
            response = await self._client.send(request, stream=True)
            try:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HttpReply(response.status_code, headers, await _read(response, headers, max_bytes))
            finally:
                await response.aclose()

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        base = self._base
        queries = "&".join(filter(None, [base.query, urlencode(query)]))
        return urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + path, queries, ""))


def parse_address(base_url: str) -> SplitResult:
    """Return the parts of an address.

    Raises:
        TeacherUnreachable: It is not valid.
    """
    try:
        address = urlsplit(base_url)
        _ = address.port  # raises here; the client would raise only when it connects
    except ValueError as error:
        raise _invalid_address(base_url) from error
    return address


def _invalid_address(base_url: str) -> TeacherUnreachable:
    return TeacherUnreachable("the address cannot be used", where=base_url, hint="Check teacher.base_url.")


class _Decoder(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes:
        """Return at most ``max_length`` decoded bytes."""


async def _read(response: httpx2.Response, headers: Mapping[str, str], max_bytes: int) -> bytes:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    decoder: _Decoder | None = None
    if encoding in ("gzip", "x-gzip", "deflate"):
        decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: the header says whether it is gzip or zlib
    elif encoding not in ("identity", ""):
        raise UnusableReply("its compression was not requested")
    body, received = bytearray(), 0
    async for data in response.aiter_raw():
        received += len(data)
        try:
            # One byte more than allowed: whatever would follow is not decompressed.
            body += data if decoder is None else decoder.decompress(data, max_bytes + 1 - len(body))
        except zlib.error:
            raise UnusableReply("its compressed data is damaged") from None
        if max(len(body), received) > max_bytes:
            raise UnusableReply(f"it is larger than {max_bytes // 2**20} MiB")
    return bytes(body)


def check_environment(environ: Mapping[str, str]) -> None:
    """Check the variables that every connection reads: proxies and certificates.

    Raises:
        TeacherUnreachable: A variable cannot be used; its value is not quoted, since it may hold a password.
    """
    for name in _PROXIES:
        if fault := _proxy_fault(environ.get(name, "")):
            raise TeacherUnreachable(
                f"the environment variable {name} {fault}",
                where=name,
                hint=f"Correct it, such as {name}=http://proxy.example:8080, or unset it.",
            )
    if (keys := environ.get(_KEY_LOG)) and (reason := _why_not_writable(keys)):
        raise TeacherUnreachable(
            f"the environment variable {_KEY_LOG} names a file that cannot be written ({reason})",
            where=_KEY_LOG,
            hint="Correct it, or unset it: it is for looking into encrypted connections.",
        )
    certificates = environ.get(_CERTIFICATE_FILE), environ.get(_CERTIFICATE_FOLDER)
    for name, value in zip((_CERTIFICATE_FILE, _CERTIFICATE_FOLDER), certificates, strict=True):
        if value and (fault := _certificate_fault(name, value)):
            raise TeacherUnreachable(
                f"the environment variable {name} names {fault}",
                where=name,
                hint="Set it to the certificates of your network in PEM form, or unset it.",
            )
        if value:
            return  # the folder is not read if there is a file


def find_proxy(base_url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the environment variable that names the proxy for an address, or None if there is none."""
    address = urlsplit(base_url)
    if proxy_bypass_environment(address.hostname or "", _no_proxy(environ)):
        return None
    scheme = address.scheme
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if environ.get(name)), None)


def _no_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    return {"no": environ.get("no_proxy") or environ.get("NO_PROXY") or ""}


def _proxy_fault(value: str) -> str | None:
    if not value:
        return None
    try:
        parts: SplitResult = urlsplit(value if "://" in value else f"http://{value}")
        _ = parts.port
        httpx2.Proxy(urlunsplit(parts))
    except (ValueError, httpx2.InvalidURL):
        return "is not the address of a proxy"
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        return f"is not the address of a proxy: it must begin with one of {', '.join(_PROXY_SCHEMES)}"
    if parts.scheme.startswith("socks") and find_spec("socksio") is None:
        return "names a SOCKS proxy, for which the package socksio is missing (pip install socksio)"
    return None


def _why_not_writable(file: str) -> str | None:
    try:
        with Path(file).open("ab"):  # as OpenSSL does for each connection
            return None
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def _certificate_fault(name: str, value: str) -> str | None:
    if name == _CERTIFICATE_FOLDER:  # one folder or several
        return None if any(map(os.path.isdir, value.split(os.pathsep))) else "no folder that exists"
    try:
        context = ssl.create_default_context(cafile=value)
    except FileNotFoundError:
        return "no file that exists"
    except ssl.SSLError:
        return "a file without certificates"
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})"
    return None if context.cert_store_stats()["x509"] else "a file without certificates"


def run_to_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, also if an event loop is running already, as in a notebook.

    If the caller is interrupted meanwhile, the coroutine is cancelled, and what it does at its end is waited for.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def run() -> Result:
        if task := asyncio.current_task():
            started.append((asyncio.get_running_loop(), task))
        return await work

    with ThreadPoolExecutor(1, "teacher") as thread:
        running = thread.submit(asyncio.run, run())
        try:
            return running.result()
        finally:
            if not running.done():  # an interrupt
                for loop, task in started:
                    loop.call_soon_threadsafe(task.cancel)
