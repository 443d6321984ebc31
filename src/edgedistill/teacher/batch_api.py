"""The batch endpoints of a provider: upload, submit, look, fetch; each one call, its errors ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import openai

from edgedistill.errors import TeacherError, TeacherUnreachable
from edgedistill.project.sections import TeacherSection
from edgedistill.teacher.batch_file import URL
from edgedistill.teacher.outcomes import Fatal, outcome_of_status
from edgedistill.teacher.stopping import stopped

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
                    mend="Label without --batch, or exchange the files by hand with --batch-out and --batch-in.",
                ) from error
            if isinstance(outcome, Fatal):
                raise stopped(outcome, self._section) from error
            raise TeacherError(f"its batch service refuses (HTTP {status})", where=where) from error
        except openai.OpenAIError as error:
            raise TeacherUnreachable(
                "its batch service does not answer",
                where=where,
                mend="Run the same command again: it goes on with the batches that were submitted.",
            ) from error
