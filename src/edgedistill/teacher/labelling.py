"""Labels responses: chooses examples, plans the requests, counts the votes, joins several teachers.

Plan       the texts, and how votes on them become requests
├── Coding    one distinct text and its votes so far
└── Sheet     one request: the texts that it carries, and which of their votes it asks for

label_responses(responses, …) -> Labelling
├── labels      a TeacherLabel for every response that the teacher coded
├── set_aside   every other response, with the reason
└── usage       what it took
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import islice
from operator import add
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgedistill.data.types import (
    CodedResponse,
    Response,
    SetAside,
    Soft,
    TeacherLabel,
    TrainRows,
    countable_labels,
    labels_in,
)
from edgedistill.errors import AnswersMissing, ProjectFileError
from edgedistill.project.schema import TeacherSection
from edgedistill.teacher.cache import AnswerCache, Entry, TeacherRequest
from edgedistill.teacher.codebook import (
    FIRST_ID,
    AnswerFormat,
    AnswerShape,
    Codebook,
    Message,
    apart,
    asked,
    asked_together,
    opening_messages,
    parted,
    response_format,
)
from edgedistill.teacher.logs import FAILURES, FailureLog
from edgedistill.teacher.parsing import TOP, Cause, Failure
from edgedistill.teacher.runner import Patience, Question, Way, ask_all, recalled, recalled_failure
from edgedistill.teacher.spending import Budget, Usage
from edgedistill.teacher.voting import (
    Vote,
    Votes,
    count_label_votes,
    count_votes,
    joint_label,
    read_first_vote,
    read_votes,
)
from edgedistill_serve.errors import DataError
from edgedistill_serve.task.task import NO_LABEL, Task

Chooser: TypeAlias = Callable[[Sequence[Response]], list[tuple[CodedResponse, ...]]]
"""Says which examples each of some responses is shown."""

Vectors: TypeAlias = npt.NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[Mapping[str, str]]], Vectors]
"""Turns the inputs of rows into vectors of length 1, of shape (rows, width)."""

_DIGITS = 4  # of a similarity: what differs by less is a tie, so that another processor chooses the same


def example_chooser(section: TeacherSection, rows: TrainRows, task: Task, embed: Embed) -> Chooser:
    """Return what `few_shot_choice` names.

    Args:
        section: How many examples, and which.
        rows: Human-coded train rows; no other split may be shown to the teacher.
        task: What is coded.
        embed: Called for ``similar`` alone.

    Raises:
        ProjectFileError: There are too few train rows, or an id of `few_shot_ids` is none of a train row.
    """
    if section.few_shot_choice == "similar":
        return _similar(rows, section.few_shot, embed)
    if section.few_shot_choice == "fixed":
        return shared(named_examples(rows, section.few_shot_ids))
    return shared(choose_examples(rows, task, section.few_shot))


def shared(examples: Sequence[CodedResponse]) -> Chooser:
    """Return a chooser that shows every response the same examples."""
    same = tuple(examples)
    return lambda responses: [same] * len(responses)


def choose_examples(rows: TrainRows, task: Task, few_shot: int) -> tuple[CodedResponse, ...]:
    """Return the examples, as many of each label as of any other, give or take one.

    Within a label the rows with the smallest SHA-256 of their id are taken. Other rows come and go without changing
    the choice, unless one of them has a smaller hash, so prompts that were paid for mostly stay the same. In a
    multilabel task a row may have several labels and is an example of the first that it is taken for; rows of which no
    label holds, where there are any, count as another label.

    Args:
        rows: Human-coded train rows; no other split may be shown to the teacher.
        task: Its labels; where ``few_shot`` is no multiple of their number, the first get one more.
        few_shot: How many examples, 0 or more.

    Returns:
        The examples, the labels taking turns in codebook order.

    Raises:
        ProjectFileError: A label has fewer train rows than examples are wanted of it.
    """
    ranked = sorted(rows, key=lambda row: _rank(row.response.id))
    held = {row.response.id: labels_in(row.label, task) for row in ranked}
    labels = [name for name in countable_labels(task) if name != NO_LABEL or (name,) in held.values()]
    chosen: list[list[CodedResponse]] = []
    for place, label in enumerate(labels):
        of_label = [row for row in ranked if label in held.get(row.response.id, ())]
        wanted = few_shot // len(labels) + (place < few_shot % len(labels))
        if wanted > len(of_label):
            raise ProjectFileError(
                f"{few_shot} examples need {wanted} train rows of the label {label!r}, and there are {len(of_label)}",
                where="teacher.few_shot",
                hint="Lower few_shot, or code more responses of this label.",
            )
        chosen.append(of_label[:wanted])
        for row in chosen[-1]:
            del held[row.response.id]
    rounds = max((len(of_label) for of_label in chosen), default=0)
    return tuple(of_label[turn] for turn in range(rounds) for of_label in chosen if turn < len(of_label))


def named_examples(rows: TrainRows, ids: Sequence[str]) -> tuple[CodedResponse, ...]:
    """Return the train rows with these ids, in this order.

    Raises:
        ProjectFileError: An id is none of a train row.
    """
    by_id = {row.response.id: row for row in rows}
    if strange := [ident for ident in ids if ident not in by_id]:
        raise ProjectFileError(
            f"{strange[0]!r} is the id of no human-coded train row",
            where="teacher.few_shot_ids",
            hint="Examples come from train rows alone; `few_shot_choice: balanced` chooses some.",
        )
    return tuple(by_id[ident] for ident in ids)


def _similar(rows: TrainRows, few_shot: int, embed: Embed) -> Chooser:
    """Show each response the train rows most like it by cosine, the most similar last, never one with its own text."""
    if few_shot >= len(rows):
        raise ProjectFileError(
            f"{few_shot} similar examples are wanted, and there are {len(rows)} train rows",
            where="teacher.few_shot",
            hint="Lower few_shot, or code more responses.",
        )
    ranked = sorted(rows, key=lambda row: _rank(row.response.id))  # of equally similar rows, the first is taken
    vectors = embed([row.response.inputs for row in ranked])

    def choose(responses: Sequence[Response]) -> list[tuple[CodedResponse, ...]]:
        near = np.round(embed([response.inputs for response in responses]) @ vectors.T, _DIGITS)
        orders = np.argsort(-near, axis=1, kind="stable")
        return [
            _first_others(response, (ranked[place] for place in order), few_shot)
            for response, order in zip(responses, orders, strict=True)
        ]

    return choose


def _first_others(response: Response, ordered: Iterator[CodedResponse], few_shot: int) -> tuple[CodedResponse, ...]:
    others = (row for row in ordered if row.response.inputs != response.inputs and row.response.id != response.id)
    return tuple(islice(others, few_shot))[::-1]


def _rank(ident: str) -> str:
    return hashlib.sha256(ident.encode("utf-8", "surrogatepass")).hexdigest()


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
        raise DataError(error.what, where=response.place, hint=error.hint) from None


_NAMED = 5  # ids in a message


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Votes that have an answer or will get none.
        total: Votes that the run needs; responses with the same inputs share theirs.
        usage: What it took so far.
    """

    done: int
    total: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Labelling:
    """What a teacher made of some responses: each of them is in one of the two tuples, in the order given.

    Attributes:
        labels: The labels.
        set_aside: The responses without a label.
        usage: What it took.
    """

    labels: tuple[TeacherLabel, ...]
    set_aside: tuple[SetAside, ...]
    usage: Usage


