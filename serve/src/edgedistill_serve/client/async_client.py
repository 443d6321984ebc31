"""The client for code that awaits."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TypeVar

import httpx

from edgedistill_serve.client.core import BatchBuffer, Call, NoReply, Reply, RequestSteps, Retries, Steps, Wait, encoded
from edgedistill_serve.client.http_settings import Timeouts, address_of, fault_of, headers_of, reply_of
from edgedistill_serve.client.results import Response, Result, Scored, ServedModel

Read = TypeVar("Read")


class AsyncClient:
    """Asks one server for scores without blocking; as `Client` in every other way.

    Args:
        url: The server's address, such as ``http://127.0.0.1:8000``.
        model: Which model scores; None is the only one, or the server's default.
        key: The API key, where the server wants one.
        retries: How often a request is tried, and how long is waited between.
        timeouts: How long a try may take.
        transport: What carries the requests, such as ``httpx.AsyncHTTPTransport(uds="/run/edgedistill.sock")``.
        sleep: Waits a number of seconds.

    Raises:
        Refused: The address is none, or the key cannot be sent.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        retries: Retries = Retries(),  # noqa: B008  # frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._conversation = RequestSteps(url.rstrip("/"), retries, model)
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=address_of(url),
            headers=headers_of(key),
            timeout=timeouts.for_httpx(),
            transport=transport,
            trust_env=False,
        )

    async def models(self) -> tuple[ServedModel, ...]:
        """List what the server scores with; errors as `score`."""
        return (await self._carry_out(self._conversation.models())).models

    async def score(self, response: Response) -> Scored:
        """Score one response.

        Raises:
            ClientError: As `Client.score`.
        """
        return await self._carry_out(self._conversation.score(response))

    async def score_many(self, responses: Sequence[Response]) -> list[Result]:
        """Score a list in as many requests as the server's limits want; as `Client.score_many`."""
        return await self._carry_out(self._conversation.score_many(responses))

    async def score_stream(self, responses: Iterable[Response] | AsyncIterable[Response]) -> AsyncIterator[Result]:
        """Score any number of responses in the server's bulk lane; as `Client.score_stream`.

        Yields:
            A `Scored`, or a `NotScored` where the server failed on that response, for each of them, in order.
        """
        window = BatchBuffer()
        position = 0
        async for response in _each(responses):
            position += 1
            for items in window.add(encoded(response, position)):
                for result in await self._carry_out(self._conversation.score_window(items)):
                    yield result
        for items in window.rest():
            for result in await self._carry_out(self._conversation.score_window(items)):
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

    async def _carry_out(self, steps: Steps[Read]) -> Read:
        outcome: Reply | NoReply | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                found: Read = end.value
                return found
            if isinstance(step, Wait):
                await self._sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._send(step)

    async def _send(self, call: Call) -> Reply | NoReply:
        try:
            return reply_of(
                await self._http.request(call.method, call.path, content=call.content, headers=call.headers)
            )
        except httpx.HTTPError as error:
            return fault_of(error)


async def _each(responses: Iterable[Response] | AsyncIterable[Response]) -> AsyncIterator[Response]:
    if isinstance(responses, AsyncIterable):
        async for response in responses:
            yield response
    else:
        for response in responses:
            yield response
