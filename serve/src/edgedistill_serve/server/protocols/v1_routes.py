"""The paths of `/v1`, and what `POST /v1/explain` does."""

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
from edgedistill_serve.server.protocols.scoring_request import ScoringRequest
from edgedistill_serve.server.protocols.v1_bulk import MEDIA_TYPE, BulkAnswer
from edgedistill_serve.server.protocols.v1_messages import (
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
from edgedistill_serve.server.request.openapi import JSON, Operation
from edgedistill_serve.server.request.v1_request import ParsedRequest, read_score_request
from edgedistill_serve.server.service import Answer, Service
from edgedistill_serve.task.task import INPUTS

MOST_WORDS = 100
"""A response of more words is refused: each word costs a score."""
MOST_CHARACTERS = 10_000
"""A response that has more, with its question and its reference answer, is refused: each word costs a copy of them."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What goes back: the model that scored, the response's score, and what each of its words does."""

    scorer: Scorer
    score: Score
    words: list[WordEffect]


async def explain(
    request: ParsedRequest, score: Callable[[ParsedRequest], Awaitable[Answer]], *, room: int
) -> Explanation:
    """Explain the response of a request.

    Args:
        request: Holds one response.
        score: Scores a request.
        room: The most responses that are scored at a time; one of them is the response itself.

    Raises:
        WrongShape: The request holds a list of responses, or a response that lacks an input.
        RequestTooLarge: The response has more than `MOST_WORDS` words, or than there is room for, or with its other
            inputs more than `MOST_CHARACTERS` characters.
        ScoringFailed: The model failed on the response, or on what remains of it without a word.
        EdgeDistillError: As ``score``.
    """
    if request.many:
        raise WrongShape("one response is explained at a time", where="responses", hint='Send {"response": "…"}.')
    (given,) = request.responses
    characters = sum(len(text) for name in INPUTS if isinstance(text := given.get(name), str))
    if characters > MOST_CHARACTERS:
        raise RequestTooLarge(
            f"the inputs have {characters} characters, {MOST_CHARACTERS} are explained at most",
            hint="Send a part of them.",
        )
    response = given.get("response")
    words = split_words(response) if isinstance(response, str) else []
    most_words = min(MOST_WORDS, room - 1)
    if len(words) > most_words:
        raise RequestTooLarge(
            f"the response has {len(words)} words, {most_words} are explained at most", hint="Send a part of it."
        )
    # In one request, so that one model scores them all, and as no list, so that an error names the response itself.
    parts = [{**given, "response": remove_word(response, word)} for word in words]
    answer = await score(replace(request, responses=(given, *parts)))
    whole, *left_out = _scores(answer.results)
    return Explanation(answer.scorer, whole, word_effects(words, whole, left_out))


def _scores(results: list[Score | EdgeDistillError]) -> list[Score]:
    for result in results:
        if isinstance(result, EdgeDistillError):
            raise result
    return [result for result in results if isinstance(result, Score)]


def v1_operations(service: Service) -> list[Operation]:
    """Return what is done under `/v1`."""
    limits = service.limits

    async def score(request: Request) -> Response:
        asked = ScoringRequest(request, service)
        wanted = read_score_request(await asked.body(), max_items=limits.items)
        answer = await asked.score(wanted)
        manifest = answer.scorer.bundle.manifest
        if wanted.many:
            scores = [NoScore(str(each)) if isinstance(each, EdgeDistillError) else each for each in answer.results]
            return asked.answer(ScoredResponses(manifest.name, manifest.version, scores))
        (result,) = answer.results
        if isinstance(result, EdgeDistillError):
            raise result.unraised_copy()
        return asked.answer(ScoredResponse(manifest.name, manifest.version, **msgspec.structs.asdict(result)))

    async def bulk(request: Request) -> Response:
        service.check_ready()
        scorer = service.models.find(request.query_params.get("model"))
        return BulkAnswer(service, scorer)  # type: ignore[return-value]  # an ASGI application, as a Response is

    async def explained(request: Request) -> Response:
        asked = ScoringRequest(request, service)
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
            request_types=(OneResponse, ManyResponses),
            response_types=(ScoredResponse, ScoredResponses),
        ),
        Operation(
            path="/v1/score/bulk",
            endpoint=bulk,
            summary="Score any number of responses: a line of JSON each, in and out",
            request_types=(str | Inputs,),
            request_media=MEDIA_TYPE,
            query=("model",),
            response_media=MEDIA_TYPE,
            response_types=(Score, NoScore),
        ),
        Operation(
            path="/v1/explain",
            endpoint=explained,
            summary="Score one response, and say which of its words mattered",
            request_types=(OneResponse,),
            response_types=(ExplainedResponse,),
        ),
        Operation(
            path="/v1/models",
            endpoint=models,
            summary="What is served",
            response_types=(Models,),
            error_statuses=(HTTPStatus.SERVICE_UNAVAILABLE,),
        ),
    ]
