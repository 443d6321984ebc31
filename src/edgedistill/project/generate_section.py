"""The section `generate`: the responses that the teacher writes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from edgedistill.project.field_types import Count, Section


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _all_different(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a temperature stands twice")
    return values


class GenerateSection(Section):
    """Synthetic responses that the teacher writes for each label."""

    per_label: Count = 200
    """Samples of each label, at each temperature; what the screening removes is not written anew."""
    temperature: Annotated[
        tuple[Annotated[float, Field(ge=0, le=2)], ...],
        Field(min_length=1, strict=False),
        BeforeValidator(_listed),
        AfterValidator(_all_different),
    ] = (0.7,)
    """One temperature or a list."""
    samples_per_call: Annotated[int, Field(ge=1, le=100)] = 10
    examples_per_prompt: Annotated[int, Field(ge=0, le=50)] = 3
    variation: Literal["none", "persona", "length", "both"] = "none"
    """Whether each request asks to write as another persona, or at the length of a human response, or both."""
    personas: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "who writes in full and careful sentences",
        "who writes in a hurry, in few words and without punctuation",
        "who is unsure and says so",
        "who uses everyday words instead of technical terms",
        "who thinks aloud and gives more detail than needed",
        "who writes in a second language and makes small mistakes",
    )
    """Each completes the sentence: The person who writes is somebody …"""
    max_output_tokens: Count = 2000
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Two texts that share so much of their character trigrams count as one."""
    regrade_votes: Count = 1
    keep: Literal["all", "consistent"] = "all"
    """Whether samples that the teacher codes otherwise than intended are kept."""
