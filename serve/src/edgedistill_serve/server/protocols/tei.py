"""The protocol of text-embeddings-inference: `POST /predict`, `GET /info` (its router/src/lib.rs and router/src/http).

An answer has its `x-compute-*` and time headers. A text or a batch that is too long is a 413, a body without the texts
that the task needs a 422.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from importlib.metadata import version

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.errors import EdgeDistillError, RequestTooLarge, ScoringFailed, WrongShape
from edgedistill_serve.hidden_texts import HiddenTexts
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.protocols.scoring_request import ScoringRequest, decode_json
from edgedistill_serve.server.request.openapi import JSON, Example, Operation
from edgedistill_serve.server.service import Answer, ParsedRequest, Service
from edgedistill_serve.task.label_decoding import LabelDecoder

_SMALLEST_FLOAT = 5e-324
"""The smallest positive float."""
_FLOAT_GAP = 2**-53
"""Difference between 1 and the next smaller float. Logits above 36.7 all have this distance from 1."""
_HINT = "Send a text, a list of the task's inputs in order, or a batch (a list of such lists) as inputs."


class PredictRequest(HiddenTexts, frozen=True):
    """The body of `POST /predict`.

    Attributes:
        inputs: A text, a list of the task's inputs in order (such as a pair), or a batch: a list of such lists.
        truncate: Whether a response that is too long is truncated instead of refused.
        raw_scores: Whether the scores are logits instead of probabilities. Logits are exact up to a constant; those of
            a multilabel task are exact.
        model: Name of the model, if several are served.
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
    """Label indices, in both directions."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ClassifierType(msgspec.Struct, frozen=True):
    """Type of the model."""

    classifier: ClassifierLabels


class Info(msgspec.Struct, frozen=True):
    """The answer of `GET /info`."""

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
class ParsedPrediction:
    """A parsed body of `POST /predict`.

    Attributes:
        sequences: The texts of each response, one per input of the task.
        is_list: Whether the body had a batch.
        sent: The body as sent.
    """

    sequences: tuple[tuple[str, ...], ...] = field(repr=False)
    is_list: bool
    sent: PredictRequest

    def for_task(self, inputs: Sequence[str]) -> ParsedRequest:
        """Return the responses with the names of the task's inputs.

        Raises:
            WrongShape: The number of texts differs from the number of inputs.
        """
        for index, texts in enumerate(self.sequences):
            if len(texts) != len(inputs):
                raise WrongShape(
                    f"the response has {len(texts)} texts, the task has {len(inputs)} inputs ({', '.join(inputs)})",
                    where=f"inputs[{index}]" if self.is_list else "inputs",
                    hint="A batch is a list of lists." if not self.is_list else None,
                )
        rows = tuple(dict(zip(inputs, texts, strict=True)) for texts in self.sequences)
        return ParsedRequest(rows, self.is_list, self.sent.model)


def parse_predict_request(body: bytes, *, max_items: int) -> ParsedPrediction:
    """Parse the body of `POST /predict`.

    Raises:
        NotJson: The body is not valid JSON in UTF-8.
        WrongShape: The body does not match the schema.
        RequestTooLarge: The batch has more than ``max_items`` responses.
    """
    content = decode_json(body, hint=_HINT)
    try:
        sent = msgspec.convert(content, PredictRequest)
    except msgspec.ValidationError as error:
        raise WrongShape(f"the body does not match the schema ({error})", hint=_HINT) from None
    inputs = sent.inputs
    if isinstance(inputs, str):
        return ParsedPrediction(((inputs,),), is_list=False, sent=sent)
    batch = [item for item in inputs if not isinstance(item, str)]
    if not inputs or (batch and len(batch) != len(inputs)):
        raise WrongShape("the list is empty, or mixes texts and lists", where="inputs", hint=_HINT)
    if not batch:
        return ParsedPrediction((tuple(text for text in inputs if isinstance(text, str)),), is_list=False, sent=sent)
    if len(batch) > max_items:
        raise RequestTooLarge(
            f"batch size {len(batch)} > maximum allowed batch size {max_items}", hint="Send several smaller requests."
        )
    return ParsedPrediction(tuple(map(tuple, batch)), is_list=True, sent=sent)


def build_predictions(result: Score | EdgeDistillError, sent: PredictRequest, scorer: Scorer) -> list[Prediction]:
    """Return all labels with their scores, in descending order.

    Raises:
        ScoringFailed: The response could not be scored.
        RequestTooLarge: The response is too long, and ``truncate`` is false.
    """
    if isinstance(result, EdgeDistillError):
        raise ScoringFailed(result.what, where=result.where, hint=result.hint)
    if result.truncated and not sent.truncate:
        raise RequestTooLarge(
            f"the response has {result.tokens} tokens, the model reads {scorer.bundle.manifest.max_tokens} including "
            "other inputs",
            hint='Shorten it, or send "truncate": true.',
        )
    decoder = scorer.bundle.manifest.label_decoder
    predictions = [
        Prediction(_logit(p, decoder) if sent.raw_scores else p, label) for label, p in result.probabilities.items()
    ]
    return sorted(predictions, key=lambda prediction: -prediction.score)


def _logit(probability: float, decoder: LabelDecoder) -> float:
    """Return the logit of a probability, up to a constant for all labels; finite also for rounded 0 and 1."""
    odds = math.log(max(probability, _SMALLEST_FLOAT))
    if decoder.is_multilabel:
        odds -= math.log(max(1 - probability, _FLOAT_GAP))
    return decoder.temperature * odds


def compute_headers(
    sequences: Sequence[Sequence[str]],
    answer: Answer,
    total: float,
) -> dict[str, str]:
    """Return the headers in which text-embeddings-inference says what a request took.

    Args:
        sequences: The texts of each response.
        answer: Their scores.
        total: Time of the request, in seconds.

    Returns:
        ``x-compute-type`` (``cpu`` or ``cuda``), ``x-compute-characters``, ``x-compute-tokens`` (that the model read,
        without special tokens), and times in whole milliseconds: of the request, and the mean of the responses in
        tokenization, queue and model. Scores from the cache have the time 0.
    """
    longest = answer.scorer.bundle.manifest.max_tokens
    tokens = sum(
        min(score.context_tokens - score.context_tokens_lost + score.tokens, longest)
        for score in answer.results
        if isinstance(score, Score)
    )

    def mean(times: Sequence[float]) -> str:
        return str(int(1000 * sum(times) / max(1, len(times))))

    milliseconds = str(int(1000 * total))
    return {
        "x-compute-type": answer.scorer.device,
        "x-compute-time": milliseconds,
        "x-compute-characters": str(sum(len(text) for texts in sequences for text in texts)),
        "x-compute-tokens": str(tokens),
        "x-total-time": milliseconds,
        "x-tokenization-time": mean([each.tokenize_seconds for each in answer.timings]),
        "x-queue-time": mean([each.queue_seconds for each in answer.timings]),
        "x-inference-time": mean([each.model_seconds for each in answer.timings]),
    }


def build_info(scorer: Scorer, limits: Limits, *, threads: int) -> Info:
    """Describe a model and the server in the format of text-embeddings-inference."""
    manifest = scorer.bundle.manifest
    indices = {name: index for index, name in enumerate(manifest.task.names)}
    labels = ClassifierLabels({str(index): name for name, index in indices.items()}, indices)
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


def tei_operations(service: Service) -> list[Operation]:
    """Return the operations of text-embeddings-inference."""

    async def predict(request: Request) -> Response:
        scoring = ScoringRequest(request, service)
        parsed = await scoring.read(partial(parse_predict_request, max_items=service.limits.items))
        service.check_ready()
        inputs = service.models.find(parsed.sent.model).bundle.task.inputs
        answer = await scoring.score(parsed.for_task(inputs))
        predictions = [build_predictions(result, parsed.sent, answer.scorer) for result in answer.results]
        headers = compute_headers(parsed.sequences, answer, scoring.seconds)
        return scoring.build_response(predictions if parsed.is_list else predictions[0], headers=headers)

    async def information(_: Request) -> Response:
        service.check_ready()
        info = build_info(service.models.find(None), service.limits, threads=service.threads)
        return Response(msgspec.json.encode(info), media_type=JSON)

    async def health(_: Request) -> Response:
        service.check_ready()
        return Response(b"", media_type="text/plain")

    return [
        Operation(
            path="/predict",
            endpoint=predict,
            id="predict",
            tag="text-embeddings-inference",
            summary="Score in the format of text-embeddings-inference",
            description="The answer has no decision: check yourself which texts a person should see.",
            returns="For each text, all labels with their scores, in descending order.",
            request_types=(PredictRequest,),
            request_examples=(
                Example("A text", {"inputs": "You worked hard on this."}),
                Example("A batch", {"inputs": [["You worked hard on this."], ["So smart!"]], "truncate": True}),
            ),
            response_types=(list[Prediction | list[Prediction]],),
            response_examples=(
                Example("Of a text", _PREDICTIONS),
                Example("Of a batch", [_PREDICTIONS, [*reversed(_PREDICTIONS)]]),
            ),
            response_headers=("Server-Timing",),
        ),
        Operation(
            path="/info",
            endpoint=information,
            id="get_info",
            tag="text-embeddings-inference",
            summary="The default model, in the format of text-embeddings-inference",
            returns="The model and the limits of the server.",
            response_types=(Info,),
            response_examples=(Example("A model", _INFO),),
            error_statuses=(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE),
        ),
        Operation(
            path="/health",
            endpoint=health,
            id="check_health",
            tag="text-embeddings-inference",
            summary="Whether requests are accepted",
            returns="Requests are accepted; the body is empty.",
            response_media="text/plain",
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
            is_open=True,
        ),
    ]


_PREDICTIONS = [Prediction(0.91, "process"), Prediction(0.06, "outcome"), Prediction(0.03, "person")]
_LABELS = ClassifierLabels({"0": "process", "1": "outcome", "2": "person"}, {"process": 0, "outcome": 1, "person": 2})
_INFO = Info(
    model_id="praise",
    model_sha="3f0c9a1b22de",
    model_dtype="int8",
    model_type=ClassifierType(_LABELS),
    max_concurrent_requests=4000,
    max_input_length=128,
    max_batch_tokens=128,
    max_batch_requests=1,
    max_client_batch_size=1000,
    auto_truncate=False,
    tokenization_workers=4,
    version=version("edgedistill-serve"),
    sha=None,
    docker_label=None,
)
