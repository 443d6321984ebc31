"""What happens to requests before they are sent one by one: the dispatch modes.

SendNow          report an estimate, then let them be sent
EstimateOnly     report an estimate and stop
WriteBatchFile   write them to Batch API files and stop
ReadBatchFile    read their answers from Batch API results files
SubmitBatches    send them through the provider's Batch API; a stopped run continues

Submitting a batch costs money, so no batch is submitted twice. Its requests and our name for it are on disk before it
is submitted, and the name is in its metadata. If the reply to the submission is lost, with the connection or with the
process, the provider's list of batches is searched for the name; only a batch that is not in the list is submitted
again. If the provider has no such list, the run stops and says what to check.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill.errors import AnswersMissing, DataError, Paused, RunError, TeacherError, TeacherUnreachable
from edgedistill.teacher.batch import (
    BatchApi,
    BatchListUnsupported,
    BatchLog,
    BatchRecord,
    BatchResult,
    BatchStatus,
    Contents,
    SubmissionUnacknowledged,
    merge_results,
    pass_refusals,
    read_results,
    request_from_content,
    request_line,
    split_into_files,
    write_atomically,
)
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.endpoint import Capabilities
from edgedistill.teacher.runner import RequestJob, send_requests
from edgedistill.teacher.spending import CostEstimate, Usage, estimate_requests, sample_indices

_FEW = 100
"""As many requests that a batch left unanswered are sent one by one; more go into another batch."""
_MAX_BATCHES = 3
"""Batches that one request is put into, at most."""
_SEARCHES = 2
"""How often the provider's list is searched before a batch counts as not submitted."""


def estimate_job(job: RequestJob[Any]) -> CostEstimate:
    """Estimate usage and cost of a job from a sample of its prompts."""
    requests = job.requests
    sample = [requests[index].build_request(AnswerFormat.SCHEMA) for index in sample_indices(len(requests))]
    return estimate_requests(sample, len(requests), job.budget)


def _require_no_batch(job: RequestJob[Any]) -> None:
    """Raise if a submitted batch holds some of the requests, which would then be paid for twice."""
    log, keys = BatchLog(job.cache.folder), job.keys()
    for batch, contents in log.pending(job.section.base_url).items():
        if batch.state != "planned" and (waiting := len(keys & contents.keys())):
            raise RunError(
                f"{waiting:,} of these requests are in the submitted batch {batch.batch_id or batch.name}",
                where=job.section.base_url,
                hint="Run with --batch to get its results; or cancel it at the provider and remove "
                f"{log.requests_file(batch.name)}.",
            )


@dataclass(frozen=True, slots=True)
class SendNow:
    """Report an estimate before the first request is sent.

    Attributes:
        on_estimate: Called with the estimate; not called if every answer is cached.
    """

    on_estimate: Callable[[CostEstimate], None]

    def prepare(self, job: RequestJob[Any]) -> None:
        """Report the estimate.

        Raises:
            RunError: A submitted batch holds some of the requests.
        """
        if job.requests:
            _require_no_batch(job)
            self.on_estimate(estimate_job(job))


@dataclass(frozen=True, slots=True)
class EstimateOnly:
    """Report an estimate and stop.

    Attributes:
        teacher: The teacher's name if there are several, else empty.
    """

    teacher: str = ""

    def prepare(self, job: RequestJob[Any]) -> None:
        """Stop with the estimate.

        Raises:
            Paused: Always.
        """
        estimate = estimate_job(job)
        message = f"{self.teacher}: {estimate.summary}" if self.teacher else estimate.summary
        raise Paused(message, {"teacher": self.teacher, "estimate": asdict(estimate)})


@dataclass(frozen=True, slots=True)
class WriteBatchFile:
    """Write the requests to Batch API files and stop.

    Attributes:
        file: The first file; if the limits of the Batch API require several, the others are ``NAME-2.SUFFIX`` and so
            on.
    """

    file: Path

    def prepare(self, job: RequestJob[Any]) -> None:
        """Write the files.

        Raises:
            Paused: The requests are written; not raised if there are none.
            DataError: A file cannot be written.
            RunError: A submitted batch holds some of the requests.
        """
        if not job.requests:
            return
        _require_no_batch(job)
        requests = (request.build_request(AnswerFormat.SCHEMA) for request in job.requests)
        files, count = [], 0
        for number, lines in enumerate(split_into_files(requests, "max_tokens"), 1):
            file = self.file if number == 1 else self.file.with_stem(f"{self.file.stem}-{number}")
            write_atomically(file, b"".join(line for _, line in lines))
            files.append(str(file))
            count += len(lines)
        raise Paused(
            f"wrote {count:,} requests to {', '.join(files)}",
            {"files": files, "requests": count, "estimate": asdict(estimate_job(job))},
            hint="Read the results with --batch-in.",
        )


