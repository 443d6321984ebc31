"""Parts of a graded table, so that a grading that ends early loses no whole part.

    OUT.parts/                  or the folder OUT itself
      manifest.json             what is graded, by which bundle, into which columns
      part-00000.csv            rows, with their scores
      part-00000.json           its account; a part without one is not whole

The parts of one table, put together, are OUT. The rows that could not be read are in OUT.rejected.csv.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import msgspec

from edgedistill_serve.bundle.verdict import VerdictStatus
from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.delimited import write_records
from edgedistill_serve.grading.graded_journal import GradedJournal
from edgedistill_serve.grading.part_writers import put_together
from edgedistill_serve.grading.storage import LOCK, TEMPORARY, Folder
from edgedistill_serve.grading.table_formats import TableFormat
from edgedistill_serve.journal.records import AuditedResponse, ScoredCell

MANIFEST = "manifest.json"
_ACCOUNT = re.compile(r"part-(\d{5,})\.json")


class GradingCounts(msgspec.Struct, frozen=True):
    """Row counts of a graded table: ``read == scored + errors + rejected``.

    Attributes:
        read: Rows of the input.
        scored: Rows with a score.
        errors: Rows that could not be scored; their ``error`` column has the reason.
        review: Scored rows with the decision ``review``.
        rejected: Rows that could not be read, and are not in the output.
    """

    read: int = 0
    scored: int = 0
    errors: int = 0
    review: int = 0
    rejected: int = 0

    def __add__(self, other: "GradingCounts") -> "GradingCounts":
        return GradingCounts(*(a + b for a, b in zip(self._all(), other._all(), strict=True)))

    def _all(self) -> tuple[int, ...]:
        return self.read, self.scored, self.errors, self.review, self.rejected

    def as_dict(self) -> dict[str, int]:
        """Return the counts as a dictionary, for JSON."""
        return msgspec.structs.asdict(self)

    @property
    def written(self) -> int:
        """Rows of the output."""
        return self.read - self.rejected


class Part(msgspec.Struct, frozen=True):
    """The account of a whole part.

    Attributes:
        counts: Its rows.
        bytes: Size of its file.
        sha256: Of its file.
        header_bytes: Bytes at its beginning that are not rows.
        rejected: File, number and reason of each row that could not be read.
        journal: The lines of the journal; empty without one.
    """

    counts: GradingCounts
    bytes: int
    sha256: str
    header_bytes: int
    rejected: list[tuple[str, int, str]]
    journal: list[ScoredCell | AuditedResponse] = []


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one grading.

    Args:
        folder: Where they are.
        form: Their format.
        manifest: What is graded; a grading goes on only with parts of an equal manifest.
        journal: Counts the rows; None for no journal.
        verdict: Whether test rows support the use of the bundle, for the final manifest.
    """

    folder: Folder
    form: TableFormat
    manifest: Mapping[str, Any]
    journal: GradedJournal | None = None
    verdict: VerdictStatus = "not validated"

    def name(self, number: int) -> str:
        """Return the name of a part."""
        return f"part-{number:05}{self.form.suffix}"

    def _account(self, number: int) -> str:
        return f"part-{number:05}.json"

    def numbers(self) -> set[int]:
        """Return the numbers of the whole parts, also of those after a missing one."""
        return {int(found[1]) for name in self.folder.names() if (found := _ACCOUNT.fullmatch(name))}

    def begin(self, *, restart: bool) -> set[int]:
        """Begin, or go on: keep the whole parts of an earlier grading, and delete its other files.

        Args:
            restart: Whether to delete the parts as well.

        Returns:
            The numbers of the parts that are kept. They are not checked.

        Raises:
            DataError: The parts are of another grading.
        """
        names = set(self.folder.names())
        found = _read_manifest(self.folder) if MANIFEST in names else None
        whole: set[int] = set()
        if found is not None and not restart:
            self._check_manifest(found)
            whole = self.numbers()
        self._sweep(names, whole)
        if not whole:
            self._write_manifest({"state": "grading"})
        return whole

    def resume(self, *, restart: bool) -> list[Part]:
        """Do as `begin`, but keep the whole parts before the first missing one only.

        Returns:
            The parts that are kept; their bytes are checked.

        Raises:
            DataError: The parts are of another grading, or one is damaged.
        """
        numbers = self.begin(restart=restart)
        whole: list[Part] = []
        while len(whole) in numbers:
            whole.append(self.checked(len(whole)))
        if len(whole) < len(numbers):
            self._sweep(self.folder.names(), range(len(whole)))
        return whole

    def _sweep(self, names: Iterable[str], whole: Iterable[int]) -> None:
        kept = {name(number) for number in whole for name in (self.name, self._account)}
        for name in names:
            if name not in kept and (name.startswith("part-") or name.endswith(TEMPORARY)):
                self.folder.remove(name)

    def _check_manifest(self, found: Mapping[str, Any]) -> None:
        given = msgspec.json.decode(msgspec.json.encode(self.manifest))
        different = [key for key in given if found.get(key) != given[key]]
        if different:
            raise DataError(
                f"the parts there are of another grading: {', '.join(different)} differ{'s' * (len(different) == 1)}",
                where=self.folder.address,
                hint="Use --restart to delete them and begin again, or write to another OUT.",
            )

    def checked(self, number: int) -> Part:
        """Return the account of a whole part.

        Raises:
            DataError: The part does not have the bytes that its account says.
        """
        try:
            with self.folder.open(self._account(number)) as file:
                part = msgspec.json.decode(file.read(), type=Part)
        except msgspec.DecodeError:
            part = None
        if part is None or self._digest(number) != part.sha256:
            raise DataError(
                "the part was changed or is damaged",
                where=f"{self.folder.address}/{self.name(number)}",
                hint="Use --restart to delete all parts and begin again.",
            )
        return part

    def _digest(self, number: int) -> str:
        digest = hashlib.sha256()
        with self.folder.open(self.name(number)) as file:
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()

    def _write_manifest(self, progress: Mapping[str, Any]) -> None:
        with self.folder.create(MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode({**self.manifest, **progress})) + b"\n")

    def write_account(self, number: int, part: Part) -> None:
        """Declare a part as whole; its file is written."""
        with self.folder.create(self._account(number)) as file:
            file.write(msgspec.json.encode(part))

    def put_together(self, whole: list[Part], target: Folder, name: str) -> None:
        """Write the rows of all parts to one file."""
        openers = [
            (partial(self.folder.open, self.name(number)), part.header_bytes) for number, part in enumerate(whole)
        ]
        with target.create(name) as file:
            put_together(self.form, openers, file, rows=total(whole).written)

    def complete(self, whole: list[Part]) -> None:
        """Write the final manifest, which has the accounts of all parts; delete what killed workers left."""
        self._sweep(self.folder.names(), range(len(whole)))
        listed = [
            {"file": self.name(number), "rows": part.counts.written, "bytes": part.bytes, "sha256": part.sha256}
            for number, part in enumerate(whole)
        ]
        # The verdict is no part of what is graded: another one changes no row.
        self._write_manifest({"state": "complete", "counts": total(whole), "verdict": self.verdict, "parts": listed})
        for number in range(len(whole)):
            self.folder.remove(self._account(number))

    def delete(self) -> None:
        """Delete all files of the grading."""
        # The manifest last, so that a deletion that is interrupted is finished by the next grading.
        names = [name for name in self.folder.names() if name.startswith("part-") or name.endswith(TEMPORARY)]
        for name in [*names, MANIFEST]:
            self.folder.remove(name)
        self.folder.remove_empty()


