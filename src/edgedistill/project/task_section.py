"""The section `task`: what is coded."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from edgedistill.project.field_types import Section
from edgedistill.task import Label, Task
from edgedistill_serve.redaction import Redaction
from edgedistill_serve.task import Kind
from edgedistill_serve.task import Task as ScoredTask


class LabelSection(Section):
    """One code of the codebook."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    definition: str = ""


class RedactSection(Section):
    """What is replaced in every text beside web addresses, e-mail addresses and phone numbers."""

    ids: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Regular expressions, such as ``S[0-9]{6}``."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        _ = self.redaction  # raises what is wrong with a pattern
        return self

    @property
    def redaction(self) -> Redaction:
        """The same as a bundle knows it."""
        return Redaction(self.ids)


def _switch(given: object) -> object:
    return {True: {}, False: None}[given] if isinstance(given, bool) else given


class TaskSection(Section):
    """What is coded: the codebook, its labels, the inputs of a response."""

    kind: Kind = "nominal"
    instructions: str = ""
    labels: Annotated[tuple[LabelSection, ...], Field(min_length=2, strict=False)]
    inputs: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = ("response",)
    redact: Annotated[RedactSection | None, BeforeValidator(_switch)] = None
    """It stands here, not with the teacher, since student and bundle replace the same: true, or a mapping with ids."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _ = self.coded  # raises what is wrong
        return self

    @property
    def coded(self) -> Task:
        """The same as the Python API knows it."""
        labels = tuple(Label(label.name, label.definition) for label in self.labels)
        redact = self.redact.redaction if self.redact else None
        return Task(self.kind, labels, self.inputs, redact, self.instructions)

    @property
    def task(self) -> ScoredTask:
        """The part of the section that a student and a bundle know: no instructions."""
        return self.coded.scored
