"""Which batches were submitted and what became of them, on disk before anybody is told.

Journal       ``batches.jsonl`` in the cache's folder, append-only; the requests themselves lie in ``batches/``
└── Submitted one batch as the journal knows it

    planned     the requests are on disk, and a name of our own is given to them
    uploaded    the provider has the file
    submitted   the provider has acknowledged the batch
    merged      every result is in the cache or among the failures
    refused     the provider did not take it, or failed it as a whole
    dropped     it was planned, and the run was stopped before it was submitted
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from edgedistill.errors import CacheDamaged, RunError
from edgedistill.teacher.batch_file import write_whole
from edgedistill.teacher.lines import append
from edgedistill.teacher.request import TeacherRequest

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
                    mend="Wait for it or end it; the batches themselves go on.",
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
                mend="Remove the file to give the batch up; its requests are then asked again.",
            ) from None


def uploaded(batch: Submitted, file_id: str) -> Submitted:
    """Return the batch with its file uploaded."""
    return replace(batch, state="uploaded", file_id=file_id)


def acknowledged(batch: Submitted, batch_id: str) -> Submitted:
    """Return the batch as the provider has acknowledged it."""
    return replace(batch, state="submitted", batch_id=batch_id)
