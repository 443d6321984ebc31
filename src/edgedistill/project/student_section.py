"""The section `student`: how the student learns."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.field_types import Count, Section
from edgedistill.project.lora_section import LoraSection
from edgedistill.project.objective_section import ObjectiveSection
from edgedistill.project.search_section import SearchSection
from edgedistill.project.shrink_section import ShrinkSection

__all__ = ["LoraSection", "ObjectiveSection", "SearchSection", "ShrinkSection", "StudentSection"]


class StudentSection(Section):
    """The small model."""

    backbone: Annotated[str, Field(min_length=1)] = "minilm"
    """``minilm``, a folder (relative to the project file), or a name on the Hugging Face Hub."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    kind: Literal["fine-tuned", "frozen"] = "fine-tuned"
    """``frozen``: the backbone stays as it is, and only a linear classifier on its first token is fitted."""
    objective: ObjectiveSection = ObjectiveSection()
    patience: Count | None = None
    """A trial ends when so many epochs in a row were no better than the best before, on validation rows; left out, it
    makes all of its epochs. The learning rate falls as if all were made."""
    peft: Literal["lora"] | None = None
    """``lora``: a decoder such as Mistral learns adapters, which the student's weights then hold."""
    lora: LoraSection = LoraSection()
    search: SearchSection = SearchSection()
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (0,)
    shrink: ShrinkSection | None = None
    """A second student with fewer layers, taught by the first; it lies in the folder ``shrunk``."""

    @model_validator(mode="after")
    def _settings_are_read(self) -> Self:
        if self.peft is None and "lora" in self.model_fields_set:
            raise ValueError("lora goes with peft: lora")
        idle = sorted({"objective", "patience", "peft"} & self.model_fields_set)
        if self.kind == "frozen" and idle:
            raise ValueError(f"kind: frozen trains no weights of the backbone; leave out {', '.join(idle)}")
        return self

    @property
    def adapters(self) -> LoraSection | None:
        """What adapters the student learns; None where its weights are trained."""
        return self.lora if self.peft else None
