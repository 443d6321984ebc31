"""The operations under `/v1`, and the explanation of a score."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgedistill_serve.errors import EdgeDistillError, RequestTooLarge, WrongShape
from edgedistill_serve.scoring.occlusion import WordEffect, remove_word, split_words, word_effects
from edgedistill_serve.scoring.scorer import Score, Scorer
from edgedistill_serve.server.protocols import examples
from edgedistill_serve.server.protocols.scoring_request import ScoringRequest, parse_score_request
from edgedistill_serve.server.protocols.v1_bulk import MEDIA_TYPE, BulkAnswer
from edgedistill_serve.server.protocols.v1_messages import (
    ExplainedResponse,
    Inputs,
    ManyResponses,
    Model,
    Models,
    NoScore,
    OneResponse,
    RequestLimits,
    ScoredResponse,
    ScoredResponses,
)
from edgedistill_serve.server.request.body_reader import check_encoding
from edgedistill_serve.server.request.openapi import JSON, Operation
from edgedistill_serve.server.service import Answer, ParsedRequest, Service
from edgedistill_serve.task.task import INPUTS

MAX_WORDS = 100
"""Longer responses are refused, because each word needs one score."""
MAX_CHARACTERS = 10_000
"""Longer inputs are refused, because each word needs a copy of them."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The model, the score of the response, and the effect of each of its words."""

    scorer: Scorer
    score: Score
    words: list[WordEffect]


async def explain(
    request: ParsedRequest, score: Callable[[ParsedRequest], Awaitable[Answer]], *, max_scores: int
) -> Explanation:
    """Explain the response of a request.

    Args:
        request: A request with one response.
        score: Scores a request.
        max_scores: Largest number of responses in one call of ``score``, including the full response.

    Raises:
        WrongShape: The request has a list of responses, or an input is missing.
        RequestTooLarge: The response has more than `MAX_WORDS` or ``max_scores - 1`` words, or the inputs have more
            than `MAX_CHARACTERS` characters.
        ScoringFailed: The model failed on the response, with or without one of its words.
        EdgeDistillError: As ``score``.
    """
    if request.is_list:
        raise WrongShape(
            "only one response can be explained at a time", where="responses", hint='Send {"response": "…"}.'
        )
    (inputs,) = request.responses
    characters = sum(len(text) for name in INPUTS if isinstance(text := inputs.get(name), str))
    if characters > MAX_CHARACTERS:
        raise RequestTooLarge(
            f"the inputs have {characters} characters, the limit for explanations is {MAX_CHARACTERS}",
            hint="Send shorter texts.",
        )
    response = inputs.get("response")
    words = split_words(response) if isinstance(response, str) else []
    max_words = min(MAX_WORDS, max_scores - 1)
    if len(words) > max_words:
        raise RequestTooLarge(
            f"the response has {len(words)} words, the limit for explanations is {max_words}",
            hint="Send a shorter response.",
        )
    # One request, so that one model scores all texts; not marked as a list, so that errors refer to the response.
    reduced = [{**inputs, "response": remove_word(response, word)} for word in words]
    answer = await score(replace(request, responses=(inputs, *reduced)))
    full, *without_word = _check_scores(answer.results)
    return Explanation(answer.scorer, full, word_effects(words, full, without_word))


def _check_scores(results: list[Score | EdgeDistillError]) -> list[Score]:
    for result in results:
        if isinstance(result, EdgeDistillError):
            raise result
    return [result for result in results if isinstance(result, Score)]


def v1_operations(service: Service) -> list[Operation]:
    """Return the operations under `/v1`."""
    limits = service.limits

    async def score(request: Request) -> Response:
        scoring = ScoringRequest(request, service)
        parsed = await scoring.read(partial(parse_score_request, max_items=limits.items))
        answer = await scoring.score(parsed)
        manifest = answer.scorer.bundle.manifest
        if parsed.is_list:
            scores = [NoScore(str(each)) if isinstance(each, EdgeDistillError) else each for each in answer.results]
            return scoring.build_response(ScoredResponses(manifest.name, manifest.version, scores))
        (result,) = answer.results
        if isinstance(result, EdgeDistillError):
            raise result.unraised_copy()
        return scoring.build_response(ScoredResponse(manifest.name, manifest.version, **msgspec.structs.asdict(result)))

    async def bulk(request: Request) -> Response:
        check_encoding(request)
        service.check_ready()
        scorer = service.models.find(request.query_params.get("model"))
        return BulkAnswer(service, scorer)  # type: ignore[return-value]  # an ASGI application, like a Response

    async def explain_response(request: Request) -> Response:
        scoring = ScoringRequest(request, service)
        parsed = await scoring.read(partial(parse_score_request, max_items=limits.items))
        # In the bulk lane, so that up to a hundred scores do not delay interactive requests; and not in the journal.
        score = partial(scoring.score, lane="bulk", recorded=False)
        explanation = await explain(parsed, score, max_scores=limits.queue)
        manifest = explanation.scorer.bundle.manifest
        found = msgspec.structs.asdict(explanation.score)
        content = ExplainedResponse(manifest.name, manifest.version, **found, words=explanation.words)
        return scoring.build_response(content)

    async def models(_: Request) -> Response:
        service.check_ready()
        served = [Model.from_scorer(scorer) for scorer in service.models.scorers]
        return Response(
            msgspec.json.encode(Models(served, RequestLimits(limits.items, limits.body_bytes))), media_type=JSON
        )

    return [
        Operation(
            path="/v1/score",
            endpoint=score,
            id="score",
            tag="Scoring",
            summary="Score one response, or a list",
            description="A list has at most as many responses as `GET /v1/models` says in `limits`.",
            returns="The score of the response, or the scores of the list in its order.",
            request_types=(OneResponse, ManyResponses),
            request_examples=examples.REQUESTS,
            response_types=(ScoredResponse, ScoredResponses),
            response_examples=examples.SCORED,
            response_headers=("Server-Timing",),
        ),
        Operation(
            path="/v1/score/bulk",
            endpoint=bulk,
            id="score_bulk",
            tag="Scoring",
            summary="Score any number of responses, one line of JSON each",
            description=(
                "Each line is a text or an object with the inputs of the task; the schema is that of a line. The "
                "client must read while it sends. A line with `ended` is the last one: its row and later ones were not "
                "scored, and can be sent again."
            ),
            returns="A line for each line of the request, in its order, as soon as it is scored.",
            request_types=(str | Inputs,),
            request_media=MEDIA_TYPE,
            request_examples=examples.LINES,
            query=("model",),
            response_media=MEDIA_TYPE,
            response_types=(Score, NoScore),
            response_examples=examples.SCORED_LINES,
            response_headers=("X-Model",),
        ),
        Operation(
            path="/v1/explain",
            endpoint=explain_response,
            id="explain",
            tag="Scoring",
            summary="Score one response, and explain the score by its words",
            description=(
                f"Each word is removed in turn, and the rest is scored again. At most {MAX_WORDS} words are accepted."
            ),
            returns="The score of the response, and the effect of each of its words.",
            request_types=(OneResponse,),
            request_examples=(examples.RESPONSE, examples.RESPONSE_WITH_CONTEXT),
            response_types=(ExplainedResponse,),
            response_examples=(examples.EXPLAINED,),
            response_headers=("Server-Timing",),
        ),
        Operation(
            path="/v1/models",
            endpoint=models,
            id="list_models",
            tag="Scoring",
            summary="The served models",
            returns="The models, and the limits of one request.",
            response_types=(Models,),
            response_examples=(examples.MODELS,),
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
        ),
    ]
