"""The paths of the Open Inference Protocol, version 2."""

from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.http.answers import Asked
from edgedistill_serve.http.open_inference import (
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    infer_response,
    model_metadata,
    read_infer,
    server_metadata,
)
from edgedistill_serve.http.openapi import JSON, Endpoint, Operation
from edgedistill_serve.http.service import Service

_ONE_MODEL = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def inference_operations(service: Service) -> list[Operation]:
    """Return what is done under `/v2`."""

    async def metadata(_: Request) -> Response:
        return _json(server_metadata())

    async def live(_: Request) -> Response:
        return _json(ServerLive(live=True))

    async def ready(_: Request) -> Response:
        service.check_ready()
        return _json(ServerReady(ready=True, live=True))

    async def described(request: Request) -> Response:
        service.check_ready()
        scorer = service.models.find(_wanted(request))
        name = scorer.bundle.manifest.name
        manifests = [each.bundle.manifest for each in service.models.scorers]
        return _json(model_metadata(scorer, [each.version for each in manifests if each.name == name]))

    async def model_ready(request: Request) -> Response:
        service.check_ready()
        return _json(ModelReady(service.models.find(_wanted(request)).bundle.manifest.name, ready=True))

    async def infer(request: Request) -> Response:
        asked = Asked(request, service)
        body = await asked.body()
        service.check_ready()
        model = _wanted(request)
        inputs = service.models.find(model).bundle.task.inputs
        sent, wanted = read_infer(body, inputs, model=model, max_items=service.limits.items)
        answer = await asked.score(wanted)
        return asked.answer(infer_response(sent, answer.scorer, answer.results))

    return [
        Operation(path="/v2", endpoint=metadata, summary="What this server is", gives=(ServerMetadata,)),
        Operation(
            path="/v2/health/live",
            endpoint=live,
            summary="Whether the process answers",
            gives=(ServerLive,),
            is_open=True,
        ),
        Operation(
            path="/v2/health/ready",
            endpoint=ready,
            summary="Whether requests are taken",
            gives=(ServerReady,),
            fails=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
        *_for_each_path("", described, "What a model takes and gives", ModelMetadata),
        *_for_each_path("/ready", model_ready, "Whether a model takes requests", ModelReady),
        *(
            Operation(
                path=f"{path}/infer",
                endpoint=infer,
                summary="Score in the Open Inference Protocol's form",
                takes=(InferRequest,),
                gives=(InferResponse,),
            )
            for path in _ONE_MODEL
        ),
    ]


def _for_each_path(ending: str, endpoint: Endpoint, summary: str, gives: type[msgspec.Struct]) -> list[Operation]:
    return [
        Operation(
            path=f"{path}{ending}",
            endpoint=endpoint,
            summary=summary,
            gives=(gives,),
            fails=(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
        )
        for path in _ONE_MODEL
    ]


def _wanted(request: Request) -> str:
    model: str = request.path_params["model"]
    version = request.path_params.get("version")
    return model if version is None else f"{model}@{version}"


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)
