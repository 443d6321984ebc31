"""Requests through a provider's Batch API: submit, poll, fetch, merge; a stopped run continues.

InBatches    the way

Money is spent by submitting, so a batch is never submitted twice for one reason. Its requests and a name of our own are
on disk before it is submitted, and the name goes along as its metadata. Where the reply to the submission is lost, with
the connection or with the process, the provider's list of batches is searched for that name; only a batch that is not
there is submitted again. Where the provider has no such list, a person has to say.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

import openai

from edgedistill.errors import RunError, TeacherError, TeacherUnreachable
from edgedistill.project.schema import TeacherSection
from edgedistill.teacher.batch_files import (
    URL,
    Journal,
    Result,
    Submitted,
    acknowledged,
    in_files,
    merge,
    read_results,
    request_line,
    request_of,
    uploaded,
)
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.dispatch import estimate_of
from edgedistill.teacher.endpoint import Fatal, Known, outcome_of_status, stopped
from edgedistill.teacher.runner import Question, Round, ask_live, unanswered
from edgedistill.teacher.spending import Estimate, Usage

MARK = "edgedistill"
"""The name in a batch's metadata under which our own name for it stands."""
_PAGES = 20  # of 100 batches, newest first, that are looked through for a lost one
_NO_SUCH_CALL = {404, 405, 501}


class Unacknowledged(Exception):
    """A batch may or may not have been taken: the reply to its submission never came."""


class CannotList(Exception):
    """The endpoint does not list batches."""


@dataclass(frozen=True, slots=True)
class Batch:
    """How a batch stands.

    Attributes:
        id: The provider's name for it.
        status: As the provider says: ``validating``, ``in_progress``, ``completed``, ``failed``, ``expired`` and so on.
        done: Requests that are answered or have failed.
        total: Its requests, 0 before they are counted.
        files: Its output file and its error file, those that there are.
        code: Why it failed as a whole, in the provider's words for a machine; empty if it did not.
    """

    id: str
    status: str
    done: int
    total: int
    files: tuple[str, ...]
    code: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ("completed", "failed", "expired", "cancelled")


