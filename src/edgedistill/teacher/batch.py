"""The OpenAI Batch API: its client, its files, the log of submitted batches, merging results into the cache.

BatchApi      the provider's batch endpoints
BatchResults  a results file; every line is accounted for
BatchLog      ``batches.jsonl`` in the cache's folder, append-only; the requests are in ``batches/``
MergeResult   what merging results into the cache gave

A batch in the log has one of these states:

    planned     its requests and name are on disk
    uploaded    the provider has the file
    submitted   the provider has acknowledged the batch
    merged      every result is in the cache or in the failure log
    refused     the provider refused it, or it failed as a whole
    dropped     it was planned, and the run stopped before it was submitted
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
from typing import Any, Final, Self, TypeAlias

import openai

from edgedistill.errors import CacheDamaged, DataError, RunError, TeacherError, TeacherUnreachable
from edgedistill.project.schema import TeacherSection
from edgedistill.teacher.cache import CacheEntry, TeacherRequest
from edgedistill.teacher.endpoint import ChatAnswer, Fatal, build_body, build_teacher_error, classify_status
from edgedistill.teacher.logs import FailureLog, append
from edgedistill.teacher.parsing import Failure, FailureCause, extract_text
from edgedistill.teacher.runner import RequestJob
from edgedistill.teacher.spending import Amount, Usage

URL: Final = "/v1/chat/completions"
METADATA_KEY = "edgedistill"
"""The key of a batch's metadata that holds our name for the batch."""
MAX_REQUESTS = 50_000
"""Requests in one file, the limit of the Batch API."""
MAX_BYTES = 200_000_000
"""Bytes of one file, the limit of the Batch API."""
_MAX_PAGES = 20  # pages of 100 batches, newest first, to search for a lost batch
_UNSUPPORTED = {404, 405, 501}

Contents: TypeAlias = Mapping[str, Mapping[str, Any]]
"""`TeacherRequest.content` of requests, by their keys."""


class SubmissionUnacknowledged(Exception):
    """The reply to a submission did not arrive: the batch may or may not exist."""


