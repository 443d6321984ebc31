"""The teacher's endpoint: API key, client, classification of replies and errors, rate-limit headers.

Endpoint            an open connection
Capabilities        what the endpoint is known to support
ChatAnswer          a chat completion; `parsing` says whether it gives a label
Retryable           may succeed later: 429, 5xx, a timeout, a lost connection
Rejected            this request was refused; another one may succeed
FormatUnsupported   the endpoint does not know the requested answer format
Fatal               no request can succeed; becomes a `TeacherError`
RateLimits          the remaining quota from the headers
"""

import asyncio
import json
import math
import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeAlias, TypeGuard
from urllib.parse import urlsplit

import httpx2
import openai

from edgedistill.errors import TeacherError, TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable
from edgedistill.project.schema import TeacherSection
from edgedistill.teacher.cache import TeacherRequest
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.parsing import Failure, FailureCause

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

    answer: Mapping[str, Any]
    rate_limits: RateLimits | None = None

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
    """A try that the endpoint refused because of its content."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class FormatUnsupported:
    """The endpoint does not know the requested answer format."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """No request can succeed.

    Attributes:
        kind: ``key``, ``quota``, ``model``, ``parameter``, ``address``, ``stream``, ``certificate`` or ``tls``.
        code: The HTTP status with the endpoint's own code, or the reason in words.
        parameter: The refused parameter, for the kind ``parameter``.
    """

    kind: str
    code: str
    parameter: str = ""


Outcome: TypeAlias = ChatAnswer | Retryable | Rejected | FormatUnsupported | Fatal

_FORMAT_WORDS = re.compile(
    r"response_format|json_schema|json_object|json schema|json mode|structured output|guided|grammar"
)
_REFUSAL_WORDS = re.compile(
    r"unsupported|not support|unknown|unrecognized|not (permitted|allowed)|deprecated|extra inputs|only the default"
)
_MODEL_WORDS = re.compile(r"model.*(not found|not exist|unknown|not available)|(unknown|no such|invalid) model")

_STATUS_OF_CODE = {"insufficient_quota": 429, "rate_limit_exceeded": 429}  # for errors sent with status 200


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
        verified: Whether the endpoint has answered a request of this run, so that key and address are right.
        sent: The names of the request's sampling parameters.
    """
    code, message = _parse_error(body)
    detail = f"HTTP {status} {code}".strip()
    if status == 402 or (status == 429 and code == "insufficient_quota"):
        return Fatal("quota", detail)
    if status == 429:
        return Retryable(
            Failure(FailureCause.RATE_LIMITED, body, detail), retry_after=_seconds_to_wait(headers), overloaded=True
        )
    if status >= 500 or status in (408, 409, 425):
        overloaded = status in (503, 529)
        return Retryable(
            Failure(FailureCause.SERVER_ERROR, body, detail),
            retry_after=parse_retry_after(headers),
            overloaded=overloaded,
        )
    if status == 401 or (status == 403 and not verified):
        return Fatal("key", detail)
    if status == 404:
        return _not_found(code, message, detail, body, verified=verified)
    if formatted and status in (400, 415, 422) and _FORMAT_WORDS.search(message):
        return FormatUnsupported()
    if status in (400, 422) and not verified and (parameter := _refused_parameter(message, sent)):
        return Fatal("parameter", detail, parameter)
    return Rejected(Failure(FailureCause.REJECTED, body, detail))


def classify_body(body: str, *, verified: bool, headers: Mapping[str, str] | None = None) -> Outcome:
    """Classify the body of a reply with status 200; some endpoints send errors that way.

    Args:
        body: The reply's body.
        verified: Whether the endpoint has answered a request of this run.
        headers: The reply's headers, names in lower case.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("choices"):
        return ChatAnswer(value, parse_rate_limits(headers or {}))
    if isinstance(value, dict) and value.get("error"):
        code, _ = _parse_error(body)
        status = int(code) if re.fullmatch("[45][0-9][0-9]", code) else _STATUS_OF_CODE.get(code, 400)
        return classify_status(status, {}, body, formatted=False, verified=verified)
    if isinstance(value, dict) and verified:
        return Rejected(Failure(FailureCause.UNREADABLE, body, "HTTP 200"))
    if body.startswith(("data:", "event:", ": ")) and not verified:
        return Fatal("stream", "HTTP 200")
    what = "a web page" if body.lstrip()[:1] == "<" else "no chat completion"
    return Retryable(Failure(FailureCause.SERVER_ERROR, body, f"HTTP 200, {what}"), unreachable=not verified)


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


def _not_found(code: str, message: str, detail: str, body: str, *, verified: bool) -> Outcome:
    if code == "recording_missing":
        return Rejected(Failure(FailureCause.NOT_RECORDED, body, detail))
    if code in ("model_not_found", "DeploymentNotFound") or _MODEL_WORDS.search(message):
        return Fatal("model", detail)
    return Rejected(Failure(FailureCause.REJECTED, body, detail)) if verified else Fatal("address", detail)


def _parse_error(body: str) -> tuple[str, str]:
    """Return the endpoint's error code, a plain word or empty, and its message in lower case."""
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


