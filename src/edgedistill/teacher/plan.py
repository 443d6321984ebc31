"""What a labelling run has to ask: each distinct text once, with as many votes as the project file says.

Plan      the texts, and how a vote on one becomes a request
└── Coding    one distinct text and its votes so far
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgedistill.project.sections import TeacherSection
from edgedistill.records.types import CodedResponse, Response
from edgedistill.teacher.cache import AnswerCache
from edgedistill.teacher.codebook import Codebook, Message, asked, opening_messages
from edgedistill.teacher.failures import FailureLog
from edgedistill.teacher.formats import AnswerFormat, response_format
from edgedistill.teacher.parsing import Failure, read_label
from edgedistill.teacher.questions import Question, recalled, recalled_failure
from edgedistill.teacher.request import TeacherRequest
from edgedistill_serve.errors import DataError


@dataclass(slots=True)
class Coding:
    """One distinct text to be coded.

    Attributes:
        user: Its user message.
        votes: The label of each vote, None where it is not known yet.
        failure: Why there will be no label, once that is known.
    """

    user: str
    votes: list[str | None]
    failure: Failure | None = None

    @property
    def open(self) -> list[int]:
        """The votes that are still to be asked for."""
        return [] if self.failure else [vote for vote, label in enumerate(self.votes) if label is None]

    @property
    def labels(self) -> list[str]:
        """The votes that are known."""
        return [label for label in self.votes if label is not None]


class Plan:
    """The texts of a run and their requests.

    Args:
        responses: What is to be coded.
        codebook: What to code with.
        section: Whom to ask and how.
        examples: Human-coded responses that every prompt shows.

    Raises:
        DataError: A response lacks an input.
    """

    def __init__(
        self,
        responses: Sequence[Response],
        codebook: Codebook,
        section: TeacherSection,
        examples: Sequence[CodedResponse],
    ) -> None:
        self._section, self._names = section, codebook.names
        self._openings = {form: opening_messages(codebook, examples, form) for form in AnswerFormat}
        self._formats = {form: response_format(form, codebook.names) for form in AnswerFormat}
        by_message: dict[str, Coding] = {}
        self._of: list[tuple[Response, Coding | None]] = []
        for response in responses:
            coding = None
            if _is_text(response):
                user = _user_message(codebook, response)
                coding = by_message.setdefault(user, Coding(user, [None] * section.votes))
            self._of.append((response, coding))
        self.codings = tuple(by_message.values())

    @property
    def pairs(self) -> list[tuple[Response, Coding | None]]:
        """Each response with its coding, in the order given; None where the response is no text that can be sent."""
        return self._of

    @property
    def total(self) -> int:
        """Number of votes."""
        return len(self.codings) * self._section.votes

    @property
    def open(self) -> list[tuple[Coding, int]]:
        """The votes that are still to be asked for."""
        return [(coding, vote) for coding in self.codings for vote in coding.open]

    def request(self, coding: Coding, vote: int, form: AnswerFormat) -> TeacherRequest:
        """Return the request for one vote in an answer format; the vote's index is its seed."""
        messages: tuple[Message, ...] = (*self._openings[form], {"role": "user", "content": coding.user})
        return TeacherRequest(
            base_url=self._section.base_url.rstrip("/"),
            model=self._section.model,
            messages=messages,
            response_format=self._formats[form],
            sampling={"temperature": float(self._section.temperature), "seed": vote},
            max_output_tokens=self._section.max_output_tokens,
            vote=vote,
        )

    def recall(self, cache: AnswerCache) -> int:
        """Fill in the votes that the cache holds, in whichever answer format they were given; return how many."""
        found = 0
        for coding, vote in self.open:
            kept = recalled(cache, partial(self.request, coding, vote), self.read)
            if kept:
                coding.votes[vote] = kept.answer
                found += 1
        return found

    def recall_failures(self, log: FailureLog) -> None:
        """Give every text that still lacks votes the failure that an earlier run kept, where there is one."""
        failures = log.read()
        for coding, vote in self.open if failures else ():
            coding.failure = coding.failure or recalled_failure(failures, partial(self.request, coding, vote))

    def question(self, coding: Coding, vote: int) -> Question[str]:
        """Return the question for one vote; once another vote on the text has failed, a label is out of reach."""

        def take(outcome: str | Failure) -> None:
            if isinstance(outcome, Failure):
                coding.failure = coding.failure or outcome
            else:
                coding.votes[vote] = outcome

        return Question(partial(self.request, coding, vote), take, needless=lambda: coding.failure is not None)

    def read(self, answer: Mapping[str, Any]) -> str | Failure:
        """Return the label that a chat completion gives."""
        return read_label(answer, self._names)


def _is_text(response: Response) -> bool:
    # A lone surrogate, as "\ud800" in a JSON file makes one, cannot be sent to anybody.
    try:
        "".join(response.inputs.values()).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _user_message(codebook: Codebook, response: Response) -> str:
    try:
        return asked(codebook, response.inputs)
    except DataError as error:
        raise DataError(error.what, where=response.place, mend=error.mend) from None
