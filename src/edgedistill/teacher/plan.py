"""What a labelling run has to ask: each distinct text once, with as many votes as the project file says.

Plan       the texts, and how votes on them become requests
├── Coding    one distinct text and its votes so far
└── Sheet     one request: the texts that it carries, and which of their votes it asks for
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from edgedistill.project.sections import TeacherSection
from edgedistill.records.types import CodedResponse, Response
from edgedistill.teacher.cache import AnswerCache, Entry
from edgedistill.teacher.codebook import Codebook, Message, apart, asked, asked_together, opening_messages, parted
from edgedistill.teacher.examples import Chooser
from edgedistill.teacher.failures import FailureLog
from edgedistill.teacher.formats import FIRST_ID, AnswerFormat, AnswerShape, response_format
from edgedistill.teacher.logprobs import TOP
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.questions import Question, recalled, recalled_failure
from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.votes import Vote, Votes, read_first_vote, read_votes
from edgedistill_serve.errors import DataError

Examples: TypeAlias = tuple[CodedResponse, ...]


@dataclass(slots=True, eq=False)
class Coding:
    """One distinct text to be coded.

    Attributes:
        user: Its user message.
        examples: What its prompt shows.
        votes: Each vote, None where it is not known yet.
        failure: Why there will be no label, once that is known.
        alone: Whether it shares no more requests, since it got no vote of its own in one that it shared.
    """

    user: str
    examples: Examples
    votes: list[Vote | None]
    failure: Failure | None = None
    alone: bool = False

    @property
    def open(self) -> list[int]:
        """The votes that are still to be asked for."""
        return [] if self.failure else [number for number, vote in enumerate(self.votes) if vote is None]

    @property
    def known(self) -> list[Vote]:
        """The votes that are known."""
        return [vote for vote in self.votes if vote is not None]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One request.

    Attributes:
        codings: The texts that it carries, numbered from 1; question, reference answer and examples are the same.
        vote: Which vote on them it asks for, from 0.
    """

    codings: tuple[Coding, ...]
    vote: int


