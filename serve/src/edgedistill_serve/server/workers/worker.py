"""A worker: one of the processes of a server, which answers requests and obeys its supervisor.

    python -P -m edgedistill_serve.server.workers.worker CONTROL LISTENER MEMORY

The three numbers are file descriptors: of the socket to the supervisor, of the listening socket, and of the memory that
all processes share. If the supervisor ends, so does the worker, as after SIGTERM.
"""

import asyncio
import faulthandler
import hashlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import msgspec

from edgedistill_serve.errors import EdgeDistillError, NotReady
from edgedistill_serve.server.log_lines import configure_log, describe_frames
from edgedistill_serve.server.model_catalogue import Candidate, ModelCatalogue
from edgedistill_serve.server.process import ServerParts
from edgedistill_serve.server.protocols.health_routes import Ready, describe_readiness
from edgedistill_serve.server.shared_state import SharedState
from edgedistill_serve.server.transport.http11 import Connection
from edgedistill_serve.server.transport.shared_listener import SharedListener
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
    Question,
    Reject,
    ReloadFiles,
    Report,
    Start,
    State,
    ToSupervisor,
    ToWorker,
    encode,
    read_for_worker,
)

_STATE_SECONDS = 1.0
"""Time between two reports of a worker that has something new to report: what a killed worker has counted since its
last report is lost."""
_ANSWER_SECONDS = 5.0
"""Time limit for the supervisor's answer."""
_log = logging.getLogger("edgedistill_serve.server")


