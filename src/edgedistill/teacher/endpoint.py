"""The teacher's endpoint: API key, headers, request bodies, and the errors that end a run.

Endpoint            an open connection
Capabilities        what the endpoint is known to support

`edgedistill.teacher.replies` says what a reply means.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, Self
from urllib.parse import parse_qs

import httpx2

from edgedistill.errors import TeacherError, TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable
from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher.cache import TeacherRequest
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.http_client import HttpClient, HttpReply, UnusableReply, find_proxy, parse_address
from edgedistill.teacher.parsing import FailureCause
from edgedistill.teacher.replies import (
    ChatAnswer,
    Fatal,
    Outcome,
    Rejected,
    Retryable,
    classify_body,
    classify_client_error,
    classify_status,
    quote,
)

_PARAMETER_HINTS = {
    "seed": "Set teacher.seed to false; the votes then differ by the teacher's own sampling.",
    "temperature": "Set teacher.temperature (or generate.temperature for synthetic responses) to a value that the "
    "model accepts, usually 1; teacher.temperature: null sends none.",
    "logprobs": "Set teacher.logprobs to false, or choose another model.",
    "top_logprobs": "Set teacher.logprobs to false, or choose another model.",
    "": "Set seed: false, temperature: null and logprobs: false, or choose another model.",
}


def build_teacher_error(fatal: Fatal, section: TeacherSection) -> TeacherError:
    """Return the error for a fatal outcome.

    Args:
        fatal: The outcome; its sentence is ready to be shown, from `quote`.
        section: The teacher that the request was sent to.
    """
    where, variable, said = section.base_url, key_variable(section), f"({fatal.code}){fatal.sentence}"
    match fatal.kind:
        case "key":
            hint = (
                f"Check the key in the environment variable {variable}, and that it belongs to this address."
                if variable
                else "Set teacher.api_key_env to the name of the environment variable that holds the key."
            )
            return TeacherRefusedKey(f"the endpoint refused the key {said}", where=where, hint=hint)
        case "quota":
            hint = f"Add credit to the account, or set {variable or 'teacher.api_key_env'} to another key."
            return TeacherRefusedKey(f"the key's account has no credit {said}", where=where, hint=hint)
        case "model":
            what = f"the endpoint does not know the model {section.model!r} {said}"
            return TeacherUnknownModel(what, where=where, hint="Check teacher.model.")
        case "parameter":
            name = repr(fatal.parameter) if fatal.parameter else "a parameter"
            hint = _PARAMETER_HINTS.get(fatal.parameter, "Remove it from the project file, or choose another model.")
            return TeacherError(f"the endpoint refuses {name} {said}", where=where, hint=hint)
        case "roles":
            hint = "Choose a model, or a chat template, that reads a system message: it holds the codebook."
            return TeacherError(f"the endpoint refuses the roles of the messages {said}", where=where, hint=hint)
        case _:
            what, hint = _no_connection(fatal, said)
            return TeacherUnreachable(what, where=where, hint=hint)


def build_refusal_error(rejected: Rejected, section: TeacherSection, responses: int) -> TeacherError:
    """Return the error for an endpoint that refuses one response after the other.

    Args:
        rejected: The last refusal; its sentence is ready to be shown.
        section: The teacher.
        responses: Number of responses that were refused without an answer in between.
    """
    what = f"the endpoint refused {responses} responses in a row ({rejected.failure.code}){rejected.sentence}"
    if rejected.failure.code.startswith("HTTP 403"):
        variable = key_variable(section)
        key = f"the key in {variable}" if variable else "teacher.api_key_env"
        hint = f"Check {key}, and what it may use. All answers are saved; run again to continue."
        return TeacherRefusedKey(what, where=section.base_url, hint=hint)
    hint = "Change what it refuses; all answers are saved, and the next run continues."
    return TeacherError(what, where=section.base_url, hint=hint)


def _no_connection(fatal: Fatal, said: str) -> tuple[str, str]:
    match fatal.kind:
        case "certificate":
            other = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
            return (
                f"the endpoint's certificate is not trusted {said}",
                "Check the address and the clock; behind a proxy, set SSL_CERT_FILE to the proxy's certificate"
                + (f" ({other} is not read)." if other else "."),
            )
        case "tls":
            return (
                f"the encrypted connection failed {said}",
                "Check whether teacher.base_url starts with https:// but should start with http://.",
            )
        case "redirect":
            return (
                f"the endpoint redirects to another address {said}, which is not followed",
                "Set teacher.base_url to the address that answers itself; nothing was sent to another one.",
            )
        case "stream":
            return (
                "the endpoint streams its answers although streaming was not requested",
                "Turn off streaming in the server or its proxy; the streamed answer was not saved.",
            )
        case _:
            return (
                f"there are no chat completions at this address {said}",
                "Check teacher.base_url; it usually ends in /v1.",
            )


def set_variable(name: str) -> str:
    """Return the command that sets an environment variable in this system's usual shell."""
    return f'$env:{name} = "…"' if sys.platform == "win32" else f"export {name}=…"


