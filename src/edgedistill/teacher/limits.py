"""What a reply's headers say about the endpoint's rate limits.

Room        how much more the endpoint takes before its windows end
└── Left    one limit
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_A_DATE = 10**9  # a plain number this large is a Unix time, not a number of seconds


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one limit.

    Attributes:
        count: Requests that may still be sent, or tokens that may still be used.
        seconds: Until there is room again.
    """

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of an endpoint's limits, each with a window of its own.

    Attributes:
        requests: Of the limit on requests; None where the headers do not say.
        tokens: Of the limit on tokens; None likewise.
    """

    requests: Left | None
    tokens: Left | None


def room(headers: Mapping[str, str]) -> Room | None:
    """Return what ``x-ratelimit-remaining-*`` and ``x-ratelimit-reset-*`` say, or None where they are not whole.

    Args:
        headers: The reply's headers, names in lower case.
    """
    requests, tokens = _left(headers, "requests"), _left(headers, "tokens")
    return Room(requests, tokens) if requests or tokens else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the headers ask to wait, or None; a date is taken against this machine's clock."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
            return float(text) * unit
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            continue
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return None


def _left(headers: Mapping[str, str], kind: str) -> Left | None:
    remaining = headers.get(f"x-ratelimit-remaining-{kind}", "")
    seconds = _seconds(headers.get(f"x-ratelimit-reset-{kind}", ""))
    return Left(int(remaining), seconds) if re.fullmatch(r"[0-9]{1,15}", remaining) and seconds is not None else None


def _seconds(text: str) -> float | None:
    """Return the seconds in ``1s``, ``6m0s``, ``120ms``, ``59.5``, a Unix time or an ISO date."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]+)?", text):
        number = float(text)
        return number if number < _A_DATE else max(0.0, number - datetime.now(UTC).timestamp())
    found = _DURATION.fullmatch(text)
    if found and text:
        return math.fsum(float(part) * unit for part, unit in zip(found.groups(), _UNITS, strict=True) if part)
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
