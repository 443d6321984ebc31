"""The section `export`: the bundle."""

from typing import Literal

from edgedistill.project.field_types import Section, Share


class ExportSection(Section):
    """The ONNX model."""

    precision: Literal["auto", "int8", "fp32"] = "int8"
    """``auto`` tries every recipe on the validation rows and this processor: the fastest that keeps the labels."""
    vocabulary: Literal["full", "cut"] = "full"
    """``cut`` leaves out the pieces that no text of the project needs, test rows not counted: a smaller file."""
    max_flip_rate: Share = 0.01
    fp32_beside: bool = True
    """Whether the fp32 graph lies beside the int8 one, for processors on which int8 fails its self-check. Without it
    the bundle is a fifth as large, and such a processor refuses it."""
