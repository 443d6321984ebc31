"""What a client says to a server to get models listed and responses scored, in steps that no socket is needed for."""

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec

from edgedistill_serve.client.asking import Call, Reply, Retries, Steps, ask
from edgedistill_serve.client.batches import batches, encoded, list_body, one_body
from edgedistill_serve.client.errors import Refused
from edgedistill_serve.client.results import (
    Listing,
    NotScored,
    Response,
    Result,
    Scored,
    TakenAtOnce,
    read_lines,
    read_one,
    read_several,
)

Read = TypeVar("Read")
_TOO_LARGE = 413


class Conversation:
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
        self._taken: TakenAtOnce | None = None

    def models(self) -> Steps[Listing]:
        """List the models."""
        return self._ask(Call("/v1/models"), lambda reply: msgspec.json.decode(reply.content, type=Listing))

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
        return ask(call, self._retries, self._url, read)
