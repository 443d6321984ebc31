"""The rows of a project, one frozen type for each stage, and how codes are written.

Response          what a learner typed, with its inputs, not coded
CodedResponse     the same with the human code
TrainRows, ValidationRows, TestRows
                  human-coded rows of one split. Three types, so that code which selects something (prompt
                  examples, an epoch, a threshold) cannot receive test rows.
TeacherLabel      the teacher's label of one response, from its votes
LabelSource       the table of labels that existed before the project
MixtureRow        one row of the student's training set, with its source
Population        responses on which label prevalence is estimated
SetAside          a row that is not used, with the reason
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edgedistill.data.twins import same_group
from edgedistill.errors import DataError
from edgedistill_serve.task.contexts import context_hash
from edgedistill_serve.task.task import NO_LABEL, Task, join_labels, quote_label, split_labels

CODE_COLUMN = "human_code"
"""The column of a coding sheet that people fill in."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a learner or tutor typed.

    Attributes:
        id: Unique across all files of the project.
        inputs: The task's inputs, in its order; ``inputs["response"]`` is the response text.
        file: Name of its file.
        row: Row number in that file, as a spreadsheet shows it (the header is row 1).
        group: Value of the ``group_by`` column, or None.
        question_name: Value of the column ``data.question_by``; None without one.
    """

    id: str
    inputs: Mapping[str, str] = field(repr=False)
    file: str
    row: int
    group: str | None = None
    question_name: str | None = None

    @property
    def question(self) -> str:
        """What tells its question from others: the name in the column, or the hash of its context; empty without both.

        The context is everything that a student reads before the response: question, reference answers and rubric. Two
        questions with the same text and other reference answers are two questions.
        """
        if self.question_name is not None:
            return same_group(self.question_name) or ""
        return context_hash(self.inputs) if len(self.inputs) > 1 else ""

    @property
    def text(self) -> str:
        """The response text, without question and reference answer."""
        return self.inputs["response"]

    @property
    def place(self) -> str:
        """File and row, for messages: ``human.csv, row 7``."""
        return f"{self.file}, row {self.row}"


@dataclass(frozen=True, slots=True)
class CodedResponse:
    """A response with its human code.

    Attributes:
        response: The response.
        label: The human code.
        codes: Code by coder, from the columns in ``evaluation.coders``; coders without a code for it are absent.
        subgroups: Value by column, from the columns in ``evaluation.subgroups``; empty where the cell is.
    """

    response: Response
    label: str
    codes: Mapping[str, str] = field(default_factory=dict)
    subgroups: Mapping[str, str] = field(default_factory=dict)


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
    """Human-coded rows for training, and for the examples in prompts."""


@dataclass(frozen=True, slots=True)
class ValidationRows(_Rows):
    """Human-coded rows for selection: the gate, the best epoch, thresholds."""


@dataclass(frozen=True, slots=True)
class TestRows(_Rows):
    """Human-coded rows that nothing reads before `evaluate`; they select nothing."""

    __test__ = False  # not a test class for pytest


Soft: TypeAlias = Literal["votes", "logprobs", "confidence", "shares", "mixed"]


@dataclass(frozen=True, slots=True)
class TeacherLabel:
    """The teacher's label of one response.

    Attributes:
        id: The response's id.
        label: The mode of the votes.
        consistency: Share of the votes equal to the label, in (0, 1].
        shares: Soft label: the share of each label, without zeros; sums to 1.
        votes: The votes in order; with several teachers, teacher by teacher.
        teacher: The teacher's name; several names are joined by `` + ``.
        soft: Source of the shares: votes, token log probabilities, stated confidences, or shares that existed already;
            ``mixed`` where several teachers differ.
        opinions: Each teacher's own label where there are several; otherwise empty.
        confidences: The confidence that each vote stated, in [0, 1], None for one that stated none; empty if none did.
        confidence: The mean of the confidences of the votes for the label, a vote for another label counted as 0; None
            if no vote for the label has one.
        probability: The mean probability of the label by token log probabilities; None if a vote lacks them.
    """

    id: str
    label: str
    consistency: float
    shares: Mapping[str, float]
    votes: tuple[str, ...]
    teacher: str
    soft: Soft = "votes"
    opinions: tuple["TeacherLabel", ...] = ()
    confidences: tuple[float | None, ...] = ()
    confidence: float | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class LabelSource:
    """Where labels come from that existed before the project.

    Attributes:
        file: Name of the table.
        sha256: Of the table.
        rows: Number of its rows.
        columns: The columns of labels, or of shares.
        form: ``label``: one column; ``votes``: several; ``shares``: one per label.
        model: The model that gave them, as the user states it; None if it is not stated.
    """

    file: str
    sha256: str
    rows: int
    columns: tuple[str, ...]
    form: Literal["label", "votes", "shares"]
    model: str | None = None


Source: TypeAlias = Literal["human", "teacher", "synthetic"]


@dataclass(frozen=True, slots=True)
class MixtureRow:
    """One row of the student's training set.

    Attributes:
        id: The response's id.
        inputs: The task's inputs.
        label: The target label.
        source: Where the label comes from.
        shares: Soft label; ``{label: 1.0}`` for a human code.
        lineage: Model name, prompt and seed rows it was made from; empty for human codes.
    """

    id: str
    inputs: Mapping[str, str] = field(repr=False)
    label: str
    source: Source
    shares: Mapping[str, float]
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that was read but is not used.

    Attributes:
        file: Name of the file.
        row: Row in that file, the header being row 1.
        id: Its id; empty where it has none.
        reason: A fixed phrase, so that rows can be counted by reason.
        detail: Further detail, such as the row it duplicates; never the response's text.
    """

    file: str
    row: int
    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Population:
    """The responses of a file on which label prevalence is estimated.

    ``read == len(known) + len(responses) + len(set_aside)``.

    Attributes:
        file: Name of the file.
        read: Number of rows.
        known: Human codes of the responses that duplicate a human-coded one.
        responses: The other responses, for the student to score.
        set_aside: Rows that cannot be used.
    """

    file: str
    read: int
    known: tuple[str, ...]
    responses: tuple[Response, ...]
    set_aside: tuple[SetAside, ...]


def canonical_code(text: str, task: Task) -> str:
    """Return a code in its canonical form; for a multilabel task, the labels in the task's order.

    Args:
        text: A code without surrounding white space; not empty.
        task: Its labels.

    Raises:
        DataError: It is not a code of the task.
    """
    if task.kind == "multilabel":
        return join_labels(split_labels(text, task), task)
    if text not in task.names:
        raise DataError(f"the task has no label {quote_label(text)}", hint=f"Its labels: {', '.join(task.names)}.")
    return text


def labels_in(code: str, task: Task) -> tuple[str, ...]:
    """Return the labels of a canonical code: one; for a multilabel task, all that apply, or `NO_LABEL`."""
    return (split_labels(code, task) or (NO_LABEL,)) if task.kind == "multilabel" else (code,)


def countable_labels(task: Task) -> tuple[str, ...]:
    """Return all labels that `labels_in` can return: the task's, and for a multilabel task `NO_LABEL`."""
    return (*task.names, NO_LABEL) if task.kind == "multilabel" else task.names


def code_shares(code: str, task: Task) -> dict[str, float]:
    """Return a code as a soft label: 1 for each of its labels, the others omitted."""
    return {label: 1.0 for label in labels_in(code, task) if label in task.names}
