"""The ASGI application: routes and middleware."""

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edgedistill_serve.errors import EdgeDistillError
from edgedistill_serve.server.metrics import CONTENT_TYPE, ServerMetrics
from edgedistill_serve.server.middleware.api_keys import KeyAccess, KeyCheck
from edgedistill_serve.server.middleware.host_check import ANY_HOST, HostCheck
from edgedistill_serve.server.middleware.origins import AllowedOrigins, OriginCheck, OriginRefusals
from edgedistill_serve.server.middleware.request_log import RequestLog
from edgedistill_serve.server.middleware.tracing import Tracing
from edgedistill_serve.server.model_catalogue import FolderStatus
from edgedistill_serve.server.protocols.health_routes import ServerReport, health_operations
from edgedistill_serve.server.protocols.oip import inference_operations
from edgedistill_serve.server.protocols.page_routes import document_route, page_routes
from edgedistill_serve.server.protocols.tei import tei_operations
from edgedistill_serve.server.protocols.v1_routes import v1_operations
from edgedistill_serve.server.request.error_responses import error_response, response_to_error
from edgedistill_serve.server.request.openapi import Endpoint, Example, Operation
from edgedistill_serve.server.service import Service


def create_app(
    service: Service,
    *,
    metrics: ServerMetrics | None = None,
    access: KeyAccess | None = None,
    origins: Sequence[str] = (),
    hosts: Sequence[str] = (ANY_HOST,),
    statuses: Callable[[], Sequence[FolderStatus]] = tuple,
    report: ServerReport | None = None,
    tracer_provider: Any | None = None,
) -> Starlette:
    """Return the ASGI application of a service.

    Args:
        service: The service.
        metrics: The metrics; by default, new ones.
        access: The accepted API keys; by default, no key is required.
        origins: Origins of web pages that may send requests (CORS).
        hosts: Accepted hosts of requests; see `HostCheck`.
        statuses: Returns the status of each bundle folder.
        report: The health and the metrics of all processes of a server; None for a server of one.
        tracer_provider: A tracer provider of OpenTelemetry, for spans; by default, there are none.
    """
    metrics = metrics or ServerMetrics()
    operations = [
        *v1_operations(service),
        *tei_operations(service),
        *inference_operations(service),
        *health_operations(service, statuses, report),
        Operation(
            path="/metrics",
            endpoint=_metrics_endpoint(metrics, report),
            id="get_metrics",
            tag="Health",
            summary="Metrics in the text format of Prometheus",
            returns="The metrics.",
            response_media=CONTENT_TYPE,
            response_examples=(Example("A counter", _METRICS),),
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
        ),
    ]
    routes = [(operation, operation.route()) for operation in operations]
    fixed_posts = [route for operation, route in routes if operation.request_types and "{" not in operation.path]
    all_routes = [*(route for _, route in routes), document_route(operations, service.limits), *page_routes()]

    def find_route(scope: Scope) -> BaseRoute | None:
        return next((route for route in all_routes if route.matches(scope)[0] != Match.NONE), None)

    app = Starlette(
        routes=all_routes,
        middleware=[
            *([] if tracer_provider is None else [Middleware(Tracing, provider=tracer_provider)]),
            Middleware(
                RequestLog,
                draining=lambda: service.state == "draining",
                count=metrics.count_request,
            ),
            *([] if ANY_HOST in hosts else [Middleware(HostCheck, hosts=hosts, find_route=find_route)]),
            *(
                [Middleware(AllowedOrigins, origins=origins, refusals=OriginRefusals(), find_route=find_route)]
                if origins
                else []
            ),
            Middleware(KeyCheck, access=access or KeyAccess(), find_route=find_route),
            Middleware(RouterBypass, routes=fixed_posts),
            # After the bypass, so that no scoring request passes it.
            *([] if origins else [Middleware(OriginCheck, refusals=OriginRefusals(), find_route=find_route)]),
        ],
        exception_handlers={EdgeDistillError: _on_edgedistill_error, HTTPException: _on_http_exception},
    )
    # A redirect would name this server's own scheme and host, which differ from the client's behind a proxy.
    app.router.redirect_slashes = False
    return app


_METRICS = 'edgedistill_scores_total{label="process",model="praise",version="3f0c9a1b22de"} 4711.0\n'


def _metrics_endpoint(metrics: ServerMetrics, report: ServerReport | None) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        text = metrics.text() if report is None else await report.metrics()
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    return endpoint


async def _on_edgedistill_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgeDistillError)  # noqa: S101  # the type of Starlette's exception handlers
    return response_to_error(error, request.scope)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # the type of Starlette's exception handlers
    status = HTTPStatus(error.status_code)
    return error_response(status, f"{status.description}.", request.scope, error.headers)


class RouterBypass:
    """ASGI middleware that calls the endpoints of fixed POST paths directly.

    The router of Starlette would give the same answers, after a search through its routes and two layers of exception
    handling, which take a sixth of the time of a request without its score.

    Args:
        app: The application for all other requests.
        routes: POST routes without path parameters.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[Route]) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        route = self._routes.get(scope["path"]) if is_post else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await route.endpoint(Request(scope, receive, send))
        except EdgeDistillError as error:
            response = response_to_error(error, scope)
        await response(scope, receive, send)