@dataclass(frozen=True, slots=True)
class ReadBatchFile:
    """Read the answers from Batch API results files; nothing is sent.

    Attributes:
        files: The files.
        on_message: Called with a line for each file.
    """

    files: Sequence[Path]
    on_message: Callable[[str], None]

    def prepare(self, job: RequestJob[Any]) -> Usage:
        """Write the files' answers to the cache.

        Returns:
            Their usage.

        Raises:
            DataError: A file cannot be read.
            AnswersMissing: Requests have no answer yet.
        """
        usage = job.no_usage
        for file in self.files:
            usage += self._read(job, file)
        if missing := len(job.unanswered()):
            raise AnswersMissing(
                f"{missing} of {len(job.requests)} requests have no answer yet",
                where=", ".join(map(str, self.files)),
                hint="Write them to a file with --batch-out, or run without --batch-in to send them to the endpoint.",
            )
        return usage

    def _read(self, job: RequestJob[Any], file: Path) -> Usage:
        try:
            lines = file.read_bytes().splitlines()
        except OSError as error:
            raise DataError(f"the file cannot be read: {error.strerror}", where=str(file)) from error
        contents = {
            request.key(): request.content()
            for pending in job.requests
            for request in map(pending.build_request, AnswerFormat)
        }
        cached = job.cache.keys()
        read = read_results(lines, contents.keys() | cached)
        merged = merge_results(job, contents, [result for result in read.results if result.key not in cached])
        present = sum(result.key in cached for result in read.results)
        parts = [f"{merged.answers} answers added", f"{present} already cached", f"{merged.failures} unusable"]
        self.on_message(f"{file}: {', '.join(parts)}" + (f"; skipped: {read.skipped}" if read.skipped else ""))
        pass_refusals(job, contents, merged)
        return merged.usage


@dataclass(frozen=True, slots=True)
class SubmitBatches:
    """Send the requests through the provider's Batch API.

    Attributes:
        on_message: Called with a line about each step.
        on_estimate: Called with the estimate before anything is submitted.
        poll_seconds: Seconds between two requests for a batch's status.
        sleep: Waits so many seconds.
    """

    on_message: Callable[[str], None]
    on_estimate: Callable[[CostEstimate], None]
    poll_seconds: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def prepare(self, job: RequestJob[Any]) -> Usage:
        """Put every request into a batch and wait for the answers; requests without one are sent one by one later.

        Returns:
            The usage.

        Raises:
            RunError: Another run is handling the batches, or it is unknown whether a batch was submitted.
            TeacherError: The provider refuses, or a batch fails as a whole.
            BudgetReached: A batch could cost more than is left.
        """
        if not job.requests:
            return job.no_usage
        with BatchLog(job.cache.folder).locked() as log:
            try:
                return _BatchRun(self, job, log, BatchApi(job.section, job.key)).run()
            finally:
                job.budget.spending_log.close()


