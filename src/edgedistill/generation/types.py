"""What a generation makes: samples with their lineage, and what became of each.

Sample            one response that the teacher wrote, with the label it was written for
└── Lineage       which request it came from, and what that request held
Removed           a sample that is not used, why, and what it repeats
└── Reason        the fixed phrases under which removed samples are counted
FailedCall        a request that gave no samples
Checked           a kept sample beside the label that the teacher's coding gives it
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from edgedistill.teacher import Cause


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a sample comes from.

    Attributes:
        key: The key of the request in the answer cache, which holds its messages whole.
        teacher: The model's name.
        seeds: Ids of the human train rows that the request showed.
        temperature: At which it was written.
        call: Which of the requests with the same label, question and temperature it was, from 0.
        position: Its place in the answer, from 0.
        persona: As whom the teacher was asked to write; empty for nobody in particular.
        words: How long the teacher was asked to make it; None where that was left open.
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
        id: Made from the request's key and the position: the same answer gives the same id.
        inputs: The task's inputs; ``inputs["response"]`` is what the teacher wrote.
        label: What it was written for.
        lineage: Where it comes from.
    """

    id: str
    inputs: Mapping[str, str]
    label: str
    lineage: Lineage

    @property
    def text(self) -> str:
        """The response itself."""
        return self.inputs["response"]

    @property
    def context(self) -> tuple[str, ...]:
        """The inputs beside the response, in order: what was asked."""
        return tuple(text for name, text in self.inputs.items() if name != "response")


class Reason(StrEnum):
    """Why a sample is not used, in the order in which the steps look."""

    EXTRA = "more than was asked for"
    NO_STRING = "no string"
    BLANK = "blank"
    NO_TEXT = "holds characters that are no text"
    LONG = "longer than data.max_characters"
    REPEATS = "repeats another sample"
    NEARLY_REPEATS = "nearly repeats another sample"
    NEAR_VALIDATION = "nearly repeats a validation row"
    NEAR_TEST = "nearly repeats a test row"
    UNCODED = "the teacher could not code it"
    INCONSISTENT = "the teacher codes it otherwise"


@dataclass(frozen=True, slots=True)
class Removed:
    """A sample that is not used.

    Attributes:
        sample: The sample; its text is empty where what was written is no string.
        reason: Why.
        detail: What the phrase leaves open, such as the label that coding gave.
        repeats: Id of the sample or row that it repeats; empty where it repeats none.
        similarity: To that one, in [0, 1]; None where it repeats none.
    """

    sample: Sample
    reason: Reason
    detail: str = ""
    repeats: str = ""
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A request that gave no samples.

    Attributes:
        label: What the samples were wanted for.
        size: How many were wanted.
        cause: Why there are none.
        detail: The endpoint's code, and where its answer can be looked up.
    """

    label: str
    size: int
    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class Near:
    """The row that a sample resembles most.

    Attributes:
        id: The row's id.
        similarity: Share of the character trigrams of both that both have, in [0, 1].
        label: The row's human code.
    """

    id: str
    similarity: float
    label: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A sample beside its coding.

    Attributes:
        sample: The sample.
        regraded: The label that the teacher's coding prompt gives it; None where it gives none.
        near_train: The train row that it nearly repeats, if any.
    """

    sample: Sample
    regraded: str | None
    near_train: Near | None = None

    @property
    def consistent(self) -> bool:
        """Whether coding gives the label that the sample was written for."""
        return self.regraded == self.sample.label
