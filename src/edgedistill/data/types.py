"""The rows of a project, one frozen type for each stage, and how codes are written in them.

Response          what a learner typed, with its inputs; nobody coded it
CodedResponse     the same with the human code
TrainRows, ValidationRows, TestRows
                  human-coded rows of one split. Three types, so that code which chooses something (a prompt
                  example, an epoch, a threshold) cannot be handed test rows.
TeacherLabel      what the teacher's votes make of one response
MixtureRow        one row that the student is trained on, with where it came from
Population        responses whose shares of labels are to be told
SetAside          a row that is not used, and why
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edgedistill.errors import DataError
from edgedistill_serve.task.task import NO_LABEL, Task, join_labels, split_labels


@dataclass(frozen=True, slots=True)
class Response:
    """What a learner or tutor typed.

    Attributes:
        id: Unique over all files of the project.
        inputs: The task's inputs in the task's order; ``inputs["response"]`` is the text itself.
        file: Name of the file it was read from.
        row: Row in that file, the header being row 1, so that a spreadsheet shows the same number.
        group: Value of the column that ``group_by`` names, or None.
    """

    id: str
    inputs: Mapping[str, str]
    file: str
    row: int
    group: str | None = None

    @property
    def text(self) -> str:
        """The response itself, without question and reference answer."""
        return self.inputs["response"]

    @property
    def place(self) -> str:
        """Where it was read, for messages: ``human.csv, row 7``."""
        return f"{self.file}, row {self.row}"


@dataclass(frozen=True, slots=True)
class CodedResponse:
    """A response with the label that human coders gave it.

    Attributes:
        response: What was coded.
        label: The code that counts.
        codes: By coder, the columns that ``evaluation.coders`` names; a coder who left the response out is absent.
        traits: By column, what ``evaluation.subgroups`` names; empty where the row has none.
    """

    response: Response
    label: str
    codes: Mapping[str, str] = field(default_factory=dict)
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rows:
    rows: tuple[CodedResponse, ...]

    def __iter__(self) -> Iterator[CodedResponse]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def responses(self) -> tuple[Response, ...]:
        """The responses without their codes."""
        return tuple(row.response for row in self.rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """The human codes, in row order."""
        return tuple(row.label for row in self.rows)


@dataclass(frozen=True, slots=True)
class TrainRows(_Rows):
    """Human-coded rows that the student, and the teacher's examples, may be made from."""


@dataclass(frozen=True, slots=True)
class ValidationRows(_Rows):
    """Human-coded rows that choose: the gate, the best epoch, thresholds."""


@dataclass(frozen=True, slots=True)
class TestRows(_Rows):
    """Human-coded rows that are locked away until `evaluate`; they choose nothing."""

    __test__ = False  # pytest: this is no test class


Soft: TypeAlias = Literal["votes", "logprobs", "mixed"]


@dataclass(frozen=True, slots=True)
class TeacherLabel:
    """What the teacher's votes make of one response.

    Attributes:
        id: The response's id.
        label: The mode of the votes.
        consistency: Share of the votes equal to the label, in (0, 1].
        shares: Soft label: a share per label, zero shares left out; sums to 1.
        votes: The single votes in order; of several teachers, one teacher's after the other's.
        teacher: The teacher's name; of several, the names joined by `` + ``.
        soft: What the shares were made from: the votes, or the probabilities that came with them; ``mixed`` where
            several teachers differ in that.
        opinions: What each of several teachers said; empty for one teacher.
    """

    id: str
    label: str
    consistency: float
    shares: Mapping[str, float]
    votes: tuple[str, ...]
    teacher: str
    soft: Soft = "votes"
    opinions: tuple["TeacherLabel", ...] = ()


Source: TypeAlias = Literal["human", "teacher", "synthetic"]


@dataclass(frozen=True, slots=True)
class MixtureRow:
    """One row that the student is trained on.

    Attributes:
        id: The response's id.
        inputs: The task's inputs.
        label: The label that counts as right.
        source: Who gave the label.
        shares: Soft label; a human code is ``{label: 1.0}``.
        lineage: What it was made from: the model's name, a prompt, seed rows; empty for human codes.
    """

    id: str
    inputs: Mapping[str, str]
    label: str
    source: Source
    shares: Mapping[str, float]
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that was read and is not used.

    Attributes:
        file: Name of the file.
        row: Row in that file, the header being row 1.
        id: Its id, where it has one.
        reason: A fixed phrase, so that rows can be counted by it.
        detail: What the phrase leaves open, such as the row it repeats; never the response's text.
    """

    file: str
    row: int
    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Population:
    """The responses of a file whose shares of labels are to be told.

    ``read == len(known) + len(responses) + len(set_aside)``.

    Attributes:
        file: Name of the file.
        read: Its rows.
        known: The human code of each response that repeats a human-coded one.
        responses: The others, for the student.
        set_aside: Rows that cannot be counted.
    """

    file: str
    read: int
    known: tuple[str, ...]
    responses: tuple[Response, ...]
    set_aside: tuple[SetAside, ...]


def canonical_code(text: str, task: Task) -> str:
    """Return a code as it is written everywhere: of a multilabel task the labels that hold, in the task's order.

    Args:
        text: A code, without blanks around it; not empty.
        task: Its labels.

    Raises:
        DataError: It is no code of the task.
    """
    if task.kind == "multilabel":
        return join_labels(split_labels(text, task), task)
    if text not in task.names:
        raise DataError(f"the task has no label {text!r}", hint=f"Its labels: {', '.join(task.names)}.")
    return text


def labels_in(code: str, task: Task) -> tuple[str, ...]:
    """Return what a code counts as: its one label; of a multilabel task every label that holds, or `NO_LABEL`.

    Args:
        code: As `canonical_code` returns it.
        task: Its labels.
    """
    return (split_labels(code, task) or (NO_LABEL,)) if task.kind == "multilabel" else (code,)


def counted_names(task: Task) -> tuple[str, ...]:
    """Return everything that `labels_in` may return: the task's labels, of a multilabel task `NO_LABEL` after them."""
    return (*task.names, NO_LABEL) if task.kind == "multilabel" else task.names


def certain_shares(code: str, task: Task) -> dict[str, float]:
    """Return the shares of a code that nobody doubts: 1 for each label that holds, the others left out."""
    return {label: 1.0 for label in labels_in(code, task) if label in task.names}