class Plan:
    """The texts of a run and their requests.

    Args:
        responses: What is to be coded.
        codebook: What to code with.
        section: Whom to ask and how.
        chooser: Which examples each prompt shows; one whose text is the response's own is left out.

    Raises:
        DataError: A response lacks an input.
    """

    def __init__(
        self, responses: Sequence[Response], codebook: Codebook, section: TeacherSection, chooser: Chooser
    ) -> None:
        self._codebook, self._section = codebook, section
        self.shape = AnswerShape(
            codebook.names, section.reasoning, several=section.per_request > 1, any_number=codebook.any_number
        )
        self._formats = {form: response_format(form, self.shape) for form in AnswerFormat}
        self._opening: tuple[Examples | None, dict[AnswerFormat, tuple[Message, ...]]] = (None, {})
        self._of: list[tuple[Response, Coding | None]] = []
        self.done = 0
        by_message: dict[str, Coding] = {}
        readable = [response for response in responses if _is_text(response)]
        shown = {response.id: examples for response, examples in zip(readable, chooser(readable), strict=True)}
        for response in responses:
            coding = None
            if response.id in shown:
                user = _user_message(codebook, response)
                coding = by_message.get(user)
                if coding is None:
                    others = _without(response, shown[response.id])
                    coding = by_message[user] = Coding(user, others, [None] * section.votes)
            self._of.append((response, coding))
        self.codings = tuple(by_message.values())

    @property
    def pairs(self) -> list[tuple[Response, Coding | None]]:
        """Each response with its coding, in the order given; None where the response is no text that can be sent."""
        return self._of

    @property
    def total(self) -> int:
        """Number of votes; `done` counts those that have an answer or will get none."""
        return len(self.codings) * self._section.votes

    @property
    def open(self) -> list[tuple[Coding, int]]:
        """The votes that are still to be asked for."""
        return [(coding, vote) for coding in self.codings for vote in coding.open]

    def sheets(self) -> list[Sheet]:
        """Return the requests for all open votes, each with as many texts as `per_request` allows."""
        if not self.shape.several:
            return self.single_sheets()
        sheets = [sheet for sheet in self.single_sheets() if sheet.codings[0].alone]
        for vote in range(self._section.votes):
            alike: dict[tuple[str, tuple[str, ...]], list[Coding]] = {}
            for coding in self.codings:
                if vote in coding.open and not coding.alone:
                    shown = tuple(example.response.id for example in coding.examples)
                    alike.setdefault((apart(coding.user)[0], shown), []).append(coding)
            sheets += [sheet for codings in alike.values() for sheet in self._cut(codings, vote)]
        return sheets

    def single_sheets(self) -> list[Sheet]:
        """Return the requests for all open votes, each text alone."""
        return [Sheet((coding,), vote) for coding, vote in self.open]

    def request(self, sheet: Sheet, form: AnswerFormat) -> TeacherRequest:
        """Return a sheet's request in an answer format; the vote's number is its seed."""
        section, users = self._section, [coding.user for coding in sheet.codings]
        user = asked_together(users) if self.shape.several else users[0]
        opening = self._opening_of(sheet.codings[0].examples, form)
        return TeacherRequest(
            base_url=section.base_url.rstrip("/"),
            model=section.model,
            messages=(*opening, {"role": "user", "content": user}),
            response_format=self._formats[form],
            sampling=self._sampling(sheet.vote),
            max_output_tokens=section.max_output_tokens * len(users),
            vote=sheet.vote,
        )

    def recall(self, cache: AnswerCache) -> int:
        """Fill in the votes that the cache holds, in whichever answer format they were given; return how many."""
        if self.shape.several:
            self._recall_several(cache)
        else:
            for sheet in self.single_sheets():
                if kept := recalled(cache, partial(self.request, sheet), self.read):
                    self._take(sheet, kept.answer)
        return self.done

    def recall_failures(self, log: FailureLog) -> None:
        """Give every text that still lacks votes the failure that an earlier run kept, where there is one."""
        failures = log.read()
        for sheet in self.single_sheets() if failures else ():
            if failure := recalled_failure(failures, partial(self.request, sheet)):
                self._take(sheet, failure)

    def question(self, sheet: Sheet) -> Question[Votes]:
        """Return a sheet's question; once another vote on a text has failed, a label is out of reach."""
        return Question(
            partial(self.request, sheet),
            partial(self._take, sheet),
            needless=lambda: not any(sheet.vote in coding.open for coding in sheet.codings),
        )

    def read(self, answer: Mapping[str, Any]) -> Votes | Failure:
        """Return the votes of an answer, at least one."""
        return read_votes(answer, self.shape)

    def read_single(self, answer: Mapping[str, Any]) -> Votes | Failure:
        """Return the votes of an answer to a single sheet, its own vote among them."""
        return read_first_vote(answer, self.shape)

    def _cut(self, codings: Sequence[Coding], vote: int) -> Iterator[Sheet]:
        size = self._section.per_request
        return (Sheet(tuple(codings[start : start + size]), vote) for start in range(0, len(codings), size))

    def _sampling(self, vote: int) -> dict[str, float]:
        temperature = self._section.temperature
        sampling = {} if temperature is None else {"temperature": float(temperature)}
        if self._section.seed:
            sampling["seed"] = vote
        return sampling | {"logprobs": True, "top_logprobs": TOP} if self._section.logprobs else sampling

    def _opening_of(self, examples: Examples, form: AnswerFormat) -> tuple[Message, ...]:
        # The last ones are kept: mostly all prompts show the same examples.
        if self._opening[0] is not examples:
            openings = {form: opening_messages(self._codebook, examples, form, self.shape) for form in AnswerFormat}
            self._opening = (examples, openings)
        return self._opening[1][form]

    def _take(self, sheet: Sheet, outcome: Votes | Failure) -> None:
        # A sheet of several texts that failed as a whole fails none of them: each is then asked for alone.
        for ident, coding in enumerate(sheet.codings, int(FIRST_ID)):
            if isinstance(outcome, Failure):
                if len(sheet.codings) == 1 and coding.failure is None:
                    self.done += len(coding.open)
                    coding.failure = outcome
            elif (vote := outcome.get(str(ident))) and sheet.vote in coding.open:
                self.done += 1
                coding.votes[sheet.vote] = vote
            coding.alone |= sheet.vote in coding.open

    def _recall_several(self, cache: AnswerCache) -> None:
        """Take votes from every kept answer of these settings, whichever texts shared its request."""
        by_message = {coding.user: coding for coding in self.codings}
        for entry in cache.entries():
            users, vote = parted(str(entry.request["messages"][-1]["content"])), int(entry.request["vote"])
            codings = [by_message.get(user) for user in users]
            known = next((coding for coding in codings if coding), None)
            if known and self._asks(entry, known.examples, users, vote):
                votes = self.read(entry.answer)
                for ident, coding in enumerate(codings, int(FIRST_ID)):
                    if coding and not isinstance(votes, Failure):
                        kept = votes.get(str(ident))
                        self._take(Sheet((coding,), vote), {FIRST_ID: kept} if kept else {})

    def _asks(self, entry: Entry, examples: Examples, users: Sequence[str], vote: int) -> bool:
        """Whether an entry answers the request that these settings make of its texts."""
        sheet = Sheet(tuple(Coding(user, examples, []) for user in users), vote)
        return any(self.request(sheet, form).content() == entry.request for form in AnswerFormat)


def _without(response: Response, examples: Examples) -> Examples:
    """Leave out examples that give the response's own text away; the very same tuple where there is none."""
    others = tuple(example for example in examples if example.response.inputs != response.inputs)
    return others if len(others) < len(examples) else examples


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