class BatchApi:
    """A provider's batch endpoints.

    Args:
        section: Address and model.
        api_key: The key.
    """

    def __init__(self, section: TeacherSection, api_key: str) -> None:
        self._section = section
        self._client = openai.OpenAI(
            api_key=api_key, base_url=section.base_url, max_retries=3, timeout=max(60.0, section.timeout_seconds)
        )
        self._once = self._client.with_options(max_retries=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def upload(self, name: str, data: bytes) -> str:
        """Upload a file of requests; return its id. A file by itself costs nothing, so this may be done again."""
        with self._named():
            return self._client.files.create(file=(f"{name}.jsonl", data), purpose="batch").id

    def submit(self, name: str, file_id: str) -> str:
        """Submit a batch once, marked with our name for it; return the provider's id.

        Raises:
            Unacknowledged: No reply came, or a server's error: it may have been taken.
            TeacherError: It was refused.
        """
        try:
            with self._named():
                batch = self._once.batches.create(
                    input_file_id=file_id, endpoint=URL, completion_window="24h", metadata={MARK: name}
                )
                return batch.id
        except TeacherUnreachable as error:
            raise Unacknowledged from error

    def find(self, name: str, file_id: str) -> str | None:
        """Return the provider's id of a batch with our mark or this input file; None if the provider has none.

        Raises:
            CannotList: The endpoint does not list batches.
        """
        try:
            with self._named():
                for number, batch in enumerate(self._client.batches.list(limit=100)):
                    if (batch.metadata or {}).get(MARK) == name or batch.input_file_id == file_id:
                        return batch.id
                    if number >= _PAGES * 100:
                        break
        except TeacherError as error:
            cause = error.__cause__
            if isinstance(cause, openai.APIStatusError) and cause.status_code in _NO_SUCH_CALL:
                raise CannotList from error
            raise
        return None

    def look(self, batch_id: str) -> Batch:
        """Return how a batch stands."""
        with self._named():
            found = self._client.batches.retrieve(batch_id)
        counts, errors = found.request_counts, (found.errors.data if found.errors else None) or []
        return Batch(
            id=found.id,
            status=found.status,
            done=counts.completed + counts.failed if counts else 0,
            total=counts.total if counts else 0,
            files=tuple(file for file in (found.output_file_id, found.error_file_id) if file),
            code=", ".join(sorted({str(error.code) for error in errors if error.code})),
        )

    def fetch(self, file_id: str) -> list[bytes]:
        """Return the lines of a results file."""
        with self._named():
            return self._client.files.content(file_id).read().splitlines()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        where = self._section.base_url
        try:
            yield
        except openai.APIStatusError as error:
            status, body = error.status_code, error.response.text
            outcome = outcome_of_status(status, error.response.headers, body, formatted=False, heard=False)
            if status >= 500:  # the server's own errors
                raise TeacherUnreachable(f"its batch service fails (HTTP {status})", where=where) from error
            if status in _NO_SUCH_CALL:
                raise TeacherError(
                    f"it has no such batch, file or batch service (HTTP {status})",
                    where=where,
                    hint="Label without --batch, or exchange the files by hand with --batch-out and --batch-in.",
                ) from error
            if isinstance(outcome, Fatal):
                raise stopped(outcome, self._section) from error
            raise TeacherError(f"its batch service refuses (HTTP {status})", where=where) from error
        except openai.OpenAIError as error:
            raise TeacherUnreachable(
                "its batch service does not answer",
                where=where,
                hint="Run the same command again: it goes on with the batches that were submitted.",
            ) from error


Requests: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The content of requests by their keys."""

_FEW = 100
"""So many questions that a batch left open are asked one by one; more are worth another batch."""
_ROUNDS = 3
"""Batches that one question is put into, at most."""
_LOOKS = 2
"""How often the provider's list is searched for a lost batch before it counts as not there."""


@dataclass(frozen=True, slots=True)
class InBatches:
    """Ask the questions through the Batch API.

    Attributes:
        say: Is told what happens, a line at a time.
        announce: Is told the estimate before anything is submitted.
        poll_seconds: Between two looks at a batch.
        sleep: Waits so many seconds.
    """

    say: Callable[[str], None]
    announce: Callable[[Estimate], None]
    poll_seconds: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def prepare(self, given: Round[Any]) -> Usage:
        """Put every question into a batch and wait for the answers; what has none afterwards is left to be asked.

        Returns:
            What it took.

        Raises:
            RunError: Another run is at it, or nobody can tell whether a batch was taken.
            TeacherError: The provider refuses, or fails the batch as a whole.
            BudgetReached: The batch could cost more than is left.
        """
        if not given.questions:
            return given.nothing
        with Journal(given.cache.folder).alone() as journal, BatchApi(given.section, given.key) as api:
            try:
                return _Handling(self, given, journal, api).all_rounds()
            finally:
                given.budget.ledger.close()


class _Handling:
    """One round's questions on their way through the provider's batches."""

    def __init__(self, way: InBatches, given: Round[Any], journal: Journal, api: BatchApi) -> None:
        self._way, self._given, self._journal, self._api = way, given, journal, api
        self._known: Known | None = None

    def all_rounds(self) -> Usage:
        """Go on with the batches that were submitted, then put what is still open into others."""
        usage, left = self._given.nothing, replace(self._given, questions=unanswered(self._given))
        self._drop_unsubmitted()
        for number in range(_ROUNDS):
            pending = self._pending(left)
            covered = {key for requests in pending.values() for key in requests}
            open_ = [question for question in left.questions if not covered & _keys(question)]
            if open_ and not (number and len(open_) <= _FEW):
                usage += self._plan(replace(left, questions=open_))
                pending = self._pending(left)
            if not pending:
                break
            taken = [(self._submitted(batch, requests), requests) for batch, requests in pending.items()]
            for batch, requests in taken:
                usage += self._merged(batch, requests)
            left = replace(left, questions=unanswered(left))
        return usage

    def _drop_unsubmitted(self) -> None:
        """Forget batches that a stopped run wrote down and did not submit: their requests are put into new ones."""
        for batch in self._journal.pending(self._given.section.base_url):
            if batch.state == "planned":
                self._end(batch, "dropped")

    def _pending(self, left: Round[Any]) -> dict[Submitted, Requests]:
        """Return the batches without an end that hold a question of these."""
        wanted = set().union(*map(_keys, left.questions))
        pending = self._journal.pending(self._given.section.base_url)
        return {batch: requests for batch, requests in pending.items() if wanted & requests.keys()}

    def _plan(self, left: Round[Any]) -> Usage:
        """Write batches down that are to be submitted.

        The first question is asked by itself: a wrong key, model or parameter then costs one request and no batch, and
        the answer format and the name of the token limit that the endpoint knows are found out.
        """
        usage = left.nothing
        if self._known is None:
            self._way.announce(estimate_of(left))
            pilot: Question[Any] = Question(left.questions[0].request_in, take=lambda _: None)
            usage, self._known = ask_live(replace(left, questions=[pilot], told=None))
        known = self._known
        requests = [question.request_in(known.form) for question in unanswered(left)]
        for together in in_files(requests, known.limit_name):
            batch = Submitted(
                f"ed-{secrets.token_hex(8)}",
                left.section.base_url,
                left.budget.stage,
                "planned",
                known.limit_name,
            )
            self._journal.plan(batch, [request for request, _ in together])
        return usage

    def _submitted(self, batch: Submitted, requests: Requests) -> Submitted:
        """Return the batch as the provider has acknowledged it; submit it where it was not."""
        if batch.batch_id:
            self._way.say(f"batch {batch.batch_id}: {len(requests):,} requests, submitted by an earlier run")
            return batch
        if batch.state == "planned":
            asked = [request_of(content) for content in requests.values()]
            self._given.budget.reserve_batch(batch.name, asked)
            data = b"".join(request_line(request, batch.limit_name) for request in asked)
            batch = uploaded(batch, self._api.upload(batch.name, data))
            self._journal.note(batch)
            batch_id = self._submit(batch)
        else:
            batch_id = self._find(batch) or self._submit(batch)
        batch = acknowledged(batch, batch_id)
        self._journal.note(batch)
        self._way.say(f"batch {batch_id}: {len(requests):,} requests submitted")
        return batch

    def _submit(self, batch: Submitted) -> str:
        for _ in range(self._given.section.tries):
            try:
                return self._api.submit(batch.name, batch.file_id)
            except Unacknowledged:
                found = self._find(batch)
                if found:
                    return found
            except TeacherError:
                self._end(batch, "refused")
                raise
        raise TeacherUnreachable(
            "it takes no batch",
            where=batch.base_url,
            hint="Run the same command again later; nothing was submitted.",
        )

    def _find(self, batch: Submitted) -> str | None:
        """Return the provider's id of a batch whose acknowledgement is lost, or None where it was not taken."""
        for look in range(_LOOKS):
            if look:
                self._way.sleep(self._way.poll_seconds)  # a batch that was just taken may not be in the list yet
            try:
                found = self._api.find(batch.name, batch.file_id)
            except CannotList:
                raise RunError(
                    f"nobody can tell whether the endpoint took the batch {batch.name}, since it lists no batches",
                    where=batch.base_url,
                    hint="Look at the provider's own page. If the batch is not there, remove "
                    f"{self._journal.requests_file(batch.name)} and run again: its requests are then submitted anew.",
                ) from None
            if found:
                return found
        return None

    def _merged(self, batch: Submitted, requests: Requests) -> Usage:
        """Wait for a batch to end and take its results."""
        ended = self._ended(batch)
        if not ended.files and ended.status == "failed":
            self._end(batch, "refused")
            raise TeacherError(
                f"the provider failed the batch {batch.batch_id} ({ended.code or 'no reason given'})",
                where=batch.base_url,
                hint="Fix what it names, or label without --batch.",
            )
        found: list[Result] = []
        for file in ended.files:
            results = read_results(self._api.fetch(file), requests, {result.key for result in found})
            found += results.found
            if results.told:
                self._way.say(f"batch {batch.batch_id}, file {file}: {results.told}")
        merged = merge(self._given, requests, found, name=batch.name)
        missing = len(requests) - len(found)
        self._way.say(
            f"batch {batch.batch_id}: {ended.status}; {len(requests):,} requests = {merged.answers:,} answers + "
            f"{merged.failures:,} that cannot be used + {missing:,} without a result"
        )
        self._journal.note(
            replace(batch, state="merged"), answers=merged.answers, failures=merged.failures, missing=missing
        )
        return merged.usage

    def _ended(self, batch: Submitted) -> Batch:
        told = ""
        while not (found := self._api.look(batch.batch_id)).ended:
            state = f"batch {batch.batch_id}: {found.status}, {found.done:,} of {found.total:,} done"
            if state != told:
                self._way.say(state)
                told = state
            self._way.sleep(self._way.poll_seconds)
        return found

    def _end(self, batch: Submitted, state: str) -> None:
        """Note that a batch costs nothing and will not be heard of again."""
        ledger = self._given.budget.ledger
        ledger.catch_up()
        if ledger.holds(batch.name):
            ledger.settle(batch.name, self._given.budget.amount(0, 0))
        self._journal.note(replace(batch, state=state))


def _keys(question: Question[Any]) -> set[str]:
    """Return the keys under which a question's answer may be kept."""
    return {question.request_in(form).key() for form in AnswerFormat}
