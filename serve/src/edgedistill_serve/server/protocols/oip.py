"""The Open Inference Protocol, version 2.

Each input of the task is a tensor with one text per response, shape [n] or [n, 1]. The outputs are `label`
(BYTES, [n]), `probabilities` (FP64, [n, labels]), `decision` (BYTES, [n]) and `reason` (BYTES, [n]; empty if accepted).
For a multilabel task, `label` is the text of all assigned labels. Tensors are JSON, or binary (`oip_binary`).
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
from edgedistill_serve.server.protocols.oip_binary import (
    BINARY_SIZE,
    HEADER_LENGTH,
    binary_size,
    decode_texts,
    encode_tensor,
    split_body,
)
from edgedistill_serve.server.protocols.scoring_request import ScoringRequest, decode_json
from edgedistill_serve.server.request.body_reader import find_header
from edgedistill_serve.server.request.openapi import JSON, Endpoint, Example, Operation, Tag
from edgedistill_serve.server.service import ParsedRequest, Service

Parameters = dict[str, bool | int | float | str | None]
Dimension = Annotated[int, Meta(ge=0, le=2**63 - 1)]
OUTPUTS = ("label", "probabilities", "decision", "reason")
_OTHER_EXTENSIONS = {
    "classification": "The output label has the label, and probabilities has those of all labels.",
    "shared_memory_region": "Send and receive tensors in the bodies.",
}
"""Parameters that change what is read or answered, and what to do instead."""


class InferInput(HiddenTexts, frozen=True):
    """An input tensor: one text per response, in ``data``, or binary with the parameter ``binary_data_size``."""

    name: str
    shape: list[Dimension]
    datatype: str
    data: list[str | list[str]] | None = None
    parameters: Parameters | None = None


class InferOutput(msgspec.Struct, frozen=True):
    """A requested output. With the parameter ``binary_data``, its data follow the JSON of the answer."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """The body of an `infer` request. With the parameter ``binary_data_output``, all outputs are binary."""

    inputs: list[InferInput]
    id: str | None = None
    outputs: list[InferOutput] | None = None
    parameters: Parameters | None = None


class OutputTensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """An output tensor. Its data, in row-major order, are flat in ``data``, or follow the JSON of the answer."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES", "FP64"]
    data: list[str | float] | None = None
    parameters: Parameters | None = None


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
    return ServerMetadata("edgedistill-serve", version("edgedistill-serve"), ["binary_tensor_data"])


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
    body: bytes, inputs: Sequence[str], *, model: str, max_items: int, header_length: bytes | None = None
) -> tuple[InferRequest, ParsedRequest]:
    """Parse the body of an `infer` request.

    Args:
        body: JSON in UTF-8, and the binary tensors.
        inputs: Inputs of the model's task, in order.
        model: As for `ModelCatalogue.find`.
        max_items: Largest number of responses.
        header_length: Value of the header `HEADER_LENGTH`, for a body with binary tensors.

    Returns:
        The body as sent, and its responses.

    Raises:
        NotJson: The body is not valid JSON in UTF-8.
        WrongShape: The body does not match the schema, an input is missing, or tensors differ in length.
        RequestTooLarge: The body has more than ``max_items`` responses.
    """
    text, binary = split_body(body, header_length)
    try:
        sent = msgspec.convert(decode_json(text, hint="Send an inference request."), InferRequest)
    except msgspec.ValidationError as error:
        raise WrongShape(f"the body is not an inference request ({error})") from None
    columns = _read_columns(sent.inputs, binary, max_items)
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
        raise _size_error(size, max_items)
    names = [output.name for output in sent.outputs or ()]
    _check_parameters(sent)
    if not set(names) <= set(OUTPUTS):
        raise WrongShape("there is no such output", where="outputs", hint=f"The outputs are {', '.join(OUTPUTS)}.")
    if len(names) != len(set(names)):  # each costs the size of all scores
        raise WrongShape("an output is requested twice", where="outputs", hint="Request each output once.")
    rows = tuple({name: columns[name][index] for name in inputs} for index in range(size))
    return sent, ParsedRequest(rows, is_list=True, model=model)


