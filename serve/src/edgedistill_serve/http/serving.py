"""The server process: its socket, its signals and its end."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from edgedistill_serve.bundle import Bundle
from edgedistill_serve.errors import BundleError, CannotListen
from edgedistill_serve.http.app import create_app
from edgedistill_serve.http.service import Limits, Service
from edgedistill_serve.scorer import Scorer, available_cores

_log = logging.getLogger("edgedistill_serve.http")
_NOTICE = 1.0
"""Seconds for which a draining server still answers, with 503: whoever balances load must be able to notice."""
_KEEP_ALIVE = 75
"""Seconds; longer than the 60 for which load balancers commonly keep a connection, so that they close it first."""
_PATIENCE = 30
"""Seconds after which a draining server leaves clients that do not finish sending."""
_BACKLOG = 2048


def serve(
    bundles: Sequence[Path],
    *,
    host: str,
    port: int,
    limits: Limits,
    threads: int | None = None,
    listening: Callable[[str], None],
) -> None:
    """Serve bundles until SIGTERM or SIGINT: then refuse new requests, answer those that were taken, and return.

    Args:
        bundles: Folders; every bundle has its own name.
        host: Address to listen at.
        port: Port to listen at; 0 takes any free one.
        limits: What is taken.
        threads: How many responses are scored at a time; as many as there are cores unless said otherwise.
        listening: Called once with the server's URL, before the bundles are loaded.

    Raises:
        CannotListen: The address is taken, or cannot be had.
        EdgeDistillError: A bundle cannot be served; see `Bundle.load` and `Scorer`.
    """
    service = Service(limits, threads=threads or available_cores())
    loading: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loading.append(asyncio.create_task(_load(service, bundles, server)))
        yield
        await asyncio.wait(loading)
        service.close()

    with _listen(host, port) as listener:
        config = uvicorn.Config(
            create_app(service, lifespan),
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_PATIENCE,
        )
        server = _DrainingServer(config, service)
        listening(_url(listener))
        server.run(sockets=[listener])
    for task in loading:
        task.result()


def load_scorers(bundles: Sequence[Path]) -> list[Scorer]:
    """Load and check bundles that are served side by side.

    Raises:
        BundleError: Two of them have the same name.
        EdgeDistillError: As `Bundle.load` and `Scorer`.
    """
    scorers = [Scorer(Bundle.load(path), threads=1) for path in bundles]
    names = [scorer.bundle.manifest.name for scorer in scorers]
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"two bundles have the name {name!r}", mend="Serve each by a server of its own.")
    return scorers


async def _load(service: Service, bundles: Sequence[Path], server: uvicorn.Server) -> None:
    try:
        service.open(await asyncio.to_thread(load_scorers, bundles))
    finally:
        if not service.models:
            server.should_exit = True
    for name, scorer in service.models.items():
        _log.info("ready: %s, version %s, %s", name, scorer.bundle.manifest.version, scorer.precision)


class _DrainingServer(uvicorn.Server):
    """uvicorn closes its socket at the first signal; this one refuses politely until what it took is answered."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining_since: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the parameters are uvicorn's
        if self._draining_since is None and self._service.state == "ready":
            self._draining_since = time.monotonic()
            self._service.drain()
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        noticed = self._draining_since is not None and time.monotonic() - self._draining_since >= _NOTICE
        if noticed and self._service.idle:
            self.should_exit = True
        return await super().on_tick(counter)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # A client that comes before the bundles are loaded waits a moment instead of being turned away.
        listener.listen(_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CannotListen(
            f"the server cannot listen here ({why})",
            where=f"{host}:{port}",
            mend="Choose another --port or --host, or stop what listens there.",
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
