"""The results and the errors of the clients.

ClientError                   root of the errors of a client
├── HttpxMissing              httpx is not installed
├── Unreachable               no answer: no connection, a broken connection, or a timeout
├── Busy                      the server answered the last attempt with 429 or 503
├── Refused                   the server does not accept the request: key, model, schema or size
├── ServerFailed              the server failed on the request
└── StrangeAnswer             the answer is not one of this kind of server
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from edgedistill_serve import Score
from edgedistill_serve.bundle.verdict import NOT_VALIDATED, BundleVerdict
from edgedistill_serve.errors import EdgeDistillError


class ClientError(EdgeDistillError):
    """A request to a server failed.

    Attributes:
        status: HTTP status of the answer; None without an answer.
    """

    status: int | None = None


class HttpxMissing(ClientError):
    """httpx is not installed."""


class Unreachable(ClientError):
    """There was no answer to any attempt."""


class Busy(ClientError):
    """The server had no capacity at any attempt."""


class Refused(ClientError):
    """The server does not accept the request, so that a retry would not help."""


class ServerFailed(ClientError):
    """The server failed on the request."""


class StrangeAnswer(ClientError):
    """The answer comes from another kind of server, or from another version."""


Response: TypeAlias = str | Mapping[str, str]
"""The text of a response, or a mapping of the task's inputs."""


class Scored(msgspec.Struct, frozen=True):
    """The score of a response.

    Attributes:
        model: Name of the model.
        version: Version of the model.
        score: The score.
    """

    model: str
    version: str
    score: Score


class NotScored(msgspec.Struct, frozen=True):
    """A response that the server could not score; other responses are not affected.

    Attributes:
        model: Name of the model; None if it is not known.
        version: Version of the model; None if it is not known.
        error: The reason; it never contains text of the response.
    """

    model: str | None
    version: str | None
    error: str


Result: TypeAlias = Scored | NotScored


class ServedModel(msgspec.Struct, frozen=True):
    """A model of the server.

    Attributes:
        name: Name for requests.
        version: Version of the bundle.
        kind: ``nominal``, ``ordinal`` or ``multilabel``.
        labels: The labels in codebook order.
        inputs: The inputs of a response.
        max_tokens: Longest sequence that the model reads, including special tokens.
        definitions: The codebook's definition of each label.
        thresholds: For a multilabel task, the probability from which each label is assigned.
        verdict: What locked test rows say about the use of the model.
    """

    name: str
    version: str
    kind: str
    labels: tuple[str, ...]
    inputs: tuple[str, ...]
    max_tokens: int
    definitions: dict[str, str] = {}
    thresholds: dict[str, float] = {}
    verdict: BundleVerdict = NOT_VALIDATED


class RequestLimits(msgspec.Struct, frozen=True):
    """The limits of the server for one request.

    Attributes:
        items: Largest number of responses.
        body_bytes: Largest body in bytes.
    """

    items: int = 1000
    body_bytes: int = 4 * 1024 * 1024


class ModelList(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/models`."""

    models: tuple[ServedModel, ...]
    limits: RequestLimits = RequestLimits()


class IncompleteAnswer(Exception):
    """The answer is incomplete. This exception is internal."""


class _ModelFields(msgspec.Struct, frozen=True):
    model: str
    version: str


class _ScoreList(_ModelFields, frozen=True):
    scores: list[dict[str, Any]]


def parse_single(body: bytes) -> Scored:
    """Parse the answer to a request with one response.

    Raises:
        msgspec.DecodeError: The answer is invalid.
    """
    fields = msgspec.json.decode(body, type=_ModelFields)
    return Scored(fields.model, fields.version, msgspec.json.decode(body, type=Score))


def parse_list(body: bytes, count: int) -> list[Result]:
    """Parse the answer to a request with a list of ``count`` responses.

    Raises:
        msgspec.DecodeError: The answer is invalid, or has another number of results.
    """
    answer = msgspec.json.decode(body, type=_ScoreList)
    return _check_count([_to_result(answer.model, answer.version, item) for item in answer.scores], count)


def parse_lines(body: bytes, identity: str, count: int) -> list[Result]:
    """Parse the NDJSON answer to one batch of a stream.

    Args:
        body: The lines.
        identity: The model from the header of the answer, ``NAME@VERSION``.
        count: Number of responses of the batch.

    Raises:
        IncompleteAnswer: The answer has fewer lines, or a line says that the server stopped there.
        msgspec.DecodeError: The lines are invalid.
    """
    if not body.endswith(b"\n") or body.count(b"\n") < count:
        raise IncompleteAnswer
    model, _, version = identity.rpartition("@")
    items = msgspec.json.Decoder(dict[str, Any]).decode_lines(body)
    if any(item.get("ended") for item in items):
        raise IncompleteAnswer
    return _check_count([_to_result(model, version, item) for item in items], count)


def _to_result(model: str, version: str, item: dict[str, Any]) -> Result:
    if "error" in item:
        return NotScored(model, version, str(item["error"]))
    return Scored(model, version, msgspec.convert(item, Score))


def _check_count(results: list[Result], count: int) -> list[Result]:
    if len(results) != count:
        raise msgspec.ValidationError(f"the answer has {len(results)} results for {count} responses")
    return results
