"""Which rows a bundle was trained on, and which selected it: digests that an export leaves in the run folder.

A bundle has no learner's text, and no digest of one either, with which whoever has the bundle could confirm a guess.
The run folder has the texts anyway. It keeps the digests of every bundle that was exported there, so that a later
comparison can tell which rows an earlier bundle learned from.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from edgedistill.data.twins import same_row
from edgedistill.evaluation.files import decode_file

BUNDLE_ROWS = "bundle_rows"
"""The folder in the run folder, with a file for each version of a bundle."""
BUNDLE_ROWS_VERSION = 1
"""`schema_version` of its files."""

Learned: TypeAlias = Literal["trained", "selected"]


@dataclass(frozen=True, slots=True)
class BundleRows:
    """The rows that a bundle learned from, each as its id and the digest of what a student reads.

    Two rows that are the same to a student (decision 35) have the same digest.

    Attributes:
        schema_version: `BUNDLE_ROWS_VERSION`.
        version: The bundle's version; empty for rows that a person names.
        inputs: The inputs that the digests are of.
        trained: Rows of the training set.
        selected: Rows that selected epoch, calibration, thresholds or decision rule.
    """

    schema_version: int
    version: str
    inputs: tuple[str, ...]
    trained: tuple[tuple[str, str], ...]
    selected: tuple[tuple[str, str], ...]

    @classmethod
    def of(
        cls,
        version: str,
        inputs: tuple[str, ...],
        trained: Iterable[tuple[str, Mapping[str, str]]],
        selected: Iterable[tuple[str, Mapping[str, str]]],
    ) -> "BundleRows":
        """Return the digests of rows, which are given by their ids and inputs."""
        of_trained, of_selected = (
            tuple(sorted({(ident, row_digest(texts, inputs)) for ident, texts in rows})) for rows in (trained, selected)
        )
        return cls(BUNDLE_ROWS_VERSION, version, inputs, of_trained, of_selected)


def row_digest(texts: Mapping[str, str], inputs: tuple[str, ...]) -> str:
    """Return the digest of a row: the first 16 hexadecimal digits of the SHA-256 of what a student reads."""
    content = json.dumps(same_row({name: texts[name] for name in inputs}))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def read_bundle_rows(run_folder: Path, version: str) -> BundleRows | None:
    """Return the rows of a bundle that was exported in a run folder; None if none of this version was.

    Raises:
        RunError: The file is damaged.
    """
    file = run_folder / BUNDLE_ROWS / f"{version}.json"
    if not file.exists():
        return None
    found = decode_file(file, BundleRows, "Delete it: the rows of this bundle are then not known.")
    return found if found.schema_version == BUNDLE_ROWS_VERSION else None


class LearnedRows:
    """Looks rows up among those that a bundle learned from.

    Args:
        rows: The rows.
        by_id: Whether a row is one of them only if its id is the same, too; else rows with the same text are.
    """

    def __init__(self, rows: BundleRows, *, by_id: bool) -> None:
        self._inputs, self._by_id = rows.inputs, by_id
        self._digests = {"trained": {text for _, text in rows.trained}, "selected": {text for _, text in rows.selected}}
        self._rows = {"trained": set(rows.trained), "selected": set(rows.selected)}

    def find(self, ident: str, texts: Mapping[str, str]) -> Learned | Literal["same text"] | None:
        """Return what a row was used for; ``same text`` if only another row with its text was; None if neither."""
        digest = row_digest(texts, self._inputs)
        uses: tuple[Learned, ...] = ("trained", "selected")
        for use in uses:
            if ((ident, digest) in self._rows[use]) if self._by_id else (digest in self._digests[use]):
                return use
        return "same text" if any(digest in self._digests[use] for use in uses) else None
