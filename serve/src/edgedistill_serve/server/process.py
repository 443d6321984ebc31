"""The server process: start, signals, reload and drain."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from edgedistill_serve.errors import EdgeDistillError
from edgedistill_serve.scoring.score_cache import ENTRIES
from edgedistill_serve.scoring.scorer import available_cores
from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.metrics import CallbackGauge, ServerMetrics, single_gauge
from edgedistill_serve.server.middleware.api_keys import KeyAccess, read_keys
from edgedistill_serve.server.model_catalogue import BundleFolders, load_scorer, watch
from edgedistill_serve.server.service import Service
from edgedistill_serve.server.transport.http11 import Connection, Connections
from edgedistill_serve.server.transport.sockets_and_tls import (
    Address,
    check_not_open,
    format_url,
    load_tls,
    open_listener,
    raise_connection_limit,
)

_log = logging.getLogger("edgedistill_serve.server")
_BACKLOG = 2048
_NOTICE_SECONDS = 1.0
"""A draining server answers with 503 for this time, so that load balancers notice."""
_POLL_SECONDS = 0.1
"""Time between two checks whether everything is answered."""
_CLOSE_SECONDS = 30.0
"""After this time, a draining server closes connections of clients that do not finish sending."""


def serve(
    bundles: Sequence[Path],
    address: Address,
    *,
    limits: Limits,
    key_file: Path | None = None,
    is_open: bool = False,
    origins: Sequence[str] = (),
    threads: int | None = None,
    default_model: str | None = None,
    watched: bool = False,
    score_cache: int = ENTRIES,
    public_key: Path | None = None,
    on_listening: Callable[[str], None],
) -> None:
    """Serve bundles until SIGTERM or SIGINT; then refuse new requests, answer the accepted ones, and return.

    SIGHUP reloads the keys and the bundles; invalid ones are logged and change nothing. A SIGHUP during the start is
    handled when the server is ready.

    Args:
        bundles: Bundle folders, with distinct names and versions.
        address: The address to listen on.
        limits: The limits of the server.
        key_file: File of the accepted API keys; None for a server without keys.
        is_open: Whether other machines may send requests without a key.
        origins: Origins of web pages that may send requests (CORS).
        threads: Number of scoring threads; by default, the number of available cores.
        default_model: Name of the model for requests that name none.
        watched: Whether to check the folders periodically and serve new bundles.
        score_cache: Number of recent scores of each model to keep for repeated texts; 0 turns the cache off.
        public_key: PEM file of the key with which all bundles, also later ones, must be signed; None for no check.
        on_listening: Called once with the URL of the server, before the bundles are loaded.

    Raises:
        CannotListen: The address is in use or invalid, or would be open to other machines by mistake.
        KeyFileError: The key file cannot be used.
        EdgeDistillError: A bundle cannot be served; see `Bundle.load` and `Scorer`.
    """
    reload_signal = _ReloadSignal()
    check_not_open(address, has_keys=key_file is not None, is_open=is_open)
    metrics = ServerMetrics()
    access = KeyAccess(() if key_file is None else read_keys(key_file), rate=limits.key_rate)
    service = Service(limits, threads=threads or available_cores(), observe=metrics.count_work)
    folders = BundleFolders(
        bundles, default=default_model, load=partial(load_scorer, score_cache=score_cache, public_key=public_key)
    )
    app = create_app(service, metrics=metrics, access=access, origins=origins, statuses=lambda: folders.statuses)
    connections = Connections(app, limits, raise_connection_limit(limits.connections))
    server = DrainingServer(connections, service)
    metrics.add_gauges(_gauges(service, folders, connections))
    loading: list[asyncio.Task[None]] = []
    ended = threading.Event()

    async def run(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        loading.append(loop.create_task(_load(service, folders, default_model, server)))
        reload = partial(_reload, loading[0], service, folders, access, key_file)
        reload_signal.handle(loop, lambda: loading.append(loop.create_task(reload())))
        if watched:
            loading.append(loop.create_task(asyncio.to_thread(_watch, loading[0], folders, service, ended)))
        await server.serve(listener, tls, backlog=_BACKLOG)
        ended.set()
        await asyncio.wait(loading)
        service.close()

    tls = load_tls(address)
    with open_listener(address) as listener:
        on_listening(format_url(address, listener))
        asyncio.run(run(listener, tls))
    for task in loading:
        task.result()


class DrainingServer:
    """Accepts connections until SIGINT or SIGTERM, then drains the service and ends.

    Args:
        connections: The open connections.
        service: The service.
    """

    def __init__(self, connections: Connections, service: Service) -> None:
        self._connections = connections
        self._service = service
        self._ended = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, listener: socket.socket, tls: ssl.SSLContext | None, *, backlog: int) -> None:
        """Serve until the server has drained.

        Args:
            listener: A bound socket.
            tls: The TLS context; None for HTTP.
            backlog: Largest number of connections that wait to be accepted.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        accepting = await loop.create_server(
            partial(Connection, self._connections), sock=listener, ssl=tls, backlog=backlog
        )
        await self._ended.wait()
        accepting.close()
        self._connections.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._connections.open or self._connections.running:  # noqa: ASYNC110  # there is no event for it
                    await asyncio.sleep(_POLL_SECONDS)

    def end(self) -> None:
        """End at once, before anything is served."""
        self._ended.set()

    def _stop(self) -> None:
        """Drain at the first signal, end at the second."""
        if self._service.state == "ready":
            self._service.drain()
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        else:
            self.end()

    async def _drain(self) -> None:
        await asyncio.sleep(_NOTICE_SECONDS)
        while not self._service.idle:  # noqa: ASYNC110  # changed by other threads
            await asyncio.sleep(_POLL_SECONDS)
        self.end()


