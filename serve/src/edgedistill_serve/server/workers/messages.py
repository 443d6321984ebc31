"""The messages between the supervisor and its workers, over a pair of connected sockets.

supervisor                          worker
Start                               Loaded or LoadFailed
Open                                accepts requests from now on
Prepare                             Prepared: new bundles are loaded; `SharedState.generation` replaces the old ones
Commit or Reject
ReloadFiles
Report                              State; also each second
Answer                              Ask: a client has asked this worker for the state of the server
Drain
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from edgedistill_serve.server.metrics import Snapshot
from edgedistill_serve.server.model_catalogue import FolderStatus
from edgedistill_serve.server.process import ServerSettings


class Start(msgspec.Struct, frozen=True, tag=True):
    """Load the bundles.

    Attributes:
        settings: The settings of the server.
        worker: Number of the worker, from 0.
        is_first: Whether the server starts, so that connections are accepted before the bundles are loaded.
    """

    settings: ServerSettings
    worker: int
    is_first: bool


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The bundles are loaded.

    Attributes:
        digest: Digest of the manifests of all bundles.
        models: Name, version and precision of each model.
    """

    digest: str
    models: list[tuple[str, str, str]]


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """The bundles cannot be loaded: the parts of an `EdgeDistillError`."""

    what: str
    where: str | None
    hint: str | None
    exit_code: int


class Open(msgspec.Struct, frozen=True, tag=True):
    """Accept requests."""


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Load the bundles again, and use them from this generation on."""

    generation: int


class Prepared(msgspec.Struct, frozen=True, tag=True):
    """The bundles were loaded again.

    Attributes:
        generation: As in `Prepare`.
        digest: Digest of the manifests of all models that would be served.
        models: As in `Loaded`.
        before: The status of each folder now.
        after: The status of each folder if they are served.
        failure: Why nothing could be prepared; None if that is not so.
    """

    generation: int
    digest: str = ""
    models: list[tuple[str, str, str]] = []
    before: list[FolderStatus] = []
    after: list[FolderStatus] = []
    failure: str | None = None


class Commit(msgspec.Struct, frozen=True, tag=True):
    """All workers use the prepared models."""


class Reject(msgspec.Struct, frozen=True, tag=True):
    """No worker uses the prepared models.

    Attributes:
        fault: The reason.
    """

    fault: str


class ReloadFiles(msgspec.Struct, frozen=True, tag=True):
    """Read the certificate and the keys again."""


class Report(msgspec.Struct, frozen=True, tag=True):
    """Send the state now."""


class State(msgspec.Struct, frozen=True, tag=True):
    """The state of a worker.

    Attributes:
        is_ready: Whether it accepts requests.
        problem: Why it does not.
        statuses: The status of each folder.
        faults: Parts that do not work.
        metrics: Its metrics.
    """

    is_ready: bool
    problem: str
    statuses: list[FolderStatus]
    faults: dict[str, str]
    metrics: Snapshot


Question: TypeAlias = Literal["readiness", "metrics"]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A question about the whole server; the answer has the same number."""

    number: int
    question: Question


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to a question.

    Attributes:
        number: Number of the question.
        body: The content; JSON for readiness.
        problem: Why the server is not ready, instead of a content.
    """

    number: int
    body: bytes = b""
    problem: str = ""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Drain, and end. The second one ends a drain within a few seconds."""


ToWorker: TypeAlias = Start | Open | Prepare | Commit | Reject | ReloadFiles | Report | Answer | Drain
ToSupervisor: TypeAlias = Loaded | LoadFailed | Prepared | State | Ask


def _encode_path(value: Any) -> bytes:
    if isinstance(value, Path):
        return os.fsencode(value)  # a path need not be valid text
    raise TypeError(f"no message between processes has a {type(value).__name__}")


def _decode_path(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return Path(os.fsdecode(value))
    raise TypeError(f"no message between processes has a {kind.__name__}")


_LENGTH_BYTES = 4
_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_path)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker, dec_hook=_decode_path)
_to_supervisor: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor, dec_hook=_decode_path)


def encode(message: ToWorker | ToSupervisor) -> bytes:
    """Return a message as bytes, with its length first."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_for_worker(reader: asyncio.StreamReader) -> AsyncIterator[ToWorker]:
    """Yield the messages of the supervisor, until it ends."""
    async for body in _read(reader):
        yield _to_worker.decode(body)


async def read_for_supervisor(reader: asyncio.StreamReader) -> AsyncIterator[ToSupervisor]:
    """Yield the messages of a worker, until it ends."""
    async for body in _read(reader):
        yield _to_supervisor.decode(body)


async def _read(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        while True:
            length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
            yield await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return
