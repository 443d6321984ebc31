"""The section `student`: how the student learns."""

from typing import Annotated

from pydantic import Field

from edgedistill.project.field_types import Count, Learning, Section


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