def label_responses(
    responses: Sequence[Response],
    codebook: Codebook,
    section: TeacherSection,
    cache: AnswerCache,
    *,
    examples: Sequence[CodedResponse] | Chooser = (),
    offline: bool = False,
    api_key: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    budget: Budget | None = None,
    patience: Patience | None = None,
    way: Way | None = None,
) -> Labelling:
    """Have a teacher code responses.

    Answers that the cache holds are not asked for again, so a run that was stopped is resumed by running it again.
    Responses with the same inputs are asked about once.

    Args:
        responses: What is to be coded.
        codebook: What to code with.
        section: Whom to ask and how.
        cache: Holds the answers so far and takes the new ones.
        examples: Human-coded responses that every prompt shows, or what chooses them for each response.
        offline: Ask nothing; a vote that failed in an earlier run sets its response aside again.
        api_key: The key; None reads the environment variable that the section names, once something must be asked.
        progress: Called after every vote.
        budget: A budget that earlier calls have drawn on; None takes a fresh one from the section.
        patience: How long to wait between tries.
        way: What is done before questions are asked one by one; None asks right away.

    Raises:
        AnswersMissing: Offline, and answers are missing.
        TeacherError: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be read or written.
        DataError: A response lacks an input.
    """
    plan = Plan(responses, codebook, section, examples if callable(examples) else shared(examples))
    usage = Usage(cached=plan.recall(cache), nano_dollars=0 if section.prices else None)
    if progress:
        progress(Progress(usage.cached, plan.total, usage))
    if offline:
        plan.recall_failures(FailureLog(cache.folder))
        _require_all(plan)
        return _labelling(plan, section, codebook, usage)
    draws_on = budget or Budget.of(section)
    for read in (plan.read, plan.read_single):  # texts that got no vote of their own in a shared request come alone
        before, sheets = usage, plan.sheets()
        if not sheets and read == plan.read_single:
            break

        def told(now: Usage, before: Usage = before) -> None:
            if progress:
                progress(Progress(plan.done, plan.total, before + now))

        usage = before + ask_all(
            [plan.question(sheet) for sheet in sheets],
            read,
            section,
            cache,
            api_key=api_key,
            told=told,
            budget=draws_on,
            patience=patience,
            way=way,
        )
    return _labelling(plan, section, codebook, usage)


