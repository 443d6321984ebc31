"""What `POST /v1/explain` does: score a response, then score it without each of its words."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from edgedistill_serve.errors import EdgeDistillError, RequestTooLarge, WrongShape
from edgedistill_serve.http.forms import ScoreRequest
from edgedistill_serve.http.service import Answer
from edgedistill_serve.occlusion import WordEffect, effects, without, words_of
from edgedistill_serve.scorer import Score, Scorer
from edgedistill_serve.task import INPUTS

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
    request: ScoreRequest, score: Callable[[ScoreRequest], Awaitable[Answer]], *, room: int
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
        raise WrongShape("one response is explained at a time", where="responses", mend='Send {"response": "…"}.')
    (given,) = request.responses
    characters = sum(len(text) for name in INPUTS if isinstance(text := given.get(name), str))
    if characters > MOST_CHARACTERS:
        raise RequestTooLarge(
            f"the inputs have {characters} characters, {MOST_CHARACTERS} are explained at most",
            mend="Send a part of them.",
        )
    response = given.get("response")
    words = words_of(response) if isinstance(response, str) else []
    most_words = min(MOST_WORDS, room - 1)
    if len(words) > most_words:
        raise RequestTooLarge(
            f"the response has {len(words)} words, {most_words} are explained at most", mend="Send a part of it."
        )
    # In one request, so that one model scores them all, and as no list, so that an error names the response itself.
    parts = [{**given, "response": without(response, word)} for word in words]
    answer = await score(replace(request, responses=(given, *parts)))
    whole, *left_out = _scores(answer.results)
    return Explanation(answer.scorer, whole, effects(words, whole, left_out))


def _scores(results: list[Score | EdgeDistillError]) -> list[Score]:
    for result in results:
        if isinstance(result, EdgeDistillError):
            raise result
    return [result for result in results if isinstance(result, Score)]
