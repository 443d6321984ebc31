"""The server process: its signals and its end."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from edgedistill_serve.errors import EdgeDistillError
from edgedistill_serve.scoring.score_cache import ENTRIES
from edgedistill_serve.scoring.scorer import available_cores
from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.metrics import CallbackGauge, Metrics, single_gauge
from edgedistill_serve.server.middleware.key_check import KeyAccess
from edgedistill_serve.server.middleware.key_file import read_keys
from edgedistill_serve.server.model_catalogue import BundleFolders, load_scorer, watch
from edgedistill_serve.server.service import Service
from edgedistill_serve.server.transport.http11 import Connections
from edgedistill_serve.server.transport.server import DrainingServer
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
    listening: Callable[[str], None],
) -> None:
    """Serve bundles until SIGTERM or SIGINT: then refuse new requests, answer those that were taken, and return.

    SIGHUP reads the keys and the bundles anew; what cannot be used changes nothing and is logged. One that comes while
    the server starts is made up for when it is ready.

    Args:
        bundles: Folders; no two bundles have the same name and version.
        address: Where to listen.
        limits: What is taken.
        key_file: Which keys are asked for; none at all where it is None.
        is_open: Whether other machines may ask without a key.
        origins: Web pages whose scripts may ask (CORS).
        threads: How many responses are scored at a time; as many as there are cores unless said otherwise.
        default_model: The name of the model that a request means that names none.
        watched: Whether the folders are looked at again and again, for a new bundle to take over.
        score_cache: How many of each model's last scores are remembered, for texts that come again; 0 is none.
        public_key: The PEM file of the key that every bundle must be signed with, a new one too; None asks for none.
        listening: Called once with the server's URL, before the bundles are loaded.

    Raises:
        CannotListen: The address is taken, cannot be had, or would be open to other machines by mistake.
        KeyFileError: The key file cannot be used.
        EdgeDistillError: A bundle cannot be served; see `Bundle.load` and `Scorer`.
    """
    reload_signal = _ReloadSignal()
    check_not_open(address, has_keys=key_file is not None, is_open=is_open)
    metrics = Metrics()
    access = KeyAccess(() if key_file is None else read_keys(key_file), rate=limits.key_rate)
    service = Service(limits, threads=threads or available_cores(), observe=metrics.count_work)
    folders = BundleFolders(
        bundles, default=default_model, load=partial(load_scorer, score_cache=score_cache, public_key=public_key)
    )
    app = create_app(service, metrics=metrics, access=access, origins=origins, states=lambda: folders.states)
    connections = Connections(app, limits, raise_connection_limit(limits.connections))
    server = DrainingServer(connections, service)
    metrics.watch(_gauges(service, folders, connections))
    loading: list[asyncio.Task[None]] = []
    ended = threading.Event()

    async def run(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        loading.append(loop.create_task(_load(service, folders, default_model, server)))
        again = partial(_reload, loading[0], service, folders, access, key_file)
        reload_signal.act(loop, lambda: loading.append(loop.create_task(again())))
        if watched:
            loading.append(loop.create_task(asyncio.to_thread(_watch, loading[0], folders, service, ended)))
        await server.serve(listener, tls, backlog=_BACKLOG)
        ended.set()
        await asyncio.wait(loading)
        service.close()

    tls = load_tls(address)
    with open_listener(address) as listener:
        listening(format_url(address, listener))
        asyncio.run(run(listener, tls))
    for task in loading:
        task.result()


class _ReloadSignal:
    """SIGHUP: one that comes before the loop runs is remembered, since what was read by then may be old."""

    def __init__(self) -> None:
        self._early = False
        signal.signal(signal.SIGHUP, self._remember)

    def act(self, loop: asyncio.AbstractEventLoop, on_hangup: Callable[[], object]) -> None:
        """Act on SIGHUP from now on, and at once where one came before."""
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
        if self._early:
            on_hangup()

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the parameters are Python's
        self._early = True


async def _load(service: Service, folders: BundleFolders, default: str | None, server: DrainingServer) -> None:
    try:
        service.open((await asyncio.to_thread(folders.open)).scorers, default)
    finally:
        if not service.models.scorers:
            server.end()
    # What lives as long as the server need not be looked at in every collection.
    gc.collect()
    gc.freeze()
    for scorer in service.models.scorers:
        manifest = scorer.bundle.manifest
        _log.info("ready: %s, version %s, %s", manifest.name, manifest.version, scorer.precision)


async def _reload(
    loaded: asyncio.Task[None], service: Service, folders: BundleFolders, access: KeyAccess, key_file: Path | None
) -> None:
    """Read the keys anew, and the bundles too once they have been loaded."""
    if key_file is not None:
        try:
            access.replace(read_keys(key_file))
            _log.info("the keys were read again")
        except EdgeDistillError as error:
            _log.error("the keys stay as they are: %s", error)
    await asyncio.wait([loaded])
    if service.state == "ready":
        await asyncio.to_thread(folders.refresh, service.swap)


def _watch(loaded: asyncio.Task[None], folders: BundleFolders, service: Service, ended: threading.Event) -> None:
    while not loaded.done() and not ended.wait(0.1):
        pass
    if not ended.is_set():
        watch(folders, service.swap, ended)


def _gauges(service: Service, folders: BundleFolders, connections: Connections) -> list[CallbackGauge]:
    of_model = ("model", "version")
    return [
        single_gauge("queue_waiting", "Responses that wait.", lambda: service.queue.waiting),
        single_gauge("queue_taken", "Responses that wait or are being scored.", lambda: service.queue.taken),
        single_gauge("queue_limit", "Responses that may wait or be scored at a time.", lambda: service.limits.queue),
        single_gauge(
            "body_bytes",
            "Bytes of requests' bodies in memory, without the first 16 KiB of each.",
            lambda: service.bodies.held,
        ),
        single_gauge("ready", "1 where requests are taken.", lambda: service.state == "ready"),
        single_gauge("connections", "Open connections.", lambda: connections.open),
        CallbackGauge(
            "connections_refused",
            "Connections that were refused or closed early, since the start.",
            lambda: [((reason,), count) for reason, count in tuple(connections.refused.items())],
            ("reason",),
        ),
        CallbackGauge(
            "model_swaps",
            "How often another bundle took over, since the start.",
            lambda: [((state.model, state.version), state.swaps) for state in folders.states],
            of_model,
        ),
        CallbackGauge(
            "model_swap_failures",
            "How often a new bundle could not be served, since the start.",
            lambda: [((state.model, state.version), state.failures) for state in folders.states],
            of_model,
        ),
        CallbackGauge(
            "model_fault",
            "1 where the bundle that lies in the folder now is not served.",
            lambda: [((state.model, state.version), state.fault is not None) for state in folders.states],
            of_model,
        ),
    ]
