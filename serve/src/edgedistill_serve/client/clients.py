"""The clients `Client` and `AsyncClient`, and the settings of their HTTP connections."""

import asyncio
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

import httpx

from edgedistill_serve.bounds import SECONDS, check_all
from edgedistill_serve.client.core import (
    BatchBuffer,
    Call,
    NoReply,
    Reply,
    RequestSteps,
    Retries,
    Steps,
    T,
    Wait,
    encode_response,
)
from edgedistill_serve.client.results import Refused, Response, Result, Scored, ServedModel
from edgedistill_serve.task.task import check_several

_AGENT = "edgedistill-client"
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of one attempt, in seconds.

    Attributes:
        connect: Time to connect.
        answer: Time without a byte sent or received.

    Raises:
        DataError: A time is outside its bounds.
    """

    connect: float = 5.0
    answer: float = 60.0

    def __post_init__(self) -> None:
        check_all({"connect": self.connect, "answer": self.answer}, {"connect": SECONDS, "answer": SECONDS}, "timeouts")

    def for_httpx(self) -> httpx.Timeout:
        """Return the timeouts in the form of httpx."""
        return httpx.Timeout(self.answer, connect=self.connect)


class Client:
    """A client of one server. It is thread-safe.

    Responses are sent to ``url`` only: proxy settings of the environment are ignored, and redirects are not followed.
    Use it as a context manager, or close it with `close`.

    Args:
        url: Address of the server, such as ``http://127.0.0.1:8000``.
        model: Name of the model; None for the only one, or the default of the server.
        key: API key, if the server requires one.
        retries: The retry policy.
        timeouts: The timeouts of one attempt.
        transport: HTTP transport, such as ``httpx.HTTPTransport(uds="/run/edgedistill.sock")``.
        sleep: Sleeps for a number of seconds.

    Raises:
        Refused: The address or the key is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        retries: Retries = Retries(),  # noqa: B008  # frozen
        timeouts: Timeouts = Timeouts(),  # frozen
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._steps = RequestSteps(url.rstrip("/"), retries, model)
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=parse_address(url),
            headers=build_headers(key),
            timeout=timeouts.for_httpx(),
            transport=transport,
            trust_env=False,
        )

    def models(self) -> tuple[ServedModel, ...]:
        """List the models of the server.

        Raises:
            ClientError: As in `score`.
        """
        return self._run(self._steps.models()).models

    def score(self, response: Response) -> Scored:
        """Score one response.

        Raises:
            Unreachable: There was no answer to any attempt.
            Busy: The server had no capacity at any attempt.
            Refused: The server does not accept the request: key, model, schema or size.
            ServerFailed: The server failed on the response.
            StrangeAnswer: The answer is not one of this kind of server.
        """
        return self._run(self._steps.score(response))

    def score_many(self, responses: Iterable[Response]) -> list[Result]:
        """Score a list, in as many requests as the limits of the server require.

        Args:
            responses: Texts, or mappings with the task's inputs, as for `Scorer.score`.

        Returns:
            For each response, in order, a `Scored`, or a `NotScored` if the server failed on it.

        Raises:
            DataError: ``responses`` is one text, one mapping, or a table.
            ClientError: As in `score`; no results are returned.
        """
        return self._run(self._steps.score_many(responses))

    def score_stream(self, responses: Iterable[Response]) -> Iterator[Result]:
        """Score any number of responses in the bulk lane of the server, in constant memory.

        Yields:
            For each response, in order, a `Scored`, or a `NotScored` if the server failed on it.

        Raises:
            ClientError: As in `score`; earlier results remain valid.
        """
        buffer = BatchBuffer()
        for position, response in enumerate(check_several(responses), start=1):
            for items in buffer.add(encode_response(response, position)):
                yield from self._run(self._steps.score_bulk(items))
        for items in buffer.flush():
            yield from self._run(self._steps.score_bulk(items))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        outcome: Reply | NoReply | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                outcome = None
            else:
                outcome = self._send(step)

    def _send(self, call: Call) -> Reply | NoReply:
        try:
            return to_reply(self._http.request(call.method, call.path, content=call.content, headers=call.headers))
        except httpx.HTTPError as error:
            return to_no_reply(error)


