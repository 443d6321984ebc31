"""The paths of text-embeddings-inference."""

from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.http.answers import Asked
from edgedistill_serve.http.openapi import JSON, Operation
from edgedistill_serve.http.service import Service
from edgedistill_serve.http.tei import Info, Prediction, PredictRequest, info, predictions, read_predict, shape_of


def tei_operations(service: Service) -> list[Operation]:
    """Return what is done as text-embeddings-inference does it."""

    async def predict(request: Request) -> Response:
        asked = Asked(request, service)
        read = read_predict(await asked.body(), max_items=service.limits.items)
        service.check_ready()
        inputs = service.models.find(read.asked.model).bundle.task.inputs
        answer = await asked.score(read.for_task(inputs))
        predicted = [predictions(result, read.asked, answer.scorer) for result in answer.results]
        return asked.answer(shape_of(predicted, many=read.many))

    async def information(_: Request) -> Response:
        service.check_ready()
        found = info(service.models.find(None), service.limits, threads=service.threads)
        return Response(msgspec.json.encode(found), media_type=JSON)

    async def health(_: Request) -> Response:
        service.check_ready()
        return Response(b"", media_type="text/plain")

    return [
        Operation(
            path="/predict",
            endpoint=predict,
            summary="Score in text-embeddings-inference's form",
            takes=(PredictRequest,),
            gives=(list[Prediction | list[Prediction]],),
        ),
        Operation(
            path="/info",
            endpoint=information,
            summary="The default model, in text-embeddings-inference's form",
            gives=(Info,),
            fails=(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE),
        ),
        Operation(
            path="/health",
            endpoint=health,
            summary="Whether requests are taken",
            gives_media="text/plain",
            fails=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
    ]
