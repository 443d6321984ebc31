"""What a server answers, as types, and the errors of asking it.

ClientError                   root of what a client raises
├── HttpxMissing              httpx is not installed
├── Unreachable               no answer came: no connection, a connection that broke, or nothing in time
├── Busy                      the server said 429 or 503 to the last try
├── Refused                   the server does not take this request: key, model, form or size
├── ServerFailed              the server failed on it
└── StrangeAnswer             the answer is none of this server's
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from edgedistill_serve import Score
from edgedistill_serve.errors import EdgeDistillError


class ClientError(EdgeDistillError):
    """A server did not score what it was asked to.

    Attributes:
        status: The HTTP status of its answer, None where there was none.
    """

    status: int | None = None


class HttpxMissing(ClientError):
    """httpx is not installed."""


class Unreachable(ClientError):
    """No answer came, as often as it was tried."""


class Busy(ClientError):
    """The server had no room, as often as it was tried."""


class Refused(ClientError):
    """The server does not take this request, and would not take it again."""


class ServerFailed(ClientError):
    """The server failed on the request."""


class StrangeAnswer(ClientError):
    """What answered is no server of this kind, or another version of it."""


Response: TypeAlias = str | Mapping[str, str]
"""A response's text alone, or a mapping of the task's inputs."""


class Scored(msgspec.Struct, frozen=True):
    """A response's score.

    Attributes:
        model: Name of the model that scored it.
        version: The model's version.
        score: What it says.
    """

    model: str
    version: str
    score: Score


class NotScored(msgspec.Struct, frozen=True):
    """A response that the server could not score; it took no other with it.

    Attributes:
        model: Name of the model that failed on it, None where the server could not tell.
        version: The model's version, None as above.
        error: Why; never a word of the response.
    """

    model: str | None
    version: str | None
    error: str


Result: TypeAlias = Scored | NotScored


class ServedModel(msgspec.Struct, frozen=True):
    """A model that a server scores with.

    Attributes:
        name: As a request names it.
        version: Other weights, other version.
        kind: ``nominal``, ``ordinal`` or ``multilabel``.
        labels: In codebook order.
        inputs: What a response comes with.
        max_tokens: Longest sequence that the model reads, special tokens counted.
        definitions: What the codebook says of each label.
        thresholds: Of a multilabel task, the probability from which each label holds.
    """

    name: str
    version: str
    kind: str
    labels: tuple[str, ...]
    inputs: tuple[str, ...]
    max_tokens: int
    definitions: dict[str, str] = {}
    thresholds: dict[str, float] = {}


class RequestLimits(msgspec.Struct, frozen=True):
    """The most that a server takes in one request.

    Attributes:
        items: Responses.
        body_bytes: Bytes of the body.
    """

    items: int = 1000
    body_bytes: int = 4 * 1024 * 1024


class ModelList(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/models`."""

    models: tuple[ServedModel, ...]
    limits: RequestLimits = RequestLimits()


class IncompleteAnswer(Exception):
    """The answer ends before its end; it never leaves this package."""


class _By(msgspec.Struct, frozen=True):
    model: str
    version: str


class _Several(_By, frozen=True):
    scores: list[dict[str, Any]]


def read_one(body: bytes) -> Scored:
    """Read the answer to one response.

    Raises:
        msgspec.DecodeError: It is none.
    """
    by = msgspec.json.decode(body, type=_By)
    return Scored(by.model, by.version, msgspec.json.decode(body, type=Score))


def read_several(body: bytes, wanted: int) -> list[Result]:
    """Read the answer to a list of responses.

    Raises:
        msgspec.DecodeError: It is none, or of another number of responses than ``wanted``.
    """
    found = msgspec.json.decode(body, type=_Several)
    return _counted([_result(found.model, found.version, item) for item in found.scores], wanted)


def read_lines(body: bytes, named: str, wanted: int) -> list[Result]:
    """Read the NDJSON answer to a window of a stream.

    Args:
        body: The lines.
        named: The model as the answer's head names it, ``NAME@VERSION``.
        wanted: How many responses the window has.

    Raises:
        IncompleteAnswer: There are fewer lines, for the server went away, or one says that it stopped there.
        msgspec.DecodeError: The lines are no such answer.
    """
    if not body.endswith(b"\n") or body.count(b"\n") < wanted:
        raise IncompleteAnswer
    model, _, version = named.rpartition("@")
    found = msgspec.json.Decoder(dict[str, Any]).decode_lines(body)
    if any(item.get("ended") for item in found):
        raise IncompleteAnswer
    return _counted([_result(model, version, item) for item in found], wanted)


def _result(model: str, version: str, item: dict[str, Any]) -> Result:
    if "error" in item:
        return NotScored(model, version, str(item["error"]))
    return Scored(model, version, msgspec.convert(item, Score))


def _counted(results: list[Result], wanted: int) -> list[Result]:
    if len(results) != wanted:
        raise msgspec.ValidationError(f"{len(results)} results came for {wanted} responses")
    return results
