"""How a client talks to a server: batches of requests, retries, steps that need no socket and no clock.

The steps are generators: they yield a `Call` to send or a `Wait` to sit out, get a `Reply` or a `NoReply` back, and
return what was wanted. `Client` and `AsyncClient` carry them out, each in its own way, so that both behave alike.
"""

import math
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

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
    read_lines,
    read_one,
    read_several,
)

AGAIN = (429, 503)
"""Statuses that are tried again: the queue is full, the server is starting or draining."""
_SHOWN = 300

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Call:
    """A request to send; ``content`` is None for GET."""

    path: str
    content: bytes | None = None
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
    """Seconds to sit out."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        status: The HTTP status.
        content: The body.
        media_type: Its type, without parameters.
        retry_after: The header of that name, "" where there is none.
        model: The header ``X-Model`` of a bulk answer, ``NAME@VERSION``.
    """

    status: int
    content: bytes
    media_type: str = ""
    retry_after: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Nothing came back, and why: the name of what happened, which holds no text."""

    name: str


Steps: TypeAlias = Generator[Call | Wait, Reply | NoReply | None, Read]


@dataclass(frozen=True, slots=True)
class Retries:
    """How a request is tried again. Scoring changes nothing on the server, so that a second try does no harm.

    Attributes:
        tries: How often a request is sent at most, the first time counted.
        first_wait: Seconds before the second try; each later wait is twice the one before, and every wait is shortened
            by up to a half, at random, so that many clients do not come back at the same time.
        longest_wait: The most seconds of one wait. A server that asks for more is not waited for.
        draw: A random number in [0, 1).
    """

    tries: int = 5
    first_wait: float = 0.25
    longest_wait: float = 30.0
    draw: Callable[[], float] = random.random

    def wait(self, failed: int) -> float:
        """Return the seconds to wait after ``failed`` tries, where the server names none."""
        return min(self.longest_wait, self.first_wait * 2.0 ** min(failed - 1, 30)) * (1 - self.draw() / 2)


def send_with_retries(call: Call, retries: Retries, url: str, read: Callable[[Reply], Read]) -> Steps[Read]:
    """Send a request until it is answered, and read the answer.

    Args:
        call: The request.
        retries: How often it is tried.
        url: The server's address, for messages.
        read: Reads the answer; a ``msgspec.DecodeError`` says that it is none, `IncompleteAnswer` that it has no end.

    Raises:
        Unreachable: No answer came.
        Busy: The server had no room.
        Refused: It does not take this request.
        ServerFailed: It failed.
        StrangeAnswer: What answered is no such server.
    """
    where = f"{url}{call.path}"
    for failed in range(1, retries.tries + 1):
        outcome = yield call
        if isinstance(outcome, Reply) and outcome.status not in AGAIN:
            try:
                return _read(outcome, where, read)
            except IncompleteAnswer:
                outcome = NoReply("the answer was cut short")
        wait = retries.wait(failed)
        if isinstance(outcome, Reply):
            wait = max(wait, _seconds(outcome.retry_after))
        if failed == retries.tries or wait > retries.longest_wait:
            break
        yield Wait(wait)
    raise _gave_up(outcome, failed, where)


def _read(reply: Reply, where: str, read: Callable[[Reply], Read]) -> Read:
    if not 200 <= reply.status < 300:
        raise _refusal(reply, where)
    try:
        return read(reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _with_status(
            StrangeAnswer(
                "the answer has not the form of this server's answers",
                where=where,
                hint="Check the address, and that server and client are of one version.",
            ),
            reply.status,
        ) from None


def _gave_up(outcome: Reply | NoReply | None, tries: int, where: str) -> ClientError:
    often = "once" if tries == 1 else f"{tries} times"
    if isinstance(outcome, Reply):
        busy = Busy(
            f"the server had no room ({outcome.status}), asked {often}",
            where=where,
            hint="Ask fewer at a time, or later.",
        )
        return _with_status(busy, outcome.status)
    name = outcome.name if isinstance(outcome, NoReply) else "nothing was sent"
    return Unreachable(
        f"no answer came ({name}), asked {often}", where=where, hint="Check the address, and that the server runs."
    )


def _refusal(reply: Reply, where: str) -> ClientError:
    if reply.media_type != "application/problem+json":
        # Whoever wrote this may have written the response into it.
        said = f"the answer is {reply.status} and not this server's"
        strange = StrangeAnswer(said, where=where, hint="Check the address, and what lies between.")
        return _with_status(strange, reply.status)
    kind = ServerFailed if reply.status >= 500 else Refused
    return _with_status(kind(f"{_detail(reply.content).rstrip('.')} ({reply.status})", where=where), reply.status)


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


def _detail(content: bytes) -> str:
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "the server gives no reason"
    return " ".join((problem.detail or problem.title or "the server gives no reason").split())[:_SHOWN]


def _with_status(error: ClientError, status: int) -> ClientError:
    error.status = status
    return error


def _seconds(retry_after: str) -> float:
    """Read a Retry-After header; a date, which this server does not send, counts as nothing."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


