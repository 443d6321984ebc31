"""What can come of one try, and how an endpoint's reply is sorted into it.

Answered        a chat completion; whether it gives a label is for `parsing` to say
Busy            worth another try later: 429, 5xx, a timeout, a lost connection
Rejected        this request was refused and another may not be
FormatRefused   the endpoint does not know the wanted answer format
errors          TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable: no request can succeed
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, TypeGuard

from edgedistill.teacher.parsing import Cause, Failure


@dataclass(frozen=True, slots=True)
class Answered:
    """A chat completion.

    Attributes:
        answer: The whole of it.
    """

    answer: Mapping[str, Any]

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
        unheard: Whether the endpoint may have worked, and asks money, for an answer that never came.
        deaf: Whether nothing listens at the address.
    """

    failure: Failure
    wait: float | None = None
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
        code: The HTTP status with the endpoint's own code.
    """

    kind: str
    code: str


Outcome: TypeAlias = Answered | Busy | Rejected | FormatRefused | Fatal

_FORMAT_WORDS = re.compile(
    r"response_format|json_schema|json_object|json schema|json mode|structured output|guided|grammar"
)
_MODEL_WORDS = re.compile(r"model.*(not found|not exist|unknown|not available)|(unknown|no such|invalid) model")


def outcome_of_status(status: int, headers: Mapping[str, str], body: str, *, formatted: bool, heard: bool) -> Outcome:
    """Sort an HTTP error into an outcome.

    Args:
        status: The HTTP status, 300 or more.
        headers: The reply's headers, names in lower case.
        body: The reply's body.
        formatted: Whether the request asked for an answer format.
        heard: Whether the endpoint has answered a request of this run, so that key and address are right.
    """
    code, message = _said(body)
    told = f"HTTP {status} {code}".strip()
    if status == 429 and code == "insufficient_quota":
        return Fatal("quota", told)
    if status == 429:
        return Busy(Failure(Cause.RATE_LIMITED, body, told), wait=retry_after(headers))
    if status >= 500 or status in (408, 409, 425):
        return Busy(Failure(Cause.SERVER_ERROR, body, told), wait=retry_after(headers))
    if status == 401 or (status == 403 and not heard):
        return Fatal("key", told)
    if status == 404:
        return _not_found(code, message, told, body, heard=heard)
    if formatted and status in (400, 415, 422) and _FORMAT_WORDS.search(message):
        return FormatRefused()
    return Rejected(Failure(Cause.REJECTED, body, told))


def outcome_of_body(body: str, *, heard: bool) -> Outcome:
    """Sort the body of a reply with status 200 into an outcome; some endpoints send errors that way.

    Args:
        body: The reply's body.
        heard: Whether the endpoint has answered a request of this run.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("choices"):
        return Answered(value)
    if isinstance(value, dict) and value.get("error"):
        code, _ = _said(body)
        status = int(code) if re.fullmatch("[45][0-9][0-9]", code) else 400
        return outcome_of_status(status, {}, body, formatted=False, heard=heard)
    if isinstance(value, dict) and heard:
        return Rejected(Failure(Cause.UNREADABLE, body, "HTTP 200"))
    return Busy(Failure(Cause.SERVER_ERROR, body, "HTTP 200, no chat completion"), deaf=not heard)


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