def build_infer_response(
    sent: InferRequest, scorer: Scorer, results: Sequence[Score | EdgeDistillError]
) -> tuple[InferResponse, list[bytes]]:
    """Return the requested outputs, and the bytes of those that are binary.

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
    tensors = {
        "label": OutputTensor("label", [size], "BYTES", labels),
        "probabilities": OutputTensor("probabilities", [size, len(scorer.bundle.task.names)], "FP64", shares),
        "decision": OutputTensor("decision", [size], "BYTES", decisions),
        "reason": OutputTensor("reason", [size], "BYTES", reasons),
    }
    all_binary = (sent.parameters or {}).get("binary_data_output", False)
    outputs: list[OutputTensor] = []
    binary: list[bytes] = []
    for output in sent.outputs or map(InferOutput, OUTPUTS):
        tensor = tensors[output.name]
        if (output.parameters or {}).get("binary_data", all_binary) is True:
            binary.append(encode_tensor(tensor.datatype, tensor.data or ()))
            parameters: Parameters = {BINARY_SIZE: len(binary[-1])}
            tensor = OutputTensor(tensor.name, tensor.shape, tensor.datatype, parameters=parameters)
        outputs.append(tensor)
    manifest = scorer.bundle.manifest
    return InferResponse(manifest.name, manifest.version, outputs, sent.id), binary


def _read_columns(tensors: Sequence[InferInput], binary: memoryview, max_items: int) -> dict[str, list[str]]:
    """Return the texts of each tensor by its name."""
    columns: dict[str, list[str]] = {}
    for index, tensor in enumerate(tensors):
        where = f"inputs[{index}]"
        _check_tensor(tensor, where)
        size = binary_size(tensor.parameters, where)
        if (size is None) == (tensor.data is None):
            raise WrongShape(f"a tensor must have either data or the parameter {BINARY_SIZE}", where=where)
        if size is None:
            columns[tensor.name] = _read_data(tensor, where)
            continue
        if size > len(binary):
            raise WrongShape(
                f"the tensor has {size} bytes, and {len(binary)} follow the JSON and the tensors before it",
                where=where,
                hint=f"Send the header {HEADER_LENGTH}, and the bytes of all binary tensors in order.",
            )
        if tensor.shape[0] > max_items:
            raise _size_error(tensor.shape[0], max_items)
        columns[tensor.name], binary = decode_texts(binary[:size], tensor.shape[0], where), binary[size:]
    if len(binary):
        raise WrongShape(f"{len(binary)} bytes follow the last binary tensor", where="inputs")
    return columns


def _read_data(tensor: InferInput, where: str) -> list[str]:
    flat: list[str] = []
    for item in tensor.data or ():
        flat += [item] if isinstance(item, str) else item
    if len(flat) != tensor.shape[0]:
        raise _shape_error(where)
    return flat


def _check_tensor(tensor: InferInput, where: str) -> None:
    if tensor.datatype != "BYTES":
        raise WrongShape("an input tensor must have the datatype BYTES", where=where)
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]):
        raise _shape_error(where)


def _check_parameters(sent: InferRequest) -> None:
    """Refuse the parameters of other extensions that change what is read or answered."""
    for index, output in enumerate(sent.outputs or ()):
        _check_each(output.parameters, f"outputs[{index}]")
    for index, tensor in enumerate(sent.inputs):
        _check_each(tensor.parameters, f"inputs[{index}]")


def _check_each(parameters: Parameters | None, where: str) -> None:
    if found := _OTHER_EXTENSIONS.keys() & set(parameters or ()):
        name = min(found)
        raise WrongShape(f"the parameter {name} is not supported", where=where, hint=_OTHER_EXTENSIONS[name])
    if not isinstance((parameters or {}).get("binary_data", False), bool):
        raise WrongShape("the parameter binary_data is not true or false", where=where)


def _shape_error(where: str) -> WrongShape:
    return WrongShape(
        "the shape of an input tensor must be [n] or [n, 1], n being the number of its texts", where=where
    )


def _size_error(size: int, max_items: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"the request has {size} responses, the limit is {max_items}", hint="Send several smaller requests."
    )


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
            header_length = find_header(request.scope, HEADER_LENGTH.lower().encode())
            return parse_infer_request(
                body, inputs, model=model, max_items=service.limits.items, header_length=header_length
            )

        sent, parsed = await scoring.read(parse)
        answer = await scoring.score(parsed)
        content, binary = build_infer_response(sent, answer.scorer, answer.results)
        return scoring.build_response(content, binary)

    return [
        Operation(
            path="/v2",
            endpoint=metadata,
            id="get_server_metadata",
            tag=_TAG,
            summary="Name and version of this server",
            returns="Name, version and extensions.",
            response_types=(ServerMetadata,),
            response_examples=(Example("This server", server_metadata()),),
        ),
        Operation(
            path="/v2/health/live",
            endpoint=live,
            id="check_server_live",
            tag=_TAG,
            summary="Whether the process answers",
            returns="It does.",
            response_types=(ServerLive,),
            response_examples=(Example("Alive", ServerLive(live=True)),),
            is_open=True,
        ),
        Operation(
            path="/v2/health/ready",
            endpoint=ready,
            id="check_server_ready",
            tag=_TAG,
            summary="Whether requests are accepted",
            returns="They are.",
            response_types=(ServerReady,),
            response_examples=(Example("Ready", ServerReady(ready=True, live=True)),),
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
        *(
            each
            for which in _ONE_MODEL
            for each in _operations_of_model(which, model_metadata_endpoint, model_ready, infer)
        ),
    ]


def _operations_of_model(which: str, metadata: Endpoint, ready: Endpoint, infer: Endpoint) -> list[Operation]:
    path = _ONE_MODEL[which]
    statuses = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
    return [
        Operation(
            path=path,
            endpoint=metadata,
            id=f"get_{which}_metadata",
            tag=_TAG,
            summary="Inputs and outputs of a model",
            returns="Names, types and shapes of the tensors.",
            response_types=(ModelMetadata,),
            response_examples=(Example("A model of one input", _METADATA),),
            error_statuses=statuses,
        ),
        Operation(
            path=f"{path}/ready",
            endpoint=ready,
            id=f"check_{which}_ready",
            tag=_TAG,
            summary="Whether a model accepts requests",
            returns="It does.",
            response_types=(ModelReady,),
            response_examples=(Example("Ready", ModelReady("praise", ready=True)),),
            error_statuses=statuses,
        ),
        Operation(
            path=f"{path}/infer",
            endpoint=infer,
            id=f"infer_{which}",
            tag=_TAG,
            summary="Score in the format of the Open Inference Protocol",
            description=(
                "Each input of the task is a BYTES tensor. Tensors are JSON, or binary with the extension "
                "`binary_tensor_data` and the header `Inference-Header-Content-Length`, which this document does "
                "not describe."
            ),
            returns="The requested outputs; by default, all of them.",
            request_types=(InferRequest,),
            request_examples=(Example("Labels and decisions", _INFER),),
            response_types=(InferResponse,),
            response_examples=(Example("Labels and decisions", _INFERRED),),
            response_headers=("Server-Timing",),
        ),
    ]


_TAG: Tag = "Open Inference Protocol"
_ONE_MODEL = {"model": "/v2/models/{model}", "model_version": "/v2/models/{model}/versions/{version}"}
"""Paths of a model, by their part of the operation ids."""
_METADATA = ModelMetadata(
    name="praise",
    versions=["3f0c9a1b22de"],
    platform="onnxruntime_onnx",
    inputs=[TensorMetadata("response", "BYTES", [-1])],
    outputs=[
        TensorMetadata("label", "BYTES", [-1]),
        TensorMetadata("probabilities", "FP64", [-1, 3]),
        TensorMetadata("decision", "BYTES", [-1]),
        TensorMetadata("reason", "BYTES", [-1]),
    ],
)
_INFER = {
    "inputs": [{"name": "response", "shape": [1], "datatype": "BYTES", "data": ["You worked hard on this."]}],
    "outputs": [{"name": "label"}, {"name": "decision"}],
}
_INFERRED = InferResponse(
    "praise",
    "3f0c9a1b22de",
    [OutputTensor("label", [1], "BYTES", ["process"]), OutputTensor("decision", [1], "BYTES", ["accept"])],
)


def _requested_model(request: Request) -> str:
    model: str = request.path_params["model"]
    version = request.path_params.get("version")
    return model if version is None else f"{model}@{version}"


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)