class _ReloadSignal:
    """SIGHUP. A signal before the event loop runs is handled later, because files may have been read before it."""

    def __init__(self) -> None:
        self._was_received = False
        signal.signal(signal.SIGHUP, self._on_early_signal)

    def handle(self, loop: asyncio.AbstractEventLoop, on_signal: Callable[[], object]) -> None:
        """Call a function at every SIGHUP, and at once if one was received before."""
        loop.add_signal_handler(signal.SIGHUP, on_signal)
        if self._was_received:
            on_signal()

    def _on_early_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # signal's interface
        self._was_received = True


async def _load(service: Service, folders: BundleFolders, default: str | None, server: DrainingServer) -> None:
    try:
        service.open((await asyncio.to_thread(folders.open)).scorers, default)
    finally:
        if not service.models.scorers:
            server.end()
    # Objects that live as long as the server are excluded from garbage collections.
    gc.collect()
    gc.freeze()
    for scorer in service.models.scorers:
        manifest = scorer.bundle.manifest
        _log.info("ready: %s, version %s, %s", manifest.name, manifest.version, scorer.precision)


async def _reload(
    loaded: asyncio.Task[None], service: Service, folders: BundleFolders, access: KeyAccess, key_file: Path | None
) -> None:
    """Read the keys again, and the bundles after their first load."""
    if key_file is not None:
        try:
            access.replace(read_keys(key_file))
            _log.info("the API keys were reloaded")
        except EdgeDistillError as error:
            _log.error("the API keys are unchanged: %s", error)
    await asyncio.wait([loaded])
    if service.state == "ready":
        await asyncio.to_thread(folders.refresh, service.swap)


def _watch(loaded: asyncio.Task[None], folders: BundleFolders, service: Service, ended: threading.Event) -> None:
    while not loaded.done() and not ended.wait(0.1):
        pass
    if not ended.is_set():
        watch(folders, service.swap, ended)


def _gauges(service: Service, folders: BundleFolders, connections: Connections) -> list[CallbackGauge]:
    model_labels = ("model", "version")
    return [
        single_gauge("queue_waiting", "Responses that wait.", lambda: service.queue.waiting),
        single_gauge("queue_taken", "Responses that wait or are being scored.", lambda: service.queue.pending),
        single_gauge(
            "queue_limit", "Largest number of responses that wait or are being scored.", lambda: service.limits.queue
        ),
        single_gauge(
            "body_bytes",
            "Bytes of request bodies in memory, not counting the first 16 KiB of each.",
            lambda: service.bodies.used,
        ),
        single_gauge("ready", "1 if requests are accepted.", lambda: service.state == "ready"),
        single_gauge("connections", "Open connections.", lambda: connections.open),
        CallbackGauge(
            "connections_refused",
            "Connections refused or closed early since the start.",
            lambda: [((reason,), count) for reason, count in tuple(connections.refused.items())],
            ("reason",),
        ),
        CallbackGauge(
            "model_swaps",
            "Replacements of the model since the start.",
            lambda: [((each.model, each.version), each.swaps) for each in folders.statuses],
            model_labels,
        ),
        CallbackGauge(
            "model_swap_failures",
            "New bundles since the start that could not be served.",
            lambda: [((each.model, each.version), each.failures) for each in folders.statuses],
            model_labels,
        ),
        CallbackGauge(
            "model_fault",
            "1 if the bundle in the folder is not the served one because of an error.",
            lambda: [((each.model, each.version), each.fault is not None) for each in folders.statuses],
            model_labels,
        ),
    ]
