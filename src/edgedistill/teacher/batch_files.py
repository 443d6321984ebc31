"""The files of the OpenAI Batch API, the log of submitted batches, and merging results into the cache.

Result      one line of a results file
Results     all of a results file, every line accounted for

Journal       ``batches.jsonl`` in the cache's folder, append-only; the requests themselves lie in ``batches/``
└── Submitted one batch as the journal knows it

    planned     the requests are on disk, and a name of our own is given to them
    uploaded    the provider has the file
    submitted   the provider has acknowledged the batch
    merged      every result is in the cache or among the failures
    refused     the provider did not take it, or failed it as a whole
    dropped     it was planned, and the run was stopped before it was submitted

Merged    what became of the results
"""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from edgedistill.errors import CacheDamaged, DataError, RunError
from edgedistill.teacher.cache import Entry, TeacherRequest
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.endpoint import Answered, body_of
from edgedistill.teacher.logs import FailureLog, append
from edgedistill.teacher.parsing import Cause, Failure, content_of
from edgedistill.teacher.runner import Round
from edgedistill.teacher.spending import Amount, Usage

URL: Final = "/v1/chat/completions"
MOST_REQUESTS = 50_000
"""Requests in one file, as the Batch API allows."""
MOST_BYTES = 200_000_000
"""Bytes of one file, as the Batch API allows."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one request of a batch.

    Attributes:
        key: The request's key, which is its ``custom_id``.
        line: The line's number in the file, from 1.
        answer: The chat completion; None where there is none.
        raw: What the line holds in its place, as text.
        code: The HTTP status with the endpoint's own code, where there is no answer.
    """

    key: str
    line: int
    answer: dict[str, Any] | None
    raw: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """A results file; its lines that are not blank are all in one of the four.

    Attributes:
        found: Results of requests that were asked for, the first of each.
        damaged: Numbers of the lines that are no result.
        foreign: Numbers of the lines about requests that nobody here asked for.
        doubled: Numbers of the lines about requests that an earlier line answers.
    """

    found: tuple[Result, ...]
    damaged: tuple[int, ...]
    foreign: tuple[int, ...]
    doubled: tuple[int, ...]

    @property
    def told(self) -> str:
        """The lines that were not used, by number; empty where there are none."""
        parts = (("damaged", self.damaged), ("foreign", self.foreign), ("doubled", self.doubled))
        return "; ".join(f"{len(lines)} lines {what} ({_numbers(lines)})" for what, lines in parts if lines)


def request_line(request: TeacherRequest, limit_name: str) -> bytes:
    """Return the line that asks one request; its ``custom_id`` is the key."""
    line = {"custom_id": request.key(), "method": "POST", "url": URL, "body": body_of(request, limit_name)}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def in_files(
    requests: Iterable[TeacherRequest], limit_name: str, *, most: int = MOST_REQUESTS, most_bytes: int = MOST_BYTES
) -> Iterator[list[tuple[TeacherRequest, bytes]]]:
    """Share requests out to files that keep to the limits, in order.

    Args:
        requests: The requests; of those with the same key only the first counts.
        limit_name: The name under which the endpoint knows the token limit.
        most: Requests in a file.
        most_bytes: Bytes of a file.
    """
    together: list[tuple[TeacherRequest, bytes]] = []
    size, seen = 0, set[str]()
    for request in requests:
        if request.key() in seen:
            continue
        seen.add(request.key())
        line = request_line(request, limit_name)
        if together and (len(together) == most or size + len(line) > most_bytes):
            yield together
            together, size = [], 0
        together.append((request, line))
        size += len(line)
    if together:
        yield together


