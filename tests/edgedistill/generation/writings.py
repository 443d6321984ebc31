"""Test data for generation: human rows, samples, replies of a teacher."""

import json
import re
from collections.abc import Sequence
from typing import Any

from edgedistill.data.types import CodedResponse, Response, TestRows, TrainRows, ValidationRows
from edgedistill.generation import Lineage, Sample
from edgedistill.project.training_set import GenerateSection
from edgedistill.teacher import Codebook
from edgedistill_serve.task.task import Label

from ..teacher.stand_in import Reply, completion

CODEBOOK = Codebook(
    "Code the praise.", (Label("process", "praises effort"), Label("outcome", "praises the result")), ("response",)
)
QUESTIONS = Codebook(CODEBOOK.instructions, CODEBOOK.labels, ("question", "response"))


def coded(ident: str, text: str, label: str, question: str | None = None) -> CodedResponse:
    inputs = {"response": text} if question is None else {"question": question, "response": text}
    return CodedResponse(Response(ident, inputs, "human.csv", 2), label)


def train(*rows: CodedResponse) -> TrainRows:
    return TrainRows(rows)


def validation(*texts: str) -> ValidationRows:
    return ValidationRows(tuple(coded(f"v{n}", text, "process") for n, text in enumerate(texts)))


def held_out(*texts: str) -> TestRows:
    return TestRows(tuple(coded(f"t{n}", text, "process") for n, text in enumerate(texts)))


LESSON = train(
    *(coded(f"p{n}", f"you tried {n} times before it worked", "process") for n in range(5)),
    *(coded(f"o{n}", f"right answer number {n}", "outcome") for n in range(5)),
)


def section(**fields: Any) -> GenerateSection:
    return GenerateSection(**{"per_label": 4, "samples_per_call": 2, "examples_per_prompt": 2} | fields)


def sample(text: str, label: str = "process", question: str | None = None, ident: str = "") -> Sample:
    inputs = {"response": text} if question is None else {"question": question, "response": text}
    return Sample(ident or f"s-{label}-{text[:40]}", inputs, label, Lineage("k", "m", (), 0.7, 0, 0))


def samples(*texts: str, label: str = "process") -> list[Sample]:
    return [sample(text, label, ident=f"s{index}") for index, text in enumerate(texts)]


def parse_request(body: dict[str, Any]) -> tuple[str, int]:
    """Return the label and the number of samples in a request."""
    text = body["messages"][-1]["content"]
    (label,) = re.findall(r"<label>(.*?)</label>", text)
    return label, int(re.findall(r"Write (\d+) response", text)[-1])


def wrote(texts: Sequence[object]) -> Reply:
    return completion(json.dumps({"responses": list(texts)}))


def writer(body: dict[str, Any], _before: int) -> Reply:
    """A script: as many samples as are asked for, no two alike."""
    label, size = parse_request(body)
    mark = f"{label} {body['seed']} {body['temperature']:g}"
    return wrote([f"{mark} sample {chr(97 + place) * 9}" for place in range(size)])
