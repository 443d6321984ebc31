"""The bodies of `/v1`, `/livez` and `/readyz` as types; the OpenAPI document is made of them."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.scoring.occlusion import WordEffect
from edgedistill_serve.scoring.scorer import Scorer

ModelName = Annotated[
    str, Meta(description="NAME, or NAME@VERSION; may be left out where one model is served or one is the default.")
]


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """A response with the inputs of its task."""

    response: str
    question: str | msgspec.UnsetType = msgspec.UNSET
    reference_answer: str | msgspec.UnsetType = msgspec.UNSET


class OneResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """One response to score, with the inputs of its task."""

    response: str
    question: str | msgspec.UnsetType = msgspec.UNSET
    reference_answer: str | msgspec.UnsetType = msgspec.UNSET
    model: ModelName | msgspec.UnsetType | None = msgspec.UNSET


class ManyResponses(msgspec.Struct, frozen=True, omit_defaults=True):
    """A list of responses to score: texts, or objects with the inputs of the task."""

    responses: list[str | Inputs]
    model: ModelName | msgspec.UnsetType | None = msgspec.UNSET


class ScoredResponse(msgspec.Struct, frozen=True):
    """The score of one response.

    Attributes:
        model: Name of the model that scored.
        version: Its version.
        label: The label of the largest probability; of a multilabel task, those that hold, as ``asks;praises``, or
            ``none``.
        probability: Its probability, in [0, 1]; of a multilabel task, the certainty of the label that is least sure.
        probabilities: Every label's probability; those of a multilabel task do not sum to 1.
        decision: ``accept``, or ``review``: a person should look at it.
        reason: Why it should be reviewed, else null.
        truncated: Whether the model read only the response's beginning.
        tokens: How many tokens the response has.
    """

    model: str
    version: str
    label: str
    probability: float
    probabilities: dict[str, float]
    decision: str
    reason: str | None
    truncated: bool
    tokens: int


class NoScore(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stands in the place of a score: why this response could not be scored.

    Attributes:
        error: Why.
        ended: Whether a bulk answer ends here: this row and those after it can be sent again.
    """

    error: str
    ended: bool = False


# msgspec makes no schema of two types that only their fields tell apart.
ScoresOrErrors = Annotated[
    list[Any],
    Meta(
        extra_json_schema={
            "items": {"oneOf": [{"$ref": "#/components/schemas/Score"}, {"$ref": "#/components/schemas/NoScore"}]}
        }
    ),
]


class ScoredResponses(msgspec.Struct, frozen=True):
    """The scores of a list, in its order; the error of a response that could not be scored stands in its place."""

    model: str
    version: str
    scores: ScoresOrErrors


class ExplainedResponse(ScoredResponse, frozen=True):
    """The score of one response, and what each of its words does to it."""

    words: list[WordEffect]


class Model(msgspec.Struct, frozen=True):
    """A model that is served.

    Attributes:
        name: As a request names it.
        version: Another bundle, another version.
        kind: ``nominal``, ``ordinal`` or ``multilabel``.
        labels: In codebook order.
        definitions: The codebook's definition of each label.
        inputs: What a response comes with.
        max_tokens: Longest sequence that the model reads.
        precision: The graph in use, ``int8`` or ``fp32``.
        calibrated: Whether its probabilities were calibrated.
        thresholds: Of a multilabel task, the probability from which each label holds.
        review: Which scores go to a person.
        notes: What the user should know.
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
    notes: tuple[str, ...]

    @classmethod
    def of(cls, scorer: Scorer) -> "Model":
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
            notes=tuple(scorer.notes),
        )


class Taken(msgspec.Struct, frozen=True):
    """What is taken at once: responses in a request, and bytes of its body."""

    items: int
    body_bytes: int


class Models(msgspec.Struct, frozen=True):
    """What is served."""

    models: list[Model]
    limits: Taken


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "alive"


class Served(msgspec.Struct, frozen=True):
    """What is served from one bundle folder.

    Attributes:
        model: The model's name.
        version: Its version.
        swaps: How often another bundle took over since the start.
        failures: How often what lay in its folder could not be served since the start.
        fault: Why what lies there now is not served; null where it is.
    """

    model: str
    version: str
    swaps: int = 0
    failures: int = 0
    fault: str | None = None


class Ready(msgspec.Struct, frozen=True):
    """The server takes requests; each of its models, and whether a newer one was refused."""

    status: str
    models: list[Served]


def described(kind: type) -> str:
    """Return the first line of a type's docstring."""
    return (kind.__doc__ or "").strip().split("\n", 1)[0]
