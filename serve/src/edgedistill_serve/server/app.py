"""The application: middleware around the routes."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from importlib.resources import files

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgedistill_serve.errors import EdgeDistillError
from edgedistill_serve.server.metrics import CONTENT_TYPE, Metrics
from edgedistill_serve.server.middleware.key_check import KeyAccess, KeyCheck
from edgedistill_serve.server.middleware.request_log import REQUEST_ID, RequestLog
from edgedistill_serve.server.middleware.router_bypass import RouterBypass
from edgedistill_serve.server.model_catalogue import FolderStatus
from edgedistill_serve.server.protocols.health_routes import state_operations
from edgedistill_serve.server.protocols.oip import inference_operations
from edgedistill_serve.server.protocols.page_routes import CONTENT_SECURITY_POLICY, page_routes
from edgedistill_serve.server.protocols.tei import tei_operations
from edgedistill_serve.server.protocols.v1_routes import v1_operations
from edgedistill_serve.server.request.error_responses import error_response, response_to_error
from edgedistill_serve.server.request.openapi import JSON, Endpoint, Operation, openapi
from edgedistill_serve.server.service import Service


def create_app(
    service: Service,
    *,
    metrics: Metrics | None = None,
    access: KeyAccess | None = None,
    origins: Sequence[str] = (),
    states: Callable[[], Sequence[FolderStatus]] = tuple,
) -> Starlette:
    """Return the ASGI application of a service.

    Args:
        service: What scores.
        metrics: Where requests are counted.
        access: Which keys are asked for; none at all unless said otherwise.
        origins: Web pages whose scripts may ask (CORS).
        states: Says what is served from each bundle folder.
    """
    counted = metrics or Metrics()
    operations = [
        *v1_operations(service),
        *tei_operations(service),
        *inference_operations(service),
        *state_operations(service, states),
        Operation(
            path="/metrics",
            endpoint=_metrics(counted),
            summary="Counts and times in Prometheus's text form",
            response_media=CONTENT_TYPE,
        ),
    ]
    routes = {operation: operation.route() for operation in operations}
    direct = [route for operation, route in routes.items() if operation.request_types and "{" not in operation.path]
    return Starlette(
        routes=[*routes.values(), *_documents(operations, service), *page_routes()],
        middleware=[
            Middleware(
                RequestLog,
                draining=lambda: service.state == "draining",
                count=counted.count_request,
            ),
            *([_cors(origins)] if origins else []),
            Middleware(KeyCheck, access=access or KeyAccess()),
            Middleware(RouterBypass, routes=direct),
        ],
        exception_handlers={EdgeDistillError: _our_error, HTTPException: _http_error},
    )


def _metrics(metrics: Metrics) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return endpoint


def _documents(operations: Sequence[Operation], service: Service) -> list[Route]:
    document = msgspec.json.encode(openapi(operations, service.limits))
    folder = files("edgedistill_serve") / "server"
    contents = {
        "/openapi.json": (document, JSON),
        "/docs": ((folder / "docs.html").read_bytes(), "text/html"),
        "/page/docs.css": ((folder / "docs.css").read_bytes(), "text/css"),
        "/page/docs.js": ((folder / "docs.js").read_bytes(), "text/javascript"),
    }
    return [_fixed(path, *content) for path, content in contents.items()]


def _fixed(path: str, content: bytes, media_type: str) -> Route:
    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    return Route(path, endpoint, include_in_schema=False)


def _cors(origins: Sequence[str]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key", REQUEST_ID],
        expose_headers=[REQUEST_ID, "Retry-After", "Server-Timing", "X-Model"],
    )


async def _our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgeDistillError)  # noqa: S101  # Starlette's handlers are typed for any exception
    return response_to_error(error, request.scope)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # Starlette's handlers are typed for any exception
    status = HTTPStatus(error.status_code)
    return error_response(status, f"{status.description}.", request.scope, error.headers)
