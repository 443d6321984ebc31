"""The section `student.lora`: the adapters of a decoder student."""

from typing import Annotated

from pydantic import Field

from edgedistill.project.field_types import Count, Section


class LoraSection(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) beside weights that stay as they are."""

    rank: Count = 16
    alpha: Count = 32
    """Divided by ``rank``, it scales what the adapters add."""
    targets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "all-linear",
    )
    """Names of the layers that get adapters, such as ``q_proj``; ``all-linear`` is every linear layer but the head, as
    Dettmers et al. 2023 (arXiv:2305.14314, section 4) found to be needed to match full fine-tuning."""
