"""The logic of both clients, without sockets and clocks: requests, batches and retries.

The logic is written as generators. They yield a `Call` to send or a `Wait` to sleep, receive a `Reply` or a `NoReply`,
and return the result. `Client` and `AsyncClient` run the same generators, so that both behave alike.
"""

import math
import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from edgedistill_serve.bounds import TRIES, WAIT, check_all
from edgedistill_serve.client.results import (
    Busy,
    ClientError,
    IncompleteAnswer,
    ModelList,
    NotScored,
    Refused,
    RequestLimits,
    Response,
    Result,
    Scored,
    ServerFailed,
    StrangeAnswer,
    Unreachable,
    parse_lines,
    parse_list,
    parse_single,
)
from edgedistill_serve.task.task import check_several

RETRY_STATUSES = (429, 503)
"""Statuses that are retried: the queue is full, or the server is starting or draining."""
_MAX_DETAIL = 300

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A request to send; ``content`` is None for GET."""

    path: str
    content: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.content is None else "POST"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with the content."""
        return {} if self.content is None else {"Content-Type": self.content_type}


@dataclass(frozen=True, slots=True)
class Wait:
    """A number of seconds to sleep."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response.

    Attributes:
        status: HTTP status.
        content: Body.
        media_type: Media type, without parameters.
        retry_after: Header ``Retry-After``, or "".
        model: Header ``X-Model`` of a bulk answer, ``NAME@VERSION``.
    """

    status: int
    content: bytes = field(repr=False)
    media_type: str = ""
    retry_after: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class NoReply:
    """The reason why there was no HTTP response, as a name without texts."""

    name: str


Steps: TypeAlias = Generator[Call | Wait, Reply | NoReply | None, T]


@dataclass(frozen=True, slots=True)
class Retries:
    """The retry policy. Scoring changes nothing on the server, so that retries are safe.

    Attributes:
        tries: Largest number of attempts, including the first one.
        first_wait: Seconds before the second attempt. Each later wait is twice as long, and every wait is shortened by
            a random fraction of up to one half, so that many clients do not retry at the same time.
        longest_wait: Largest wait in seconds. If the server asks for a longer one, the client gives up.
        draw: Returns a random number in [0, 1).

    Raises:
        DataError: A number is outside its bounds.
    """

    tries: int = 5
    first_wait: float = 0.25
    longest_wait: float = 30.0
    draw: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        given = {"tries": self.tries, "first_wait": self.first_wait, "longest_wait": self.longest_wait}
        check_all(given, {"tries": TRIES, "first_wait": WAIT, "longest_wait": WAIT}, "retries")

    def wait(self, failed: int) -> float:
        """Return the seconds to wait after ``failed`` attempts, if the server names none."""
        return min(self.longest_wait, self.first_wait * 2.0 ** min(failed - 1, 30)) * (1 - self.draw() / 2)


def send_with_retries(call: Call, retries: Retries, url: str, parse: Callable[[Reply], T]) -> Steps[T]:
    """Send a request with retries, and parse the answer.

    Args:
        call: The request.
        retries: The retry policy.
        url: Address of the server, for messages.
        parse: Parses the answer. It raises ``msgspec.DecodeError`` for an invalid answer, and `IncompleteAnswer` for
            one that ends too early.

    Raises:
        Unreachable: There was no answer.
        Busy: The server had no capacity.
        Refused: The server does not accept the request.
        ServerFailed: The server failed on the request.
        StrangeAnswer: The answer is not one of this kind of server.
    """
    where = f"{url}{call.path}"
    for failed in range(1, retries.tries + 1):
        outcome = yield call
        if isinstance(outcome, Reply) and outcome.status not in RETRY_STATUSES:
            try:
                return _parse(outcome, where, parse)
            except IncompleteAnswer:
                outcome = NoReply("the answer was incomplete")
        wait = retries.wait(failed)
        if isinstance(outcome, Reply):
            wait = max(wait, _parse_seconds(outcome.retry_after))
        if failed == retries.tries or wait > retries.longest_wait:
            break
        yield Wait(wait)
    raise _no_result_error(outcome, failed, where)


