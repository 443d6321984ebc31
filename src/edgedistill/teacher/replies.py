"""What a reply of the teacher's endpoint means: outcomes, refusals, rate-limit headers.

ChatAnswer          a chat completion; `parsing` says whether it gives a label
Retryable           may succeed later: 429, 5xx, a timeout, a lost connection
Rejected            this request was refused; another one may succeed
FormatUnsupported   the endpoint does not know the requested answer format
Fatal               no request can succeed; becomes a `TeacherError`
RateLimits          the remaining quota from the headers

A status says little: 403 is a wrong key at one provider and a flagged text at another, 400 is anything. So a refusal
is `Fatal` only where code or wording names something that all requests share. Any other is `Rejected`, and the runner
stops if one response after the other is rejected (`edgedistill.teacher.runner`).
"""

import json
import math
import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import SequenceMatcher
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, TypeGuard

import httpx2

from edgedistill.teacher.cache import TeacherRequest
from edgedistill.teacher.http_client import UnusableReply
from edgedistill.teacher.parsing import Failure, FailureCause
from edgedistill.teacher.strict_json import check_texts, read_whole

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_SMALLEST_UNIX_TIME = 10**9  # a plain number this large is a Unix time, not a number of seconds


@dataclass(frozen=True, slots=True)
class LimitWindow:
    """The remaining quota of one limit.

    Attributes:
        remaining: Requests or tokens.
        reset_seconds: Seconds until the quota resets.
    """

    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The remaining quota of an endpoint; each limit has its own window.

    Attributes:
        requests: Quota of requests; None if the headers do not give it.
        tokens: Quota of tokens; None likewise.
    """

    requests: LimitWindow | None
    tokens: LimitWindow | None


def parse_rate_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """Return the quota in ``x-ratelimit-remaining-*`` and ``x-ratelimit-reset-*``, or None if they are incomplete.

    Args:
        headers: The reply's headers, names in lower case.
    """
    requests, tokens = _parse_window(headers, "requests"), _parse_window(headers, "tokens")
    return RateLimits(requests, tokens) if requests or tokens else None


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, or None; a date is compared with this machine's clock."""
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


def _parse_window(headers: Mapping[str, str], kind: str) -> LimitWindow | None:
    remaining = headers.get(f"x-ratelimit-remaining-{kind}", "")
    seconds = _parse_seconds(headers.get(f"x-ratelimit-reset-{kind}", ""))
    return (
        LimitWindow(int(remaining), seconds)
        if re.fullmatch(r"[0-9]{1,15}", remaining) and seconds is not None
        else None
    )


def _parse_seconds(text: str) -> float | None:
    """Return the seconds in ``1s``, ``6m0s``, ``120ms``, ``59.5``, a Unix time or an ISO date."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]+)?", text):
        number = float(text)
        return number if number < _SMALLEST_UNIX_TIME else max(0.0, number - datetime.now(UTC).timestamp())
    duration = _DURATION.fullmatch(text)
    if duration and text:
        return math.fsum(float(part) * unit for part, unit in zip(duration.groups(), _UNITS, strict=True) if part)
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A chat completion.

    Attributes:
        answer: The whole completion.
        rate_limits: The remaining quota from its headers.
    """

    answer: Mapping[str, Any] = field(repr=False)
    rate_limits: RateLimits | None = None

    @property
    def is_filtered(self) -> bool:
        """Whether a content filter ended it, so that asking again gives the same."""
        choice = self.answer["choices"][0] if isinstance(self.answer.get("choices"), list) else None
        finish = choice.get("finish_reason") if isinstance(choice, dict) else None
        return isinstance(finish, str) and finish.lower() in _FILTER_CODES

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Input and output tokens, or None if the endpoint does not report them."""
        usage = self.answer.get("usage")
        if not isinstance(usage, dict):
            return None
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        return (prompt, completion) if _is_count(prompt) and _is_count(completion) else None


@dataclass(frozen=True, slots=True)
class Retryable:
    """A failed try that may succeed later.

    Attributes:
        failure: The failure to report if it never succeeds.
        retry_after: Seconds to wait according to the endpoint, or None.
        overloaded: Whether the endpoint refused it because of too many requests.
        maybe_billed: Whether the endpoint may charge for an answer that did not arrive.
        unreachable: Whether nothing listens at the address.
    """

    failure: Failure
    retry_after: float | None = None
    overloaded: bool = False
    maybe_billed: bool = False
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A try that the endpoint refused, as far as is known because of its content.

    Attributes:
        failure: The failure to report.
        sentence: What the endpoint said.
        filtered: Whether the endpoint's content filter refused it.
    """

    failure: Failure
    sentence: str = field(default="", compare=False)
    filtered: bool = False

    @property
    def kind(self) -> str:
        """Equal for refusals with the same reason: code and sentence, without numbers and ids."""
        return re.sub(r"\w*\d\w*", "", f"{self.failure.code.removeprefix('HTTP')} {self.sentence}")


