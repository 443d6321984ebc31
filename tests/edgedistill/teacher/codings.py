"""What the tests code: a codebook, responses, and a section that points at a stand-in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgedistill.data.types import Response
from edgedistill.project.schema import TeacherSection
from edgedistill.teacher import AnswerCache, Codebook, Labelling, Patience, label_responses
from edgedistill.teacher.cache import TeacherRequest
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill_serve.task.task import Label

from .stand_in import StandIn

CODEBOOK = Codebook(
    "Code the praise.",
    (Label("process", "praises effort"), Label("outcome", "praises the result"), Label("none")),
    ("response",),
)
AT_ONCE = Patience(first=0.001, most=0.01)


def responses(*texts: str) -> list[Response]:
    return [
        Response(id=f"r{row}", inputs={"response": text}, file="responses.csv", row=row)
        for row, text in enumerate(texts, 2)
    ]


def section(base_url: str, **fields: Any) -> TeacherSection:
    return TeacherSection(**{"base_url": base_url, "model": "m", "api_key_env": None, "votes": 1, "tries": 3} | fields)


def labelled(folder: Path, teacher: StandIn, *texts: str, **given: Any) -> Labelling:
    """Label the texts with a cache in the folder; what else is given is of the run or of the section."""
    fields = {
        name: given.pop(name) for name in tuple(given) if name not in ("offline", "api_key", "progress", "examples")
    }
    with AnswerCache(folder) as cache:
        return label_responses(
            responses(*texts), CODEBOOK, section(teacher.base_url, **fields), cache, patience=AT_ONCE, **given
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


def asking_for(given: TeacherSection, text: str) -> Callable[[AnswerFormat], TeacherRequest]:
    """What makes the request for one vote on a text."""

    def request_in(form: AnswerFormat) -> TeacherRequest:
        return request(
            base_url=given.base_url,
            messages=({"role": "user", "content": f"<response>{text}</response>"},),
            response_format=None if form is AnswerFormat.TEXT else {"type": form.value},
        )

    return request_in
