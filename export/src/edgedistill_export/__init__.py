"""Export a fine-tuned checkpoint as a verified bundle: ONNX fp32, int8, and the agreement of each step."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads OpenMP, whose threads would spin

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