class Worker:
    """One worker.

    Args:
        listener: The listening socket.
        shared: The memory that all processes share.
        writer: The stream to the supervisor.
    """

    def __init__(self, listener: socket.socket, shared: SharedState, writer: asyncio.StreamWriter) -> None:
        self._listener = listener
        self._shared = shared
        self._writer = writer
        self._accepting: SharedListener | None = None
        self._candidate: Candidate | None = None
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._questions = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._reported = -1

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Obey the supervisor until the server has drained."""
        messages = read_for_worker(reader)
        start = await anext(messages, None)
        if not isinstance(start, Start):  # the supervisor has ended
            return
        configure_log(start.settings.log_format, start.settings.log_level)
        self._start = start
        try:
            self._parts = parts = ServerParts(start.settings, report=self, rates=self._shared.rates)
        except EdgeDistillError as error:
            self._send_failure(error)
            self._writer.close()
            return
        if start.is_first:
            self._accept()
        obeying = asyncio.create_task(self._obey(messages))
        loading = asyncio.create_task(self._load())
        self._do(self._report_regularly())
        await parts.draining.wait(self._stop_accepting)
        self._send_state()
        for task in self._tasks:
            task.cancel()
        await parts.close([loading])
        await asyncio.to_thread(parts.close_outputs)
        obeying.cancel()
        self._writer.close()

    async def readiness(self) -> Ready:
        """Return the state of the server, from the supervisor."""
        return msgspec.json.decode(await self._ask("readiness"), type=Ready)

    async def metrics(self) -> bytes:
        """Return the metrics of the server, from the supervisor."""
        return await self._ask("metrics")

    async def _ask(self, question: Question) -> bytes:
        self._questions += 1
        number = self._questions
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        self._send(Ask(number, question))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await answered
        except TimeoutError:
            raise NotReady("the process that supervises the workers does not answer", hint="Try again later.") from None
        finally:
            del self._asked[number]
        if answer.problem:
            raise NotReady(answer.problem, hint="Try again later.")
        return answer.body

    async def _obey(self, messages: AsyncIterator[ToWorker]) -> None:
        draining = self._parts.draining
        try:
            async for message in messages:
                self._handle(message)
        except Exception as error:  # noqa: BLE001  # the supervisor starts another one
            _log.error("this worker failed (%s at %s)", type(error).__name__, describe_frames(error))
        _log.error("the process that supervises the workers has ended; this one drains", extra={"event": "orphaned"})
        draining.limit_end()
        draining.stop()

    def _handle(self, message: ToWorker) -> None:
        if isinstance(message, Answer):
            self._on_answer(message)
        elif isinstance(message, Report):
            self._send_state()
        elif isinstance(message, Prepare):
            self._do(self._prepare(message.generation))
        elif isinstance(message, ReloadFiles):
            self._parts.reload_files()
        elif isinstance(message, Drain):
            self._parts.draining.limit_end()
            self._parts.draining.stop()
        elif isinstance(message, Open):
            self._parts.open()
            self._accept()
        elif isinstance(message, Commit | Reject):
            self._decide(message)

    def _on_answer(self, answer: Answer) -> None:
        waiting = self._asked.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _decide(self, message: Commit | Reject) -> None:
        """Keep or discard the prepared models."""
        service, folders, candidate = self._parts.service, self._parts.folders, self._candidate
        self._candidate = None
        if candidate is None:  # they could not be prepared
            return
        if isinstance(message, Commit):
            service.swap(candidate.catalogue)  # already done if a request has come since the generation has changed
            folders.install(candidate)
        else:
            service.discard_prepared()
            folders.reject(candidate, message.fault)

    async def _load(self) -> None:
        folders = self._parts.folders
        try:
            catalogue = await asyncio.to_thread(folders.open)
        except EdgeDistillError as error:
            self._send_failure(error)
        except Exception as error:  # noqa: BLE001  # the supervisor reports it; its message may contain texts
            self._send(LoadFailed(f"a bundle cannot be loaded ({type(error).__name__})", None, None, 1))
        else:
            self._send(Loaded(_digest(catalogue), _describe(catalogue)))
            return
        self._parts.draining.end()

    def _send_failure(self, error: EdgeDistillError) -> None:
        self._send(LoadFailed(error.what, error.where, error.hint, error.exit_code))

    async def _prepare(self, generation: int) -> None:
        folders, service = self._parts.folders, self._parts.service
        try:
            before = list(folders.statuses)
            candidate = await asyncio.to_thread(folders.prepare)
        except Exception as error:  # noqa: BLE001  # the served models stay
            failure = str(error) if isinstance(error, EdgeDistillError) else type(error).__name__
            self._send(Prepared(generation, failure=failure))
            return
        self._candidate = candidate
        service.prepare(candidate.catalogue, lambda: self._shared.generation >= generation)
        catalogue = candidate.catalogue
        self._send(Prepared(generation, _digest(catalogue), _describe(catalogue), before, list(candidate.statuses)))

    def _accept(self) -> None:
        if self._accepting is not None:
            return
        connections = self._parts.connections
        self._accepting = SharedListener(
            self._listener,
            partial(Connection, connections),
            self._parts.tls,
            state=self._shared,
            process=self._start.worker,
            connections=lambda: connections.open,
        )
        connections.on_change = self._accepting.update

    def _stop_accepting(self) -> None:
        if self._accepting is not None:
            self._accepting.close()

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(_STATE_SECONDS)
            if self._parts.metrics.changes != self._reported:
                self._send_state()

    def _send_state(self) -> None:
        parts = self._parts
        self._reported = parts.metrics.changes
        problem = ""
        try:
            describe_readiness(parts.service, parts.folders.statuses)
        except NotReady as error:
            problem = error.what
        statuses, faults = list(parts.folders.statuses), parts.service.current_faults()
        self._send(State(not problem, problem, statuses, faults, parts.metrics.snapshot()))

    def _send(self, message: ToSupervisor) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _digest(models: ModelCatalogue) -> str:
    """Return a digest of all manifests, which contain the digests of all files."""
    manifests = [scorer.bundle.manifest for scorer in models.scorers]
    return hashlib.sha256(msgspec.json.encode(manifests, order="deterministic")).hexdigest()


def _describe(models: ModelCatalogue) -> list[tuple[str, str, str]]:
    manifests = [(scorer.bundle.manifest, scorer.precision) for scorer in models.scorers]
    return [(manifest.name, manifest.version, precision) for manifest, precision in manifests]


def main() -> None:
    """Run a worker."""
    # The supervisor decides when the worker ends: service managers send their signals to all processes of a service,
    # and a terminal does so too.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    control, listener, memory = map(int, sys.argv[1:])

    async def run() -> None:
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=control))
        with socket.socket(fileno=listener) as shared_listener:
            shared_listener.setblocking(False)
            await Worker(shared_listener, SharedState(memory), writer).run(reader)

    try:
        asyncio.run(run())
    finally:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
