"""How a request is tried until it is answered, without a socket and without a clock.

The steps are generators: they yield a `Call` to send or a `Wait` to sit out, get a `Reply` or a `Fault` back, and
return what was wanted. `Client` and `AsyncClient` carry them out, each in its own way, so that both behave alike.
"""

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import msgspec

from edgedistill_serve.client.errors import Busy, ClientError, Refused, ServerFailed, StrangeAnswer, Unreachable
from edgedistill_serve.client.results import CutShort

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
class Fault:
    """Nothing came back, and why: the name of what happened, which holds no text."""

    name: str


Steps: TypeAlias = Generator[Call | Wait, Reply | Fault | None, Read]


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


def ask(call: Call, retries: Retries, url: str, read: Callable[[Reply], Read]) -> Steps[Read]:
    """Send a request until it is answered, and read the answer.

    Args:
        call: The request.
        retries: How often it is tried.
        url: The server's address, for messages.
        read: Reads the answer; a ``msgspec.DecodeError`` says that it is none, `CutShort` that it has no end.

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
            except CutShort:
                outcome = Fault("the answer was cut short")
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
                mend="Check the address, and that server and client are of one version.",
            ),
            reply.status,
        ) from None


def _gave_up(outcome: Reply | Fault | None, tries: int, where: str) -> ClientError:
    often = "once" if tries == 1 else f"{tries} times"
    if isinstance(outcome, Reply):
        busy = Busy(
            f"the server had no room ({outcome.status}), asked {often}",
            where=where,
            mend="Ask fewer at a time, or later.",
        )
        return _with_status(busy, outcome.status)
    name = outcome.name if isinstance(outcome, Fault) else "nothing was sent"
    return Unreachable(
        f"no answer came ({name}), asked {often}", where=where, mend="Check the address, and that the server runs."
    )


def _refusal(reply: Reply, where: str) -> ClientError:
    if reply.media_type != "application/problem+json":
        # Whoever wrote this may have written the response into it.
        said = f"the answer is {reply.status} and not this server's"
        strange = StrangeAnswer(said, where=where, mend="Check the address, and what lies between.")
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
