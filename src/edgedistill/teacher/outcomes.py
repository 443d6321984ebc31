"""What can come of one try, and how an endpoint's reply is sorted into it.

Answered        a chat completion; whether it gives a label is for `parsing` to say
Busy            worth another try later: 429, 5xx, a timeout, a lost connection
Rejected        this request was refused and another may not be
FormatRefused   the endpoint does not know the wanted answer format
errors          TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable: no request can succeed
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

from edgedistill.teacher.limits import Room, retry_after, room
from edgedistill.teacher.parsing import Cause, Failure


@dataclass(frozen=True, slots=True)
class Answered:
    """A chat completion.

    Attributes:
        answer: The whole of it.
        room: What its headers say about the endpoint's rate limits.
    """

    answer: Mapping[str, Any]
    room: Room | None = None

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Input and output tokens, or None where the endpoint does not say."""
        usage = self.answer.get("usage")
        if not isinstance(usage, dict):
            return None
        given, made = usage.get("prompt_tokens"), usage.get("completion_tokens")
        return (given, made) if _is_count(given) and _is_count(made) else None


@dataclass(frozen=True, slots=True)
class Busy:
    """A try that may succeed later.

    Attributes:
        failure: What to say if it never does.
        wait: Seconds that the endpoint asks to wait, or None.
        crowded: Whether it was refused because there are too many requests.
        unheard: Whether the endpoint may have worked, and asks money, for an answer that never came.
        deaf: Whether nothing listens at the address.
    """

    failure: Failure
    wait: float | None = None
    crowded: bool = False
    unheard: bool = False
    deaf: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A try that the endpoint refused for what it holds."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class FormatRefused:
    """The endpoint does not know the wanted answer format."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """No request can succeed.

    Attributes:
        kind: What is wrong.
        code: The HTTP status with the endpoint's own code, or the reason in words.
        parameter: The parameter that the endpoint refuses, where that is what is wrong.
    """

    kind: str
    code: str
    parameter: str = ""


Outcome: TypeAlias = Answered | Busy | Rejected | FormatRefused | Fatal

_FORMAT_WORDS = re.compile(
    r"response_format|json_schema|json_object|json schema|json mode|structured output|guided|grammar"
)
_REFUSAL_WORDS = re.compile(
    r"unsupported|not support|unknown|unrecognized|not (permitted|allowed)|deprecated|extra inputs|only the default"
)
_MODEL_WORDS = re.compile(r"model.*(not found|not exist|unknown|not available)|(unknown|no such|invalid) model")

_STATUS_OF = {"insufficient_quota": 429, "rate_limit_exceeded": 429}  # of the codes that come with status 200 too


def outcome_of_status(
    status: int,
    headers: Mapping[str, str],
    body: str,
    *,
    formatted: bool,
    heard: bool,
    sent: Collection[str] = (),
) -> Outcome:
    """Sort an HTTP error into an outcome.

    Args:
        status: The HTTP status, 300 or more.
        headers: The reply's headers, names in lower case.
        body: The reply's body.
        formatted: Whether the request asked for an answer format.
        heard: Whether the endpoint has answered a request of this run, so that key and address are right.
        sent: The names of the sampling parameters that the request carried.
    """
    code, message = _said(body)
    told = f"HTTP {status} {code}".strip()
    if status == 402 or (status == 429 and code == "insufficient_quota"):
        return Fatal("quota", told)
    if status == 429:
        return Busy(Failure(Cause.RATE_LIMITED, body, told), wait=_wait(headers), crowded=True)
    if status >= 500 or status in (408, 409, 425):
        crowded = status in (503, 529)
        return Busy(Failure(Cause.SERVER_ERROR, body, told), wait=retry_after(headers), crowded=crowded)
    if status == 401 or (status == 403 and not heard):
        return Fatal("key", told)
    if status == 404:
        return _not_found(code, message, told, body, heard=heard)
    if formatted and status in (400, 415, 422) and _FORMAT_WORDS.search(message):
        return FormatRefused()
    if status in (400, 422) and not heard and (parameter := _refused_parameter(message, sent)):
        return Fatal("parameter", told, parameter)
    return Rejected(Failure(Cause.REJECTED, body, told))


def outcome_of_body(body: str, *, heard: bool, headers: Mapping[str, str] | None = None) -> Outcome:
    """Sort the body of a reply with status 200 into an outcome; some endpoints send errors that way.

    Args:
        body: The reply's body.
        heard: Whether the endpoint has answered a request of this run.
        headers: The reply's headers, names in lower case.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("choices"):
        return Answered(value, room(headers or {}))
    if isinstance(value, dict) and value.get("error"):
        code, _ = _said(body)
        status = int(code) if re.fullmatch("[45][0-9][0-9]", code) else _STATUS_OF.get(code, 400)
        return outcome_of_status(status, {}, body, formatted=False, heard=heard)
    if isinstance(value, dict) and heard:
        return Rejected(Failure(Cause.UNREADABLE, body, "HTTP 200"))
    if body.startswith(("data:", "event:", ": ")) and not heard:
        return Fatal("stream", "HTTP 200")
    what = "a web page" if body.lstrip()[:1] == "<" else "no chat completion"
    return Busy(Failure(Cause.SERVER_ERROR, body, f"HTTP 200, {what}"), deaf=not heard)


def _wait(headers: Mapping[str, str]) -> float | None:
    """Return how long a refused request should wait: Retry-After, else until the limit that is used up has room."""
    asked, found = retry_after(headers), room(headers)
    lefts = [left for left in (found.requests, found.tokens) if left and left.count == 0] if found else []
    return max((left.seconds for left in lefts), default=None) if asked is None else asked


def _refused_parameter(message: str, sent: Collection[str]) -> str | None:
    """Return the sampling parameter that an error names, where it says that it is not known or not allowed."""
    if not _REFUSAL_WORDS.search(message):
        return None
    return next((name for name in sent if re.search(rf"\b{re.escape(name)}\b", message)), None)


def _not_found(code: str, message: str, told: str, body: str, *, heard: bool) -> Outcome:
    if code == "recording_missing":
        return Rejected(Failure(Cause.NOT_RECORDED, body, told))
    if code in ("model_not_found", "DeploymentNotFound") or _MODEL_WORDS.search(message):
        return Fatal("model", told)
    return Rejected(Failure(Cause.REJECTED, body, told)) if heard else Fatal("address", told)


def _said(body: str) -> tuple[str, str]:
    """Return the endpoint's error code and its message in lower case; the code is a plain word or empty."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return "", str(error).lower()
    code = str(error.get("code") or error.get("type") or "")
    message = f"{error.get('message') or ''} {error.get('param') or ''} {error.get('detail') or ''}"
    return (code if re.fullmatch(r"[\w.-]{1,60}", code, re.ASCII) else ""), message.lower()


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