@dataclass(frozen=True, slots=True)
class FormatUnsupported:
    """The endpoint does not know the requested answer format."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """No request can succeed.

    Attributes:
        kind: ``key``, ``quota``, ``model``, ``parameter``, ``roles``, ``address``, ``redirect``, ``stream``,
            ``certificate`` or ``tls``.
        code: The HTTP status with the endpoint's own code, or the reason in words.
        parameter: The refused parameter, for the kind ``parameter``; empty if the endpoint does not name it.
        sentence: What the endpoint said.
    """

    kind: str
    code: str
    parameter: str = ""
    sentence: str = field(default="", compare=False)


Outcome: TypeAlias = ChatAnswer | Retryable | Rejected | FormatUnsupported | Fatal

_FORMAT_WORDS = re.compile(
    r"response_format|json_schema|json_object|json schema|json mode|structured output|guided|grammar"
)
_REFUSAL_WORDS = re.compile(
    r"unsupported|not support|unknown|unrecognized|not (permitted|allowed)|deprecated|extra inputs|only the default"
)
_MODEL_WORDS = re.compile(
    r"model\b.{0,80}(not found|not exist|unknown|not available|not (a )?valid|not have access|decommissioned)"
    r"|(unknown|no such|invalid|unsupported) model\b"
)
_MODEL_CODES = {"model_not_found", "deploymentnotfound", "invalid_model", "model_not_available"}
_KEY_WORDS = re.compile(
    r"api[ _-]?key|credential|authenticat|unauthori[sz]ed|not authori[sz]ed|access[ _-]token|permission|forbidden"
    r"|access (is |was |has been )?(denied|terminated)"
    r"|(account|organi[sz]ation)\b.{0,60}(disabled|suspended|flagged|deactivated)"
    r"|(country|region|territory).{0,40}not supported"
)
_KEY_CODES = {
    "invalid_api_key",
    "api_key_invalid",
    "authentication_error",
    "invalid_authentication",
    "unauthenticated",
    "access_terminated",
    "account_deactivated",
}
_QUOTA_WORDS = re.compile(
    r"credit balance|insufficient (credit|balance|fund|quota)|billing|exceeded your current quota"
)
_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"}
_ROLE_WORDS = re.compile(
    r"(system|developer) (role|message|prompt|instruction)s?\b.{0,60}\b(not|unsupported|only)\b|roles must alternate"
)
_PARAMETER_WORDS = re.compile(r"support\w* the requested parameters")
_FILTER_WORDS = re.compile(
    r"content[ _-](management|filter|moderation|safety|polic)|\bmoderation\b|\bflagged\b|guardrail"
    r"|inappropriate content|sensitive (content|words|information)"
    r"|safety (system|filter|setting|reason|polic|guideline|check)|usage polic"
    r"|violat\w+.{0,60}(polic|guideline|terms)|blocked (by|due to|for|because).{0,60}(safety|polic|content|filter)"
    r"|data[ _]?inspection|prohibited content|harmful"
)
_FILTER_CODES = {
    "content_filter",
    "content_filtered",
    "content_policy_violation",
    "content_policy",
    "responsibleaipolicyviolation",
    "moderation_blocked",
    "moderation",
    "content_moderation",
    "data_inspection_failed",
    "datainspectionfailed",
    "sensitive_content",
    "safety",
    "prohibited_content",
    "blocklist",
    "invalid_prompt",
    "guardrail_intervened",
    "1301",
}
_FILTER_KEYS = {"content_filter_result", "content_filter_results", "flagged_input", "blockreason", "block_reason"}

_STATUS_OF_CODE = {"insufficient_quota": 429, "rate_limit_exceeded": 429}  # for errors sent with status 200
_REFUSALS = (400, 403, 404, 405, 422, 451)  # may be about the content of a request


def classify_status(
    status: int,
    headers: Mapping[str, str],
    body: str,
    *,
    formatted: bool,
    verified: bool,
    sent: Collection[str] = (),
) -> Outcome:
    """Classify an HTTP error.

    Args:
        status: The HTTP status, 300 or more.
        headers: The reply's headers, names in lower case.
        body: The reply's body.
        formatted: Whether the request had a ``response_format``.
        verified: Whether the endpoint has answered a request with these settings, so that key, address, model and
            parameters are right.
        sent: The names of the request's sampling parameters.
    """
    error = _parse_error(body)
    detail = f"HTTP {status}" if error.code in ("", str(status)) else f"HTTP {status} {error.code}"
    if kind := _find_shared_reason(status, error):
        return Fatal(kind, detail, sentence=error.message)
    if status >= 500 or status in (408, 409, 425, 429):
        cause = FailureCause.RATE_LIMITED if status == 429 else FailureCause.SERVER_ERROR
        wait = _seconds_to_wait(headers) if status == 429 else parse_retry_after(headers)
        return Retryable(Failure(cause, body, detail), retry_after=wait, overloaded=status in (429, 503, 529))
    if error.is_filter and status in _REFUSALS:
        return Rejected(Failure(FailureCause.FILTERED, body, detail), error.message, filtered=True)
    if error.code == "recording_missing":
        return Rejected(Failure(FailureCause.NOT_RECORDED, body, detail), error.message)
    rejected = Rejected(Failure(FailureCause.REJECTED, body, detail), error.message)
    message = error.words
    if (status == 404 or not verified) and _MODEL_WORDS.search(message):
        return Fatal("model", detail, sentence=error.message)
    if formatted and status in (400, 404, 415, 422) and _FORMAT_WORDS.search(message):
        return FormatUnsupported()
    if verified or status not in _REFUSALS:
        return rejected
    return _classify_first_refusal(status, error, detail, sent) or rejected


def _find_shared_reason(status: int, error: "_ErrorBody") -> str | None:
    """Return the kind of an error whose status or code names something that all requests share, else None."""
    if status < 400:
        return "redirect"
    if status == 402 or error.codes & _QUOTA_CODES:
        return "quota"
    if status == 401 or error.codes & _KEY_CODES:
        return "key"
    return "model" if error.codes & _MODEL_CODES else None


def _classify_first_refusal(status: int, error: "_ErrorBody", detail: str, sent: Collection[str]) -> Fatal | None:
    """Return the outcome if the wording names something that all requests share, else None."""
    message, sentence = error.words, error.message
    parameter = _refused_parameter(message, sent)
    if parameter or _PARAMETER_WORDS.search(message):
        return Fatal("parameter", detail, parameter or "", sentence)
    for words, kind in ((_QUOTA_WORDS, "quota"), (_KEY_WORDS, "key"), (_ROLE_WORDS, "roles")):
        if words.search(message):
            return Fatal(kind, detail, sentence=sentence)
    return Fatal("address", detail, sentence=sentence) if status in (404, 405) else None


def classify_body(body: str, *, verified: bool, headers: Mapping[str, str] | None = None, status: int = 200) -> Outcome:
    """Classify the body of a successful reply; some endpoints send errors that way.

    Args:
        body: The reply's body.
        verified: Whether the endpoint has answered a request of this run.
        headers: The reply's headers, names in lower case.
        status: The HTTP status, 200 to 299.
    """
    value, detail = parse_json(body), f"HTTP {status}"
    if fault := _fault_of_choice(value):
        outcome = classify_body(json.dumps({"error": fault}), verified=verified)
        return replace(outcome, maybe_billed=True) if isinstance(outcome, Retryable) else outcome
    if isinstance(value, dict) and value.get("choices"):
        return ChatAnswer(value, parse_rate_limits(headers or {}))
    error = _parse_error(body)
    if isinstance(value, dict) and value.get("error"):
        stated = int(error.code) if re.fullmatch("[45][0-9][0-9]", error.code) else _STATUS_OF_CODE.get(error.code, 400)
        return classify_status(stated, {}, body, formatted=False, verified=verified)
    if isinstance(value, dict) and error.is_filter:  # such as Gemini's promptFeedback
        return Rejected(Failure(FailureCause.FILTERED, body, detail), error.message, filtered=True)
    if isinstance(value, dict) and verified:
        return Rejected(Failure(FailureCause.UNREADABLE, body, detail), error.message)
    if body.startswith(("data:", "event:", ": ")) and not verified:
        return Fatal("stream", detail)
    what = "a web page" if body.lstrip()[:1] == "<" else "no chat completion"
    return Retryable(Failure(FailureCause.SERVER_ERROR, body, f"{detail}, {what}"), unreachable=not verified)


def _fault_of_choice(value: Any) -> dict[str, Any] | None:
    """Return the error in place of an answer, as OpenRouter sends it if a provider failed while it answered."""
    choices = value.get("choices") if isinstance(value, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    fault = choice.get("error") if isinstance(choice, dict) else None
    return fault if isinstance(fault, dict) and fault else None


def parse_json(body: str | bytes) -> Any:
    """Return the value of a JSON text, None for NaN and infinities, which JSON cannot hold.

    Returns:
        The value; None if it is not valid, or cannot be written again: see `check_texts`.
    """
    try:
        value = json.loads(body, parse_constant=lambda _: None, parse_float=_finite, parse_int=read_whole)
        check_texts(value)
    except (ValueError, RecursionError):
        return None
    return value


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Return how long a refused request should wait: Retry-After, else until the exhausted quota resets."""
    retry_after, limits = parse_retry_after(headers), parse_rate_limits(headers)
    quotas = (limits.requests, limits.tokens) if limits else ()
    exhausted = [quota.reset_seconds for quota in quotas if quota and quota.remaining == 0]
    return max(exhausted, default=None) if retry_after is None else retry_after


