"""The journal of a grading: counted part by part, and written once, so that no fault counts a row twice or loses it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.columns import MISSING, Batch, values
from edgedistill_serve.grading.grade_batch import GradeBatch
from edgedistill_serve.journal.records import (
    JOURNAL_VERSION,
    AuditDraw,
    AuditedResponse,
    Entry,
    JournalHeader,
    ScoredBy,
    ScoredCell,
    Tally,
    clean_id,
    hour_of,
    item_of,
)
from edgedistill_serve.journal.writer import check_folder, written_by
from edgedistill_serve.task.task import task_inputs

Lines = list[ScoredCell | AuditedResponse]


@dataclass(frozen=True, slots=True)
class GradedJournal:
    """Where and how a grading is counted.

    Attributes:
        folder: The folder of the journal.
        draw: Draws ids; None for no audit slice.
        id_column: Column of ids.
        item_column: Column of items, for a task without question.
    """

    folder: Path
    draw: AuditDraw | None = None
    id_column: str = "id"
    item_column: str = "item"

    @classmethod
    def open(
        cls, folder: Path, *, audit_share: float = 0.0, id_column: str = "id", item_column: str = "item"
    ) -> "GradedJournal":
        """Return a journal in a folder, which is made if it is missing.

        Raises:
            DataError: The folder or the key of the draw cannot be used.
        """
        check_folder(folder)
        return cls(folder, AuditDraw.in_folder(folder, audit_share), id_column, item_column)

    @property
    def described(self) -> dict[str, Any]:
        """What the counts depend on, for the manifest of a grading."""
        share = self.draw.share if self.draw else 0.0
        return {"journal": {"audit_share": share, "id_column": self.id_column, "item_column": self.item_column}}

    def new_tally(self) -> Tally:
        """Return the counts of a part, which has no rows yet."""
        return Tally(self.draw)

    def count(self, tally: Tally, batch: Batch, scores: Mapping[str, list[Any]], grade: GradeBatch) -> None:
        """Count the rows of a batch that have a score."""
        scorer = grade.scorer
        manifest = scorer.bundle.manifest
        by = ScoredBy(manifest.name, manifest.version, scorer.precision)
        hour, task = hour_of(time.time()), manifest.task
        own = [name for name in (self.id_column, self.item_column) if name in batch.columns]
        columns = {name: values(batch.columns[name]) for name in own} | grade.texts(batch.columns)
        found = [scores[f"{grade.prefix}{name}"] for name in ("label", "probability", "reason", "tokens", "novelty")]
        errors = scores[f"{grade.prefix}error"]
        for place, score in enumerate(zip(*found, strict=True)):
            if errors[place] is None:
                row = {name: column[place] for name, column in columns.items()}
                named = {"id": _given(row, self.id_column), "item": _given(row, self.item_column)}
                if task.redact:  # as the server hashes a question
                    row = task_inputs({**row, "response": ""}, task)
                entry = Entry.of(task, row, named)
                tally.count(hour, by, item_of(task, entry.context, entry.item), clean_id(entry.id), score)

    def write(self, manifest: Mapping[str, Any], parts: Sequence[Lines], note: Callable[[str], None]) -> None:
        """Write the counts of all parts to one file; the same grading writes the same file again.

        A fault is a note: the graded table is worth more than its counts.
        """
        name = sha256(msgspec.json.encode(manifest, order="deterministic")).hexdigest()[:16]
        part = self.folder / f".grade-{name}.part"
        lines = [JournalHeader(JOURNAL_VERSION, written_by()), *(line for each in parts for line in each)]
        try:
            part.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            part.chmod(0o600)
            part.replace(self.folder / f"grade-{name}.jsonl")
        except OSError as error:
            note(f"the journal was not written ({error.strerror}): {self.folder}")


def _given(row: Mapping[str, Any], column: str) -> Any:
    found = row.get(column)
    return None if found is MISSING else found


def check_journal_columns(journal: GradedJournal, columns: Sequence[str], where: str) -> None:
    """Check that the columns exist that are named otherwise than by default.

    Raises:
        DataError: One does not.
    """
    for name, default, option in (
        (journal.id_column, "id", "--id-column"),
        (journal.item_column, "item", "--item-column"),
    ):
        if name != default and name not in columns:
            raise DataError(f"there is no column {name!r} ({option})", where=where, hint="Name an existing column.")