def _require_all(plan: Plan) -> None:
    missing = len(plan.open)
    if not missing:
        return
    ids = [response.id for response, coding in plan.pairs if coding and coding.open]
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    raise AnswersMissing(
        f"{missing} answers on {len(ids)} responses are not in the cache: {', '.join(ids[:_NAMED])}{more}",
        hint="Run once without --offline, or import the answers with `edgedistill cache import`.",
    )


def _labelling(plan: Plan, section: TeacherSection, codebook: Codebook, usage: Usage) -> Labelling:
    counted = [_counted(response, coding, section, codebook) for response, coding in plan.pairs]
    return Labelling(
        labels=tuple(row for row in counted if isinstance(row, TeacherLabel)),
        set_aside=tuple(row for row in counted if isinstance(row, SetAside)),
        usage=usage,
    )


def _counted(
    response: Response, coding: Coding | None, section: TeacherSection, codebook: Codebook
) -> TeacherLabel | SetAside:
    if coding is None:
        return _set_aside(response, Cause.NO_TEXT, "")
    if coding.failure:
        parts = _detail(coding.failure)
        return _set_aside(response, coding.failure.cause, "; ".join(parts))
    if codebook.any_number:
        task = Task(kind="multilabel", labels=codebook.labels, inputs=codebook.inputs)
        votes = [vote.label for vote in coding.known]
        label = count_label_votes(response.id, votes, section.ties, section.called, task)
    else:
        label = count_votes(response.id, coding.known, section.ties, section.called)
    return label or _set_aside(response, Cause.TIE, ", ".join(vote.label for vote in coding.known))


def _detail(failure: Failure) -> Iterator[str]:
    if failure.code:
        yield failure.code
    yield f"{FAILURES} in the cache's folder has it under {failure.key[:16]}"


