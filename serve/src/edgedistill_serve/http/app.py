"""The routes of the server."""

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Lifespan

from edgedistill_serve.errors import EdgeDistillError, RequestTooLarge
from edgedistill_serve.http.explaining import explain
from edgedistill_serve.http.forms import read_score_request
from edgedistill_serve.http.page import page_routes
from edgedistill_serve.http.problems import problem, status_of
from edgedistill_serve.http.record import RequestRecord
from edgedistill_serve.http.service import Service
from edgedistill_serve.scorer import Score, Scorer

_DISCARDED = 8
"""A body that is too large is read to its end and forgotten, up to so many times the limit: a client that is still
sending would not read the answer."""


def create_app(service: Service, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """Return the ASGI application of a service.

    Args:
        service: What scores.
        lifespan: What is done before the first request and after the last.
    """

    async def score(request: Request) -> Response:
        body = await _body(request, service.limits.body_bytes)
        wanted = read_score_request(body, max_items=service.limits.items)
        answer = await service.score(wanted)
        model = {"model": answer.scorer.bundle.manifest.name, "version": answer.scorer.bundle.manifest.version}
        if wanted.many:
            return _json({**model, "scores": [_item(result) for result in answer.results]})
        (result,) = answer.results
        if isinstance(result, EdgeDistillError):
            raise result
        return _json({**model, **msgspec.structs.asdict(result)})

    async def explained(request: Request) -> Response:
        body = await _body(request, service.limits.body_bytes)
        found = await explain(read_score_request(body, max_items=service.limits.items), service.score)
        manifest = found.scorer.bundle.manifest
        score = msgspec.structs.asdict(found.score)
        return _json({"model": manifest.name, "version": manifest.version, **score, "words": found.words})

    async def models(_: Request) -> Response:
        service.check_ready()
        limits = {"items": service.limits.items, "body_bytes": service.limits.body_bytes}
        return _json({"models": [_model(scorer) for scorer in service.models.values()], "limits": limits})

    async def livez(_: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(_: Request) -> Response:
        service.check_ready()
        return _json({"status": "ready"})

    routes = [
        *page_routes(),
        Route("/v1/score", score, methods=["POST"]),
        Route("/v1/explain", explained, methods=["POST"]),
        Route("/v1/models", models),
        Route("/livez", livez),
        Route("/readyz", readyz),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(
                RequestRecord,
                paths=[route.path for route in routes],
                draining=lambda: service.state == "draining",
            )
        ],
        lifespan=lifespan,
        exception_handlers={EdgeDistillError: _our_error, HTTPException: _http_error},
    )


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received <= limit:
            body += chunk
        elif received > _DISCARDED * limit:
            break
    if received > limit:
        raise RequestTooLarge(f"the body is longer than {limit} bytes", mend="Send it in several requests.")
    return bytes(body)


def _item(result: Score | EdgeDistillError) -> Score | dict[str, Any]:
    return {"error": str(result)} if isinstance(result, EdgeDistillError) else result


def _model(scorer: Scorer) -> dict[str, Any]:
    manifest = scorer.bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "kind": manifest.task.kind,
        "labels": manifest.task.names,
        "definitions": {label.name: label.definition for label in manifest.task.labels},
        "inputs": manifest.task.inputs,
        "max_tokens": manifest.max_tokens,
        "precision": scorer.precision,
        "calibrated": manifest.temperature != 1.0,
        "review": manifest.review,
        "notes": scorer.notes,
    }


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


async def _our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgeDistillError)  # noqa: S101  # Starlette's handlers are typed for any exception
    return problem(status_of(error), str(error), request.scope["request_id"])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # Starlette's handlers are typed for any exception
    status = HTTPStatus(error.status_code)
    return problem(status, f"{status.description}.", request.scope["request_id"], dict(error.headers or {}))
