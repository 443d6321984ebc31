"""The files of the OpenAI Batch API, both ways: requests out, results in; one JSON object a line.

Result      one line of a results file
Results     all of a results file, every line accounted for
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgedistill.errors import DataError
from edgedistill.teacher.endpoint import body_of
from edgedistill.teacher.request import TeacherRequest

URL: Final = "/v1/chat/completions"
MOST_REQUESTS = 50_000
"""Requests in one file, as the Batch API allows."""
MOST_BYTES = 200_000_000
"""Bytes of one file, as the Batch API allows."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one request of a batch.

    Attributes:
        key: The request's key, which is its ``custom_id``.
        line: The line's number in the file, from 1.
        answer: The chat completion; None where there is none.
        raw: What the line holds in its place, as text.
        code: The HTTP status with the endpoint's own code, where there is no answer.
    """

    key: str
    line: int
    answer: dict[str, Any] | None
    raw: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """A results file; its lines that are not blank are all in one of the four.

    Attributes:
        found: Results of requests that were asked for, the first of each.
        damaged: Numbers of the lines that are no result.
        foreign: Numbers of the lines about requests that nobody here asked for.
        doubled: Numbers of the lines about requests that an earlier line answers.
    """

    found: tuple[Result, ...]
    damaged: tuple[int, ...]
    foreign: tuple[int, ...]
    doubled: tuple[int, ...]

    @property
    def told(self) -> str:
        """The lines that were not used, by number; empty where there are none."""
        parts = (("damaged", self.damaged), ("foreign", self.foreign), ("doubled", self.doubled))
        return "; ".join(f"{len(lines)} lines {what} ({_numbers(lines)})" for what, lines in parts if lines)


def request_line(request: TeacherRequest, limit_name: str) -> bytes:
    """Return the line that asks one request; its ``custom_id`` is the key."""
    line = {"custom_id": request.key(), "method": "POST", "url": URL, "body": body_of(request, limit_name)}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def in_files(
    requests: Iterable[TeacherRequest], limit_name: str, *, most: int = MOST_REQUESTS, most_bytes: int = MOST_BYTES
) -> Iterator[list[tuple[TeacherRequest, bytes]]]:
    """Share requests out to files that keep to the limits, in order.

    Args:
        requests: The requests; of those with the same key only the first counts.
        limit_name: The name under which the endpoint knows the token limit.
        most: Requests in a file.
        most_bytes: Bytes of a file.
    """
    together: list[tuple[TeacherRequest, bytes]] = []
    size, seen = 0, set[str]()
    for request in requests:
        if request.key() in seen:
            continue
        seen.add(request.key())
        line = request_line(request, limit_name)
        if together and (len(together) == most or size + len(line) > most_bytes):
            yield together
            together, size = [], 0
        together.append((request, line))
        size += len(line)
    if together:
        yield together


def write_whole(file: Path, data: bytes) -> None:
    """Write a file aside, sync it to disk, and move it into place.

    Raises:
        DataError: It cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(file.name + ".part")
        with aside.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
    except OSError as error:
        raise DataError(f"the file cannot be written: {error.strerror}", where=str(file)) from error


def read_results(lines: Iterable[bytes], keys: Collection[str], already: Collection[str] = ()) -> Results:
    """Read the lines of a results file, an output file or an error file.

    Args:
        lines: The lines, in order.
        keys: The keys of the requests that were asked for.
        already: Keys that an earlier file answers.
    """
    found: list[Result] = []
    odd: dict[str, list[int]] = {"damaged": [], "foreign": [], "doubled": []}
    seen = Counter(already)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        result = _result(line, number)
        if result is None:
            odd["damaged"].append(number)
        elif result.key not in keys:
            odd["foreign"].append(number)
        elif seen[result.key]:
            odd["doubled"].append(number)
        else:
            seen[result.key] += 1
            found.append(result)
    return Results(tuple(found), *(tuple(odd[what]) for what in ("damaged", "foreign", "doubled")))


def _result(line: bytes, number: int) -> Result | None:
    try:
        value = json.loads(line)
        key, response, error = value["custom_id"], value.get("response"), value.get("error")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not isinstance(key, str) or not (isinstance(response, dict) or isinstance(error, dict)):
        return None
    told = response if isinstance(response, dict) else {}
    status, body = told.get("status_code"), told.get("body")
    if status == 200 and isinstance(body, dict) and body.get("choices"):
        return Result(key, number, body)
    raw = json.dumps(error if body is None else body, ensure_ascii=False)
    return Result(key, number, None, raw, f"HTTP {status}" if isinstance(status, int) else "no reply")


def _numbers(lines: Sequence[int]) -> str:
    named = ", ".join(map(str, lines[:5]))
    return named + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")  # five are named
