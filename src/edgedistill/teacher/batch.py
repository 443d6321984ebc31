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

import asyncio
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeAlias
from urllib.parse import quote as quote_path

import httpx2

from edgedistill.errors import CacheDamaged, DataError, RunError, TeacherError, TeacherUnreachable
from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher.cache import CacheEntry, TeacherRequest, open_atomically
from edgedistill.teacher.endpoint import build_body, build_headers, build_refusal_error, build_teacher_error
from edgedistill.teacher.http_client import MAX_REPLY_BYTES, HttpClient, HttpReply, UnusableReply, run_to_end
from edgedistill.teacher.logs import FailureLog, append, is_cut_short
from edgedistill.teacher.parsing import Failure, FailureCause, extract_text
from edgedistill.teacher.replies import ChatAnswer, Fatal, Rejected, classify_status, parse_json, quote
from edgedistill.teacher.runner import REFUSED, REFUSED_ALIKE, RequestJob
from edgedistill.teacher.spending import Amount, Usage
from edgedistill_serve.task.task import list_some

URL: Final = "/v1/chat/completions"
METADATA_KEY = "edgedistill"
"""The key of a batch's metadata that holds our name for the batch."""
MAX_REQUESTS = 50_000
"""Requests in one file, the limit of the Batch API."""
MAX_BYTES = 200_000_000
"""Bytes of one file, the limit of the Batch API."""
_MAX_PAGES = 20  # pages of 100 batches, newest first, to search for a lost batch
_UNSUPPORTED = {404, 405, 501}
_BUSY = {408, 409, 429}
_TRIES = 4  # of a request that may be repeated
_TRANSFER_SECONDS = 3600.0  # that a file may take
_RESULT_BYTES = 64 * 2**10  # of a line of a results file, on average, at most

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

    Raises:
        TeacherUnreachable: The address is not valid, or an environment variable makes connections impossible.
        TeacherRefusedKey: The key contains characters that cannot be sent.
    """

    def __init__(self, section: TeacherSection, api_key: str) -> None:
        self._section = section
        self._headers = build_headers(section, api_key, os.environ)
        self._seconds = max(60.0, section.timeout_seconds)

    def upload(self, name: str, data: bytes) -> str:
        """Upload a file of requests; return its id. A file costs nothing, so this may be repeated."""
        file, form = (f"{name}.jsonl", data), {"purpose": "batch"}
        reply = self._checked(self._send("POST", "/files", file=file, form=form, seconds=_TRANSFER_SECONDS))
        return self._get_id(reply)

    def submit(self, name: str, file_id: str) -> str:
        """Submit a batch once, with our name in its metadata; return the provider's id.

        Raises:
            SubmissionUnacknowledged: No usable reply or a server error: the batch may exist.
            TeacherError: The batch was refused.
        """
        metadata = {METADATA_KEY: name}
        body = {"input_file_id": file_id, "endpoint": URL, "completion_window": "24h", "metadata": metadata}
        try:
            return self._get_id(self._checked(self._send("POST", "/batches", body, tries=1)))
        except TeacherUnreachable as error:
            raise SubmissionUnacknowledged from error

    def find(self, name: str, file_id: str) -> str | None:
        """Return the provider's id of the batch with our name or this input file, or None.

        Raises:
            BatchListUnsupported: The endpoint cannot list batches.
        """
        query = {"limit": "100"}
        for _ in range(_MAX_PAGES):
            reply = self._send("GET", "/batches", query=query)
            if reply.status in _UNSUPPORTED:
                raise BatchListUnsupported
            page = _read_object(self._checked(reply))
            batches = [batch for batch in page.get("data") or () if isinstance(batch, dict) and batch.get("id")]
            for batch in batches:
                ours = isinstance(batch.get("metadata"), dict) and batch["metadata"].get(METADATA_KEY) == name
                if ours or batch.get("input_file_id") == file_id:
                    return str(batch["id"])
            if not batches or not page.get("has_more"):
                break
            query["after"] = str(batches[-1]["id"])
        return None

    def get_status(self, batch_id: str) -> BatchStatus:
        """Return the status of a batch."""
        batch = _read_object(self._checked(self._send("GET", f"/batches/{quote_path(batch_id, safe='')}")))
        counts, errors = batch.get("request_counts"), batch.get("errors")
        counts = counts if isinstance(counts, dict) else {}
        listed = errors.get("data") if isinstance(errors, dict) else None
        codes = {str(error["code"]) for error in listed or () if isinstance(error, dict) and error.get("code")}
        return BatchStatus(
            id=batch_id,
            status=str(batch.get("status")),
            done=sum(_count(counts.get(name)) for name in ("completed", "failed")),
            total=_count(counts.get("total")),
            files=tuple(str(file) for file in (batch.get("output_file_id"), batch.get("error_file_id")) if file),
            code=quote(", ".join(sorted(codes))).removeprefix(": ").strip('"'),
        )

    def download(self, file_id: str, requests: int) -> list[bytes]:
        """Return the lines of the results file of a batch with so many requests."""
        path, max_bytes = f"/files/{quote_path(file_id, safe='')}/content", MAX_REPLY_BYTES + requests * _RESULT_BYTES
        return self._checked(self._send("GET", path, seconds=_TRANSFER_SECONDS, max_bytes=max_bytes)).body.splitlines()

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, tries: int = _TRIES, **options: Any
    ) -> HttpReply:
        """Send a request; repeat it while the service is busy or does not answer."""

        async def send() -> HttpReply:
            async with HttpClient(self._section.base_url, self._headers, self._seconds) as client:
                for number in range(1, tries + 1):
                    try:
                        reply = await client.send(method, path, body, **options)
                    except (TimeoutError, httpx2.HTTPError):
                        if number == tries:
                            raise
                    else:
                        if number == tries or not (reply.status in _BUSY or reply.status >= 500):
                            return reply
                    await asyncio.sleep(0.5 * 2 ** (number - 1))
                raise AssertionError("the last try returns or raises")

        try:
            return run_to_end(send())
        except (TimeoutError, httpx2.HTTPError, UnusableReply) as error:
            what = f"the reply of its batch service cannot be used: {error}"
            raise TeacherUnreachable(
                what if isinstance(error, UnusableReply) else "its batch service does not answer",
                where=self._section.base_url,
                hint="Run the same command again: it continues with the submitted batches.",
            ) from error

    def _checked(self, reply: HttpReply) -> HttpReply:
        """Return a reply with status 2xx; raise the error for any other."""
        status, where = reply.status, self._section.base_url
        if 200 <= status < 300:
            return reply
        if status >= 500 and status not in _UNSUPPORTED:
            raise TeacherUnreachable(f"its batch service failed (HTTP {status})", where=where)
        if status in _UNSUPPORTED:
            raise TeacherError(
                f"it has no such batch, file or batch service (HTTP {status})",
                where=where,
                hint="Label without --batch, or exchange the files by hand with --batch-out and --batch-in.",
            )
        outcome = classify_status(status, reply.headers, reply.text, formatted=False, verified=False)
        if isinstance(outcome, Fatal):
            raise build_teacher_error(replace(outcome, sentence=""), self._section)
        raise TeacherError(f"its batch service refused the request (HTTP {status})", where=where)

    def _get_id(self, reply: HttpReply) -> str:
        ident = _read_object(reply).get("id")
        if isinstance(ident, str) and ident:
            return ident
        raise TeacherUnreachable("its batch service sent no id", where=self._section.base_url)


def _read_object(reply: HttpReply) -> dict[str, Any]:
    value = parse_json(reply.text)
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one request of a batch.

    Attributes:
        key: The request's key, its ``custom_id``.
        line: The line number in the file, from 1.
        answer: The chat completion; None if there is none.
        raw: What the line holds instead of an answer, as text.
        code: The HTTP status in words, if there is no answer.
        status: The HTTP status, if there is no answer; 0 if there was no reply.
    """

    key: str
    line: int
    answer: dict[str, Any] | None = field(repr=False)
    raw: str = field(default="", repr=False)
    code: str = ""
    status: int = 0


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
        return "; ".join(f"{len(lines)} {what} lines ({list_some(lines)})" for what, lines in parts if lines)


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
        with open_atomically(file) as out:
            out.write(data)
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
        value = parse_json(line)
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
    if not isinstance(status, int):
        return BatchResult(key, number, None, raw, "no reply")
    return BatchResult(key, number, None, raw, f"HTTP {status}", status)


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
        """Write a batch's first line to the log, then its requests to disk: without them it counts as given up."""
        self.append(batch)
        lines = (json.dumps({"key": each.key(), "request": each.content()}) for each in requests)
        write_atomically(self.requests_file(batch.name), "".join(line + "\n" for line in lines).encode("ascii"))

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

    def _records(self) -> list[BatchRecord]:
        records = []
        for number, line in enumerate(self.file.read_bytes().splitlines() if self.file.exists() else (), 1):
            try:
                value = json.loads(line)
                records.append(BatchRecord(**{name: value[name] for name in BatchRecord.__slots__}))
            except (ValueError, TypeError, KeyError):  # cut short by kill -9: the state before it counts
                if not is_cut_short(line):
                    raise self._damage(f"line {number} of the log of batches cannot be read") from None
        known = {batch.name for batch in records}
        if lost := sorted(file for file in self._folder.glob("ed-*.jsonl") if file.stem not in known):
            raise self._damage(f"the batch {lost[0].stem} is missing in the log of batches")
        return records

    def _damage(self, what: str) -> CacheDamaged:
        return CacheDamaged(
            f"{what}: it may be paid for",
            where=str(self.file),
            hint=f"Restore the file from a backup. To give its batches up, remove it and the folder {self._folder}: "
            "their requests are then sent again.",
        )

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
        refusals: By key, the requests that were refused because of their content.
    """

    answers: int
    failures: int
    usage: Usage
    cost: Amount
    refusals: Mapping[str, Rejected]


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
    refusals: dict[str, Rejected] = {}
    for result in results:
        if (refusal := _find_refusal(result)) is not None:
            refusals[result.key] = refusal
        if failure := _find_failure(job, result, expected=result.key in keys):
            failures.append(replace(refusal.failure if refusal else failure, key=result.key))
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
    return MergeResult(len(entries), len(failures), usage, cost, refusals)


def _find_refusal(result: BatchResult) -> Rejected | None:
    """Return the refusal of a request that would be refused again; None for answers and passing faults."""
    if result.answer is not None or not result.status:
        return None
    outcome = classify_status(result.status, {}, result.raw, formatted=True, verified=True)
    return outcome if isinstance(outcome, Rejected) else None


def pass_refusals(job: RequestJob[Any], contents: Contents, merged: MergeResult) -> None:
    """Pass the failures of refused requests on, so that they are not sent again.

    Args:
        job: The job that they belong to.
        contents: The requests.
        merged: What merging the results gave.

    Raises:
        TeacherError: The endpoint refused one response after the other and answered none.
    """
    refusals = merged.refusals
    again = job.failed_before if job.proven else ()
    new = {key: refusal for key, refusal in refusals.items() if key not in again}
    responses = {str(contents[key]["messages"][-1]["content"]): key for key in new}
    alike = [key for key in responses.values() if not refusals[key].filtered]
    if not merged.answers and (len(alike) >= REFUSED_ALIKE or len(responses) >= REFUSED):
        key = (alike or list(new))[0]
        sentence = quote(refusals[key].sentence, request_from_content(contents[key]))
        raise build_refusal_error(replace(refusals[key], sentence=sentence), job.section, len(responses))
    for request in job.requests if refusals else ():
        if refused := request.keys() & refusals.keys():
            key = refused.pop()
            job.refused.add(request.name)
            request.on_result(replace(refusals[key].failure, key=key))


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