NO_KEY = "none"
"""Stands for the key of an endpoint that needs none; nothing is sent."""

_OPENAI = "api.openai.com"
_OPENAI_HEADERS = {"OPENAI_ORG_ID": "openai-organization", "OPENAI_PROJECT_ID": "openai-project"}


def key_variable(section: TeacherSection) -> str | None:
    """Return the environment variable that holds the key, or None if none is sent.

    The default belongs to OpenAI. An address of this machine gets a key only if the project names its variable.

    Raises:
        TeacherRefusedKey: No variable is named, and the address is neither OpenAI's nor of this machine.
    """
    host = parse_address(section.base_url).hostname or ""
    if "api_key_env" in section.model_fields_set or host == _OPENAI:
        return section.api_key_env
    if _is_this_machine(host):
        return None
    variable = section.api_key_env
    raise TeacherRefusedKey(
        f"no key is named for {section.base_url}, and the default, {variable}, belongs to {_OPENAI}",
        where="teacher.api_key_env",
        hint=f"Name the variable, such as `api_key_env: {variable}`, or write `api_key_env: null` if the endpoint "
        "needs no key.",
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def read_api_key(section: TeacherSection, environ: Mapping[str, str]) -> str:
    """Return the API key from the environment.

    Args:
        section: Names the variable; None means that the endpoint needs no key.
        environ: The environment variables.

    Raises:
        TeacherRefusedKey: The variable is not set, or is empty; or there is none, see `key_variable`.
    """
    variable = key_variable(section)
    if variable is None:
        return NO_KEY
    key = environ.get(variable, "").strip()
    if not key:
        raise TeacherRefusedKey(
            f"the environment variable {variable} is not set or empty",
            where="teacher.api_key_env",
            hint=f"Set it ({set_variable(variable)}), or write `api_key_env: null` if the endpoint needs no key.",
        )
    return key


def build_headers(section: TeacherSection, api_key: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that identify the user: the key, and for OpenAI itself its organization and project.

    Raises:
        TeacherRefusedKey: A value contains characters that cannot be sent.
    """
    address, key_variable = parse_address(section.base_url), section.api_key_env
    values = {} if api_key == NO_KEY else {"authorization": (key_variable, f"Bearer {api_key}")}
    if values and "api-version" in parse_qs(address.query):
        values["api-key"] = key_variable, api_key  # Azure's own header, which its addresses with a version require
    if address.hostname == _OPENAI:
        values |= {
            header: (variable, environ[variable])
            for variable, header in _OPENAI_HEADERS.items()
            if environ.get(variable)
        }
    for variable, value in values.values():
        if not (value.isascii() and value.isprintable()):
            what = "the key" if variable == key_variable else variable
            raise TeacherRefusedKey(
                f"{what} contains characters that cannot be sent, such as a line break or an accent",
                where=f"environment variable {variable}" if variable else None,
                hint="Copy it again.",
            )
    return {header: value for header, (_, value) in values.items()}


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
        verified: Whether it has answered requests with these settings before, in an earlier run.

    Raises:
        TeacherUnreachable: The address is not valid, or an environment variable makes connections impossible.
        TeacherRefusedKey: The key contains characters that cannot be sent.
    """

    def __init__(
        self,
        section: TeacherSection,
        api_key: str,
        *,
        verified: bool = False,
    ) -> None:
        self._section, self._api_key = section, api_key
        self.verified = verified
        self.capabilities = Capabilities()
        self._client = HttpClient(
            section.base_url, build_headers(section, api_key, os.environ), section.timeout_seconds
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def fall_back(self, refused: AnswerFormat) -> None:
        """Use the next answer format from now on, unless another request has fallen back already."""
        if refused is self.capabilities.answer_format and refused.next:
            self.capabilities = replace(self.capabilities, answer_format=refused.next)

    async def send(self, request: TeacherRequest) -> Outcome:
        """Send a request once."""
        limit_name = self.capabilities.limit_name
        try:
            reply = await self._client.send("POST", "/chat/completions", build_body(request, limit_name))
        except (TimeoutError, httpx2.HTTPError, UnusableReply) as error:
            return classify_client_error(error, verified=self.verified)
        text = self._without_key(reply)
        if 200 <= reply.status < 300:
            outcome = classify_body(text, verified=self.verified, headers=reply.headers, status=reply.status)
            self.verified = self.verified or isinstance(outcome, ChatAnswer)
            return outcome
        if reply.status == 400 and limit_name == "max_tokens" and _OTHER_LIMIT_NAME in text:
            self.capabilities = replace(self.capabilities, limit_name=_OTHER_LIMIT_NAME)
            return await self.send(request)
        return classify_status(
            reply.status,
            reply.headers,
            text,
            formatted=request.response_format is not None,
            verified=self.verified,
            sent=tuple(request.sampling),
        )

    async def list_models(self, seconds: float) -> HttpReply:
        """Ask for the list of models, once; return the reply, whatever its status.

        Args:
            seconds: How long it may take.

        Raises:
            TeacherUnreachable: There is no reply.
        """
        try:
            return await self._client.send("GET", "/models", seconds=seconds)
        except (TimeoutError, httpx2.HTTPError, UnusableReply) as error:
            outcome = classify_client_error(error, verified=False)
        if isinstance(outcome, Fatal):
            what, hint = _no_connection(outcome, f"({outcome.code})")
        else:
            what, hint = self._describe_silence(outcome)
        raise TeacherUnreachable(what, where=self._section.base_url, hint=hint)

    def fatal_error(self, fatal: Fatal, request: TeacherRequest) -> TeacherError:
        """Return the error for an outcome that no request can avoid."""
        return build_teacher_error(replace(fatal, sentence=quote(fatal.sentence, request)), self._section)

    def refusal_error(self, rejected: Rejected, request: TeacherRequest, responses: int) -> TeacherError:
        """Return the error for an endpoint that refused so many responses in a row."""
        quoted = replace(rejected, sentence=quote(rejected.sentence, request))
        return build_refusal_error(quoted, self._section, responses)

    def unreachable_error(self, outcome: Retryable) -> TeacherUnreachable:
        """Return the error for an endpoint that keeps failing."""
        what, hint = self._describe_silence(outcome)
        return TeacherUnreachable(
            what, where=self._section.base_url, hint=f"{hint} All answers are saved; run again to continue."
        )

    def _describe_silence(self, outcome: Retryable) -> tuple[str, str]:
        """Return why there is no answer, and a hint."""
        code, proxy = outcome.failure.code, find_proxy(self._section.base_url)
        what = f"it only answers with {code}" if code else _describe_failure(outcome)
        hint = "Check teacher.base_url and that the server runs."
        if proxy and (outcome.unreachable or outcome.failure.cause is FailureCause.DROPPED):
            what = f"no connection through the proxy that the environment variable {proxy} names" + f" ({code})" * bool(
                code
            )
            hint = f"Check {proxy}, or unset it; NO_PROXY lists addresses without a proxy."
        return what, hint

    def _without_key(self, reply: HttpReply) -> str:
        """Return a reply's text without the key, which some endpoints repeat in their errors."""
        key = self._api_key
        return reply.text if key == NO_KEY or len(key) < _SHORTEST_KEY else reply.text.replace(key, "[API key]")


def _describe_failure(outcome: Retryable) -> str:
    if outcome.unreachable:
        return "nothing listens there"
    if outcome.failure.cause is FailureCause.TIMED_OUT:
        return "it does not answer within timeout_seconds"
    return "it breaks the connection before its answer is complete, or does not speak HTTP"


_SHORTEST_KEY = 8  # characters; a shorter key, as in tests, may be part of a word


def build_body(request: TeacherRequest, limit_name: str) -> dict[str, Any]:
    """Return the JSON body of a request; ``limit_name`` names the token limit."""
    body: dict[str, Any] = {"model": request.model, "messages": request.messages, **request.sampling}
    body[limit_name] = request.max_output_tokens
    if request.response_format is not None:
        body["response_format"] = request.response_format
    return body
