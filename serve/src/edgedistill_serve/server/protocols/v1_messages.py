"""The bodies of the `/v1` protocol as types, from which the OpenAPI document is generated."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgedistill_serve.bundle.guarantee import Guarantee, describe_guarantee
from edgedistill_serve.bundle.manifest import NoveltyFit, ReviewRule
from edgedistill_serve.bundle.verdict import BundleVerdict
from edgedistill_serve.hidden_texts import HiddenTexts
from edgedistill_serve.scoring.occlusion import WordEffect
from edgedistill_serve.scoring.score import Reason
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.task.contexts import ShownContexts

ModelName = Annotated[
    str, Meta(description="NAME or NAME@VERSION; optional if one model is served or one is the default.")
]


Identifier = Annotated[
    str | int,
    Meta(description="Id of the response, with which a journal names it if it is drawn for people to code."),
]
Item = Annotated[str | int, Meta(description="Item that is answered, for the journal of a task without question.")]


class Inputs(HiddenTexts, frozen=True, omit_defaults=True):
    """A response with the inputs of its task."""

    response: str
    question: str | msgspec.UnsetType = msgspec.UNSET
    reference_answer: str | msgspec.UnsetType = msgspec.UNSET
    rubric: str | msgspec.UnsetType = msgspec.UNSET
    id: Identifier | msgspec.UnsetType = msgspec.UNSET
    item: Item | msgspec.UnsetType = msgspec.UNSET


class OneResponse(HiddenTexts, frozen=True, omit_defaults=True):
    """One response to score, with the inputs of its task."""

    response: str
    question: str | msgspec.UnsetType = msgspec.UNSET
    reference_answer: str | msgspec.UnsetType = msgspec.UNSET
    rubric: str | msgspec.UnsetType = msgspec.UNSET
    id: Identifier | msgspec.UnsetType = msgspec.UNSET
    item: Item | msgspec.UnsetType = msgspec.UNSET
    model: ModelName | msgspec.UnsetType | None = msgspec.UNSET


class ManyResponses(HiddenTexts, frozen=True, omit_defaults=True):
    """A list of responses to score: texts, or objects with the inputs of the task."""

    responses: list[str | Inputs]
    model: ModelName | msgspec.UnsetType | None = msgspec.UNSET


class ScoredResponse(msgspec.Struct, frozen=True):
    """The score of one response.

    Attributes:
        model: Name of the model.
        version: Version of the model.
        label: The most probable label; for a multilabel task, the assigned labels, as in ``asks;praises``, or ``none``.
        probability: Probability of the label, in [0, 1]; for a multilabel task, the smallest certainty of any label.
        probabilities: Probability of every label; for a multilabel task, they do not sum to 1.
        decision: ``accept``, or ``review`` if a person should look at the response.
        reason: Reason for a review, else null.
        truncated: Whether the model read only the beginning of the response.
        tokens: Number of tokens of the response.
        unknown_share: Share of the response that the model's vocabulary cannot represent, in [0, 1].
        context_tokens: Number of tokens of what the model reads before the response (question, reference answers,
            rubric).
        context_tokens_lost: Number of them that the model did not read, because the input was too long.
        novelty: Distance of the response from the training texts, 1 for a typical one; null if the model does not
            measure it.
        verdict: ``validated`` if the verdict of the model (`GET /v1/models`) covers the label, else ``not validated``.
    """

    model: str
    version: str
    label: str
    probability: float
    probabilities: dict[str, float]
    decision: Literal["accept", "review"]
    reason: Reason | None
    truncated: bool
    tokens: int
    unknown_share: float
    context_tokens: int
    context_tokens_lost: int
    novelty: float | None
    verdict: str


class NoScore(msgspec.Struct, frozen=True, omit_defaults=True):
    """The error of a response that could not be scored, in place of its score.

    Attributes:
        error: The reason.
        ended: Whether a bulk answer ends here; this row and later ones can be sent again.
    """

    error: str
    ended: bool = False


# msgspec generates no schema for a union of types that differ only in their fields.
ScoresOrErrors = Annotated[
    list[Any],
    Meta(
        extra_json_schema={
            "items": {"oneOf": [{"$ref": "#/components/schemas/Score"}, {"$ref": "#/components/schemas/NoScore"}]}
        }
    ),
]


class ScoredResponses(msgspec.Struct, frozen=True):
    """The scores of a list, in order; a response that could not be scored has an error instead."""

    model: str
    version: str
    scores: ScoresOrErrors


class ExplainedResponse(ScoredResponse, frozen=True):
    """The score of one response, and the effect of each of its words."""

    words: list[WordEffect]


class Model(msgspec.Struct, frozen=True):
    """A served model.

    Attributes:
        name: Name for requests.
        version: Version of the bundle.
        kind: ``nominal``, ``ordinal`` or ``multilabel``.
        labels: The labels in codebook order.
        definitions: The codebook's definition of each label.
        inputs: The inputs of a response.
        max_tokens: Longest sequence that the model reads.
        precision: Precision of the graph in use, ``int8`` or ``fp32``.
        calibrated: Whether the probabilities are calibrated.
        thresholds: For a multilabel task, the probability from which each label is assigned.
        review: Decides which scores a person should review.
        contexts: The questions for which the decision rule was shown, without their hashes; null if not recorded.
        novelty: How the novelty was fitted, and its limit chosen; null if the model does not measure it.
        guarantee: What is promised of the accepted responses, and on what evidence; null if nothing is.
        promise: The same as sentences, for the graph in use.
        verdict: What locked test rows say about the use of the model; ``not validated`` if it was never tested.
        notes: Messages for the user.
    """

    name: str
    version: str
    kind: str
    labels: tuple[str, ...]
    definitions: dict[str, str]
    inputs: tuple[str, ...]
    max_tokens: int
    precision: str
    calibrated: bool
    thresholds: dict[str, float]
    review: ReviewRule
    contexts: ShownContexts | None
    novelty: NoveltyFit | None
    guarantee: Guarantee | None
    promise: str
    verdict: BundleVerdict
    notes: tuple[str, ...]

    @classmethod
    def from_scorer(cls, scorer: Scorer) -> "Model":
        """Describe a scorer."""
        manifest = scorer.bundle.manifest
        return cls(
            name=manifest.name,
            version=manifest.version,
            kind=manifest.task.kind,
            labels=manifest.task.names,
            definitions={label.name: label.definition for label in manifest.task.labels},
            inputs=manifest.task.inputs,
            max_tokens=manifest.max_tokens,
            precision=scorer.precision,
            calibrated=manifest.temperature != 1.0,
            thresholds=manifest.thresholds,
            review=manifest.review,
            contexts=manifest.contexts and msgspec.structs.replace(manifest.contexts, hashes=()),
            novelty=manifest.novelty,
            guarantee=manifest.guarantee,
            promise=describe_guarantee(manifest.guarantee, scorer.precision),
            verdict=manifest.known_verdict,
            notes=tuple(scorer.notes),
        )


class RequestLimits(msgspec.Struct, frozen=True):
    """Limits of one request.

    Attributes:
        items: Largest number of responses.
        body_bytes: Largest body in bytes.
    """

    items: int
    body_bytes: int


class Models(msgspec.Struct, frozen=True):
    """The served models."""

    models: list[Model]
    limits: RequestLimits
