"""The supervisor of a server of several processes.

It opens the address, starts the workers, replaces those that die, replaces the bundles in all of them together, drains
them together, and reports their state and their metrics as one. It loads no bundle and answers no request.
"""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector

from edgedistill_serve.errors import EdgeDistillError, WorkerEnded
from edgedistill_serve.journal.writer import Journal
from edgedistill_serve.server.metrics import (
    CallbackGauge,
    Snapshot,
    counts_since_start,
    format_snapshot,
    gauges_collector,
    single_gauge,
    sum_snapshots,
    take_snapshot,
)
from edgedistill_serve.server.model_catalogue import FolderStatus, fingerprint, log_swap
from edgedistill_serve.server.process import (
    END_SECONDS,
    LONGEST_CHECK_SECONDS,
    ReloadSignal,
    ServerSettings,
    log_ready,
    stop_signals,
)
from edgedistill_serve.server.protocols.health_routes import Ready, Served, WorkerCount
from edgedistill_serve.server.shared_state import SharedState
from edgedistill_serve.server.transport.sockets_and_tls import (
    check_not_open,
    format_url,
    load_certificate,
    open_listener,
)
from edgedistill_serve.server.workers.messages import (
    Answer,
    Ask,
    Commit,
    Drain,
    Loaded,
    LoadFailed,
    Open,
    Prepare,
    Prepared,
    Reject,
    ReloadFiles,
    Report,
    Start,
    State,
    ToSupervisor,
    ToWorker,
    encode,
    read_for_supervisor,
)

_log = logging.getLogger("edgedistill_serve.server")
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0
"""Seconds before a dead worker is replaced: the first time, and at most, after many deaths in a row."""
_STABLE_SECONDS = 60.0
"""A worker that lived longer does not count as one of several deaths in a row."""
_STATE_SECONDS = 0.5
"""Time limit for the state of a worker; the last known one is used for a worker that does not answer. Probes often wait
for a second."""
_WATCHER = "watcher of the bundle folders"
_WATCH_SECONDS = 2.0
_PREPARE_ATTEMPTS = 3
"""Attempts to load the same bundles in all workers, while their folders change."""


def serve(settings: ServerSettings, workers: int, *, on_listening: Callable[[str], None]) -> None:
    """Serve bundles in several processes, as `process.serve` does in one.

    Args:
        settings: The settings; ``threads`` is the number of scoring threads of each worker.
        workers: Number of processes that answer requests.
        on_listening: Called once with the URL of the server, when every worker has loaded the bundles; never if one
            cannot.

    Raises:
        WorkerEnded: A worker ended before it had loaded the bundles.
        EdgeDistillError: As `process.serve`; a bundle that one worker cannot serve ends the start of all.
    """
    reload_signal = ReloadSignal()
    address = settings.address
    check_not_open(address, has_keys=settings.key_file is not None, is_open=settings.is_open)
    settings.read_keys()
    load_certificate(address)
    if settings.journal is not None:
        Journal(settings.journal, audit_share=settings.audit_share, start=False)
    with open_listener(address) as listener:
        supervisor = Supervisor(
            settings, workers, listener, on_open=lambda: on_listening(format_url(address, listener))
        )
        asyncio.run(supervisor.run(reload_signal))
    if supervisor.failure is not None:
        raise supervisor.failure


