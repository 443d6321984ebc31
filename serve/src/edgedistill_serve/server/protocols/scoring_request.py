"""Scoring a request in its time, and saying in the answer's headers where the time went."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.server.queue.work_item import Lane, Timing
from edgedistill_serve.server.request.body_reader import read_body
from edgedistill_serve.server.request.openapi import JSON
from edgedistill_serve.server.request.v1_request import ParsedRequest, check_texts
from edgedistill_serve.server.service import Answer, Service


class ScoringRequest:
    """One request that is being answered; its clock runs from its making.

    Args:
        request: The request.
        service: What scores.
    """

    def __init__(self, request: Request, service: Service) -> None:
        self._request = request
        self._service = service
        self._began = time.perf_counter()
        self._timings: tuple[Timing, ...] = ()

    async def body(self) -> bytes:
        """Read the body.

        Raises:
            RequestTooLarge: It is too long.
            QueueFull: There is no room for it beside those of other requests.
            TooSlow: It does not arrive in time.
        """
        limits = self._service.limits
        return await read_body(
            self._request, room=self._service.bodies, limit=limits.body_bytes, seconds=limits.body_seconds
        )

    async def score(self, wanted: ParsedRequest, *, lane: Lane = "interactive") -> Answer:
        """Score what was read, within the time that a request has.

        Args:
            wanted: What to score, and with which model.
            lane: How urgent it is.

        Raises:
            RequestTooLarge: A text is too long.
            EdgeDistillError: As `Service.score`.
        """
        limits = self._service.limits
        for index, response in enumerate(wanted.responses):
            check_texts(response, limits.text_characters, wanted.place(index))
        deadline = time.monotonic() + limits.answer_seconds
        answer = await self._service.score(wanted, lane=lane, deadline=deadline)
        self._timings += answer.timings
        return answer

    def answer(self, content: Any) -> Response:
        """Return the answer, with its `Server-Timing`."""
        total = time.perf_counter() - self._began
        return Response(
            msgspec.json.encode(content),
            media_type=JSON,
            headers={"Server-Timing": server_timing(self._timings, total)},
        )


def server_timing(timings: Sequence[Timing], total: float) -> str:
    """Return the `Server-Timing` header (W3C): of each stage the longest time of a response, in milliseconds."""
    stages = {
        "queue": max((timing.queue_seconds for timing in timings), default=0.0),
        "tokenize": max((timing.tokenize_seconds for timing in timings), default=0.0),
        "model": max((timing.model_seconds for timing in timings), default=0.0),
        "total": total,
    }
    return ", ".join(f"{name};dur={1000 * seconds:.3f}" for name, seconds in stages.items())
