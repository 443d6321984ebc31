"""The lines of a journal, and the counts that wait to be written."""

import hashlib
import hmac
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from edgedistill_serve.bundle.response_counts import ResponseCounts
from edgedistill_serve.errors import DataError
from edgedistill_serve.task.contexts import context_hash, has_context
from edgedistill_serve.task.task import Task, context_names

JOURNAL_VERSION = 1
HOUR_FORMAT = "%Y-%m-%dT%H"
KEY_FILE = "audit.key"
"""The key of the draw of ids, in the folder of a journal."""
OTHER_ITEMS = "(other items)"
"""The item of responses to further items, after `MAX_CELLS` of them in an hour."""
MAX_CELLS = 20_000
MAX_AUDITED = 20_000
"""Largest numbers of cells and of ids that wait to be written."""
_LONGEST_ID, _LONGEST_ITEM = 200, 100
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class JournalHeader(msgspec.Struct, frozen=True, tag="journal"):
    """The first line of each file.

    Attributes:
        journal_version: `JOURNAL_VERSION`.
        written_by: Program and version.
    """

    journal_version: int
    written_by: str = ""


class ScoredCell(msgspec.Struct, frozen=True, tag="scored", omit_defaults=True):
    """Further responses to one item in one hour.

    Attributes:
        hour: In UTC, as ``2026-11-30T11``.
        model: Name of the model.
        version: Version of the model.
        precision: The graph in use.
        item: Hash of the question (`context_hash`); for a task without question, the item that the request or the
            table names; empty without one.
        counts: The responses.
        with_id: How many of them had an id, so that they could be drawn.
    """

    hour: str
    model: str
    version: str
    precision: str
    item: str
    counts: ResponseCounts
    with_id: int = 0


class AuditedResponse(msgspec.Struct, frozen=True, tag="audit"):
    """A response that was drawn at random, to be coded by a person.

    Attributes:
        hour: As in `ScoredCell`, as are model, version and item.
        model: Name of the model.
        version: Version of the model.
        item: The item.
        id: The id in the request or the table.
        inclusion_probability: The probability of being drawn, in (0, 1].
        label: The label that the model assigned.
        decision: ``accept`` or ``review``.
    """

    hour: str
    model: str
    version: str
    item: str
    id: str
    inclusion_probability: float
    label: str
    decision: str


JournalLine: TypeAlias = JournalHeader | ScoredCell | AuditedResponse


ScoreValues: TypeAlias = tuple[str, float, str | None, int, float | None]
"""Label, probability, reason, tokens and novelty of a `Score`."""


class Entry(NamedTuple):
    """What a journal needs of a response besides its score. It has no text of a learner.

    Attributes:
        context: The texts of the inputs before the response.
        id: What the request or the table has as its id.
        item: What it has as its item.
    """

    context: tuple[str, ...]
    id: Any
    item: Any

    @classmethod
    def of(cls, task: Task, inputs: Mapping[str, str], response: Any) -> "Entry":
        """Return the entry of a response.

        Args:
            task: The task.
            inputs: The task's inputs.
            response: The response as it was sent: a text, or an object that may have ``id`` and ``item``.
        """
        context = tuple(inputs[name] for name in context_names(task.inputs))
        named = response if isinstance(response, dict) else {}
        return cls(context, named.get("id"), named.get("item"))


@dataclass(frozen=True, slots=True)
class ScoredBy:
    """The model of a response."""

    model: str
    version: str
    precision: str


