"""The Open Inference Protocol, version 2.

Each input of the task is a tensor of one text per response, shape [n] or [n, 1]. The outputs are `label` (BYTES, [n]),
`probabilities` (FP64, [n, labels]) and `decision` (BYTES, [n]). A label of a multilabel task is the text of those that
hold. Texts stand in JSON; the binary extension is not known.
"""

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.errors import EdgeDistillError, RequestTooLarge, ScoringFailed, WrongShape
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.protocols.scoring_request import ScoringRequest
from edgedistill_serve.server.request.openapi import JSON, Endpoint, Operation
from edgedistill_serve.server.request.v1_request import ParsedRequest, decode
from edgedistill_serve.server.service import Service

Parameters = dict[str, bool | int | float | str | None]
Dimension = Annotated[int, Meta(ge=0, le=2**63 - 1)]
OUTPUTS = ("label", "probabilities", "decision")


class InferInput(msgspec.Struct, frozen=True):
    """An input tensor: one text per response."""

    name: str
    shape: list[Dimension]
    datatype: str
    data: list[str | list[str]]
    parameters: Parameters | None = None


class InferOutput(msgspec.Struct, frozen=True):
    """An output that is wanted."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """What `infer` takes."""

    inputs: list[InferInput]
    id: str | None = None
    outputs: list[InferOutput] | None = None
    parameters: Parameters | None = None


class OutputTensor(msgspec.Struct, frozen=True):
    """An output tensor, its data flattened row by row."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES", "FP64"]
    data: list[str | float]


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `infer` gives; ``id`` as in the request."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


class TensorMetadata(msgspec.Struct, frozen=True):
    """A tensor's name, type and shape; -1 is any number of responses."""

    name: str
    datatype: Literal["BYTES", "FP64"]
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct, frozen=True):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(msgspec.Struct, frozen=True):
    """Whether the process answers."""

    live: bool


class ServerReady(msgspec.Struct, frozen=True):
    """Whether requests are taken; ``live`` is what the specification's text calls it."""

    ready: bool
    live: bool


class ModelReady(msgspec.Struct, frozen=True):
    """Whether a model takes requests."""

    name: str
    ready: bool


def server_metadata() -> ServerMetadata:
    """Describe this server."""
    return ServerMetadata("edgedistill-serve", version("edgedistill-serve"), [])


def model_metadata(scorer: Scorer, versions: Sequence[str]) -> ModelMetadata:
    """Describe a model; ``versions`` are those of its name that are served."""
    task = scorer.bundle.task
    return ModelMetadata(
        name=scorer.bundle.manifest.name,
        versions=list(versions),
        platform="onnxruntime_onnx",
        inputs=[TensorMetadata(name, "BYTES", [-1]) for name in task.inputs],
        outputs=[
            TensorMetadata("label", "BYTES", [-1]),
            TensorMetadata("probabilities", "FP64", [-1, len(task.names)]),
            TensorMetadata("decision", "BYTES", [-1]),
        ],
    )


def read_infer(body: bytes, inputs: Sequence[str], *, model: str, max_items: int) -> tuple[InferRequest, ParsedRequest]:
    """Read the body of `infer`.

    Args:
        body: JSON in UTF-8.
        inputs: Of the model's task, in order.
        model: As `ModelCatalogue.find` takes it.
        max_items: The most responses.

    Returns:
        The request as it was sent, and the responses that it holds.

    Raises:
        NotJson: It is no JSON text in UTF-8.
        WrongShape: It is none of the forms, or lacks an input, or two tensors differ in length.
        RequestTooLarge: It has more than ``max_items`` responses.
    """
    try:
        asked = msgspec.convert(decode(body, hint="Send an inference request."), InferRequest)
    except msgspec.ValidationError as error:
        raise WrongShape(f"the body is no inference request ({error})") from None
    columns = {tensor.name: _texts(tensor) for tensor in asked.inputs}
    if len(columns) != len(asked.inputs) or set(columns) != set(inputs):
        raise WrongShape(
            "the input tensors are not the task's inputs, each once",
            where="inputs",
            hint=f"Send one BYTES tensor each for {', '.join(inputs)}.",
        )
    sizes = {len(texts) for texts in columns.values()}
    if len(sizes) != 1:
        raise WrongShape("the input tensors differ in length", where="inputs")
    (size,) = sizes
    if size > max_items:
        raise RequestTooLarge(
            f"there are {size} responses, {max_items} are taken at once", hint="Send them in several requests."
        )
    for wanted in asked.outputs or ():
        if wanted.name not in OUTPUTS:
            raise WrongShape("there is no such output", where="outputs", hint=f"There is {', '.join(OUTPUTS)}.")
    rows = tuple({name: columns[name][index] for name in inputs} for index in range(size))
    return asked, ParsedRequest(rows, many=True, model=model)


