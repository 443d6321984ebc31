"""The client for code that waits."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar

import httpx

from edgedistill_serve.client.core import BatchBuffer, Call, NoReply, Reply, RequestSteps, Retries, Steps, Wait, encoded
from edgedistill_serve.client.http_settings import Timeouts, address_of, fault_of, headers_of, reply_of
from edgedistill_serve.client.results import Response, Result, Scored, ServedModel

Read = TypeVar("Read")


class Client:
    """Asks one server for scores; any number of threads may share it.

    Responses go to ``url`` and nowhere else: no proxy of the environment is used, no redirect is followed. Used as a
    context, or closed with `close`.

    Args:
        url: The server's address, such as ``http://127.0.0.1:8000``.
        model: Which model scores; None is the only one, or the server's default.
        key: The API key, where the server wants one.
        retries: How often a request is tried, and how long is waited between.
        timeouts: How long a try may take.
        transport: What carries the requests, such as ``httpx.HTTPTransport(uds="/run/edgedistill.sock")``.
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
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._conversation = RequestSteps(url.rstrip("/"), retries, model)
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=address_of(url),
            headers=headers_of(key),
            timeout=timeouts.for_httpx(),
            transport=transport,
            trust_env=False,
        )

    def models(self) -> tuple[ServedModel, ...]:
        """List what the server scores with.

        Raises:
            ClientError: As `score`.
        """
        return self._carry_out(self._conversation.models()).models

    def score(self, response: Response) -> Scored:
        """Score one response.

        Raises:
            Unreachable: No answer came, as often as it was tried.
            Busy: The server had no room, as often as it was tried.
            Refused: The server does not take the request: key, model, form or size.
            ServerFailed: The server failed on the response.
            StrangeAnswer: What answered is no such server.
        """
        return self._carry_out(self._conversation.score(response))

    def score_many(self, responses: Sequence[Response]) -> list[Result]:
        """Score a list in as many requests as the server's limits want.

        Returns:
            A `Scored`, or a `NotScored` where the server failed on that response, for each of them, in order.

        Raises:
            ClientError: As `score`; then nothing is returned.
        """
        return self._carry_out(self._conversation.score_many(responses))

    def score_stream(self, responses: Iterable[Response]) -> Iterator[Result]:
        """Score any number of responses in the server's bulk lane, a window at a time, in flat memory.

        Yields:
            A `Scored`, or a `NotScored` where the server failed on that response, for each of them, in order.

        Raises:
            ClientError: As `score`; what was yielded before stands.
        """
        window = BatchBuffer()
        for position, response in enumerate(responses, start=1):
            for items in window.add(encoded(response, position)):
                yield from self._carry_out(self._conversation.score_window(items))
        for items in window.rest():
            yield from self._carry_out(self._conversation.score_window(items))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _carry_out(self, steps: Steps[Read]) -> Read:
        outcome: Reply | NoReply | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                found: Read = end.value
                return found
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                outcome = None
            else:
                outcome = self._send(step)

    def _send(self, call: Call) -> Reply | NoReply:
        try:
            return reply_of(self._http.request(call.method, call.path, content=call.content, headers=call.headers))
        except httpx.HTTPError as error:
            return fault_of(error)
