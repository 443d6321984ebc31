"""Example bodies of requests and answers, for the API documentation. They are values of the types of the protocols."""

from msgspec.structs import asdict

from edgedistill_serve.bundle.guarantee import Guarantee, describe_guarantee
from edgedistill_serve.bundle.manifest import NoveltyFit, ReviewRule
from edgedistill_serve.bundle.verdict import BundleVerdict
from edgedistill_serve.scoring.occlusion import WordEffect
from edgedistill_serve.scoring.scorer import Score
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
from edgedistill_serve.server.request.openapi import Example

_NAME, _VERSION = "praise", "3f0c9a1b22de"
_TEXT = "You worked hard on this."
_OTHER = "Well, that is one way to do it."
_CONTEXT = {
    "question": "What do plants need to make sugar?",
    "reference_answer": "Carbon dioxide, water and light.",
}
_SCORE = Score(
    label="process",
    probability=0.91,
    probabilities={"process": 0.91, "outcome": 0.06, "person": 0.03},
    decision="accept",
    reason=None,
    truncated=False,
    tokens=6,
    novelty=0.94,
    verdict="validated",
)
_REVIEWED = Score(
    label="outcome",
    probability=0.41,
    probabilities={"process": 0.38, "outcome": 0.41, "person": 0.21},
    decision="review",
    reason="below threshold",
    truncated=False,
    tokens=9,
    novelty=1.27,
    verdict="validated",
)
_NOT_SCORED = NoScore("the model failed on this response (InvalidArgument)")
_GUARANTEE = Guarantee(
    share=0.05, confidence=0.95, rows=400, accepted=310, wrong=7, bound=0.042, unit="rows", units=310, scope="responses"
)

RESPONSE = Example("A response", OneResponse(_TEXT))
RESPONSE_WITH_CONTEXT = Example(
    "A response to a question",
    OneResponse("They take in carbon dioxide and water.", **_CONTEXT, model="answers"),
)
REQUESTS = (
    RESPONSE,
    RESPONSE_WITH_CONTEXT,
    Example("A list of responses", ManyResponses([_TEXT, Inputs(_OTHER, id="row 17")])),
)
LINES = (
    Example("A line with a text", _TEXT),
    Example("A line with the inputs of the task", Inputs(_OTHER, id="row 17")),
)
SCORED = (
    Example("Accepted", ScoredResponse(_NAME, _VERSION, **asdict(_SCORE))),
    Example("For a person", ScoredResponse(_NAME, _VERSION, **asdict(_REVIEWED))),
    Example("A list", ScoredResponses(_NAME, _VERSION, [_SCORE, _REVIEWED, _NOT_SCORED])),
)
SCORED_LINES = (
    Example("A score", _SCORE),
    Example("A bad line", _NOT_SCORED),
    Example(
        "The end of a stream that was cut off",
        NoScore("the server is draining; this row and those after it were not scored. Try again later.", ended=True),
    ),
)
EXPLAINED = Example(
    "Two of its words",
    ExplainedResponse(
        _NAME,
        _VERSION,
        **asdict(_SCORE),
        words=[
            WordEffect("worked", 4, 10, "process", {"process": 0.22, "outcome": -0.15, "person": -0.07}),
            WordEffect("hard", 11, 15, "process", {"process": 0.31, "outcome": -0.19, "person": -0.12}),
        ],
    ),
)
MODELS = Example(
    "One model",
    Models(
        [
            Model(
                name=_NAME,
                version=_VERSION,
                kind="nominal",
                labels=("process", "outcome", "person"),
                definitions={
                    "process": "Praises effort or strategy.",
                    "outcome": "Praises the result.",
                    "person": "Praises the learner.",
                },
                inputs=("response",),
                max_tokens=128,
                precision="int8",
                calibrated=True,
                thresholds={},
                review=ReviewRule(thresholds={"process": 0.62, "outcome": 0.7, "person": 0.66}),
                contexts=None,
                novelty=NoveltyFit(training_rows=800, directions=32, validation_rows=400, false_alarms=None, flagged=0),
                guarantee=_GUARANTEE,
                promise=describe_guarantee(_GUARANTEE, "int8"),
                verdict=BundleVerdict(
                    "validated",
                    "Yes: for responses like those in the test set, and in support of a person's judgement.",
                    "The served model (int8) and the human coders agree on 355 of 400 test responses.",
                    ("process", "outcome", "person"),
                ),
                notes=(),
            )
        ],
        RequestLimits(items=1000, body_bytes=4_194_304),
    ),
)