def _refused_parameter(message: str, sent: Collection[str]) -> str | None:
    """Return the sampling parameter that an error message calls unknown or not allowed, if there is one."""
    if not _REFUSAL_WORDS.search(message):
        return None
    return next((name for name in sent if re.search(rf"\b{re.escape(name)}\b", message)), None)


@dataclass(frozen=True, slots=True)
class _ErrorBody:
    """An error as the endpoint describes it.

    Attributes:
        code: Its code if that is a plain word, else empty.
        codes: All codes, types and reasons, in lower case.
        message: Its message.
        keys: The names of all its fields, in lower case.
        parameter: The parameter that it is about, if it names one in a field of its own.
    """

    code: str
    codes: frozenset[str]
    message: str
    keys: frozenset[str]
    parameter: str = ""

    @property
    def words(self) -> str:
        """What it says, in lower case."""
        return f"{self.message} {self.parameter}".lower()

    @property
    def is_filter(self) -> bool:
        """Whether a content filter refused the text, and not the account."""
        named = self.codes & _FILTER_CODES or self.keys & _FILTER_KEYS
        return bool(named or (_FILTER_WORDS.search(self.words) and not _KEY_WORDS.search(self.words)))


_CODE_KEYS = {"code", "type", "status", "reason", "reasons", "__type", "blockreason", "block_reason", "finish_reason"}
_MESSAGE_KEYS = ("message", "msg", "detail", "error", "title", "error_description")
_MAX_FIELDS = 200  # of an error that are looked at


