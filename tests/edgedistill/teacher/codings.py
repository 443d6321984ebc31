"""Test data: a codebook, responses, requests, and a section for a stand-in endpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgedistill.data.types import Response
from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher import AnswerCache, Codebook, Labelling, RetryPolicy, label_responses
from edgedistill.teacher.cache import TeacherRequest
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill_serve.task.task import Label

from .stand_in import StandIn

CODEBOOK = Codebook(
    "Code the praise.",
    (Label("process", "praises effort"), Label("outcome", "praises the result"), Label("none")),
    ("response",),
)
NO_WAIT = RetryPolicy(first=0.001, longest=0.01)


def responses(*texts: str) -> list[Response]:
    return [
        Response(id=f"r{row}", inputs={"response": text}, file="responses.csv", row=row)
        for row, text in enumerate(texts, 2)
    ]


def section(base_url: str, **fields: Any) -> TeacherSection:
    return TeacherSection(**{"base_url": base_url, "model": "m", "api_key_env": None, "votes": 1, "tries": 3} | fields)


def labelled(folder: Path, teacher: StandIn, *texts: str, **given: Any) -> Labelling:
    """Label the texts with a cache in the folder; other arguments belong to the run or to the section."""
    fields = {
        name: given.pop(name) for name in tuple(given) if name not in ("offline", "api_key", "on_progress", "examples")
    }
    with AnswerCache(folder) as cache:
        return label_responses(
            responses(*texts), CODEBOOK, section(teacher.base_url, **fields), cache, retry_policy=NO_WAIT, **given
        )


def request(**fields: Any) -> TeacherRequest:
    given = {
        "base_url": "https://api.example/v1",
        "model": "m",
        "messages": ({"role": "user", "content": "<response>x</response>"},),
        "response_format": {"type": "json_object"},
        "sampling": {"temperature": 0.7, "seed": 0},
        "max_output_tokens": 300,
        "vote": 0,
    }
    return TeacherRequest(**given | fields)


ANSWER = {"choices": [{"message": {"content": '{"label": "process"}'}, "finish_reason": "stop"}]}


def database(folder: Path) -> Path:
    return folder / "cache.db"


def request_builder(given: TeacherSection, text: str) -> Callable[[AnswerFormat], TeacherRequest]:
    """Return the builder of the request for one vote on a text."""

    def build_request(answer_format: AnswerFormat) -> TeacherRequest:
        return request(
            base_url=given.base_url,
            messages=({"role": "user", "content": f"<response>{text}</response>"},),
            response_format=None if answer_format is AnswerFormat.TEXT else {"type": answer_format.value},
        )

    return build_request
