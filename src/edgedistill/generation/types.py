"""The types of a generation: samples with their lineage, and why samples are removed.

Sample            one response that the teacher wrote, with the label it was written for
└── Lineage       the request that it came from
RemovedSample     a sample that is not used, the reason, and the row or sample that it repeats
└── RemovalReason the fixed phrases in reports
FailedRequest     a request without samples
CheckedSample     a remaining sample with the label that the teacher gives it when it codes
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edgedistill.teacher import FailureCause


@dataclass(frozen=True, slots=True)
class Lineage:
    """The origin of a sample.

    Attributes:
        key: The key of the request in the answer cache, which contains its messages.
        teacher: The model's name.
        seeds: Ids of the human train rows in the prompt.
        temperature: The sampling temperature.
        call: Number of the request among those with the same label, question and temperature, from 0.
        position: Its place in the answer, from 0.
        persona: The persona in the prompt; empty for none.
        words: The length in the prompt, in words; None for none.
    """

    key: str
    teacher: str
    seeds: tuple[str, ...]
    temperature: float
    call: int
    position: int
    persona: str = ""
    words: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A response that the teacher wrote.

    Attributes:
        id: From the request's key and the position: the same answer gives the same id.
        inputs: The task's inputs; ``inputs["response"]`` is the teacher's text.
        label: The label it was written for.
        lineage: Its origin.
    """

    id: str
    inputs: Mapping[str, str] = field(repr=False)
    label: str
    lineage: Lineage

    @property
    def text(self) -> str:
        """The response."""
        return self.inputs["response"]

    @property
    def context(self) -> tuple[str, ...]:
        """The other inputs, in order, such as the question."""
        return tuple(text for name, text in self.inputs.items() if name != "response")


class RemovalReason(StrEnum):
    """Why a sample is not used, in the order of the checks. The phrases are keys in `generation.json`."""

    EXTRA = "more than was asked for"
    NO_STRING = "no string"
    BLANK = "blank"
    NO_TEXT = "contains characters that are not text"
    LONG = "longer than data.max_characters"
    REPEATS = "repeats another sample"
    NEARLY_REPEATS = "nearly repeats another sample"
    NEAR_VALIDATION = "nearly repeats a validation row"
    NEAR_TEST = "nearly repeats a test row"
    UNCODED = "the teacher could not code it"
    INCONSISTENT = "the teacher codes it otherwise"


@dataclass(frozen=True, slots=True)
class RemovedSample:
    """A sample that is not used.

    Attributes:
        sample: The sample; its text is empty if the answer has no string there.
        reason: The reason.
        detail: Details, such as the label that the teacher gives it.
        repeats: Id of the sample or row that it repeats; empty if it repeats none.
        similarity: Its similarity to that one, in [0, 1]; None if it repeats none.
    """

    sample: Sample
    reason: RemovalReason
    detail: str = ""
    repeats: str = ""
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A request without samples.

    Attributes:
        label: The requested label.
        size: The number of requested samples.
        cause: The cause.
        detail: The endpoint's code, and where its reply can be read.
    """

    label: str
    size: int
    cause: FailureCause
    detail: str


@dataclass(frozen=True, slots=True)
class NearestRow:
    """The row that is most similar to a sample.

    Attributes:
        id: The row's id.
        similarity: Jaccard similarity of their character trigrams, in [0, 1].
        label: The row's human code.
    """

    id: str
    similarity: float
    label: str


@dataclass(frozen=True, slots=True)
class CheckedSample:
    """A sample with the label that the teacher gives it when it codes.

    Attributes:
        sample: The sample.
        regraded: The label from the coding prompt; None if it gives none.
        near_train: The train row that it nearly repeats, or None.
    """

    sample: Sample
    regraded: str | None
    near_train: NearestRow | None = None

    @property
    def consistent(self) -> bool:
        """Whether coding gives the label it was written for."""
        return self.regraded == self.sample.label
