"""The section `task`: kind, codebook, inputs and redaction."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from edgedistill.project.section import Section
from edgedistill.task import Label, Task
from edgedistill_serve.task.redaction import RULES, Redaction
from edgedistill_serve.task.task import Kind
from edgedistill_serve.task.task import Task as ScoredTask


class LabelSection(Section):
    """One code of the codebook."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    definition: str = ""


class RedactSection(Section):
    """Redaction: web addresses, e-mail addresses, phone numbers and these patterns are replaced in every text."""

    ids: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Regular expressions, such as ``S[0-9]{6}``."""
    rules: int = RULES
    """Version of the built-in patterns; a project keeps its version when it names it."""

    @model_validator(mode="after")
    def _patterns_compile(self) -> Self:
        _ = self.redaction  # raises on an invalid pattern
        return self

    @property
    def redaction(self) -> Redaction:
        """The redaction as the bundle stores it."""
        return Redaction(self.ids, self.rules)


def _bool_to_section(given: object) -> object:
    return {True: {}, False: None}[given] if isinstance(given, bool) else given


class TaskSection(Section):
    """The task: the codebook's instructions, labels and inputs."""

    kind: Kind = "nominal"
    instructions: str = ""
    labels: Annotated[tuple[LabelSection, ...], Field(min_length=2, strict=False)]
    inputs: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = ("response",)
    redact: Annotated[RedactSection | None, BeforeValidator(_bool_to_section)] = None
    """``true``, or a mapping with ``ids``. Part of the task: teacher, student and bundle redact alike."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _ = self.coded  # raises on an invalid task
        return self

    @property
    def coded(self) -> Task:
        """The task as the Python API has it."""
        labels = tuple(Label(label.name, label.definition) for label in self.labels)
        redact = self.redact.redaction if self.redact else None
        return Task(self.kind, labels, self.inputs, redact, self.instructions)

    @property
    def task(self) -> ScoredTask:
        """The task as students and bundles have it, without instructions."""
        # Not `coded.scored`: a stage that declares this property must not depend on the instructions.
        labels = tuple(Label(label.name, label.definition) for label in self.labels)
        return ScoredTask(self.kind, labels, self.inputs, self.redact.redaction if self.redact else None)