def infer_response(asked: InferRequest, scorer: Scorer, results: Sequence[Score | EdgeDistillError]) -> InferResponse:
    """Return the outputs that were asked for.

    Raises:
        ScoringFailed: A response could not be scored; the protocol has no place for the error of one.
    """
    scores: list[Score] = []
    for index, result in enumerate(results):
        if isinstance(result, EdgeDistillError):
            raise ScoringFailed(result.what, where=f"response {index}", hint=result.hint)
        scores.append(result)
    labels: list[str | float] = [score.label for score in scores]
    shares: list[str | float] = [p for score in scores for p in score.probabilities.values()]
    decisions: list[str | float] = [score.decision for score in scores]
    size = len(scores)
    outputs = {
        "label": OutputTensor("label", [size], "BYTES", labels),
        "probabilities": OutputTensor("probabilities", [size, len(scorer.bundle.task.names)], "FP64", shares),
        "decision": OutputTensor("decision", [size], "BYTES", decisions),
    }
    wanted = [output.name for output in asked.outputs] if asked.outputs else list(OUTPUTS)
    manifest = scorer.bundle.manifest
    return InferResponse(manifest.name, manifest.version, [outputs[name] for name in wanted], asked.id)


def _texts(tensor: InferInput) -> list[str]:
    if tensor.datatype != "BYTES":
        raise WrongShape("an input tensor must have the datatype BYTES", where="inputs")
    flat: list[Any] = []
    for item in tensor.data:
        flat += [item] if isinstance(item, str) else item
    size = 1
    for dimension in tensor.shape:
        size *= dimension
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]) or size != len(flat):
        raise WrongShape(
            "the shape of an input tensor must be [n] or [n, 1], n being the number of its texts", where="inputs"
        )
    return flat


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
        asked = ScoringRequest(request, service)
        body = await asked.body()
        service.check_ready()
        model = _wanted(request)
        inputs = service.models.find(model).bundle.task.inputs
        sent, wanted = read_infer(body, inputs, model=model, max_items=service.limits.items)
        answer = await asked.score(wanted)
        return asked.answer(infer_response(sent, answer.scorer, answer.results))

    return [
        Operation(path="/v2", endpoint=metadata, summary="What this server is", response_types=(ServerMetadata,)),
        Operation(
            path="/v2/health/live",
            endpoint=live,
            summary="Whether the process answers",
            response_types=(ServerLive,),
            is_open=True,
        ),
        Operation(
            path="/v2/health/ready",
            endpoint=ready,
            summary="Whether requests are taken",
            response_types=(ServerReady,),
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
        *_for_each_path("", described, "What a model takes and gives", ModelMetadata),
        *_for_each_path("/ready", model_ready, "Whether a model takes requests", ModelReady),
        *(
            Operation(
                path=f"{path}/infer",
                endpoint=infer,
                summary="Score in the Open Inference Protocol's form",
                request_types=(InferRequest,),
                response_types=(InferResponse,),
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
            response_types=(gives,),
            error_statuses=(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
        )
        for path in _ONE_MODEL
    ]


def _wanted(request: Request) -> str:
    model: str = request.path_params["model"]
    version = request.path_params.get("version")
    return model if version is None else f"{model}@{version}"


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)
