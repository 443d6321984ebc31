"""The protocol of text-embeddings-inference: `POST /predict`, `GET /info` (router/src/http/types.rs, version 1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.errors import EdgeDistillError, RequestTooLarge, ScoringFailed, WrongShape
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.protocols.scoring_request import ScoringRequest
from edgedistill_serve.server.request.openapi import JSON, Operation
from edgedistill_serve.server.request.v1_request import ParsedRequest, decode
from edgedistill_serve.server.service import Service
from edgedistill_serve.task.label_decoding import LabelDecoder

_LEAST = 5e-324
"""The smallest number above 0."""
_NEXT_TO_1 = 2**-53
"""How far from 1 the number before it is: a logit of 36.7 and larger ones have the same sigmoid."""
_HINT = "inputs is a text, a list of the task's inputs in order, or a batch: a list of such lists."


class PredictRequest(msgspec.Struct, frozen=True):
    """What `/predict` takes.

    Attributes:
        inputs: A text, a list of the task's inputs in order (such as a pair), or a batch: a list of such lists.
        truncate: Whether a response that is too long is cut rather than refused.
        raw_scores: Whether the scores are logits rather than probabilities; they are known up to a constant, those of
            a multilabel task as they are.
        model: Where several are served.
    """

    inputs: str | list[str | list[str]]
    truncate: bool | None = False
    raw_scores: bool = False
    model: str | None = None


class Prediction(msgspec.Struct, frozen=True):
    """A label's score."""

    score: float
    label: str


class ClassifierLabels(msgspec.Struct, frozen=True):
    """The labels' numbers, both ways."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ClassifierType(msgspec.Struct, frozen=True):
    """What kind of model is served."""

    classifier: ClassifierLabels


class Info(msgspec.Struct, frozen=True):
    """What `/info` gives."""

    model_id: str
    model_sha: str
    model_dtype: str
    model_type: ClassifierType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


@dataclass(frozen=True, slots=True)
class Predict:
    """A request of `/predict`, read.

    Attributes:
        sequences: For every response its texts, one per input of the task.
        many: Whether they came as a batch.
        asked: The request as it was sent.
    """

    sequences: tuple[tuple[str, ...], ...]
    many: bool
    asked: PredictRequest

    def for_task(self, inputs: Sequence[str]) -> ParsedRequest:
        """Name the texts as the task's inputs.

        Raises:
            WrongShape: There are more or fewer.
        """
        for index, texts in enumerate(self.sequences):
            if len(texts) != len(inputs):
                raise WrongShape(
                    f"there are {len(texts)} texts, the task has {len(inputs)} inputs ({', '.join(inputs)})",
                    where=f"inputs[{index}]" if self.many else "inputs",
                    hint="A batch is a list of lists." if not self.many else None,
                )
        rows = tuple(dict(zip(inputs, texts, strict=True)) for texts in self.sequences)
        return ParsedRequest(rows, self.many, self.asked.model)


def read_predict(body: bytes, *, max_items: int) -> Predict:
    """Read the body of `/predict`.

    Raises:
        NotJson: It is no JSON text in UTF-8.
        WrongShape: It is none of the forms.
        RequestTooLarge: The batch has more than ``max_items`` responses.
    """
    given = decode(body, hint=_HINT)
    try:
        asked = msgspec.convert(given, PredictRequest)
    except msgspec.ValidationError as error:
        raise WrongShape(f"the body is none of the forms ({error})", hint=_HINT) from None
    inputs = asked.inputs
    if isinstance(inputs, str):
        return Predict(((inputs,),), many=False, asked=asked)
    batch = [item for item in inputs if not isinstance(item, str)]
    if not inputs or (batch and len(batch) != len(inputs)):
        raise WrongShape("the list is empty, or holds texts beside lists", where="inputs", hint=_HINT)
    if not batch:
        return Predict((tuple(text for text in inputs if isinstance(text, str)),), many=False, asked=asked)
    if len(batch) > max_items:
        raise RequestTooLarge(
            f"batch size {len(batch)} > maximum allowed batch size {max_items}", hint="Send it in several requests."
        )
    return Predict(tuple(map(tuple, batch)), many=True, asked=asked)


def predictions(result: Score | EdgeDistillError, asked: PredictRequest, scorer: Scorer) -> list[Prediction]:
    """Return every label with its score, the largest first; of a multilabel task, also those that do not hold.

    Raises:
        ScoringFailed: The response could not be scored.
        RequestTooLarge: It is too long, and was not to be cut.
    """
    if isinstance(result, EdgeDistillError):
        raise ScoringFailed(result.what, where=result.where, hint=result.hint)
    if result.truncated and not asked.truncate:
        raise RequestTooLarge(
            f"the response has {result.tokens} tokens, the model reads {scorer.bundle.manifest.max_tokens} with the "
            "other inputs",
            hint='Shorten it, or send "truncate": true.',
        )
    decoder = scorer.bundle.manifest.label_decoder
    found = [
        Prediction(_raw(p, decoder) if asked.raw_scores else p, label) for label, p in result.probabilities.items()
    ]
    return sorted(found, key=lambda prediction: -prediction.score)


def _raw(probability: float, decoder: LabelDecoder) -> float:
    """The logit behind a probability, up to a constant that all labels share; finite where it was rounded to 0 or 1."""
    odds = math.log(max(probability, _LEAST))
    if decoder.is_multilabel:
        odds -= math.log(max(1 - probability, _NEXT_TO_1))
    return decoder.temperature * odds


def info(scorer: Scorer, limits: Limits, *, threads: int) -> Info:
    """Describe a model and the server as text-embeddings-inference does."""
    manifest = scorer.bundle.manifest
    numbers = {name: number for number, name in enumerate(manifest.task.names)}
    labels = ClassifierLabels({str(number): name for name, number in numbers.items()}, numbers)
    return Info(
        model_id=manifest.name,
        model_sha=manifest.version,
        model_dtype=scorer.precision,
        model_type=ClassifierType(labels),
        max_concurrent_requests=limits.queue,
        max_input_length=manifest.max_tokens,
        max_batch_tokens=manifest.max_tokens,
        max_batch_requests=1,
        max_client_batch_size=limits.items,
        auto_truncate=False,
        tokenization_workers=threads,
        version=version("edgedistill-serve"),
        sha=None,
        docker_label=None,
    )


def shape_of(predicted: list[list[Prediction]], *, many: bool) -> Any:
    """Return what goes back: a list of lists for a batch, one list for one response."""
    return predicted if many else predicted[0]


def tei_operations(service: Service) -> list[Operation]:
    """Return what is done as text-embeddings-inference does it."""

    async def predict(request: Request) -> Response:
        asked = ScoringRequest(request, service)
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
            request_types=(PredictRequest,),
            response_types=(list[Prediction | list[Prediction]],),
        ),
        Operation(
            path="/info",
            endpoint=information,
            summary="The default model, in text-embeddings-inference's form",
            response_types=(Info,),
            error_statuses=(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE),
        ),
        Operation(
            path="/health",
            endpoint=health,
            summary="Whether requests are taken",
            response_media="text/plain",
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
    ]