def write_whole(file: Path, data: bytes) -> None:
    """Write a file aside, sync it to disk, and move it into place.

    Raises:
        DataError: It cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(file.name + ".part")
        with aside.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
    except OSError as error:
        raise DataError(f"the file cannot be written: {error.strerror}", where=str(file)) from error


def read_results(lines: Iterable[bytes], keys: Collection[str], already: Collection[str] = ()) -> Results:
    """Read the lines of a results file, an output file or an error file.

    Args:
        lines: The lines, in order.
        keys: The keys of the requests that were asked for.
        already: Keys that an earlier file answers.
    """
    found: list[Result] = []
    odd: dict[str, list[int]] = {"damaged": [], "foreign": [], "doubled": []}
    seen = Counter(already)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        result = _result(line, number)
        if result is None:
            odd["damaged"].append(number)
        elif result.key not in keys:
            odd["foreign"].append(number)
        elif seen[result.key]:
            odd["doubled"].append(number)
        else:
            seen[result.key] += 1
            found.append(result)
    return Results(tuple(found), *(tuple(odd[what]) for what in ("damaged", "foreign", "doubled")))


def _result(line: bytes, number: int) -> Result | None:
    try:
        value = json.loads(line)
        key, response, error = value["custom_id"], value.get("response"), value.get("error")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not isinstance(key, str) or not (isinstance(response, dict) or isinstance(error, dict)):
        return None
    told = response if isinstance(response, dict) else {}
    status, body = told.get("status_code"), told.get("body")
    if status == 200 and isinstance(body, dict) and body.get("choices"):
        return Result(key, number, body)
    raw = json.dumps(error if body is None else body, ensure_ascii=False)
    return Result(key, number, None, raw, f"HTTP {status}" if isinstance(status, int) else "no reply")


def _numbers(lines: Sequence[int]) -> str:
    named = ", ".join(map(str, lines[:5]))
    return named + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")  # five are named


BATCHES = "batches.jsonl"


@dataclass(frozen=True, slots=True)
class Submitted:
    """One batch.

    Attributes:
        name: Our name for it, which also stands in its metadata.
        base_url: The endpoint's address.
        stage: The stage that asked.
        state: The last state that the journal has of it.
        limit_name: The name under which the endpoint knows the token limit.
        file_id: The provider's name for the file of requests; empty before it is uploaded.
        batch_id: The provider's name for the batch; empty before it is acknowledged.
    """

    name: str
    base_url: str
    stage: str
    state: str
    limit_name: str
    file_id: str = ""
    batch_id: str = ""


class Journal:
    """The batches of one cache.

    Args:
        folder: The cache's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self._folder = folder / BATCHES, folder / "batches"

    @contextmanager
    def alone(self) -> Iterator[Self]:
        """Keep every other process from submitting or merging batches of this cache meanwhile.

        Raises:
            RunError: Another process does.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._folder / "lock.db", timeout=0, isolation_level=None)) as lock:
            try:
                lock.execute("BEGIN EXCLUSIVE")  # released by the system when the process ends, however it ends
            except sqlite3.OperationalError:
                raise RunError(
                    "another run is handling the batches of this cache",
                    where=str(self.file),
                    hint="Wait for it or end it; the batches themselves go on.",
                ) from None
            yield self

    def requests_file(self, name: str) -> Path:
        """Where a batch's requests lie: key and content, a line each."""
        return self._folder / f"{name}.jsonl"

    def plan(self, batch: Submitted, requests: Sequence[TeacherRequest]) -> None:
        """Write a batch's requests to disk, then its name into the journal."""
        lines = (json.dumps({"key": each.key(), "request": each.content()}) for each in requests)
        write_whole(self.requests_file(batch.name), "".join(line + "\n" for line in lines).encode("ascii"))
        self.note(batch)

    def note(self, batch: Submitted, **more: Any) -> None:
        """Append a batch's state; it is on disk when this returns.

        Raises:
            CacheDamaged: The file cannot be written.
        """
        line = {name: getattr(batch, name) for name in Submitted.__slots__} | more
        line["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        append(self.file, [line])

    def pending(self, base_url: str) -> dict[Submitted, Mapping[str, dict[str, Any]]]:
        """Return every batch at an address that has no end yet, with the content of its requests by their keys.

        A batch whose file of requests was removed is left out: that is how a person gives it up.

        Raises:
            CacheDamaged: A file cannot be read.
        """
        last = {batch.name: batch for batch in self._lines() if batch.base_url == base_url}
        waiting = [batch for batch in last.values() if batch.state not in ("merged", "refused", "dropped")]
        return {batch: self._requests(batch.name) for batch in waiting if self.requests_file(batch.name).exists()}

    def _lines(self) -> Iterator[Submitted]:
        if not self.file.exists():
            return
        with self.file.open("rb") as lines:
            for line in lines:
                try:
                    value = json.loads(line)
                    yield Submitted(**{name: value[name] for name in Submitted.__slots__})
                except (ValueError, TypeError, KeyError):  # torn by kill -9: the state before it counts
                    continue

    def _requests(self, name: str) -> dict[str, dict[str, Any]]:
        try:
            lines = map(json.loads, self.requests_file(name).read_bytes().splitlines())
            return {line["key"]: line["request"] for line in lines}
        except (OSError, ValueError, TypeError, KeyError):
            raise CacheDamaged(
                "the requests of a batch cannot be read",
                where=str(self.requests_file(name)),
                hint="Remove the file to give the batch up; its requests are then asked again.",
            ) from None


def uploaded(batch: Submitted, file_id: str) -> Submitted:
    """Return the batch with its file uploaded."""
    return replace(batch, state="uploaded", file_id=file_id)


def acknowledged(batch: Submitted, batch_id: str) -> Submitted:
    """Return the batch as the provider has acknowledged it."""
    return replace(batch, state="submitted", batch_id=batch_id)


_TOGETHER = 500  # answers in one transaction


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of some results.

    Attributes:
        answers: Answers that are in the cache now.
        failures: Results that give none; the failure log has them.
        usage: What they took.
        cost: What they cost; where the endpoint did not say, the worst case.
    """

    answers: int
    failures: int
    usage: Usage
    cost: Amount


def merge(
    given: Round[Any], asked: Mapping[str, Mapping[str, Any]], results: Sequence[Result], *, name: str | None = None
) -> Merged:
    """Write results to the cache and the failure log, then what they cost to the ledger.

    Doing it again with the same results changes nothing.

    Args:
        given: The round that they belong to.
        asked: The content of the requests by their keys.
        results: Results of these requests, one each at most.
        name: What the batch is held under in the ledger; None for one that is not held.
    """
    wanted = {question.request_in(form).key() for question in given.questions for form in AnswerFormat}
    entries: list[Entry] = []
    failures: list[Failure] = []
    for result in results:
        found = _read(given, result, wanted=result.key in wanted)
        if found is None and result.answer is not None:
            entries.append(Entry(result.key, asked[result.key], result.answer))
        elif found is not None:
            failures.append(replace(found, key=result.key))
    waiting = iter(entries)
    while together := list(islice(waiting, _TOGETHER)):
        given.cache.keep(together)
    if failures:
        FailureLog(given.cache.folder).add(*failures)
    usage, cost = _took(given, asked, results)
    ledger = given.budget.ledger
    if results or name:
        held = name or ledger.hold(given.budget.stage, given.section.model, cost, requests=len(results))
        ledger.settle(held, cost)
        ledger.close()
    return Merged(len(entries), len(failures), usage, cost)


def _read(given: Round[Any], result: Result, *, wanted: bool) -> Failure | None:
    """Return why a result gives no answer; None where it does."""
    if result.answer is None:
        return Failure(Cause.REJECTED, result.raw, result.code)
    # A batch may hold requests that the project has changed since: what they say is paid for and kept all the same.
    found = given.read(result.answer) if wanted else content_of(result.answer)
    return found if isinstance(found, Failure) else None


def _took(given: Round[Any], asked: Mapping[str, Mapping[str, Any]], results: Sequence[Result]) -> tuple[Usage, Amount]:
    budget = given.budget
    known = worst_input = worst_output = input_tokens = output_tokens = 0
    answered = [result for result in results if result.answer is not None]
    for result in answered:
        tokens = Answered(result.answer or {}).tokens
        if tokens:
            known += 1
            input_tokens, output_tokens = input_tokens + tokens[0], output_tokens + tokens[1]
        else:
            worst = budget.worst(request_of(asked[result.key]))
            worst_input, worst_output = worst_input + worst.input, worst_output + worst.output
    nano = None if budget.price is None else budget.price.cost(input_tokens, output_tokens)
    usage = Usage(len(results), 0, input_tokens, output_tokens, nano, len(answered) - known)
    return usage, budget.amount(input_tokens + worst_input, output_tokens + worst_output)


def request_of(content: Mapping[str, Any]) -> TeacherRequest:
    """Return the request that has this content."""
    fields = {name: value for name, value in content.items() if name != "key_version"}
    return TeacherRequest(**fields | {"messages": tuple(fields["messages"])})