BULK_BYTES = 64 * 1024
"""The most bytes of one window of a stream, but for a line that is longer alone. A server answers while it still reads,
and stops reading while nobody reads its answer; a window that lies whole in the sockets' buffers is sent nevertheless,
so that neither waits for the other."""
BULK_ROWS = 500
"""The most responses of one window of a stream."""
_FRAME = 256
"""Bytes of a request's body beside its responses and its model's name, and some to spare."""


def encoded(response: Response, position: int) -> bytes:
    """Return a response as JSON.

    Args:
        response: What to score.
        position: Its place among all, from 1, for the message.

    Raises:
        Refused: It cannot be written as JSON.
    """
    if isinstance(response, (str, Mapping)):
        try:
            return msgspec.json.encode(response)
        except (TypeError, ValueError, RecursionError):  # lone surrogates are a ValueError
            pass
    raise Refused("it is no text and no mapping of texts", where=f"response {position}", hint="Send texts.")


def one_body(response: Response, model: str | None) -> bytes:
    """Return the body of a request for one response."""
    inputs = {"response": response} if isinstance(response, str) else response
    named = {} if model is None else {"model": model}
    return encoded({**inputs, **named} if isinstance(inputs, Mapping) else inputs, 1)


def list_body(items: Sequence[bytes], model: str | None) -> bytes:
    """Return the body of a request for a list of encoded responses."""
    named = b"" if model is None else b',"model":' + msgspec.json.encode(model)
    return b'{"responses":[' + b",".join(items) + b"]" + named + b"}"


def batches(items: Sequence[bytes], taken: RequestLimits, model: str | None) -> Iterator[Sequence[bytes]]:
    """Yield encoded responses in order, as many at a time as a server takes.

    One that is too long by itself comes alone: the server's refusal is its own.
    """
    room = taken.body_bytes - _FRAME - 6 * len(model or "")
    window = BatchBuffer(rows=taken.items, size=room)
    for item in items:
        yield from window.add(item)
    yield from window.rest()


class BatchBuffer:
    """Collects encoded responses until there is room for no more.

    Args:
        rows: The most responses.
        size: The most bytes, a byte after each response counted.
    """

    def __init__(self, *, rows: int = BULK_ROWS, size: int = BULK_BYTES) -> None:
        self._rows = max(1, rows)
        self._size = size
        self._items: list[bytes] = []
        self._held = 0

    def add(self, item: bytes) -> Iterator[list[bytes]]:
        """Add a response, and yield those before it where it does not fit beside them."""
        if self._items and (len(self._items) >= self._rows or self._held + len(item) + 1 > self._size):
            yield from self.rest()
        self._items.append(item)
        self._held += len(item) + 1

    def rest(self) -> Iterator[list[bytes]]:
        """Yield what is collected, where there is anything, and begin anew."""
        items, self._items, self._held = self._items, [], 0
        if items:
            yield items


_TOO_LARGE = 413


class RequestSteps:
    """The steps of every request to one server.

    Args:
        url: The server's address, for messages.
        retries: How often a request is tried.
        model: Which model scores; None is the only one, or the server's default.
    """

    def __init__(self, url: str, retries: Retries, model: str | None) -> None:
        self._url = url
        self._retries = retries
        self._model = model
        self._taken: RequestLimits | None = None

    def models(self) -> Steps[ModelList]:
        """List the models."""
        return self._ask(Call("/v1/models"), lambda reply: msgspec.json.decode(reply.content, type=ModelList))

    def score(self, response: Response) -> Steps[Scored]:
        """Score one response."""
        return self._ask(Call("/v1/score", one_body(response, self._model)), lambda reply: read_one(reply.content))

    def score_many(self, responses: Sequence[Response]) -> Steps[list[Result]]:
        """Score a list, in as many requests as the server wants."""
        if self._taken is None:
            self._taken = (yield from self.models()).limits
        items = [encoded(response, position) for position, response in enumerate(responses, start=1)]
        results: list[Result] = []
        for batch in batches(items, self._taken, self._model):
            results += yield from self._score_batch(batch, first=len(results) + 1)
        return results

    def _score_batch(self, batch: Sequence[bytes], first: int) -> Steps[list[Result]]:
        call = Call("/v1/score", list_body(batch, self._model))
        try:
            return (yield from self._ask(call, lambda reply: read_several(reply.content, len(batch))))
        except Refused as error:
            if error.status == _TOO_LARGE and len(batch) == 1:
                return [NotScored(None, None, error.what)]
            error.args = (f"responses {first} to {first + len(batch) - 1}: {error}",)
            raise

    def score_window(self, items: Sequence[bytes]) -> Steps[list[Result]]:
        """Score a window of a stream of encoded responses."""
        path = "/v1/score/bulk" + ("" if self._model is None else f"?model={quote(self._model, safe='')}")
        call = Call(path, b"".join(item + b"\n" for item in items), "application/x-ndjson")
        return self._ask(call, lambda reply: read_lines(reply.content, reply.model, len(items)))

    def _ask(self, call: Call, read: Callable[[Reply], Read]) -> Steps[Read]:
        return send_with_retries(call, self._retries, self._url, read)