@dataclass(slots=True)
class Tally:
    """Counts and drawn ids that wait to be written.

    Args:
        draw: Draws ids; None for no audit slice.
    """

    draw: "AuditDraw | None" = None
    cells: dict[tuple[str, ScoredBy, str], tuple[ResponseCounts, list[int]]] = field(default_factory=dict)
    audited: dict[tuple[str, ...], AuditedResponse] = field(default_factory=dict)
    lost: int = 0
    """Drawn ids beyond `MAX_AUDITED`, which are not kept."""

    def count(
        self,
        hour: str,
        by: ScoredBy,
        item: str,
        ident: str | None,
        score: ScoreValues,
    ) -> None:
        """Count a response.

        Args:
            hour: As in `ScoredCell`.
            by: The model.
            item: The item.
            ident: Its id, as `clean_id` returns it.
            score: Its score.
        """
        key = (hour, by, item)
        cell = self.cells.get(key)
        if cell is None:
            if len(self.cells) >= MAX_CELLS:
                key = (hour, by, OTHER_ITEMS)
            cell = self.cells.setdefault(key, (ResponseCounts(), [0]))
        cell[0].count(*score)
        if ident is None:
            return
        cell[1][0] += 1
        if self.draw is not None and self.draw.draws(ident):
            if len(self.audited) >= MAX_AUDITED:
                self.lost += 1
                return
            decision = "accept" if score[2] is None else "review"
            audited = AuditedResponse(hour, by.model, by.version, item, ident, self.draw.share, score[0], decision)
            self.audited[by.model, by.version, ident] = audited

    def lines(self) -> Iterator[ScoredCell | AuditedResponse]:
        """Yield what waits to be written."""
        for (hour, by, item), (counts, with_id) in self.cells.items():
            yield ScoredCell(hour, by.model, by.version, by.precision, item, counts, with_id[0])
        yield from self.audited.values()

    def clear(self) -> None:
        """Forget what was written."""
        self.cells.clear()
        self.audited.clear()


@dataclass(frozen=True, slots=True)
class AuditDraw:
    """Draws ids with equal probability, by a keyed hash: without the key nobody can tell which, or change it.

    An id is drawn in every process, and however often its response is scored, or in none.

    Attributes:
        share: The probability, in (0, 1].
        key: A random key.
    """

    share: float
    key: bytes = field(repr=False)

    def draws(self, ident: str) -> bool:
        """Return whether an id is drawn."""
        digest = hmac.digest(self.key, ident.encode(errors="surrogatepass"), "sha256")
        return int.from_bytes(digest[:8]) < self.share * 2**64

    @classmethod
    def in_folder(cls, folder: Path, share: float) -> "AuditDraw | None":
        """Return the draw of a journal, with its key, which is made if it is missing; None for a share of 0.

        Raises:
            DataError: The key cannot be read or written.
        """
        if not share:
            return None
        file = folder / KEY_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                part = folder / f".{KEY_FILE}.{os.urandom(8).hex()}"
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
                    new.write(os.urandom(32).hex().encode())
                try:
                    os.link(part, file)  # fails if another process was faster, whose key counts
                except FileExistsError:
                    pass
                finally:
                    part.unlink()
            key = bytes.fromhex(file.read_text("ascii").strip())
        except (OSError, ValueError) as error:
            raise DataError(
                f"the key of the audit slice cannot be used ({getattr(error, 'strerror', None) or 'it is not a key'})",
                where=str(file),
                hint="Delete the file for a new key, or name another folder.",
            ) from None
        if len(key) < 16:
            raise DataError("the key of the audit slice is too short", where=str(file), hint="Delete the file.")
        return cls(share, key)


def hour_of(seconds: float) -> str:
    """Return the hour of a time in seconds since 1970, in UTC."""
    return time.strftime(HOUR_FORMAT, time.gmtime(seconds))


def clean_id(given: Any) -> str | None:
    """Return an id as text; None for what cannot be one: nothing, no text or integer, or a long text."""
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        return None
    text = str(given).strip() if isinstance(given, str) or abs(given) < 10**18 else ""
    return text if 0 < len(text) <= _LONGEST_ID and not _UNPRINTABLE.search(text) else None


def item_of(task: Task, context: tuple[str, ...], named: Any) -> str:
    """Return the item of a response: the hash of its question, or for a task without one the name that is given.

    Args:
        task: The task.
        context: The texts of the inputs before the response.
        named: The item that the request or the table names.
    """
    if has_context(task):
        return _hash_of_context(context_names(task.inputs), context)
    name = clean_id(named)
    if name is None:
        return ""
    # Whoever sends texts as names should not find them in the journal.
    return name if len(name) <= _LONGEST_ITEM else hashlib.sha256(name.encode(errors="replace")).hexdigest()[:32]


@lru_cache(maxsize=4096)
def _hash_of_context(names: tuple[str, ...], texts: tuple[str, ...]) -> str:
    return context_hash({**dict(zip(names, texts, strict=True)), "response": "."})
