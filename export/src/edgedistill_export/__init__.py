"""Export a fine-tuned checkpoint as a verified bundle: ONNX fp32, int8, and the agreement of each step."""

import os
from typing import TYPE_CHECKING

from edgedistill_serve.lazy_names import lazy_names

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads OpenMP, whose threads would spin

if TYPE_CHECKING:  # at run time each name is imported on first use: torch alone takes seconds
    from edgedistill_export.bundling import ExportResult, export_bundle
    from edgedistill_export.checkpoint import Checkpoint
    from edgedistill_export.errors import CheckpointError, ExportFailed
    from edgedistill_export.plan import ExportPlan
    from edgedistill_export.verify.parity import ConversionStep

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ConversionStep",
    "ExportFailed",
    "ExportPlan",
    "ExportResult",
    "export_bundle",
]

_MODULES = {
    "Checkpoint": "edgedistill_export.checkpoint",
    "CheckpointError": "edgedistill_export.errors",
    "ConversionStep": "edgedistill_export.verify.parity",
    "ExportFailed": "edgedistill_export.errors",
    "ExportPlan": "edgedistill_export.plan",
    "ExportResult": "edgedistill_export.bundling",
    "export_bundle": "edgedistill_export.bundling",
}

__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted(__all__)
