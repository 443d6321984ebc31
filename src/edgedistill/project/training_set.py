"""The sections `generate` and `mix`: synthetic responses, and the rows that the student is trained on."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edgedistill.project.section import Count, Rows, Section, Share, listed


def _all_different(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError("temperature has a duplicate value")
    return values


class GenerateSection(Section):
    """Synthetic responses that the teacher writes for each label."""

    per_label: Count = 200
    """Samples for each label and temperature, before screening."""
    temperature: Annotated[
        tuple[Annotated[float, Field(ge=0, le=2)], ...],
        Field(min_length=1, strict=False),
        BeforeValidator(listed),
        AfterValidator(_all_different),
    ] = (0.7,)
    """One temperature or a list."""
    samples_per_call: Annotated[int, Field(ge=1, le=100)] = 10
    examples_per_prompt: Annotated[int, Field(ge=0, le=50)] = 3
    variation: Literal["none", "persona", "length", "both"] = "none"
    """Whether each request names a persona, the length of a human response, or both."""
    personas: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "who writes in full and careful sentences",
        "who writes in a hurry, in few words and without punctuation",
        "who is unsure and says so",
        "who uses everyday words instead of technical terms",
        "who thinks aloud and gives more detail than needed",
        "who writes in a second language and makes small mistakes",
    )
    """Each completes the sentence: The writer is somebody …"""
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of character trigrams at which two texts count as duplicates."""
    regrade_votes: Count = 1
    keep: Literal["all", "consistent"] = "all"
    """``consistent`` keeps only samples that the teacher codes with the intended label."""


class SharesSection(Section):
    """Each source's share of the training set; the shares sum to 1."""

    human: Share = 0.0
    teacher: Share = 0.0
    synthetic: Share = 0.0

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.human + self.teacher + self.synthetic
        if abs(total - 1) > 1e-9:
            raise ValueError(f"human, teacher and synthetic sum to {total:g}; they must sum to 1")
        return self


class MixSection(Section):
    """The training set: a number of rows from each source, or a total size with shares."""

    human: Rows = "all"
    teacher: Rows = "all"
    synthetic_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the whole training set; synthetic rows are drawn in equal numbers per label."""
    size: Count | None = None
    """Rows of the whole training set. Used with ``shares``, instead of the three keys above."""
    shares: SharesSection | None = None
    balance: Literal["as_found", "per_label"] = "as_found"
    """``per_label``: equally many rows of each label from each source; with ``all``, as many as the rarest has."""
    labels: Literal["soft", "hard"] = "soft"
    """``soft`` keeps the teacher's vote shares for the soft loss; ``hard`` replaces them by the label."""
    min_consistency: Share = 0.0
    """Teacher labels with a lower consistency are left out of the training set."""
    min_confidence: Share = 0.0
    """Teacher labels with a lower stated confidence, or with none, are left out; above 0 it requires a teacher with
    ``confidence: true``."""
    seed: int = 0

    @model_validator(mode="after")
    def _counts_or_shares(self) -> Self:
        if (self.size is None) != (self.shares is None):
            raise ValueError("size and shares require each other")
        beside = self.model_fields_set & {"human", "teacher", "synthetic_share"}
        if self.shares and beside:
            raise ValueError(f"size and shares already set the row counts; remove {', '.join(sorted(beside))}")
        return self

    @property
    def has_synthetic(self) -> bool:
        """Whether the training set has synthetic rows."""
        return (self.shares.synthetic if self.shares else self.synthetic_share) > 0