class AsyncClient:
    """The asynchronous client of one server; otherwise the same as `Client`.

    Args:
        url: Address of the server, such as ``http://127.0.0.1:8000``.
        model: Name of the model; None for the only one, or the default of the server.
        key: API key, if the server requires one.
        retries: The retry policy.
        timeouts: The timeouts of one attempt.
        transport: HTTP transport, such as ``httpx.AsyncHTTPTransport(uds="/run/edgedistill.sock")``.
        sleep: Sleeps for a number of seconds.

    Raises:
        Refused: The address or the key is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        retries: Retries = Retries(),  # noqa: B008  # frozen
        timeouts: Timeouts = Timeouts(),  # frozen
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._steps = RequestSteps(url.rstrip("/"), retries, model)
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=parse_address(url),
            headers=build_headers(key),
            timeout=timeouts.for_httpx(),
            transport=transport,
            trust_env=False,
        )

    async def models(self) -> tuple[ServedModel, ...]:
        """List the models of the server; errors as in `score`."""
        return (await self._run(self._steps.models())).models

    async def score(self, response: Response) -> Scored:
        """Score one response.

        Raises:
            ClientError: As in `Client.score`.
        """
        return await self._run(self._steps.score(response))

    async def score_many(self, responses: Iterable[Response]) -> list[Result]:
        """Score a list; see `Client.score_many`."""
        return await self._run(self._steps.score_many(responses))

    async def score_stream(self, responses: Iterable[Response] | AsyncIterable[Response]) -> AsyncIterator[Result]:
        """Score any number of responses; see `Client.score_stream`.

        Yields:
            For each response, in order, a `Scored`, or a `NotScored` if the server failed on it.
        """
        buffer = BatchBuffer()
        position = 0
        async for response in _each(responses):
            position += 1
            for items in buffer.add(encode_response(response, position)):
                for result in await self._run(self._steps.score_bulk(items)):
                    yield result
        for items in buffer.flush():
            for result in await self._run(self._steps.score_bulk(items)):
                yield result

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        outcome: Reply | NoReply | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Wait):
                await self._sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._send(step)

    async def _send(self, call: Call) -> Reply | NoReply:
        try:
            return to_reply(
                await self._http.request(call.method, call.path, content=call.content, headers=call.headers)
            )
        except httpx.HTTPError as error:
            return to_no_reply(error)


async def _each(responses: Iterable[Response] | AsyncIterable[Response]) -> AsyncIterator[Response]:
    if isinstance(responses, AsyncIterable):
        async for response in responses:
            yield response
    else:
        for response in check_several(responses):
            yield response


def parse_address(url: str) -> httpx.URL:
    """Parse the address of a server.

    Raises:
        Refused: The address is invalid.
    """
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        address = httpx.URL()
    if address.scheme not in {"http", "https"} or not address.host:
        raise Refused(
            "this is not the address of a server", where=str(url)[:200], hint="Use the form http://HOST:PORT."
        )
    return address


def build_headers(key: str | None) -> dict[str, str]:
    """Return the headers of every request.

    Raises:
        Refused: The key is invalid.
    """
    if key is None:
        return {"User-Agent": _AGENT}
    if not _KEY.fullmatch(key):
        raise Refused("the API key contains spaces or characters that are not ASCII", hint="Copy the key again.")
    return {"User-Agent": _AGENT, "Authorization": f"Bearer {key}"}


def to_reply(response: httpx.Response) -> Reply:
    """Convert a response of httpx."""
    headers = response.headers
    return Reply(
        response.status_code,
        response.content,
        media_type=headers.get("Content-Type", "").split(";")[0].strip().lower(),
        retry_after=headers.get("Retry-After", ""),
        model=headers.get("X-Model", ""),
    )


def to_no_reply(error: Exception) -> NoReply:
    """Convert an error of httpx."""
    return NoReply(type(error).__name__)
