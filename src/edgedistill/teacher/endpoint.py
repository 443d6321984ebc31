"""One endpoint with one model: API key, client, how replies and errors are sorted, rate-limit headers.

Room        how much more the endpoint takes before its windows end
└── Left    one limit

Answered        a chat completion; whether it gives a label is for `parsing` to say
Busy            worth another try later: 429, 5xx, a timeout, a lost connection
Rejected        this request was refused and another may not be
FormatRefused   the endpoint does not know the wanted answer format
errors          TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable: no request can succeed

Endpoint    the connection
Known       what it has been found to take
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
from edgedistill.teacher.parsing import Cause, Failure

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


_DEAF = {"ConnectError", "ConnectTimeout"}  # of httpx or httpx2, whichever the client was built with


def outcome_of_error(error: Exception, *, heard: bool) -> Busy | Fatal:
    """Sort an error of the client that is not an HTTP status into an outcome.

    Args:
        error: A time-out or a connection error.
        heard: Whether the endpoint has answered a request of this run.
    """
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    told = " ".join(str(cause) for cause in causes)
    deaf = bool(names & _DEAF)
    if "CERTIFICATE_VERIFY_FAILED" in told:
        return Fatal("certificate", _reason(causes))
    if not heard and any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Fatal("tls", _reason(causes))
    if "ProxyError" in names:
        return Busy(Failure(Cause.DROPPED, code="a proxy error"), deaf=not heard)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Busy(Failure(Cause.TIMED_OUT), unheard=not deaf, deaf=deaf)
    return Busy(Failure(Cause.DROPPED), unheard=not deaf, deaf=deaf)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _reason(causes: list[BaseException]) -> str:
    """Return what OpenSSL says, such as "certificate has expired"."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
    reasons = (cause.reason for cause in causes if isinstance(cause, ssl.SSLError))
    return (next(reasons, None) or "TLS failed").replace("_", " ").lower()


_PARAMETER_HINTS = {
    "seed": "Set teacher.seed to false: the votes are then told apart by the teacher's own sampling.",
    "temperature": "Set teacher.temperature, or generate.temperature where responses are written, to what the model "
    "takes, mostly 1; null for teacher.temperature sends none.",
}


def stopped(fatal: Fatal, section: TeacherSection) -> TeacherError:
    """Return the error for an outcome after which no request can succeed.

    Args:
        fatal: What is wrong.
        section: Whom the request was sent to.
    """
    where, code, variable = section.base_url, fatal.code, section.api_key_env
    match fatal.kind:
        case "key":
            hint = (
                f"Check the key in the environment variable {variable}, and that it is one for this address."
                if variable
                else "Name the environment variable that holds the key, in teacher.api_key_env."
            )
            return TeacherRefusedKey(f"the endpoint refused the key ({code})", where=where, hint=hint)
        case "quota":
            hint = f"Add credit to the account, or set {variable or 'teacher.api_key_env'} to another key."
            return TeacherRefusedKey(f"the key's account has no credit ({code})", where=where, hint=hint)
        case "model":
            what = f"the endpoint does not know the model {section.model!r} ({code})"
            return TeacherUnknownModel(what, where=where, hint="Check teacher.model.")
        case "parameter":
            hint = _PARAMETER_HINTS.get(fatal.parameter, "Leave it out of the project file, or choose another model.")
            return TeacherError(f"the endpoint refuses {fatal.parameter!r} ({code})", where=where, hint=hint)
        case _:
            what, hint = _no_connection(fatal)
            return TeacherUnreachable(what, where=where, hint=hint)


def _no_connection(fatal: Fatal) -> tuple[str, str]:
    match fatal.kind:
        case "certificate":
            return (
                f"the endpoint's certificate is not trusted ({fatal.code})",
                "Check address and clock; behind a school's proxy, set SSL_CERT_FILE to the proxy's certificate.",
            )
        case "tls":
            return (
                f"no encrypted connection comes about ({fatal.code})",
                "Check whether teacher.base_url begins with https:// where it should be http://.",
            )
        case "stream":
            return (
                "the endpoint streams its answers although it is asked not to",
                "Turn streaming off in the server or the proxy before it; nothing was kept of the streamed answer.",
            )
        case _:
            return (
                f"there are no chat completions at this address ({fatal.code})",
                "Check teacher.base_url; it mostly ends in /v1.",
            )


NO_KEY = "none"
"""What is sent to an endpoint that wants no key; the client must send something."""