def _parse_error(body: str) -> _ErrorBody:
    """Return code, message and fields of an error in any provider's form."""
    value = parse_json(body)
    if value is None and body.lstrip()[:1] not in ("<", "{", "["):
        value = body  # plain text
    while isinstance(value, list) and value:  # such as Gemini's
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return _ErrorBody("", frozenset(), str(error) if isinstance(error, str) else "", frozenset())
    codes, keys = set[str](), set[str]()
    for name, each in _fields(value):
        keys.add(name.lower())
        if name.lower() in _CODE_KEYS and isinstance(each, str | int):
            codes.add(str(each).lower())
    code = str(error.get("code") or error.get("type") or "")
    messages = dict.fromkeys(text for name in _MESSAGE_KEYS for text in _texts(error.get(name)))
    plain = code if re.fullmatch(r"[\w.-]{1,60}", code, re.ASCII) else ""
    parameter = str(error.get("param") or "")
    return _ErrorBody(plain, frozenset(codes), " ".join(messages), frozenset(keys), parameter)


def _fields(value: object) -> Iterator[tuple[str, object]]:
    """Yield the fields of an object and of the objects in it, in any depth; a list's items have the list's name."""
    waiting: list[tuple[str, object]] = [("", value)]
    for _ in range(_MAX_FIELDS):
        if not waiting:
            return
        name, each = waiting.pop(0)
        if name:
            yield name, each
        if isinstance(each, dict):
            waiting += [(str(key), inner) for key, inner in list(each.items())[:_MAX_FIELDS]]
        elif isinstance(each, list):
            waiting += [(name, inner) for inner in each[:_MAX_FIELDS]]