class BatchListUnsupported(Exception):
    """The endpoint cannot list batches."""


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """The status of a batch at the provider.

    Attributes:
        id: The provider's id.
        status: ``validating``, ``in_progress``, ``completed``, ``failed``, ``expired`` and so on.
        done: Requests that are answered or have failed.
        total: Its requests, 0 before they are counted.
        files: Ids of its output file and its error file, if they exist.
        code: The provider's error codes if the batch failed as a whole, else empty.
    """

    id: str
    status: str
    done: int
    total: int
    files: tuple[str, ...]
    code: str

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
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
        self._without_retries = self._client.with_options(max_retries=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def upload(self, name: str, data: bytes) -> str:
        """Upload a file of requests; return its id. A file costs nothing, so this may be repeated."""
        with self._translated_errors():
            return self._client.files.create(file=(f"{name}.jsonl", data), purpose="batch").id

    def submit(self, name: str, file_id: str) -> str:
        """Submit a batch once, with our name in its metadata; return the provider's id.

        Raises:
            SubmissionUnacknowledged: No reply or a server error: the batch may exist.
            TeacherError: The batch was refused.
        """
        try:
            with self._translated_errors():
                batch = self._without_retries.batches.create(
                    input_file_id=file_id, endpoint=URL, completion_window="24h", metadata={METADATA_KEY: name}
                )
                return batch.id
        except TeacherUnreachable as error:
            raise SubmissionUnacknowledged from error

    def find(self, name: str, file_id: str) -> str | None:
        """Return the provider's id of the batch with our name or this input file, or None.

        Raises:
            BatchListUnsupported: The endpoint cannot list batches.
        """
        try:
            with self._translated_errors():
                for number, batch in enumerate(self._client.batches.list(limit=100)):
                    if (batch.metadata or {}).get(METADATA_KEY) == name or batch.input_file_id == file_id:
                        return batch.id
                    if number >= _MAX_PAGES * 100:
                        break
        except TeacherError as error:
            cause = error.__cause__
            if isinstance(cause, openai.APIStatusError) and cause.status_code in _UNSUPPORTED:
                raise BatchListUnsupported from error
            raise
        return None

    def get_status(self, batch_id: str) -> BatchStatus:
        """Return the status of a batch."""
        with self._translated_errors():
            batch = self._client.batches.retrieve(batch_id)
        counts, errors = batch.request_counts, (batch.errors.data if batch.errors else None) or []
        return BatchStatus(
            id=batch.id,
            status=batch.status,
            done=counts.completed + counts.failed if counts else 0,
            total=counts.total if counts else 0,
            files=tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
            code=", ".join(sorted({str(error.code) for error in errors if error.code})),
        )

    def download(self, file_id: str) -> list[bytes]:
        """Return the lines of a results file."""
        with self._translated_errors():
            return self._client.files.content(file_id).read().splitlines()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        where = self._section.base_url
        try:
            yield
        except openai.APIStatusError as error:
            status, body = error.status_code, error.response.text
            outcome = classify_status(status, error.response.headers, body, formatted=False, verified=False)
            if status >= 500:
                raise TeacherUnreachable(f"its batch service failed (HTTP {status})", where=where) from error
            if status in _UNSUPPORTED:
                raise TeacherError(
                    f"it has no such batch, file or batch service (HTTP {status})",
                    where=where,
                    hint="Label without --batch, or exchange the files by hand with --batch-out and --batch-in.",
                ) from error
            if isinstance(outcome, Fatal):
                raise build_teacher_error(outcome, self._section) from error
            raise TeacherError(f"its batch service refused the request (HTTP {status})", where=where) from error
        except openai.OpenAIError as error:
            raise TeacherUnreachable(
                "its batch service does not answer",
                where=where,
                hint="Run the same command again: it continues with the submitted batches.",
            ) from error


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one request of a batch.

    Attributes:
        key: The request's key, its ``custom_id``.
        line: The line number in the file, from 1.
        answer: The chat completion; None if there is none.
        raw: What the line holds instead of an answer, as text.
        code: The HTTP status, if there is no answer.
    """

    key: str
    line: int
    answer: dict[str, Any] | None
    raw: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class BatchResults:
    """A results file; each line that is not blank is in exactly one of the four.

    Attributes:
        results: The first result of each expected request.
        damaged: Numbers of the lines that are not results.
        unknown: Numbers of the lines about requests that were not expected.
        duplicate: Numbers of the lines about requests that an earlier line answers.
    """

    results: tuple[BatchResult, ...]
    damaged: tuple[int, ...]
    unknown: tuple[int, ...]
    duplicate: tuple[int, ...]

    @property
    def skipped(self) -> str:
        """The lines that were not used, by number; empty if there are none."""
        parts = (("damaged", self.damaged), ("unknown", self.unknown), ("duplicate", self.duplicate))
        return "; ".join(f"{len(lines)} {what} lines ({_format_numbers(lines)})" for what, lines in parts if lines)


def request_line(request: TeacherRequest, limit_name: str) -> bytes:
    """Return a request's line of a batch file; its ``custom_id`` is the key."""
    line = {"custom_id": request.key(), "method": "POST", "url": URL, "body": build_body(request, limit_name)}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def split_into_files(
    requests: Iterable[TeacherRequest],
    limit_name: str,
    *,
    max_requests: int = MAX_REQUESTS,
    max_bytes: int = MAX_BYTES,
) -> Iterator[list[tuple[TeacherRequest, bytes]]]:
    """Split requests, in order, into files within the limits.

    Args:
        requests: The requests; only the first with each key is used.
        limit_name: The endpoint's name of the token limit.
        max_requests: Requests in a file.
        max_bytes: Bytes of a file.
    """
    lines: list[tuple[TeacherRequest, bytes]] = []
    size, seen = 0, set[str]()
    for request in requests:
        if request.key() in seen:
            continue
        seen.add(request.key())
        line = request_line(request, limit_name)
        if lines and (len(lines) == max_requests or size + len(line) > max_bytes):
            yield lines
            lines, size = [], 0
        lines.append((request, line))
        size += len(line)
    if lines:
        yield lines


def write_atomically(file: Path, data: bytes) -> None:
    """Write a temporary file, sync it to disk, and move it into place.

    Raises:
        DataError: It cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(file.name + ".part")
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except OSError as error:
        raise DataError(f"the file cannot be written: {error.strerror}", where=str(file)) from error


def read_results(lines: Iterable[bytes], keys: Collection[str], answered: Collection[str] = ()) -> BatchResults:
    """Read the lines of a results file, which may be an output file or an error file.

    Args:
        lines: The lines, in order.
        keys: The keys of the expected requests.
        answered: Keys that an earlier file answers.
    """
    results: list[BatchResult] = []
    skipped: dict[str, list[int]] = {"damaged": [], "unknown": [], "duplicate": []}
    seen = Counter(answered)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        result = _parse_result(line, number)
        if result is None:
            skipped["damaged"].append(number)
        elif result.key not in keys:
            skipped["unknown"].append(number)
        elif seen[result.key]:
            skipped["duplicate"].append(number)
        else:
            seen[result.key] += 1
            results.append(result)
    return BatchResults(tuple(results), *(tuple(skipped[what]) for what in ("damaged", "unknown", "duplicate")))


def _parse_result(line: bytes, number: int) -> BatchResult | None:
    try:
        value = json.loads(line)
        key, response, error = value["custom_id"], value.get("response"), value.get("error")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not isinstance(key, str) or not (isinstance(response, dict) or isinstance(error, dict)):
        return None
    reply = response if isinstance(response, dict) else {}
    status, body = reply.get("status_code"), reply.get("body")
    if status == 200 and isinstance(body, dict) and body.get("choices"):
        return BatchResult(key, number, body)
    raw = json.dumps(error if body is None else body, ensure_ascii=False)
    return BatchResult(key, number, None, raw, f"HTTP {status}" if isinstance(status, int) else "no reply")


def _format_numbers(lines: Sequence[int]) -> str:
    first = ", ".join(map(str, lines[:5]))
    return first + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")


BATCHES = "batches.jsonl"


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch in the log. The names of the attributes are the keys of its line.

    Attributes:
        name: Our name for it, which is also in its metadata.
        base_url: The endpoint's address.
        stage: The stage that sent it.
        state: Its last state in the log.
        limit_name: The endpoint's name of the token limit.
        file_id: The provider's id of the file of requests; empty before it is uploaded.
        batch_id: The provider's id of the batch; empty before it is acknowledged.
    """

    name: str
    base_url: str
    stage: str
    state: str
    limit_name: str
    file_id: str = ""
    batch_id: str = ""


class BatchLog:
    """The batches of one cache.

    Args:
        folder: The cache's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self._folder = folder / BATCHES, folder / "batches"

    @contextmanager
    def locked(self) -> Iterator[Self]:
        """Keep other processes from submitting or merging batches of this cache.

        Raises:
            RunError: Another process holds the lock.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._folder / "lock.db", timeout=0, isolation_level=None)) as lock:
            try:
                lock.execute("BEGIN EXCLUSIVE")  # released by the system when the process ends, however it ends
            except sqlite3.OperationalError:
                raise RunError(
                    "another run is handling the batches of this cache",
                    where=str(self.file),
                    hint="Wait for it or stop it; the batches themselves continue.",
                ) from None
            yield self

    def requests_file(self, name: str) -> Path:
        """Return the file of a batch's requests: key and content, one per line."""
        return self._folder / f"{name}.jsonl"

    def add(self, batch: BatchRecord, requests: Sequence[TeacherRequest]) -> None:
        """Write a batch's requests to disk, then its first line to the log."""
        lines = (json.dumps({"key": each.key(), "request": each.content()}) for each in requests)
        write_atomically(self.requests_file(batch.name), "".join(line + "\n" for line in lines).encode("ascii"))
        self.append(batch)

    def append(self, batch: BatchRecord, **more: Any) -> None:
        """Append a batch's state; it is on disk when this returns.

        Raises:
            CacheDamaged: The file cannot be written.
        """
        line = {name: getattr(batch, name) for name in BatchRecord.__slots__} | more
        line["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        append(self.file, [line])

    def pending(self, base_url: str) -> dict[BatchRecord, Contents]:
        """Return all unfinished batches at an address with their requests.

        A batch whose file of requests was removed is left out: this is how a person gives a batch up.

        Raises:
            CacheDamaged: A file cannot be read.
        """
        last = {batch.name: batch for batch in self._records() if batch.base_url == base_url}
        unfinished = [batch for batch in last.values() if batch.state not in ("merged", "refused", "dropped")]
        return {batch: self._requests(batch.name) for batch in unfinished if self.requests_file(batch.name).exists()}

    def _records(self) -> Iterator[BatchRecord]:
        if not self.file.exists():
            return
        with self.file.open("rb") as lines:
            for line in lines:
                try:
                    value = json.loads(line)
                    yield BatchRecord(**{name: value[name] for name in BatchRecord.__slots__})
                except (ValueError, TypeError, KeyError):  # incomplete after kill -9: the state before it counts
                    continue

    def _requests(self, name: str) -> Contents:
        try:
            lines = map(json.loads, self.requests_file(name).read_bytes().splitlines())
            return {line["key"]: line["request"] for line in lines}
        except (OSError, ValueError, TypeError, KeyError):
            raise CacheDamaged(
                "the requests of a batch cannot be read",
                where=str(self.requests_file(name)),
                hint="Remove the file to give the batch up; its requests are then sent again.",
            ) from None


_WRITE_SIZE = 500  # answers in one transaction


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What merging results into the cache gave.

    Attributes:
        answers: Answers that are in the cache now.
        failures: Results without a usable answer, which are in the failure log.
        usage: Their usage.
        cost: Their cost; the maximum cost where the endpoint did not report it.
    """

    answers: int
    failures: int
    usage: Usage
    cost: Amount


def merge_results(
    job: RequestJob[Any], contents: Contents, results: Sequence[BatchResult], *, name: str | None = None
) -> MergeResult:
    """Write results to the cache and the failure log, then their cost to the spending log.

    Merging the same results again changes nothing.

    Args:
        job: The job that they belong to.
        contents: The requests.
        results: Results of these requests, at most one each.
        name: The batch's name in the spending log; None if nothing is reserved for it.
    """
    keys = job.keys()
    entries: list[CacheEntry] = []
    failures: list[Failure] = []
    for result in results:
        failure = _find_failure(job, result, expected=result.key in keys)
        if failure is not None:
            failures.append(replace(failure, key=result.key))
        elif result.answer is not None:
            entries.append(CacheEntry(result.key, contents[result.key], result.answer))
    unwritten = iter(entries)
    while batch := list(islice(unwritten, _WRITE_SIZE)):
        job.cache.add_entries(batch)
    if failures:
        FailureLog(job.cache.folder).add(*failures)
    usage, cost = _sum_usage(job, contents, results)
    spending_log = job.budget.spending_log
    if results or name:
        reserved = name or spending_log.reserve(job.budget.stage, job.section.model, cost, requests=len(results))
        spending_log.settle(reserved, cost)
        spending_log.close()
    return MergeResult(len(entries), len(failures), usage, cost)


def _find_failure(job: RequestJob[Any], result: BatchResult, *, expected: bool) -> Failure | None:
    """Return why a result has no usable answer; None if it has one."""
    if result.answer is None:
        return Failure(FailureCause.REJECTED, result.raw, result.code)
    # A batch may hold requests that the project has changed since: their answers are paid for and saved, too.
    parsed = job.parse(result.answer) if expected else extract_text(result.answer)
    return parsed if isinstance(parsed, Failure) else None


def _sum_usage(job: RequestJob[Any], contents: Contents, results: Sequence[BatchResult]) -> tuple[Usage, Amount]:
    budget = job.budget
    metered = max_input = max_output = input_tokens = output_tokens = 0
    answered = [result for result in results if result.answer is not None]
    for result in answered:
        tokens = ChatAnswer(result.answer or {}).tokens
        if tokens:
            metered += 1
            input_tokens, output_tokens = input_tokens + tokens[0], output_tokens + tokens[1]
        else:
            max_cost = budget.max_cost(request_from_content(contents[result.key]))
            max_input, max_output = max_input + max_cost.input, max_output + max_cost.output
    nano = None if budget.price is None else budget.price.cost(input_tokens, output_tokens)
    usage = Usage(len(results), 0, input_tokens, output_tokens, nano, len(answered) - metered)
    return usage, budget.amount(input_tokens + max_input, output_tokens + max_output)


def request_from_content(content: Mapping[str, Any]) -> TeacherRequest:
    """Return the request with this `TeacherRequest.content`."""
    fields = {name: value for name, value in content.items() if name != "key_version"}
    return TeacherRequest(**fields | {"messages": tuple(fields["messages"])})
