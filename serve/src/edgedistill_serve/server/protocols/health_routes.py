"""The paths that say how the server is."""

from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.server.model_catalogue import FolderStatus
from edgedistill_serve.server.protocols.v1_messages import Alive, Ready, Served
from edgedistill_serve.server.request.openapi import JSON, Operation
from edgedistill_serve.server.service import Service


def state_operations(service: Service, states: Callable[[], Sequence[FolderStatus]]) -> list[Operation]:
    """Return what says how the server is.

    Args:
        service: What scores.
        states: Says what is served from each bundle folder.
    """

    async def livez(_: Request) -> Response:
        return Response(msgspec.json.encode(Alive()), media_type=JSON)

    async def readyz(_: Request) -> Response:
        service.check_ready()
        served = [Served(each.model, each.version, each.swaps, each.failures, each.fault) for each in states()]
        return Response(msgspec.json.encode(Ready("ready", served)), media_type=JSON)

    return [
        Operation(
            path="/livez", endpoint=livez, summary="Whether the process answers", response_types=(Alive,), is_open=True
        ),
        Operation(
            path="/readyz",
            endpoint=readyz,
            summary="Whether requests are taken, with each model's state",
            response_types=(Ready,),
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
    ]
