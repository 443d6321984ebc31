r"""`POST /v1/score/bulk`: a line in, a line out, in the same order, as many as there are.

At most ``bulk_rows`` rows of a request are held at a time. While they wait to be scored, or the client does not read,
nothing more is read from it; a client must therefore read while it sends, as `curl -T -` does. Where the request ends
before its last row, because the server drains or the client is slow, the answer's last line is an error that says so.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import msgspec
from starlette.types import Receive, Scope, Send

from edgedistill_serve.errors import EdgeDistillError, NotReady, QueueFull, RequestTooLarge, TooSlow
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.protocols.v1_messages import NoScore
from edgedistill_serve.server.queue.work_item import Pending
from edgedistill_serve.server.request.body_reader import read_lines
from edgedistill_serve.server.request.v1_request import check_texts, decode
from edgedistill_serve.server.service import Service

MEDIA_TYPE = "application/x-ndjson"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.2
"""Seconds between two tries to get into a full queue."""
_LARGEST_PART = 32 * 1024
"""Bytes of answer that are gathered before they are sent, while more is ready."""

_HINT = "A line is a text in quotes, or an object with all inputs of the task."

_Row = Pending | NoScore


class BulkAnswer:
    """An ASGI response that reads its request as it goes.

    Args:
        service: What scores.
        scorer: The model; it stays the same to the end of the request.
    """

    def __init__(self, service: Service, scorer: Scorer) -> None:
        self._service = service
        self._scorer = scorer
        self._rows: asyncio.Queue[_Row | None] = asyncio.Queue()
        self._held = asyncio.Semaphore(service.limits.bulk_rows)
        self._pending: set[Pending] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI
        """Answer; when the client goes, its rows leave the queue."""
        manifest = self._scorer.bundle.manifest
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"x-model", f"{manifest.name}@{manifest.version}".encode("ascii", "replace")),
        ]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": True})  # the head leaves at once
        reading = asyncio.create_task(self._read(receive))
        try:
            async for part in self._parts():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await reading
            await send({"type": "http.response.body", "body": b""})
        finally:
            reading.cancel()
            for row in tuple(self._pending):
                row.cancel()

    async def _read(self, receive: Receive) -> None:
        """Queue every line, and at the end None."""
        limits = self._service.limits
        try:
            async with self._until_draining():
                lines = read_lines(
                    receive, room=self._service.bodies, limit=limits.body_bytes, seconds=limits.body_seconds
                )
                async for line in lines:
                    if isinstance(line, QueueFull):
                        raise line.unraised_copy()  # the next may find room, and rows would be missing in between
                    await self._held.acquire()
                    self._rows.put_nowait(await self._submit(line))
        except (NotReady, TooSlow, QueueFull) as error:
            what = f"{error.what}; this row and those after it were not scored"
            self._rows.put_nowait(NoScore(str(type(error)(what, hint=error.hint)), ended=True))
        finally:
            self._rows.put_nowait(None)

    @asynccontextmanager
    async def _until_draining(self) -> AsyncIterator[None]:
        """Do what is inside; when the server begins to drain, raise `NotReady`."""
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
            given = decode(line, what="line", hint=_HINT)
            check_texts(given, self._service.limits.text_characters)
            row = self._scorer.read_inputs(given)
        except EdgeDistillError as error:
            return NoScore(str(error))
        pause = _FIRST_PAUSE
        while True:
            try:
                pending = self._service.submit(self._scorer, row, lane="bulk")
            except QueueFull:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self._pending.add(pending)
            return pending

    async def _parts(self) -> AsyncIterator[bytes]:
        """Give the answer's lines, several at a time where several are ready."""
        part = bytearray()
        while (row := await self._rows.get()) is not None:
            is_ready = not isinstance(row, Pending) or row.done()
            if part and (len(part) >= _LARGEST_PART or not is_ready):
                yield bytes(part)
                part.clear()
            part += msgspec.json.encode(await self._result(row)) + b"\n"
            self._held.release()
            if self._rows.empty():
                yield bytes(part)
                part.clear()
        if part:
            yield bytes(part)

    async def _result(self, row: _Row) -> Score | NoScore:
        if isinstance(row, NoScore):
            return row
        result = await self._service.outcome(row)
        self._pending.discard(row)
        return NoScore(str(result)) if isinstance(result, EdgeDistillError) else result
