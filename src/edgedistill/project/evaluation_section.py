"""The sections `evaluation` and `review`: what is reported of the student, and which of its scores people look at."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.field_types import Count, File, Section


class EvaluationSection(Section):
    """What is measured on the test rows beside agreement, and whether probabilities are calibrated."""

    calibrate: bool = True
    """Whether validation rows choose a temperature that the bundle divides the logits by; labels stay as they are."""
    positive: str | None = None
    """The label whose own precision, recall and F1 are told."""
    coders: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Columns of the human file with the codes of single coders; with one, the column label is the other coder."""
    subgroups: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Columns of the human file whose groups are looked at one by one."""
    smallest_subgroup: Count = 20
    """Groups with fewer test rows have no figures."""
    population: File | None = None
    """A file of uncoded responses whose shares of labels are estimated, corrected for the student's errors."""
    human_trained: File | None = None
    """The run folder of a student that learnt from this project's human train rows alone, to be compared with."""


class ReviewSection(Section):
    """The aim by which validation rows choose a threshold per label."""

    aim: Literal["keep_kappa", "at_most_to_people"]
    at_least: Annotated[float, Field(gt=0, le=1)] | None = None
    """With ``keep_kappa``: what the lower end of the accepted rows' interval must reach."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """With ``at_most_to_people``: the share of responses that people have time for."""

    @model_validator(mode="after")
    def _the_aims_own_number(self) -> Self:
        wanted, other = ("at_least", "share") if self.aim == "keep_kappa" else ("share", "at_least")
        if getattr(self, wanted) is None:
            raise ValueError(f"the aim {self.aim} needs the key {wanted}")
        if getattr(self, other) is not None:
            raise ValueError(f"the aim {self.aim} has no key {other}; its number is {wanted}")
        return self
