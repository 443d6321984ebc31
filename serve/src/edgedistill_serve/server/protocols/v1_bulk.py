"""`POST /v1/score/bulk`: one JSON line per response, in and out, in the same order, for any number of lines.

The server holds at most ``bulk_rows`` rows of a request. While they wait for their scores, or the client does not read,
no more lines are read; a client must therefore read while it sends, as `curl -T -` does. If the request ends before its
last row, because the server drains or the client is too slow, the last line of the answer is an error.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import msgspec
from starlette.types import Message, Receive, Scope, Send

from edgedistill_serve.errors import EdgeDistillError, NotReady, QueueFull, RequestTooLarge, TooSlow
from edgedistill_serve.journal.records import Entry
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.log_lines import add_log_fields
from edgedistill_serve.server.protocols.scoring_request import check_texts, decode_json
from edgedistill_serve.server.protocols.v1_messages import NoScore
from edgedistill_serve.server.queue.work_item import PendingScore
from edgedistill_serve.server.request.body_reader import read_lines
from edgedistill_serve.server.service import Service, is_short

MEDIA_TYPE = "application/x-ndjson"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.2
"""Seconds between two attempts to submit to a full queue."""
_CHUNK_BYTES = 32 * 1024
"""Lines that are ready are sent together, up to about this size."""

_HINT = "Send a JSON string, or an object with all inputs of the task, on each line."

_Row = PendingScore | NoScore
_Parsed = tuple[dict[str, str], Entry]


class BulkAnswer:
    """An ASGI response that reads its request while it answers.

    Args:
        service: The service.
        scorer: The model for the whole request.
    """

    def __init__(self, service: Service, scorer: Scorer) -> None:
        self._service = service
        self._scorer = scorer
        self._rows: asyncio.Queue[_Row | None] = asyncio.Queue()
        self._slots = asyncio.Semaphore(service.limits.bulk_rows)
        self._pending: dict[PendingScore, Entry] = {}
        self._answered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. If the client disconnects, its rows are removed from the queue."""
        manifest = self._scorer.bundle.manifest
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"x-model", f"{manifest.name}@{manifest.version}".encode("ascii", "replace")),
        ]
        reads = asyncio.Event()
        reading = asyncio.create_task(self._read(receive, reads))
        add_log_fields(scope, model=manifest.name, version=manifest.version, rows=0)
        try:
            await reads.wait()  # whoever expects 100 Continue gets it before the answer, and else would send nothing
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": True})  # sends the head at once
            async for chunk in self._chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await reading
            await send({"type": "http.response.body", "body": b""})
        finally:
            add_log_fields(scope, rows=self._answered)
            reading.cancel()
            for row in tuple(self._pending):
                row.cancel()

    async def _read(self, receive: Receive, reads: asyncio.Event) -> None:
        """Submit every line, and put its row into the queue of rows; None marks the end.

        Args:
            receive: Returns the next part of the body.
            reads: Set once the body is read.
        """
        limits = self._service.limits

        async def receive_part() -> Message:
            reads.set()
            return await receive()

        try:
            async with self._until_draining():
                lines = read_lines(
                    receive_part, memory=self._service.bodies, limit=limits.body_bytes, seconds=limits.body_seconds
                )
                async for line in lines:
                    if isinstance(line, QueueFull):
                        raise line.unraised_copy()  # later lines may fit, and a row would be missing
                    await self._slots.acquire()
                    self._rows.put_nowait(await self._submit(line))
        except (NotReady, TooSlow, QueueFull) as error:
            what = f"{error.what}; this row and those after it were not scored"
            self._rows.put_nowait(NoScore(str(type(error)(what, hint=error.hint)), ended=True))
        finally:
            reads.set()
            self._rows.put_nowait(None)

    @asynccontextmanager
    async def _until_draining(self) -> AsyncIterator[None]:
        """Run the block; raise `NotReady` when the server begins to drain."""
        loop = asyncio.get_running_loop()

        async def end(clock: asyncio.Timeout) -> None:
            await self._service.draining.wait()
            clock.reschedule(loop.time())

        try:
            async with asyncio.timeout(None) as clock:
                waiting = asyncio.create_task(end(clock))
                try:
                    yield
                finally:
                    waiting.cancel()
        except TimeoutError:
            self._service.check_ready()
            raise

    async def _submit(self, line: bytes | RequestTooLarge) -> _Row:
        if isinstance(line, EdgeDistillError):
            return NoScore(str(line))
        try:
            parsed = self._parse(line) if is_short(len(line)) else await self._service.compute(self._parse, line)
        except EdgeDistillError as error:
            return NoScore(str(error))
        inputs, entry = parsed
        pause = _FIRST_PAUSE
        while True:
            try:
                pending = self._service.submit(self._scorer, inputs, lane="bulk")
            except QueueFull:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self._pending[pending] = entry
            return pending

    def _parse(self, line: bytes) -> _Parsed:
        response = decode_json(line, name="line", hint=_HINT)
        check_texts(response, self._service.limits.text_characters)
        inputs = self._scorer.read_inputs(response)
        return inputs, Entry.of(self._scorer.bundle.task, inputs, response)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Yield the lines of the answer; lines that are ready are combined."""
        chunk = bytearray()
        while (row := await self._rows.get()) is not None:
            is_ready = not isinstance(row, PendingScore) or row.done()
            if chunk and (len(chunk) >= _CHUNK_BYTES or not is_ready):
                yield bytes(chunk)
                chunk.clear()
            chunk += msgspec.json.encode(await self._result(row)) + b"\n"
            self._answered += 1
            self._slots.release()
            if self._rows.empty():
                yield bytes(chunk)
                chunk.clear()
        if chunk:
            yield bytes(chunk)

    async def _result(self, row: _Row) -> Score | NoScore:
        if isinstance(row, NoScore):
            return row
        result = await self._service.result(row)
        self._service.record(self._scorer, self._pending.pop(row), result)
        return NoScore(str(result)) if isinstance(result, EdgeDistillError) else result