def _set_aside(response: Response, cause: Cause, detail: str) -> SetAside:
    return SetAside(response.file, response.row, response.id, str(cause), detail)


def joint_labelling(
    responses: Sequence[Response], labellings: Mapping[str, Labelling], weights: Mapping[str, float], task: Task
) -> Labelling:
    """Return the labels that the teachers give together.

    A response's label is the one with the greatest weight of the teachers that gave it; of a multilabel task each label
    holds that teachers with more than half of the weight give. A teacher that set the response aside has no say in it.
    Equal weights are a tie, and the response is set aside. Shares and consistency are the weighted means of the
    teachers' shares, and of the shares of their votes that equal the label.

    Args:
        responses: What was coded.
        labellings: What each teacher made of them, by its name; at least one.
        weights: By teacher, 0 or more.
        task: What was coded for.
    """
    if len(labellings) == 1:
        return next(iter(labellings.values()))
    by_id = {name: {label.id: label for label in labelling.labels} for name, labelling in labellings.items()}
    reasons = {name: {row.id: row.reason for row in labelling.set_aside} for name, labelling in labellings.items()}
    found = [
        _joint(
            response,
            {name: labels[response.id] for name, labels in by_id.items() if response.id in labels},
            {name: rows[response.id] for name, rows in reasons.items() if response.id in rows},
            weights,
            task,
        )
        for response in responses
    ]
    return Labelling(
        tuple(row for row in found if isinstance(row, TeacherLabel)),
        tuple(row for row in found if isinstance(row, SetAside)),
        reduce(add, (labelling.usage for labelling in labellings.values())),
    )


def _joint(
    response: Response,
    opinions: Mapping[str, TeacherLabel],
    reasons: Mapping[str, str],
    weights: Mapping[str, float],
    task: Task,
) -> TeacherLabel | SetAside:
    if not opinions:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return SetAside(response.file, response.row, response.id, str(Cause.NO_TEACHER), told)
    best = joint_label(opinions, weights, task) if task.kind == "multilabel" else _heaviest(opinions, weights)
    if best is None:
        told = ", ".join(f"{name}: {opinion.label}" for name, opinion in opinions.items())
        return SetAside(response.file, response.row, response.id, str(Cause.TEACHERS_TIE), told)
    return _label(best, opinions, weights)


def _heaviest(opinions: Mapping[str, TeacherLabel], weights: Mapping[str, float]) -> str | None:
    """The label with the greatest weight; None where two have it, or none has any."""
    given = {
        label: math.fsum(weights[name] for name, opinion in opinions.items() if opinion.label == label)
        for label in dict.fromkeys(opinion.label for opinion in opinions.values())
    }
    best = max(given, key=given.__getitem__)
    tied = any(label != best and math.isclose(weight, given[best]) for label, weight in given.items())
    return best if given[best] and not tied else None


def _label(label: str, opinions: Mapping[str, TeacherLabel], weights: Mapping[str, float]) -> TeacherLabel:
    total = math.fsum(weights[name] for name in opinions)

    def mean(of: Mapping[str, float]) -> float:
        return math.fsum(weights[name] * of[name] for name in opinions) / total

    every = tuple(opinions.values())
    names = dict.fromkeys(name for opinion in every for name in opinion.shares)
    shares = {name: mean({who: opinion.shares.get(name, 0.0) for who, opinion in opinions.items()}) for name in names}
    soft: set[Soft] = {opinion.soft for opinion in every}
    return TeacherLabel(
        id=every[0].id,
        label=label,
        consistency=mean({who: one.votes.count(label) / len(one.votes) for who, one in opinions.items()}),
        shares={name: share for name, share in shares.items() if share > 0},
        votes=tuple(vote for opinion in every for vote in opinion.votes),
        teacher=" + ".join(opinions),
        soft=soft.pop() if len(soft) == 1 else "mixed",
        opinions=every,
    )
