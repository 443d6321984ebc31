"""The server process: start, signals, reload and drain."""

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from edgedistill_serve.cores import available_cores
from edgedistill_serve.errors import CannotListen
from edgedistill_serve.journal.writer import Journal
from edgedistill_serve.scoring.onnxruntime_install import installed_builds
from edgedistill_serve.scoring.score_cache import ENTRIES
from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.log_lines import LogFormat, LogLevel
from edgedistill_serve.server.metrics import CallbackGauge, ServerMetrics, single_gauge
from edgedistill_serve.server.middleware.api_keys import KeyAccess, KeyEntry, read_keys
from edgedistill_serve.server.middleware.host_check import ANY_HOST, LOCAL_HOSTS
from edgedistill_serve.server.middleware.tracing import close_provider, open_provider
from edgedistill_serve.server.model_catalogue import BundleFolders, load_scorer, watch
from edgedistill_serve.server.protocols.health_routes import ServerReport
from edgedistill_serve.server.reference_gauges import ReferenceGauges
from edgedistill_serve.server.service import Service
from edgedistill_serve.server.shared_state import SharedRates
from edgedistill_serve.server.transport.certificate import Certificate, format_time
from edgedistill_serve.server.transport.http11 import Connection, Connections
from edgedistill_serve.server.transport.sockets_and_tls import (
    Address,
    check_not_open,
    format_url,
    load_certificate,
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
_WATCHER = "watcher of the bundle folders"
LONGEST_CHECK_SECONDS = 300.0
"""A check of the watcher that takes longer than the load of a large bundle hangs, for example on a network drive."""
CORES_PER_WORKER = 4
"""More cores than these are used better by several processes; see decision 62."""
_LAST_SPANS_SECONDS = 2.0
"""Time to send the last spans to a collector of traces."""
END_SECONDS = 5.0
"""Time for the end of the process after the second signal or at the end of the drain."""


def can_share_sockets() -> bool:
    """Return whether processes can accept connections from one socket: not on Windows, which cannot pass it on so."""
    return sys.platform != "win32"


def plan_processes(workers: int | None, threads: int | None) -> tuple[int, int]:
    """Return the number of processes, and the number of scoring threads of each.

    Args:
        workers: Number of processes. None for one for every `CORES_PER_WORKER` cores, or for a single one if the
            number of threads is given.
        threads: Number of scoring threads of each process; None for its share of the cores.

    Raises:
        CannotListen: Several processes are asked for on a system on which they cannot share a socket.
    """
    cores = available_cores()
    can_share = can_share_sockets()
    if workers is None:
        # One process feeds a GPU.
        is_single = threads is not None or not can_share or "onnxruntime-gpu" in installed_builds()
        workers = 1 if is_single else -(-cores // CORES_PER_WORKER)
    if workers > 1 and not can_share:
        raise CannotListen(
            "several processes cannot share a socket on this system",
            where=f"--workers {workers}",
            hint="Use one process with --threads; --workers needs Linux or macOS.",
        )
    return workers, threads or -(-cores // workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What a server serves, and how.

    Attributes:
        bundles: Bundle folders, with distinct names and versions.
        address: The address to listen on.
        limits: The limits of the server.
        key_file: File of the accepted API keys; None for a server without keys.
        is_open: Whether other machines may send requests without a key.
        origins: Origins of web pages that may send requests (CORS).
        hosts: Accepted hosts of requests; by default, `LOCAL_HOSTS` on a loopback address, else any host.
        threads: Number of scoring threads of the process; by default, the number of available cores.
        default_model: Name of the model for requests that name none.
        watched: Whether to check the folders periodically and serve new bundles.
        score_cache: Number of recent scores of each model to keep for repeated texts; 0 turns the cache off.
        public_key: PEM file of the key with which all bundles, also later ones, must be signed; None for no check.
        journal: Folder in which the scored responses are counted for `edgedistill monitor`; None for no journal.
        audit_share: Share of the ids that the journal has, in [0, 1].
        otel: Whether to send traces to the collector that the variables ``OTEL_…`` name.
        log_format: Format of the log.
        log_level: Lowest level of the log.
    """

    bundles: tuple[Path, ...]
    address: Address
    limits: Limits
    key_file: Path | None = None
    is_open: bool = False
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    threads: int | None = None
    default_model: str | None = None
    watched: bool = False
    score_cache: int = ENTRIES
    public_key: Path | None = None
    journal: Path | None = None
    audit_share: float = 0.0
    otel: bool = False
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"

    def read_keys(self) -> tuple[KeyEntry, ...]:
        """Return the accepted API keys.

        Raises:
            KeyFileError: The key file cannot be used.
        """
        return () if self.key_file is None else read_keys(self.key_file)


class ServerParts:
    """The parts of one server process, connected with each other.

    Args:
        settings: The settings.
        report: The report of a server of several processes; None for a server of one.
        rates: The rate limits of the keys over all processes; None for a server of one.

    Raises:
        CannotListen: The certificate cannot be used.
        KeyFileError: The key file cannot be used.
        DataError: The journal cannot be written.
        TracingUnavailable: OpenTelemetry is not installed or not configured.
    """

    def __init__(
        self, settings: ServerSettings, report: ServerReport | None = None, rates: SharedRates | None = None
    ) -> None:
        limits, address = settings.limits, settings.address
        self.settings = settings
        self._certificate = load_certificate(address)
        self.metrics = ServerMetrics()
        self.access = KeyAccess(settings.read_keys(), rate=limits.key_rate, shared=rates)
        self.service = Service(limits, threads=settings.threads or available_cores(), observe=self.metrics.count_work)
        if settings.journal is not None:
            self.service.journal = Journal(
                settings.journal,
                audit_share=settings.audit_share,
                on_fault=partial(self.service.report, "journal"),
            )
        self.folders = BundleFolders(
            settings.bundles,
            default=settings.default_model,
            load=partial(load_scorer, score_cache=settings.score_cache, public_key=settings.public_key),
        )
        self._tracer_provider = open_provider(self.service.report) if settings.otel else None
        app = create_app(
            self.service,
            metrics=self.metrics,
            access=self.access,
            origins=settings.origins,
            hosts=settings.hosts or (LOCAL_HOSTS if address.is_local and address.uds is None else (ANY_HOST,)),
            statuses=lambda: self.folders.statuses,
            report=report,
            tracer_provider=self._tracer_provider,
        )
        self.connections = Connections(app, limits, raise_connection_limit(limits.connections))
        self.draining = DrainingServer(self.connections, self.service)
        self.metrics.add_gauges(_gauges(self.service, self.folders, self.connections))
        self.metrics.add_gauges(ReferenceGauges(self.service).gauges())
        if self._certificate is not None:
            _show_certificate(self.service, self.metrics, self._certificate)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context; None for HTTP."""
        return None if self._certificate is None else self._certificate.context

    def open(self) -> None:
        """Accept requests for the models of the folders, which were loaded."""
        self.service.open(self.folders.catalogue.scorers, self.settings.default_model)
        # Objects that live as long as the server are excluded from garbage collections.
        gc.collect()
        gc.freeze()

    def reload_files(self) -> None:
        """Read the certificate and the keys again; if they cannot be used, the previous ones stay."""
        if self._certificate is not None:
            _reload_certificate(self.service, self._certificate)
        if self.settings.key_file is None:
            return
        try:
            self.access.replace(self.settings.read_keys())
            _log.info("the API keys were reloaded", extra={"event": "keys_reloaded"})
            self.service.report("reload of the API keys", None)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with the file, the keys are unchanged
            self.service.report("reload of the API keys", error)
            _log.error("the API keys are unchanged", extra={"event": "keys_unchanged"})

    def close_outputs(self) -> None:
        """Send the last spans of traces, and write the rest of the journal, if there are any."""
        close_provider(self._tracer_provider, _LAST_SPANS_SECONDS)
        if self.service.journal is not None:
            self.service.journal.close()

    async def close(self, unfinished: Iterable[asyncio.Task[None]]) -> None:
        """End the threads of a drained server, or the process if they do not end.

        Args:
            unfinished: Tasks that may still run.
        """
        waiting = [task for task in unfinished if not task.done()]
        late = (await asyncio.wait(waiting, timeout=END_SECONDS))[1] if waiting else ()
        if late or not self.service.close(END_SECONDS):
            _end_process("threads that did not end were left behind")


def serve(settings: ServerSettings, *, on_listening: Callable[[str], None]) -> None:
    """Serve bundles until SIGTERM or SIGINT; then refuse new requests, answer the accepted ones, and return.

    After a second signal, or `Limits.drain_seconds` after the first, the process ends within a few seconds, whatever
    its threads do.

    SIGHUP reloads the keys and the bundles; invalid ones are logged and change nothing. A SIGHUP during the start is
    handled when the server is ready.

    Args:
        settings: The settings.
        on_listening: Called once with the URL of the server, before the bundles are loaded.

    Raises:
        CannotListen: The address is in use or invalid, or would be open to other machines by mistake.
        KeyFileError: The key file cannot be used.
        DataError: The journal cannot be written.
        TracingUnavailable: OpenTelemetry is not installed or not configured.
        EdgeDistillError: A bundle cannot be served; see `Bundle.load` and `Scorer`.
    """
    reload_signal = ReloadSignal()
    address = settings.address
    check_not_open(address, has_keys=settings.key_file is not None, is_open=settings.is_open)
    parts = ServerParts(settings)
    loading: list[asyncio.Task[None]] = []
    ended = threading.Event()

    async def run(listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loading.append(loop.create_task(_load(parts)))
        reload = partial(_reload, loading[0], parts)
        reload_signal.handle(loop, lambda: loading.append(loop.create_task(reload())))
        if settings.watched:
            # A daemon thread: a bundle that takes long to load must not delay the end of the process.
            watcher = threading.Thread(
                target=_watch, args=(loading[0], parts.folders, parts.service, ended), daemon=True
            )
            watcher.start()
            parts.service.watch_thread(f"{_WATCHER} (thread)", watcher)
        parts.draining.handle_signals()
        accepting = await loop.create_server(
            partial(Connection, parts.connections), sock=listener, ssl=parts.tls, backlog=_BACKLOG
        )
        await parts.draining.wait(accepting.close)
        ended.set()
        await parts.close(loading)

    with open_listener(address) as listener:
        on_listening(format_url(address, listener))
        try:
            asyncio.run(run(listener))
        finally:
            faulthandler.cancel_dump_traceback_later()
            parts.close_outputs()
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
        self._signals = 0

    def handle_signals(self) -> None:
        """Stop at SIGINT and SIGTERM."""
        loop = asyncio.get_running_loop()

        # Not with the loop's `add_signal_handler`: the time limit must start even if the loop is busy.
        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # signal's interface
            self.limit_end()
            if self._signals > 1:
                signal.signal(number, signal.SIG_DFL)  # the next one ends the process at once
            loop.call_soon_threadsafe(self.stop)

        for each in stop_signals():
            signal.signal(each, on_signal)

    def limit_end(self) -> None:
        """Start the time limit of the process: that of a drain, and when called again, a few seconds."""
        self._signals += 1
        _end_later(self._service.limits.drain_seconds if self._signals == 1 else END_SECONDS)

    async def wait(self, stop_accepting: Callable[[], None]) -> None:
        """Wait until the server has drained.

        Args:
            stop_accepting: Called when all accepted responses are answered.
        """
        loop = asyncio.get_running_loop()
        await self._ended.wait()
        stop_accepting()
        self._connections.finish()
        until = loop.time() + _CLOSE_SECONDS
        while (self._connections.open or self._connections.running) and loop.time() < until:
            if self._signals > 1:  # the process ends before its hard limit, which is for threads that hang
                until = min(until, loop.time() + END_SECONDS / 5)
            await asyncio.sleep(_POLL_SECONDS)

    def end(self) -> None:
        """End at once, before anything is served."""
        self._ended.set()

    def stop(self) -> None:
        """Drain; when called again, end."""
        if self._service.state == "ready":
            self._service.drain()
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        else:
            self.end()

    async def _drain(self) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + self._service.limits.drain_seconds - END_SECONDS
        try:
            await asyncio.sleep(_NOTICE_SECONDS)
            while not self._service.idle and clock() < until:  # noqa: ASYNC110  # changed by other threads
                await asyncio.sleep(_POLL_SECONDS)
            if not self._service.idle:
                pending = self._service.queue.pending
                extra = {"event": "drain_timeout", "fields": {"rows": pending}}
                _log.error("%d accepted responses were not scored in time", pending, extra=extra)
        finally:
            self.end()


def stop_signals() -> tuple[int, ...]:
    """Return the signals that drain the server: SIGINT, SIGTERM and, on Windows, that of Ctrl-Break."""
    ctrl_break = getattr(signal, "SIGBREAK", None)
    return (signal.SIGINT, signal.SIGTERM, *(() if ctrl_break is None else (ctrl_break,)))


def _end_later(seconds: float) -> None:
    """End the process after this time, unless it is cancelled.

    A thread of faulthandler does it, which needs no interpreter and cannot be blocked by other threads. It writes where
    each thread is, without values.
    """
    try:
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stdout)
    except (AttributeError, OSError, RuntimeError, ValueError):  # stderr is closed
        faulthandler.dump_traceback_later(seconds, exit=True, file=os.open(os.devnull, os.O_WRONLY))


def _end_process(reason: str) -> None:
    """End the process without waiting for its threads."""
    _log.error("the server ends at once: %s", reason, extra={"event": "forced_end"})
    logging.shutdown()
    os._exit(1)


class ReloadSignal:
    """SIGHUP. A signal before the event loop runs is handled later, because files may have been read before it.

    Windows has no such signal, and nothing is done there.
    """

    def __init__(self) -> None:
        self._was_received = False
        self._number: int | None = getattr(signal, "SIGHUP", None)
        if self._number is not None:
            signal.signal(self._number, self._on_early_signal)

    def handle(self, loop: asyncio.AbstractEventLoop, on_signal: Callable[[], object]) -> None:
        """Call a function at every SIGHUP, and at once if one was received before."""
        if self._number is None:
            return
        loop.add_signal_handler(self._number, on_signal)
        if self._was_received:
            on_signal()

    def _on_early_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # signal's interface
        self._was_received = True


async def _load(parts: ServerParts) -> None:
    try:
        await asyncio.to_thread(parts.folders.open)
        parts.open()
    finally:
        if not parts.service.models.scorers:
            parts.draining.end()
    for scorer in parts.service.models.scorers:
        manifest = scorer.bundle.manifest
        log_ready(manifest.name, manifest.version, scorer.precision)


def log_ready(model: str, version: str, precision: str) -> None:
    """Log that a model is served."""
    fields = {"model": model, "version": version, "precision": precision}
    _log.info("ready: %s, version %s, %s", *fields.values(), extra={"event": "ready", "fields": fields})


async def _reload(loaded: asyncio.Task[None], parts: ServerParts) -> None:
    """Read the keys again, and the bundles after their first load."""
    parts.reload_files()
    await asyncio.wait([loaded])
    service = parts.service
    if service.state == "ready":
        try:
            await asyncio.to_thread(parts.folders.refresh, service.swap)
            service.report("reload of the bundles", None)
        except Exception as error:  # noqa: BLE001  # the served models stay
            service.report("reload of the bundles", error)


def _reload_certificate(service: Service, certificate: Certificate) -> None:
    try:
        certificate.reload()
    except Exception as error:  # noqa: BLE001  # whatever is wrong with the files, the certificate is unchanged
        service.report("reload of the TLS certificate", error)
        _log.error("the TLS certificate is unchanged", extra={"event": "certificate_unchanged"})
        return
    service.report("reload of the TLS certificate", None)
    until = format_time(certificate.expires) if certificate.expires is not None else "unknown"
    extra = {"event": "certificate_reloaded", "fields": {"expires": until}}
    _log.info("the TLS certificate was reloaded; it expires: %s", until, extra=extra)


def _show_certificate(service: Service, metrics: ServerMetrics, certificate: Certificate) -> None:
    """Show in faults, metrics and log until when the certificate can be used."""
    service.add_check("TLS certificate", lambda: certificate.fault)
    expiry = CallbackGauge(
        "tls_certificate_expiry_seconds",
        "Time at which the served TLS certificate expires, in seconds since 1970.",
        lambda: [] if certificate.expires is None else [((), certificate.expires)],
    )
    metrics.add_gauges([expiry])
    if (fault := certificate.fault) is not None:
        extra = {"event": "fault", "fields": {"part": "TLS certificate"}}
        _log.error("clients will refuse the TLS certificate: %s", fault, extra=extra)


def _watch(loaded: asyncio.Task[None], folders: BundleFolders, service: Service, ended: threading.Event) -> None:
    while not loaded.done() and not ended.wait(0.1):
        pass
    last_check = time.monotonic()

    def on_check(error: BaseException | None) -> None:
        nonlocal last_check
        last_check = time.monotonic()
        service.report(_WATCHER, error)

    def silence() -> str | None:
        seconds = time.monotonic() - last_check
        return f"the last check ended {seconds:.0f} s ago" if seconds > LONGEST_CHECK_SECONDS else None

    service.add_check(_WATCHER, silence)
    watch(folders, service.swap, ended, on_check=on_check)


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
        single_gauge(
            "journal_lost",
            "Responses and drawn ids since the start that the journal does not have.",
            lambda: service.journal.lost if service.journal else 0,
        ),
        single_gauge("ready", "1 if requests are accepted.", lambda: service.state == "ready"),
        CallbackGauge(
            "fault",
            "1 if this part of the server does not work; /readyz has the reason.",
            lambda: [((part,), part in faults) for faults in [service.current_faults()] for part in service.parts],
            ("part",),
        ),
        CallbackGauge(
            "failures",
            "Failures of this part of the server since the start.",
            lambda: [((part,), count) for part, count in tuple(service.failures.items())],
            ("part",),
        ),
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