def _parse(reply: Reply, where: str, parse: Callable[[Reply], T]) -> T:
    if not 200 <= reply.status < 300:
        raise _status_error(reply, where)
    try:
        return parse(reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _with_status(
            StrangeAnswer(
                "the answer does not match the schema of this server's answers",
                where=where,
                hint="Check the address, and that server and client have the same version.",
            ),
            reply.status,
        ) from None


def _no_result_error(outcome: Reply | NoReply | None, tries: int, where: str) -> ClientError:
    often = "once" if tries == 1 else f"{tries} times"
    if isinstance(outcome, Reply):
        busy = Busy(
            f"the server had no capacity ({outcome.status}), tried {often}",
            where=where,
            hint="Send fewer requests at a time, or try again later.",
        )
        return _with_status(busy, outcome.status)
    name = outcome.name if isinstance(outcome, NoReply) else "nothing was sent"
    return Unreachable(
        f"there was no answer ({name}), tried {often}",
        where=where,
        hint="Check the address, and that the server is running.",
    )


def _status_error(reply: Reply, where: str) -> ClientError:
    if reply.media_type != "application/problem+json":
        # The body of another server, such as a proxy, may contain the response and is not quoted.
        message = f"the answer has the status {reply.status} and is not from this kind of server"
        error = StrangeAnswer(message, where=where, hint="Check the address, and any proxy in between.")
        return _with_status(error, reply.status)
    kind = ServerFailed if reply.status >= 500 else Refused
    return _with_status(kind(f"{_get_detail(reply.content).rstrip('.')} ({reply.status})", where=where), reply.status)


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


def _get_detail(content: bytes) -> str:
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "the server gave no reason"
    return " ".join((problem.detail or problem.title or "the server gave no reason").split())[:_MAX_DETAIL]


def _with_status(error: ClientError, status: int) -> ClientError:
    error.status = status
    return error


def _parse_seconds(retry_after: str) -> float:
    """Parse a header Retry-After; a date, which this server never sends, counts as 0."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


BULK_BYTES = 64 * 1024
"""Largest number of bytes of one batch of a stream, except for a single longer line. The server answers while it reads,
and stops reading while the client does not read. A batch that fits into the socket buffers is sent completely in any
case, so that client and server never wait for each other."""
BULK_ROWS = 500
"""Largest number of responses of one batch of a stream."""
_OVERHEAD_BYTES = 256
"""Upper bound for the bytes of a body in addition to its responses and the name of its model."""


def encode_response(response: Response, position: int) -> bytes:
    """Encode a response as JSON.

    Args:
        response: The response.
        position: Its position, starting at 1, for the message.

    Raises:
        Refused: The response cannot be encoded.
    """
    if isinstance(response, (str, Mapping)):
        try:
            return msgspec.json.encode(response)
        except (TypeError, ValueError, RecursionError):  # ValueError for lone surrogates
            pass
    raise Refused(
        "the response is neither a string nor a mapping of strings", where=f"response {position}", hint="Send texts."
    )


def encode_single(response: Response, model: str | None) -> bytes:
    """Return the body of a request with one response."""
    inputs = {"response": response} if isinstance(response, str) else response
    named = {} if model is None else {"model": model}
    return encode_response({**inputs, **named} if isinstance(inputs, Mapping) else inputs, 1)


def encode_list(items: Sequence[bytes], model: str | None) -> bytes:
    """Return the body of a request with a list of encoded responses."""
    named = b"" if model is None else b',"model":' + msgspec.json.encode(model)
    return b'{"responses":[' + b",".join(items) + b"]" + named + b"}"


def split_batches(items: Sequence[bytes], limits: RequestLimits, model: str | None) -> Iterator[Sequence[bytes]]:
    """Yield encoded responses in order, in batches within the limits of the server.

    A response that is too long is a batch of its own, so that only that response is refused.
    """
    size = limits.body_bytes - _OVERHEAD_BYTES - 6 * len(model or "")
    buffer = BatchBuffer(rows=limits.items, size=size)
    for item in items:
        yield from buffer.add(item)
    yield from buffer.flush()


class BatchBuffer:
    """Collects encoded responses into batches.

    Args:
        rows: Largest number of responses of a batch.
        size: Largest number of bytes of a batch, counting one separator byte per response.
    """

    def __init__(self, *, rows: int = BULK_ROWS, size: int = BULK_BYTES) -> None:
        self._rows = max(1, rows)
        self._size = size
        self._items: list[bytes] = []
        self._bytes = 0

    def add(self, item: bytes) -> Iterator[list[bytes]]:
        """Add a response; if the batch would be too large, yield the previous responses first."""
        if self._items and (len(self._items) >= self._rows or self._bytes + len(item) + 1 > self._size):
            yield from self.flush()
        self._items.append(item)
        self._bytes += len(item) + 1

    def flush(self) -> Iterator[list[bytes]]:
        """Yield the collected responses, if any, and start a new batch."""
        items, self._items, self._bytes = self._items, [], 0
        if items:
            yield items


_PAYLOAD_TOO_LARGE = 413


class RequestSteps:
    """The requests to one server, as generators.

    Args:
        url: Address of the server, for messages.
        retries: The retry policy.
        model: Name of the model; None for the only one, or the default of the server.
    """

    def __init__(self, url: str, retries: Retries, model: str | None) -> None:
        self._url = url
        self._retries = retries
        self._model = model
        self._limits: RequestLimits | None = None

    def models(self) -> Steps[ModelList]:
        """List the models."""
        return self._send(Call("/v1/models"), lambda reply: msgspec.json.decode(reply.content, type=ModelList))

    def score(self, response: Response) -> Steps[Scored]:
        """Score one response."""
        return self._send(
            Call("/v1/score", encode_single(response, self._model)), lambda reply: parse_single(reply.content)
        )

    def score_many(self, responses: Iterable[Response]) -> Steps[list[Result]]:
        """Score a list, in as many requests as the limits of the server require."""
        items = [encode_response(each, position) for position, each in enumerate(check_several(responses), start=1)]
        if self._limits is None:
            self._limits = (yield from self.models()).limits
        results: list[Result] = []
        for batch in split_batches(items, self._limits, self._model):
            results += yield from self._score_batch(batch, first=len(results) + 1)
        return results

    def _score_batch(self, batch: Sequence[bytes], first: int) -> Steps[list[Result]]:
        call = Call("/v1/score", encode_list(batch, self._model))
        try:
            return (yield from self._send(call, lambda reply: parse_list(reply.content, len(batch))))
        except Refused as error:
            if error.status == _PAYLOAD_TOO_LARGE and len(batch) == 1:
                return [NotScored(None, None, error.what)]
            error.args = (f"responses {first} to {first + len(batch) - 1}: {error}",)
            raise

    def score_bulk(self, items: Sequence[bytes]) -> Steps[list[Result]]:
        """Score one batch of a stream of encoded responses."""
        path = "/v1/score/bulk" + ("" if self._model is None else f"?model={quote(self._model, safe='')}")
        call = Call(path, b"".join(item + b"\n" for item in items), "application/x-ndjson")
        return self._send(call, lambda reply: parse_lines(reply.content, reply.model, len(items)))

    def _send(self, call: Call, parse: Callable[[Reply], T]) -> Steps[T]:
        return send_with_retries(call, self._retries, self._url, parse)