_CONNECT_ERRORS = {"ConnectError", "ConnectTimeout"}  # by name: the client may use httpx or httpx2


def classify_client_error(error: Exception, *, verified: bool) -> Retryable | Fatal:
    """Classify an error of the client that is not an HTTP status.

    Args:
        error: A timeout or a connection error.
        verified: Whether the endpoint has answered a request of this run.
    """
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    unreachable = bool(names & _CONNECT_ERRORS)
    if any("CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in causes):
        return Fatal("certificate", _reason(causes))
    if not verified and any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Fatal("tls", _reason(causes))
    if "ProxyError" in names:
        return Retryable(Failure(FailureCause.DROPPED, code="a proxy error"), unreachable=not verified)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
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


_PARAMETER_HINTS = {
    "seed": "Set teacher.seed to false; the votes then differ by the teacher's own sampling.",
    "temperature": "Set teacher.temperature (or generate.temperature for synthetic responses) to a value that the "
    "model accepts, usually 1; teacher.temperature: null sends none.",
}


def build_teacher_error(fatal: Fatal, section: TeacherSection) -> TeacherError:
    """Return the error for a fatal outcome.

    Args:
        fatal: The outcome.
        section: The teacher that the request was sent to.
    """
    where, code, variable = section.base_url, fatal.code, section.api_key_env
    match fatal.kind:
        case "key":
            hint = (
                f"Check the key in the environment variable {variable}, and that it belongs to this address."
                if variable
                else "Set teacher.api_key_env to the name of the environment variable that holds the key."
            )
            return TeacherRefusedKey(f"the endpoint refused the key ({code})", where=where, hint=hint)
        case "quota":
            hint = f"Add credit to the account, or set {variable or 'teacher.api_key_env'} to another key."
            return TeacherRefusedKey(f"the key's account has no credit ({code})", where=where, hint=hint)
        case "model":
            what = f"the endpoint does not know the model {section.model!r} ({code})"
            return TeacherUnknownModel(what, where=where, hint="Check teacher.model.")
        case "parameter":
            hint = _PARAMETER_HINTS.get(fatal.parameter, "Remove it from the project file, or choose another model.")
            return TeacherError(f"the endpoint refuses {fatal.parameter!r} ({code})", where=where, hint=hint)
        case _:
            what, hint = _no_connection(fatal)
            return TeacherUnreachable(what, where=where, hint=hint)


def _no_connection(fatal: Fatal) -> tuple[str, str]:
    match fatal.kind:
        case "certificate":
            return (
                f"the endpoint's certificate is not trusted ({fatal.code})",
                "Check the address and the clock; behind a proxy, set SSL_CERT_FILE to the proxy's certificate.",
            )
        case "tls":
            return (
                f"the encrypted connection failed ({fatal.code})",
                "Check whether teacher.base_url starts with https:// but should start with http://.",
            )
        case "stream":
            return (
                "the endpoint streams its answers although streaming was not requested",
                "Turn off streaming in the server or its proxy; the streamed answer was not saved.",
            )
        case _:
            return (
                f"there are no chat completions at this address ({fatal.code})",
                "Check teacher.base_url; it usually ends in /v1.",
            )


NO_KEY = "none"
"""Sent to an endpoint that needs no key; the client must send something."""


def read_api_key(section: TeacherSection, environ: Mapping[str, str]) -> str:
    """Return the API key from the environment.

    Args:
        section: Names the variable; None means that the endpoint needs no key.
        environ: The environment variables.

    Raises:
        TeacherRefusedKey: The variable is not set, or is empty.
    """
    if section.api_key_env is None:
        return NO_KEY
    key = environ.get(section.api_key_env, "").strip()
    if not key:
        raise TeacherRefusedKey(
            f"the environment variable {section.api_key_env} is not set or empty",
            where="teacher.api_key_env",
            hint=f"Set it (export {section.api_key_env}=…), or write `api_key_env: null` if the endpoint needs no key.",
        )
    return key


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint is known to support.

    Attributes:
        answer_format: The strictest supported answer format.
        limit_name: The name of its parameter for the token limit.
    """

    answer_format: AnswerFormat = AnswerFormat.SCHEMA
    limit_name: str = "max_tokens"


_OTHER_LIMIT_NAME = "max_completion_tokens"  # used by newer models, whose error message names it


class Endpoint:
    """An open connection to the teacher.

    Args:
        section: Address, model, and the timeout of one try.
        api_key: The key.
        capabilities: What the endpoint is known to support.

    Raises:
        TeacherUnreachable: The address is not valid.
        TeacherRefusedKey: The key contains characters that cannot be sent.
    """

    def __init__(self, section: TeacherSection, api_key: str, capabilities: Capabilities | None = None) -> None:
        self._section = section
        self._verified = False
        self.capabilities = capabilities or Capabilities()
        seconds = section.timeout_seconds
        connect = min(10.0, seconds / 2)  # shorter than a try, to tell a silent host from a slow answer
        if not (api_key.isascii() and api_key.isprintable()):
            raise TeacherRefusedKey(
                "the key contains characters that no key has, such as a line break or an accent",
                where=f"environment variable {section.api_key_env}" if section.api_key_env else None,
                hint="Copy the key again.",
            )
        try:
            _ = urlsplit(section.base_url).port  # raises here; the client would raise only when it connects
            self._client = openai.AsyncOpenAI(
                api_key=api_key,
                base_url=section.base_url,
                max_retries=0,
                timeout=openai.Timeout(seconds, connect=connect),
            )
        except (openai.OpenAIError, ValueError) as error:
            raise TeacherUnreachable(
                "the address cannot be used", where=section.base_url, hint="Check teacher.base_url."
            ) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def fall_back(self, refused: AnswerFormat) -> None:
        """Use the next answer format from now on, unless another request has fallen back already."""
        if refused is self.capabilities.answer_format and refused.next:
            self.capabilities = replace(self.capabilities, answer_format=refused.next)

    async def send(self, request: TeacherRequest) -> ChatAnswer | Retryable | Rejected | FormatUnsupported:
        """Send a request once.

        Raises:
            TeacherError: No request can succeed: TeacherRefusedKey, TeacherUnknownModel or TeacherUnreachable.
        """
        outcome = await self._outcome(request)
        if isinstance(outcome, Fatal):
            raise build_teacher_error(outcome, self._section)
        self._verified = self._verified or isinstance(outcome, ChatAnswer)
        return outcome

    def unreachable_error(self, outcome: Retryable) -> TeacherUnreachable:
        """Return the error for an endpoint that keeps failing."""
        code = outcome.failure.code
        what = f"it only answers with {code}" if code else "nothing listens there"
        return TeacherUnreachable(
            what,
            where=self._section.base_url,
            hint="Check teacher.base_url and that the server runs. All answers are saved; run again to continue.",
        )

    async def _outcome(self, request: TeacherRequest) -> Outcome:
        limit_name = self.capabilities.limit_name
        try:
            async with asyncio.timeout(self._section.timeout_seconds):
                # `chat.completions.create` would first validate the types of every message, which takes a quarter of
                # the client's CPU time; the body is the same.
                reply = await self._client.post(
                    "/chat/completions", cast_to=httpx2.Response, body=build_body(request, limit_name)
                )
        except openai.APIStatusError as error:
            if limit_name == "max_tokens" and error.status_code == 400 and _OTHER_LIMIT_NAME in str(error):
                self.capabilities = replace(self.capabilities, limit_name=_OTHER_LIMIT_NAME)
                return await self._outcome(request)
            formatted = request.response_format is not None
            return classify_status(
                error.status_code,
                error.response.headers,
                error.response.text,
                formatted=formatted,
                verified=self._verified,
                sent=tuple(request.sampling),
            )
        except (TimeoutError, openai.APIConnectionError) as error:
            return classify_client_error(error, verified=self._verified)
        except openai.OpenAIError as error:
            raise TeacherError(f"the client failed: {type(error).__name__}", where=self._section.base_url) from error
        return classify_body(reply.content.decode("utf-8", "replace"), verified=self._verified, headers=reply.headers)


def build_body(request: TeacherRequest, limit_name: str) -> dict[str, Any]:
    """Return the JSON body of a request; ``limit_name`` names the token limit."""
    body: dict[str, Any] = {"model": request.model, "messages": request.messages, **request.sampling}
    body[limit_name] = request.max_output_tokens
    if request.response_format is not None:
        body["response_format"] = request.response_format
    return body