def api_key(section: TeacherSection, environ: Mapping[str, str]) -> str:
    """Return the key that the environment holds.

    Args:
        section: Names the variable; None there stands for an endpoint that wants no key.
        environ: The environment variables.

    Raises:
        TeacherRefusedKey: The variable is not set, or is empty.
    """
    if section.api_key_env is None:
        return NO_KEY
    key = environ.get(section.api_key_env, "").strip()
    if not key:
        raise TeacherRefusedKey(
            f"the environment variable {section.api_key_env} holds no key",
            where="teacher.api_key_env",
            hint=f"Set it (export {section.api_key_env}=…), or write `api_key_env: null` for an endpoint that wants "
            "none.",
        )
    return key


@dataclass(frozen=True, slots=True)
class Known:
    """What an endpoint has been found to take.

    Attributes:
        form: The strictest answer format.
        limit_name: The name of the token limit.
    """

    form: AnswerFormat = AnswerFormat.SCHEMA
    limit_name: str = "max_tokens"


_OTHER_LIMIT = "max_completion_tokens"  # newer models know the token limit by this name, and their error says so


class Endpoint:
    """An open connection to the teacher.

    Args:
        section: Address, model, and the seconds that one try may take.
        api_key: The key.
        known: What it has been found to take before.

    Raises:
        TeacherUnreachable: The address is none.
        TeacherRefusedKey: The key holds characters that cannot be sent.
    """

    def __init__(self, section: TeacherSection, api_key: str, known: Known | None = None) -> None:
        self._section = section
        self._heard = False
        self.known = known or Known()
        seconds = section.timeout_seconds
        connect = min(10.0, seconds / 2)  # shorter than a try, so that a silent host is told from a slow answer
        if not (api_key.isascii() and api_key.isprintable()):
            raise TeacherRefusedKey(
                "the key holds characters that no key has, such as a line break or an accent",
                where=f"environment variable {section.api_key_env}" if section.api_key_env else None,
                hint="Copy the key again.",
            )
        try:
            _ = urlsplit(section.base_url).port  # raises where the client would only when it connects
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

    def step_down(self, refused: AnswerFormat) -> None:
        """Ask in the next format from now on, unless another request has stepped down already."""
        if refused is self.known.form and refused.next:
            self.known = replace(self.known, form=refused.next)

    async def send(self, request: TeacherRequest) -> Answered | Busy | Rejected | FormatRefused:
        """Make one try.

        Raises:
            TeacherError: No request can succeed: TeacherRefusedKey, TeacherUnknownModel or TeacherUnreachable.
        """
        outcome = await self._outcome(request)
        if isinstance(outcome, Fatal):
            raise stopped(outcome, self._section)
        self._heard = self._heard or isinstance(outcome, Answered)
        return outcome

    def unreachable(self, busy: Busy) -> TeacherUnreachable:
        """Return the error for an endpoint that nothing more can be had from."""
        what = "nothing listens there" if not busy.failure.code else f"it only answers with {busy.failure.code}"
        return TeacherUnreachable(
            what,
            where=self._section.base_url,
            hint="Check teacher.base_url and that the server runs; every answer so far is kept, so run again to go on.",
        )

    async def _outcome(self, request: TeacherRequest) -> Outcome:
        limit_name = self.known.limit_name
        try:
            async with asyncio.timeout(self._section.timeout_seconds):
                # `chat.completions.create` would first check every message against its types, at a quarter of the
                # client's whole CPU time; the body is the same.
                reply = await self._client.post(
                    "/chat/completions", cast_to=httpx2.Response, body=body_of(request, limit_name)
                )
        except openai.APIStatusError as error:
            if limit_name == "max_tokens" and error.status_code == 400 and _OTHER_LIMIT in str(error):
                self.known = replace(self.known, limit_name=_OTHER_LIMIT)
                return await self._outcome(request)
            formatted = request.response_format is not None
            return outcome_of_status(
                error.status_code,
                error.response.headers,
                error.response.text,
                formatted=formatted,
                heard=self._heard,
                sent=tuple(request.sampling),
            )
        except (TimeoutError, openai.APIConnectionError) as error:
            return outcome_of_error(error, heard=self._heard)
        except openai.OpenAIError as error:
            raise TeacherError(f"the client failed: {type(error).__name__}", where=self._section.base_url) from error
        return outcome_of_body(reply.content.decode("utf-8", "replace"), heard=self._heard, headers=reply.headers)


def body_of(request: TeacherRequest, limit_name: str) -> dict[str, Any]:
    """Return the JSON body of a request, its token limit under the name that the endpoint knows."""
    body: dict[str, Any] = {"model": request.model, "messages": request.messages, **request.sampling}
    body[limit_name] = request.max_output_tokens
    if request.response_format is not None:
        body["response_format"] = request.response_format
    return body
