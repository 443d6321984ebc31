"""Labels responses: selects examples, plans the requests, counts the votes, combines several teachers.

LabellingPlan       the distinct texts, and the requests for their votes
├── Coding          one distinct text and its votes so far
└── CodingRequest   one request: its texts, and which of their votes it is for

label_responses(responses, …) -> Labelling
├── labels          a TeacherLabel for every response that the teacher labelled
├── set_aside       every other response, with the reason
└── usage           requests, tokens and cost
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import islice
from operator import add
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgedistill.data.twins import same_row
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
from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher.cache import AnswerCache, CacheEntry, TeacherRequest
from edgedistill.teacher.codebook import (
    AnswerFormat,
    AnswerShape,
    Codebook,
    Message,
    build_opening_messages,
    format_inputs,
    join_user_messages,
    response_format,
    response_ids,
    split_joined_message,
    split_user_message,
)
from edgedistill.teacher.logs import FailureLog, describe_failure
from edgedistill.teacher.parsing import MAX_TOP_LOGPROBS, Failure, FailureCause, ended_by_itself
from edgedistill.teacher.runner import (
    DispatchMode,
    PendingRequest,
    RetryPolicy,
    find_cached_answer,
    find_logged_failure,
    run_requests,
)
from edgedistill.teacher.spending import Budget, Usage
from edgedistill.teacher.voting import (
    Vote,
    Votes,
    combine_multilabel,
    count_multilabel_votes,
    count_votes,
    parse_single_vote,
    parse_votes,
)
from edgedistill_serve.errors import DataError
from edgedistill_serve.task.task import NO_LABEL, Task, list_some

ExampleSelector: TypeAlias = Callable[[Sequence[Response]], list[tuple[CodedResponse, ...]]]
"""Returns the examples in the prompt of each response."""

Vectors: TypeAlias = npt.NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[Mapping[str, str]]], Vectors]
"""Embeds the inputs of rows as unit vectors, of shape (rows, width)."""

_DIGITS = 4  # of a similarity; smaller differences are ties, so that all processors choose the same examples


def build_example_selector(section: TeacherSection, rows: TrainRows, task: Task, embed: Embed) -> ExampleSelector:
    """Return the selector for the setting `few_shot_choice`.

    Args:
        section: The number of examples, and how they are selected.
        rows: Human-coded train rows; no other split may be shown to the teacher.
        task: The task.
        embed: Called only for ``similar``.

    Raises:
        ProjectFileError: There are too few train rows, or `few_shot_ids` contains an id of no train row.
    """
    if section.few_shot_choice == "similar":
        return _similar(rows, section.few_shot, embed)
    if section.few_shot_choice == "fixed":
        return use_same_examples(select_examples_by_id(rows, section.few_shot_ids))
    return use_same_examples(select_balanced_examples(rows, task, section.few_shot))


def use_same_examples(examples: Sequence[CodedResponse]) -> ExampleSelector:
    """Return a selector that gives every response the same examples."""
    same = tuple(examples)
    return lambda responses: [same] * len(responses)


def select_balanced_examples(rows: TrainRows, task: Task, few_shot: int) -> tuple[CodedResponse, ...]:
    """Select the same number of examples of each label; the numbers differ by at most one.

    Within a label, the rows with the smallest SHA-256 of their id are selected. Adding or removing other rows does not
    change the selection unless one of them has a smaller hash, so paid answers mostly stay valid. In a multilabel task,
    a row with several labels is an example of the first label that selects it; rows without a label count as one more
    label.

    Args:
        rows: Human-coded train rows; no other split may be shown to the teacher.
        task: Its labels; if ``few_shot`` is not a multiple of their number, the first ones get one more.
        few_shot: Number of examples, 0 or more.

    Returns:
        The examples, alternating between the labels in codebook order.

    Raises:
        ProjectFileError: A label has fewer train rows than required.
    """
    ranked = sorted(rows, key=lambda row: _rank(row.response.id))
    unused = {row.response.id: labels_in(row.label, task) for row in ranked}
    labels = [name for name in countable_labels(task) if name != NO_LABEL or (name,) in unused.values()]
    selected: list[list[CodedResponse]] = []
    for index, label in enumerate(labels):
        of_label = [row for row in ranked if label in unused.get(row.response.id, ())]
        required = few_shot // len(labels) + (index < few_shot % len(labels))
        if required > len(of_label):
            raise ProjectFileError(
                f"{few_shot} examples require {required} train rows of the label {label!r}, but there are "
                f"{len(of_label)}",
                where="teacher.few_shot",
                hint="Lower few_shot, or code more responses of this label.",
            )
        selected.append(of_label[:required])
        for row in selected[-1]:
            del unused[row.response.id]
    rounds = max((len(of_label) for of_label in selected), default=0)
    return tuple(of_label[turn] for turn in range(rounds) for of_label in selected if turn < len(of_label))


def select_examples_by_id(rows: TrainRows, ids: Sequence[str]) -> tuple[CodedResponse, ...]:
    """Return the train rows with these ids, in this order.

    Raises:
        ProjectFileError: An id belongs to no train row.
    """
    by_id = {row.response.id: row for row in rows}
    if unknown := [ident for ident in ids if ident not in by_id]:
        raise ProjectFileError(
            f"no human-coded train row has the id {unknown[0]!r}",
            where="teacher.few_shot_ids",
            hint="Use ids of train rows, or `few_shot_choice: balanced`.",
        )
    return tuple(by_id[ident] for ident in ids)


def _similar(rows: TrainRows, few_shot: int, embed: Embed) -> ExampleSelector:
    """Select the rows with the highest cosine similarity, the most similar last, never one that is the same."""
    if few_shot >= len(rows):
        raise ProjectFileError(
            f"{few_shot} similar examples require more than {few_shot} train rows, but there are {len(rows)}",
            where="teacher.few_shot",
            hint="Lower few_shot, or code more responses.",
        )
    ranked = sorted(rows, key=lambda row: _rank(row.response.id))  # the first of equally similar rows is selected
    vectors = embed([row.response.inputs for row in ranked])

    def select(responses: Sequence[Response]) -> list[tuple[CodedResponse, ...]]:
        similarity = np.round(embed([response.inputs for response in responses]) @ vectors.T, _DIGITS)
        orders = np.argsort(-similarity, axis=1, kind="stable")
        return [
            _first_others(response, (ranked[index] for index in order), few_shot)
            for response, order in zip(responses, orders, strict=True)
        ]

    return select


def _first_others(response: Response, ordered: Iterator[CodedResponse], few_shot: int) -> tuple[CodedResponse, ...]:
    same = same_row(response.inputs)
    others = (row for row in ordered if same_row(row.response.inputs) != same and row.response.id != response.id)
    return tuple(islice(others, few_shot))[::-1]


def _rank(ident: str) -> str:
    return hashlib.sha256(ident.encode("utf-8", "surrogatepass")).hexdigest()


Examples: TypeAlias = tuple[CodedResponse, ...]


@dataclass(slots=True, eq=False)
class Coding:
    """One distinct text to be coded.

    Attributes:
        user: Its user message.
        examples: The examples in its prompt.
        votes: Its votes, None for those that are not known yet.
        failure: Why it gets no label, once that is known.
        alone: Whether it must be sent alone, because a shared request gave it no vote.
    """

    user: str = field(repr=False)
    examples: Examples
    votes: list[Vote | None]
    failure: Failure | None = None
    alone: bool = False

    @property
    def open(self) -> list[int]:
        """The numbers of the missing votes."""
        return [] if self.failure else [number for number, vote in enumerate(self.votes) if vote is None]

    @property
    def known(self) -> list[Vote]:
        """The votes that are known."""
        return [vote for vote in self.votes if vote is not None]


@dataclass(frozen=True, slots=True)
class CodingRequest:
    """One request.

    Attributes:
        codings: Its texts; question, reference answer and examples are the same for all of them.
        vote: The number of the vote, from 0.
    """

    codings: tuple[Coding, ...]
    vote: int


class LabellingPlan:
    """The texts of a run and their requests.

    Args:
        responses: The responses to be coded.
        codebook: The codebook.
        section: The teacher's endpoint and settings.
        selector: Selects the examples of each prompt; an example that is the same as the response is left out.

    Raises:
        DataError: A response lacks an input.
    """

    def __init__(
        self, responses: Sequence[Response], codebook: Codebook, section: TeacherSection, selector: ExampleSelector
    ) -> None:
        self._codebook, self._section = codebook, section
        self.shape = AnswerShape(
            codebook.names,
            section.reasoning,
            multiple_responses=section.per_request > 1,
            multilabel=codebook.multilabel,
            confidence=section.confidence,
        )
        self._formats = {answer_format: response_format(answer_format, self.shape) for answer_format in AnswerFormat}
        self._opening: tuple[Examples | None, dict[AnswerFormat, tuple[Message, ...]]] = (None, {})
        self._pairs: list[tuple[Response, Coding | None]] = []
        self.done = 0
        by_message: dict[str, Coding] = {}
        valid = [response for response in responses if _is_encodable(response)]
        examples = {response.id: shown for response, shown in zip(valid, selector(valid), strict=True)}
        for response in responses:
            coding = None
            if response.id in examples:
                user = _user_message(codebook, response)
                coding = by_message.get(user)
                if coding is None:
                    others = _without(response, examples[response.id])
                    coding = by_message[user] = Coding(user, others, [None] * section.votes)
            self._pairs.append((response, coding))
        self.codings = tuple(by_message.values())

    @property
    def pairs(self) -> list[tuple[Response, Coding | None]]:
        """Each response with its coding, in the input order; None for a response that cannot be sent."""
        return self._pairs

    @property
    def total(self) -> int:
        """Number of votes; `done` counts those that have an answer or will get none."""
        return len(self.codings) * self._section.votes

    @property
    def open(self) -> list[tuple[Coding, int]]:
        """The missing votes."""
        return [(coding, vote) for coding in self.codings for vote in coding.open]

    def coding_requests(self) -> list[CodingRequest]:
        """Return the requests for all missing votes, each with up to `per_request` texts."""
        if not self.shape.multiple_responses:
            return self.single_requests()
        requests = [request for request in self.single_requests() if request.codings[0].alone]
        for vote in range(self._section.votes):
            groups: dict[tuple[str, tuple[str, ...]], list[Coding]] = {}
            for coding in self.codings:
                if vote in coding.open and not coding.alone:
                    examples = tuple(example.response.id for example in coding.examples)
                    groups.setdefault((split_user_message(coding.user)[0], examples), []).append(coding)
            requests += [request for codings in groups.values() for request in self._cut(codings, vote)]
        return requests

    def single_requests(self) -> list[CodingRequest]:
        """Return the requests for all missing votes, each with one text."""
        return [CodingRequest((coding,), vote) for coding, vote in self.open]

    def build_request(self, request: CodingRequest, answer_format: AnswerFormat) -> TeacherRequest:
        """Build a request in an answer format; the number of the vote is its seed."""
        section, users = self._section, [coding.user for coding in request.codings]
        user = join_user_messages(users) if self.shape.multiple_responses else users[0]
        opening = self._opening_messages(request.codings[0].examples, answer_format)
        return TeacherRequest(
            base_url=section.base_url.rstrip("/"),
            model=section.model,
            messages=(*opening, {"role": "user", "content": user}),
            response_format=self._formats[answer_format],
            sampling=self._sampling(request.vote),
            max_output_tokens=section.max_output_tokens * len(users),
            vote=request.vote,
        )

    def load_cached(self, cache: AnswerCache) -> int:
        """Load the votes in the cache, in any answer format; return how many."""
        if self.shape.multiple_responses:
            self._load_shared(cache)
        else:
            for request in self.single_requests():
                if cached := find_cached_answer(cache, partial(self.build_request, request), self.parse):
                    self._record(request, cached.answer)
        return self.done

    def load_failures(self, log: FailureLog) -> None:
        """Give every text that still lacks votes its failure of an earlier run, if there is one."""
        failures = log.read()
        for request in self.single_requests() if failures else ():
            if failure := find_logged_failure(failures, partial(self.build_request, request)):
                self._record(request, failure)

    def pending_request(self, request: CodingRequest) -> PendingRequest[Votes]:
        """Return a request for `run_requests`; it is obsolete once another vote on its texts has failed."""
        return PendingRequest(
            partial(self.build_request, request),
            partial(self._record, request),
            is_obsolete=lambda: not any(request.vote in coding.open for coding in request.codings),
        )

    def parse(self, answer: Mapping[str, Any]) -> Votes | Failure:
        """Return the votes of an answer, at least one."""
        return parse_votes(answer, self.shape)

    def parse_single(self, answer: Mapping[str, Any]) -> Votes | Failure:
        """Return the votes of an answer to a request with one text, including that text's own vote."""
        return parse_single_vote(answer, self.shape)

    def _cut(self, codings: Sequence[Coding], vote: int) -> Iterator[CodingRequest]:
        size = self._section.per_request
        return (CodingRequest(tuple(codings[start : start + size]), vote) for start in range(0, len(codings), size))

    def _sampling(self, vote: int) -> dict[str, float]:
        temperature = self._section.temperature
        sampling = {} if temperature is None else {"temperature": float(temperature)}
        if self._section.seed:
            sampling["seed"] = vote
        if self._section.logprobs:
            return sampling | {"logprobs": True, "top_logprobs": MAX_TOP_LOGPROBS}
        return sampling

    def _opening_messages(self, examples: Examples, answer_format: AnswerFormat) -> tuple[Message, ...]:
        # The last messages are reused: most prompts have the same examples.
        if self._opening[0] is not examples:
            openings = {
                each: build_opening_messages(self._codebook, examples, each, self.shape) for each in AnswerFormat
            }
            self._opening = (examples, openings)
        return self._opening[1][answer_format]

    def _record(self, request: CodingRequest, result: Votes | Failure) -> None:
        # If a request with several texts fails as a whole, none of them fails: each is then sent alone.
        if isinstance(result, Failure):
            for coding in request.codings:
                if len(request.codings) == 1 and coding.failure is None:
                    self.done += len(coding.open)
                    coding.failure = result
                coding.alone |= request.vote in coding.open
            return
        ids = response_ids([coding.user for coding in request.codings])
        for coding, vote in zip(request.codings, result.assign(ids), strict=True):
            self._record_vote(coding, request.vote, vote)

    def _record_vote(self, coding: Coding, number: int, vote: Vote | None) -> None:
        if number in coding.open:
            self.done += vote is not None
            coding.votes[number] = vote
            coding.alone |= vote is None

    def answers_in(self, cache: AnswerCache) -> Iterator[tuple[CacheEntry, tuple[Coding | None, ...]]]:
        """Yield every cached answer with these settings to a request for one of these texts, whichever texts shared it.

        Returns:
            The entry, and the coding of each text of its request; None for a text of other responses.
        """
        by_message = {coding.user: coding for coding in self.codings}
        for entry in cache.entries():
            user = str(entry.request["messages"][-1]["content"])
            users = split_joined_message(user) if self.shape.multiple_responses else (user,)
            codings = tuple(by_message.get(each) for each in users)
            first = next((coding for coding in codings if coding), None)
            number = int(entry.request["vote"])
            known = first is not None and number < self._section.votes
            if first and known and self._has_these_settings(entry, first.examples, users, number):
                yield entry, codings

    def _load_shared(self, cache: AnswerCache) -> None:
        """Load votes from every cached answer with these settings, whichever texts shared its request."""
        for entry, codings in self.answers_in(cache):
            users = split_joined_message(str(entry.request["messages"][-1]["content"]))
            votes = self.parse(entry.answer)
            if not isinstance(votes, Failure):
                for coding, vote in zip(codings, votes.assign(response_ids(users)), strict=True):
                    if coding:
                        self._record_vote(coding, int(entry.request["vote"]), vote)

    def _has_these_settings(self, entry: CacheEntry, examples: Examples, users: Sequence[str], vote: int) -> bool:
        """Whether an entry's request is the one that these settings give for its texts."""
        request = CodingRequest(tuple(Coding(user, examples, []) for user in users), vote)
        limit = entry.request.get("max_output_tokens")
        for each in AnswerFormat:
            content = self.build_request(request, each).content()
            shorter = isinstance(limit, int) and limit < content["max_output_tokens"] and ended_by_itself(entry.answer)
            if content == entry.request or (shorter and content | {"max_output_tokens": limit} == entry.request):
                return True
        return False


