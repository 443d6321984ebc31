"""The section `task`: what is coded."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from edgedistill.project.field_types import Section
from edgedistill_serve.redaction import Redaction
from edgedistill_serve.task import INPUTS, LABEL_SEPARATOR, NO_LABEL, Kind, Task, unsplittable_names
from edgedistill_serve.task import Label as TaskLabel


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
        folded: dict[str, str] = {}
        for label in self.labels:
            if label.name != label.name.strip():
                raise ValueError(f"the label {label.name!r} begins or ends with white space")
            if (twin := folded.setdefault(" ".join(label.name.casefold().split()), label.name)) != label.name:
                raise ValueError(f"the labels {twin!r} and {label.name!r} are two spellings of one")
        if len({label.name for label in self.labels}) < len(self.labels):
            raise ValueError("a label stands twice")
        if self.kind == "multilabel" and (never := unsplittable_names(self.task)):
            raise ValueError(
                f"the label {never[0]!r} cannot be told apart where labels are written one after the other: in a "
                f"multilabel task no label holds a {LABEL_SEPARATOR!r} or is named {NO_LABEL!r}, which says that none "
                "holds; rename it"
            )
        if unknown := [name for name in self.inputs if name not in INPUTS]:
            raise ValueError(f"unknown input {unknown[0]!r}; inputs are {', '.join(INPUTS)}")
        if list(self.inputs) != [name for name in INPUTS if name in self.inputs] or "response" not in self.inputs:
            raise ValueError(f"inputs hold response, each once, in the order {', '.join(INPUTS)}")
        return self

    @property
    def task(self) -> Task:
        """The part of the section that a student and a bundle know: no instructions."""
        labels = tuple(TaskLabel(label.name, label.definition) for label in self.labels)
        redact = self.redact.redaction if self.redact else None
        return Task(kind=self.kind, labels=labels, inputs=self.inputs, redact=redact)
