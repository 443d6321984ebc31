"""The Open Inference Protocol, version 2.

Each input of the task is a tensor with one text per response, shape [n] or [n, 1]. The outputs are `label`
(BYTES, [n]), `probabilities` (FP64, [n, labels]), `decision` (BYTES, [n]) and `reason` (BYTES, [n]; empty if accepted).
For a multilabel task, `label` is the text of all assigned labels. Tensors are JSON; the binary extension is not
supported.
"""

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.errors import EdgeDistillError, RequestTooLarge, ScoringFailed, WrongShape
from edgedistill_serve.hidden_texts import HiddenTexts
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.protocols.scoring_request import ScoringRequest, decode_json
from edgedistill_serve.server.request.openapi import JSON, Endpoint, Operation
from edgedistill_serve.server.service import ParsedRequest, Service

Parameters = dict[str, bool | int | float | str | None]
Dimension = Annotated[int, Meta(ge=0, le=2**63 - 1)]
OUTPUTS = ("label", "probabilities", "decision", "reason")


class InferInput(HiddenTexts, frozen=True):
    """An input tensor: one text per response."""

    name: str
    shape: list[Dimension]
    datatype: str
    data: list[str | list[str]]
    parameters: Parameters | None = None


class InferOutput(msgspec.Struct, frozen=True):
    """A requested output."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """The body of an `infer` request."""

    inputs: list[InferInput]
    id: str | None = None
    outputs: list[InferOutput] | None = None
    parameters: Parameters | None = None


class OutputTensor(msgspec.Struct, frozen=True):
    """An output tensor; its data are flattened in row-major order."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES", "FP64"]
    data: list[str | float]


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to an `infer` request, with the same ``id``."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


class TensorMetadata(msgspec.Struct, frozen=True):
    """Name, type and shape of a tensor; -1 stands for any number of responses."""

    name: str
    datatype: Literal["BYTES", "FP64"]
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """Inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct, frozen=True):
    """Name and version of this server."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(msgspec.Struct, frozen=True):
    """Whether the process answers."""

    live: bool


class ServerReady(msgspec.Struct, frozen=True):
    """Whether requests are accepted; ``live`` is the name in the text of the specification."""

    ready: bool
    live: bool


class ModelReady(msgspec.Struct, frozen=True):
    """Whether a model accepts requests."""

    name: str
    ready: bool


def server_metadata() -> ServerMetadata:
    """Describe this server."""
    return ServerMetadata("edgedistill-serve", version("edgedistill-serve"), [])


def model_metadata(scorer: Scorer, versions: Sequence[str]) -> ModelMetadata:
    """Describe a model; ``versions`` are all served versions of its name."""
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
            TensorMetadata("reason", "BYTES", [-1]),
        ],
    )


def parse_infer_request(
    body: bytes, inputs: Sequence[str], *, model: str, max_items: int
) -> tuple[InferRequest, ParsedRequest]:
    """Parse the body of an `infer` request.

    Args:
        body: JSON in UTF-8.
        inputs: Inputs of the model's task, in order.
        model: As for `ModelCatalogue.find`.
        max_items: Largest number of responses.

    Returns:
        The body as sent, and its responses.

    Raises:
        NotJson: The body is not valid JSON in UTF-8.
        WrongShape: The body does not match the schema, an input is missing, or tensors differ in length.
        RequestTooLarge: The body has more than ``max_items`` responses.
    """
    try:
        sent = msgspec.convert(decode_json(body, hint="Send an inference request."), InferRequest)
    except msgspec.ValidationError as error:
        raise WrongShape(f"the body is not an inference request ({error})") from None
    columns = {tensor.name: _texts(tensor) for tensor in sent.inputs}
    if len(columns) != len(sent.inputs) or set(columns) != set(inputs):
        raise WrongShape(
            "the input tensors must be the task's inputs, each once",
            where="inputs",
            hint=f"Send one BYTES tensor each for {', '.join(inputs)}.",
        )
    sizes = {len(texts) for texts in columns.values()}
    if len(sizes) != 1:
        raise WrongShape("the input tensors differ in length", where="inputs")
    (size,) = sizes
    if size > max_items:
        raise RequestTooLarge(
            f"the request has {size} responses, the limit is {max_items}", hint="Send several smaller requests."
        )
    names = [output.name for output in sent.outputs or ()]
    if not set(names) <= set(OUTPUTS):
        raise WrongShape("there is no such output", where="outputs", hint=f"The outputs are {', '.join(OUTPUTS)}.")
    if len(names) != len(set(names)):  # each costs the size of all scores
        raise WrongShape("an output is requested twice", where="outputs", hint="Request each output once.")
    rows = tuple({name: columns[name][index] for name in inputs} for index in range(size))
    return sent, ParsedRequest(rows, is_list=True, model=model)


