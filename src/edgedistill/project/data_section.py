"""The section `data`: the files, and how the human-coded rows are split."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from edgedistill.project.field_types import Count, File, Section


class SplitSection(Section):
    """Shares of the human-coded rows; they sum to 1."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError(
                f"train, validation and test sum to {self.train + self.validation + self.test:g}, not to 1"
            )
        return self


class DataSection(Section):
    """The files; paths are relative to the project file."""

    human: File
    unlabelled: File | None = None
    reviewed: File | None = None
    """Codes that people gave at review, which `edgedistill review merge` writes: train rows, never others."""
    group_by: str | None = None
    split: SplitSection = SplitSection()
    max_characters: Count = 10_000
    """A longer response is set aside: it is no answer to an open question, and would be paid for by the token."""
