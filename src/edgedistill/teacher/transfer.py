"""Answers from one cache to another, as JSON lines: key, request, answer."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgedistill.errors import CacheDamaged, DataError
from edgedistill.teacher.cache import AnswerCache, Entry
from edgedistill.teacher.request import is_request, key_of

_TOGETHER = 500  # entries in one transaction


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no entry.

    Attributes:
        line: Its number in the file, from 1.
        fault: What is wrong with it.
    """

    line: int
    fault: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the lines of a file; the three add up to its lines that are not blank.

    Attributes:
        added: Entries that the cache did not have.
        present: Entries whose key it had; they stay as they were.
        bad: Lines that are no entry.
    """

    added: int
    present: int
    bad: tuple[BadLine, ...]


def export_jsonl(cache: AnswerCache, file: Path) -> int:
    """Write every entry to a file, in the order of the keys; return how many.

    Raises:
        CacheDamaged: An entry is not what was written.
        DataError: The file cannot be written.
    """
    aside = file.with_name(file.name + ".part")
    count = 0
    try:
        with aside.open("w", encoding="ascii", newline="\n") as out:
            for entry in cache.entries():
                line = {"key": entry.key, "request": entry.request, "answer": entry.answer}
                out.write(json.dumps(line, separators=(",", ":")) + "\n")
                count += 1
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
    except OSError as error:
        raise DataError(f"the file cannot be written: {error.strerror}", where=str(file)) from error
    return count


def import_jsonl(cache: AnswerCache, file: Path) -> Imported:
    """Add the entries of a file that the cache does not have yet; what it has stays.

    Raises:
        DataError: The file cannot be read.
        CacheDamaged: The cache cannot be written.
    """
    added, seen, bad = 0, 0, []
    lines = _lines(file)
    while batch := list(islice(lines, _TOGETHER)):
        entries = [entry for entry in batch if isinstance(entry, Entry)]
        bad += [line for line in batch if isinstance(line, BadLine)]
        added += cache.keep(entries)
        seen += len(entries)
    return Imported(added, seen - added, tuple(bad))


def _lines(file: Path) -> Iterator[Entry | BadLine]:
    try:
        with file.open("rb") as source:
            for number, line in enumerate(source, 1):
                if line.strip():
                    try:
                        yield _entry(line)
                    except CacheDamaged as error:
                        yield BadLine(number, error.what)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(file)) from error


def _entry(line: bytes) -> Entry:
    try:
        value = json.loads(line)
        key, request, answer = value["key"], value["request"], value["answer"]
        recomputed = key_of(request)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CacheDamaged("it is no JSON object with key, request and answer") from None
    if key != recomputed:
        raise CacheDamaged("its key is not that of its request")
    if not isinstance(request, dict) or not is_request(request):
        raise CacheDamaged("its request is none")
    if not isinstance(answer, dict) or not answer.get("choices"):
        raise CacheDamaged("its answer is no chat completion")
    return Entry(key, request, answer)
