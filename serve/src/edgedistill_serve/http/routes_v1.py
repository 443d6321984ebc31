"""The paths of `/v1`."""

from functools import partial
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.errors import EdgeDistillError
from edgedistill_serve.http.answers import Asked
from edgedistill_serve.http.bulk import MEDIA_TYPE, BulkAnswer
from edgedistill_serve.http.explaining import explain
from edgedistill_serve.http.forms import read_score_request
from edgedistill_serve.http.openapi import JSON, Operation
from edgedistill_serve.http.service import Service
from edgedistill_serve.http.wire import (
    ExplainedResponse,
    Inputs,
    ManyResponses,
    Model,
    Models,
    NoScore,
    OneResponse,
    ScoredResponse,
    ScoredResponses,
    Taken,
)
from edgedistill_serve.scorer import Score


def v1_operations(service: Service) -> list[Operation]:
    """Return what is done under `/v1`."""
    limits = service.limits

    async def score(request: Request) -> Response:
        asked = Asked(request, service)
        wanted = read_score_request(await asked.body(), max_items=limits.items)
        answer = await asked.score(wanted)
        manifest = answer.scorer.bundle.manifest
        if wanted.many:
            scores = [NoScore(str(each)) if isinstance(each, EdgeDistillError) else each for each in answer.results]
            return asked.answer(ScoredResponses(manifest.name, manifest.version, scores))
        (result,) = answer.results
        if isinstance(result, EdgeDistillError):
            raise result.anew()
        return asked.answer(ScoredResponse(manifest.name, manifest.version, **msgspec.structs.asdict(result)))

    async def bulk(request: Request) -> Response:
        service.check_ready()
        scorer = service.models.find(request.query_params.get("model"))
        return BulkAnswer(service, scorer)  # type: ignore[return-value]  # an ASGI application, as a Response is

    async def explained(request: Request) -> Response:
        asked = Asked(request, service)
        wanted = read_score_request(await asked.body(), max_items=limits.items)
        # Up to a hundred scores of one curious reader hold nobody up who waits for one.
        found = await explain(wanted, partial(asked.score, lane="bulk"), room=limits.queue)
        manifest = found.scorer.bundle.manifest
        score = msgspec.structs.asdict(found.score)
        return asked.answer(ExplainedResponse(manifest.name, manifest.version, **score, words=found.words))

    async def models(_: Request) -> Response:
        service.check_ready()
        served = [Model.of(scorer) for scorer in service.models.scorers]
        return Response(msgspec.json.encode(Models(served, Taken(limits.items, limits.body_bytes))), media_type=JSON)

    return [
        Operation(
            path="/v1/score",
            endpoint=score,
            summary="Score one response, or a list",
            takes=(OneResponse, ManyResponses),
            gives=(ScoredResponse, ScoredResponses),
        ),
        Operation(
            path="/v1/score/bulk",
            endpoint=bulk,
            summary="Score any number of responses: a line of JSON each, in and out",
            takes=(str | Inputs,),
            takes_media=MEDIA_TYPE,
            query=("model",),
            gives_media=MEDIA_TYPE,
            gives=(Score, NoScore),
        ),
        Operation(
            path="/v1/explain",
            endpoint=explained,
            summary="Score one response, and say which of its words mattered",
            takes=(OneResponse,),
            gives=(ExplainedResponse,),
        ),
        Operation(
            path="/v1/models",
            endpoint=models,
            summary="What is served",
            gives=(Models,),
            fails=(HTTPStatus.SERVICE_UNAVAILABLE,),
        ),
    ]
