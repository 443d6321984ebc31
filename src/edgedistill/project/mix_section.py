"""The section `mix`: which rows the student learns from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.field_types import Count, Rows, Section, Share


class SharesSection(Section):
    """What share of the training set each source gives; the shares sum to 1."""

    human: Share = 0.0
    teacher: Share = 0.0
    synthetic: Share = 0.0

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.human + self.teacher + self.synthetic
        if abs(total - 1) > 1e-9:
            raise ValueError(f"human, teacher and synthetic sum to {total:g}, not to 1")
        return self


class MixSection(Section):
    """The training set: so many rows of each source, or stated shares of a stated size."""

    human: Rows = "all"
    teacher: Rows = "all"
    synthetic_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the whole training set; the synthetic rows are drawn in equal numbers per label."""
    size: Count | None = None
    """Rows of the whole training set; goes with ``shares``, in the place of the three keys above."""
    shares: SharesSection | None = None
    balance: Literal["as_found", "per_label"] = "as_found"
    """``per_label``: each source gives as many rows of each label, as synthetic rows always do; of ``all`` rows those
    that the rarest label allows."""
    labels: Literal["soft", "hard"] = "soft"
    """What a row's shares hold: the teacher's vote shares, or all on the one label. A soft objective reads them."""
    min_consistency: Share = 0.0
    """Teacher labels whose votes agree less than this are left out of the training set."""
    seed: int = 0

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if (self.size is None) != (self.shares is None):
            raise ValueError("size and shares go together")
        beside = self.model_fields_set & {"human", "teacher", "synthetic_share"}
        if self.shares and beside:
            raise ValueError(f"size and shares say how many rows there are; leave out {', '.join(sorted(beside))}")
        return self

    @property
    def wants_synthetic(self) -> bool:
        """Whether the training set holds synthetic rows."""
        return (self.shares.synthetic if self.shares else self.synthetic_share) > 0
