"""The section `student.shrink`: a second student with fewer layers, taught by the first."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.field_types import Count, Learning, Section


class ShrinkSection(Section):
    """How the second student is made."""

    layers: Count = 3
    kept: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, Field(strict=False)] = None
    """Which of the first student's layers it begins with, counted from 0; evenly spaced where none are named."""
    vocabulary: Literal["cut", "full"] = "cut"
    """``cut`` leaves out the pieces that no text it learns from needs."""
    epochs: Count = 10
    learning_rate: Learning = 1e-4
    batch_size: Count = 16
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    """Both students' logits are divided by it before they are compared."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    export: bool = False
    """Whether the smaller student is the one that is evaluated as the student, and exported."""

    @model_validator(mode="after")
    def _kept_are_layers(self) -> Self:
        if self.kept is not None and (len(self.kept) != self.layers or list(self.kept) != sorted(set(self.kept))):
            raise ValueError(f"kept names {self.layers} different layers, the lowest first")
        return self