def _texts(value: object) -> Iterator[str]:
    """Yield the text of a message, which may be a list of objects, as FastAPI's."""
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, list):
        for each in value[:3]:
            place = (
                [".".join(map(str, each["loc"]))]
                if isinstance(each, dict) and isinstance(each.get("loc"), list)
                else []
            )
            yield from place
            yield from _texts(each)
    elif isinstance(value, dict):
        for name in _MESSAGE_KEYS:
            yield from _texts(value.get(name)) if name in value else ()


_MAX_QUOTED = 300  # characters
_SHORTEST_COPY = 12  # characters in common with a prompt that count as copied from it


def quote(sentence: str, request: TeacherRequest | None = None) -> str:
    """Return an endpoint's sentence for a message: one line, bounded, without text of the request's responses.

    Args:
        sentence: What the endpoint said.
        request: The request that it was said about.
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in sentence[: 4 * _MAX_QUOTED]).split())
    for text in _learner_texts(request) if request else ():
        line = _without_copies(line, text)
    line = line.rstrip(". ")
    if len(line) > _MAX_QUOTED:
        line = f"{line[: _MAX_QUOTED - 1].rstrip()}…"
    return f': "{line}"' if line else ""


def _learner_texts(request: TeacherRequest) -> list[str]:
    """Return the texts between tags in a request's user messages, as one line each."""
    users = [message["content"] for message in request.messages if message.get("role") == "user"]
    texts = [" ".join(re.sub(r"</?\w+[^>]*>", " ", user).split()) for user in users]
    return [text for text in texts if text]


def _without_copies(line: str, text: str) -> str:
    """Replace the text, and every `_SHORTEST_COPY` characters or more that a line shares with it, by an ellipsis."""
    if len(text) >= 4 and text.lower() in line.lower():
        line = re.sub(re.escape(text), "…", line, flags=re.IGNORECASE)
    while True:
        one, other = (line.lower(), text.lower())
        if len(one) != len(line) or len(other) != len(text):  # a letter whose small form has another length
            one, other = line, text
        match = SequenceMatcher(None, one, other, autojunk=False).find_longest_match()
        if match.size < _SHORTEST_COPY:
            return line
        line = f"{line[: match.a]}…{line[match.a + match.size :]}"


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_CONNECT_ERRORS = {"ConnectError", "ConnectTimeout"}  # by name: also those of the layers below


def classify_client_error(error: Exception, *, verified: bool) -> Retryable | Fatal:
    """Classify an error of the client that is not an HTTP status.

    Args:
        error: A timeout, a connection error, or a reply that cannot be used.
        verified: Whether the endpoint has answered a request of this run.
    """
    if isinstance(error, UnusableReply):
        failure = Failure(FailureCause.SERVER_ERROR, code=f"a reply that cannot be used: {error}")
        return Retryable(failure, maybe_billed=True, unreachable=not verified)
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    unreachable = bool(names & _CONNECT_ERRORS)
    if any("CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in causes):
        return Fatal("certificate", _reason(causes))
    if not verified and any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Fatal("tls", _reason(causes))
    if "ProxyError" in names:
        return Retryable(Failure(FailureCause.DROPPED, code="a proxy error"), unreachable=not verified)
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return Retryable(Failure(FailureCause.TIMED_OUT), maybe_billed=not unreachable, unreachable=unreachable)
    return Retryable(Failure(FailureCause.DROPPED), maybe_billed=not unreachable, unreachable=unreachable)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _reason(causes: list[BaseException]) -> str:
    """Return OpenSSL's reason, such as "certificate has expired"."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
    reasons = (cause.reason for cause in causes if isinstance(cause, ssl.SSLError))
    return (next(reasons, None) or "TLS failed").replace("_", " ").lower()
