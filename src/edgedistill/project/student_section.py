"""The sections `mix` and `student`: what the student learns from, and how."""

from typing import Annotated

from pydantic import Field

from edgedistill.project.field_types import Count, Learning, Rows, Section


class MixSection(Section):
    """The training set: how many rows of each source."""

    human: Rows = "all"
    teacher: Rows = "all"
    synthetic_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the whole training set; the synthetic rows are drawn in equal numbers per label."""
    min_consistency: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Teacher labels whose votes agree less than this are left out of the training set."""
    seed: int = 0


class SearchSection(Section):
    """Values to try, every combination, judged on validation rows."""

    learning_rate: Annotated[tuple[Learning, ...], Field(min_length=1, strict=False)] = (5e-5,)
    batch_size: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (16,)
    epochs: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (4,)


class StudentSection(Section):
    """The small model."""

    backbone: Annotated[str, Field(min_length=1)] = "minilm"
    """``minilm``, a folder (relative to the project file), or a name on the Hugging Face Hub."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    search: SearchSection = SearchSection()
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (0,)