class _BatchRun:
    """Takes the requests of one job through the provider's batches."""

    def __init__(self, mode: SubmitBatches, job: RequestJob[Any], log: BatchLog, api: BatchApi) -> None:
        self._mode, self._job, self._log, self._api = mode, job, log, api
        self._capabilities: Capabilities | None = None

    def run(self) -> Usage:
        """Continue with the submitted batches, then put unanswered requests into new ones."""
        usage, job = self._job.no_usage, replace(self._job, requests=self._job.unanswered())
        self._drop_unsubmitted()
        for number in range(_MAX_BATCHES):
            pending = self._pending(job)
            covered = {key for contents in pending.values() for key in contents}
            uncovered = [request for request in job.requests if not covered & request.keys()]
            if uncovered and not (number and len(uncovered) <= _FEW):
                usage += self._plan(replace(job, requests=uncovered))
                pending = self._pending(job)
            if not pending:
                break
            submitted = [(self._submit(batch, contents), contents) for batch, contents in pending.items()]
            for batch, contents in submitted:
                usage += self._merge(batch, contents)
            job = replace(job, requests=job.unanswered())
        return usage

    def _drop_unsubmitted(self) -> None:
        """Drop batches that a stopped run planned and did not submit: their requests go into new ones."""
        for batch in self._log.pending(self._job.section.base_url):
            if batch.state == "planned":
                self._end(batch, "dropped")

    def _pending(self, job: RequestJob[Any]) -> dict[BatchRecord, Contents]:
        """Return the unfinished batches that hold a request of the job."""
        keys = job.keys()
        pending = self._log.pending(self._job.section.base_url)
        return {batch: contents for batch, contents in pending.items() if keys & contents.keys()}

    def _plan(self, job: RequestJob[Any]) -> Usage:
        """Write new batches to the log.

        The first requests are sent by themselves until one is answered, usually one: a wrong key, model or parameter
        then costs one request and no batch, and the answer shows which answer format and which name of the token limit
        the endpoint supports.
        """
        usage = job.no_usage
        if self._capabilities is None:
            self._mode.on_estimate(estimate_job(job))
            usage, self._capabilities = send_requests(replace(job, on_progress=None), only_first=True)
        known = self._capabilities
        requests = [request.build_request(known.answer_format) for request in job.unanswered()]
        for lines in split_into_files(requests, known.limit_name):
            name = f"ed-{secrets.token_hex(8)}"
            batch = BatchRecord(name, job.section.base_url, job.budget.stage, "planned", known.limit_name)
            self._log.add(batch, [request for request, _ in lines])
        return usage

    def _submit(self, batch: BatchRecord, contents: Contents) -> BatchRecord:
        """Upload and submit a batch, unless an earlier run has; return it as acknowledged by the provider."""
        if batch.batch_id:
            self._mode.on_message(f"batch {batch.batch_id}: {len(contents):,} requests, submitted by an earlier run")
            return batch
        if batch.state == "planned":
            requests = [request_from_content(content) for content in contents.values()]
            self._job.budget.reserve_batch(batch.name, requests)
            data = b"".join(request_line(request, batch.limit_name) for request in requests)
            batch = replace(batch, state="uploaded", file_id=self._api.upload(batch.name, data))
            self._log.append(batch)
            batch_id = self._submit_uploaded(batch)
        else:
            batch_id = self._find(batch) or self._submit_uploaded(batch)
        batch = replace(batch, state="submitted", batch_id=batch_id)
        self._log.append(batch)
        self._mode.on_message(f"batch {batch_id}: {len(contents):,} requests submitted")
        return batch

    def _submit_uploaded(self, batch: BatchRecord) -> str:
        for _ in range(self._job.section.tries):
            try:
                return self._api.submit(batch.name, batch.file_id)
            except SubmissionUnacknowledged:
                batch_id = self._find(batch)
                if batch_id:
                    return batch_id
            except TeacherError:
                self._end(batch, "refused")
                raise
        raise TeacherUnreachable(
            "it does not accept the batch",
            where=batch.base_url,
            hint="Run the same command again later; nothing was submitted.",
        )

    def _find(self, batch: BatchRecord) -> str | None:
        """Return the provider's id of a batch whose acknowledgement was lost, or None if it was not submitted."""
        for search in range(_SEARCHES):
            if search:
                self._mode.sleep(self._mode.poll_seconds)  # a batch that was just submitted may not be listed yet
            try:
                batch_id = self._api.find(batch.name, batch.file_id)
            except BatchListUnsupported:
                raise RunError(
                    f"it is unknown whether the endpoint accepted the batch {batch.name}, since it cannot list batches",
                    where=batch.base_url,
                    hint="Check the provider's own page. If the batch is not there, remove "
                    f"{self._log.requests_file(batch.name)} and run again: its requests are then submitted again.",
                ) from None
            if batch_id:
                return batch_id
        return None

    def _merge(self, batch: BatchRecord, contents: Contents) -> Usage:
        """Wait for a batch to end and merge its results."""
        status = self._wait(batch)
        if not status.files and status.status == "failed":
            self._end(batch, "refused")
            raise TeacherError(
                f"the batch {batch.batch_id} failed at the provider ({status.code or 'no reason given'})",
                where=batch.base_url,
                hint="Fix the reason, or label without --batch.",
            )
        results: list[BatchResult] = []
        for file in status.files:
            read = read_results(self._api.download(file, len(contents)), contents, {result.key for result in results})
            results += read.results
            if read.skipped:
                self._mode.on_message(f"batch {batch.batch_id}, file {file}: skipped {read.skipped}")
        merged = merge_results(self._job, contents, results, name=batch.name)
        missing = len(contents) - len(results)
        self._mode.on_message(
            f"batch {batch.batch_id}: {status.status}; {len(contents):,} requests = {merged.answers:,} answers + "
            f"{merged.failures:,} unusable + {missing:,} without a result"
        )
        self._log.append(
            replace(batch, state="merged"), answers=merged.answers, failures=merged.failures, missing=missing
        )
        pass_refusals(self._job, contents, merged)
        return merged.usage

    def _wait(self, batch: BatchRecord) -> BatchStatus:
        reported = ""
        while not (status := self._api.get_status(batch.batch_id)).ended:
            message = f"batch {batch.batch_id}: {status.status}, {status.done:,} of {status.total:,} done"
            if message != reported:
                self._mode.on_message(message)
                reported = message
            self._mode.sleep(self._mode.poll_seconds)
        return status

    def _end(self, batch: BatchRecord, state: str) -> None:
        """Log that a batch has ended without results and costs nothing."""
        spending_log = self._job.budget.spending_log
        spending_log.catch_up()
        if spending_log.has_reservation(batch.name):
            spending_log.settle(batch.name, self._job.budget.amount(0, 0))
        self._log.append(replace(batch, state=state))