class _Worker:
    """A worker process, as the supervisor sees it.

    Args:
        number: Its number, from 0.
        process: The process.
        writer: The stream to it.
    """

    def __init__(self, number: int, process: subprocess.Popen[bytes], writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.process = process
        self.started = time.monotonic()
        self.loaded: Loaded | None = None
        self.failure: LoadFailed | None = None
        self.is_open = False
        self.is_obsolete = False
        self.is_silent = False
        self.state: State | None = None
        self.heard = self.started
        self._writer = writer
        self._state_futures: list[asyncio.Future[None]] = []
        self._prepared: asyncio.Future[Prepared | None] | None = None

    @property
    def name(self) -> str:
        """Name for people, who count from 1."""
        return f"worker {self.number + 1}"

    def send(self, message: ToWorker) -> None:
        """Send a message; a dead worker gets none."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def report(self) -> bool:
        """Update `state`, and return whether the worker answers in time."""
        future = asyncio.get_running_loop().create_future()
        self._state_futures.append(future)
        self.send(Report())
        done, _ = await asyncio.wait([future], timeout=_STATE_SECONDS)
        return bool(done)

    async def prepare(self, generation: int) -> Prepared | None:
        """Let it load the bundles again; None if it has died."""
        self._prepared = asyncio.get_running_loop().create_future()
        self.send(Prepare(generation))
        return await self._prepared

    def on_state(self, state: State) -> None:
        """Note a state."""
        self.state, self.heard = state, time.monotonic()
        futures, self._state_futures = self._state_futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)

    def on_prepared(self, prepared: Prepared | None) -> None:
        """Note what it has loaded."""
        if self._prepared is not None and not self._prepared.done():
            self._prepared.set_result(prepared)

    def on_end(self) -> None:
        """Let nobody wait for a dead worker."""
        self.is_open = False
        self._writer.close()
        self.on_prepared(None)
        for future in self._state_futures:
            future.cancel()


class Supervisor:
    """Starts the workers, and keeps them running until SIGTERM or SIGINT.

    Args:
        settings: The settings of the server.
        number: Number of workers.
        listener: The listening socket.
        on_open: Called once, when all workers are open.

    Attributes:
        failure: Why the server could not start; None if it has served.
    """

    def __init__(
        self, settings: ServerSettings, number: int, listener: socket.socket, *, on_open: Callable[[], None]
    ) -> None:
        self.failure: EdgeDistillError | None = None
        self._settings = settings
        self._number = number
        self._listener = listener
        self._on_open = on_open
        self._memory = SharedState.create(number)
        self._shared = SharedState(self._memory)
        self._workers: dict[int, _Worker] = {}
        self._digest = ""
        self._has_started = False
        self._signals = 0
        self._restarts = 0
        self._faults: dict[str, str] = {}
        self._checked = time.monotonic()
        self._ended_counts: Snapshot = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(gauges_collector(self._gauges()))

    async def run(self, reload_signal: ReloadSignal) -> None:
        """Run until every worker has ended."""
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._models = asyncio.Lock()
        for each in stop_signals():
            loop.add_signal_handler(each, self._stop)
        keeping = [loop.create_task(self._keep(number)) for number in range(self._number)]
        reload_signal.handle(loop, self._reload)
        if self._settings.watched:
            self._do(self._watch())
        await asyncio.gather(*keeping)
        for task in tuple(self._tasks):
            task.cancel()

    # --- the life of a worker -----------------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Start a worker, and replace it whenever it ends."""
        deaths = 0
        while not self._stopping.is_set():
            try:
                worker, reader = await self._start(number)
            except OSError as error:
                if not self._has_started:
                    self._fail(WorkerEnded(f"a worker cannot be started ({error.strerror})"))
                    return
                reason, lived = f"it cannot be started ({error.strerror})", 0.0
            else:
                async for message in read_for_supervisor(reader):
                    self._handle(worker, message)
                reason = await self._end(worker)
                lived = time.monotonic() - worker.started
            if self._stopping.is_set():
                return
            deaths = 1 if lived > _STABLE_SECONDS else deaths + 1
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(deaths - 1, 20))
            self._restarts += 1
            self._faults[f"worker {number + 1}"] = reason
            fields = {"worker": number + 1, "reason": reason, "seconds": delay}
            extra = {"event": "worker_ended", "fields": fields}
            _log.error("worker %d: %s; it is started again in %g s", *fields.values(), extra=extra)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()

    async def _start(self, number: int) -> tuple[_Worker, asyncio.StreamReader]:
        here, there = socket.socketpair()
        with there:
            process = _start_process(there.fileno(), self._listener.fileno(), self._memory)
        reader, writer = await asyncio.open_connection(sock=here)
        worker = self._workers[number] = _Worker(number, process, writer)
        worker.send(Start(self._settings, number, is_first=not self._has_started))
        for _ in range(self._signals):  # they came while it was started
            worker.send(Drain())
        return worker, reader

    async def _end(self, worker: _Worker) -> str:
        """Wait for the end of a process that has closed its stream, and return the reason."""
        self._shared.set_connections(worker.number, None)
        worker.on_end()
        if worker.state is not None:
            self._ended_counts = sum_snapshots([self._ended_counts, counts_since_start(worker.state.metrics)])
        del self._workers[worker.number]
        until = time.monotonic() + 2 * END_SECONDS
        while worker.process.poll() is None:
            if time.monotonic() > until:
                worker.process.kill()
            await asyncio.sleep(0.02)
        code = worker.process.returncode
        reason = f"it was ended by {_signal_name(-code)}" if code < 0 else f"it ended with exit code {code}"
        failure = worker.failure
        if failure is not None:
            reason = str(EdgeDistillError(failure.what, where=failure.where, hint=failure.hint))
        if self._stopping.is_set():
            if code and self._has_started and self.failure is None:
                self.failure = WorkerEnded(f"{worker.name} did not drain: {reason}")
        elif not self._has_started and not worker.is_obsolete:
            self._fail(_start_failure(worker, reason))
        return reason

    def _handle(self, worker: _Worker, message: ToSupervisor) -> None:
        if isinstance(message, State):
            worker.on_state(message)
        elif isinstance(message, Prepared):
            worker.on_prepared(message)
        elif isinstance(message, Ask):
            self._do(self._answer(worker, message))
        elif isinstance(message, LoadFailed):
            worker.failure = message
        else:
            worker.loaded = message
            self._do(self._admit(worker))

    def _fail(self, failure: EdgeDistillError) -> None:
        """End a server that has not started."""
        self.failure = self.failure or failure
        self._stopping.set()
        for worker in self._workers.values():
            worker.process.kill()

    # --- the served models --------------------------------------------------------------------------------------------

    async def _admit(self, worker: _Worker) -> None:
        """Open a worker that has loaded the same bundles as the others."""
        async with self._models:
            loaded = worker.loaded
            if loaded is None or self._workers.get(worker.number) is not worker:
                return
            if not self._has_started:
                self._open_all(loaded)
                return
            others = [each for each in self._workers.values() if each.is_open]
            # A bundle that has changed since the others loaded it is served by all, or by none.
            if loaded.digest == self._digest or not others or await self._replace_models([*others, worker]):
                self._digest = loaded.digest if not others else self._digest
                self._open(worker)
                self._faults.pop(worker.name, None)
                fields = {"worker": worker.number + 1}
                _log.info("worker %d is ready", *fields.values(), extra={"event": "worker_ready", "fields": fields})
            else:
                worker.process.kill()

    def _open_all(self, newest: Loaded) -> None:
        """Open the workers together as soon as all of them have loaded the same bundles."""
        workers = list(self._workers.values())
        for worker in workers:
            if worker.loaded is not None and worker.loaded.digest != newest.digest:  # the folders have changed
                worker.is_obsolete = True
                worker.process.kill()
        if len(workers) < self._number or any(each.loaded is None or each.is_obsolete for each in workers):
            return
        self._has_started = True
        self._digest = newest.digest
        self._shared.generation = 1
        for worker in workers:
            self._open(worker)
        self._on_open()
        for model in newest.models:
            log_ready(*model)

    def _open(self, worker: _Worker) -> None:
        worker.is_open = True
        worker.send(Open())

    async def _replace_models(self, workers: list[_Worker]) -> bool:
        """Let all workers load the bundles, and serve them if all have loaded the same; else all keep the old ones."""
        for attempt in range(_PREPARE_ATTEMPTS):
            generation = self._shared.generation + 1
            answers = await asyncio.gather(*(worker.prepare(generation) for worker in workers))
            found = [(worker, each) for worker, each in zip(workers, answers, strict=True) if each is not None]
            if not found:
                return False
            digests = {each.digest for _, each in found}
            fault = _first_fault(found)
            if len(digests) == 1 and not any(each.failure for _, each in found):
                # From this moment on, every worker uses the new models for new requests.
                self._shared.generation = generation
                for worker, _ in found:
                    worker.send(Commit())
                (self._digest,) = digests
                for before, after in zip(found[0][1].before, found[0][1].after, strict=True):
                    log_swap(before, after)
                return True
            reason = fault or "the workers have loaded different bundles, because a folder is being changed"
            for worker, _ in found:
                worker.send(Reject(reason))
            if fault or attempt == _PREPARE_ATTEMPTS - 1:
                _log.error("the new bundles cannot be served: %s", reason, extra={"event": "bundle_refused"})
                return False
            await asyncio.sleep(_WATCH_SECONDS / 2)
        return False

    def _reload(self) -> None:
        for worker in self._workers.values():
            worker.send(ReloadFiles())
        self._do(self._refresh())

    async def _refresh(self) -> None:
        async with self._models:
            workers = [worker for worker in self._workers.values() if worker.is_open]
            if workers and not self._stopping.is_set():
                await self._replace_models(workers)

    async def _watch(self) -> None:
        """Replace the models when a folder has changed and changes no more."""
        known: list[Any] | None = None
        while True:
            self._checked = time.monotonic()
            try:
                found = await asyncio.to_thread(self._fingerprints)
                known = found if known is None else known
                if found != known:
                    await asyncio.sleep(_WATCH_SECONDS)
                    if await asyncio.to_thread(self._fingerprints) == found:
                        known = found
                        await self._refresh()
                self._faults.pop(_WATCHER, None)
            except Exception as error:  # noqa: BLE001  # later bundles must be noticed
                if _WATCHER not in self._faults:
                    fields = {"part": _WATCHER, "error": type(error).__name__}
                    _log.error("the %s failed: %s", *fields.values(), extra={"event": "fault", "fields": fields})
                self._faults[_WATCHER] = type(error).__name__
            await asyncio.sleep(_WATCH_SECONDS)

    def _fingerprints(self) -> list[Any]:
        return [fingerprint(folder) for folder in self._settings.bundles]

    # --- the end ------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Drain at the first signal, end within a few seconds at the second, and at once at the third."""
        self._signals += 1
        self._stopping.set()
        limit = self._settings.limits.drain_seconds if self._signals == 1 else END_SECONDS
        for worker in tuple(self._workers.values()):
            if self._signals > 2 or not self._has_started:
                worker.process.kill()
            worker.send(Drain())
        # Each worker keeps this limit itself, unless it is stopped or hangs before it has read the message.
        asyncio.get_running_loop().call_later(limit + END_SECONDS, self._kill)

    def _kill(self) -> None:
        for worker in tuple(self._workers.values()):
            worker.process.kill()

    # --- the reports --------------------------------------------------------------------------------------------------

    async def _answer(self, worker: _Worker, question: Ask) -> None:
        try:
            await self._collect()
            body = self._metrics() if question.question == "metrics" else self._readiness()
            worker.send(Answer(question.number, body))
        except _NotReady as error:
            worker.send(Answer(question.number, problem=str(error)))

    async def _collect(self) -> None:
        """Ask all workers for their states."""
        workers = list(self._workers.values())
        answers = await asyncio.gather(*(worker.report() for worker in workers))
        for worker, has_answered in zip(workers, answers, strict=True):
            if worker.is_silent and has_answered:
                self._faults.pop(worker.name, None)
            worker.is_silent = not has_answered and self._workers.get(worker.number) is worker
            if worker.is_silent:
                self._faults[worker.name] = f"it has not answered for {time.monotonic() - worker.heard:.0f} s"

    def _states(self) -> dict[int, State]:
        workers = sorted(self._workers.items())
        return {number: worker.state for number, worker in workers if worker.state is not None}

    def _current_faults(self) -> dict[str, str]:
        """Return the faults of the supervisor, which include a watcher that hangs, and of the workers as a whole."""
        silence = time.monotonic() - self._checked
        if not self._settings.watched or silence <= LONGEST_CHECK_SECONDS:
            return dict(self._faults)
        return {_WATCHER: f"the last check ended {silence:.0f} s ago", **self._faults}

    def _ready_count(self) -> int:
        return sum(state.is_ready for number, state in self._states().items() if self._workers[number].is_open)

    def _readiness(self) -> bytes:
        states = self._states()
        ready = [state for number, state in states.items() if state.is_ready and self._workers[number].is_open]
        if not ready or self._stopping.is_set():
            problem = next((state.problem for state in states.values() if state.problem), "")
            raise _NotReady(
                "the server is draining" if self._stopping.is_set() else problem or "the server is starting"
            )
        faults = self._current_faults()
        for number, state in states.items():
            faults |= {f"worker {number + 1}, {part}": reason for part, reason in state.faults.items()}
        statuses = [_merge_statuses(each) for each in zip(*(state.statuses for state in ready), strict=True)]
        models = [Served(each.model, each.version, each.swaps, each.failures, each.fault) for each in statuses]
        return msgspec.json.encode(Ready("ready", models, WorkerCount(len(ready), self._number), faults))

    def _metrics(self) -> bytes:
        live = [state.metrics for state in self._states().values()]
        return format_snapshot(sum_snapshots([*live, self._ended_counts, take_snapshot(self._registry)]))

    def _gauges(self) -> list[CallbackGauge]:
        return [
            single_gauge("workers", "Processes that accept requests.", self._ready_count),
            single_gauge("workers_wanted", "Processes that should accept requests.", lambda: self._number),
            single_gauge("worker_restarts", "Workers that were started again since the start.", lambda: self._restarts),
            CallbackGauge(
                "fault",
                "1 if this part of the server does not work; /readyz has the reason.",
                lambda: [((part,), part in faults) for faults in [self._current_faults()] for part in self._parts()],
                ("part",),
            ),
        ]

    def _parts(self) -> list[str]:
        workers = [f"worker {number + 1}" for number in range(self._number)]
        return list(dict.fromkeys([*workers, *([_WATCHER] if self._settings.watched else []), *self._faults]))

    def _do(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _start_process(*descriptors: int) -> subprocess.Popen[bytes]:
    """Start a worker.

    It is a new interpreter and not a fork, because this process may have threads, and in a group of its own, so that a
    terminal's Ctrl-C reaches it through the supervisor only.
    """
    command = [sys.executable, "-P", "-m", "edgedistill_serve.server.workers.worker", *map(str, descriptors)]
    return subprocess.Popen(  # noqa: S603  # our own module
        command, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0
    )


class _NotReady(Exception):
    """The server accepts no requests; the message is for the client."""


def _first_fault(found: Iterable[tuple[_Worker, Prepared]]) -> str | None:
    """Return the first reason why a worker cannot serve a bundle."""
    for worker, prepared in found:
        faults = [prepared.failure, *(each.fault for each in prepared.after)]
        reason = next((fault for fault in faults if fault), None)
        if reason is not None:
            return f"{worker.name}: {reason}"
    return None


def _merge_statuses(statuses: tuple[FolderStatus, ...]) -> FolderStatus:
    """Return the status of a folder over all workers; one that was started again has counted less."""
    fault = next((each.fault for each in statuses if each.fault), None)
    swaps, failures = max(each.swaps for each in statuses), max(each.failures for each in statuses)
    return replace(statuses[0], swaps=swaps, failures=failures, fault=fault)


def _start_failure(worker: _Worker, reason: str) -> EdgeDistillError:
    failure = worker.failure
    if failure is None:
        return WorkerEnded(
            f"{worker.name} ended before it had loaded the bundles: {reason}",
            hint="If the system has too little memory for all workers, start fewer with --workers.",
        )
    error = EdgeDistillError(failure.what, where=failure.where, hint=failure.hint)
    error.exit_code = failure.exit_code
    return error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