def total(parts: Iterable[Part]) -> GradingCounts:
    """Return the counts of several parts."""
    counts = GradingCounts()
    for part in parts:
        counts += part.counts
    return counts


def _read_manifest(folder: Folder) -> dict[str, Any]:
    with folder.open(MANIFEST) as file:
        content = file.read()
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise DataError("the manifest is damaged", where=f"{folder.address}/{MANIFEST}", hint="Use --restart.")
    return found


def check_folder(folder: Folder, *, overwrite: bool) -> None:
    """Check that parts can be written to a folder.

    Raises:
        DataError: It has a complete grading, or other files.
    """
    names = [name for name in folder.names() if name != LOCK]
    if not names:
        return
    if MANIFEST not in names:
        raise DataError(
            "the folder has other files", where=folder.address, hint="Write to an empty folder, or to one file."
        )
    if _read_manifest(folder).get("state") == "complete":
        if not overwrite:
            raise DataError(
                "the folder has a graded table already", where=folder.address, hint="Use --force to replace it."
            )
        for name in names:
            if name.startswith("part-") or name == MANIFEST:
                folder.remove(name)


def write_rejected(folder: Folder, name: str, whole: Iterable[Part]) -> bool:
    """Write the rows that could not be read to a CSV file; without any, delete an older one.

    Returns:
        Whether there are any.
    """
    rows = [row for part in whole for row in part.rejected]
    if not rows:
        folder.remove(name)
        return False
    with folder.create(name) as file:
        write_records(_Text(file), [("file", "row", "reason"), *rows])
    return True


class _Text:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())
