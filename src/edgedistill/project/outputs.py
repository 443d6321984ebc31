"""The sections `export` and `report`: the bundle and the report page."""

from typing import Annotated, Literal

from pydantic import Field

from edgedistill.project.section import File, Section, Share


class ExportSection(Section):
    """The ONNX model."""

    precision: Literal["auto", "int8", "fp32"] = "int8"
    """``auto`` tries every quantization recipe on this CPU and keeps the fastest within ``max_flip_rate``."""
    vocabulary: Literal["full", "cut"] = "full"
    """``cut`` drops tokens that no text of the project needs (test rows excluded), and those that a single learner
    used: a smaller file."""
    golden: Literal["written", "validation"] = "written"
    """The rows of the bundle's self-check: ``written`` for the purpose, or ``validation`` rows verbatim: whoever gets
    the bundle can then read these responses."""
    max_flip_rate: Share = 0.01
    fp32_beside: bool = True
    """Whether the bundle also has the fp32 graph, for CPUs on which int8 fails its self-check. Without it the bundle
    is a fifth of the size, and such a CPU refuses it."""


class ReportSection(Section):
    """Optional parts of the report."""

    examples: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of wrongly coded test responses to show with their texts; 0 shows ids and labels only."""
    study: File | None = None
    """Folder of a study (with its ``runs.csv``) whose curve is shown."""
    compare_with: File | None = None
    """Folder of the bundle in use. The new one is compared with it on the locked test rows; keep it out of the run
    folder, in which an export replaces the bundle."""