def _without(response: Response, examples: Examples) -> Examples:
    """Leave out examples that are the same as the response; if there are none, return the same tuple."""
    same = same_row(response.inputs)
    others = tuple(example for example in examples if same_row(example.response.inputs) != same)
    return others if len(others) < len(examples) else examples


def _is_encodable(response: Response) -> bool:
    # A lone surrogate, for example from "\ud800" in a JSON file, cannot be sent.
    try:
        "".join(response.inputs.values()).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _user_message(codebook: Codebook, response: Response) -> str:
    try:
        return format_inputs(codebook, response.inputs)
    except DataError as error:
        raise DataError(error.what, where=response.place, hint=error.hint) from None


@dataclass(frozen=True, slots=True)
class LabellingProgress:
    """The progress of a run.

    Attributes:
        done: Votes that have an answer or will get none.
        total: All votes of the run; responses with the same inputs share theirs.
        usage: The usage so far.
    """

    done: int
    total: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Labelling:
    """The labels of a teacher: each response is in exactly one of the two tuples, in the input order.

    Attributes:
        labels: The labels.
        set_aside: The responses without a label, with the reason.
        usage: Requests, tokens and cost.
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
    examples: Sequence[CodedResponse] | ExampleSelector = (),
    offline: bool = False,
    api_key: str | None = None,
    on_progress: Callable[[LabellingProgress], None] | None = None,
    budget: Budget | None = None,
    retry_policy: RetryPolicy | None = None,
    dispatch: DispatchMode | None = None,
) -> Labelling:
    """Let a teacher code responses.

    Cached answers are not requested again, so running a stopped run again resumes it. Responses with the same inputs
    are sent once.

    Args:
        responses: The responses.
        codebook: The codebook.
        section: The teacher's endpoint and settings.
        cache: The earlier answers; new ones are written to it.
        examples: Human-coded responses for every prompt, or a selector of the examples of each response.
        offline: Send nothing; a vote that failed in an earlier run sets its response aside again.
        api_key: The key; None reads the environment variable that the section names, once a request must be sent.
        on_progress: Called after every vote.
        budget: A budget shared with earlier calls; None creates one from the section.
        retry_policy: How long to wait between tries.
        dispatch: What happens before requests are sent one by one; None sends them at once.

    Raises:
        AnswersMissing: Offline, and answers are missing.
        TeacherError: No request can succeed.
        BudgetReached: The next request could cost more than is left.
        CacheDamaged: The cache cannot be read or written.
        DataError: A response lacks an input.
    """
    plan = LabellingPlan(responses, codebook, section, examples if callable(examples) else use_same_examples(examples))
    usage = Usage(cached=plan.load_cached(cache), nano_dollars=0 if section.prices else None)
    if on_progress:
        on_progress(LabellingProgress(usage.cached, plan.total, usage))
    if offline:
        plan.load_failures(FailureLog(cache.folder))
        _require_all(plan)
        return _labelling(plan, section, codebook, usage)
    budget = budget or Budget.from_section(section)
    for parse in (plan.parse, plan.parse_single):  # texts that got no vote in a shared request are then sent alone
        before, requests = usage, plan.coding_requests()
        if not requests and parse == plan.parse_single:
            break

        def report(now: Usage, before: Usage = before) -> None:
            if on_progress:
                on_progress(LabellingProgress(plan.done, plan.total, before + now))

        usage = before + run_requests(
            [plan.pending_request(request) for request in requests],
            parse,
            section,
            cache,
            api_key=api_key,
            on_progress=report,
            budget=budget,
            retry_policy=retry_policy,
            dispatch=dispatch,
            proven=before.cached > 0 or before.output_tokens > 0,
        )
    return _labelling(plan, section, codebook, usage)


def _require_all(plan: LabellingPlan) -> None:
    missing = len(plan.open)
    if not missing:
        return
    ids = [response.id for response, coding in plan.pairs if coding and coding.open]
    raise AnswersMissing(
        f"{missing} answers for {len(ids)} responses are not in the cache: {list_some(ids)}",
        hint="Run once without --offline, or import the answers: `edgedistill cache import PROJECT FILE.jsonl`.",
    )


def _labelling(plan: LabellingPlan, section: TeacherSection, codebook: Codebook, usage: Usage) -> Labelling:
    rows = [_count(response, coding, section, codebook) for response, coding in plan.pairs]
    return Labelling(
        labels=tuple(row for row in rows if isinstance(row, TeacherLabel)),
        set_aside=tuple(row for row in rows if isinstance(row, SetAside)),
        usage=usage,
    )


def _count(
    response: Response, coding: Coding | None, section: TeacherSection, codebook: Codebook
) -> TeacherLabel | SetAside:
    if coding is None:
        return _set_aside(response, FailureCause.NO_TEXT, "")
    if coding.failure:
        return _set_aside(response, coding.failure.cause, describe_failure(coding.failure))
    if codebook.multilabel:
        task = Task(kind="multilabel", labels=codebook.labels, inputs=codebook.inputs)
        votes = [vote.label for vote in coding.known]
        stated = [vote.confidence for vote in coding.known]
        label = count_multilabel_votes(response.id, votes, section.ties, section.called, task, stated)
    else:
        label = count_votes(
            response.id,
            coding.known,
            section.ties,
            section.called,
            soft_labels=section.soft_labels,
            labels=codebook.names,
        )
    return label or _set_aside(response, FailureCause.TIE, ", ".join(vote.label for vote in coding.known))


def _set_aside(response: Response, cause: FailureCause, detail: str) -> SetAside:
    return SetAside(response.file, response.row, response.id, str(cause), detail)


def combine_labellings(
    responses: Sequence[Response], labellings: Mapping[str, Labelling], weights: Mapping[str, float], task: Task
) -> Labelling:
    """Combine the labels of several teachers by weighted majority vote.

    The label of a response is the one whose teachers have the greatest total weight; for a multilabel task, each label
    holds if its teachers have more than half of the weight. A teacher that set the response aside does not vote. A
    response with a tie is set aside. Shares are the weighted means of the teachers' shares; consistency is the weighted
    mean of the shares of their votes that equal the label; confidence that of the teachers who stated one, 0 for a
    teacher with another label.

    Args:
        responses: The responses.
        labellings: The labels of each teacher, by its name; at least one.
        weights: By teacher, 0 or more.
        task: The task.
    """
    if len(labellings) == 1:
        return next(iter(labellings.values()))
    by_id = {name: {label.id: label for label in labelling.labels} for name, labelling in labellings.items()}
    reasons = {name: {row.id: row.reason for row in labelling.set_aside} for name, labelling in labellings.items()}
    combined = [
        _combine(
            response,
            {name: labels[response.id] for name, labels in by_id.items() if response.id in labels},
            {name: rows[response.id] for name, rows in reasons.items() if response.id in rows},
            weights,
            task,
        )
        for response in responses
    ]
    return Labelling(
        tuple(row for row in combined if isinstance(row, TeacherLabel)),
        tuple(row for row in combined if isinstance(row, SetAside)),
        reduce(add, (labelling.usage for labelling in labellings.values())),
    )


def _combine(
    response: Response,
    opinions: Mapping[str, TeacherLabel],
    reasons: Mapping[str, str],
    weights: Mapping[str, float],
    task: Task,
) -> TeacherLabel | SetAside:
    if not opinions:
        detail = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return _set_aside(response, FailureCause.NO_TEACHER, detail)
    weights = _scaled({name: weights[name] for name in opinions})
    best = combine_multilabel(opinions, weights, task) if task.kind == "multilabel" else _heaviest(opinions, weights)
    if best is None:
        detail = ", ".join(f"{name}: {opinion.label}" for name, opinion in opinions.items())
        return _set_aside(response, FailureCause.TEACHERS_TIE, detail)
    return _weighted_label(best, opinions, weights)


def _scaled(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights times a power of two, the largest at about 1, so that no product of tiny ones is 0."""
    _, exponent = math.frexp(max(weights.values()))
    return {name: math.ldexp(weight, -exponent) for name, weight in weights.items()}