def build_infer_response(
    sent: InferRequest, scorer: Scorer, results: Sequence[Score | EdgeDistillError]
) -> InferResponse:
    """Return the requested outputs.

    Raises:
        ScoringFailed: A response could not be scored; the protocol has no errors for single responses.
    """
    scores: list[Score] = []
    for index, result in enumerate(results):
        if isinstance(result, EdgeDistillError):
            raise ScoringFailed(result.what, where=f"response {index}", hint=result.hint)
        scores.append(result)
    labels: list[str | float] = [score.label for score in scores]
    shares: list[str | float] = [p for score in scores for p in score.probabilities.values()]
    decisions: list[str | float] = [score.decision for score in scores]
    reasons: list[str | float] = [score.reason or "" for score in scores]
    size = len(scores)
    outputs = {
        "label": OutputTensor("label", [size], "BYTES", labels),
        "probabilities": OutputTensor("probabilities", [size, len(scorer.bundle.task.names)], "FP64", shares),
        "decision": OutputTensor("decision", [size], "BYTES", decisions),
        "reason": OutputTensor("reason", [size], "BYTES", reasons),
    }
    names = [output.name for output in sent.outputs] if sent.outputs else list(OUTPUTS)
    manifest = scorer.bundle.manifest
    return InferResponse(manifest.name, manifest.version, [outputs[name] for name in names], sent.id)


def _texts(tensor: InferInput) -> list[str]:
    if tensor.datatype != "BYTES":
        raise WrongShape("an input tensor must have the datatype BYTES", where="inputs")
    flat: list[str] = []
    for item in tensor.data:
        flat += [item] if isinstance(item, str) else item
    if tensor.shape not in ([len(flat)], [len(flat), 1]):
        raise WrongShape(
            "the shape of an input tensor must be [n] or [n, 1], n being the number of its texts", where="inputs"
        )
    return flat


_ONE_MODEL = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def inference_operations(service: Service) -> list[Operation]:
    """Return the operations under `/v2`."""

    async def metadata(_: Request) -> Response:
        return _json(server_metadata())

    async def live(_: Request) -> Response:
        return _json(ServerLive(live=True))

    async def ready(_: Request) -> Response:
        service.check_ready()
        return _json(ServerReady(ready=True, live=True))

    async def model_metadata_endpoint(request: Request) -> Response:
        service.check_ready()
        scorer = service.models.find(_requested_model(request))
        name = scorer.bundle.manifest.name
        manifests = [each.bundle.manifest for each in service.models.scorers]
        return _json(model_metadata(scorer, [each.version for each in manifests if each.name == name]))

    async def model_ready(request: Request) -> Response:
        service.check_ready()
        return _json(ModelReady(service.models.find(_requested_model(request)).bundle.manifest.name, ready=True))

    async def infer(request: Request) -> Response:
        scoring = ScoringRequest(request, service)
        model = _requested_model(request)

        def parse(body: bytes) -> tuple[InferRequest, ParsedRequest]:
            service.check_ready()
            inputs = service.models.find(model).bundle.task.inputs
            return parse_infer_request(body, inputs, model=model, max_items=service.limits.items)

        sent, parsed = await scoring.read(parse)
        answer = await scoring.score(parsed)
        return scoring.build_response(build_infer_response(sent, answer.scorer, answer.results))

    return [
        Operation(
            path="/v2", endpoint=metadata, summary="Name and version of this server", response_types=(ServerMetadata,)
        ),
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
            summary="Whether requests are accepted",
            response_types=(ServerReady,),
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
        *_for_each_path("", model_metadata_endpoint, "Inputs and outputs of a model", ModelMetadata),
        *_for_each_path("/ready", model_ready, "Whether a model accepts requests", ModelReady),
        *(
            Operation(
                path=f"{path}/infer",
                endpoint=infer,
                summary="Score in the format of the Open Inference Protocol",
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


def _requested_model(request: Request) -> str:
    model: str = request.path_params["model"]
    version = request.path_params.get("version")
    return model if version is None else f"{model}@{version}"


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)
