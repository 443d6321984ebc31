"""The section `data`: files of responses, their questions, and the split."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.section import Count, File, Section


class SplitSection(Section):
    """Shares of the human-coded rows; they sum to 1."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    known_questions: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """With ``data.questions: held_out``, the share of the test rows that answer questions of train rows, so that the
    report can compare known and unknown questions."""
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError(
                f"train, validation and test sum to {self.train + self.validation + self.test:g}; they must sum to 1"
            )
        return self


class DataSection(Section):
    """Data files; paths are relative to the project file."""

    human: File
    unlabelled: File | None = None
    reviewed: File | None = None
    """Human codes from review, written by `edgedistill review merge`. They are train rows, or validation rows if
    `edgedistill review next` drew them as such; never test rows."""
    group_by: str | None = None
    questions: Literal["known", "held_out"] = "known"
    """``held_out``: validation rows, and test rows, answer questions that no train row answers, so that epoch,
    calibration and decision rule are chosen, and agreement is measured, for new questions."""
    question_by: str | None = None
    """The column that names each row's question. Default: rows with the same question, reference answers and rubric
    have the same question."""
    split: SplitSection = SplitSection()
    max_characters: Count = 10_000
    """Longer responses are set aside: they are rarely answers, and the teacher would bill every token."""

    @model_validator(mode="after")
    def _known_questions_are_of_held_out_ones(self) -> Self:
        if self.questions != "held_out" and "known_questions" in self.split.model_fields_set:
            raise ValueError("split.known_questions needs data.questions: held_out")
        if self.question_by in ("id", "label", "split", "response"):
            raise ValueError(f"question_by: {self.question_by} is not a column of questions")
        return self