def _heaviest(opinions: Mapping[str, TeacherLabel], weights: Mapping[str, float]) -> str | None:
    """Return the label with the greatest weight; None if two have it, or if all weights are 0."""
    totals = {
        label: math.fsum(weights[name] for name, opinion in opinions.items() if opinion.label == label)
        for label in dict.fromkeys(opinion.label for opinion in opinions.values())
    }
    best = max(totals, key=totals.__getitem__)
    tied = any(label != best and math.isclose(weight, totals[best]) for label, weight in totals.items())
    return best if totals[best] and not tied else None


def _weighted_label(label: str, opinions: Mapping[str, TeacherLabel], weights: Mapping[str, float]) -> TeacherLabel:
    total = math.fsum(weights[name] for name in opinions)

    def mean(of: Mapping[str, float]) -> float:
        return math.fsum(weights[name] * of[name] for name in opinions) / total

    every = tuple(opinions.values())
    names = dict.fromkeys(name for opinion in every for name in opinion.shares)
    shares = {name: mean({who: opinion.shares.get(name, 0.0) for who, opinion in opinions.items()}) for name in names}
    soft: set[Soft] = {opinion.soft for opinion in every}
    confident = {
        who: (opinion.confidence or 0.0) if opinion.label == label else 0.0
        for who, opinion in opinions.items()
        if opinion.confidences
    }
    if not any(opinions[who].label == label for who in confident):
        confident = {}
    return TeacherLabel(
        id=every[0].id,
        label=label,
        consistency=mean({who: _share_of_votes(label, one) for who, one in opinions.items()}),
        shares={name: share for name, share in shares.items() if share > 0},
        votes=tuple(vote for opinion in every for vote in opinion.votes),
        teacher=" + ".join(opinions),
        soft=soft.pop() if len(soft) == 1 else "mixed",
        opinions=every,
        confidences=tuple(stated for opinion in every for stated in _padded(opinion)) if confident else (),
        confidence=_mean_of(confident, weights) if confident else None,
    )


def _share_of_votes(label: str, opinion: TeacherLabel) -> float:
    """Return the share of a teacher's votes that equal a label, as far as it is known."""
    if opinion.soft == "shares":  # the votes themselves are not known
        return opinion.consistency if opinion.label == label else opinion.shares.get(label, 0.0)
    return opinion.votes.count(label) / len(opinion.votes)


def _padded(opinion: TeacherLabel) -> tuple[float | None, ...]:
    return opinion.confidences or (None,) * len(opinion.votes)


def _mean_of(confidences: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    total = math.fsum(weights[name] for name in confidences)
    return math.fsum(weights[name] * each for name, each in confidences.items()) / total if total else None
