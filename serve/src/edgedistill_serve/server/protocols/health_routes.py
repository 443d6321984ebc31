"""Health checks: `GET /livez`, also as `/healthz`, and `GET /readyz`."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.errors import NotReady
from edgedistill_serve.server.model_catalogue import FolderStatus
from edgedistill_serve.server.request.openapi import JSON, Example, Operation
from edgedistill_serve.server.service import Service


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "alive"


class Served(msgspec.Struct, frozen=True):
    """The model served from one bundle folder.

    Attributes:
        model: Name of the served model.
        version: Version of the served model.
        swaps: Number of replacements since the start.
        failures: Number of bundles since the start that could not be served.
        fault: Error of the current content of the folder; null if it is served.
    """

    model: str
    version: str
    swaps: int = 0
    failures: int = 0
    fault: str | None = None


class WorkerCount(msgspec.Struct, frozen=True):
    """The processes of the server.

    Attributes:
        ready: Number of processes that accept requests.
        wanted: Number of processes that should.
    """

    ready: int
    wanted: int


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """The server accepts requests.

    Attributes:
        status: ``ready``.
        models: The state of each model.
        workers: The processes of the server; absent for a server of one process.
        faults: Parts of the server that run in the background and do not work, with the reason: requests are answered,
            but, for example, new bundles are not noticed.
    """

    status: str
    models: list[Served]
    workers: WorkerCount | None = None
    faults: dict[str, str] = {}


class ServerReport(Protocol):
    """What a server of several processes reports as one, whichever of them is asked."""

    async def readiness(self) -> Ready:
        """Return the state of the server.

        Raises:
            NotReady: It accepts no requests.
        """
        ...

    async def metrics(self) -> bytes:
        """Return the sums of the metrics, in the text format of Prometheus.

        Raises:
            NotReady: They cannot be collected now.
        """
        ...


def describe_readiness(service: Service, statuses: Sequence[FolderStatus]) -> Ready:
    """Return the state of one process.

    Raises:
        NotReady: It accepts no requests.
    """
    service.check_ready()
    if not service.queue.threads:
        raise NotReady("no scoring thread is running", hint="See the log of the server, and restart it.")
    served = [Served(each.model, each.version, each.swaps, each.failures, each.fault) for each in statuses]
    return Ready("ready", served, faults=service.current_faults())


def health_operations(
    service: Service, statuses: Callable[[], Sequence[FolderStatus]], report: ServerReport | None = None
) -> list[Operation]:
    """Return the operations of the health checks.

    Args:
        service: The service.
        statuses: Returns the status of each bundle folder.
        report: The report of all processes; None for a server of one.
    """

    async def livez(_: Request) -> Response:
        return Response(msgspec.json.encode(Alive()), media_type=JSON)

    async def readyz(_: Request) -> Response:
        ready = describe_readiness(service, statuses()) if report is None else await report.readiness()
        return Response(msgspec.json.encode(ready), media_type=JSON)

    return [
        *(
            Operation(
                path=path,
                endpoint=livez,
                id=name,
                tag="Health",
                summary="Whether the process answers",
                returns="It does.",
                response_types=(Alive,),
                response_examples=(Example("Alive", Alive()),),
                is_open=True,
            )
            for path, name in (("/livez", "check_live"), ("/healthz", "check_healthz"))
        ),
        Operation(
            path="/readyz",
            endpoint=readyz,
            id="check_ready",
            tag="Health",
            summary="Whether requests are accepted, with the state of each model",
            returns="They are; parts in the background that do not work are in `faults`.",
            response_types=(Ready,),
            response_examples=(
                Example("One process", Ready("ready", [_SERVED])),
                Example(
                    "Four processes",
                    Ready("ready", [_SERVED], WorkerCount(3, 4), {"worker 2": "it has not answered for 12 s"}),
                ),
            ),
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
    ]


_SERVED = Served("praise", "3f0c9a1b22de")
