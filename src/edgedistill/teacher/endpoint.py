"""One endpoint with one model: sends requests, one try each, and remembers what it takes.

Endpoint    the connection
Known       what it has been found to take
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import openai

from edgedistill.errors import TeacherError, TeacherRefusedKey, TeacherUnreachable
from edgedistill.project.sections import TeacherSection
from edgedistill.teacher.connection import outcome_of_error
from edgedistill.teacher.formats import AnswerFormat
from edgedistill.teacher.outcomes import (
    Answered,
    Busy,
    Fatal,
    FormatRefused,
    Outcome,
    Rejected,
    outcome_of_body,
    outcome_of_status,
)
from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.stopping import stopped


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
                mend="Copy the key again.",
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
                "the address cannot be used", where=section.base_url, mend="Check teacher.base_url."
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
            mend="Check teacher.base_url and that the server runs; every answer so far is kept, so run again to go on.",
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
